//! Documents that are cut and embedded anew. A document stays completed and searchable with the chunks that it has while
//! the new ones gather where no search looks; one transaction puts them in the place of the old ones, so that nobody ever
//! sees chunks of both. A worker's proof is its claim, as with jobs.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::chunks::{Place, insert_chunks};
use super::documents::Chunking;
use super::error::{Result, StoreError};
use super::jobs::{NewChunk, recut_unfinished};
use super::queue::{MAX_ATTEMPTS, Queue};
use super::vector_stores::vector_store_row;
use super::{EmbedderId, Store};

/// Which documents to cut and embed anew: those that are not yet as they would be made now.
#[derive(Debug, Clone, Default)]
pub struct ReindexScope {
    /// Of this vector store only.
    pub vector_store_id: Option<String>,
    /// Cut so, instead of as each document is; those that have a chunking of their own keep it.
    pub chunking: Option<Chunking>,
    /// The most that the embedder reads; an overlap is at most a quarter.
    pub max_tokens: u32,
    /// The version of the chunker that cuts now.
    pub chunker_version: u32,
}

/// A claimed document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reindex {
    pub vector_store_id: String,
    pub file_id: String,
    pub chunking: Chunking,
    /// Chunks that an earlier attempt left; the next one has this ordinal.
    pub chunks_done: u32,
    document_id: i64,
    claim: i64,
}

/// How far the current run is, or the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReindexProgress {
    pub num_documents: u64,
    pub num_waiting: u64,
    pub num_running: u64,
    pub num_done: u64,
    pub num_failed: u64,
    /// Of the documents that are being worked on.
    pub chunks_done: u64,
    pub chunks_total: u64,
}

impl ReindexProgress {
    pub fn is_finished(&self) -> bool {
        self.num_waiting + self.num_running == 0
    }
}

/// A document that could not be made anew; it still answers as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReindexFailure {
    pub vector_store_id: String,
    pub file_id: String,
    pub message: String,
}

impl Store {
    /// Queues the documents in `scope` that are not as they would be made now, and says how many.
    pub async fn queue_reindex(&self, scope: ReindexScope) -> Result<u64> {
        let hash = self.embedder().hash.clone();
        let queued = self
            .database()
            .write(move |tx| queue(tx, &scope, &hash))
            .await?;
        self.notify_jobs_changed();
        Ok(queued)
    }

    pub async fn reindex_progress(&self) -> Result<ReindexProgress> {
        self.database().read(progress).await
    }

    /// The first of those that failed.
    pub async fn reindex_failures(&self, limit: u32) -> Result<Vec<ReindexFailure>> {
        let sql = "SELECT v.id, f.id, r.error_message FROM reindexes r JOIN documents d ON d.id = r.document_id
                       JOIN vector_stores v ON v.row = d.vector_store_row JOIN live_files f ON f.row = d.file_row
                   WHERE r.state = 'failed' ORDER BY r.document_id LIMIT ?";
        let read = move |tx: &Transaction| {
            let mut statement = tx.prepare_cached(sql)?;
            let found = statement.query_map([limit], |row| {
                Ok(ReindexFailure {
                    vector_store_id: row.get(0)?,
                    file_id: row.get(1)?,
                    message: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
                })
            })?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        };
        self.database().read(read).await
    }

    /// Takes back what has not been done yet, and says how many documents that are. They stay as they were.
    pub async fn cancel_reindex(&self) -> Result<u64> {
        let sql = "DELETE FROM reindexes WHERE state IN ('queued', 'running')";
        let cancel = move |tx: &Transaction| Ok(tx.execute(sql, [])? as u64);
        self.database().write(cancel).await
    }

    /// Queues what was running when its process ended, as `requeue_interrupted_jobs` does.
    pub async fn requeue_interrupted_reindexes(&self) -> Result<u64> {
        self.requeue_running(Queue::Reindexes).await
    }

    /// Takes the next document. Whatever another model, chunker or chunking left unfinished of it is forgotten, and one
    /// that is as it should be already is done.
    pub async fn claim_next_reindex(&self, chunker_version: u32) -> Result<Option<Reindex>> {
        let embedder = self.parts.embedder.clone();
        let claim = move |tx: &Transaction| claim_next(tx, &embedder, chunker_version);
        self.claim_queued(Queue::Reindexes, claim).await
    }

