//! Vector search within a scope. What may be seen is decided first, by SQL, and goes into the search; what is found is
//! compared anew with what SQLite holds, so that a stale index can miss a chunk but never bring back a deleted one.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Rows, Transaction, params};

use super::Store;
use super::error::{Result, StoreError};
use super::json::Json;
use super::scope::SearchScope;
use super::vector_index::{has_direction, unit, unit_dot, vector_from_bytes};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    pub chunk_id: i64,
    /// Higher is better.
    pub score: f32,
}

impl Store {
    /// The chunks most similar to `query`, best first; scores are cosine similarities. Exact up to 20,000 chunks in scope,
    /// approximate (HNSW) beyond.
    pub async fn vector_search(
        &self,
        query: Vec<f32>,
        scope: SearchScope,
        limit: usize,
    ) -> Result<Vec<Hit>> {
        let dimensions = self.embedder().dimensions;
        if query.len() != dimensions {
            let why = format!(
                "it has {} dimensions where the embedder has {dimensions}",
                query.len()
            );
            return Err(StoreError::invalid("query vector", why));
        }
        if !has_direction(&query) {
            let why = "it has no direction (all zeros, or values that are not finite)";
            return Err(StoreError::invalid("query vector", why));
        }
        let allowed = scope.allowed_documents(&self.embedder().hash)?;
        // Once a start. Comparing with the database is right too, but takes seconds when there is much in it.
        if let Err(error) = self.load_vector_index().await {
            tracing::warn!(%error, "searching without a vector index");
        }
        let parts = Arc::clone(&self.parts);
        let search = move |tx: &Transaction| {
            let documents = parts.scopes.documents(tx, &allowed)?;
            parts.index.search(tx, &query, &documents.ids, limit)
        };
        let found = self.database().search(search).await?;
        if found.is_index_behind {
            self.refresh_vector_index();
        }
        Ok(found.hits)
    }
}

impl Store {
    /// The cosine similarities of `query` to the chunks of completed documents among `ids`, compared one by one.
    pub async fn similarities(&self, query: Vec<f32>, ids: Vec<i64>) -> Result<Vec<Hit>> {
        let embedder = Arc::clone(&self.parts.embedder);
        let read = move |tx: &Transaction| {
            let mut statement = tx.prepare_cached(
                "SELECT c.id, c.vector FROM chunks c JOIN documents d ON d.id = c.document_id
                 WHERE c.id IN (SELECT value FROM json_each(?)) AND d.status = 'completed' AND d.embedder_hash = ?",
            )?;
            compare(&query, statement.query(params![Json(ids), embedder.hash])?)
        };
        self.database().search(read).await
    }
}

impl Store {
    /// The vectors of those of `ids` that are still there.
    pub async fn chunk_vectors(&self, ids: Vec<i64>) -> Result<HashMap<i64, Vec<f32>>> {
        let embedder = Arc::clone(&self.parts.embedder);
        let read = move |tx: &Transaction| {
            let sql = "SELECT c.id, c.vector FROM chunks c JOIN documents d ON d.id = c.document_id
                       WHERE c.id IN (SELECT value FROM json_each(?)) AND d.embedder_hash = ?";
            let mut statement = tx.prepare_cached(sql)?;
            let mut rows = statement.query(params![Json(ids), embedder.hash])?;
            let mut vectors = HashMap::new();
            while let Some(row) = rows.next()? {
                let bytes = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
                vectors.insert(row.get(0)?, vector_from_bytes(bytes));
            }
            Ok(vectors)
        };
        self.database().search(read).await
    }
}

/// The cosine similarities of `query` to the vectors of `rows`, which are pairs of chunk and vector.
pub(super) fn compare(query: &[f32], mut rows: Rows) -> Result<Vec<Hit>> {
    let query = unit(query);
    let mut hits = Vec::new();
    while let Some(row) = rows.next()? {
        let vector = vector_from_bytes(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?);
        hits.push(Hit {
            chunk_id: row.get(0)?,
            score: unit_dot(&query, &unit(&vector)),
        });
    }
    Ok(hits)
}
