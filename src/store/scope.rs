//! What a search may see, as SQL that the search itself contains.

use rusqlite::types::Value;
use rusqlite::{ToSql, Transaction};

use super::error::Result;
use super::filter::AttributeFilter;
use super::json::Json;

#[derive(Debug, Clone, Default)]
pub struct SearchScope {
    /// None listed, nothing seen.
    pub vector_store_ids: Vec<String>,
    /// When given, only these files.
    pub file_ids: Option<Vec<String>>,
    pub filter: Option<AttributeFilter>,
}

/// A subquery that gives the ids of the documents that may be seen. What it reads must be watched by the triggers on
/// `scope_changes`, because its results are kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AllowedDocuments {
    pub sql: String,
    pub params: Vec<Value>,
}

impl SearchScope {
    /// Only completed documents whose vectors the current embedder made are ever allowed, and only while neither their
    /// file nor their vector store has expired.
    pub(super) fn allowed_documents(&self, embedder_hash: &str) -> Result<AllowedDocuments> {
        let mut allowed = self.visible_documents()?;
        allowed.sql += " AND d.embedder_hash = ?";
        allowed.params.push(Value::Text(embedder_hash.to_owned()));
        Ok(allowed)
    }

    /// Completed documents, whichever embedder made their vectors, while neither their file nor their vector store has
    /// expired.
    pub(super) fn visible_documents(&self) -> Result<AllowedDocuments> {
        let mut sql = "SELECT d.id FROM documents d WHERE d.status = 'completed'
             AND d.vector_store_row IN
                 (SELECT row FROM vector_stores WHERE id IN (SELECT value FROM json_each(?))
                  AND (expires_at IS NULL OR expires_at > unixepoch()))
             AND d.file_row NOT IN (SELECT row FROM files WHERE expires_at <= unixepoch())"
            .to_owned();
        let mut params = vec![json_list(&self.vector_store_ids)];
        if let Some(file_ids) = &self.file_ids {
            sql += " AND d.file_row IN (SELECT row FROM files WHERE id IN (SELECT value FROM json_each(?)))";
            params.push(json_list(file_ids));
        }
        if let Some(filter) = &self.filter {
            sql += " AND ";
            filter.compile(&mut sql, &mut params)?;
        }
        Ok(AllowedDocuments { sql, params })
    }
}

impl AllowedDocuments {
    pub(super) fn ids(&self, tx: &Transaction) -> Result<Vec<i64>> {
        let mut statement = tx.prepare_cached(&self.sql)?;
        let ids =
            statement.query_map(rusqlite::params_from_iter(&self.params), |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// Those of `candidates` that may be seen.
    pub(super) fn ids_among(
        &self,
        tx: &Transaction,
        candidates: Json<Vec<i64>>,
    ) -> Result<Vec<i64>> {
        let sql = format!("{} AND d.id IN (SELECT value FROM json_each(?))", self.sql);
        let mut statement = tx.prepare_cached(&sql)?;
        let params = self.params.iter().map(|value| value as &dyn ToSql);
        let params: Vec<&dyn ToSql> = params.chain([&candidates as &dyn ToSql]).collect();
        let ids = statement.query_map(params.as_slice(), |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }
}

/// One parameter, whatever the number of ids.
fn json_list(ids: &[String]) -> Value {
    Value::Text(serde_json::Value::from(ids).to_string())
}
