//! Deletes what has expired: files with all that came from them, what expired vector stores held, and uploads. Nothing
//! depends on when: expired rows are not read.

use rusqlite::Transaction;

use super::Store;
use super::error::Result;

/// Each deletes one row and what belongs to it, so that no writer waits for long.
const DELETIONS: [&str; 3] = [
    "DELETE FROM files WHERE row = (SELECT row FROM files WHERE expires_at <= unixepoch() LIMIT 1)",
    "DELETE FROM documents WHERE id = (SELECT d.id FROM vector_stores v JOIN documents d ON d.vector_store_row = v.row
                                       WHERE v.expires_at <= unixepoch() LIMIT 1)",
    "DELETE FROM uploads WHERE row = (SELECT row FROM uploads WHERE expires_at <= unixepoch() LIMIT 1)",
];

impl Store {
    /// Deletes what has expired and says how much it was. Completed uploads count, though their files stay.
    pub async fn delete_expired(&self) -> Result<u64> {
        let mut num_deleted = 0;
        // Looking costs no write, and mostly there is nothing.
        while self.database().read(is_any_expired).await? {
            let delete = |tx: &Transaction| {
                let mut num_deleted = 0;
                for sql in DELETIONS {
                    num_deleted += tx.prepare_cached(sql)?.execute([])? as u64;
                }
                Ok(num_deleted)
            };
            num_deleted += self.database().write(delete).await?;
        }
        Ok(num_deleted)
    }
}

fn is_any_expired(tx: &Transaction) -> Result<bool> {
    let sql = "
        SELECT EXISTS (SELECT 1 FROM files WHERE expires_at <= unixepoch())
            OR EXISTS (SELECT 1 FROM vector_stores v JOIN documents d ON d.vector_store_row = v.row
                       WHERE v.expires_at <= unixepoch())
            OR EXISTS (SELECT 1 FROM uploads WHERE expires_at <= unixepoch())";
    Ok(tx.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}
