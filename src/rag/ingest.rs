//! Makes attached files searchable, as durable jobs: extract, chunk, embed, store. Killed at any moment, a job goes on
//! where its last stored batch ended.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinHandle, JoinSet};

use crate::embedding::{Embedder, EmbeddingError, InputKind, Priority};
use crate::rag::chunk::{Chunk, ChunkOptions, chunk};
use crate::rag::extract::{
    ExtractError, ExtractLimits, ExtractedText, Format, Heading, PageOutcome, PageSpan, extract,
};
use crate::store::{
    Chunking, DocumentErrorCode, Extraction, Job, NewChunk, PageWarning, Progress, Store,
    StoreError, WorkerLock, try_worker_lock,
};

/// Changes whenever extraction gives another text for the same file, so that old texts are not mistaken for new ones.
const EXTRACTOR_VERSION: &str = "2";
/// Passages embedded and stored at a time: what a kill can cost at most.
const BATCH: usize = 16;
/// Jobs run side by side, so that one is read while another is embedded, and short ones share a batch.
const MAX_JOBS: usize = 4;
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
        let worker = Arc::new(Worker {
            store,
            embedder,
            limits,
        });
        let task = tokio::spawn(async move {
            let Some(_lock) = wait_for_lock(&data_dir, stopped.clone()).await else {
                return;
            };
            match worker.store.requeue_interrupted_jobs().await {
                Ok(0) => {}
                Ok(jobs) => tracing::info!(jobs, "resuming interrupted ingestion"),
                Err(error) => tracing::error!(%error, "interrupted ingestion cannot be resumed"),
            }
            worker.run(stopped).await;
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

/// How documents are cut unless a request says otherwise.
pub fn default_chunking() -> Chunking {
    let defaults = ChunkOptions::default();
    Chunking {
        max_tokens: defaults.max_tokens as u32,
        overlap_tokens: defaults.overlap_tokens as u32,
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

/// What a document has besides its text, as it is stored.
#[derive(Serialize, Deserialize)]
struct Layout {
    format: Format,
    pages: Vec<PageSpan>,
    headings: Vec<Heading>,
}

/// The text of a file that has been read before, as it would be read now.
pub async fn known_text(store: &Store, file_id: &str) -> Result<Option<ExtractedText>, StoreError> {
    let stored = store.extraction(file_id).await?;
    let Some(current) = stored.filter(|it| it.extractor_version == EXTRACTOR_VERSION) else {
        return Ok(None);
    };
    let decoded = tokio::task::spawn_blocking(move || decode(current)).await;
    decoded.map_err(|error| StoreError::Panicked(error.to_string()))
}

/// The text of what was read of a file, which is kept for whoever reads it next, unless a page of it could not be read.
pub async fn kept_text(
    store: &Store,
    file_id: &str,
    document: ExtractedText,
) -> Result<String, StoreError> {
    let is_failed = |page: &PageSpan| matches!(page.outcome, PageOutcome::Failed(_));
    if document.pages.iter().any(is_failed) {
        return Ok(document.text);
    }
    let encoded = tokio::task::spawn_blocking(move || encode(&document)).await;
    let extraction = encoded.map_err(|error| StoreError::Panicked(error.to_string()))?;
    let text = extraction.text.clone();
    store.save_extraction(file_id, extraction).await?;
    Ok(text)
}

fn encode(document: &ExtractedText) -> Extraction {
    let ExtractedText {
        format,
        title,
        text,
        pages,
        headings,
    } = document.clone();
    let layout = serde_json::to_string(&Layout {
        format,
        pages,
        headings,
    })
    .expect("a layout is plain data");
    Extraction {
        extractor_version: EXTRACTOR_VERSION.into(),
        title,
        text,
        layout,
    }
}

/// The document that was stored; `None` when an earlier version stored it in another shape.
pub fn decode(stored: Extraction) -> Option<ExtractedText> {
    let Layout {
        format,
        pages,
        headings,
    } = serde_json::from_str(&stored.layout).ok()?;
    Some(ExtractedText {
        format,
        title: stored.title,
        text: stored.text,
        pages,
        headings,
    })
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

struct Worker {
    store: Store,
    embedder: Embedder,
    limits: ExtractLimits,
}

/// Why a job did not complete.
#[derive(Debug, thiserror::Error)]
enum IngestError {
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
    async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
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

    async fn ingest(&self, job: &Job) -> Result<(), IngestError> {
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
