//! The engine as a whole, with a fake model: what its tests share.

use futures_util::StreamExt;

use super::testing::{FakeModel, FakeModelOptions, Probe, greedy_reference};
use super::*;

mod constraint;
mod drawing;
mod lifecycle;
mod output;

const VOCAB_SIZE: usize = 64;

/// Without what depends on the clock: steps can be foretold.
fn config() -> EngineConfig {
    EngineConfig {
        max_stretch: f64::INFINITY,
        speculation: Speculation::Off,
        ..EngineConfig::default()
    }
}

fn start(options: FakeModelOptions, config: EngineConfig) -> (Engine, Probe) {
    let model = FakeModel::new(options);
    let probe = model.probe();
    (Engine::start(Box::new(model), config), probe)
}

fn start_default() -> (Engine, Probe) {
    start(FakeModelOptions::default(), config())
}

fn greedy(prompt: Vec<u32>, max_tokens: usize) -> GenerationRequest {
    GenerationRequest::greedy(prompt, max_tokens)
}

/// A prompt that shares no prefix with one of another `salt`.
fn prompt(salt: u32, num_tokens: u32) -> Vec<u32> {
    (0..num_tokens)
        .map(|position| (salt * 7 + position * 5 + 1) % VOCAB_SIZE as u32)
        .collect()
}

#[derive(Debug, Clone, PartialEq)]
struct Output {
    tokens: Vec<u32>,
    end: Result<(FinishReason, Usage), EngineError>,
}

async fn collect(mut stream: TokenStream) -> Output {
    let mut tokens = Vec::new();
    loop {
        match stream.next().await.expect("a stream has an end event") {
            Ok(TokenEvent::Token(token)) => tokens.push(token.id),
            Ok(TokenEvent::Finished { reason, usage }) => {
                assert!(stream.next().await.is_none());
                let end = Ok((reason, usage));
                return Output { tokens, end };
            }
            Err(error) => {
                assert!(stream.next().await.is_none());
                let end = Err(error);
                return Output { tokens, end };
            }
        }
    }
}

async fn generate(engine: &Engine, request: GenerationRequest) -> Output {
    collect(engine.submit(request).unwrap()).await
}

async fn next_token(stream: &mut TokenStream) -> u32 {
    match stream.next().await {
        Some(Ok(TokenEvent::Token(token))) => token.id,
        other => panic!("{other:?}"),
    }
}

fn reference(request: &GenerationRequest) -> Vec<u32> {
    greedy_reference(&request.prompt, request.max_tokens, VOCAB_SIZE)
}
