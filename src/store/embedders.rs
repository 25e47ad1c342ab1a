//! Which models have embedded documents, and what is left of each.

use rusqlite::{Transaction, params};

use super::error::Result;
use super::{EmbedderId, Store};

/// An embedder, not the one of now, that has made the vectors of completed documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherEmbedder {
    pub id: EmbedderId,
    /// What it was loaded by; `None` when an earlier version did not note it.
    pub name: Option<String>,
    pub num_documents: u64,
}

impl Store {
    /// Notes by what name or path the embedder of now is loaded, so that it can be again when another has taken its place.
    pub async fn remember_embedder(&self, name: &str) -> Result<()> {
        let (id, name) = (self.embedder().clone(), name.to_owned());
        let sql = "INSERT INTO embedders (hash, name, dimensions) VALUES (?, ?, ?)
                   ON CONFLICT (hash) DO UPDATE SET name = excluded.name WHERE name <> excluded.name";
        let remember = move |tx: &Transaction| {
            tx.execute(sql, params![id.hash, name, id.dimensions as i64])?;
            Ok(())
        };
        self.database().write(remember).await
    }

    /// The other embedders that completed documents have their vectors from.
    pub async fn other_embedders(&self) -> Result<Vec<OtherEmbedder>> {
        let hash = self.embedder().hash.clone();
        let sql = "SELECT other.hash, e.name, other.num_documents,
                          (SELECT length(c.vector) / 4 FROM chunks c WHERE c.document_id = other.first LIMIT 1)
                   FROM (SELECT embedder_hash AS hash, count(*) AS num_documents, min(id) AS first FROM documents
                         WHERE status = 'completed' AND embedder_hash <> ? GROUP BY embedder_hash) other
                        LEFT JOIN embedders e ON e.hash = other.hash";
        let read = move |tx: &Transaction| {
            let mut statement = tx.prepare_cached(sql)?;
            let found = statement.query_map([hash], |row| {
                Ok(OtherEmbedder {
                    id: EmbedderId {
                        hash: row.get(0)?,
                        dimensions: row.get::<_, Option<i64>>(3)?.unwrap_or(1) as usize,
                    },
                    name: row.get(1)?,
                    num_documents: row.get::<_, i64>(2)? as u64,
                })
            })?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        };
        self.database().read(read).await
    }
}
