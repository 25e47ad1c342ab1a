//! Summaries of passages, kept so that the next summary of their documents is quick. They go with their passages.

use std::collections::HashMap;

use rusqlite::{Transaction, params};

use super::Store;
use super::error::Result;
use super::json::Json;

/// What was written of a passage. `key` stands for all that it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassageSummary {
    pub chunk_id: i64,
    pub key: String,
    pub text: String,
}

impl Store {
    /// Those of `keys` that are kept of any passage, with their texts.
    pub async fn passage_summaries(&self, keys: Vec<String>) -> Result<HashMap<String, String>> {
        let read = move |tx: &Transaction| {
            let sql = "SELECT key, text FROM passage_summaries WHERE key IN (SELECT value FROM json_each(?))";
            let mut statement = tx.prepare_cached(sql)?;
            let found = statement.query_map([Json(&keys)], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        };
        self.database().read(read).await
    }

    /// Nothing is kept of a passage that is gone.
    pub async fn save_passage_summary(&self, summary: PassageSummary) -> Result<()> {
        let save = move |tx: &Transaction| {
            let sql = "INSERT OR REPLACE INTO passage_summaries (chunk_id, key, text)
                       SELECT id, ?, ? FROM chunks WHERE id = ?";
            tx.prepare_cached(sql)?.execute(params![
                summary.key,
                summary.text,
                summary.chunk_id
            ])?;
            Ok(())
        };
        self.database().write(save).await
    }
}
