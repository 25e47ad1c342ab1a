//! Pulling models over real sockets from a hub that misbehaves. Whatever it does, the cache holds complete, checked files or
//! says what is wrong, and the token goes nowhere else.

mod resolve;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inglenook::embedding::Pooling;
use inglenook::hub::{
    CatalogEntry, HubError, HubOptions, ModelCache, ModelKind, ModelSource, Progress, pull,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use server::{Reply, Request, Server};
use sha1::Sha1;
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A file of the hub.
#[derive(Clone)]
struct Hosted {
    name: &'static str,
    contents: Vec<u8>,
}

impl Hosted {
    fn large(name: &'static str, num_bytes: usize) -> Hosted {
        let mut random = ChaCha8Rng::seed_from_u64(num_bytes as u64);
        let contents = (0..num_bytes).map(|_| random.random()).collect();
        Hosted { name, contents }
    }

    fn small(name: &'static str, contents: &str) -> Hosted {
        Hosted {
            name,
            contents: contents.into(),
        }
    }

    fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.contents))
    }

    /// As git names a file.
    fn git_hash(&self) -> String {
        let mut hash = Sha1::new();
        hash.update(format!("blob {}\0", self.contents.len()));
        hash.update(&self.contents);
        hex(&hash.finalize())
    }

    /// How Hugging Face describes it: large files by SHA-256, others by git's hash.
    fn describe(&self, reply: Reply) -> Reply {
        let reply = reply.header("X-Repo-Commit", COMMIT);
        match self.name.ends_with(".gguf") || self.name.ends_with(".safetensors") {
            true => reply
                .header("ETag", "\"of-the-storage\"")
                .header("X-Linked-ETag", format!("\"{}\"", self.sha256()))
                .header("X-Linked-Size", self.contents.len().to_string()),
            false => reply.header("ETag", format!("\"{}\"", self.git_hash())),
        }
    }

    /// The contents, or the part that the request asks for.
    fn send(&self, request: &Request) -> Reply {
        let reply = Reply::status(200);
        match request.range_start() {
            Some(start) if start < self.contents.len() => Reply {
                status: 206,
                body: self.contents[start..].to_vec(),
                ..reply
            }
            .header(
                "Content-Range",
                format!(
                    "bytes {start}-{}/{}",
                    self.contents.len() - 1,
                    self.contents.len()
                ),
            ),
            Some(_) => Reply::status(416),
            None => Reply {
                body: self.contents.clone(),
                ..reply
            },
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file that a request is about: what follows `/resolve/REVISION/`.
fn requested<'a>(files: &'a [Hosted], request: &Request) -> Option<&'a Hosted> {
    let (_, rest) = request.path.split_once("/resolve/")?;
    let (_, name) = rest.split_once('/')?;
    files.iter().find(|file| file.name == name)
}

/// A hub without faults.
fn answer(files: &[Hosted], request: &Request) -> Reply {
    match requested(files, request) {
        Some(file) => file.describe(file.send(request)),
        None => Reply::status(404),
    }
}

fn entry(name: &str, kind: ModelKind, files: &[&str]) -> &'static CatalogEntry {
    Box::leak(Box::new(CatalogEntry {
        name: name.into(),
        kind,
        repo: "owner/model".into(),
        revision: "main".into(),
        files: files.iter().map(|file| file.to_string()).collect(),
        optional_files: vec!["optional.json".into()],
        license: "MIT".into(),
        approximate_size_mb: None,
        context_length: 512,
        note: String::new(),
        pooling: (kind == ModelKind::Embedding).then_some(Pooling::Mean),
        query_instruction: None,
        passage_instruction: None,
        unsupported: None,
    }))
}

fn chat_entry() -> &'static CatalogEntry {
    entry("tiny", ModelKind::Chat, &["tiny.gguf"])
}

struct Cache {
    dir: tempfile::TempDir,
}

