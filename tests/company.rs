//! A sequence's output does not depend on its company: the real decoder under the real engine gives the same greedy
//! tokens alone, among others, in small prefill chunks, from a cached prefix, preempted, as one of several choices and
//! with drafts.

use std::path::Path;

use futures_util::StreamExt;
use inglenook::device::{ComputeDevice, DeviceChoice};
use inglenook::engine::{
    Engine, EngineConfig, GenerationRequest, Speculation, TokenEvent, TokenStream, Usage,
};
use inglenook::llm::testing::{TinyModel, write_tiny_gguf};
use inglenook::llm::{CacheSize, Decoder, LoadOptions};
use inglenook::test_data;

const NUM_TOKENS: usize = 40;

/// Plain decoding, one token a step.
fn plain() -> EngineConfig {
    EngineConfig {
        speculation: Speculation::Off,
        ..EngineConfig::default()
    }
}

fn engine(model: &Path, config: EngineConfig) -> Engine {
    engine_with_cache(model, config, 4096)
}

fn engine_with_cache(model: &Path, config: EngineConfig, num_tokens: usize) -> Engine {
    let device = ComputeDevice::select(DeviceChoice::Cpu).unwrap();
    let options = LoadOptions {
        cache_size: CacheSize::Tokens(num_tokens),
        ..LoadOptions::default()
    };
    Engine::start(
        Box::new(Decoder::open(model, &device, &options).unwrap()),
        config,
    )
}

/// A prompt of its own for every number; the first reaches over several of the attention's spans.
fn prompt(number: u32) -> Vec<u32> {
    let length = if number == 0 { 230 } else { 30 + number * 11 };
    (0..length)
        .map(|position| (position * 7 + number * 31 + 3) % 150)
        .collect()
}

fn request(prompt: Vec<u32>) -> GenerationRequest {
    GenerationRequest::greedy(prompt, NUM_TOKENS)
}

async fn greedy(engine: &Engine, prompt: Vec<u32>) -> (Vec<u32>, Usage) {
    collect(engine.submit(request(prompt)).unwrap()).await
}

async fn collect(mut stream: TokenStream) -> (Vec<u32>, Usage) {
    let mut tokens = Vec::new();
    while let Some(event) = stream.next().await {
        match event.unwrap() {
            TokenEvent::Token(token) => tokens.push(token.id),
            TokenEvent::Finished { usage, .. } => return (tokens, usage),
        }
    }
    panic!("the stream had no end");
}

#[tokio::test]
async fn tiny_models_do_not_depend_on_their_company() {
    for model in [
        TinyModel::llama(),
        TinyModel::qwen2(),
        TinyModel::qwen3(),
        TinyModel::gemma3(),
        TinyModel::qwen3moe(),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.gguf");
        write_tiny_gguf(&path, &model).unwrap();
        tokens_are_the_same_in_any_company(&path).await;
    }
}

#[tokio::test]
async fn the_bundled_model_does_not_depend_on_its_company() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/bundled/chat/inglenook-demo-chat.gguf");
    tokens_are_the_same_in_any_company(&path).await;
}

#[tokio::test]
async fn a_model_of_real_weights_does_not_depend_on_its_company() {
    if let Some(path) = test_data::require("lm/stories260K.gguf") {
        tokens_are_the_same_in_any_company(&path).await;
    }
}

async fn tokens_are_the_same_in_any_company(model: &Path) {
    let name = model.display();
    let alone = engine(model, plain());
    let (expected, usage) = greedy(&alone, prompt(0)).await;
    assert_eq!(
        (expected.len(), usage.num_cached_tokens),
        (NUM_TOKENS, 0),
        "{name}"
    );

    let (again, usage) = greedy(&alone, prompt(0)).await;
    assert!(
        usage.num_cached_tokens > 0,
        "{name}: the second time finds its prefix in the cache"
    );
    assert_eq!(again, expected, "{name}: after cache reuse");

    let shared = engine(model, plain());
    let mut all =
        futures_util::future::join_all((0..8).map(|number| greedy(&shared, prompt(number)))).await;
    assert_eq!(all.remove(0).0, expected, "{name}: with seven others");

    let chunked = engine(
        model,
        EngineConfig {
            prefill_chunk: 7,
            ..plain()
        },
    );
    assert_eq!(
        greedy(&chunked, prompt(0)).await.0,
        expected,
        "{name}: prefill in chunks of 7"
    );

    let choices = shared.submit_choices(request(prompt(0)), 3).unwrap();
    for (tokens, _) in futures_util::future::join_all(choices.into_iter().map(collect)).await {
        assert_eq!(tokens, expected, "{name}: as one of three choices");
    }

    let drafting = engine(
        model,
        EngineConfig {
            speculation: Speculation::Always,
            ..EngineConfig::default()
        },
    );
    let mut all =
        futures_util::future::join_all((0..8).map(|number| greedy(&drafting, prompt(number))))
            .await;
    assert_eq!(all.remove(0).0, expected, "{name}: with drafts");
    assert!(drafting.stats().num_drafted_tokens > 0, "{name}");

    // Eight sequences of up to 230 + 40 tokens have 300 positions.
    let crowded = engine_with_cache(model, plain(), 300);
    let mut all =
        futures_util::future::join_all((0..8).map(|number| greedy(&crowded, prompt(number)))).await;
    assert!(crowded.stats().num_preemptions > 0, "{name}");
    assert_eq!(
        all.remove(0).0,
        expected,
        "{name}: with seven others in little memory"
    );
    for (number, (tokens, _)) in all.into_iter().enumerate() {
        let (alone, _) = greedy(&alone, prompt(number as u32 + 1)).await;
        assert_eq!(tokens, alone, "{name}: prompt {}", number + 1);
    }
}
