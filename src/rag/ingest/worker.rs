//! Works through the queue: several jobs side by side, each by itself. What ends one leaves the others alone.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::job::IngestError;
use super::{POLL, asked_to_stop};
use crate::embedding::Embedder;
use crate::rag::extract::ExtractLimits;
use crate::store::{DocumentErrorCode, Job, Store, StoreError};

/// Jobs run side by side, so that one is read while another is embedded, and short ones share a batch.
const MAX_JOBS: usize = 4;

pub(super) struct Worker {
    pub store: Store,
    pub embedder: Embedder,
    pub limits: ExtractLimits,
}

impl Worker {
    pub async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut running = JoinSet::new();
        let mut jobs: HashMap<Id, Job> = HashMap::new();
        loop {
            while running.len() < MAX_JOBS {
                match self.store.claim_next_job().await {
                    Ok(Some(job)) => {
                        let (worker, claimed) = (Arc::clone(&self), job.clone());
                        let task = running.spawn(async move { worker.finish(claimed).await });
                        jobs.insert(task.id(), job);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(%error, "the ingestion queue cannot be read");
                        break;
                    }
                }
            }
            tokio::select! {
                _ = asked_to_stop(&mut stopped) => break,
                _ = self.store.jobs_changed() => {}
                Some(ended) = running.join_next_with_id(), if !running.is_empty() => {
                    let (id, has_panicked) = match ended {
                        Ok((id, ())) => (id, false),
                        Err(error) => (error.id(), error.is_panic()),
                    };
                    if let Some(job) = jobs.remove(&id).filter(|_| has_panicked) {
                        let why = "reading this file crashed the ingestion; please report it";
                        self.fail(&job, DocumentErrorCode::ServerError, why).await;
                    }
                }
                _ = tokio::time::sleep(POLL) => {}
            }
        }
        running.shutdown().await;
        // A stop in good order is nothing that a file has done.
        for job in jobs.values() {
            match self.store.release_job(job).await {
                Ok(()) | Err(StoreError::Gone { .. }) => {}
                Err(error) => tracing::warn!(%error, "an unfinished job could not be given back"),
            }
        }
    }

    async fn finish(&self, job: Job) {
        let error = match self.ingest(&job).await {
            Ok(()) => return,
            Err(IngestError::Store(StoreError::Gone { .. })) => return,
            Err(error) => error,
        };
        let code = match &error {
            IngestError::Extract(error) => match error.code() {
                "unsupported_file" => DocumentErrorCode::UnsupportedFile,
                "invalid_file" => DocumentErrorCode::InvalidFile,
                _ => DocumentErrorCode::ServerError,
            },
            IngestError::NoText => DocumentErrorCode::InvalidFile,
            IngestError::Embedding(_) | IngestError::Store(_) | IngestError::Chunker(_) => {
                DocumentErrorCode::ServerError
            }
        };
        tracing::warn!(file = job.file_id, %error, "document could not be ingested");
        self.fail(&job, code, &error.to_string()).await;
    }

    /// Stores the failure. When even that fails, as it does on a full disk, goes on trying: a document that nobody works
    /// on must not look as if somebody did.
    async fn fail(&self, job: &Job, code: DocumentErrorCode, message: &str) {
        while let Err(error) = self.store.fail_job(job, code, message).await {
            if matches!(error, StoreError::Gone { .. }) {
                return;
            }
            tracing::error!(file = job.file_id, %error, "the failure could not be stored");
            tokio::time::sleep(POLL).await;
        }
    }
}
