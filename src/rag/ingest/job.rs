//! One job: a document's text, its passages, their vectors, batch by batch. What is known of another file with the same
//! content is copied.

use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, stream};
use tokio::sync::watch;

use super::board::Place;
use super::passages::{BATCH, ChunkerFailed, cut, embedded};
use super::text::{encode, encode_locked, known_text};
use super::worker::Worker;
use crate::embedding::EmbeddingError;
use crate::rag::chunk::CHUNKER_VERSION;
use crate::rag::extract::ocr::GOOD_CONFIDENCE;
use crate::rag::extract::{
    ExtractError, ExtractedText, Original, PageOutcome, PageSpan, PagesRead, Recognition,
    extract_watched,
};
use crate::store::{DocumentErrorCode, Job, PageWarning, Password, Progress, StoreError};

/// Batches of a document on their way to the embedder, so that it need not wait while one is stored.
const BATCHES_AHEAD: usize = 3;
/// Passages copied in one write.
const COPIED_AT_ONCE: u32 = 256;

/// Why a job did not complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum IngestError {
    #[error("{error}")]
    Extract {
        error: ExtractError,
        /// What was found until then.
        pages: Vec<PageWarning>,
    },
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Chunker(#[from] ChunkerFailed),
    #[error("no text was found in the document")]
    NoText { pages: Vec<PageWarning> },
}

impl IngestError {
    pub fn code(&self) -> DocumentErrorCode {
        match self {
            Self::Extract { error, .. } => match error.code() {
                "unsupported_file" => DocumentErrorCode::UnsupportedFile,
                "invalid_file" => DocumentErrorCode::InvalidFile,
                _ => DocumentErrorCode::ServerError,
            },
            Self::NoText { .. } => DocumentErrorCode::InvalidFile,
            Self::Embedding(_) | Self::Store(_) | Self::Chunker(_) => {
                DocumentErrorCode::ServerError
            }
        }
    }

    /// What is known of the document's pages.
    pub fn into_pages(self) -> Vec<PageWarning> {
        match self {
            Self::Extract { pages, .. } | Self::NoText { pages } => pages,
            Self::Embedding(_) | Self::Store(_) | Self::Chunker(_) => Vec::new(),
        }
    }
}

/// Passages of a document that are in the store.
enum Stored {
    All(u32),
    /// So many from its beginning.
    First(u32),
}

impl Worker {
    pub(super) async fn ingest(&self, job: &Job, place: &Place) -> Result<(), IngestError> {
        let document = self.text_of(job, place).await?;
        let warnings = page_warnings(document.pages.iter().map(|page| &page.outcome));
        let _room = self.room_for(&document.text).await;
        let num_pages = document.pages.len() as u32;
        // Also where nothing had to be read, or not page by page.
        place.send_modify(|it| {
            it.pages_read = num_pages;
            it.pages_total = num_pages;
        });
        let num_stored = self.store.begin_cutting(job, CHUNKER_VERSION).await?;
        let num_chunks = match self.copied(job, num_pages, num_stored).await? {
            Stored::All(num_chunks) => num_chunks,
            Stored::First(num_stored) => self.compute(job, document, num_stored, place).await?,
        };
        self.store.complete_job(job, num_chunks, warnings).await?;
        Ok(())
    }

