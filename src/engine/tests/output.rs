//! What comes out: never dependent on company, chunks, the cache or preemption.

use super::*;

#[tokio::test]
async fn a_request_gets_its_tokens_and_its_usage() {
    let (engine, _) = start_default();
    let request = greedy(prompt(1, 10), 6);
    let output = generate(&engine, request.clone()).await;
    assert_eq!(output.tokens, reference(&request));
    let usage = Usage {
        num_prompt_tokens: 10,
        num_cached_tokens: 0,
        num_completion_tokens: 6,
    };
    assert_eq!(output.end, Ok((FinishReason::MaxTokens, usage)));
}

#[tokio::test]
async fn an_end_token_ends_the_output_and_is_not_part_of_it() {
    let model = FakeModel::new(FakeModelOptions::default())
        .with_next_token(|context| if context.len() < 5 { 9 } else { 2 });
    let engine = Engine::start(Box::new(model), config());
    let request = GenerationRequest {
        end_tokens: vec![1, 2],
        ..greedy(vec![7, 7, 7], 50)
    };
    let output = generate(&engine, request).await;
    assert_eq!(output.tokens, [9, 9]);
    let (reason, usage) = output.end.unwrap();
    assert_eq!(reason, FinishReason::EndToken);
    assert_eq!(usage.num_completion_tokens, 2);
}

#[tokio::test]
async fn greedy_output_is_the_same_alone_and_in_company() {
    let (engine, probe) = start_default();
    probe.hold();
    let requests: Vec<_> = (0..8)
        .map(|salt| greedy(prompt(salt, 3 + 4 * salt), 12))
        .collect();
    let streams: Vec<_> = requests
        .iter()
        .map(|request| engine.submit(request.clone()).unwrap())
        .collect();
    probe.release();
    for (request, stream) in requests.iter().zip(streams) {
        assert_eq!(collect(stream).await.tokens, reference(request));
    }
    assert!(probe.steps().iter().any(|step| step.len() == 8));
}

#[tokio::test]
async fn greedy_output_is_the_same_whatever_the_chunks_are() {
    for (prefill_chunk, max_batch_tokens) in [(1, 1), (7, 512), (7, 10), (256, 16)] {
        let config = EngineConfig {
            prefill_chunk,
            max_batch_tokens,
            ..config()
        };
        let (engine, probe) = start(FakeModelOptions::default(), config);
        let requests = [greedy(prompt(1, 40), 5), greedy(prompt(2, 23), 5)];
        let streams = requests
            .clone()
            .map(|request| engine.submit(request).unwrap());
        for (request, stream) in requests.iter().zip(streams) {
            assert_eq!(collect(stream).await.tokens, reference(request));
        }
        for step in probe.steps() {
            let num_tokens: usize = step.iter().map(|slice| slice.num_tokens).sum();
            assert!(num_tokens <= max_batch_tokens);
            assert!(step.iter().all(|slice| slice.num_tokens <= prefill_chunk));
        }
    }
}

#[tokio::test]
async fn a_follow_up_reads_only_what_is_new_and_gets_the_same_output() {
    let (engine, probe) = start_default();
    let first = greedy(prompt(3, 21), 10);
    let answer = generate(&engine, first.clone()).await.tokens;
    let num_before = probe.num_forwarded_tokens();
    let follow_up: Vec<u32> = first
        .prompt
        .iter()
        .chain(&answer)
        .copied()
        .chain([5, 6])
        .collect();
    let second = greedy(follow_up, 4);
    let output = generate(&engine, second.clone()).await;
    assert_eq!(output.tokens, reference(&second));
    // 30 of its 33 tokens were computed, which fill 7 blocks of 4.
    let usage = output.end.unwrap().1;
    assert_eq!(usage.num_cached_tokens, 28);
    assert_eq!(probe.num_forwarded_tokens() - num_before, 33 - 28 + 3);
    assert_eq!(engine.stats().num_cached_tokens, 28);
}

#[tokio::test]
async fn equal_blocks_after_different_beginnings_are_not_exchanged() {
    let (engine, _) = start_default();
    for first in 0..4 {
        let request = greedy([vec![first; 4], vec![7; 9]].concat(), 8);
        let output = generate(&engine, request.clone()).await;
        assert_eq!(output.tokens, reference(&request));
        assert_eq!(output.end.unwrap().1.num_cached_tokens, 0);
    }
}

#[tokio::test]
async fn a_repeated_prompt_is_computed_at_its_end_only() {
    let (engine, _) = start_default();
    let request = greedy(prompt(4, 16), 3);
    let first = generate(&engine, request.clone()).await;
    let second = generate(&engine, request).await;
    assert_eq!(first.tokens, second.tokens);
    assert_eq!(second.end.unwrap().1.num_cached_tokens, 12);
}

#[tokio::test]
async fn output_is_the_same_in_reused_blocks_and_after_eviction() {
    let options = FakeModelOptions {
        num_blocks: 8,
        ..FakeModelOptions::default()
    };
    let (engine, _) = start(options, config());
    for round in 0..3 {
        for salt in 0..6 {
            let request = greedy(prompt(salt, 9 + salt), 8);
            let output = generate(&engine, request.clone()).await;
            assert_eq!(
                output.tokens,
                reference(&request),
                "round {round}, salt {salt}"
            );
        }
    }
    assert_eq!(engine.stats().num_free_blocks, 8);
}

