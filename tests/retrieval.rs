//! Retrieval by the product's own path, with a real embedding model, on public collections with judgments.

mod common;

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{PATIENCE, Setup, TestServer};
use inglenook::test_data;
use serde_json::{Value, json};

/// Lines of a compressed JSON file.
fn lines(path: &Path) -> Vec<Value> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Relevant documents of each query.
fn judgments(path: &Path) -> HashMap<String, HashSet<String>> {
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

/// Normalised discounted cumulative gain of the first ten, with binary gains (Järvelin and Kekäläinen, 2002).
fn ndcg_at_10(ranking: &[String], relevant: &HashSet<String>) -> f64 {
    let discount = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
    let gained: f64 = ranking
        .iter()
        .take(10)
        .enumerate()
        .filter(|(_, id)| relevant.contains(*id))
        .map(|(rank, _)| discount(rank))
        .sum();
    let best: f64 = (0..relevant.len().min(10)).map(discount).sum();
    gained / best
}

fn id(value: &Value) -> String {
    let id = value.get("_id").or(value.get("id")).unwrap();
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

/// Uploads the collection document by document and asks every query. Returns the mean nDCG@10.
fn measure(server: &TestServer, name: &str) -> f64 {
    let dir = test_data::dir().unwrap().join("retrieval").join(name);
    let store = server
        .post("/v1/vector_stores", json!({ "name": name }))
        .ok();
    let store = store["id"].as_str().unwrap();
    let mut ids: HashMap<String, String> = HashMap::new();
    for document in lines(&dir.join("corpus.jsonl.gz")) {
        let text = format!(
            "{}\n\n{}",
            document["title"].as_str().unwrap_or_default(),
            document["text"].as_str().unwrap_or_default()
        );
        if text.trim().is_empty() {
            continue;
        }
        let file = server.upload("document.txt", text.trim().as_bytes()).ok()["id"]
            .as_str()
            .unwrap()
            .to_string();
        server
            .post(
                &format!("/v1/vector_stores/{store}/files"),
                json!({ "file_id": file }),
            )
            .ok();
        ids.insert(file, id(&document));
    }
    wait_until_ingested(server, store, ids.len());
    let relevant = judgments(&dir.join("qrels.tsv"));
    let mut gains = Vec::new();
    for query in lines(&dir.join("queries.jsonl.gz")) {
        let Some(relevant) = relevant.get(&id(&query)) else {
            continue;
        };
        let body = json!({ "query": query["text"], "max_num_results": 30 });
        let found = server
            .post(&format!("/v1/vector_stores/{store}/search"), body)
            .ok();
        let mut seen = HashSet::new();
        let ranking = found["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hit| ids[hit["file_id"].as_str().unwrap()].clone());
        let ranking: Vec<String> = ranking.filter(|id| seen.insert(id.clone())).collect();
        gains.push(ndcg_at_10(&ranking, relevant));
    }
    let mean = gains.iter().sum::<f64>() / gains.len() as f64;
    println!(
        "{name}: nDCG@10 {mean:.4} over {} queries and {} documents",
        gains.len(),
        ids.len()
    );
    mean
}

/// A whole collection takes its time; only standing still is a failure.
fn wait_until_ingested(server: &TestServer, store: &str, num_documents: usize) {
    let (mut num_done, mut last_change) = (0, Instant::now());
    while num_done < num_documents as u64 {
        let counts = server.get(&format!("/v1/vector_stores/{store}")).ok()["file_counts"].clone();
        assert_eq!(counts["failed"], 0, "{counts}");
        let now_done = counts["completed"].as_u64().unwrap();
        if now_done > num_done {
            (num_done, last_change) = (now_done, Instant::now());
        }
        assert!(
            last_change.elapsed() < PATIENCE,
            "ingestion stands still: {counts}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn server_with_minilm() -> Option<TestServer> {
    test_data::require("retrieval/xquad_en")?;
    let model = test_data::require("embed/all-MiniLM-L6-v2")?;
    Some(
        Setup {
            embedding_model: Some(model),
            ..Setup::default()
        }
        .start(),
    )
}

#[test]
fn xquad_passages_are_found_as_well_as_promised() {
    let Some(server) = server_with_minilm() else {
        return;
    };
    let ndcg = measure(&server, "xquad_en");
    assert!(ndcg >= 0.94, "{ndcg}");
}

#[test]
fn cranfield_abstracts_are_found_as_well_as_promised() {
    let Some(server) = server_with_minilm() else {
        return;
    };
    let ndcg = measure(&server, "cranfield");
    assert!(ndcg >= 0.39, "{ndcg}");
}
