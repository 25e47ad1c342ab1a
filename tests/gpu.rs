//! Embedding, and chat beside it, on an NVIDIA GPU. Skipped where there is none, unless `INGLENOOK_REQUIRE_GPU=1` says that there
//! must be one.

#![cfg(feature = "cuda")]

use std::path::Path;

use futures_util::StreamExt;
use inglenook::device::{ComputeDevice, DeviceChoice};
use inglenook::embedding::testing::write_tiny_bert;
use inglenook::embedding::{Embedder, EmbedderOptions, InputKind, Precision, Priority};
use inglenook::engine::{Engine, EngineConfig, GenerationRequest, TokenEvent};
use inglenook::llm::testing::{TinyModel, write_tiny_gguf};
use inglenook::llm::{CacheSize, Decoder, LoadOptions};
use inglenook::test_data::{require, require_gpu};

fn cpu() -> ComputeDevice {
    ComputeDevice::select(DeviceChoice::Cpu).unwrap()
}

fn embedder(folder: &Path, device: &ComputeDevice, precision: Precision) -> Embedder {
    let options = EmbedderOptions {
        device: Some(device.candle().clone()),
        precision,
        ..EmbedderOptions::default()
    };
    Embedder::load(folder, options).unwrap()
}

/// Of all lengths.
fn texts() -> Vec<String> {
    let words = "the keeper of a lighthouse writes down when ships pass and what they carry ";
    (0..40)
        .map(|index| words.repeat(1 + index % 7)[index..].to_owned())
        .collect()
}

async fn vectors(embedder: &Embedder, texts: &[String]) -> Vec<Vec<f32>> {
    let embedded = embedder.embed(texts.to_vec(), InputKind::Passage, Priority::Background);
    embedded.await.unwrap().vectors
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[tokio::test]
async fn vectors_are_those_of_the_cpu_in_any_company() {
    let Some(device) = require_gpu() else { return };
    let tiny = tempfile::tempdir().unwrap();
    write_tiny_bert(tiny.path()).unwrap();
    let minilm = require("embed/all-MiniLM-L6-v2");
    for folder in [Some(tiny.path()), minilm.as_deref()].into_iter().flatten() {
        let expected = vectors(&embedder(folder, &cpu(), Precision::F32), &texts()).await;
        // In f16 and in f32.
        for (precision, least) in [(Precision::Int8, 0.999), (Precision::F32, 0.9999)] {
            let embedder = embedder(folder, &device, precision);
            let found = vectors(&embedder, &texts()).await;
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let similarity = cosine(found, expected);
                assert!(similarity > least, "{folder:?}, {index}: {similarity}");
            }
            // cuBLAS chooses its kernels by the number of rows, so the bits may differ.
            let alone = vectors(&embedder, &texts()[7..8]).await;
            let similarity = cosine(&alone[0], &found[7]);
            assert!(similarity > 0.999_99, "{folder:?}: {similarity}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_and_embedding_at_once_give_what_they_give_alone() {
    let Some(device) = require_gpu() else { return };
    let dir = tempfile::tempdir().unwrap();
    write_tiny_bert(dir.path()).unwrap();
    let embedder = embedder(dir.path(), &device, Precision::Int8);
    let chat = dir.path().join("chat.gguf");
    write_tiny_gguf(&chat, &TinyModel::llama()).unwrap();
    let options = LoadOptions {
        cache_size: CacheSize::Tokens(4096),
        ..LoadOptions::default()
    };
    let decoder = Decoder::open(&chat, &device, &options).unwrap();
    let engine = Engine::start(Box::new(decoder), EngineConfig::default());
    let embedded = vectors(&embedder, &texts()).await;
    let answer = greedy(&engine).await;
    for _ in 0..20 {
        let texts = texts();
        let (vectors, first, second) =
            tokio::join!(vectors(&embedder, &texts), greedy(&engine), greedy(&engine));
        for (vector, expected) in vectors.iter().zip(&embedded) {
            let similarity = cosine(vector, expected);
            assert!(similarity > 0.999_99, "{similarity}");
        }
        assert_eq!([first, second], [answer.clone(), answer.clone()]);
    }
}

async fn greedy(engine: &Engine) -> Vec<u32> {
    let prompt = (0..60).map(|position| position * 7 % 150);
    let request = GenerationRequest::greedy(prompt.collect(), 60);
    let mut stream = engine.submit(request).unwrap();
    let mut tokens = Vec::new();
    while let Some(event) = stream.next().await {
        match event.unwrap() {
            TokenEvent::Token(token) => tokens.push(token.id),
            TokenEvent::Finished { .. } => return tokens,
        }
    }
    panic!("the stream had no end");
}