#[tokio::test]
async fn greedy_output_is_the_same_after_preemption() {
    let options = FakeModelOptions {
        num_blocks: 16,
        ..FakeModelOptions::default()
    };
    let (engine, probe) = start(options, config());
    probe.hold();
    let requests: Vec<_> = (0..4).map(|salt| greedy(prompt(salt, 8), 40)).collect();
    let streams: Vec<_> = requests
        .iter()
        .map(|request| engine.submit(request.clone()).unwrap())
        .collect();
    probe.release();
    for (request, stream) in requests.iter().zip(streams) {
        let output = collect(stream).await;
        assert_eq!(output.tokens, reference(request));
        assert_eq!(output.end.unwrap().1.num_cached_tokens, 0);
    }
    assert!(engine.stats().num_preemptions > 0);
}

/// Four sequences of one seed, with everything that keeps state in the sampler.
fn seeded_requests() -> Vec<GenerationRequest> {
    let sampling = SamplingParams {
        temperature: 1.5,
        top_p: 0.9,
        repetition_penalty: 1.2,
        presence_penalty: 0.5,
        frequency_penalty: 0.5,
        seed: Some(42),
        ..SamplingParams::default()
    };
    let request = |salt| GenerationRequest {
        sampling: sampling.clone(),
        ..greedy(prompt(salt, 8), 40)
    };
    (0..4).map(request).collect()
}

#[tokio::test]
async fn sampled_output_depends_on_the_seed_only_not_on_company_or_preemption() {
    let (roomy, _) = start_default();
    let mut alone = Vec::new();
    for request in seeded_requests() {
        alone.push(generate(&roomy, request).await.tokens);
    }
    let options = FakeModelOptions {
        num_blocks: 16,
        ..FakeModelOptions::default()
    };
    let (cramped, probe) = start(options, config());
    probe.hold();
    let streams: Vec<_> = seeded_requests()
        .into_iter()
        .map(|request| cramped.submit(request).unwrap())
        .collect();
    probe.release();
    for (stream, alone) in streams.into_iter().zip(&alone) {
        assert_eq!(&collect(stream).await.tokens, alone);
    }
    assert!(cramped.stats().num_preemptions > 0);
}

#[tokio::test]
async fn a_decoding_sequence_gets_a_token_in_every_step_of_a_long_prompt() {
    let config = EngineConfig {
        prefill_chunk: 8,
        ..config()
    };
    let (engine, probe) = start(FakeModelOptions::default(), config);
    probe.hold();
    let mut short = engine.submit(greedy(prompt(1, 4), 20)).unwrap();
    probe.allow(1);
    next_token(&mut short).await;
    probe.wait_until_held();
    let long = engine.submit(greedy(prompt(2, 40), 1)).unwrap();
    probe.release();
    assert_eq!(collect(long).await.tokens.len(), 1);
    let chunks: Vec<_> = probe
        .steps()
        .into_iter()
        .filter(|step| step.iter().any(|slice| slice.num_tokens == 8))
        .collect();
    assert_eq!(chunks.len(), 5);
    assert!(
        chunks
            .iter()
            .all(|step| step.len() == 2 && step[0].num_tokens == 1)
    );
}

#[tokio::test]
async fn output_that_does_not_fit_ends_at_the_context_length() {
    let options = FakeModelOptions {
        num_blocks: 5,
        ..FakeModelOptions::default()
    };
    let (engine, _) = start(options, config());
    let output = generate(&engine, greedy(prompt(0, 15), 1_000_000)).await;
    assert_eq!(
        output.tokens,
        greedy_reference(&prompt(0, 15), 5, VOCAB_SIZE)
    );
    assert_eq!(output.end.unwrap().0, FinishReason::MaxTokens);
}

#[tokio::test]
async fn log_probabilities_are_the_models_own_whatever_the_sampling_is() {
    let model = FakeModel::new(FakeModelOptions {
        vocab_size: 3,
        ..FakeModelOptions::default()
    });
    let engine = Engine::start(Box::new(model), config());
    let request = GenerationRequest {
        logprobs: Some(2),
        sampling: SamplingParams {
            logit_bias: vec![(1, 100.0)],
            temperature: 0.0,
            ..SamplingParams::default()
        },
        ..greedy(vec![0, 1, 2], 4)
    };
    let mut stream = engine.submit(request).unwrap();
    for _ in 0..4 {
        let Some(Ok(TokenEvent::Token(token))) = stream.next().await else {
            panic!("four tokens were asked for");
        };
        let logprob = token.logprob.unwrap();
        assert_eq!(token.id, 1);
        let [first, second] = logprob.alternatives[..] else {
            panic!("two alternatives were asked for");
        };
        assert!(first.logprob >= second.logprob);
        let known: f32 = [first, second]
            .iter()
            .map(|alternative| alternative.logprob.exp())
            .sum();
        match [first, second]
            .iter()
            .find(|alternative| alternative.id == 1)
        {
            Some(own) => assert_eq!(own.logprob, logprob.logprob),
            None => assert!((known + logprob.logprob.exp() - 1.0).abs() < 1e-5),
        }
    }
}

