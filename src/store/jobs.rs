//! Durable ingestion jobs. A worker's proof that a job is still its own is the claim it was given: when the document
//! was deleted, cancelled or queued anew meanwhile, every further step fails with `Gone` and changes nothing.

use std::ops::Range;

use rusqlite::{OptionalExtension, Transaction, params};

use super::chunks::{Place, insert_chunks};
use super::documents::{Chunking, DocumentErrorCode, DocumentStatus, PageWarning, remove_replaced};
use super::error::{Result, StoreError};
use super::json::Json;
use super::passwords;
use super::queue::{MAX_ATTEMPTS, Queue};
use super::vector_stores::touch;
use super::{EmbedderId, Store};

/// A claimed job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: i64,
    pub vector_store_id: String,
    pub file_id: String,
    pub chunking: Chunking,
    /// Starts since something was last stored, this one included.
    pub attempt: u32,
    claim: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewChunk {
    /// From 0, without gaps.
    pub ordinal: u32,
    /// Bytes of the file's text.
    pub span: Range<usize>,
    pub page_first: u32,
    pub page_last: u32,
    pub heading_path: Vec<String>,
    pub text: String,
    pub num_tokens: u32,
    pub vector: Vec<f32>,
}

impl Store {
    /// Completes when jobs may have been queued through this handle or its clones. Other processes must be asked.
    pub async fn jobs_changed(&self) {
        self.parts.jobs_changed.notified().await;
    }

    pub(super) fn notify_jobs_changed(&self) {
        // The permit of notify_one makes sure that a worker that is just about to wait is not missed.
        self.parts.jobs_changed.notify_waiters();
        self.parts.jobs_changed.notify_one();
    }

    /// Queues the jobs that were running when their process ended. Only the holder of the worker lock may call this,
    /// before it claims any.
    pub async fn requeue_interrupted_jobs(&self) -> Result<u64> {
        let num_queued = self.requeue_running(Queue::Jobs).await?;
        self.notify_jobs_changed();
        Ok(num_queued)
    }

    /// Jobs that wait or run, in whichever process.
    pub async fn num_unfinished_jobs(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM jobs";
        let read =
            move |tx: &Transaction| Ok(tx.query_row(sql, [], |row| row.get::<_, i64>(0))? as u64);
        self.database().read(read).await
    }

    /// Takes the oldest queued job, but none of a content that is worked on: it is copied when that is done. A job that was
    /// started too often without storing anything has most likely ended the process each time: its document is marked as
    /// failed instead.
    pub async fn claim_next_job(&self) -> Result<Option<Job>> {
        let embedder = self.parts.embedder.clone();
        let claim = move |tx: &Transaction| claim_next(tx, &embedder);
        self.claim_queued(Queue::Jobs, claim).await
    }

    /// Gives a job back unfinished, for a worker that stops in good order; it does not count as an attempt.
    pub async fn release_job(&self, job: &Job) -> Result<()> {
        let job = job.clone();
        let release = move |tx: &Transaction| {
            owned_document(tx, &job)?;
            tx.execute(
                "UPDATE jobs SET state = 'queued', attempt = max(attempt - 1, 0) WHERE id = ?",
                [job.id],
            )?;
            Ok(())
        };
        self.database().write(release).await?;
        self.notify_jobs_changed();
        Ok(())
    }

    /// Those of `jobs` that are no longer their worker's, by their ids: whatever is done for them is in vain.
    pub async fn lost_jobs(&self, jobs: Vec<Job>) -> Result<Vec<i64>> {
        let read = move |tx: &Transaction| {
            let mut lost = Vec::new();
            for job in &jobs {
                match owned_document(tx, job) {
                    Ok(_) => {}
                    Err(StoreError::Gone { .. }) => lost.push(job.id),
                    Err(other) => return Err(other),
                }
            }
            Ok(lost)
        };
        self.database().read(read).await
    }

    /// Notes which version of the chunker cuts the document, and says how many chunks an earlier attempt left that can be
    /// continued: what another version cut is forgotten.
    pub async fn begin_cutting(&self, job: &Job, chunker_version: u32) -> Result<u32> {
        let job = job.clone();
        let begin = move |tx: &Transaction| {
            let id = owned_document(tx, &job)?;
            let sql =
                "UPDATE documents SET chunker_version = ?1 WHERE id = ?2 AND chunker_version <> ?1";
            if tx.execute(sql, params![chunker_version, id])? > 0 {
                clear_chunks(tx, id)?;
            }
            num_chunks(tx, id)
        };
        self.database().write(begin).await
    }

    /// Stores the next chunks, all or none. They cannot be found before the job is completed, and a power failure before
    /// that may take the latest of them.
    pub async fn append_chunks(&self, job: &Job, chunks: Vec<NewChunk>) -> Result<()> {
        let job = job.clone();
        let dimensions = self.embedder().dimensions;
        self.database()
            .write_lazily(move |tx| append(tx, &job, &chunks, dimensions))
            .await
    }

