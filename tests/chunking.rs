//! How documents are cut: by whose settings, what a preview shows, and cutting them anew while they go on answering.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{PATIENCE, Setup, TestServer, models, program};
use serde_json::{Value, json};

fn sizes(max: u32, overlap: u32) -> Value {
    json!({ "type": "static", "static": { "max_chunk_size_tokens": max, "chunk_overlap_tokens": overlap } })
}

fn create_store(server: &TestServer, body: Value) -> String {
    let created = server.post("/v1/vector_stores", body).ok();
    created["id"].as_str().unwrap().to_owned()
}

/// A copy of the embedding model that gives other vectors, since it takes that of the first token.
fn other_embedder(dir: &Path) -> PathBuf {
    let other = dir.join("other-bert");
    copy(&models().embedder, &other);
    let pooling = json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false });
    std::fs::write(other.join("1_Pooling/config.json"), pooling.to_string()).unwrap();
    other
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

/// Sections of sentences, each unlike the others.
fn book(num_sections: usize) -> String {
    let sentence = |section: usize, at: usize| {
        format!(
            "The keeper of house {section} counted {at} lamps and wrote the number {section}{at} into the book. "
        )
    };
    let section = |section: usize| {
        let sentences: String = (0..12).map(|at| sentence(section, at)).collect();
        format!("## House {section}\n\n{sentences}\n\n")
    };
    (0..num_sections).map(section).collect()
}

#[test]
fn files_are_cut_as_they_say_or_their_collection_or_the_server() {
    let server = Setup::default()
        .args(&["--chunk-tokens", "150", "--chunk-overlap", "20"])
        .start();
    let plain = create_store(&server, json!({}));
    let small = create_store(&server, json!({ "chunking_strategy": sizes(100, 10) }));
    let shown = |store: &str| server.get(&format!("/v1/vector_stores/{store}")).ok();
    assert_eq!(
        shown(&plain)["chunking_strategy"],
        json!({ "type": "auto" })
    );
    assert_eq!(shown(&small)["chunking_strategy"], sizes(100, 10));

    let text = book(3);
    let attach = |store: &str, strategy: Option<Value>| {
        let file = server.upload("book.md", text.as_bytes()).ok();
        let mut body = json!({ "file_id": file["id"] });
        if let Some(strategy) = strategy {
            body["chunking_strategy"] = strategy;
        }
        let attached = server.post(&format!("/v1/vector_stores/{store}/files"), body);
        let attached = attached.ok();
        server.wait_for(store, attached["id"].as_str().unwrap());
        attached["chunking_strategy"].clone()
    };
    assert_eq!(attach(&plain, None), sizes(150, 20));
    assert_eq!(attach(&small, None), sizes(100, 10));
    assert_eq!(attach(&small, Some(sizes(200, 0))), sizes(200, 0));
    assert_eq!(
        attach(&small, Some(json!({ "type": "auto" }))),
        sizes(150, 20)
    );

    let path = format!("/v1/vector_stores/{small}");
    let changed = server
        .post(&path, json!({ "chunking_strategy": sizes(120, 0) }))
        .ok();
    assert_eq!(changed["chunking_strategy"], sizes(120, 0));
    assert_eq!(attach(&small, None), sizes(120, 0));
    server.post(&path, json!({ "name": "kept" })).ok();
    assert_eq!(shown(&small)["chunking_strategy"], sizes(120, 0));
    server
        .post(&path, json!({ "chunking_strategy": null }))
        .ok();
    assert_eq!(
        shown(&small)["chunking_strategy"],
        json!({ "type": "auto" })
    );
    let refused = server
        .post(&path, json!({ "chunking_strategy": sizes(10, 0) }))
        .error(400);
    assert_eq!(
        refused["param"],
        "chunking_strategy.static.max_chunk_size_tokens"
    );
}

