//! The cross-encoder against transformers, and what happens to pairs that are too long.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;

use super::super::bert::Tokens;
use super::super::config::{Architecture, ScoreHead};
use super::super::cross_encoder::CrossEncoder;
use super::super::testing::write_tiny_cross_encoder;
use super::super::weights::Weights;
use super::super::{
    EmbeddingError, Placement, Precision, Priority, RerankPair, Reranker, RerankerOptions, Score,
    TooLong,
};

#[derive(Deserialize)]
struct Golden {
    config: serde_json::Value,
    pairs: Vec<GoldenPair>,
    tensors: BTreeMap<String, Vec<usize>>,
}

#[derive(Deserialize)]
struct GoldenPair {
    ids: Vec<u32>,
    num_first: usize,
    logit: f32,
}

/// The closed form of tests/goldens/make_rerank_goldens.py.
fn values(name: &str, num_values: usize) -> Vec<u8> {
    let phase = f64::from(name.bytes().map(u32::from).sum::<u32>() % 1000);
    let value = |i: usize| {
        let value = (0.37 * i as f64 + phase).sin();
        if name.ends_with("LayerNorm.weight") {
            1.0 + 0.1 * value
        } else if name.contains("embeddings") && name.ends_with("weight") {
            0.5 * value
        } else {
            0.2 * value
        }
    };
    let values = (0..num_values).map(|i| value(i) as f32);
    values.flat_map(f32::to_le_bytes).collect()
}

#[test]
fn scores_agree_with_transformers_alone_and_in_company() {
    let goldens = include_str!("../../../tests/goldens/rerank_goldens.json");
    let goldens: BTreeMap<String, Golden> = serde_json::from_str(goldens).unwrap();
    for (name, golden) in &goldens {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), golden.config.to_string()).unwrap();
        let tensors = golden.tensors.iter();
        let tensors: Vec<_> = tensors
            .map(|(name, shape)| (name, shape, values(name, shape.iter().product())))
            .collect();
        let views = tensors.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
            (name, view.unwrap())
        });
        let bytes = safetensors::serialize(views, None).unwrap();
        let weights = Weights::new(&bytes, Path::new("made here")).unwrap();
        let architecture = Architecture::read(dir.path()).unwrap();
        let head = ScoreHead::read(dir.path()).unwrap();
        let placement = Placement {
            device: Device::Cpu,
            precision: Precision::F32,
        };
        let model = CrossEncoder::load(&weights, &architecture, head, &placement).unwrap();
        let pairs: Vec<Tokens> = golden
            .pairs
            .iter()
            .map(|pair| Tokens {
                ids: pair.ids.clone(),
                num_first: pair.num_first,
            })
            .collect();
        let together = model.score(&pairs).unwrap();
        for ((pair, expected), in_company) in pairs.iter().zip(&golden.pairs).zip(together) {
            let alone = model.score(std::slice::from_ref(pair)).unwrap()[0];
            for logit in [alone, in_company] {
                let difference = (logit - expected.logit).abs();
                assert!(difference < 1e-5, "{name}: {logit} for {}", expected.logit);
            }
        }
    }
}

fn tiny() -> (tempfile::TempDir, Reranker) {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_cross_encoder(dir.path()).unwrap();
    let reranker = Reranker::load(dir.path(), RerankerOptions::default()).unwrap();
    (dir, reranker)
}

async fn score(
    reranker: &Reranker,
    query: &str,
    documents: &[String],
    too_long: TooLong,
) -> Result<Vec<Score>, EmbeddingError> {
    let query: Arc<str> = query.into();
    let pair = |document: &String| RerankPair {
        query: Arc::clone(&query),
        document: document.clone(),
        too_long,
    };
    let pairs = documents.iter().map(pair).collect();
    reranker.score(pairs, Priority::Interactive).await
}

#[tokio::test]
async fn a_document_that_is_too_long_is_refused_or_its_end_is_cut() {
    let (_dir, reranker) = tiny();
    assert_eq!(reranker.spec().max_tokens, 512);
    let short = "the heat pump".to_string();
    let long = "valve motor ".repeat(300);
    let documents = [short, long];
    let refused = score(&reranker, "heat pump", &documents, TooLong::Refuse).await;
    // [CLS] and two [SEP], two words and six hundred.
    assert!(matches!(
        refused,
        Err(EmbeddingError::PairTooLong {
            index: 1,
            num_tokens: 605,
            num_max_tokens: 512
        })
    ));
    let cut = score(&reranker, "heat pump", &documents, TooLong::Cut).await;
    let cut = cut.unwrap();
    assert_eq!(
        cut.iter().map(|it| it.num_tokens).collect::<Vec<_>>(),
        [8, 512]
    );
    assert_eq!(
        cut.iter().map(|it| it.is_cut).collect::<Vec<_>>(),
        [false, true]
    );
    // What was read is the query, whole, and the document's first 507 words.
    let begun = ["valve motor ".repeat(253) + "valve"];
    let whole = score(&reranker, "heat pump", &begun, TooLong::Refuse)
        .await
        .unwrap();
    assert_eq!((whole[0].logit, whole[0].num_tokens), (cut[1].logit, 512));
    let endless = "heat ".repeat(509);
    let refused = score(&reranker, &endless, &documents, TooLong::Cut).await;
    assert!(matches!(
        refused,
        Err(EmbeddingError::QueryTooLong {
            num_tokens: 512,
            num_max_tokens: 512
        })
    ));
}

#[tokio::test]
async fn query_and_document_are_told_apart() {
    let (_dir, reranker) = tiny();
    let one_way = score(&reranker, "heat", &["pump".into()], TooLong::Refuse).await;
    let other_way = score(&reranker, "pump", &["heat".into()], TooLong::Refuse).await;
    let (one_way, other_way) = (one_way.unwrap()[0], other_way.unwrap()[0]);
    assert_ne!(one_way.logit, other_way.logit);
    let expected = 1.0 / (1.0 + (-f64::from(one_way.logit)).exp());
    assert!((f64::from(one_way.relevance()) - expected).abs() < 1e-6);
}

#[test]
fn models_that_give_no_single_score_are_refused_by_name() {
    let (dir, _) = tiny();
    let config = dir.path().join("config.json");
    let whole: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let mut two_labels = whole.clone();
    two_labels["id2label"] = serde_json::json!({ "0": "no", "1": "yes" });
    let mut embedder = whole.clone();
    embedder["architectures"] = serde_json::json!(["BertModel"]);
    for (fields, part) in [(two_labels, "2 labels"), (embedder, "BertModel")] {
        std::fs::write(&config, fields.to_string()).unwrap();
        let refused = Reranker::load(dir.path(), RerankerOptions::default());
        let message = refused.err().unwrap().to_string();
        assert!(message.contains(part), "{message}");
    }
}