    /// Marks the document as completed: from now on its chunks are found. `total` is how many it must have.
    pub async fn complete_job(
        &self,
        job: &Job,
        total: u32,
        page_warnings: Vec<PageWarning>,
    ) -> Result<()> {
        let job = job.clone();
        self.database()
            .write(move |tx| complete(tx, &job, total, &page_warnings))
            .await?;
        // It may have replaced one that is worked on.
        self.notify_jobs_changed();
        if self.has_vector_index() {
            self.refresh_vector_index();
        }
        Ok(())
    }

    /// Marks the document as failed and deletes what was stored of it. `pages` tells what was found on which page.
    pub async fn fail_job(
        &self,
        job: &Job,
        code: DocumentErrorCode,
        message: &str,
        pages: Vec<PageWarning>,
    ) -> Result<()> {
        let (job, message) = (job.clone(), message.to_owned());
        let fail = move |tx: &Transaction| {
            let document_id = owned_document(tx, &job)?;
            let error = Some((code, message.as_str()));
            end_without_result(tx, document_id, DocumentStatus::Failed, error)?;
            tx.prepare_cached(
                "UPDATE documents SET page_warnings = ?1, pages_total = max(pages_total, ?2) WHERE id = ?3",
            )?
            .execute(params![Json(&pages), pages.len() as i64, document_id])?;
            Ok(())
        };
        self.database().write(fail).await
    }
}

/// Puts a document in progress and queues its ingestion from the beginning.
pub(super) fn enqueue(tx: &Transaction, document_id: i64) -> Result<()> {
    tx.prepare_cached(
        "UPDATE documents SET status = 'in_progress', error_code = NULL, error_message = NULL, page_warnings = '[]',
             pages_read = 0, pages_total = 0, chunks_done = 0, chunks_total = 0, seconds_left = NULL
         WHERE id = ?",
    )?
    .execute([document_id])?;
    tx.prepare_cached("INSERT INTO jobs (document_id, state) VALUES (?, 'queued')")?
        .execute([document_id])?;
    Ok(())
}

/// Begins the unfinished documents of a vector store anew that are to be cut in another way, but for those that have a
/// chunking of their own.
pub(super) fn recut_unfinished(
    tx: &Transaction,
    vector_store: i64,
    chunking: Chunking,
) -> Result<()> {
    let sql = "SELECT d.id FROM documents d JOIN jobs j ON j.document_id = d.id
               WHERE d.vector_store_row = ? AND d.status = 'in_progress' AND NOT d.has_own_chunking
                     AND (d.max_chunk_tokens <> ? OR d.chunk_overlap_tokens <> ?)";
    let (max, overlap) = (chunking.max_tokens, chunking.overlap_tokens);
    let mut statement = tx.prepare_cached(sql)?;
    let found = statement.query_map(params![vector_store, max, overlap], |row| row.get(0))?;
    for id in found.collect::<rusqlite::Result<Vec<i64>>>()? {
        clear_chunks(tx, id)?;
        tx.prepare_cached(
            "UPDATE documents SET max_chunk_tokens = ?, chunk_overlap_tokens = ?, chunks_total = 0 WHERE id = ?",
        )?
        .execute(params![max, overlap, id])?;
        // Whoever works on it is no longer its owner.
        tx.prepare_cached("UPDATE jobs SET state = 'queued', attempt = 0 WHERE document_id = ?")?
            .execute([id])?;
    }
    Ok(())
}

pub(super) fn clear_chunks(tx: &Transaction, document_id: i64) -> Result<()> {
    tx.prepare_cached("DELETE FROM chunks WHERE document_id = ?")?
        .execute([document_id])?;
    tx.prepare_cached(
        "UPDATE documents SET num_chunks = 0, usage_bytes = 0, chunks_done = 0 WHERE id = ?",
    )?
    .execute([document_id])?;
    Ok(())
}

/// Ends a document's ingestion as failed or cancelled: its job and its chunks go.
pub(super) fn end_without_result(
    tx: &Transaction,
    document_id: i64,
    status: DocumentStatus,
    error: Option<(DocumentErrorCode, &str)>,
) -> Result<()> {
    clear_chunks(tx, document_id)?;
    passwords::forget(tx, document_id)?;
    tx.execute("DELETE FROM jobs WHERE document_id = ?", [document_id])?;
    tx.execute(
        "UPDATE documents SET status = ?, error_code = ?, error_message = ?, seconds_left = NULL WHERE id = ?",
        params![
            status,
            error.map(|(code, _)| code),
            error.map(|(_, message)| message),
            document_id
        ],
    )?;
    Ok(())
}

