//! How much of what answers a question stands in the passages that are found for it: the gold spans of Smith and
//! Troynikov's "Evaluating Chunking Strategies for Retrieval" (2024), by the product's own path. Five corpora in one
//! collection; recall is the share of a question's gold bytes in its five passages, precision the share of the passages'
//! bytes that are gold, both as means over the questions.

mod common;

use std::collections::HashMap;
use std::ops::Range;

use common::collection::wait_until_ingested;
use common::{Setup, TestServer};
use inglenook::test_data;
use serde_json::{Value, json};

const CORPORA: [&str; 5] = [
    "chatlogs",
    "finance",
    "pubmed",
    "state_of_the_union",
    "wikitexts",
];
/// Passages for each question.
const NUM_PASSAGES: usize = 5;

struct Question {
    text: String,
    corpus: String,
    /// Bytes of the corpus, in order and apart.
    gold: Vec<Range<usize>>,
}

/// Means over the questions.
#[derive(Debug, Default)]
struct Scores {
    recall: f64,
    precision: f64,
    /// Intersection over union.
    iou: f64,
}

fn corpora() -> HashMap<String, String> {
    let read = |name: &str| {
        let path = test_data::dir()
            .unwrap()
            .join(format!("retrieval/chunking_eval/corpora/{name}.md"));
        (name.to_owned(), std::fs::read_to_string(path).unwrap())
    };
    CORPORA.into_iter().map(read).collect()
}

fn questions(corpora: &HashMap<String, String>) -> Vec<Question> {
    let path = test_data::dir()
        .unwrap()
        .join("retrieval/chunking_eval/questions.jsonl");
    // Where each character begins, since the references count those.
    let offsets: HashMap<&str, Vec<usize>> = corpora
        .iter()
        .map(|(name, text)| {
            let starts = text.char_indices().map(|(at, _)| at);
            (name.as_str(), starts.chain([text.len()]).collect())
        })
        .collect();
    let lines = std::fs::read_to_string(path).unwrap();
    let question = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let corpus = line["corpus_id"].as_str().unwrap().to_owned();
        let offsets = &offsets[corpus.as_str()];
        let span = |reference: &Value| {
            let at = |name: &str| offsets[reference[name].as_u64().unwrap() as usize];
            let span = at("start_index")..at("end_index");
            assert_eq!(
                reference["content"].as_str().unwrap(),
                &corpora[&corpus][span.clone()]
            );
            span
        };
        let spans = line["references"].as_array().unwrap().iter().map(span);
        Question {
            text: line["question"].as_str().unwrap().to_owned(),
            gold: union(spans.collect()),
            corpus,
        }
    };
    lines.lines().map(question).collect()
}

/// The same bytes, each once.
fn union(mut spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
    spans.sort_by_key(|span| span.start);
    let mut apart: Vec<Range<usize>> = Vec::new();
    for span in spans {
        match apart.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => apart.push(span),
        }
    }
    apart
}

fn num_bytes(spans: &[Range<usize>]) -> usize {
    spans.iter().map(Range::len).sum()
}

fn num_shared(some: &[Range<usize>], others: &[Range<usize>]) -> usize {
    let shared =
        |a: &Range<usize>, b: &Range<usize>| a.end.min(b.end).saturating_sub(a.start.max(b.start));
    some.iter()
        .flat_map(|a| others.iter().map(move |b| shared(a, b)))
        .sum()
}

/// Corpora in a vector store, with the ids of their files.
struct Collection {
    vector_store: String,
    files: HashMap<String, String>,
}

