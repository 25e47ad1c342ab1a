//! Makes attached files searchable, as durable jobs: extract, chunk, embed, store. Killed at any moment, a job goes on
//! where its last stored batch ended.

mod board;
mod estimate;
mod follow;
mod job;
mod passages;
mod reindex;
mod text;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::embedding::Embedder;
use crate::rag::chunk::CHUNKER_VERSION;
use crate::rag::extract::ExtractLimits;
use crate::store::{Chunking, ReindexScope, Store, WorkerLock, try_worker_lock};
use worker::Worker;

pub use follow::{Change, Follower};
pub use passages::{ChunkerFailed, cut};
pub use text::{EXTRACTOR_VERSION, decode, kept_text, known_text};

/// How often the queue is looked at for jobs that another process added.
const POLL: Duration = Duration::from_secs(1);

/// The running ingestion of this process.
pub struct Ingestion {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Ingestion {
    /// Starts to work through the queue of `data_dir`, including what an earlier process left unfinished. While another
    /// process does so already, this one waits to take over.
    pub fn start(
        store: Store,
        embedder: Embedder,
        limits: ExtractLimits,
        data_dir: PathBuf,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let worker = Arc::new(Worker::new(store, embedder, limits));
        let task = tokio::spawn(async move {
            let Some(_lock) = wait_for_lock(&data_dir, stopped.clone()).await else {
                return;
            };
            match worker.store.requeue_interrupted_jobs().await {
                Ok(0) => {}
                Ok(jobs) => tracing::info!(jobs, "resuming interrupted ingestion"),
                Err(error) => tracing::error!(%error, "interrupted ingestion cannot be resumed"),
            }
            let reindexing = Arc::clone(&worker).reindex_all(stopped.clone());
            tokio::join!(worker.run(stopped), reindexing);
        });
        Self { stop, task }
    }

    /// Stops at once. Unfinished jobs go on at the next start.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }

    /// Tells whether the worker has died.
    pub fn watch(&self) -> AbortHandle {
        self.task.abort_handle()
    }
}

/// The chunking that an embedder allows: passages within its window, overlapping by a quarter at most.
pub fn allowed_chunking(wanted: Chunking, embedder: &Embedder) -> Chunking {
    let max_tokens = wanted.max_tokens.min(embedder.max_passage_tokens() as u32);
    Chunking {
        max_tokens,
        overlap_tokens: wanted.overlap_tokens.min(max_tokens / 4),
    }
}

/// What to cut and embed anew with this embedder: all that it would make otherwise.
pub fn reindex_scope(
    vector_store_id: Option<String>,
    chunking: Option<Chunking>,
    embedder: &Embedder,
) -> ReindexScope {
    ReindexScope {
        vector_store_id,
        chunking,
        max_tokens: embedder.max_passage_tokens() as u32,
        chunker_version: CHUNKER_VERSION,
    }
}

/// Resolves when nobody wants more, also because nobody is left.
async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The right to run jobs, or `None` when asked to stop before it was free.
async fn wait_for_lock(data_dir: &Path, mut stopped: watch::Receiver<bool>) -> Option<WorkerLock> {
    loop {
        match try_worker_lock(data_dir) {
            Ok(Some(lock)) => return Some(lock),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the ingestion lock cannot be taken"),
        }
        tokio::select! {
            _ = asked_to_stop(&mut stopped) => return None,
            _ = tokio::time::sleep(POLL) => {}
        }
    }
}