fn claim_next(tx: &Transaction, embedder: &EmbedderId) -> Result<Option<Job>> {
    let oldest = "
        SELECT j.id, j.document_id, j.attempt, j.claim, v.id, f.id, d.max_chunk_tokens, d.chunk_overlap_tokens
        FROM jobs j JOIN documents d ON d.id = j.document_id JOIN vector_stores v ON v.row = d.vector_store_row
             JOIN live_files f ON f.row = d.file_row
        WHERE j.state = 'queued' AND NOT EXISTS (
            SELECT 1 FROM jobs r JOIN documents o ON o.id = r.document_id JOIN files g ON g.row = o.file_row
            WHERE r.state = 'running' AND g.sha256 = f.sha256)
        ORDER BY j.id LIMIT 1";
    loop {
        let found = tx.prepare_cached(oldest)?.query_row([], |row| {
            let job = Job {
                id: row.get(0)?,
                attempt: row.get::<_, u32>(2)? + 1,
                claim: row.get::<_, i64>(3)? + 1,
                vector_store_id: row.get(4)?,
                file_id: row.get(5)?,
                chunking: Chunking {
                    max_tokens: row.get(6)?,
                    overlap_tokens: row.get(7)?,
                },
            };
            Ok((job, row.get(1)?))
        });
        let Some((job, document_id)) = found.optional()? else {
            return Ok(None);
        };
        if job.attempt > MAX_ATTEMPTS {
            let message = format!(
                "reading this file stopped the program {MAX_ATTEMPTS} times; it is not tried again unless the file is \
                 added anew"
            );
            let error = Some((DocumentErrorCode::ServerError, message.as_str()));
            end_without_result(tx, document_id, DocumentStatus::Failed, error)?;
            continue;
        }
        tx.execute(
            "UPDATE jobs SET state = 'running', claim = ?, attempt = ? WHERE id = ?",
            params![job.claim, job.attempt, job.id],
        )?;
        let sql = "SELECT embedder_hash IS ? FROM documents WHERE id = ?";
        let is_same_embedder: bool =
            tx.query_row(sql, params![embedder.hash, document_id], |row| row.get(0))?;
        if !is_same_embedder {
            // What another embedder left unfinished cannot be continued with this one.
            clear_chunks(tx, document_id)?;
            tx.execute(
                "UPDATE documents SET embedder_hash = ? WHERE id = ?",
                params![embedder.hash, document_id],
            )?;
        }
        return Ok(Some(job));
    }
}

/// The document of a job that is still this worker's.
pub(super) fn owned_document(tx: &Transaction, job: &Job) -> Result<i64> {
    let sql = "SELECT document_id FROM jobs WHERE id = ? AND claim = ? AND state = 'running'";
    let id = tx
        .prepare_cached(sql)?
        .query_row([job.id, job.claim], |row| row.get(0))
        .optional()?;
    id.ok_or_else(|| StoreError::Gone {
        job_id: job.id,
        file_id: job.file_id.clone(),
    })
}

pub(super) fn num_chunks(tx: &Transaction, document_id: i64) -> Result<u32> {
    let sql = "SELECT num_chunks FROM documents WHERE id = ?";
    Ok(tx
        .prepare_cached(sql)?
        .query_row([document_id], |row| row.get(0))?)
}

fn append(tx: &Transaction, job: &Job, chunks: &[NewChunk], dimensions: usize) -> Result<()> {
    let document_id = owned_document(tx, job)?;
    let first = num_chunks(tx, document_id)?;
    let usage_bytes = insert_chunks(tx, Place::Searched, document_id, first, chunks, dimensions)?;
    tx.prepare_cached(
        "UPDATE documents SET num_chunks = num_chunks + ?1, chunks_done = num_chunks + ?1, usage_bytes = usage_bytes + ?2
         WHERE id = ?3",
    )?
    .execute(params![chunks.len() as i64, usage_bytes, document_id])?;
    // This attempt got somewhere: the next one, should there be one, is again the first.
    tx.prepare_cached("UPDATE jobs SET attempt = 0 WHERE id = ?")?
        .execute([job.id])?;
    Ok(())
}

fn complete(tx: &Transaction, job: &Job, total: u32, page_warnings: &[PageWarning]) -> Result<()> {
    let document_id = owned_document(tx, job)?;
    let stored = num_chunks(tx, document_id)?;
    if stored != total {
        let why = format!("the document has {stored} chunks stored where {total} are expected");
        return Err(StoreError::invalid("completion", why));
    }
    tx.execute(
        "UPDATE documents SET status = 'completed', chunks_done = ?1, chunks_total = ?1, page_warnings = ?2,
                              seconds_left = NULL
         WHERE id = ?3",
        params![total, Json(page_warnings), document_id],
    )?;
    passwords::forget(tx, document_id)?;
    tx.execute("DELETE FROM jobs WHERE id = ?", [job.id])?;
    remove_replaced(tx, document_id)?;
    let sql = "SELECT vector_store_row FROM documents WHERE id = ?";
    touch(tx, tx.query_row(sql, [document_id], |row| row.get(0))?)
}
