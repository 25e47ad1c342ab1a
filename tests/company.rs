//! A sequence's output does not depend on its company: the real decoder under the real engine gives the same greedy
//! tokens alone, among others, in small prefill chunks and from a cached prefix.

use futures_util::StreamExt;
use inglenook::device::{ComputeDevice, DeviceChoice};
use inglenook::engine::{
    Engine, EngineConfig, GenerationRequest, SamplingParams, TokenEvent, Usage,
};
use inglenook::llm::testing::{TinyModel, write_tiny_gguf};
use inglenook::llm::{CacheSize, Decoder, LoadOptions};

const NUM_TOKENS: usize = 40;

fn engine(model: &TinyModel, config: EngineConfig) -> Engine {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    write_tiny_gguf(&path, model).unwrap();
    let device = ComputeDevice::select(DeviceChoice::Cpu).unwrap();
    let options = LoadOptions {
        cache_size: CacheSize::Tokens(4096),
        ..LoadOptions::default()
    };
    Engine::start(
        Box::new(Decoder::open(&path, &device, &options).unwrap()),
        config,
    )
}

/// A prompt of its own for every number.
fn prompt(number: u32) -> Vec<u32> {
    (0..30 + number * 11)
        .map(|position| (position * 7 + number * 31 + 3) % 150)
        .collect()
}

async fn greedy(engine: &Engine, prompt: Vec<u32>) -> (Vec<u32>, Usage) {
    let mut stream = engine
        .submit(GenerationRequest {
            prompt,
            max_tokens: NUM_TOKENS,
            end_tokens: Vec::new(),
            sampling: SamplingParams::greedy(),
            logprobs: None,
            user: None,
        })
        .unwrap();
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
async fn greedy_tokens_are_the_same_in_any_company() {
    for model in [
        TinyModel::llama(),
        TinyModel::qwen2(),
        TinyModel::qwen3(),
        TinyModel::gemma3(),
        TinyModel::qwen3moe(),
    ] {
        let name = model.architecture;
        let alone = engine(&model, EngineConfig::default());
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

        let shared = engine(&model, EngineConfig::default());
        let mut all =
            futures_util::future::join_all((0..8).map(|number| greedy(&shared, prompt(number))))
                .await;
        assert_eq!(all.remove(0).0, expected, "{name}: with seven others");

        let chunked = engine(
            &model,
            EngineConfig {
                prefill_chunk: 7,
                ..EngineConfig::default()
            },
        );
        assert_eq!(
            greedy(&chunked, prompt(0)).await.0,
            expected,
            "{name}: prefill in chunks of 7"
        );
    }
}