impl Cache {
    fn new() -> Cache {
        Cache {
            dir: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    fn options(&self, server: &Server) -> HubOptions {
        HubOptions {
            endpoint: server.url(),
            token: None,
            cache_dir: Some(self.dir.path().into()),
            first_delay: Duration::ZERO,
        }
    }

    fn repo(&self) -> PathBuf {
        self.dir.path().join("models--owner--model")
    }

    fn blobs(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.repo().join("blobs"))
            .expect("the blobs' folder")
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn quiet(_: Progress<'_>) {}

#[test]
fn a_pulled_model_lies_where_hugging_face_programs_look() {
    let files = [
        Hosted::small("config.json", "{\"a\": 1}"),
        Hosted::large("model.safetensors", 300_000),
        Hosted::small("1_Pooling/config.json", "{}"),
    ];
    let server = Server::start({
        let files = files.clone();
        move |request| answer(&files, request)
    });
    let cache = Cache::new();
    let names: Vec<&str> = files.iter().map(|file| file.name).collect();
    let model = pull(
        entry("e", ModelKind::Embedding, &names),
        &cache.options(&server),
        &mut quiet,
    )
    .unwrap();

    let snapshot = cache.repo().join("snapshots").join(COMMIT);
    assert_eq!(model.path, snapshot);
    assert_eq!(model.source, ModelSource::Cache);
    for file in &files {
        assert_eq!(
            std::fs::read(snapshot.join(file.name)).unwrap(),
            file.contents
        );
    }
    assert_eq!(
        std::fs::read_to_string(cache.repo().join("refs/main")).unwrap(),
        COMMIT
    );
    let mut blobs = vec![files[0].git_hash(), files[1].sha256(), files[2].git_hash()];
    blobs.sort();
    assert_eq!(cache.blobs(), blobs);
    #[cfg(unix)]
    assert_eq!(
        std::fs::read_link(snapshot.join("1_Pooling/config.json")).unwrap(),
        Path::new("../../../blobs").join(files[2].git_hash())
    );
    // The independent reader of this layout.
    let reader = hf_hub::Cache::new(cache.dir.path().into()).model("owner/model".into());
    assert_eq!(
        reader.get("model.safetensors"),
        Some(snapshot.join("model.safetensors"))
    );
    // All files are taken at the commit at which the first was seen.
    for request in server.requests_of("GET") {
        assert!(request.path.contains(COMMIT), "{}", request.path);
    }
}

#[test]
fn a_complete_file_is_not_fetched_again() {
    let file = Hosted::large("tiny.gguf", 10_000);
    let server = Server::start(move |request| answer(std::slice::from_ref(&file), request));
    let cache = Cache::new();
    let options = cache.options(&server);
    pull(chat_entry(), &options, &mut quiet).unwrap();
    assert_eq!(server.requests_of("GET").len(), 1);
    let mut seen = Vec::new();
    pull(chat_entry(), &options, &mut |progress| {
        seen.push(format!("{progress:?}"))
    })
    .unwrap();
    assert_eq!(server.requests_of("GET").len(), 1);
    assert_eq!(seen, ["AlreadyHere { file: \"tiny.gguf\" }"]);
}

#[test]
fn a_download_goes_on_after_each_dropped_connection() {
    let file = Hosted::large("tiny.gguf", 2_000_000);
    let random = Mutex::new(ChaCha8Rng::seed_from_u64(7));
    let server = Server::start({
        let file = file.clone();
        move |request| {
            let mut reply = answer(std::slice::from_ref(&file), request);
            if request.method == "GET" {
                // At least one byte gets through; in the end, all that is left.
                let most = random.lock().unwrap().random_range(1..600_000);
                reply.cut_after = Some(most);
            }
            reply
        }
    });
    let cache = Cache::new();
    let mut num_retries = 0;
    let mut num_present = 0;
    let model = pull(
        chat_entry(),
        &cache.options(&server),
        &mut |progress| match progress {
            Progress::Retrying { .. } => num_retries += 1,
            Progress::Advanced {
                num_present: present,
                ..
            } => {
                assert!(present > num_present, "nothing is fetched twice");
                num_present = present;
            }
            _ => {}
        },
    )
    .unwrap();
    assert_eq!(std::fs::read(model.path).unwrap(), file.contents);
    assert!(num_retries >= 3, "{num_retries}");
    assert!(server.requests_of("GET")[1].range_start().is_some());
}

#[test]
fn a_later_run_goes_on_where_an_earlier_one_gave_up() {
    let file = Hosted::large("tiny.gguf", 500_000);
    let is_broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let server = Server::start({
        let (file, is_broken) = (file.clone(), is_broken.clone());
        move |request| {
            let mut reply = answer(std::slice::from_ref(&file), request);
            if request.method == "GET" && is_broken.load(Ordering::SeqCst) {
                reply.cut_after = Some(if request.range_start().is_none() {
                    123_456
                } else {
                    0
                });
            }
            reply
        }
    });
    let cache = Cache::new();
    let error = pull(chat_entry(), &cache.options(&server), &mut quiet).unwrap_err();
    assert!(
        matches!(
            error,
            HubError::Connection {
                num_attempts: 5,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(cache.blobs(), [format!("{}.incomplete", file.sha256())]);
    assert!(
        ModelCache::new(Some(cache.dir.path().into()))
            .list()
            .is_empty()
    );

    is_broken.store(false, Ordering::SeqCst);
    let mut started_at = None;
    let model = pull(chat_entry(), &cache.options(&server), &mut |progress| {
        if let Progress::Started {
            num_present,
            num_bytes,
            ..
        } = progress
        {
            started_at = Some((num_present, num_bytes));
        }
    })
    .unwrap();
    assert_eq!(started_at, Some((123_456, Some(500_000))));
    assert_eq!(
        server.requests_of("GET").last().unwrap().range_start(),
        Some(123_456)
    );
    assert_eq!(std::fs::read(model.path).unwrap(), file.contents);
    assert_eq!(cache.blobs(), [file.sha256()]);
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let file = Hosted::large("tiny.gguf", 400_000);
    let num_gets = AtomicUsize::new(0);
    let server = Server::start({
        let file = file.clone();
        move |request| {
            let mut plain = request.clone();
            plain.headers.retain(|(name, _)| name != "range");
            let mut reply = answer(std::slice::from_ref(&file), &plain);
            if request.method == "GET" && num_gets.fetch_add(1, Ordering::SeqCst) < 2 {
                reply.cut_after = Some(150_000);
            }
            reply
        }
    });
    let cache = Cache::new();
    let model = pull(chat_entry(), &cache.options(&server), &mut quiet).unwrap();
    assert!(server.requests_of("GET")[1].range_start().is_some());
    assert_eq!(std::fs::read(model.path).unwrap(), file.contents);
}

#[test]
fn a_server_that_continues_elsewhere_is_not_believed() {
    let file = Hosted::large("tiny.gguf", 400_000);
    let num_gets = AtomicUsize::new(0);
    let server = Server::start({
        let file = file.clone();
        move |request| {
            let mut reply = answer(std::slice::from_ref(&file), request);
            if request.method == "GET" {
                match num_gets.fetch_add(1, Ordering::SeqCst) {
                    0 => reply.cut_after = Some(100_000),
                    1 => {
                        reply.headers.retain(|(name, _)| *name != "Content-Range");
                        reply = reply.header("Content-Range", "bytes 5-399999/400000");
                    }
                    _ => {}
                }
            }
            reply
        }
    });
    let cache = Cache::new();
    let model = pull(chat_entry(), &cache.options(&server), &mut quiet).unwrap();
    assert_eq!(std::fs::read(model.path).unwrap(), file.contents);
}

#[test]
fn an_incomplete_file_that_is_too_long_is_thrown_away() {
    let file = Hosted::large("tiny.gguf", 50_000);
    let server = Server::start({
        let file = file.clone();
        move |request| answer(std::slice::from_ref(&file), request)
    });
    let cache = Cache::new();
    let blobs = cache.repo().join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(
        blobs.join(format!("{}.incomplete", file.sha256())),
        vec![1; 60_000],
    )
    .unwrap();
    let model = pull(chat_entry(), &cache.options(&server), &mut quiet).unwrap();
    assert_eq!(std::fs::read(model.path).unwrap(), file.contents);
}

#[test]
fn a_wrong_body_is_deleted_and_named() {
    for name in ["tiny.gguf", "config.json"] {
        let file = Hosted::large(name, 20_000);
        let server = Server::start({
            let file = file.clone();
            move |request| {
                let mut reply = answer(std::slice::from_ref(&file), request);
                if request.method == "GET" {
                    reply.body[777] ^= 1;
                }
                reply
            }
        });
        let cache = Cache::new();
        let entry = entry("wrong", ModelKind::Chat, &[name]);
        let error = pull(entry, &cache.options(&server), &mut quiet).unwrap_err();
        let HubError::WrongChecksum {
            file: named,
            expected,
            actual,
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(named, name);
        assert_ne!(expected, actual);
        assert!(cache.blobs().is_empty(), "{:?}", cache.blobs());
    }
}

#[test]
fn a_damaged_beginning_is_found_out_when_the_rest_arrives() {
    let file = Hosted::large("tiny.gguf", 50_000);
    let server = Server::start({
        let file = file.clone();
        move |request| answer(std::slice::from_ref(&file), request)
    });
    let cache = Cache::new();
    let blobs = cache.repo().join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(
        blobs.join(format!("{}.incomplete", file.sha256())),
        vec![0; 30_000],
    )
    .unwrap();
    let error = pull(chat_entry(), &cache.options(&server), &mut quiet).unwrap_err();
    assert!(matches!(error, HubError::WrongChecksum { .. }), "{error}");
    let model = pull(chat_entry(), &cache.options(&server), &mut quiet).unwrap();
    assert_eq!(std::fs::read(model.path).unwrap(), file.contents);
}

#[test]
fn refusals_say_what_to_do() {
    for (status, expected) in [
        (404, "does not exist"),
        (401, "token"),
        (403, "/owner/model"),
        (410, "410"),
    ] {
        let server = Server::start(move |_| Reply::status(status));
        let cache = Cache::new();
        let error = pull(chat_entry(), &cache.options(&server), &mut quiet).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(server.requests().len(), 1, "a refusal is not asked again");
    }
}

#[test]
fn passing_troubles_are_waited_out_but_not_forever() {
    let file = Hosted::large("tiny.gguf", 5_000);
    let num_requests = AtomicUsize::new(0);
    let server = Server::start({
        let file = file.clone();
        move |request| match num_requests.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::status(503),
            2 => Reply::status(429),
            _ => answer(std::slice::from_ref(&file), request),
        }
    });
    let cache = Cache::new();
    let model = pull(chat_entry(), &cache.options(&server), &mut quiet).unwrap();
    assert_eq!(std::fs::read(model.path).unwrap(), file.contents);

    let server = Server::start(|_| Reply::status(500));
    let error = pull(chat_entry(), &Cache::new().options(&server), &mut quiet).unwrap_err();
    assert!(
        matches!(
            error,
            HubError::Connection {
                num_attempts: 5,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn an_answer_that_is_not_a_hubs_is_refused() {
    let file = Hosted::large("tiny.gguf", 100);
    for (dropped, replaced) in [
        ("X-Repo-Commit", None),
        ("X-Repo-Commit", Some("../../../etc")),
        ("X-Linked-ETag", Some("\"../../evil\"")),
    ] {
        let file = file.clone();
        let server = Server::start(move |request| {
            let mut reply = answer(std::slice::from_ref(&file), request);
            reply.headers.retain(|(name, _)| *name != dropped);
            match replaced {
                Some(value) => reply.header(dropped, value),
                None => reply,
            }
        });
        let error = pull(chat_entry(), &Cache::new().options(&server), &mut quiet).unwrap_err();
        assert!(matches!(error, HubError::BadResponse { .. }), "{error}");
    }
    let server =
        Server::start(|request| Reply::status(302).header("Location", request.path.clone()));
    let error = pull(chat_entry(), &Cache::new().options(&server), &mut quiet).unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_its_storage() {
    let file = Hosted::large("tiny.gguf", 70_000);
    let storage = Server::start({
        let file = file.clone();
        move |request| file.send(request)
    });
    let server = Server::start({
        let (file, storage) = (file.clone(), storage.url());
        // As the real hub does: first a redirect to itself, then one to the storage.
        move |request| match request.path.starts_with("/cached") {
            false => Reply::status(307).header("Location", format!("/cached{}", request.path)),
            true if requested(std::slice::from_ref(&file), request).is_none() => Reply::status(404),
            true => file
                .describe(Reply::status(302))
                .header("Location", format!("{storage}/x/tiny.gguf?signature=1")),
        }
    });
    let cache = Cache::new();
    let options = HubOptions {
        token: Some("hf_secret".into()),
        ..cache.options(&server)
    };
    let model = pull(chat_entry(), &options, &mut quiet).unwrap();
    assert_eq!(std::fs::read(model.path).unwrap(), file.contents);
    for request in server.requests() {
        assert_eq!(request.header("authorization"), Some("Bearer hf_secret"));
    }
    let from_storage = storage.requests();
    assert_eq!(from_storage.len(), 1);
    assert_eq!(from_storage[0].method, "GET");
    assert!(
        from_storage[0]
            .headers
            .iter()
            .all(|(_, value)| !value.contains("hf_secret"))
    );
}

#[test]
fn two_pulls_of_one_model_do_not_mix() {
    let file = Hosted::large("tiny.gguf", 1_000);
    let cache = Cache::new();
    std::fs::create_dir_all(cache.repo()).unwrap();
    let other = std::fs::File::create(cache.repo().join(".lock")).unwrap();
    other.lock().unwrap();
    let server = Server::start(move |request| answer(std::slice::from_ref(&file), request));
    let error = pull(chat_entry(), &cache.options(&server), &mut quiet).unwrap_err();
    assert!(matches!(error, HubError::Busy { .. }), "{error}");
    drop(other);
    pull(chat_entry(), &cache.options(&server), &mut quiet).unwrap();
}

#[test]
fn a_download_that_cannot_fit_is_not_begun() {
    let file = Hosted::large("tiny.gguf", 10);
    let server = Server::start(move |request| {
        let mut reply = answer(std::slice::from_ref(&file), request);
        reply.headers.retain(|(name, _)| *name != "X-Linked-Size");
        reply.header("X-Linked-Size", (1u64 << 60).to_string())
    });
    let error = pull(chat_entry(), &Cache::new().options(&server), &mut quiet).unwrap_err();
    assert!(matches!(error, HubError::DiskFull { .. }), "{error}");
    assert!(server.requests_of("GET").is_empty());
}

#[test]
fn the_command_pulls_through_dropped_connections_and_the_server_finds_the_model() {
    let file = Hosted::large("SmolLM2-135M-Instruct-Q8_0.gguf", 200_000);
    let expected = file.contents.clone();
    let num_gets = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let mut reply = answer(std::slice::from_ref(&file), request);
        if request.method == "GET" && num_gets.fetch_add(1, Ordering::SeqCst) == 0 {
            reply.cut_after = Some(70_000);
        }
        reply
    });
    let cache = Cache::new();
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_inglenook"))
            .args(args)
            .env("HOME", cache.dir.path())
            .env("INGLENOOK_HUB_ENDPOINT", server.url())
            .env("INGLENOOK_MODEL_CACHE", cache.dir.path())
            .current_dir(cache.dir.path())
            .output()
            .unwrap();
        let (out, err) = (output.stdout, output.stderr);
        (
            output.status.success(),
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        )
    };
    let (succeeded, out, err) = run(&["models", "pull", "smollm2-135m-instruct"]);
    assert!(succeeded, "{out}{err}");
    let path = out.lines().last().unwrap().split_once(": ").unwrap().1;
    assert_eq!(std::fs::read(path).unwrap(), expected);
    let (_, out, _) = run(&["models"]);
    assert!(out.contains(&format!("here: {path}")), "{out}");
    let (succeeded, _, err) = run(&["models", "pull", "no-such-model"]);
    assert!(!succeeded && err.contains("qwen3-0.6b"), "{err}");
    // What came is no model: it is refused by name at start, not guessed at.
    let (succeeded, _, err) = run(&["ask", "anything", "--device", "cpu"]);
    assert!(
        !succeeded && err.contains("SmolLM2-135M-Instruct-Q8_0.gguf"),
        "{err}"
    );
}
