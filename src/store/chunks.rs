//! Chunks as they are read back: the text that was searched, and where it stands.

use std::collections::HashMap;
use std::ops::Range;

use rusqlite::{Row, Transaction, params};

use super::Store;
use super::documents::{Attributes, document_id};
use super::error::{Result, StoreError};
use super::jobs::NewChunk;
use super::json::Json;
use super::scope::SearchScope;
use super::vector_index::{has_direction, vector_to_bytes};

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
        let allowed = scope.visible_documents()?;
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

    /// The first and last page of each chunk of a document, finished or not.
    pub async fn pages_of_chunks(
        &self,
        vector_store_id: &str,
        file_id: &str,
    ) -> Result<Vec<(u32, u32)>> {
        let (vector_store_id, file_id) = (vector_store_id.to_owned(), file_id.to_owned());
        let read = move |tx: &Transaction| {
            let document_id = document_id(tx, &vector_store_id, &file_id)?;
            let sql =
                "SELECT page_first, page_last FROM chunks WHERE document_id = ? ORDER BY ordinal";
            let mut statement = tx.prepare_cached(sql)?;
            let found = statement.query_map([document_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        };
        self.database().read(read).await
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

/// Where chunks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Where searches look, once the document is completed.
    Searched,
    /// Where no search looks.
    Pending,
}

/// Writes the next chunks of a document, of which `first` are there. Gives the bytes of their text and vectors.
pub(super) fn insert_chunks(
    tx: &Transaction,
    place: Place,
    document_id: i64,
    first: u32,
    chunks: &[NewChunk],
    dimensions: usize,
) -> Result<i64> {
    let table = match place {
        Place::Searched => "chunks",
        Place::Pending => "pending_chunks",
    };
    let mut usage_bytes = 0;
    let mut statement = tx.prepare_cached(&format!(
        "INSERT INTO {table} (document_id, ordinal, span_start, span_end, page_first, page_last, num_tokens, heading_path,
                             text, vector)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ))?;
    for (chunk, expected) in chunks.iter().zip(first..) {
        check(chunk, expected, dimensions)?;
        let vector = vector_to_bytes(&chunk.vector);
        usage_bytes += (chunk.text.len() + vector.len()) as i64;
        statement.execute(params![
            document_id,
            chunk.ordinal,
            chunk.span.start as i64,
            chunk.span.end as i64,
            chunk.page_first,
            chunk.page_last,
            chunk.num_tokens,
            Json(&chunk.heading_path),
            chunk.text,
            vector
        ])?;
    }
    Ok(usage_bytes)
}

fn check(chunk: &NewChunk, expected_ordinal: u32, dimensions: usize) -> Result<()> {
    let why = if chunk.ordinal != expected_ordinal {
        format!(
            "it has ordinal {} where {expected_ordinal} is next",
            chunk.ordinal
        )
    } else if chunk.vector.len() != dimensions {
        format!(
            "its vector has {} dimensions where the embedder has {dimensions}",
            chunk.vector.len()
        )
    } else if !has_direction(&chunk.vector) {
        "its vector has no direction (all zeros, or values that are not finite)".to_owned()
    } else if chunk.span.start > chunk.span.end {
        format!(
            "its span {}..{} ends before it begins",
            chunk.span.start, chunk.span.end
        )
    } else {
        return Ok(());
    };
    Err(StoreError::invalid("chunk", why))
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
