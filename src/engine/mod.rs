//! Tokens to tokens: many requests share one model by continuous batching, on a thread of their own. Never sees text,
//! and never waits for a client.

mod block_cache;
mod constraint;
mod pace;
mod request;
pub(crate) mod sampler;
mod scheduler;
mod sequence;
mod speculation;
mod stats;
mod stream;
mod waiting;
mod worker;

#[doc(hidden)]
pub mod testing;

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

pub use constraint::Constraint;
pub use pace::MAX_DRAFT;
pub use request::{GenerationRequest, MAX_ALTERNATIVES, SamplingParams};
pub use stats::EngineStats;
pub use stream::{
    Alternative, FinishReason, GeneratedToken, TokenEvent, TokenLogprob, TokenStream, Usage,
};

use crate::llm::{LanguageModel, ModelSpec};
use worker::{Command, Submission, Worker};

/// How much the engine takes on. A number below 1 counts as 1.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Requests that may wait for admission; one more is refused.
    pub max_waiting: usize,
    /// Sequences that run at the same time; at most `max_batch_tokens` of them do.
    pub max_running: usize,
    /// Tokens of one step, all sequences together.
    pub max_batch_tokens: usize,
    /// Prompt tokens of one sequence in one step. Smaller keeps the others' tokens coming while a long prompt is read,
    /// larger reads the prompt faster.
    pub prefill_chunk: usize,
    /// How many times as long a step may take when a prompt is read beside streams that run: their pace against the
    /// speed of the reading. Above 1; infinity for no limit.
    pub max_stretch: f64,
    pub speculation: Speculation,
}

/// Whether tokens are guessed from those before and checked several at a time (`speculation.rs`). The output is the
/// same either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speculation {
    Off,
    /// As far as the steps before say that it is faster.
    #[default]
    WhereFaster,
    /// Whenever there is something to guess.
    Always,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_waiting: 64,
            max_running: 16,
            max_batch_tokens: 512,
            prefill_chunk: 256,
            max_stretch: 1.6,
            speculation: Speculation::default(),
        }
    }
}

impl FromStr for Speculation {
    type Err = InvalidSpeculation;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "off" => Ok(Self::Off),
            "where-faster" => Ok(Self::WhereFaster),
            "always" => Ok(Self::Always),
            other => Err(InvalidSpeculation(other.to_owned())),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("speculation is {0:?}, but must be where-faster, always or off")]
pub struct InvalidSpeculation(String);

/// Why a request was not accepted. Nothing has been computed for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    #[error("{capacity} requests are waiting already, try again later")]
    QueueFull { capacity: usize },
    #[error(
        "the prompt has {num_prompt_tokens} tokens and {num_max_tokens} more were asked for, but prompt and output \
         together can have {context_length}; shorten the prompt to at most {} tokens",
        .context_length.saturating_sub(1)
    )]
    PromptTooLong {
        num_prompt_tokens: usize,
        num_max_tokens: usize,
        context_length: usize,
    },
    #[error("the prompt has no tokens, give at least one")]
    EmptyPrompt,
    #[error("{name}: {message}")]
    InvalidParameter { name: &'static str, message: String },
    #[error("the engine does not run any more, restart the server")]
    Stopped,
}

/// Why a request that had been accepted did not finish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("the model could not compute a step, try again: {0}")]
    ModelFailed(String),
    #[error(
        "the model's output is not a distribution (NaN, or no finite number); its file may be damaged"
    )]
    InvalidLogits,
    /// The grammar became too complex, or left the model nothing to say.
    #[error("the output cannot go on within the asked-for grammar or schema: {0}")]
    ConstraintFailed(String),
    #[error("the server is shutting down, try again later")]
    ShuttingDown,
    #[error("the engine stopped unexpectedly, restart the server")]
    Stopped,
}

/// A handle to the engine's thread. The thread ends after `shutdown`, when the model panics, or when all handles are
/// dropped and their requests are done.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spec: ModelSpec,
    max_waiting: usize,
    /// Unbounded itself; a submission holds one of `places` until it is admitted, and a shutdown happens a few times.
    commands: mpsc::Sender<Command>,
    places: Arc<Semaphore>,
    is_shutting_down: AtomicBool,
    status: Arc<Status>,
    has_ended: watch::Receiver<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the engine's thread tells about itself.
#[derive(Debug, Default)]
struct Status {
    has_stopped: AtomicBool,
    counters: stats::Counters,
}

