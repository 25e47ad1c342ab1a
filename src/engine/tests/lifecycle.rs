//! How requests and the engine begin and end: refusal, cancellation, failure, shutdown.

use std::thread::ThreadId;

use super::testing::Fault;
use super::*;

#[tokio::test]
async fn one_request_more_than_the_queue_holds_is_refused_at_once() {
    let config = EngineConfig {
        max_waiting: 2,
        max_running: 1,
        ..config()
    };
    let (engine, probe) = start(FakeModelOptions::default(), config);
    probe.hold();
    let running = engine.submit(greedy(prompt(0, 4), 2)).unwrap();
    probe.wait_until_held();
    let waiting = [1, 2].map(|salt| engine.submit(greedy(prompt(salt, 4), 2)).unwrap());
    let refusal = engine.submit(greedy(prompt(3, 4), 2)).unwrap_err();
    assert_eq!(refusal, SubmitError::QueueFull { capacity: 2 });
    let stats = engine.stats();
    assert_eq!((stats.num_running, stats.num_waiting), (1, 2));
    probe.release();
    for stream in waiting.into_iter().chain([running]) {
        assert!(collect(stream).await.end.is_ok());
    }
    assert!(generate(&engine, greedy(prompt(3, 4), 2)).await.end.is_ok());
}

#[tokio::test]
async fn a_request_that_can_never_fit_is_refused_with_the_counts() {
    let options = FakeModelOptions {
        num_blocks: 5,
        ..FakeModelOptions::default()
    };
    let (engine, probe) = start(options, config());
    let refusal = SubmitError::PromptTooLong {
        num_prompt_tokens: 20,
        num_max_tokens: 3,
        context_length: 20,
    };
    let message = refusal.to_string();
    assert_eq!(
        engine.submit(greedy(prompt(0, 20), 3)).unwrap_err(),
        refusal
    );
    assert!(message.contains("at most 19 tokens"), "{message}");
    assert_eq!(probe.num_steps(), 0);
}

#[tokio::test]
async fn dropping_the_stream_frees_its_blocks() {
    let (engine, probe) = start_default();
    probe.hold();
    let mut stream = engine.submit(greedy(prompt(1, 20), 500)).unwrap();
    probe.allow(1);
    next_token(&mut stream).await;
    probe.wait_until_held();
    assert!(engine.stats().num_free_blocks < 64);
    drop(stream);
    probe.release();
    generate(&engine, greedy(prompt(2, 4), 1)).await;
    let stats = engine.stats();
    assert_eq!((stats.num_free_blocks, stats.num_running), (64, 0));
    // The step that was held, and the one of the other request.
    assert_eq!(probe.num_steps(), 3);
}

#[tokio::test]
async fn dropping_the_stream_between_prefill_chunks_ends_the_prefill() {
    let config = EngineConfig {
        prefill_chunk: 8,
        ..config()
    };
    let (engine, probe) = start(FakeModelOptions::default(), config);
    probe.hold();
    let stream = engine.submit(greedy(prompt(1, 100), 5)).unwrap();
    probe.wait_until_held();
    probe.allow(1);
    probe.wait_until_held();
    drop(stream);
    probe.release();
    generate(&engine, greedy(prompt(2, 4), 1)).await;
    assert_eq!(probe.num_forwarded_tokens(), 8 + 8 + 4);
    assert_eq!(engine.stats().num_free_blocks, 64);
}

#[tokio::test]
async fn a_request_that_is_cancelled_while_it_waits_is_never_computed() {
    let config = EngineConfig {
        max_running: 1,
        ..config()
    };
    let (engine, probe) = start(FakeModelOptions::default(), config);
    probe.hold();
    let running = engine.submit(greedy(prompt(1, 4), 3)).unwrap();
    probe.wait_until_held();
    drop(engine.submit(greedy(prompt(2, 50), 3)).unwrap());
    probe.release();
    collect(running).await;
    generate(&engine, greedy(prompt(3, 4), 1)).await;
    assert_eq!(probe.num_forwarded_tokens(), 4 + 2 + 4);
    assert_eq!(engine.stats().num_waiting, 0);
}

