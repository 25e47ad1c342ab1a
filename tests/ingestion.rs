//! Ingestion as it is seen while it runs: by page and by passage, from another process too; stopped in the middle, gone on
//! with, and never done twice.
#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{PATIENCE, Setup, TestServer, models, program};
use inglenook::embedding::{Embedder, EmbedderOptions};
use inglenook::rag::extract::ExtractLimits;
use inglenook::rag::ingest::Ingestion;
use inglenook::store::{
    Attributes, Chunking, Content, Document, DocumentStatus, EmbedderId, NewFile, Stage, Store,
};
use serde_json::{Value, json};

const CHUNKING: Chunking = Chunking {
    max_tokens: 256,
    overlap_tokens: 64,
};

/// A reader of six pages that says its process and waits for a word at each page.
fn reader(folder: &Path) -> PathBuf {
    let script = format!(
        r#"#!/bin/sh
read -r request
mark=${{request#*\"mark\":\"}}; mark=${{mark%%\"*}}
say() {{ printf '\n%s%s\n' "$mark" "$1"; }}
echo $$ > '{dir}/started'
mv '{dir}/started' '{dir}/pid'
say '{{"opened":{{"num_pages":6,"title":null}}}}'
for page in 1 2 3 4 5 6; do
  read -r word < '{dir}/gate'
  case $word in
    text) content='{{"Ok":{{"text":"Words of a page.","has_images":false}}}}' ;;
    none) content='{{"Ok":{{"text":"","has_images":true}}}}' ;;
    bad) content='{{"Err":"a bad page"}}' ;;
  esac
  say "{{\"page\":{{\"number\":$page,\"content\":$content}}}}"
done
say '"done"'
"#,
        dir = folder.display()
    );
    let path = folder.join("reader");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let made = Command::new("mkfifo").arg(folder.join("gate")).status();
    assert!(made.unwrap().success());
    path
}

struct Workplace {
    folder: tempfile::TempDir,
    store: Store,
    ingestion: Ingestion,
    collection: String,
    /// Held open, so that no word is lost between two readers.
    gate: std::fs::File,
}

async fn workplace() -> Workplace {
    let folder = tempfile::tempdir().unwrap();
    let embedder = Embedder::load(&models().embedder, EmbedderOptions::default()).unwrap();
    let data = folder.path().join("data");
    let id = EmbedderId {
        hash: embedder.spec().model_hash.clone(),
        dimensions: embedder.spec().dimensions,
    };
    let store = Store::open(&data, id).await.unwrap();
    let collection = store.default_vector_store().await.unwrap().id;
    let limits = ExtractLimits::new(reader(folder.path()));
    let gate = folder.path().join("gate");
    let gate = std::fs::File::options().read(true).write(true).open(gate);
    let ingestion = Ingestion::start(store.clone(), embedder, limits, data);
    Workplace {
        folder,
        store,
        ingestion,
        collection,
        gate: gate.unwrap(),
    }
}

impl Workplace {
    async fn add(&self, name: &str, content: &[u8]) -> String {
        let new = NewFile {
            filename: name.into(),
            purpose: "assistants".into(),
            media_type: "application/pdf".into(),
            expires_after_seconds: None,
        };
        let content = Content::Bytes(content.to_vec());
        let file = self.store.create_file(new, content).await.unwrap().id;
        self.store
            .attach(&self.collection, &file, Attributes::new(), CHUNKING)
            .await
            .unwrap();
        file
    }

    /// Lets the reader go on with its next page.
    fn next_page(&self, word: &str) {
        writeln!(&self.gate, "{word}").unwrap();
    }

