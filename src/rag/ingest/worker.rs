//! Works through the queue: many jobs side by side, each by itself, with bounds on what they may take together. What ends
//! one leaves the others alone, and one whose document has gone is ended at once.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::board::{self, Places};
use super::job::IngestError;
use super::{POLL, asked_to_stop};
use crate::embedding::Embedder;
use crate::rag::extract::ExtractLimits;
use crate::store::{DocumentErrorCode, Job, PageWarning, Store, StoreError};

/// Jobs that run side by side. Many, so that the embedder has texts to choose from while others are read, cut and stored:
/// short documents have one or two passages each.
const MAX_JOBS: usize = 16;
/// Files that are read side by side at most; each that is no plain text takes a process. Fewer where there are fewer cores.
const MAX_READERS: usize = 8;
/// Text of all documents that are being embedded, in KiB; a longer one has the room for itself.
const MAX_TEXT_KIB: usize = 512 << 10;

pub(super) struct Worker {
    pub store: Store,
    pub embedder: Embedder,
    pub limits: ExtractLimits,
    pub readers: Semaphore,
    text_kib: Semaphore,
}

/// A job that runs.
struct Running {
    job: Job,
    task: AbortHandle,
}

impl Worker {
    pub fn new(store: Store, embedder: Embedder, limits: ExtractLimits) -> Self {
        let num_cores = std::thread::available_parallelism().map_or(2, |num| num.get());
        Self {
            store,
            embedder,
            limits,
            readers: Semaphore::new(num_cores.clamp(2, MAX_READERS)),
            text_kib: Semaphore::new(MAX_TEXT_KIB),
        }
    }

    pub async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let places = board::start(self.store.clone());
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Id, Running> = HashMap::new();
        loop {
            self.end_lost(&running).await;
            while tasks.len() < MAX_JOBS
                && let Some(job) = self.claim().await
            {
                let (worker, claimed) = (Arc::clone(&self), job.clone());
                let places = places.clone();
                let task = tasks.spawn(async move { worker.finish(claimed, places).await });
                running.insert(task.id(), Running { job, task });
            }
            tokio::select! {
                _ = asked_to_stop(&mut stopped) => break,
                _ = self.store.jobs_changed() => {}
                Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                    self.mind_end(ended, &mut running).await;
                }
                _ = tokio::time::sleep(POLL) => {}
            }
        }
        tasks.shutdown().await;
        // A stop in good order is nothing that a file has done.
        for Running { job, .. } in running.values() {
            match self.store.release_job(job).await {
                Ok(()) | Err(StoreError::Gone { .. }) => {}
                Err(error) => tracing::warn!(%error, "an unfinished job could not be given back"),
            }
        }
    }

    async fn claim(&self) -> Option<Job> {
        match self.store.claim_next_job().await {
            Ok(job) => job,
            Err(error) => {
                tracing::error!(%error, "the ingestion queue cannot be read");
                None
            }
        }
    }

    /// Ends what is done for documents that were deleted, cancelled or queued anew: the process that reads one is killed,
    /// and what waits to be embedded is withdrawn.
    async fn end_lost(&self, running: &HashMap<Id, Running>) {
        if running.is_empty() {
            return;
        }
        let jobs = running.values().map(|it| it.job.clone()).collect();
        match self.store.lost_jobs(jobs).await {
            Ok(lost) => {
                let is_lost = |it: &&Running| lost.contains(&it.job.id);
                running
                    .values()
                    .filter(is_lost)
                    .for_each(|it| it.task.abort());
            }
            Err(error) => tracing::error!(%error, "the ingestion queue cannot be read"),
        }
    }

    async fn mind_end(
        &self,
        ended: Result<(Id, ()), JoinError>,
        running: &mut HashMap<Id, Running>,
    ) {
        let (id, has_panicked) = match ended {
            Ok((id, ())) => (id, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        if let Some(Running { job, .. }) = running.remove(&id).filter(|_| has_panicked) {
            let why = "reading this file crashed the ingestion; please report it";
            self.fail(&job, DocumentErrorCode::ServerError, why, Vec::new())
                .await;
        }
    }

    async fn finish(&self, job: Job, places: Places) {
        let place = places.take(&job).await;
        let error = match self.ingest(&job, &place).await {
            Ok(()) => return,
            Err(IngestError::Store(StoreError::Gone { .. })) => return,
            Err(error) => error,
        };
        tracing::warn!(file = job.file_id, %error, "document could not be ingested");
        let (code, message) = (error.code(), error.to_string());
        self.fail(&job, code, &message, error.into_pages()).await;
    }

    /// Stores the failure. When even that fails, as it does on a full disk, goes on trying: a document that nobody works
    /// on must not look as if somebody did.
    async fn fail(
        &self,
        job: &Job,
        code: DocumentErrorCode,
        message: &str,
        pages: Vec<PageWarning>,
    ) {
        while let Err(error) = self.store.fail_job(job, code, message, pages.clone()).await {
            if matches!(error, StoreError::Gone { .. }) {
                return;
            }
            tracing::error!(file = job.file_id, %error, "the failure could not be stored");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until there is room for a document's text.
    pub async fn room_for(&self, text: &str) -> SemaphorePermit<'_> {
        let kib = (text.len() >> 10).clamp(1, MAX_TEXT_KIB) as u32;
        let room = self.text_kib.acquire_many(kib).await;
        room.expect("this semaphore is never closed")
    }
}
