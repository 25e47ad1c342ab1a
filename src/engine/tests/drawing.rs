//! A model that draws tokens itself: only where it may, and with the output of one that does not.

use super::testing::Fault;
use super::*;

fn start_drawing(options: FakeModelOptions, config: EngineConfig) -> (Engine, Probe) {
    let model = FakeModel::new(options).drawing();
    let probe = model.probe();
    (Engine::start(Box::new(model), config), probe)
}

fn sampled(sampling: SamplingParams, salt: u32, num_tokens: usize) -> GenerationRequest {
    GenerationRequest {
        sampling: SamplingParams {
            seed: Some(u64::from(salt)),
            ..sampling
        },
        ..greedy(prompt(salt, 8), num_tokens)
    }
}

/// Samplings that depend on nothing but the logits.
fn drawable() -> [SamplingParams; 5] {
    let hot = SamplingParams {
        temperature: 1.5,
        ..SamplingParams::default()
    };
    [
        SamplingParams::greedy(),
        hot.clone(),
        SamplingParams {
            top_k: Some(20),
            ..hot.clone()
        },
        SamplingParams {
            top_p: 0.9,
            ..hot.clone()
        },
        SamplingParams { min_p: 0.05, ..hot },
    ]
}

#[tokio::test]
async fn output_is_the_same_whoever_draws_with_preemption_and_cancellation() {
    let requests: Vec<_> = (0..)
        .zip(drawable())
        .map(|(salt, sampling)| sampled(sampling, salt, 40))
        .collect();
    let (roomy, _) = start_default();
    let mut alone = Vec::new();
    for request in &requests {
        alone.push(generate(&roomy, request.clone()).await.tokens);
    }
    let options = FakeModelOptions {
        num_blocks: 16,
        ..FakeModelOptions::default()
    };
    let (cramped, probe) = start_drawing(options, config());
    probe.hold();
    let cancelled = cramped
        .submit(sampled(drawable()[1].clone(), 9, 40))
        .unwrap();
    let streams: Vec<_> = requests
        .into_iter()
        .map(|request| cramped.submit(request).unwrap())
        .collect();
    probe.allow(3);
    probe.wait_until_held();
    drop(cancelled);
    probe.release();
    for (stream, alone) in streams.into_iter().zip(&alone) {
        assert_eq!(&collect(stream).await.tokens, alone);
    }
    assert!(cramped.stats().num_preemptions > 0);
    // Those of the cancelled one come on top.
    assert!((5 * 40..5 * 40 + 5).contains(&probe.num_drawn()));
}

#[tokio::test]
async fn where_more_is_wanted_than_a_token_the_model_gives_logits() {
    let [_, hot, ..] = drawable();
    let changes: [fn(&mut GenerationRequest); 5] = [
        |request| request.sampling.repetition_penalty = 1.2,
        |request| request.sampling.presence_penalty = 0.5,
        |request| request.sampling.frequency_penalty = 0.5,
        |request| request.sampling.logit_bias = vec![(3, 2.0)],
        |request| request.logprobs = Some(0),
    ];
    for change in changes {
        let mut request = sampled(hot.clone(), 3, 20);
        change(&mut request);
        let (engine, _) = start_default();
        let expected = generate(&engine, request.clone()).await;
        let (engine, probe) = start_drawing(FakeModelOptions::default(), config());
        // Another beside it, whose tokens are drawn.
        probe.hold();
        let beside = engine.submit(sampled(hot.clone(), 4, 20)).unwrap();
        let stream = engine.submit(request).unwrap();
        probe.release();
        assert_eq!(collect(stream).await, expected);
        collect(beside).await;
        assert_eq!(probe.num_drawn(), 20);
    }
}

#[tokio::test]
async fn choices_are_drawn_once_they_have_parted() {
    let [_, hot, ..] = drawable();
    let request = sampled(hot, 5, 15);
    let mut outputs = Vec::new();
    for (engine, probe) in [
        start_default(),
        start_drawing(FakeModelOptions::default(), config()),
    ] {
        let choices = engine.submit_choices(request.clone(), 4).unwrap();
        let choices = choices.into_iter().map(collect);
        outputs.push(futures_util::future::join_all(choices).await);
        assert!([0, 4 * 14].contains(&probe.num_drawn()));
    }
    assert_eq!(outputs[0], outputs[1]);
}

#[tokio::test]
async fn drafts_are_checked_against_logits() {
    let config = EngineConfig {
        speculation: Speculation::Always,
        ..config()
    };
    let model = || {
        FakeModel::new(FakeModelOptions::default())
            .with_next_token(|context| (context.len() % 8) as u32 + 10)
    };
    let mut outputs = Vec::new();
    for model in [model(), model().drawing()] {
        let probe = model.probe();
        let engine = Engine::start(Box::new(model), config.clone());
        let request = sampled(drawable()[1].clone(), 6, 60);
        outputs.push((generate(&engine, request).await, probe.num_steps()));
        assert!(engine.stats().num_accepted_tokens > 0);
        assert!(probe.num_drawn() < 30);
    }
    assert_eq!(outputs[0], outputs[1]);
}

#[tokio::test]
async fn a_model_that_draws_without_being_asked_has_failed() {
    let model = FakeModel::new(FakeModelOptions::default()).failing_at(2, Fault::UnaskedToken);
    let engine = Engine::start(Box::new(model), config());
    let request = GenerationRequest {
        logprobs: Some(1),
        ..greedy(prompt(1, 4), 9)
    };
    let output = generate(&engine, request).await;
    assert_eq!(output.tokens.len(), 2);
    assert!(matches!(output.end, Err(EngineError::ModelFailed(_))));
}

#[tokio::test]
async fn what_cannot_be_drawn_from_ends_its_request_and_is_not_found_in_the_cache() {
    let options = FakeModelOptions {
        poison_token: Some(63),
        ..FakeModelOptions::default()
    };
    let (engine, probe) = start_drawing(options, config());
    for _ in 0..2 {
        let output = generate(&engine, greedy(vec![1, 2, 3, 63, 5], 5)).await;
        assert_eq!(output.end, Err(EngineError::InvalidLogits));
    }
    assert_eq!(probe.num_forwarded_tokens(), 5 + 5);
    assert_eq!(probe.num_drawn(), 2);
}