#[test]
fn a_preview_shows_both_ways_of_cutting_and_changes_nothing() {
    let server = Setup::default().start();
    let text = book(4);
    let preview = |body: Value| server.post("/api/chunks/preview", body);
    let body = json!({ "text": text, "current": sizes(200, 0), "proposed": sizes(100, 0) });
    let shown = preview(body).ok();
    assert_eq!(shown["num_bytes"], text.len());
    let (before, after) = (&shown["before"], &shown["after"]);
    let count = |side: &Value| side["num_chunks"].as_u64().unwrap();
    assert!(count(after) > count(before), "{shown}");
    for side in [before, after] {
        assert_eq!(side["chunks"].as_array().unwrap().len() as u64, count(side));
        for chunk in side["chunks"].as_array().unwrap() {
            let at = |name: &str| chunk[name].as_u64().unwrap() as usize;
            assert_eq!(chunk["text"], &text[at("start")..at("end")]);
            let heading = chunk["heading_path"][0].as_str().unwrap();
            let names_it = chunk["text"].as_str().unwrap().starts_with("## ");
            assert_eq!(
                chunk["context"].as_str().unwrap().contains(heading),
                !names_it
            );
        }
    }
    let shown = preview(json!({ "text": text, "limit": 1 })).ok();
    assert_eq!(
        (&shown["after"], &shown["before"]["has_more"]),
        (&Value::Null, &json!(true))
    );

    let file = server.upload("book.md", text.as_bytes()).ok();
    let store = create_store(&server, json!({ "chunking_strategy": sizes(100, 0) }));
    let body =
        json!({ "file_id": file["id"], "vector_store_id": store, "proposed": { "type": "auto" } });
    let shown = preview(body).ok();
    assert_eq!(shown["before"]["chunking_strategy"], sizes(100, 0));
    assert_eq!(shown["after"]["chunking_strategy"], sizes(256, 64));
    assert_eq!(
        server.get(&format!("/v1/vector_stores/{store}")).ok()["file_counts"]["total"],
        0
    );

    assert_eq!(preview(json!({})).error(400)["param"], "file_id");
    assert_eq!(preview(json!({ "text": " " })).error(400)["param"], "text");
    assert_eq!(
        preview(json!({ "text": "a", "file_id": "b" })).error(400)["param"],
        "text"
    );
    assert_eq!(
        preview(json!({ "text": "a", "limit": 0 })).error(400)["param"],
        "limit"
    );
    let body = json!({ "text": "a", "proposed": sizes(100, 60) });
    assert_eq!(
        preview(body).error(400)["param"],
        "proposed.static.chunk_overlap_tokens"
    );
    preview(json!({ "file_id": "file-none" })).error(404);
}

#[test]
fn the_command_shows_the_chunks_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("book.md");
    std::fs::write(&file, book(2)).unwrap();
    let output = program(dir.path())
        .arg("--embedding-model")
        .arg(&models().embedder)
        .arg("chunks")
        .arg(&file)
        .args(["--max-tokens", "100", "--overlap", "0"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("--- 1: bytes 0 to "), "{text}");
    assert!(text.contains("  > House 1\n"), "{text}");
    assert!(text.contains("at most 100 with 0 repeated"), "{text}");
}

/// The spans that a file of the collection would have.
fn spans(server: &TestServer, file: &str, strategy: Value) -> BTreeSet<(u64, u64)> {
    let body = json!({ "file_id": file, "current": strategy, "limit": 1000 });
    let shown = server.post("/api/chunks/preview", body).ok();
    let before = &shown["before"];
    assert_eq!(before["has_more"], false);
    let chunks = before["chunks"].as_array().unwrap().iter();
    chunks
        .map(|chunk| {
            (
                chunk["start"].as_u64().unwrap(),
                chunk["end"].as_u64().unwrap(),
            )
        })
        .collect()
}

/// The spans that a search finds.
fn found(server: &TestServer, store: &str, query: &str) -> BTreeSet<(u64, u64)> {
    let body = json!({ "query": query, "max_num_results": 50 });
    let found = server
        .post(&format!("/v1/vector_stores/{store}/search"), body)
        .ok();
    let hits = found["data"].as_array().unwrap().iter();
    hits.map(|hit| (hit["start"].as_u64().unwrap(), hit["end"].as_u64().unwrap()))
        .collect()
}