#[tokio::test]
async fn drafts_change_the_number_of_steps_but_not_the_output() {
    // After every multiple of 8 comes the same run of tokens, so what follows can be looked up.
    let model = || {
        FakeModel::new(FakeModelOptions::default())
            .with_next_token(|context| (context.len() % 8) as u32 + 10)
    };
    let prompt: Vec<u32> = (0..20).map(|position| position % 8 + 10).collect();
    let mut outputs = Vec::new();
    for speculation in [Speculation::Off, Speculation::Always] {
        let model = model();
        let probe = model.probe();
        let config = EngineConfig {
            speculation,
            ..config()
        };
        let engine = Engine::start(Box::new(model), config);
        let output = generate(&engine, greedy(prompt.clone(), 41)).await;
        let stats = engine.stats();
        assert_eq!(stats.num_free_blocks, stats.num_blocks);
        outputs.push((output, probe.num_steps(), stats.num_accepted_tokens));
    }
    assert_eq!(outputs[0].0, outputs[1].0);
    assert_eq!((outputs[0].1, outputs[0].2), (41, 0));
    let (_, num_steps, num_accepted) = outputs[1];
    assert_eq!(num_steps as u64 + num_accepted, 41);
    assert!(num_steps <= 8, "{num_steps}");
}

#[tokio::test]
async fn wrong_drafts_do_not_change_the_output_either() {
    for temperature in [0.0, 1.0] {
        let mut outputs = Vec::new();
        for speculation in [Speculation::Off, Speculation::Always] {
            let config = EngineConfig {
                speculation,
                ..config()
            };
            let options = FakeModelOptions {
                vocab_size: 4,
                ..FakeModelOptions::default()
            };
            let (engine, _) = start(options, config);
            // With four different tokens, there is always something to look up, and it is mostly wrong.
            let mut request = greedy(
                (0..24).map(|position| position * position % 4).collect(),
                60,
            );
            request.sampling.temperature = temperature;
            request.sampling.seed = Some(7);
            // Several of them, so that there are few free blocks.
            let streams = (0..3).map(|_| collect(engine.submit(request.clone()).unwrap()));
            outputs.push(futures_util::future::join_all(streams).await);
            assert_eq!(engine.stats().num_free_blocks, 64);
            let num_drafted = engine.stats().num_drafted_tokens;
            assert_eq!(num_drafted > 0, speculation == Speculation::Always);
        }
        let tokens = |index: usize| outputs[index].iter().map(|output| &output.tokens);
        assert!(tokens(0).eq(tokens(1)));
    }
}

#[tokio::test]
async fn choices_share_their_prompt_and_part_where_they_differ() {
    for num_prompt_tokens in [4, 9, 22] {
        let (engine, probe) = start_default();
        let mut request = greedy(prompt(2, num_prompt_tokens), 15);
        request.sampling.temperature = 1.0;
        request.sampling.seed = Some(100);
        let choices = engine.submit_choices(request.clone(), 4).unwrap();
        let outputs = futures_util::future::join_all(choices.into_iter().map(collect)).await;
        let num_forwarded = probe.num_forwarded_tokens();
        assert_eq!(num_forwarded, num_prompt_tokens as usize + 4 * 14);
        assert_eq!(engine.stats().num_free_blocks, 64);
        for (choice, output) in outputs.iter().enumerate() {
            let mut alone = request.clone();
            alone.sampling.seed = Some(100 + choice as u64);
            let (engine, _) = start_default();
            assert_eq!(output.tokens, generate(&engine, alone).await.tokens);
        }
        assert_ne!(outputs[0].tokens, outputs[1].tokens);
    }
}

#[tokio::test]
async fn more_choices_than_run_at_once_all_come() {
    let config = EngineConfig {
        max_running: 2,
        ..config()
    };
    let (engine, _) = start(FakeModelOptions::default(), config);
    let request = greedy(prompt(5, 10), 6);
    let choices = engine.submit_choices(request.clone(), 5).unwrap();
    for choice in choices {
        assert_eq!(collect(choice).await.tokens, reference(&request));
    }
    assert_eq!(engine.stats().num_free_blocks, 64);
}

#[tokio::test]
async fn what_one_user_asked_is_not_cached_for_another_except_what_is_public() {
    let (engine, _) = start_default();
    let cached = async |user: &str, num_public_tokens| {
        let request = GenerationRequest {
            user: Some(user.into()),
            num_public_tokens,
            ..greedy(prompt(3, 24), 1)
        };
        generate(&engine, request)
            .await
            .end
            .unwrap()
            .1
            .num_cached_tokens
    };
    assert_eq!(cached("a", 9).await, 0);
    assert_eq!(cached("a", 9).await, 20);
    assert_eq!(cached("b", 9).await, 8, "two public blocks of 4");
    assert_eq!(cached("b", 9).await, 20);
    assert_eq!(cached("c", 0).await, 0);
}
