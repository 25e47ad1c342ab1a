//! A number that changes whenever what a search can find does. Whoever keeps what was found asks for it first.

use rusqlite::Transaction;

use super::Store;
use super::error::Result;

/// Equal only as long as every search finds the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexVersion {
    /// Moved by triggers.
    version: i64,
    /// What expires is gone from that second on, though nothing is written then.
    num_expired_files: i64,
    num_expired_stores: i64,
    embedder_hash: String,
}

impl Store {
    pub async fn index_version(&self) -> Result<IndexVersion> {
        let embedder_hash = self.embedder().hash.clone();
        let read = move |tx: &Transaction| {
            let sql = "SELECT version,
                           (SELECT count(*) FROM files WHERE expires_at <= unixepoch()),
                           (SELECT count(*) FROM vector_stores WHERE expires_at <= unixepoch())
                       FROM index_version";
            Ok(tx.prepare_cached(sql)?.query_row([], |row| {
                Ok(IndexVersion {
                    version: row.get(0)?,
                    num_expired_files: row.get(1)?,
                    num_expired_stores: row.get(2)?,
                    embedder_hash: embedder_hash.clone(),
                })
            })?)
        };
        self.database().read(read).await
    }
}