impl Engine {
    /// Starts a thread that owns the model.
    ///
    /// # Panics
    /// When the system refuses a thread, or the model's cache has no block.
    pub fn start(model: Box<dyn LanguageModel>, config: EngineConfig) -> Self {
        let spec = model.spec().clone();
        let max_waiting = config.max_waiting.clamp(1, Semaphore::MAX_PERMITS);
        let status = Arc::new(Status::default());
        let (commands, receiver) = mpsc::channel();
        let (end, has_ended) = watch::channel(false);
        let worker = Worker::new(model, &config, receiver, Arc::clone(&status));
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || {
                worker.run();
                // Not read by anyone when all handles are gone.
                let _ = end.send(true);
            })
            .expect("the system can start a thread");
        Self {
            shared: Arc::new(Shared {
                spec,
                max_waiting,
                commands,
                places: Arc::new(Semaphore::new(max_waiting)),
                is_shutting_down: AtomicBool::new(false),
                status,
                has_ended,
                thread: Mutex::new(Some(thread)),
            }),
        }
    }

    pub fn spec(&self) -> &ModelSpec {
        &self.shared.spec
    }

    /// Longest prompt and output together, in tokens: what the model was made for, and what the whole cache holds.
    pub fn context_length(&self) -> usize {
        request::context_length(&self.shared.spec)
    }

    /// Puts a request in the queue. Never waits: what cannot be taken now is refused.
    ///
    /// # Errors
    /// See [`SubmitError`]. A request whose prompt fits but whose `max_tokens` do not is accepted and ends at the
    /// context length.
    pub fn submit(&self, request: GenerationRequest) -> Result<TokenStream, SubmitError> {
        let mut streams = self.submit_choices(request, 1)?;
        Ok(streams.pop().expect("one choice has one stream"))
    }

    /// Like `submit`, for several continuations of one prompt, which is computed once. The n-th choice, from 0, is
    /// sampled with the seed plus n.
    ///
    /// # Errors
    /// As for `submit`; also when `num_choices` is 0.
    pub fn submit_choices(
        &self,
        mut request: GenerationRequest,
        num_choices: usize,
    ) -> Result<Vec<TokenStream>, SubmitError> {
        request::validate(&request, &self.shared.spec)?;
        if num_choices == 0 {
            let message = "0 is too few, ask for at least 1".to_string();
            return Err(SubmitError::InvalidParameter { name: "n", message });
        }
        if !self.is_alive() || self.shared.is_shutting_down.load(Ordering::Acquire) {
            return Err(SubmitError::Stopped);
        }
        let places = Arc::clone(&self.shared.places);
        let capacity = self.shared.max_waiting;
        let place = places
            .try_acquire_owned()
            .map_err(|_| SubmitError::QueueFull { capacity })?;
        let room = self.context_length() - request.prompt.len();
        request.max_tokens = request.max_tokens.min(room);
        let channels = (0..num_choices).map(|_| stream::channel(request.max_tokens));
        let (outputs, streams) = channels.unzip();
        let submission = Submission {
            request,
            outputs,
            place,
        };
        self.shared
            .commands
            .send(Command::Submit(Box::new(submission)))
            .map_err(|_| SubmitError::Stopped)?;
        Ok(streams)
    }

    /// Accepts no more requests, lets those that wait or run finish within `grace`, fails the rest with
    /// [`EngineError::ShuttingDown`], and ends the thread. A step that is being computed is not interrupted.
    pub async fn shutdown(&self, grace: Duration) {
        self.shared.is_shutting_down.store(true, Ordering::Release);
        let deadline = Instant::now().checked_add(grace);
        // An error means that the thread has ended already.
        let _ = self.shared.commands.send(Command::Shutdown { deadline });
        let _ = self.shared.has_ended.clone().wait_for(|ended| *ended).await;
        let mut thread = self
            .shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // It has nothing left to do; a panic has been logged where it was caught.
            let _ = thread.join();
        }
    }

    /// Whether the thread runs. False after `shutdown`, and when the model has panicked.
    pub fn is_alive(&self) -> bool {
        !self.shared.status.has_stopped.load(Ordering::Acquire)
    }

    pub fn stats(&self) -> EngineStats {
        let num_not_admitted = self.shared.max_waiting - self.shared.places.available_permits();
        let counters = &self.shared.status.counters;
        counters.read(num_not_admitted, self.shared.spec.num_blocks)
    }
}

#[cfg(test)]
mod tests;