    /// Cuts and embeds what comes after the passages that are stored, and says how many there are then.
    async fn compute(
        &self,
        job: &Job,
        document: ExtractedText,
        num_stored: u32,
        place: &Place,
    ) -> Result<u32, IngestError> {
        let document = Arc::new(document);
        let chunks = cut(&document, job.chunking, &self.embedder).await?;
        if chunks.is_empty() {
            let pages = page_warnings(document.pages.iter().map(|page| &page.outcome));
            return Err(IngestError::NoText { pages });
        }
        let num_chunks = chunks.len() as u32;
        self.begin_chunks(job, document.pages.len() as u32, num_chunks)
            .await?;
        place.send_modify(|it| {
            it.embedding_since = Some((Instant::now(), num_stored));
            it.chunks_done = num_stored;
            it.chunks_total = num_chunks;
        });
        let batches = (num_stored as usize..chunks.len())
            .step_by(BATCH)
            .map(|first| {
                let batch = &chunks[first..(first + BATCH).min(chunks.len())];
                embedded(&document, batch, first, &self.embedder)
            });
        let mut batches = stream::iter(batches).buffered(BATCHES_AHEAD);
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let num_new = batch.len() as u32;
            let num_bytes: usize = batch.iter().map(|chunk| chunk.text.len()).sum();
            self.store.append_chunks(job, batch).await?;
            place.send_modify(|it| {
                it.chunks_done += num_new;
                it.bytes_embedded += num_bytes;
            });
        }
        Ok(num_chunks)
    }

    /// Copies the passages of a document of the same content to those that are stored, if there is one.
    async fn copied(
        &self,
        job: &Job,
        num_pages: u32,
        mut num_stored: u32,
    ) -> Result<Stored, IngestError> {
        let Some(twin) = self.store.twin(job).await? else {
            return Ok(Stored::First(num_stored));
        };
        self.begin_chunks(job, num_pages, twin.num_chunks).await?;
        while num_stored < twin.num_chunks {
            let num_before = num_stored;
            num_stored = self.store.copy_chunks(job, twin, COPIED_AT_ONCE).await?;
            if num_stored == num_before {
                break;
            }
        }
        if num_stored == twin.num_chunks {
            return Ok(Stored::All(num_stored));
        }
        // It was deleted meanwhile. Nothing says that its passages are those that would follow.
        self.store.discard_chunks(job).await?;
        Ok(Stored::First(0))
    }

    /// Keeps how much there is to do, at once: short documents are done before the board looks.
    async fn begin_chunks(
        &self,
        job: &Job,
        num_pages: u32,
        num_chunks: u32,
    ) -> Result<(), StoreError> {
        let progress = Progress {
            pages_read: num_pages,
            pages_total: num_pages,
            chunks_total: num_chunks,
            ..Progress::default()
        };
        self.store
            .note_progress(vec![(job.clone(), progress)])
            .await
    }

    /// The document's text, read anew only when it, or its equal, has not been before.
    async fn text_of(&self, job: &Job, place: &Place) -> Result<ExtractedText, IngestError> {
        let password = self.store.password(job).await?;
        let may_be_opened = |it: &ExtractedText| password.is_some() && lacks_parts(it);
        let is_enough = |it: &ExtractedText| !self.could_recognise_more(it) && !may_be_opened(it);
        let known = known_text(&self.store, &job.file_id).await?;
        if let Some(document) = known.filter(is_enough) {
            return Ok(document);
        }
        let _permit = self.readers.acquire().await.expect("it is never closed");
        let same = super::text::text_of_same_content(&self.store, &job.file_id).await?;
        if let Some(document) = same.filter(|it| !may_be_opened(it)) {
            return Ok(document);
        }
        let is_locked = password.is_some();
        let document = self.read(job, password, place).await?;
        let encoded = tokio::task::spawn_blocking(move || {
            let encode = if is_locked { encode_locked } else { encode };
            (encode(&document), document)
        });
        let encoded = encoded.await;
        let (extraction, document) =
            encoded.map_err(|error| StoreError::Panicked(error.to_string()))?;
        self.store.save_extraction(&job.file_id, extraction).await?;
        if is_locked {
            self.store.forget_password(job).await?;
        }
        Ok(document)
    }

    async fn read(
        &self,
        job: &Job,
        password: Option<Password>,
        place: &Place,
    ) -> Result<ExtractedText, IngestError> {
        let file = self.store.file(&job.file_id).await?;
        let content = self.store.file_content(&job.file_id).await?;
        place.send_modify(|it| it.reading_since = Some(Instant::now()));
        let (pages, mut told) = watch::channel(PagesRead::default());
        let read = {
            let original = Original {
                password: password.as_ref().map(Password::expose),
                ..Original::stored(content, &file.filename, &file.media_type)
            };
            let mut read = std::pin::pin!(extract_watched(original, &self.limits, &pages));
            loop {
                tokio::select! {
                    read = &mut read => break read,
                    Ok(()) = told.changed() => {
                        let pages = told.borrow_and_update();
                        place.send_modify(|it| {
                            it.pages_read = pages.outcomes.len() as u32;
                            it.pages_total = pages.num_pages;
                            it.bytes_read = pages.num_bytes;
                        });
                    }
                }
            }
        };
        let document = read.map_err(|error| IngestError::Extract {
            error,
            pages: page_warnings(pages.borrow().outcomes.iter()),
        })?;
        let outcomes = document.pages.iter().map(|page| &page.outcome);
        if !outcomes.clone().any(PageOutcome::has_text) {
            let pages = page_warnings(outcomes);
            return Err(IngestError::NoText { pages });
        }
        Ok(document)
    }

    /// Whether a text was kept while scanned pages could not be recognised, which they can be now.
    fn could_recognise_more(&self, document: &ExtractedText) -> bool {
        let is_scan = |page: &PageSpan| matches!(page.outcome, PageOutcome::Scanned(_));
        matches!(self.limits.recognition, Recognition::With(_))
            && document.pages.iter().any(is_scan)
    }
}

/// Whether something was not read that a password may open, as a member of an archive.
fn lacks_parts(document: &ExtractedText) -> bool {
    let mut outcomes = document.pages.iter().map(|page| &page.outcome);
    outcomes.any(|it| matches!(it, PageOutcome::Failed(_) | PageOutcome::ReadInPart(_)))
}

/// Pages that a reader should know about, of all in their order.
fn page_warnings<'a>(outcomes: impl Iterator<Item = &'a PageOutcome>) -> Vec<PageWarning> {
    let warning = |(page, outcome): (u32, &PageOutcome)| match outcome {
        PageOutcome::Failed(reason) | PageOutcome::ReadInPart(reason) => Some(PageWarning {
            page,
            error: reason.clone(),
            is_empty: false,
        }),
        PageOutcome::Empty => Some(PageWarning {
            page,
            error: "no text on this page".into(),
            is_empty: true,
        }),
        PageOutcome::Scanned(reason) => Some(PageWarning {
            page,
            error: format!("a scanned page: {reason}"),
            is_empty: false,
        }),
        PageOutcome::Recognised { confidence } if *confidence < GOOD_CONFIDENCE => {
            Some(PageWarning {
                page,
                error: format!(
                    "a scanned page that was recognised poorly (a confidence of {confidence} of 100); look at it"
                ),
                is_empty: false,
            })
        }
        PageOutcome::Read | PageOutcome::Recognised { .. } => None,
    };
    (1..).zip(outcomes).filter_map(warning).collect()
}
