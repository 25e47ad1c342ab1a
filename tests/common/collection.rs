//! Public collections of documents, questions and judgments, and what it takes to load one into a server.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PATIENCE, TestServer};

/// A collection in a vector store of its own.
pub struct Loaded {
    pub vector_store: String,
    /// Name of each document in the collection, by the id of its file.
    pub names: HashMap<String, String>,
    /// Text of each file as it was uploaded.
    pub texts: HashMap<String, String>,
}

/// Lines of a compressed JSON file.
pub fn lines(path: &Path) -> Vec<Value> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Relevant documents of each query.
pub fn judgments(path: &Path) -> HashMap<String, HashSet<String>> {
    let mut relevant: HashMap<String, HashSet<String>> = HashMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields[2].trim() != "0" {
            relevant
                .entry(fields[0].into())
                .or_default()
                .insert(fields[1].into());
        }
    }
    relevant
}

/// The name of a document or question.
pub fn id(value: &Value) -> String {
    let id = value.get("_id").or(value.get("id")).unwrap();
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

/// Uploads the collection in `dir` document by document; each file has its name in the collection as the attribute
/// `name`.
pub fn load(server: &TestServer, dir: &Path) -> Loaded {
    let vector_store = server
        .post("/v1/vector_stores", json!({ "name": "collection" }))
        .ok();
    let vector_store = vector_store["id"].as_str().unwrap().to_string();
    let mut loaded = Loaded {
        vector_store,
        names: HashMap::new(),
        texts: HashMap::new(),
    };
    for document in lines(&dir.join("corpus.jsonl.gz")) {
        let field = |name: &str| document[name].as_str().unwrap_or_default().to_string();
        let text = format!("{}\n\n{}", field("title"), field("text"));
        let text = text.trim().to_string();
        if text.is_empty() {
            continue;
        }
        let file = server.upload("document.txt", text.as_bytes()).ok();
        let file = file["id"].as_str().unwrap().to_string();
        let name = id(&document);
        let body = json!({ "file_id": file, "attributes": { "name": name } });
        server
            .post(
                &format!("/v1/vector_stores/{}/files", loaded.vector_store),
                body,
            )
            .ok();
        loaded.names.insert(file.clone(), name);
        loaded.texts.insert(file, text);
    }
    wait_until_ingested(server, &loaded.vector_store, loaded.names.len());
    loaded
}

/// A whole collection takes its time, and so does a long document; only standing still is a failure.
pub fn wait_until_ingested(server: &TestServer, store: &str, num_documents: usize) {
    let (mut progress, mut last_change) = ((0, 0), Instant::now());
    while progress.0 < num_documents as u64 {
        let counts = server.get(&format!("/v1/vector_stores/{store}")).ok()["file_counts"].clone();
        assert_eq!(counts["failed"], 0, "{counts}");
        let reading = server.get(&format!(
            "/v1/vector_stores/{store}/files?filter=in_progress"
        ));
        let reading = reading.ok();
        let files = reading["data"].as_array().unwrap().iter();
        let num_chunks = files.filter_map(|file| file["progress"]["chunks_done"].as_u64());
        let now = (counts["completed"].as_u64().unwrap(), num_chunks.sum());
        if now != progress {
            (progress, last_change) = (now, Instant::now());
        }
        assert!(
            last_change.elapsed() < PATIENCE,
            "ingestion stands still: {counts}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}