fn state(server: &TestServer) -> Value {
    server.get("/api/reindex").ok()
}

fn wait_until_idle(server: &TestServer) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = state(server);
        if state["status"] == "idle" {
            return state;
        }
        assert!(Instant::now() < deadline, "{state}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A collection with one document, and the spans of its chunks as they are and as they are to be.
struct Recut {
    store: String,
    file: String,
    old: BTreeSet<(u64, u64)>,
    new: BTreeSet<(u64, u64)>,
}

const OLD: (u32, u32) = (200, 0);
const NEW: (u32, u32) = (100, 0);

impl Recut {
    fn prepare(server: &TestServer, num_sections: usize) -> Self {
        let store = create_store(server, json!({ "chunking_strategy": sizes(OLD.0, OLD.1) }));
        let (file, document) = server.ingest(&store, "book.md", book(num_sections).as_bytes());
        assert_eq!(document["status"], "completed", "{document}");
        let recut = Self {
            old: spans(server, &file, sizes(OLD.0, OLD.1)),
            new: spans(server, &file, sizes(NEW.0, NEW.1)),
            store,
            file,
        };
        // Short ends of sections may be the same either way.
        assert!(!recut.old.is_subset(&recut.new) && !recut.new.is_subset(&recut.old));
        recut
    }

    fn start(&self, server: &TestServer) -> Value {
        let body = json!({ "vector_store_id": self.store, "chunking": sizes(NEW.0, NEW.1) });
        server.post("/api/reindex", body).ok()
    }

    /// One search: it finds something, and chunks of one generation only.
    fn search(&self, server: &TestServer, at: usize) {
        let query = format!("house {} counted {} lamps", at % 20, at % 12);
        let found = found(server, &self.store, &query);
        assert!(!found.is_empty(), "nothing was found for {query}");
        assert!(
            found.is_subset(&self.old) || found.is_subset(&self.new),
            "chunks of two generations were found for {query}: {found:?}"
        );
    }
}

#[test]
fn documents_answer_at_every_moment_while_they_are_cut_anew() {
    let server = Setup::default().start();
    let recut = Recut::prepare(&server, 20);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let searching = scope.spawn(|| {
            let mut num_searches = 0;
            while !is_done.load(Ordering::Acquire) || num_searches < 20 {
                recut.search(&server, num_searches);
                num_searches += 1;
            }
        });
        // Back and forth, so that there are moments of change.
        for round in 0..4 {
            let (size, overlap) = if round % 2 == 0 { NEW } else { OLD };
            let body = json!({ "vector_store_id": recut.store, "chunking": sizes(size, overlap) });
            server.post("/api/reindex", body).ok();
            let state = wait_until_idle(&server);
            assert_eq!(
                (&state["num_done"], &state["num_failed"]),
                (&json!(1), &json!(0)),
                "{state}"
            );
            let now = found(&server, &recut.store, "house 3 counted 4 lamps");
            let wanted = if round % 2 == 0 {
                &recut.new
            } else {
                &recut.old
            };
            assert!(now.is_subset(wanted), "round {round}");
        }
        is_done.store(true, Ordering::Release);
        searching.join().unwrap();
    });
    let document = server
        .get(&format!(
            "/v1/vector_stores/{}/files/{}",
            recut.store, recut.file
        ))
        .ok();
    assert_eq!(document["chunking_strategy"], sizes(OLD.0, OLD.1));
    // Nothing is left to do.
    let again = server.post("/api/reindex", json!({})).ok();
    assert_eq!(
        (&again["status"], &again["num_documents"]),
        (&json!("idle"), &json!(0))
    );
}