    /// Gives a document back unfinished, for a worker that stops in good order.
    pub async fn release_reindex(&self, reindex: &Reindex) -> Result<()> {
        let reindex = reindex.clone();
        let release = move |tx: &Transaction| {
            check_owned(tx, &reindex)?;
            let sql = "UPDATE reindexes SET state = 'queued', attempt = max(attempt - 1, 0) WHERE document_id = ?";
            tx.execute(sql, [reindex.document_id])?;
            Ok(())
        };
        self.database().write(release).await
    }

    /// Stores the next chunks where no search sees them, all or none.
    pub async fn append_pending_chunks(
        &self,
        reindex: &Reindex,
        chunks: Vec<NewChunk>,
        total: u32,
    ) -> Result<()> {
        let reindex = reindex.clone();
        let dimensions = self.embedder().dimensions;
        let append = move |tx: &Transaction| {
            check_owned(tx, &reindex)?;
            let id = reindex.document_id;
            let sql = "SELECT chunks_done FROM reindexes WHERE document_id = ?";
            let first = tx.prepare_cached(sql)?.query_row([id], |row| row.get(0))?;
            let usage_bytes = insert_chunks(tx, Place::Pending, id, first, &chunks, dimensions)?;
            tx.prepare_cached(
                "UPDATE reindexes SET chunks_done = chunks_done + ?, usage_bytes = usage_bytes + ?, chunks_total = ?,
                     attempt = 0
                 WHERE document_id = ?",
            )?
            .execute(params![chunks.len() as i64, usage_bytes, total, id])?;
            Ok(())
        };
        self.database().write(append).await
    }

    /// Puts the new chunks in the place of the old ones. `total` is how many there must be.
    pub async fn complete_reindex(&self, reindex: &Reindex, total: u32) -> Result<()> {
        let reindex = reindex.clone();
        self.database()
            .write(move |tx| swap(tx, &reindex, total))
            .await?;
        if self.has_vector_index() {
            self.refresh_vector_index();
        }
        Ok(())
    }

    /// Gives a document up: it stays as it was.
    pub async fn fail_reindex(&self, reindex: &Reindex, message: &str) -> Result<()> {
        let (reindex, message) = (reindex.clone(), message.to_owned());
        let fail = move |tx: &Transaction| {
            check_owned(tx, &reindex)?;
            end(tx, reindex.document_id, Some(&message))
        };
        self.database().write(fail).await
    }
}

/// Queues all documents of a vector store to be cut in another way: completed ones answer as they are until then, and
/// those that are not complete are begun anew.
pub(super) fn recut(
    tx: &Transaction,
    vector_store: i64,
    scope: &ReindexScope,
    hash: &str,
) -> Result<()> {
    if let Some(chunking) = scope.chunking {
        let max_tokens = chunking.max_tokens.min(scope.max_tokens);
        let allowed = Chunking {
            max_tokens,
            overlap_tokens: chunking.overlap_tokens.min(max_tokens / 4),
        };
        recut_unfinished(tx, vector_store, allowed)?;
        give_up_others(tx, vector_store, allowed)?;
    }
    queue(tx, scope, hash)?;
    Ok(())
}

/// Ends what was to be cut in yet another way; a document that is as it should be by now is not queued again.
fn give_up_others(tx: &Transaction, vector_store: i64, chunking: Chunking) -> Result<()> {
    let sql = "SELECT r.document_id FROM reindexes r JOIN documents d ON d.id = r.document_id
               WHERE d.vector_store_row = ? AND NOT d.has_own_chunking AND r.state IN ('queued', 'running')
                     AND (r.max_chunk_tokens <> ? OR r.chunk_overlap_tokens <> ?)";
    let (max, overlap) = (chunking.max_tokens, chunking.overlap_tokens);
    let mut statement = tx.prepare_cached(sql)?;
    let found = statement.query_map(params![vector_store, max, overlap], |row| row.get(0))?;
    for id in found.collect::<rusqlite::Result<Vec<i64>>>()? {
        end(tx, id, None)?;
    }
    Ok(())
}

