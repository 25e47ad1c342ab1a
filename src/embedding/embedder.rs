//! The embedder's handle: cheap to clone, safe to use from any thread, async where it waits. It never runs the model and
//! never holds a lock while waiting.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::worker::{self, Request, Worker};
use super::{
    EmbedderOptions, EmbedderSpec, EmbeddingError, EmbeddingModel, EmbeddingTokenizer, Embeddings,
    InputKind, Priority, load,
};

/// Requests of one priority that may wait for the worker; a further caller waits to be let in.
const QUEUE_CAPACITY: usize = 64;

/// A handle to a running embedding model. The model stops when the last clone is dropped.
#[derive(Clone)]
pub struct Embedder {
    shared: Arc<Shared>,
}

struct Shared {
    spec: EmbedderSpec,
    tokenizer: Arc<dyn EmbeddingTokenizer>,
    max_passage_tokens: usize,
    interactive: mpsc::Sender<Request>,
    background: mpsc::Sender<Request>,
    thread: Mutex<Option<RunningThread>>,
}

struct RunningThread {
    /// Dropping it tells the worker to stop.
    stop: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

impl Embedder {
    /// Loads the model in `dir` (config.json, tokenizer.json, model.safetensors and the sentence-transformers files
    /// beside them) and starts its thread. Blocks for as long as reading and hashing the weights takes.
    pub fn load(dir: &Path, options: EmbedderOptions) -> Result<Embedder, EmbeddingError> {
        let loaded = load::load(dir, options)?;
        Embedder::start(
            Box::new(loaded.model),
            Arc::new(loaded.tokenizer),
            loaded.spec,
        )
    }

    /// Starts a thread for a model that is already in memory.
    pub fn start(
        model: Box<dyn EmbeddingModel>,
        tokenizer: Arc<dyn EmbeddingTokenizer>,
        spec: EmbedderSpec,
    ) -> Result<Embedder, EmbeddingError> {
        let cannot_start = |error: std::io::Error| EmbeddingError::Compute {
            reason: format!("its thread cannot be started: {error}"),
        };
        let instruction = spec.passage_instruction.as_deref().unwrap_or("");
        let max_passage_tokens = spec
            .max_tokens
            .saturating_sub(tokenizer.encode(instruction)?.len());
        let (interactive, interactive_queue) = mpsc::channel(QUEUE_CAPACITY);
        let (background, background_queue) = mpsc::channel(QUEUE_CAPACITY);
        let (stop, stopped) = oneshot::channel();
        let worker = Worker::new(
            model,
            tokenizer.clone(),
            spec.clone(),
            [interactive_queue, background_queue],
            stopped,
        );
        // The worker only waits on channels, so its runtime needs neither timers nor sockets.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(cannot_start)?;
        let handle = std::thread::Builder::new()
            .name("embedder".into())
            .spawn(move || runtime.block_on(worker.run()))
            .map_err(cannot_start)?;
        Ok(Embedder {
            shared: Arc::new(Shared {
                spec,
                tokenizer,
                max_passage_tokens,
                interactive,
                background,
                thread: Mutex::new(Some(RunningThread { stop, handle })),
            }),
        })
    }

    pub fn spec(&self) -> &EmbedderSpec {
        &self.shared.spec
    }

    /// One vector a text. Waits while the queue is full; dropping the future withdraws the request.
    ///
    /// # Errors
    /// [`EmbeddingError::InputTooLong`] for the first text that does not fit; nothing is ever cut.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        kind: InputKind,
        priority: Priority,
    ) -> Result<Embeddings, EmbeddingError> {
        if texts.is_empty() {
            return Ok(Embeddings {
                vectors: Vec::new(),
                num_tokens: Vec::new(),
            });
        }
        let queue = match priority {
            Priority::Interactive => &self.shared.interactive,
            Priority::Background => &self.shared.background,
        };
        let instruction = worker::instruction(&self.shared.spec, kind).map(str::to_owned);
        let (reply, answer) = oneshot::channel();
        queue
            .send(Request::new(texts, instruction, reply))
            .await
            .map_err(|_| EmbeddingError::Stopped)?;
        answer.await.map_err(|_| EmbeddingError::Stopped)?
    }

    /// Tokens of `text` as this model counts them, without special tokens and instructions. A text that the tokenizer
    /// refuses counts as its length in bytes, which no tokenization exceeds.
    pub fn count_tokens(&self, text: &str) -> usize {
        match self.shared.tokenizer.encode(text) {
            Ok(ids) => ids.len() - self.shared.tokenizer.num_special_tokens(),
            Err(_) => text.len(),
        }
    }

    /// Whether the vocabulary has at least half of what `text` is made of. Otherwise its vector says nothing: texts in
    /// two foreign scripts are all alike.
    pub fn can_read(&self, text: &str) -> bool {
        let (tokenizer, unknown) = match self.shared.tokenizer.unknown_token() {
            Some(unknown) => (&self.shared.tokenizer, unknown),
            None => return true,
        };
        let Ok(ids) = tokenizer.encode(text) else {
            return false;
        };
        let num_unknown = ids.iter().filter(|id| **id == unknown).count();
        num_unknown * 2 <= ids.len().saturating_sub(tokenizer.num_special_tokens())
    }

    /// The most tokens, by [`count_tokens`](Self::count_tokens), that a passage may have.
    pub fn max_passage_tokens(&self) -> usize {
        self.shared.max_passage_tokens
    }

    /// The most tokens, by [`count_tokens`](Self::count_tokens), that a query may have.
    pub fn max_query_tokens(&self) -> usize {
        let instruction = self.shared.spec.query_instruction.as_deref();
        let num_instruction_tokens = instruction.map_or(0, |text| self.count_tokens(text));
        let num_special_tokens = self.shared.tokenizer.num_special_tokens();
        let num_taken = num_instruction_tokens + num_special_tokens;
        self.shared.spec.max_tokens.saturating_sub(num_taken)
    }

    /// Whether the thread still runs; once false, every request fails with [`EmbeddingError::Stopped`].
    pub fn is_alive(&self) -> bool {
        let thread = self
            .shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        thread
            .as_ref()
            .is_some_and(|thread| !thread.handle.is_finished())
    }

    /// Stops the thread after the batch it is computing and waits for its end. Requests that are not finished by then
    /// fail with [`EmbeddingError::Stopped`].
    pub async fn shutdown(&self) {
        let thread = self
            .shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(RunningThread { stop, handle }) = thread else {
            return;
        };
        drop(stop);
        let joined = tokio::task::spawn_blocking(move || handle.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the embedder's thread had panicked before it was asked to stop");
        }
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder")
            .field("name", &self.shared.spec.name)
            .finish_non_exhaustive()
    }
}