#[test]
fn a_change_of_a_collections_chunking_cuts_its_documents_anew_and_leaves_those_with_their_own() {
    let server = Setup::default().start();
    let recut = Recut::prepare(&server, 20);
    let (store, file) = (&recut.store, &recut.file);
    let own = server.upload("own.md", book(4).as_bytes()).ok()["id"].clone();
    let own = own.as_str().unwrap();
    let document = |file: &str| {
        server
            .get(&format!("/v1/vector_stores/{store}/files/{file}"))
            .ok()
    };
    let cut = |strategy: Value| {
        let body = json!({ "chunking_strategy": strategy });
        server
            .post(&format!("/v1/vector_stores/{store}"), body)
            .ok();
    };
    let wait_for = |file: &str, strategy: Value| {
        let deadline = Instant::now() + PATIENCE;
        while document(file)["chunking_strategy"] != strategy {
            assert!(Instant::now() < deadline, "{}", document(file));
            assert_eq!(document(file)["status"], "completed");
            recut.search(&server, 3);
        }
    };
    cut(sizes(NEW.0, NEW.1));
    wait_for(file, sizes(NEW.0, NEW.1));
    let now = found(&server, store, "house 3 counted 4 lamps");
    assert!(!now.is_empty() && now.is_subset(&recut.new));

    let body = json!({ "file_id": own, "chunking_strategy": sizes(150, 0) });
    server
        .post(&format!("/v1/vector_stores/{store}/files"), body)
        .ok();
    let before = server.wait_for(store, own);
    cut(Value::Null);
    wait_until_idle(&server);
    let auto = document(file)["chunking_strategy"].clone();
    assert_ne!(auto, sizes(NEW.0, NEW.1), "as the settings say");
    let request = json!({ "vector_store_id": store, "chunking": sizes(OLD.0, OLD.1) });
    server.post("/api/reindex", request).ok();
    wait_until_idle(&server);
    assert_eq!(document(file)["chunking_strategy"], sizes(OLD.0, OLD.1));
    let after = document(own);
    for field in ["chunking_strategy", "num_chunks"] {
        assert_eq!(after[field], before[field]);
    }
    assert_eq!(after["chunking_strategy"], sizes(150, 0));
    // Nothing is left to do, and nothing need be said to ask for it.
    let reply = server.post_bytes("/api/reindex", b"", "application/json");
    assert_eq!(reply.ok()["num_documents"], 0);
}

#[test]
fn re_indexing_survives_a_kill_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let setup = || Setup::default().in_dir(dir.path());
    let server = setup().start();
    let recut = Recut::prepare(&server, 150);
    recut.start(&server);
    let deadline = Instant::now() + PATIENCE;
    let stopped_at = loop {
        let state = state(&server);
        assert_eq!(
            state["status"], "in_progress",
            "it was too quick to be killed: {state}"
        );
        let done = state["chunks_done"].as_u64().unwrap();
        if done > 0 {
            break done;
        }
        assert!(Instant::now() < deadline, "{state}");
    };
    server.kill();

    let server = setup().start();
    for at in 0..5 {
        recut.search(&server, at);
    }
    let first = state(&server);
    if first["status"] == "in_progress" {
        // What was stored before the kill is not done again.
        assert!(
            first["chunks_done"].as_u64().unwrap() >= stopped_at || first["num_running"] == 0,
            "{first}"
        );
    }
    let last = wait_until_idle(&server);
    assert_eq!(last["num_done"], 1, "{last}");
    let now = found(&server, &recut.store, "house 3 counted 4 lamps");
    assert!(!now.is_empty() && now.is_subset(&recut.new));
}

#[test]
fn re_indexing_can_be_taken_back() {
    let server = Setup::default().start();
    let recut = Recut::prepare(&server, 100);
    let started = recut.start(&server);
    assert_eq!(
        (&started["status"], &started["num_documents"]),
        (&json!("in_progress"), &json!(1))
    );
    let stopped = server.delete("/api/reindex").ok();
    assert_eq!(stopped["status"], "idle", "{stopped}");
    let now = found(&server, &recut.store, "house 3 counted 4 lamps");
    assert!(!now.is_empty() && now.is_subset(&recut.old));
    let refused = server
        .post("/api/reindex", json!({ "chunking": sizes(100, 0) }))
        .error(400);
    assert_eq!(refused["param"], "chunking");
    server
        .post("/api/reindex", json!({ "vector_store_id": "vs_none" }))
        .error(404);
}