fn queue(tx: &Transaction, scope: &ReindexScope, hash: &str) -> Result<u64> {
    let row = match &scope.vector_store_id {
        Some(id) => Some(vector_store_row(tx, id)?),
        None => None,
    };
    let (max, overlap) = match scope.chunking {
        Some(chunking) => (Some(chunking.max_tokens), Some(chunking.overlap_tokens)),
        None => (None, None),
    };
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM reindexes WHERE state IN ('queued', 'running'))";
    if tx.query_row(sql, [], |row| row.get(0))? {
        tx.execute("DELETE FROM reindexes", [])?;
    }
    // A document that waits or is worked on already is begun anew if it is to be cut in another way now.
    let size = "min(CASE WHEN d.has_own_chunking THEN d.max_chunk_tokens
                         ELSE coalesce(?1, v.max_chunk_tokens, d.max_chunk_tokens) END, ?6)";
    let overlap_wanted = "CASE WHEN d.has_own_chunking THEN d.chunk_overlap_tokens
                               ELSE coalesce(?2, v.chunk_overlap_tokens, d.chunk_overlap_tokens) END";
    let wanted = format!(
        "SELECT d.id AS id, {size} AS size, min({overlap_wanted}, {size} / 4) AS overlap,
                         d.max_chunk_tokens AS old_size, d.chunk_overlap_tokens AS old_overlap,
                         d.embedder_hash AS hash, d.chunker_version AS version
                  FROM documents d JOIN vector_stores v ON v.row = d.vector_store_row
                  WHERE d.status = 'completed' AND (?3 IS NULL OR v.row = ?3)
                        AND (v.expires_at IS NULL OR v.expires_at > unixepoch())
                        AND d.file_row IN (SELECT row FROM live_files)"
    );
    let sql = format!(
        "INSERT INTO reindexes (document_id, state, max_chunk_tokens, chunk_overlap_tokens)
         SELECT id, 'queued', size, overlap FROM ({wanted})
         WHERE hash IS NOT ?4 OR version <> ?5 OR size <> old_size OR overlap <> old_overlap
         ON CONFLICT (document_id) DO UPDATE SET state = 'queued', claim = claim + 1, attempt = 0, error_message = NULL,
             max_chunk_tokens = excluded.max_chunk_tokens, chunk_overlap_tokens = excluded.chunk_overlap_tokens
         WHERE state IN ('done', 'failed') OR max_chunk_tokens <> excluded.max_chunk_tokens
               OR chunk_overlap_tokens <> excluded.chunk_overlap_tokens"
    );
    let queued = tx.execute(
        &sql,
        params![
            max,
            overlap,
            row,
            hash,
            scope.chunker_version,
            scope.max_tokens
        ],
    )?;
    Ok(queued as u64)
}

fn progress(tx: &Transaction) -> Result<ReindexProgress> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE state = 'queued'), count(*) FILTER (WHERE state = 'running'),
                      count(*) FILTER (WHERE state = 'done'), count(*) FILTER (WHERE state = 'failed'),
                      coalesce(sum(chunks_done) FILTER (WHERE state = 'running'), 0),
                      coalesce(sum(chunks_total) FILTER (WHERE state = 'running'), 0)
               FROM reindexes";
    let read = |row: &Row| {
        let count = |column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)? as u64);
        Ok(ReindexProgress {
            num_documents: count(0)?,
            num_waiting: count(1)?,
            num_running: count(2)?,
            num_done: count(3)?,
            num_failed: count(4)?,
            chunks_done: count(5)?,
            chunks_total: count(6)?,
        })
    };
    Ok(tx.prepare_cached(sql)?.query_row([], read)?)
}