fn load(
    server: &TestServer,
    corpora: &HashMap<String, String>,
    chunking: Option<(u32, u32)>,
) -> Collection {
    let strategy = chunking.map(|(size, overlap)| {
        json!({ "type": "static", "static": { "max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap } })
    });
    let created = server.post("/v1/vector_stores", json!({})).ok();
    let vector_store = created["id"].as_str().unwrap().to_owned();
    let mut files = HashMap::new();
    for name in CORPORA {
        let file = server
            .upload(&format!("{name}.md"), corpora[name].as_bytes())
            .ok();
        let id = file["id"].as_str().unwrap().to_owned();
        let mut body = json!({ "file_id": id });
        if let Some(strategy) = &strategy {
            body["chunking_strategy"] = strategy.clone();
        }
        server
            .post(&format!("/v1/vector_stores/{vector_store}/files"), body)
            .ok();
        files.insert(id, name.to_owned());
    }
    wait_until_ingested(server, &vector_store, CORPORA.len());
    Collection {
        vector_store,
        files,
    }
}

fn measure(
    server: &TestServer,
    corpora: &HashMap<String, String>,
    collection: &Collection,
    weights: [f32; 2],
) -> Scores {
    let questions = questions(corpora);
    let mut scores = Scores::default();
    let mut by_corpus: HashMap<&str, Vec<f64>> = HashMap::new();
    for question in &questions {
        let body = json!({
            "query": question.text,
            "max_num_results": NUM_PASSAGES,
            "ranking_options": { "hybrid_search": { "embedding_weight": weights[0], "text_weight": weights[1] } },
        });
        let path = format!("/v1/vector_stores/{}/search", collection.vector_store);
        let found = server.post(&path, body).ok();
        let found = found["data"].as_array().unwrap();
        let (mut in_corpus, mut all) = (Vec::new(), 0);
        for hit in found {
            let number = |name: &str| hit[name].as_u64().unwrap() as usize;
            let span = number("start")..number("end");
            let corpus = &collection.files[hit["file_id"].as_str().unwrap()];
            all += span.len();
            if *corpus == question.corpus {
                in_corpus.push(span);
            }
        }
        let found = union(in_corpus);
        let shared = num_shared(&found, &question.gold) as f64;
        let (gold, all) = (num_bytes(&question.gold) as f64, all as f64);
        let count = questions.len() as f64;
        scores.recall += shared / gold / count;
        scores.precision += shared / all / count;
        scores.iou += shared / (gold + all - shared) / count;
        by_corpus
            .entry(&question.corpus)
            .or_default()
            .push(shared / gold);
    }
    let mut means: Vec<(&str, f64)> = by_corpus
        .into_iter()
        .map(|(corpus, shares)| (corpus, shares.iter().sum::<f64>() / shares.len() as f64))
        .collect();
    means.sort_by_key(|(corpus, _)| *corpus);
    println!("  weights {weights:?}: {scores:.4?}, recall by corpus {means:.3?}");
    scores
}

fn server_with_minilm() -> Option<TestServer> {
    test_data::require("retrieval/chunking_eval")?;
    let model = test_data::require("embed/all-MiniLM-L6-v2")?;
    let setup = Setup {
        embedding_model: Some(model),
        ..Setup::default()
    };
    Some(setup.start())
}

const HYBRID: [f32; 2] = [1.0, 1.0];
const MEANING: [f32; 2] = [1.0, 0.0];
const WORDS: [f32; 2] = [0.0, 1.0];

#[test]
fn five_passages_hold_what_answers_a_question() {
    let Some(server) = server_with_minilm() else {
        return;
    };
    let corpora = corpora();
    let collection = load(&server, &corpora, None);
    let [hybrid, meaning, words] =
        [HYBRID, MEANING, WORDS].map(|weights| measure(&server, &corpora, &collection, weights));
    assert!(hybrid.recall >= 0.90, "{hybrid:?}");
    assert!(
        hybrid.recall >= meaning.recall.max(words.recall),
        "{hybrid:?} {meaning:?} {words:?}"
    );
}

/// Measures sizes and overlaps: run with `cargo test --release --test chunking_eval -- --ignored --nocapture`.
#[test]
#[ignore = "slow"]
fn sizes_and_overlaps_compared() {
    let Some(server) = server_with_minilm() else {
        return;
    };
    let corpora = corpora();
    for chunking in [(100, 0), (128, 0), (200, 0), (256, 0), (256, 32), (256, 64)] {
        println!("chunks of {chunking:?} tokens");
        let collection = load(&server, &corpora, Some(chunking));
        for weights in [HYBRID, MEANING, WORDS] {
            let scores = measure(&server, &corpora, &collection, weights);
            assert!(scores.recall > scores.precision);
        }
    }
}
