//! Constrained output: always within the grammar, never dependent on company or preemption.

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::ApproximateTokEnv;
use llguidance::{Matcher, ParserFactory};

use super::*;

/// The library's own vocabulary for tests: token `b` is byte `b`, then six control tokens, the last of which ends.
const END: u32 = 261;
const NUM_TOKENS: usize = 262;

fn constraint(grammar: &str) -> Constraint {
    let environment = ApproximateTokEnv::single_byte_env();
    let mut factory = ParserFactory::new_simple(&environment).unwrap();
    factory.quiet();
    let grammar = TopLevelGrammar::from_lark(grammar.to_owned());
    Constraint::new(Matcher::new(factory.create_parser(grammar)))
}

fn options() -> FakeModelOptions {
    FakeModelOptions {
        // More logits than the vocabulary has tokens.
        vocab_size: NUM_TOKENS + 38,
        ..FakeModelOptions::default()
    }
}

fn held(grammar: &str, max_tokens: usize) -> GenerationRequest {
    GenerationRequest {
        end_tokens: vec![END],
        constraint: Some(constraint(grammar)),
        ..greedy(vec![1, 2, 3], max_tokens)
    }
}

fn text(output: &Output) -> String {
    let bytes: Vec<u8> = output.tokens.iter().map(|&id| id as u8).collect();
    String::from_utf8(bytes).unwrap()
}

fn reason(output: &Output) -> FinishReason {
    output.end.as_ref().unwrap().0
}

#[tokio::test]
async fn output_stays_within_its_grammar_and_ends_with_it() {
    let (engine, _) = start(options(), config());
    let output = generate(&engine, held("start: /[a-c]{5}/ \" \" /[0-9]{3}/", 50)).await;
    let text = text(&output);
    let (letters, digits) = text.split_once(' ').unwrap();
    assert!(letters.len() == 5 && letters.bytes().all(|b| (b'a'..=b'c').contains(&b)));
    assert!(digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()));
    assert_eq!(reason(&output), FinishReason::EndToken);
    assert_eq!(output.end.unwrap().1.num_completion_tokens, 9);
}

#[tokio::test]
async fn an_end_token_comes_only_where_the_grammar_allows_it() {
    let model = FakeModel::new(options()).with_next_token(|_| END);
    let engine = Engine::start(Box::new(model), config());
    let output = generate(&engine, held("start: \"abc\" /d*/", 50)).await;
    assert_eq!(text(&output), "abc");
    assert_eq!(reason(&output), FinishReason::EndToken);
    let unconstrained = GenerationRequest {
        constraint: None,
        ..held("start: \"abc\"", 50)
    };
    assert!(generate(&engine, unconstrained).await.tokens.is_empty());
}

#[tokio::test]
async fn output_that_is_cut_says_so() {
    let (engine, _) = start(options(), config());
    let output = generate(&engine, held("start: /x{20}/", 7)).await;
    assert_eq!(text(&output), "xxxxxxx");
    assert_eq!(reason(&output), FinishReason::MaxTokens);
}

/// Sampled with a seed of its own, so that outputs differ.
fn sampled(seed: u64) -> GenerationRequest {
    let grammar = r#"start: "{" pair ("," pair)* "}" 
                     pair: /"[a-z]{1,5}"/ ":" /[0-9]{1,4}/"#;
    GenerationRequest {
        sampling: SamplingParams {
            seed: Some(seed),
            ..SamplingParams::default()
        },
        prompt: prompt(seed as u32, 8),
        ..held(grammar, 60)
    }
}

#[tokio::test]
async fn constrained_output_is_the_same_alone_in_company_and_after_preemption() {
    let (roomy, _) = start(options(), config());
    let mut alone = Vec::new();
    for seed in 0..6 {
        alone.push(generate(&roomy, sampled(seed)).await.tokens);
    }
    let cramped = FakeModelOptions {
        num_blocks: 18,
        ..options()
    };
    let (cramped, probe) = start(cramped, config());
    probe.hold();
    let streams: Vec<_> = (0..6)
        .map(|seed| cramped.submit(sampled(seed)).unwrap())
        .collect();
    let free = GenerationRequest {
        constraint: None,
        ..sampled(99)
    };
    let free = cramped.submit(free).unwrap();
    probe.release();
    for (stream, alone) in streams.into_iter().zip(&alone) {
        assert_eq!(&collect(stream).await.tokens, alone);
    }
    collect(free).await.end.unwrap();
    assert!(cramped.stats().num_preemptions > 0);
    assert_eq!(cramped.stats().num_free_blocks, 18);
}

#[tokio::test]
async fn a_constraint_that_fails_ends_its_own_request_only() {
    let (engine, probe) = start(options(), config());
    probe.hold();
    let broken = engine.submit(held("start: nothing", 20)).unwrap();
    let good = engine.submit(held("start: /[ab]{4}/", 20)).unwrap();
    let free = engine.submit(greedy(vec![5, 6], 4)).unwrap();
    probe.release();
    let broken = collect(broken).await;
    assert!(broken.tokens.is_empty());
    assert!(
        matches!(broken.end, Err(EngineError::ConstraintFailed(_))),
        "{broken:?}"
    );
    assert_eq!(text(&collect(good).await).len(), 4);
    assert_eq!(collect(free).await.tokens.len(), 4);
    assert_eq!(engine.stats().num_free_blocks, options().num_blocks);
}

#[tokio::test]
async fn log_probabilities_are_the_models_own_whatever_the_grammar_allows() {
    let model = FakeModel::new(options()).with_next_token(|_| u32::from(b'z'));
    let engine = Engine::start(Box::new(model), config());
    let request = GenerationRequest {
        logprobs: Some(1),
        ..held("start: \"a\"", 5)
    };
    let mut stream = engine.submit(request).unwrap();
    let Some(Ok(TokenEvent::Token(token))) = stream.next().await else {
        panic!("no token");
    };
    assert_eq!(token.id, u32::from(b'a'));
    let logprob = token.logprob.unwrap();
    assert_eq!(logprob.alternatives[0].id, u32::from(b'z'));
    assert!(logprob.logprob < logprob.alternatives[0].logprob - 10.0);
}

#[tokio::test]
async fn choices_of_one_prompt_each_keep_to_the_grammar() {
    let config = EngineConfig {
        speculation: Speculation::Always,
        ..config()
    };
    let (engine, _) = start(options(), config);
    let mut alone = Vec::new();
    for choice in 0..3 {
        let request = GenerationRequest {
            prompt: sampled(7).prompt,
            ..sampled(7 + choice)
        };
        alone.push(generate(&engine, request).await.tokens);
    }
    let streams = engine.submit_choices(sampled(7), 3).unwrap();
    for (stream, alone) in streams.into_iter().zip(&alone) {
        assert_eq!(&collect(stream).await.tokens, alone);
    }
    assert_eq!(engine.stats().num_free_blocks, options().num_blocks);
}

#[tokio::test]
async fn what_is_constrained_is_not_drawn_by_the_model() {
    let (engine, _) = start(options(), config());
    let expected = generate(&engine, sampled(3)).await;
    let model = FakeModel::new(options()).drawing();
    let probe = model.probe();
    let engine = Engine::start(Box::new(model), config());
    assert_eq!(generate(&engine, sampled(3)).await, expected);
    assert_eq!(probe.num_drawn(), 0);
}