    async fn until(&self, file: &str, is_so: impl Fn(&Document) -> bool) -> Document {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let document = self.store.document(&self.collection, file).await.unwrap();
            if is_so(&document) {
                return document;
            }
            assert!(Instant::now() < deadline, "it stayed at {document:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The process that reads, once it does.
    async fn reading_process(&self) -> String {
        let path = self.folder.path().join("pid");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(pid) = std::fs::read_to_string(&path) {
                std::fs::remove_file(&path).unwrap();
                return pid.trim().to_owned();
            }
            assert!(Instant::now() < deadline, "nothing is read");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn pages_are_counted_while_they_are_read() {
    let place = workplace().await;
    let file = place.add("a.pdf", b"%PDF-1.4\n").await;
    for (at, word) in ["text", "text", "bad"].into_iter().enumerate() {
        place.next_page(word);
        let pages = at as u32 + 1;
        let document = place
            .until(&file, |it| it.progress.pages_read == pages)
            .await;
        assert_eq!(document.progress.pages_total, 6);
        assert_eq!(document.stage, Some(Stage::Reading));
    }
    for word in ["none", "text", "text"] {
        place.next_page(word);
    }
    let document = place.until(&file, |it| it.stage.is_none()).await;
    assert_eq!(document.status, DocumentStatus::Completed);
    assert_eq!(document.progress.pages_read, 6);
    assert!(document.progress.chunks_done > 0);
    assert_eq!(document.progress.seconds_left, None);
    let warned: Vec<(u32, bool)> = document
        .page_warnings
        .iter()
        .map(|it| (it.page, it.is_empty))
        .collect();
    assert_eq!(warned, [(3, false), (4, true)]);
    place.ingestion.stop().await;
}

#[tokio::test]
async fn what_was_found_on_the_pages_of_a_file_that_failed_is_kept() {
    let place = workplace().await;
    let file = place.add("scan.pdf", b"%PDF-1.4\n").await;
    for word in ["none", "none", "bad", "none", "none", "none"] {
        place.next_page(word);
    }
    let document = place.until(&file, |it| it.stage.is_none()).await;
    assert_eq!(document.status, DocumentStatus::Failed);
    let pages = inglenook::rag::document::pages(&place.store, &place.collection, &file, 1, 3);
    let pages = pages.await.unwrap();
    let found: Vec<(u32, String)> = pages
        .pages
        .iter()
        .map(|page| (page.number, format!("{:?}", page.outcome)))
        .collect();
    let expected = [(2, "Empty"), (3, "Failed(\"a bad page\")"), (4, "Empty")];
    assert_eq!(found, expected.map(|(page, it)| (page, it.to_owned())));
    assert_eq!((pages.num_pages, pages.has_more), (6, true));
    place.ingestion.stop().await;
}

#[tokio::test]
async fn a_document_that_is_taken_out_stops_its_reader_at_once() {
    let place = workplace().await;
    for way in ["detach", "delete"] {
        let file = place.add("a.pdf", b"%PDF-1.4\n").await;
        let pid = place.reading_process().await;
        place.next_page("text");
        place.until(&file, |it| it.progress.pages_read == 1).await;
        assert!(is_running(&pid));
        match way {
            "detach" => place.store.detach(&place.collection, &file).await.unwrap(),
            _ => place.store.delete_file(&file).await.unwrap(),
        }
        let gone = Instant::now();
        while is_running(&pid) {
            assert!(gone.elapsed() < Duration::from_secs(5), "{way}: it goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // And what comes next is read.
    let file = place.add("b.pdf", b"%PDF-1.5\n").await;
    for _ in 0..6 {
        place.next_page("text");
    }
    let document = place.until(&file, |it| it.stage.is_none()).await;
    assert_eq!(document.status, DocumentStatus::Completed);
    place.ingestion.stop().await;
}

/// Paragraphs of words that nobody else has.
fn text(num_paragraphs: usize, seed: &str) -> String {
    let paragraph = |at: usize| {
        let words = (0..60).map(|word| format!("{seed}{} ", (at * 61 + word * 7) % 977));
        words.collect::<String>() + "\n\n"
    };
    (0..num_paragraphs).map(paragraph).collect()
}

/// The events of a stream as they come.
fn events(server: &TestServer, collection: &str) -> impl Iterator<Item = Value> + use<> {
    let path = format!("/api/vector_stores/{collection}/progress");
    let mut lines = BufReader::new(server.open("GET", &path, "")).lines();
    let status = lines.next().unwrap().unwrap();
    assert!(status.contains(" 200 "), "{status}");
    let data = lines.filter_map(|line| Some(line.ok()?.strip_prefix("data: ")?.to_owned()));
    data.map(|data| serde_json::from_str(&data).unwrap())
}

#[test]
fn progress_is_streamed_also_by_a_server_that_does_not_do_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let worker = Setup::default().in_dir(dir.path()).start();
    let other = Setup::default().in_dir(dir.path()).start();
    let collection = worker.collection();
    let nothing: Vec<Value> = events(&other, &collection).collect();
    assert_eq!(nothing.len(), 2, "{nothing:?}");
    assert_eq!(nothing[0], json!({ "type": "snapshot", "files": [] }));
    assert_eq!(nothing[1], json!({ "type": "end" }));

    let file = other.upload("long.txt", text(400, "w").as_bytes()).ok();
    let attach = format!("/v1/vector_stores/{collection}/files");
    let attached = other.post(&attach, json!({ "file_id": file["id"] })).ok();
    assert_eq!(attached["is_unchanged"], false);
    let events: Vec<Value> = events(&other, &collection).collect();
    assert_eq!(events[0]["type"], "snapshot");
    assert_eq!(events[0]["files"][0]["filename"], "long.txt");
    assert_eq!(events.last().unwrap()["type"], "end");
    let files: Vec<&Value> = events[1..events.len() - 1]
        .iter()
        .map(|event| &event["file"])
        .collect();
    let done = |file: &Value| file["progress"]["chunks_done"].as_u64().unwrap();
    assert!(files.windows(2).all(|two| done(two[0]) <= done(two[1])));
    let is_between = |file: &&Value| {
        let progress = &file["progress"];
        done(file) > 0 && done(file) < progress["chunks_total"].as_u64().unwrap()
    };
    let between: Vec<&Value> = files.iter().copied().filter(is_between).collect();
    assert!(between.len() > 1, "{files:#?}");
    for file in &between {
        assert_eq!(file["status"], "in_progress");
        assert_eq!(file["progress"]["stage"], "embedding");
    }
    assert!(
        between
            .iter()
            .any(|it| it["progress"]["seconds_left"].is_u64()),
        "{between:#?}"
    );
    let last = files.last().unwrap();
    assert_eq!(last["status"], "completed");
    assert_eq!(last["progress"]["stage"], Value::Null);

    let id = last["id"].as_str().unwrap();
    let pages = format!("/api/vector_stores/{collection}/files/{id}/pages");
    let pages = worker.get(&pages).ok();
    let page = &pages["data"][0];
    assert_eq!(page["num_passages"], last["num_chunks"]);
    assert_eq!(page["outcome"], "read");
    other.get("/api/vector_stores/vs_none/progress").error(404);
}

#[test]
fn a_vector_store_that_is_deleted_ends_its_stream() {
    let server = Setup::default().start();
    let store = server.post("/v1/vector_stores", json!({})).ok();
    let id = store["id"].as_str().unwrap().to_owned();
    let file = server.upload("long.txt", text(400, "v").as_bytes()).ok();
    let attach = format!("/v1/vector_stores/{id}/files");
    server.post(&attach, json!({ "file_id": file["id"] })).ok();
    let mut events = events(&server, &id);
    assert_eq!(events.next().unwrap()["type"], "snapshot");
    server.delete(&format!("/v1/vector_stores/{id}")).ok();
    let rest: Vec<Value> = events.collect();
    let types: Vec<&str> = rest.iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(types[types.len() - 2..], ["deleted", "end"], "{rest:?}");
}

#[test]
fn the_same_content_is_not_computed_twice() {
    let server = Setup::default().start();
    let collection = server.collection();
    let content = text(150, "c");
    let begun = Instant::now();
    let (first, document) = server.ingest(&collection, "a.txt", content.as_bytes());
    let computed = begun.elapsed();
    let num_chunks = document["num_chunks"].as_u64().unwrap();
    let elsewhere = server.post("/v1/vector_stores", json!({})).ok();
    let elsewhere = elsewhere["id"].as_str().unwrap();
    let begun = Instant::now();
    let (second, document) = server.ingest(elsewhere, "b.txt", content.as_bytes());
    let copied = begun.elapsed();
    assert_eq!(document["num_chunks"].as_u64().unwrap(), num_chunks);
    assert!(copied * 2 < computed, "{copied:?} after {computed:?}");
    assert_ne!(first, second);
    server.delete(&format!("/v1/files/{first}")).ok();
    let found = server
        .post(
            &format!("/v1/vector_stores/{elsewhere}/search"),
            json!({ "query": "c7 c14 c21" }),
        )
        .ok();
    assert_eq!(found["data"][0]["file_id"], second.as_str());
}

#[test]
fn what_is_to_become_of_a_file_of_the_same_name_can_be_said() {
    let server = Setup::default().start();
    let collection = server.collection();
    let (first, _) = server.ingest(&collection, "a.txt", b"The first of them.");
    let attach = |content: &[u8], body: Value| {
        let file = server.upload("a.txt", content).ok();
        let mut body = body;
        body["file_id"] = file["id"].clone();
        server.post(&format!("/v1/vector_stores/{collection}/files"), body)
    };
    let error = attach(b"x", json!({ "if_exists": "overwrite" })).error(400);
    assert_eq!(error["param"], "if_exists");
    for if_exists in ["skip", "replace"] {
        let same = attach(b"The first of them.", json!({ "if_exists": if_exists })).ok();
        assert_eq!(
            (&same["id"], &same["is_unchanged"]),
            (&json!(first), &json!(true))
        );
    }
    let kept = attach(b"The first of them.", json!({})).ok();
    assert_eq!(kept["is_unchanged"], false);
    server.wait_for(&collection, kept["id"].as_str().unwrap());

    let file = server.upload("a.txt", b"The last of them.").ok();
    let batches = format!("/v1/vector_stores/{collection}/file_batches");
    let batch = json!({ "file_ids": [file["id"]], "if_exists": "replace" });
    server.post(&batches, batch).ok();
    server.wait_for(&collection, file["id"].as_str().unwrap());
    let listed = server
        .get(&format!("/v1/vector_stores/{collection}/files"))
        .ok();
    let ids: Vec<&Value> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| &file["id"])
        .collect();
    assert_eq!(ids, [&file["id"]]);
    server.get(&format!("/v1/files/{first}")).error(404);
}

#[test]
fn pages_are_counted_of_what_is_read_at_once_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::default().in_dir(dir.path()).start();
    let collection = server.collection();
    let file = server.upload("long.txt", text(400, "k").as_bytes()).ok();
    let id = file["id"].as_str().unwrap();
    let files = format!("/v1/vector_stores/{collection}/files");
    server.post(&files, json!({ "file_id": id })).ok();
    let until_half = |server: &TestServer| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let document = server.get(&format!("{files}/{id}")).ok();
            let progress = document["progress"].clone();
            if progress["chunks_done"].as_u64().unwrap() > 0 {
                return document;
            }
            assert!(Instant::now() < deadline, "{document}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let half = until_half(&server);
    assert_eq!(half["status"], "in_progress", "{half}");
    server.kill();
    let server = Setup::default().in_dir(dir.path()).start();
    let document = server.wait_for(&collection, id);
    let progress = &document["progress"];
    assert_eq!(document["status"], "completed", "{document}");
    assert_eq!(
        (&progress["pages_read"], &progress["pages_total"]),
        (&json!(1), &json!(1)),
        "{document}"
    );
}

fn ingest(dir: &Path, args: &[&str]) -> Command {
    let mut command = program(dir);
    command
        .args(["--chat-model", "none", "--embedding-model"])
        .arg(&models().embedder)
        .arg("ingest")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> (String, String) {
    (
        String::from_utf8(output.stdout.clone()).unwrap(),
        String::from_utf8(output.stderr.clone()).unwrap(),
    )
}

#[test]
fn the_command_line_takes_folders_and_takes_them_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let docs = dir.path().join("docs");
    std::fs::create_dir_all(docs.join("deep/.git")).unwrap();
    std::fs::write(docs.join("a.md"), "The keeper is Maren Holt.").unwrap();
    std::fs::write(docs.join("deep/a.md"), "The boat is blue.").unwrap();
    std::fs::write(docs.join("deep/.git/config"), "Hidden.").unwrap();
    std::fs::write(docs.join("picture.png"), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").unwrap();
    let run = |args: &[&str]| ingest(dir.path(), args).output().unwrap();
    let output = run(&["docs"]);
    let (out, err) = said(&output);
    assert!(output.status.success(), "{out}{err}");
    let summary = "2 documents added with 2 passages, 0 unchanged, 0 failed, 1 left out";
    assert!(out.contains(summary), "{out}{err}");
    assert!(err.contains("docs/picture.png: left out: "), "{err}");

    std::fs::write(docs.join("a.md"), "The keeper is Jon Vik.").unwrap();
    std::fs::write(docs.join("broken.pdf"), b"not a PDF\0\0").unwrap();
    let output = run(&["docs"]);
    let (out, err) = said(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    let summary = "1 documents added with 1 passages, 1 unchanged, 1 failed, 1 left out";
    assert!(out.contains(summary), "{out}{err}");
    assert!(err.contains("broken.pdf"), "{err}");

    let server = Setup::default().in_dir(dir.path()).start();
    assert_eq!(names_in(&server), ["docs/a.md", "docs/deep/a.md"]);
}

/// Names of the completed documents of the default collection, in order.
fn names_in(server: &TestServer) -> Vec<String> {
    let path = format!(
        "/v1/vector_stores/{}/files?filter=completed",
        server.collection()
    );
    let listed = server.get(&path).ok();
    let files = listed["data"].as_array().unwrap().iter();
    let mut names: Vec<String> = files
        .map(|file| file["filename"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn files_of_the_same_name_are_documents_of_their_own_and_only_the_same_file_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("y/2023/report.txt", "In 2023 the harbour took 41 boats.");
    write("y/2024/report.txt", "In 2024 the harbour took 52 boats.");
    let run = |args: &[&str]| {
        let output = ingest(dir.path(), args).output().unwrap();
        let (out, err) = said(&output);
        assert!(output.status.success(), "{out}{err}");
        out
    };
    assert!(run(&["y/**/*.txt"]).contains("2 documents added"));
    // However they are named, they are what they were.
    let out = run(&["y/2023/report.txt", "y/2024/report.txt"]);
    assert!(out.contains("2 unchanged"), "{out}");
    assert!(run(&["y"]).contains("2 unchanged"));

    write("z/2023/report.txt", "In 2023 the pier was mended.");
    write("z/2024/report.txt", "In 2024 the pier was painted.");
    run(&["z/2023/report.txt"]);
    run(&["z/2024/report.txt"]);
    write("z/2024/report.txt", "In 2024 the pier was painted green.");
    assert!(run(&["z/2024/report.txt"]).contains("1 passages"));

    let server = Setup::default().in_dir(dir.path()).start();
    assert_eq!(
        names_in(&server),
        [
            "report.txt",
            "report.txt",
            "y/2023/report.txt",
            "y/2024/report.txt"
        ]
    );
    let found = server
        .post(
            &format!("/v1/vector_stores/{}/search", server.collection()),
            json!({ "query": "the pier in 2023 and 2024, the boats of the harbour", "max_num_results": 50 }),
        )
        .ok();
    let mut texts: Vec<&str> = found["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| hit["content"][0]["text"].as_str().unwrap())
        .collect();
    texts.sort();
    assert_eq!(
        texts,
        [
            "In 2023 the harbour took 41 boats.",
            "In 2023 the pier was mended.",
            "In 2024 the harbour took 52 boats.",
            "In 2024 the pier was painted green.",
        ]
    );
}

#[test]
fn a_file_that_could_not_be_read_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("broken.pdf"), b"not a PDF\0\0").unwrap();
    for _ in 0..2 {
        let output = ingest(dir.path(), &["broken.pdf"]).output().unwrap();
        let (out, err) = said(&output);
        assert_eq!(output.status.code(), Some(1), "{out}{err}");
        assert!(err.contains("broken.pdf"), "{err}");
    }
    let server = Setup::default().in_dir(dir.path()).start();
    let path = format!("/v1/vector_stores/{}/files", server.collection());
    let listed = server.get(&path).ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
}

#[test]
fn what_a_folder_has_besides_documents_is_named_with_the_reason_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let docs = dir.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(docs.join("a.txt"), "The keeper is Maren Holt.").unwrap();
    std::fs::write(docs.join("b.gz"), b"\x1f\x8b\x08\0\0\0\0\0").unwrap();
    std::fs::write(docs.join("c.txt"), "").unwrap();
    let output = ingest(dir.path(), &["docs"]).output().unwrap();
    let (out, err) = said(&output);
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("2 left out"), "{out}{err}");
    let lines: Vec<&str> = err.lines().collect();
    let of = |name: &str| lines.iter().find(|line| line.starts_with(name)).copied();
    let packed = of("docs/b.gz: left out: ").expect("it is named");
    assert!(packed.contains("unpack it"), "{packed}");
    assert_eq!(of("docs/c.txt"), Some("docs/c.txt: left out: it is empty"));

    (0..30).for_each(|at| std::fs::write(docs.join(format!("none-{at}.txt")), "").unwrap());
    let output = ingest(dir.path(), &["docs"]).output().unwrap();
    let (out, err) = said(&output);
    assert!(out.contains("32 left out"), "{out}{err}");
    assert_eq!(err.matches(": left out: ").count(), 20, "{err}");
    assert!(err.contains("and 12 more were left out"), "{err}");
}

#[test]
fn a_link_out_of_the_folder_is_not_followed_and_no_name_writes_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let docs = dir.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(
        docs.join("a\nroot: 9 passages.txt"),
        "The keeper is Maren Holt.",
    )
    .unwrap();
    std::fs::write(dir.path().join("secret.txt"), "The key lies under the mat.").unwrap();
    std::os::unix::fs::symlink("../secret.txt", docs.join("link.txt")).unwrap();
    let output = ingest(dir.path(), &["docs"]).output().unwrap();
    let (out, err) = said(&output);
    assert!(output.status.success(), "{out}{err}");
    assert!(
        out.starts_with("docs/a\\nroot: 9 passages.txt: 1 passages"),
        "{out}"
    );
    assert!(
        err.contains("docs/link.txt: left out: it is a link"),
        "{err}"
    );
    let server = Setup::default().in_dir(dir.path()).start();
    assert_eq!(names_in(&server), ["docs/aroot: 9 passages.txt"]);
}

fn interrupt(child: Child) -> Output {
    let pid = child.id().to_string();
    let status = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(status.success());
    child.wait_with_output().unwrap()
}

#[tokio::test]
async fn an_interrupted_command_says_that_it_goes_on_and_does() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("long.txt"), text(400, "i")).unwrap();
    let mut child = ingest(dir.path(), &["long.txt"]).spawn().unwrap();
    let any = EmbedderId {
        hash: "any".into(),
        dimensions: 1,
    };
    let store = Store::open(dir.path(), any).await.unwrap();
    let collection = store.default_vector_store().await.unwrap().id;
    let deadline = Instant::now() + PATIENCE;
    let num_done = loop {
        let list = store.list_documents(&collection, None, Default::default());
        let documents = list.await.unwrap().items;
        let num_done = documents.first().map_or(0, |it| it.progress.chunks_done);
        if num_done > 0 {
            break num_done;
        }
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            child.stderr.unwrap().read_to_string(&mut said).unwrap();
            panic!("it ended with {status}: {said}");
        }
        assert!(Instant::now() < deadline, "nothing is embedded");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let output = tokio::task::spawn_blocking(move || interrupt(child))
        .await
        .unwrap();
    let (out, err) = said(&output);
    assert_eq!(output.status.code(), Some(130), "{out}{err}");
    assert!(
        out.contains("1 documents are not finished: the next inglenook"),
        "{out}{err}"
    );
    let list = store.list_documents(&collection, None, Default::default());
    let document = list.await.unwrap().items.remove(0);
    assert_eq!(document.stage, Some(Stage::Queued));
    assert!(document.progress.chunks_done >= num_done);
    let mut again = ingest(dir.path(), &["long.txt"]);
    let output = tokio::task::spawn_blocking(move || again.output())
        .await
        .unwrap()
        .unwrap();
    let (out, err) = said(&output);
    assert!(
        output.status.success() && out.contains(" passages ("),
        "{out}{err}"
    );
    let list = store.list_documents(&collection, None, Default::default());
    assert_eq!(list.await.unwrap().items.len(), 1);
}