#[tokio::test]
async fn users_are_served_in_turn() {
    let config = EngineConfig {
        max_running: 1,
        ..config()
    };
    let (engine, probe) = start(FakeModelOptions::default(), config);
    probe.hold();
    // While it runs, the others queue up.
    let running = engine.submit(greedy(prompt(0, 8), 1)).unwrap();
    probe.wait_until_held();
    let lengths_and_users = [(4, "a"), (5, "a"), (6, "a"), (7, "b")];
    let streams = lengths_and_users.map(|(num_tokens, user)| {
        let request = GenerationRequest {
            user: Some(user.into()),
            ..greedy(prompt(num_tokens, num_tokens), 1)
        };
        engine.submit(request).unwrap()
    });
    probe.release();
    for stream in streams.into_iter().chain([running]) {
        collect(stream).await;
    }
    let order: Vec<_> = probe
        .steps()
        .iter()
        .map(|step| step[0].num_tokens)
        .collect();
    assert_eq!(order, [8, 4, 7, 5, 6]);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_nobody() {
    let (engine, _) = start_default();
    let unread = engine.submit(greedy(prompt(1, 4), 100)).unwrap();
    for salt in 2..6 {
        assert!(
            generate(&engine, greedy(prompt(salt, 4), 30))
                .await
                .end
                .is_ok()
        );
    }
    assert_eq!(collect(unread).await.tokens.len(), 100);
}

#[tokio::test]
async fn an_error_of_the_model_ends_the_requests_of_that_step_and_no_other() {
    let config = EngineConfig {
        max_running: 2,
        ..config()
    };
    for fault in [Fault::Error, Fault::MissingRow] {
        let model = FakeModel::new(FakeModelOptions::default()).failing_at(1, fault);
        let probe = model.probe();
        probe.hold();
        let engine = Engine::start(Box::new(model), config.clone());
        let first = engine.submit(greedy(prompt(0, 9), 5)).unwrap();
        probe.wait_until_held();
        let [second, waiting] =
            [1, 2].map(|salt| engine.submit(greedy(prompt(salt, 9), 5)).unwrap());
        probe.release();
        let first = collect(first).await;
        assert_eq!(first.tokens.len(), 1);
        assert!(matches!(first.end, Err(EngineError::ModelFailed(_))));
        assert!(matches!(
            collect(second).await.end,
            Err(EngineError::ModelFailed(_))
        ));
        assert_eq!(
            collect(waiting).await.tokens,
            reference(&greedy(prompt(2, 9), 5))
        );
        // Nothing that the failed step touched is found in the cache.
        let again = generate(&engine, greedy(prompt(0, 9), 5)).await;
        assert_eq!(again.end.unwrap().1.num_cached_tokens, 0);
        assert_eq!(engine.stats().num_free_blocks, 64);
    }
}

#[tokio::test]
async fn nan_logits_are_an_error_for_their_request_only() {
    let options = FakeModelOptions {
        poison_token: Some(63),
        ..FakeModelOptions::default()
    };
    let (engine, probe) = start(options, config());
    probe.hold();
    let poisoned = engine.submit(greedy(vec![1, 2, 3, 63, 5], 5)).unwrap();
    let healthy = GenerationRequest {
        sampling: SamplingParams {
            logit_bias: vec![(63, -100.0)],
            ..SamplingParams::greedy()
        },
        ..greedy(vec![1, 2, 3, 4, 5], 5)
    };
    let healthy = engine.submit(healthy).unwrap();
    probe.release();
    assert_eq!(collect(poisoned).await.end, Err(EngineError::InvalidLogits));
    assert!(collect(healthy).await.end.is_ok());
    assert!(engine.is_alive());
    assert_eq!(engine.stats().num_free_blocks, 64);
}

#[tokio::test]
async fn what_nan_logits_come_from_is_not_found_in_the_cache() {
    let options = FakeModelOptions {
        poison_token: Some(63),
        ..FakeModelOptions::default()
    };
    let (engine, probe) = start(options, config());
    for _ in 0..2 {
        let output = generate(&engine, greedy(vec![1, 2, 3, 63, 5], 5)).await;
        assert_eq!(output.end, Err(EngineError::InvalidLogits));
    }
    assert_eq!(probe.num_forwarded_tokens(), 5 + 5);
}

#[tokio::test]
async fn a_panic_of_the_model_ends_all_streams_and_the_engine() {
    let config = EngineConfig {
        max_running: 1,
        ..config()
    };
    let model = FakeModel::new(FakeModelOptions::default()).failing_at(1, Fault::Panic);
    let probe = model.probe();
    probe.hold();
    let engine = Engine::start(Box::new(model), config);
    let streams = [0, 1, 2].map(|salt| engine.submit(greedy(prompt(salt, 4), 5)).unwrap());
    probe.release();
    for stream in streams {
        assert_eq!(collect(stream).await.end, Err(EngineError::Stopped));
        assert!(!engine.is_alive());
    }
    assert_eq!(
        engine.submit(greedy(prompt(3, 4), 5)).unwrap_err(),
        SubmitError::Stopped
    );
    engine.shutdown(Duration::MAX).await;
}

#[tokio::test]
async fn a_shutdown_with_grace_finishes_what_runs_and_what_waits() {
    let config = EngineConfig {
        max_running: 1,
        ..config()
    };
    let (engine, probe) = start(FakeModelOptions::default(), config);
    probe.hold();
    let running = engine.submit(greedy(prompt(0, 4), 5)).unwrap();
    probe.wait_until_held();
    let waiting = engine.submit(greedy(prompt(1, 4), 5)).unwrap();
    let shutdown = engine.shutdown(Duration::MAX);
    let check = async {
        assert_eq!(
            engine.submit(greedy(prompt(2, 4), 5)).unwrap_err(),
            SubmitError::Stopped
        );
        probe.release();
    };
    tokio::join!(shutdown, check);
    assert!(!engine.is_alive());
    for stream in [running, waiting] {
        assert_eq!(collect(stream).await.tokens.len(), 5);
    }
}

#[tokio::test]
async fn a_shutdown_without_grace_ends_what_runs_and_what_waits() {
    let config = EngineConfig {
        max_running: 1,
        ..config()
    };
    let (engine, probe) = start(FakeModelOptions::default(), config);
    probe.hold();
    let running = engine.submit(greedy(prompt(0, 4), 5)).unwrap();
    probe.wait_until_held();
    let waiting = engine.submit(greedy(prompt(1, 4), 5)).unwrap();
    tokio::join!(engine.shutdown(Duration::ZERO), async { probe.release() });
    let running = collect(running).await;
    assert_eq!(running.tokens.len(), 1);
    assert_eq!(running.end, Err(EngineError::ShuttingDown));
    let waiting = collect(waiting).await;
    assert_eq!(
        waiting,
        Output {
            tokens: vec![],
            end: Err(EngineError::ShuttingDown)
        }
    );
    let stats = engine.stats();
    assert_eq!(
        (stats.num_free_blocks, stats.num_running, stats.num_waiting),
        (64, 0, 0)
    );
}

#[tokio::test]
async fn limits_of_zero_count_as_one() {
    let config = EngineConfig {
        max_waiting: 0,
        max_running: 0,
        max_batch_tokens: 0,
        prefill_chunk: 0,
        max_stretch: 0.0,
        ..config()
    };
    let (engine, probe) = start(FakeModelOptions::default(), config);
    assert!(generate(&engine, greedy(prompt(0, 6), 2)).await.end.is_ok());
    assert_eq!(probe.num_steps(), 7);
}

#[tokio::test]
async fn an_idle_engine_shuts_down_at_once_and_more_than_once() {
    let (engine, _) = start_default();
    let other = engine.clone();
    tokio::join!(
        engine.shutdown(Duration::MAX),
        other.shutdown(Duration::ZERO)
    );
    engine.shutdown(Duration::MAX).await;
    assert!(!engine.is_alive());
}

/// Tells when its model is dropped.
struct Dropped(FakeModel, mpsc::Sender<ThreadId>);

impl LanguageModel for Dropped {
    fn spec(&self) -> &ModelSpec {
        self.0.spec()
    }

    fn forward(
        &mut self,
        batch: &crate::llm::Batch,
    ) -> Result<crate::llm::Logits, crate::llm::LlmError> {
        self.0.forward(batch)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.1.send(std::thread::current().id());
    }
}

#[tokio::test]
async fn without_handles_the_engine_finishes_its_requests_and_drops_the_model() {
    let model = FakeModel::new(FakeModelOptions::default());
    let probe = model.probe();
    probe.hold();
    let (sender, receiver) = mpsc::channel();
    let engine = Engine::start(Box::new(Dropped(model, sender)), config());
    let stream = engine.submit(greedy(prompt(0, 4), 5)).unwrap();
    drop(engine);
    probe.release();
    assert_eq!(collect(stream).await.tokens.len(), 5);
    assert_ne!(receiver.recv().unwrap(), std::thread::current().id());
}

#[tokio::test]
async fn the_counters_add_up() {
    let (engine, _) = start_default();
    let idle = EngineStats {
        num_free_blocks: 64,
        num_blocks: 64,
        ..EngineStats::default()
    };
    assert_eq!(engine.stats(), idle);
    generate(&engine, greedy(prompt(1, 10), 6)).await;
    generate(&engine, greedy(prompt(1, 10), 6)).await;
    let expected = EngineStats {
        num_generated_tokens: 12,
        num_computed_prompt_tokens: 10 + 2,
        num_cached_tokens: 8,
        ..idle
    };
    assert_eq!(engine.stats(), expected);
}

#[tokio::test]
async fn a_choice_goes_on_when_the_others_are_dropped() {
    let (engine, probe) = start_default();
    probe.hold();
    let request = greedy(prompt(4, 30), 8);
    let mut choices = engine.submit_choices(request.clone(), 3).unwrap();
    // The first is dropped before there is a token, the second after its first one.
    drop(choices.remove(0));
    probe.allow(1);
    probe.wait_until_held();
    next_token(&mut choices[0]).await;
    drop(choices.remove(0));
    probe.release();
    let last = choices.remove(0);
    assert_eq!(collect(last).await.tokens, reference(&request));
    assert_eq!(engine.stats().num_free_blocks, 64);
    assert_eq!(engine.stats().num_running, 0);
}

#[tokio::test]
async fn no_choices_are_refused() {
    let (engine, _) = start_default();
    let refusal = engine.submit_choices(greedy(prompt(1, 4), 2), 0);
    assert!(matches!(
        refusal.unwrap_err(),
        SubmitError::InvalidParameter { name: "n", .. }
    ));
}
