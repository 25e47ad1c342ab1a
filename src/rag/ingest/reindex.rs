//! Cuts and embeds documents anew, one after the other, while they go on answering as they are. Killed at any moment, it
//! goes on where its last stored batch ended.

use std::sync::Arc;

use tokio::sync::watch;

use super::job::IngestError;
use super::passages::{BATCH, cut, embedded};
use super::text::decode;
use super::worker::Worker;
use super::{POLL, asked_to_stop};
use crate::rag::chunk::CHUNKER_VERSION;
use crate::rag::extract::ExtractedText;
use crate::store::{Reindex, StoreError};

impl Worker {
    /// Works through what is queued until asked to stop. Only the holder of the worker lock may call this.
    pub(super) async fn reindex_all(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        match self.store.requeue_interrupted_reindexes().await {
            Ok(0) => {}
            Ok(documents) => tracing::info!(documents, "resuming interrupted re-indexing"),
            Err(error) => tracing::error!(%error, "interrupted re-indexing cannot be resumed"),
        }
        loop {
            let claimed = match self.store.claim_next_reindex(CHUNKER_VERSION).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::error!(%error, "what is to be re-indexed cannot be read");
                    None
                }
            };
            let Some(reindex) = claimed else {
                tokio::select! {
                    _ = asked_to_stop(&mut stopped) => return,
                    _ = tokio::time::sleep(POLL) => continue,
                }
            };
            tokio::select! {
                _ = asked_to_stop(&mut stopped) => {
                    match self.store.release_reindex(&reindex).await {
                        Ok(()) | Err(StoreError::Gone { .. }) => {}
                        Err(error) => tracing::warn!(%error, "unfinished re-indexing could not be given back"),
                    }
                    return;
                }
                () = self.finish_reindex(&reindex) => {}
            }
        }
    }

    async fn finish_reindex(&self, reindex: &Reindex) {
        let error = match self.reindex(reindex).await {
            Ok(()) | Err(IngestError::Store(StoreError::Gone { .. })) => return,
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            file = reindex.file_id,
            error,
            "document could not be re-indexed"
        );
        // As with jobs: nothing may look as if it was being worked on when it is not.
        while let Err(error) = self.store.fail_reindex(reindex, &error).await {
            if matches!(error, StoreError::Gone { .. }) {
                return;
            }
            tracing::error!(file = reindex.file_id, %error, "the failure could not be stored");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn reindex(&self, reindex: &Reindex) -> Result<(), IngestError> {
        let document = Arc::new(self.text_as_stored(&reindex.file_id).await?);
        let chunks = cut(&document, reindex.chunking, &self.embedder).await?;
        if chunks.is_empty() {
            return Err(IngestError::NoText { pages: Vec::new() });
        }
        let total = chunks.len() as u32;
        let mut first = (reindex.chunks_done as usize).min(chunks.len());
        while first < chunks.len() {
            let batch = &chunks[first..(first + BATCH).min(chunks.len())];
            let new = embedded(&document, batch, first, &self.embedder).await?;
            first += new.len();
            self.store
                .append_pending_chunks(reindex, new, total)
                .await?;
        }
        self.store.complete_reindex(reindex, total).await?;
        Ok(())
    }

    /// The text as it was read when the document was added, even by an earlier version: citations that were given count
    /// its bytes, and so do the chunks that answer meanwhile.
    async fn text_as_stored(&self, file_id: &str) -> Result<ExtractedText, IngestError> {
        let stored = self.store.extraction(file_id).await?;
        let decoded = tokio::task::spawn_blocking(move || stored.and_then(decode)).await;
        let decoded = decoded.map_err(|error| StoreError::Panicked(error.to_string()))?;
        decoded.ok_or(IngestError::NoText { pages: Vec::new() })
    }
}
