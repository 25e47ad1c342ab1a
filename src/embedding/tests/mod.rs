//! What the embedder promises: exact vectors (checked against another implementation), fair turns, and errors in place of
//! hangs, panics and silent cuts.

mod files;
mod model;
mod queue;
mod rerank;

use std::path::Path;

use serde::Deserialize;

/// The reference made with torch and transformers from the same weights.
#[derive(Deserialize)]
struct Reference {
    model_safetensors_sha256: String,
    items: Vec<ReferenceItem>,
}

#[derive(Deserialize)]
struct ReferenceItem {
    name: String,
    text: String,
    input_ids: Vec<u32>,
    embedding: Vec<f32>,
}

fn reference(data: &Path) -> Reference {
    let bytes = std::fs::read(data.join("minilm_reference.json")).expect("the reference is there");
    serde_json::from_slice(&bytes).expect("the reference is valid")
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn tiny_bert() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    super::testing::write_tiny_bert(dir.path()).expect("the folder can be written");
    dir
}
