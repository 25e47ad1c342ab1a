//! The worker's manners: whose turn it is, who is forgotten, and what a caller hears when the thread ends.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use futures_util::future::join_all;

use super::super::testing::{FakeModel, WordTokenizer, fake_spec};
use super::super::{
    Embedder, EmbeddingError, EmbeddingModel, EmbeddingTokenizer, InputKind, Priority, Stop,
};

/// Tells the test about each batch and waits for its word before computing.
struct Gated {
    seen: mpsc::Sender<Vec<Vec<u32>>>,
    go: mpsc::Receiver<()>,
}

impl EmbeddingModel for Gated {
    fn embed(&mut self, token_ids: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        self.seen
            .send(token_ids.to_vec())
            .expect("the test listens");
        self.go.recv().expect("the test gives its word");
        FakeModel.embed(token_ids)
    }
}

struct Gate {
    seen: mpsc::Receiver<Vec<Vec<u32>>>,
    go: mpsc::Sender<()>,
}

impl Gate {
    /// The batch that the model was given.
    fn next(&self) -> Vec<Vec<u32>> {
        self.seen
            .recv_timeout(Duration::from_secs(20))
            .expect("a batch arrives")
    }

    fn open(&self) {
        self.go.send(()).expect("the model waits");
    }
}

fn gated() -> (Gated, Gate) {
    let (seen_sender, seen) = mpsc::channel();
    let (go, go_receiver) = mpsc::channel();
    let model = Gated {
        seen: seen_sender,
        go: go_receiver,
    };
    (model, Gate { seen, go })
}

fn start_gated() -> (Embedder, Gate) {
    let (model, gate) = gated();
    (start(model), gate)
}

fn start(model: impl EmbeddingModel + 'static) -> Embedder {
    Embedder::start(Box::new(model), Arc::new(WordTokenizer), fake_spec()).unwrap()
}

fn ids(text: &str) -> Vec<u32> {
    WordTokenizer.encode(text).unwrap()
}

fn spawn(
    embedder: &Embedder,
    texts: Vec<String>,
    priority: Priority,
) -> tokio::task::JoinHandle<Result<super::super::Embeddings, EmbeddingError>> {
    let embedder = embedder.clone();
    tokio::spawn(async move { embedder.embed(texts, InputKind::Raw, priority).await })
}

/// Lets every spawned task run up to where it waits.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_interactive_request_goes_ahead_of_waiting_background_texts() {
    let (embedder, gate) = start_gated();
    // 150 words a text: three fill a batch.
    let long = |i: usize| format!("background{i} ").repeat(150);
    let background = spawn(&embedder, (0..9).map(long).collect(), Priority::Background);
    settle().await;
    assert_eq!(gate.next().len(), 3);
    let interactive = spawn(&embedder, vec!["question".into()], Priority::Interactive);
    settle().await;
    gate.open();
    let second = gate.next();
    assert_eq!(second[0], ids("question"));
    gate.open();
    interactive.await.unwrap().unwrap();
    assert!(!background.is_finished());
    for _ in 0..2 {
        gate.open();
    }
    assert_eq!(background.await.unwrap().unwrap().vectors.len(), 9);
}

/// Computes one passage after the other until it is told to stop, which may take a while.
struct Patient(Gated);

impl EmbeddingModel for Patient {
    fn embed(&mut self, token_ids: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        self.0.embed(token_ids)
    }

    fn embed_passages(
        &mut self,
        token_ids: &[Vec<u32>],
        stop: Stop<'_>,
    ) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        let mut vectors = self.0.embed(token_ids)?;
        if stop() {
            vectors.truncate(2);
        }
        Ok(vectors)
    }

    fn batch_tokens(&self, priority: Priority) -> usize {
        match priority {
            Priority::Interactive => 512,
            Priority::Background => 2048,
        }
    }
}