fn claim_next(
    tx: &Transaction,
    embedder: &EmbedderId,
    chunker_version: u32,
) -> Result<Option<Reindex>> {
    // A document whose file or vector store has gone meanwhile waits for its own end.
    let oldest = "
        SELECT r.document_id, r.claim, r.attempt, v.id, f.id, r.max_chunk_tokens, r.chunk_overlap_tokens, r.chunks_done,
               r.embedder_hash IS ?1 AND r.chunker_version IS ?2,
               d.embedder_hash IS ?1 AND d.chunker_version = ?2 AND d.max_chunk_tokens = r.max_chunk_tokens
                   AND d.chunk_overlap_tokens = r.chunk_overlap_tokens
        FROM reindexes r JOIN documents d ON d.id = r.document_id JOIN vector_stores v ON v.row = d.vector_store_row
             JOIN live_files f ON f.row = d.file_row
        WHERE r.state = 'queued' AND d.status = 'completed' ORDER BY r.document_id LIMIT 1";
    loop {
        let values = params![embedder.hash, chunker_version];
        let found = tx.prepare_cached(oldest)?.query_row(values, |row| {
            let reindex = Reindex {
                document_id: row.get(0)?,
                claim: row.get::<_, i64>(1)? + 1,
                vector_store_id: row.get(3)?,
                file_id: row.get(4)?,
                chunking: Chunking {
                    max_tokens: row.get(5)?,
                    overlap_tokens: row.get(6)?,
                },
                chunks_done: row.get(7)?,
            };
            let attempt = row.get::<_, u32>(2)? + 1;
            Ok((
                reindex,
                attempt,
                row.get::<_, bool>(8)?,
                row.get::<_, bool>(9)?,
            ))
        });
        let Some((mut reindex, attempt, goes_on, is_done)) = found.optional()? else {
            // What cannot be claimed any more must not look as if it waited.
            tx.execute("DELETE FROM reindexes WHERE state = 'queued'", [])?;
            return Ok(None);
        };
        let id = reindex.document_id;
        if is_done {
            end(tx, id, None)?;
            continue;
        }
        if attempt > MAX_ATTEMPTS {
            let message = format!("reading this file stopped the program {MAX_ATTEMPTS} times");
            end(tx, id, Some(&message))?;
            continue;
        }
        if !goes_on {
            clear_pending(tx, id)?;
            reindex.chunks_done = 0;
        }
        tx.execute(
            "UPDATE reindexes SET state = 'running', claim = ?, attempt = ?, embedder_hash = ?, chunker_version = ?
             WHERE document_id = ?",
            params![reindex.claim, attempt, embedder.hash, chunker_version, id],
        )?;
        return Ok(Some(reindex));
    }
}

fn clear_pending(tx: &Transaction, document_id: i64) -> Result<()> {
    tx.execute(
        "DELETE FROM pending_chunks WHERE document_id = ?",
        [document_id],
    )?;
    let sql = "UPDATE reindexes SET chunks_done = 0, chunks_total = 0, usage_bytes = 0 WHERE document_id = ?";
    tx.execute(sql, [document_id])?;
    Ok(())
}

fn end(tx: &Transaction, document_id: i64, error: Option<&str>) -> Result<()> {
    clear_pending(tx, document_id)?;
    tx.execute(
        "UPDATE reindexes SET state = ?, error_message = ? WHERE document_id = ?",
        params![
            if error.is_some() { "failed" } else { "done" },
            error,
            document_id
        ],
    )?;
    Ok(())
}

fn check_owned(tx: &Transaction, reindex: &Reindex) -> Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM reindexes WHERE document_id = ? AND claim = ? AND state = 'running')";
    match tx
        .prepare_cached(sql)?
        .query_row([reindex.document_id, reindex.claim], |row| row.get(0))?
    {
        true => Ok(()),
        false => Err(StoreError::Gone {
            job_id: reindex.document_id,
            file_id: reindex.file_id.clone(),
        }),
    }
}

fn swap(tx: &Transaction, reindex: &Reindex, total: u32) -> Result<()> {
    check_owned(tx, reindex)?;
    let id = reindex.document_id;
    let sql = "SELECT chunks_done FROM reindexes WHERE document_id = ?";
    let stored: u32 = tx.query_row(sql, [id], |row| row.get(0))?;
    if stored != total || total == 0 {
        let why = format!("the document has {stored} new chunks stored where {total} are expected");
        return Err(StoreError::invalid("completion", why));
    }
    tx.execute("DELETE FROM chunks WHERE document_id = ?", [id])?;
    tx.execute(
        "INSERT INTO chunks (document_id, ordinal, span_start, span_end, page_first, page_last, num_tokens, heading_path,
                             text, vector)
         SELECT document_id, ordinal, span_start, span_end, page_first, page_last, num_tokens, heading_path, text, vector
         FROM pending_chunks WHERE document_id = ? ORDER BY ordinal",
        [id],
    )?;
    tx.execute(
        "UPDATE documents SET num_chunks = r.chunks_done, usage_bytes = r.usage_bytes, chunks_done = r.chunks_done,
             chunks_total = r.chunks_done, embedder_hash = r.embedder_hash, chunker_version = r.chunker_version,
             max_chunk_tokens = r.max_chunk_tokens, chunk_overlap_tokens = r.chunk_overlap_tokens
         FROM reindexes r WHERE r.document_id = documents.id AND documents.id = ?",
        [id],
    )?;
    // The document was and is completed, so no trigger tells the vector index.
    tx.execute("INSERT INTO vector_changes (document_id) VALUES (?)", [id])?;
    end(tx, id, None)
}
