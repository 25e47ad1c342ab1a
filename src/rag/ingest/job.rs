//! One job: a document's text, its passages, their vectors, batch by batch.

use std::sync::Arc;

use super::allowed_chunking;
use super::text::{encode, known_text};
use super::worker::Worker;
use crate::embedding::{EmbeddingError, InputKind, Priority};
use crate::rag::chunk::{Chunk, ChunkOptions, chunk};
use crate::rag::extract::{ExtractError, ExtractedText, PageOutcome, PageSpan, extract};
use crate::store::{Job, NewChunk, PageWarning, Progress, StoreError};

/// Passages embedded and stored at a time: what a kill can cost at most.
const BATCH: usize = 16;

/// Why a job did not complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum IngestError {
    #[error(transparent)]
    Extract(#[from] ExtractError),
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the chunker failed: {0}")]
    Chunker(String),
    #[error("no text was found in the document")]
    NoText,
}

impl Worker {
    pub(super) async fn ingest(&self, job: &Job) -> Result<(), IngestError> {
        let document = self.text_of(job).await?;
        let warnings = page_warnings(&document);
        let document = Arc::new(document);
        let chunks = self.chunks_of(&document, job).await?;
        if chunks.is_empty() {
            return Err(IngestError::NoText);
        }
        let pages = document.pages.len() as u32;
        let mut progress = Progress {
            pages_read: pages,
            pages_total: pages,
            chunks_done: self.store.num_stored_chunks(job).await?,
            chunks_total: chunks.len() as u32,
        };
        while (progress.chunks_done as usize) < chunks.len() {
            self.store.job_progress(job, progress).await?;
            let first = progress.chunks_done as usize;
            let batch = &chunks[first..(first + BATCH).min(chunks.len())];
            let texts = batch
                .iter()
                .map(|chunk| document.text[chunk.span.clone()].to_string())
                .collect();
            let embedded = self
                .embedder
                .embed(texts, InputKind::Passage, Priority::Background)
                .await?;
            let new =
                batch
                    .iter()
                    .zip(embedded.vectors)
                    .enumerate()
                    .map(|(at, (chunk, vector))| NewChunk {
                        ordinal: (first + at) as u32,
                        span: chunk.span.clone(),
                        page_first: chunk.page_first,
                        page_last: chunk.page_last,
                        heading_path: chunk.heading_path.clone(),
                        text: document.text[chunk.span.clone()].to_string(),
                        num_tokens: chunk.num_tokens as u32,
                        vector,
                    });
            let new: Vec<NewChunk> = new.collect();
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

    async fn chunks_of(
        &self,
        document: &Arc<ExtractedText>,
        job: &Job,
    ) -> Result<Vec<Chunk>, IngestError> {
        let chunking = allowed_chunking(job.chunking, &self.embedder);
        let options = ChunkOptions {
            max_tokens: chunking.max_tokens as usize,
            overlap_tokens: chunking.overlap_tokens as usize,
        };
        let document = Arc::clone(document);
        let embedder = self.embedder.clone();
        let chunked = tokio::task::spawn_blocking(move || {
            chunk(&document, &options, &|text: &str| {
                embedder.count_tokens(text)
            })
        });
        chunked
            .await
            .map_err(|error| IngestError::Chunker(error.to_string()))
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