#[tokio::test]
async fn passages_end_early_for_a_question_and_go_on_after_it() {
    let (gated, gate) = gated();
    let embedder = start(Patient(gated));
    let texts: Vec<String> = (0..6).map(|i| format!("text{i} ").repeat(150)).collect();
    let all: Vec<_> = texts.iter().map(|text| ids(text)).collect();
    let background = {
        let embedder = embedder.clone();
        let embed = async move {
            let kind = InputKind::Passage;
            embedder.embed(texts, kind, Priority::Background).await
        };
        tokio::spawn(embed)
    };
    settle().await;
    // All at once, more than other models are given.
    assert_eq!(gate.next(), all);
    let interactive = spawn(&embedder, vec!["question".into()], Priority::Interactive);
    settle().await;
    gate.open();
    // Beside the question there is room for three of those that were not reached.
    let mut second = vec![ids("question")];
    second.extend_from_slice(&all[2..5]);
    let mut seen = gate.next();
    gate.open();
    seen.extend(gate.next());
    seen.sort();
    second.sort();
    assert_eq!(seen, second);
    gate.open();
    interactive.await.unwrap().unwrap();
    assert_eq!(gate.next(), all[5..]);
    gate.open();
    let vectors = background.await.unwrap().unwrap().vectors;
    assert_eq!(vectors, FakeModel.embed(&all).unwrap());
}

#[tokio::test]
async fn a_short_request_does_not_wait_behind_a_long_one() {
    let (embedder, gate) = start_gated();
    let long = |i: usize| format!("long{i} ").repeat(150);
    let first = spawn(
        &embedder,
        (0..12).map(long).collect(),
        Priority::Interactive,
    );
    settle().await;
    gate.next();
    let second = spawn(&embedder, vec!["short".into()], Priority::Interactive);
    settle().await;
    gate.open();
    assert!(gate.next().contains(&ids("short")));
    gate.open();
    second.await.unwrap().unwrap();
    for _ in 0..3 {
        gate.open();
    }
    assert_eq!(first.await.unwrap().unwrap().vectors.len(), 12);
}

#[tokio::test]
async fn a_dropped_request_never_reaches_the_model() {
    let (embedder, gate) = start_gated();
    let first = spawn(&embedder, vec!["first".into()], Priority::Interactive);
    settle().await;
    gate.next();
    let left = spawn(&embedder, vec!["left".into()], Priority::Interactive);
    let stayed = spawn(&embedder, vec!["stayed".into()], Priority::Interactive);
    settle().await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    gate.open();
    assert_eq!(gate.next(), [ids("stayed")]);
    gate.open();
    first.await.unwrap().unwrap();
    stayed.await.unwrap().unwrap();
}

#[tokio::test]
async fn answers_keep_the_order_of_the_texts() {
    let embedder = Embedder::start_fake();
    let texts: Vec<String> = (0..500)
        .map(|i| format!("text number {i} ").repeat(1 + i % 40))
        .collect();
    let requests = texts
        .chunks(7)
        .map(|texts| embedder.embed(texts.to_vec(), InputKind::Passage, Priority::Background));
    let answers = join_all(requests).await;
    let mut vectors = Vec::new();
    for answer in answers {
        vectors.extend(answer.unwrap().vectors);
    }
    let token_ids: Vec<Vec<u32>> = texts.iter().map(|text| ids(text)).collect();
    assert_eq!(vectors, FakeModel.embed(&token_ids).unwrap());
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait_and_loses_none() {
    let (embedder, gate) = start_gated();
    let requests: Vec<_> = (0..400)
        .map(|i| {
            spawn(
                &embedder,
                vec![format!("request {i}")],
                Priority::Interactive,
            )
        })
        .collect();
    settle().await;
    let mut num_seen = 0;
    while num_seen < 400 {
        let batch = gate.next();
        assert!(batch.iter().map(Vec::len).sum::<usize>() <= 512);
        num_seen += batch.len();
        gate.open();
        settle().await;
    }
    assert_eq!(num_seen, 400);
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().vectors.len(), 1);
    }
}

