//! Retrieval by the product's own path, with real embedding models, on public collections with judgments.

mod common;

use std::collections::HashSet;
use std::path::Path;

use common::collection::{Loaded, id, judgments, lines, load};
use common::{Setup, TestServer};
use inglenook::test_data;
use serde_json::json;

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

/// The weights of meaning and of words in a search.
const HYBRID: [f32; 2] = [1.0, 1.0];
const MEANING: [f32; 2] = [1.0, 0.0];
const WORDS: [f32; 2] = [0.0, 1.0];

/// Loads the collection and asks every query with each of `weights`. Returns the mean nDCG@10 of each.
fn measure<const N: usize>(server: &TestServer, name: &str, weights: [[f32; 2]; N]) -> [f64; N] {
    let dir = test_data::dir().unwrap().join("retrieval").join(name);
    let loaded = load(server, &dir);
    weights.map(|weights| {
        let mean = measure_loaded(server, &loaded, &dir, weights);
        let num_documents = loaded.names.len();
        println!("{name}: nDCG@10 {mean:.4} with weights {weights:?}, {num_documents} documents");
        mean
    })
}

fn measure_loaded(server: &TestServer, loaded: &Loaded, dir: &Path, weights: [f32; 2]) -> f64 {
    let relevant = judgments(&dir.join("qrels.tsv"));
    let mut gains = Vec::new();
    for query in lines(&dir.join("queries.jsonl.gz")) {
        let Some(relevant) = relevant.get(&id(&query)) else {
            continue;
        };
        let [embedding_weight, text_weight] = weights;
        let body = json!({
            "query": query["text"],
            "max_num_results": 30,
            "ranking_options": {
                "hybrid_search": { "embedding_weight": embedding_weight, "text_weight": text_weight },
            },
        });
        let path = format!("/v1/vector_stores/{}/search", loaded.vector_store);
        let found = server.post(&path, body).ok();
        let mut seen = HashSet::new();
        let ranking = found["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hit| loaded.names[hit["file_id"].as_str().unwrap()].clone());
        let ranking: Vec<String> = ranking.filter(|id| seen.insert(id.clone())).collect();
        gains.push(ndcg_at_10(&ranking, relevant));
    }
    gains.iter().sum::<f64>() / gains.len() as f64
}

/// The embedding model that comes with the program.
fn server_with_bundled() -> Option<TestServer> {
    test_data::require("retrieval/xquad_en")?;
    let setup = Setup {
        embedding_model: None,
        ..Setup::default()
    };
    Some(setup.start())
}

#[test]
fn the_bundled_embedder_finds_what_it_should() {
    let Some(server) = server_with_bundled() else {
        return;
    };
    let [hybrid, meaning, words] = measure(&server, "xquad_en", [HYBRID, MEANING, WORDS]);
    assert!(meaning >= 0.91, "{meaning}");
    assert!(hybrid >= meaning.max(words), "{hybrid} {meaning} {words}");
}

/// Takes minutes, for thousands of abstracts: run with `cargo test --release --test retrieval -- --ignored`.
#[test]
#[ignore = "slow"]
fn the_bundled_embedder_finds_scientific_claims() {
    let Some(server) = server_with_bundled() else {
        return;
    };
    let [hybrid, meaning, words] = measure(&server, "scifact", [HYBRID, MEANING, WORDS]);
    assert!(meaning >= 0.54, "{meaning}");
    assert!(hybrid >= meaning.max(words), "{hybrid} {meaning} {words}");
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

/// Both searches together find at least `promised`, and no less than either alone.
fn is_found_as_promised(collection: &str, promised: f64) {
    let Some(server) = server_with_minilm() else {
        return;
    };
    let [hybrid, meaning, words] = measure(&server, collection, [HYBRID, MEANING, WORDS]);
    assert!(hybrid >= promised, "{hybrid}");
    assert!(hybrid >= meaning.max(words), "{hybrid} {meaning} {words}");
}

#[test]
fn xquad_passages_are_found_as_well_as_promised() {
    is_found_as_promised("xquad_en", 0.97);
}

#[test]
fn cranfield_abstracts_are_found_as_well_as_promised() {
    is_found_as_promised("cranfield", 0.43);
}

/// Takes minutes, for thousands of abstracts: run with `cargo test --release --test retrieval -- --ignored`.
#[test]
#[ignore = "slow"]
fn scientific_claims_are_found_as_well_as_promised() {
    is_found_as_promised("scifact", 0.70);
}
