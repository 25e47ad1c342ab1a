//! The handle to a model's thread, whatever the thread computes: queues with a bound, and an end that is waited for. It
//! never holds a lock while waiting.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use super::worker::{Computation, Outputs, Request, Worker};
use super::{EmbeddingError, Priority};

/// Requests of one priority that may wait for the worker; a further caller waits to be let in.
const QUEUE_CAPACITY: usize = 64;

/// A running thread. It stops when this is dropped.
pub(super) struct ModelThread<C: Computation> {
    name: &'static str,
    interactive: mpsc::Sender<Request<C>>,
    background: mpsc::Sender<Request<C>>,
    running: Mutex<Option<Running>>,
}

struct Running {
    /// Dropping it tells the worker to stop.
    stop: watch::Sender<()>,
    handle: JoinHandle<()>,
}

impl<C: Computation> ModelThread<C> {
    pub(super) fn start(name: &'static str, computation: C) -> Result<Self, EmbeddingError> {
        let cannot_start = |error: std::io::Error| EmbeddingError::Compute {
            reason: format!("its thread cannot be started: {error}"),
        };
        let (interactive, interactive_queue) = mpsc::channel(QUEUE_CAPACITY);
        let (background, background_queue) = mpsc::channel(QUEUE_CAPACITY);
        let (stop, stopped) = watch::channel(());
        let queues = [interactive_queue, background_queue];
        let worker = Worker::new(computation, queues, stopped);
        // The worker only waits on channels, so its runtime needs neither timers nor sockets.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(cannot_start)?;
        let handle = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || runtime.block_on(worker.run()))
            .map_err(cannot_start)?;
        Ok(Self {
            name,
            interactive,
            background,
            running: Mutex::new(Some(Running { stop, handle })),
        })
    }

    /// One output an input. Waits while the queue is full; dropping the future withdraws the request.
    pub(super) async fn compute(
        &self,
        inputs: Vec<C::Input>,
        priority: Priority,
    ) -> Result<Outputs<C::Output>, EmbeddingError> {
        if inputs.is_empty() {
            return Ok(Outputs {
                values: Vec::new(),
                num_tokens: Vec::new(),
            });
        }
        let queue = match priority {
            Priority::Interactive => &self.interactive,
            Priority::Background => &self.background,
        };
        let (reply, answer) = oneshot::channel();
        queue
            .send(Request::new(inputs, reply))
            .await
            .map_err(|_| EmbeddingError::Stopped)?;
        answer.await.map_err(|_| EmbeddingError::Stopped)?
    }

    pub(super) fn is_alive(&self) -> bool {
        let running = self.running();
        running.as_ref().is_some_and(|it| !it.handle.is_finished())
    }

    /// Stops the thread after the batch it is computing and waits for its end.
    pub(super) async fn shutdown(&self) {
        let running = self.running().take();
        let Some(Running { stop, handle }) = running else {
            return;
        };
        drop(stop);
        let joined = tokio::task::spawn_blocking(move || handle.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!(
                thread = self.name,
                "a model's thread had panicked before it was asked to stop"
            );
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
