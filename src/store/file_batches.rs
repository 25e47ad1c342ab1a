//! File batches: files that were put into a vector store by one request, to be followed and cancelled together.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::documents::{Document, DocumentStatus, NewDocument, attach, list_documents};
use super::error::{Result, StoreError};
use super::listing::{ListOptions, Page};
use super::vector_stores::{FileCounts, live_row};
use super::{Store, jobs, new_id, unix_now};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBatch {
    pub id: String,
    pub vector_store_id: String,
    /// Seconds since 1970.
    pub created_at: i64,
    pub is_cancelled: bool,
    /// Of those of its files that are still in the vector store.
    pub file_counts: FileCounts,
}

const SELECT: &str = "
    SELECT b.id, v.id, b.created_at, b.is_cancelled,
           count(*) FILTER (WHERE d.status = 'in_progress'), count(*) FILTER (WHERE d.status = 'completed'),
           count(*) FILTER (WHERE d.status = 'failed'), count(*) FILTER (WHERE d.status = 'cancelled'), count(d.id)
    FROM file_batches b JOIN vector_stores v ON v.row = b.vector_store_row
         LEFT JOIN file_batch_documents m ON m.batch_row = b.row LEFT JOIN documents d ON d.id = m.document_id
    WHERE b.row = ? GROUP BY b.row";

impl Store {
    /// Puts files into a vector store, all or none. One that is there already becomes part of the batch as it is.
    pub async fn create_file_batch(
        &self,
        vector_store_id: &str,
        files: Vec<NewDocument>,
    ) -> Result<FileBatch> {
        let vector_store_id = vector_store_id.to_owned();
        let create = move |tx: &Transaction| {
            let vector_store = live_row(tx, &vector_store_id)?;
            tx.execute(
                "INSERT INTO file_batches (id, vector_store_row, created_at) VALUES (?, ?, ?)",
                params![new_id("vsfb_"), vector_store, unix_now()],
            )?;
            let batch = tx.last_insert_rowid();
            let sql =
                "INSERT OR IGNORE INTO file_batch_documents (batch_row, document_id) VALUES (?, ?)";
            let mut statement = tx.prepare_cached(sql)?;
            for file in files {
                let document = attach(tx, &vector_store_id, file)?.id();
                statement.execute([batch, document])?;
            }
            get(tx, batch)
        };
        let batch = self.database().write(create).await?;
        self.notify_jobs_changed();
        Ok(batch)
    }

    pub async fn file_batch(&self, vector_store_id: &str, id: &str) -> Result<FileBatch> {
        let (vector_store_id, id) = (vector_store_id.to_owned(), id.to_owned());
        self.database()
            .read(move |tx| get(tx, batch_row(tx, &vector_store_id, &id)?))
            .await
    }

    /// Stops the ingestion of the files that are not through it. A batch that has come to its end is left as it is.
    pub async fn cancel_file_batch(&self, vector_store_id: &str, id: &str) -> Result<FileBatch> {
        let (vector_store_id, id) = (vector_store_id.to_owned(), id.to_owned());
        let cancel = move |tx: &Transaction| {
            let batch = batch_row(tx, &vector_store_id, &id)?;
            let sql =
                "SELECT d.id FROM file_batch_documents m JOIN documents d ON d.id = m.document_id
                       WHERE m.batch_row = ? AND d.status = 'in_progress'";
            let unfinished = tx
                .prepare_cached(sql)?
                .query_map([batch], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<i64>>>()?;
            for document in &unfinished {
                jobs::end_without_result(tx, *document, DocumentStatus::Cancelled, None)?;
            }
            if !unfinished.is_empty() {
                tx.execute(
                    "UPDATE file_batches SET is_cancelled = true WHERE row = ?",
                    [batch],
                )?;
            }
            get(tx, batch)
        };
        let batch = self.database().write(cancel).await?;
        // Whoever works on them is to stop.
        self.notify_jobs_changed();
        Ok(batch)
    }

    /// The documents of a batch, as `list_documents` gives those of a vector store.
    pub async fn list_file_batch(
        &self,
        vector_store_id: &str,
        id: &str,
        status: Option<DocumentStatus>,
        list: ListOptions,
    ) -> Result<Page<Document>> {
        let (vector_store_id, id) = (vector_store_id.to_owned(), id.to_owned());
        let read = move |tx: &Transaction| {
            let batch = batch_row(tx, &vector_store_id, &id)?;
            list_documents(tx, &vector_store_id, Some(batch), status, &list)
        };
        self.database().read(read).await
    }
}

fn batch_row(tx: &Transaction, vector_store_id: &str, id: &str) -> Result<i64> {
    let sql = "SELECT b.row FROM file_batches b JOIN vector_stores v ON v.row = b.vector_store_row
               WHERE b.id = ? AND v.id = ?";
    let row = tx
        .prepare_cached(sql)?
        .query_row([id, vector_store_id], |row| row.get(0))
        .optional()?;
    row.ok_or_else(|| StoreError::not_found("file batch", id))
}

fn get(tx: &Transaction, row: i64) -> Result<FileBatch> {
    Ok(tx.prepare_cached(SELECT)?.query_row([row], from_row)?)
}

fn from_row(row: &Row) -> rusqlite::Result<FileBatch> {
    Ok(FileBatch {
        id: row.get(0)?,
        vector_store_id: row.get(1)?,
        created_at: row.get(2)?,
        is_cancelled: row.get(3)?,
        file_counts: FileCounts::from_columns(row, 4)?,
    })
}
