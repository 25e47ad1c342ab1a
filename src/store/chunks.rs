//! Chunks as they are read back: the text that was searched, and where it stands.

use std::collections::HashMap;
use std::ops::Range;

use rusqlite::{Row, Transaction, params};

use super::Store;
use super::documents::{Attributes, document_id};
use super::error::Result;
use super::json::Json;
use super::scope::SearchScope;

#[derive(Debug, Clone, PartialEq)]
pub struct ChunkRecord {
    pub id: i64,
    pub vector_store_id: String,
    pub file_id: String,
    pub filename: String,
    pub ordinal: u32,
    /// Bytes of the file's text.
    pub span: Range<usize>,
    pub page_first: u32,
    pub page_last: u32,
    pub heading_path: Vec<String>,
    pub text: String,
    pub num_tokens: u32,
    /// Of its document.
    pub attributes: Attributes,
}

/// The chunks of some documents.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunksInOrder {
    pub num_chunks: usize,
    pub num_documents: usize,
    /// None where there are too many.
    pub chunks: Vec<ChunkRecord>,
}

const SELECT: &str = "
    SELECT c.id, v.id, f.id, f.filename, c.ordinal, c.span_start, c.span_end, c.page_first, c.page_last, c.heading_path,
           c.text, c.num_tokens, d.attributes
    FROM chunks c JOIN documents d ON d.id = c.document_id JOIN vector_stores v ON v.row = d.vector_store_row
         JOIN files f ON f.row = d.file_row
    WHERE d.status = 'completed'";

impl Store {
    /// The chunks of completed documents among `ids`, in that order; those deleted meanwhile are left out.
    pub async fn chunks(&self, ids: Vec<i64>) -> Result<Vec<ChunkRecord>> {
        let read = move |tx: &Transaction| {
            let sql = format!("{SELECT} AND c.id IN (SELECT value FROM json_each(?))");
            let mut statement = tx.prepare_cached(&sql)?;
            let found = statement.query_map([Json(&ids)], from_row)?;
            let mut by_id = HashMap::new();
            for chunk in found {
                let chunk = chunk?;
                by_id.insert(chunk.id, chunk);
            }
            Ok(ids.iter().filter_map(|id| by_id.get(id).cloned()).collect())
        };
        self.database().read(read).await
    }

    /// Those of `ids` that a search within `scope` could find, in that order.
    pub async fn chunks_within(
        &self,
        ids: Vec<i64>,
        scope: &SearchScope,
    ) -> Result<Vec<ChunkRecord>> {
        let allowed = scope.allowed_documents(&self.embedder().hash)?;
        let visible = move |tx: &Transaction| {
            let documents = allowed.ids(tx)?;
            let sql = "SELECT id FROM chunks WHERE id IN (SELECT value FROM json_each(?))
                       AND document_id IN (SELECT value FROM json_each(?))";
            let mut statement = tx.prepare_cached(sql)?;
            let found =
                statement.query_map(params![Json(&ids), Json(&documents)], |row| row.get(0))?;
            Ok(found.collect::<rusqlite::Result<Vec<i64>>>()?)
        };
        let visible = self.database().read(visible).await?;
        self.chunks(visible).await
    }

    /// All chunks that a search within `scope` could find, in the order of their documents; none of them where there are
    /// more than `max`.
    pub async fn chunks_in_order(&self, scope: &SearchScope, max: usize) -> Result<ChunksInOrder> {
        let allowed = scope.allowed_documents(&self.embedder().hash)?;
        let read = move |tx: &Transaction| {
            let documents = allowed.ids(tx)?;
            let sql = "SELECT count(*), count(DISTINCT document_id) FROM chunks
                       WHERE document_id IN (SELECT value FROM json_each(?))";
            let counts = tx
                .prepare_cached(sql)?
                .query_row([Json(&documents)], |row| {
                    Ok((
                        row.get::<_, i64>(0)? as usize,
                        row.get::<_, i64>(1)? as usize,
                    ))
                });
            let (num_chunks, num_documents) = counts?;
            let mut chunks = Vec::new();
            if num_chunks <= max {
                let sql = format!(
                    "{SELECT} AND d.id IN (SELECT value FROM json_each(?)) ORDER BY d.id, c.ordinal"
                );
                let mut statement = tx.prepare_cached(&sql)?;
                let found = statement.query_map([Json(&documents)], from_row)?;
                chunks = found.collect::<rusqlite::Result<_>>()?;
            }
            Ok(ChunksInOrder {
                num_chunks,
                num_documents,
                chunks,
            })
        };
        self.database().read(read).await
    }

    /// The chunks of a completed document whose ordinals lie in `ordinals`, in order.
    pub async fn neighbours(
        &self,
        vector_store_id: &str,
        file_id: &str,
        ordinals: Range<u32>,
    ) -> Result<Vec<ChunkRecord>> {
        let (vector_store_id, file_id) = (vector_store_id.to_owned(), file_id.to_owned());
        let read = move |tx: &Transaction| {
            let document_id = document_id(tx, &vector_store_id, &file_id)?;
            let sql = format!(
                "{SELECT} AND c.document_id = ? AND c.ordinal >= ? AND c.ordinal < ? ORDER BY c.ordinal"
            );
            let mut statement = tx.prepare_cached(&sql)?;
            let found = statement
                .query_map(params![document_id, ordinals.start, ordinals.end], from_row)?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        };
        self.database().read(read).await
    }
}

fn from_row(row: &Row) -> rusqlite::Result<ChunkRecord> {
    Ok(ChunkRecord {
        id: row.get(0)?,
        vector_store_id: row.get(1)?,
        file_id: row.get(2)?,
        filename: row.get(3)?,
        ordinal: row.get(4)?,
        span: row.get::<_, i64>(5)? as usize..row.get::<_, i64>(6)? as usize,
        page_first: row.get(7)?,
        page_last: row.get(8)?,
        heading_path: row.get::<_, Json<_>>(9)?.0,
        text: row.get(10)?,
        num_tokens: row.get(11)?,
        attributes: row.get::<_, Json<_>>(12)?.0,
    })
}
