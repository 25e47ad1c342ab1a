//! One job: a document's text, its passages, their vectors, batch by batch.

use std::sync::Arc;

use super::passages::{BATCH, ChunkerFailed, cut, embedded};
use super::text::{encode, known_text};
use super::worker::Worker;
use crate::embedding::EmbeddingError;
use crate::rag::chunk::CHUNKER_VERSION;
use crate::rag::extract::{ExtractError, ExtractedText, PageOutcome, PageSpan, extract};
use crate::store::{Job, PageWarning, Progress, StoreError};

/// Why a job did not complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum IngestError {
    #[error(transparent)]
    Extract(#[from] ExtractError),
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Chunker(#[from] ChunkerFailed),
    #[error("no text was found in the document")]
    NoText,
}

impl Worker {
    pub(super) async fn ingest(&self, job: &Job) -> Result<(), IngestError> {
        let document = self.text_of(job).await?;
        let warnings = page_warnings(&document);
        let document = Arc::new(document);
        let chunks = cut(&document, job.chunking, &self.embedder).await?;
        if chunks.is_empty() {
            return Err(IngestError::NoText);
        }
        let pages = document.pages.len() as u32;
        let mut progress = Progress {
            pages_read: pages,
            pages_total: pages,
            chunks_done: self.store.begin_cutting(job, CHUNKER_VERSION).await?,
            chunks_total: chunks.len() as u32,
        };
        while (progress.chunks_done as usize) < chunks.len() {
            self.store.job_progress(job, progress).await?;
            let first = progress.chunks_done as usize;
            let batch = &chunks[first..(first + BATCH).min(chunks.len())];
            let new = embedded(&document, batch, first, &self.embedder).await?;
            progress.chunks_done += new.len() as u32;
            self.store.append_chunks(job, new).await?;
        }
        self.store.job_progress(job, progress).await?;
        self.store
            .complete_job(job, chunks.len() as u32, warnings)
            .await?;
        Ok(())
    }

    /// The document's text, read anew only when it has not been before.
    async fn text_of(&self, job: &Job) -> Result<ExtractedText, IngestError> {
        if let Some(document) = known_text(&self.store, &job.file_id).await? {
            return Ok(document);
        }
        let file = self.store.file(&job.file_id).await?;
        let content = self.store.file_content(&job.file_id).await?;
        let document = extract(&content, &file.filename, &self.limits).await?;
        if !document
            .pages
            .iter()
            .any(|page| page.outcome == PageOutcome::Read)
        {
            return Err(IngestError::NoText);
        }
        self.store
            .save_extraction(&job.file_id, encode(&document))
            .await?;
        Ok(document)
    }
}

/// Pages that a reader should know about.
fn page_warnings(document: &ExtractedText) -> Vec<PageWarning> {
    let warning = |page: &PageSpan| match &page.outcome {
        PageOutcome::Failed(reason) => Some(PageWarning {
            page: page.number,
            error: reason.clone(),
        }),
        PageOutcome::Empty => Some(PageWarning {
            page: page.number,
            error: "no text on this page".into(),
        }),
        PageOutcome::Read => None,
    };
    document.pages.iter().filter_map(warning).collect()
}