#[tokio::test]
async fn a_text_that_is_too_long_is_refused_with_its_counts() {
    let embedder = Embedder::start_fake();
    let fits = "word ".repeat(510);
    let texts = vec![fits.clone(), format!("{fits} more")];
    let error = embedder
        .embed(texts, InputKind::Passage, Priority::Background)
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        EmbeddingError::InputTooLong {
            index: 1,
            num_tokens: 513,
            num_max_tokens: 512
        }
    ));
    let answer = embedder
        .embed(vec![fits], InputKind::Passage, Priority::Background)
        .await
        .unwrap();
    assert_eq!(answer.num_tokens, [512]);
}

#[tokio::test]
async fn instructions_belong_to_their_kind_of_input() {
    let mut spec = fake_spec();
    spec.query_instruction = Some("find this: ".into());
    spec.passage_instruction = Some("stored: ".into());
    let embedder = Embedder::start(Box::new(FakeModel), Arc::new(WordTokenizer), spec).unwrap();
    for (kind, expected) in [
        (InputKind::Query, "find this: pump"),
        (InputKind::Passage, "stored: pump"),
        (InputKind::Raw, "pump"),
    ] {
        let answer = embedder
            .embed(vec!["pump".into()], kind, Priority::Interactive)
            .await
            .unwrap();
        assert_eq!(answer.vectors, FakeModel.embed(&[ids(expected)]).unwrap());
    }
    // 512 less [CLS], "stored" and [SEP].
    assert_eq!(embedder.max_passage_tokens(), 509);
}

#[tokio::test]
async fn no_texts_give_no_vectors() {
    let embedder = Embedder::start_fake();
    let answer = embedder
        .embed(Vec::new(), InputKind::Raw, Priority::Interactive)
        .await
        .unwrap();
    assert!(answer.vectors.is_empty());
}

struct Panicking;

impl EmbeddingModel for Panicking {
    fn embed(&mut self, _: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        panic!("the test wants it")
    }
}

#[tokio::test]
async fn a_dead_thread_is_an_error_and_not_a_hang() {
    let embedder = start(Panicking);
    assert!(embedder.is_alive());
    let ask = || embedder.embed(vec!["text".into()], InputKind::Raw, Priority::Interactive);
    for answer in join_all([ask(), ask(), ask()]).await {
        assert!(matches!(answer, Err(EmbeddingError::Stopped)));
    }
    embedder.shutdown().await;
    assert!(!embedder.is_alive());
    assert!(matches!(ask().await, Err(EmbeddingError::Stopped)));
}

struct Failing;

impl EmbeddingModel for Failing {
    fn embed(&mut self, _: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        Err(EmbeddingError::NotFinite)
    }
}

#[tokio::test]
async fn a_model_that_fails_answers_with_its_error_and_lives_on() {
    let embedder = start(Failing);
    for _ in 0..2 {
        let answer = embedder
            .embed(vec!["text".into()], InputKind::Raw, Priority::Interactive)
            .await;
        assert!(matches!(answer, Err(EmbeddingError::NotFinite)));
    }
    assert!(embedder.is_alive());
}

#[tokio::test]
async fn shutdown_ends_the_thread_and_answers_who_waits() {
    let (embedder, gate) = start_gated();
    let running = spawn(&embedder, vec!["running".into()], Priority::Interactive);
    settle().await;
    gate.next();
    let waiting = spawn(&embedder, vec!["waiting".into()], Priority::Interactive);
    settle().await;
    let stopping = tokio::spawn({
        let embedder = embedder.clone();
        async move { embedder.shutdown().await }
    });
    settle().await;
    gate.open();
    stopping.await.unwrap();
    assert!(!embedder.is_alive());
    assert!(running.await.unwrap().is_ok());
    assert!(matches!(
        waiting.await.unwrap(),
        Err(EmbeddingError::Stopped)
    ));
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_thread() {
    let (embedder, gate) = start_gated();
    let other = embedder.clone();
    drop(embedder);
    assert!(other.is_alive());
    drop(other);
    // The model, and with it the sending half, is gone when the thread is.
    assert!(matches!(
        gate.seen.recv_timeout(Duration::from_secs(20)),
        Err(mpsc::RecvTimeoutError::Disconnected)
    ));
}