#[test]
fn a_running_server_does_the_work_of_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::default().in_dir(dir.path()).start();
    let recut = Recut::prepare(&server, 3);
    // As the chunker of an earlier version left it.
    let connection = rusqlite::Connection::open(dir.path().join("inglenook.db")).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    connection
        .execute("UPDATE documents SET chunker_version = 0", [])
        .unwrap();
    let output = program(dir.path())
        .arg("--embedding-model")
        .arg(&models().embedder)
        .arg("reembed")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("1 documents were embedded anew"), "{said}");
    assert_eq!(state(&server)["num_done"], 1);
    recut.search(&server, 1);
}

fn notices(server: &TestServer) -> Vec<String> {
    let status = server.get("/api/status").ok();
    let notices = status["notices"].as_array().unwrap().iter();
    notices
        .map(|it| it.as_str().unwrap().to_owned())
        .filter(|it| it.contains("reembed"))
        .collect()
}

fn hits(server: &TestServer, store: &str, query: &str) -> Vec<Value> {
    let body = json!({ "query": query, "max_num_results": 50 });
    let found = server
        .post(&format!("/v1/vector_stores/{store}/search"), body)
        .ok();
    found["data"].as_array().unwrap().clone()
}

#[test]
fn after_a_change_of_the_model_the_earlier_one_answers_until_all_is_embedded_anew() {
    let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let former = folder.path().join("former-bert");
    copy(&models().embedder, &former);
    let setup = |model: &Path| Setup {
        embedding_model: Some(model.to_owned()),
        ..Setup::default().in_dir(dir.path())
    };
    let server = setup(&former).start();
    let store = create_store(&server, json!({}));
    server.ingest(&store, "book.md", book(4).as_bytes());
    let query = "house 3 counted 4 lamps";
    let num_before = hits(&server, &store, query).len();
    assert!(num_before > 0 && notices(&server).is_empty());
    server.signal("TERM");
    server.wait();

    let other = other_embedder(folder.path());
    let server = setup(&other).start();
    let said = notices(&server);
    assert!(
        said.len() == 1 && said[0].contains("loaded beside"),
        "{said:?}"
    );
    let found = hits(&server, &store, query);
    assert_eq!(found.len(), num_before);
    assert!(
        found.iter().all(|hit| hit["similarity"].is_f64()),
        "{found:?}"
    );
    assert_eq!(state(&server)["num_of_other_models"], 1);
    // What comes now is of the new model, and both are found together.
    let (new, _) = server.ingest(
        &store,
        "new.md",
        b"The keeper of house 3 counted 4 lamps today.",
    );
    let files: BTreeSet<String> = hits(&server, &store, query)
        .iter()
        .map(|hit| hit["file_id"].as_str().unwrap().to_owned())
        .collect();
    assert!(files.len() == 2 && files.contains(&new), "{files:?}");
    server.kill();

    // Without the model its documents are found by their words.
    std::fs::remove_dir_all(&former).unwrap();
    let server = setup(&other).start();
    let said = notices(&server);
    assert!(
        said.len() == 1 && said[0].contains("by their words only"),
        "{said:?}"
    );
    let found = hits(&server, &store, query);
    let of_former = |hits: &[Value]| {
        hits.iter()
            .filter(|hit| hit["file_id"] != new.as_str())
            .cloned()
            .collect::<Vec<_>>()
    };
    let by_words = of_former(&found);
    assert!(
        !by_words.is_empty() && by_words.iter().all(|hit| hit["similarity"].is_null()),
        "{found:?}"
    );

    server.post("/api/reindex", json!({})).ok();
    let last = wait_until_idle(&server);
    assert_eq!(
        (&last["num_done"], &last["num_of_other_models"]),
        (&json!(1), &json!(0)),
        "{last}"
    );
    assert!(notices(&server).is_empty());
    let by_meaning = of_former(&hits(&server, &store, query));
    assert!(!by_meaning.is_empty() && by_meaning.iter().all(|hit| hit["similarity"].is_f64()));
}
