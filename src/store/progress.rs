//! How far ingestion is, for whoever asks in whichever process.

use std::collections::HashSet;

use rusqlite::{Transaction, params};

use super::Store;
use super::documents::{Document, Progress, get_all};
use super::error::{Result, StoreError};
use super::jobs::{Job, owned_document};
use super::vector_stores::vector_store_row;

/// What has become of the unfinished documents of a vector store since the last look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Look {
    /// New ones, those that are worked on, and those that have come to their end.
    pub documents: Vec<Document>,
    /// Ids of those that were deleted.
    pub deleted: Vec<i64>,
}

/// Which documents were unfinished at the last look, by their ids.
#[derive(Debug, Clone, Default)]
pub struct LastLook {
    pub unfinished: HashSet<i64>,
    /// Those of them that waited for their turn.
    pub queued: HashSet<i64>,
}

impl Store {
    /// Keeps how far jobs are, all but `chunks_done`, which the chunks tell themselves. Jobs that are gone are left out.
    pub async fn note_progress(&self, notes: Vec<(Job, Progress)>) -> Result<()> {
        let write = move |tx: &Transaction| {
            let mut statement = tx.prepare_cached(
                "UPDATE documents SET pages_read = ?, pages_total = ?, chunks_total = ?, seconds_left = ? WHERE id = ?",
            )?;
            for (job, progress) in &notes {
                let document_id = match owned_document(tx, job) {
                    Ok(id) => id,
                    Err(StoreError::Gone { .. }) => continue,
                    Err(other) => return Err(other),
                };
                statement.execute(params![
                    progress.pages_read,
                    progress.pages_total,
                    progress.chunks_total,
                    progress.seconds_left,
                    document_id
                ])?;
            }
            Ok(())
        };
        self.database().write_lazily(write).await
    }

    /// Looks at the unfinished documents of a vector store. Of those that waited at the last look and still do, nothing is
    /// read, so that a long queue costs little.
    pub async fn look_at_unfinished(&self, vector_store_id: &str, last: LastLook) -> Result<Look> {
        let vector_store_id = vector_store_id.to_owned();
        let read = move |tx: &Transaction| {
            let vector_store = vector_store_row(tx, &vector_store_id)?;
            let sql = "SELECT d.id, j.state IS 'running' FROM documents d LEFT JOIN jobs j ON j.document_id = d.id
                       WHERE d.vector_store_row = ? AND d.status = 'in_progress'";
            let mut statement = tx.prepare_cached(sql)?;
            let found =
                statement.query_map([vector_store], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let unfinished = found.collect::<rusqlite::Result<Vec<(i64, bool)>>>()?;
            let ids: HashSet<i64> = unfinished.iter().map(|(id, _)| *id).collect();
            let changed = unfinished
                .iter()
                .filter(|(id, is_running)| *is_running || !last.queued.contains(id))
                .map(|(id, _)| *id);
            let ended = last.unfinished.difference(&ids).copied();
            let documents = get_all(tx, &changed.chain(ended.clone()).collect::<Vec<_>>())?;
            let is_there = |id: &i64| documents.iter().any(|document| document.id == *id);
            let deleted = ended.filter(|id| !is_there(id)).collect();
            Ok(Look { documents, deleted })
        };
        self.database().read(read).await
    }
}
