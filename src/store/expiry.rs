//! Deletes what has expired, and what is left of deleted files and ended uploads. Nothing depends on when: none of it is
//! read. Each transaction is short, whatever the size of what goes, so that no writer waits for long.

use rusqlite::{OptionalExtension, Transaction};

use super::error::Result;
use super::{Store, files};

/// What hides expired files and deletes the documents of expired vector stores looks for these, one at a time.
const EXPIRED_FILE: &str =
    "SELECT row FROM files WHERE expires_at <= unixepoch() AND is_deleted = 0 LIMIT 1";
const EXPIRED_DOCUMENT: &str =
    "SELECT d.id FROM vector_stores v JOIN documents d ON d.vector_store_row = v.row
                                WHERE v.expires_at <= unixepoch() LIMIT 1";

/// Rows that one transaction removes: with segments, as many MiB.
const ROWS_AT_ONCE: usize = 16;

/// Tables with what is to be removed from each, in an order in which no row takes many others with it.
const REMAINS: [(&str, &str); 5] = [
    (
        "file_segments",
        "SELECT s.rowid FROM files f CROSS JOIN file_segments s ON s.file_row = f.row WHERE f.is_deleted = 1",
    ),
    (
        "upload_segments",
        "SELECT s.rowid FROM dead_upload_parts p CROSS JOIN upload_segments s ON s.part_row = p.row",
    ),
    (
        "upload_parts",
        "SELECT row FROM dead_upload_parts p WHERE NOT EXISTS (SELECT 1 FROM upload_segments WHERE part_row = p.row)",
    ),
    (
        "uploads",
        "SELECT row FROM uploads u WHERE expires_at <= unixepoch()
         AND NOT EXISTS (SELECT 1 FROM upload_parts WHERE upload_row = u.row)",
    ),
    (
        "files",
        "SELECT row FROM files f WHERE is_deleted = 1
         AND NOT EXISTS (SELECT 1 FROM file_segments WHERE file_row = f.row)
         AND NOT EXISTS (SELECT 1 FROM uploads u JOIN upload_parts p ON p.upload_row = u.row WHERE u.file_row = f.row)",
    ),
];

impl Store {
    /// Deletes what has expired and says how many files, documents and uploads it was. Completed uploads count when
    /// nothing of their file is theirs.
    pub async fn delete_expired(&self) -> Result<u64> {
        let mut num_deleted = 0;
        for select in [EXPIRED_FILE, EXPIRED_DOCUMENT] {
            // Looking costs no write, and mostly there is nothing.
            while self.is_any(select).await? {
                num_deleted += self.database().write(delete_one_expired).await?;
            }
        }
        Ok(num_deleted + self.delete_remains().await?)
    }

    /// As [`delete_remains`](Self::delete_remains), after a change that is done whatever comes of this.
    pub(super) async fn remove_remains(&self) {
        if let Err(error) = self.delete_remains().await {
            // It is gone for everyone already, and expiry tries again.
            tracing::warn!(%error, "the bytes of a deleted file cannot be removed yet");
        }
    }

    /// Removes what deleted files and ended uploads have left, a few MiB at a time, and says how many uploads that ended.
    /// Whoever is stopped in between leaves the rest to the next.
    pub(super) async fn delete_remains(&self) -> Result<u64> {
        let mut num_uploads = 0;
        for (table, select) in REMAINS {
            while self.is_any(select).await? {
                let delete = move |tx: &Transaction| {
                    let sql = format!(
                        "DELETE FROM {table} WHERE rowid IN ({select} LIMIT {ROWS_AT_ONCE})"
                    );
                    Ok(tx.prepare_cached(&sql)?.execute([])? as u64)
                };
                let num_rows = self.database().write(delete).await?;
                if table == "uploads" {
                    num_uploads += num_rows;
                }
            }
        }
        Ok(num_uploads)
    }

    async fn is_any(&self, select: &'static str) -> Result<bool> {
        let is_any = move |tx: &Transaction| Ok(tx.prepare_cached(select)?.exists([])?);
        self.database().read(is_any).await
    }
}

fn delete_one_expired(tx: &Transaction) -> Result<u64> {
    let mut find = tx.prepare_cached(EXPIRED_FILE)?;
    let file: Option<i64> = find.query_row([], |row| row.get(0)).optional()?;
    if let Some(row) = file {
        files::hide(tx, row)?;
    }
    let sql = format!("DELETE FROM documents WHERE id = ({EXPIRED_DOCUMENT})");
    let num_documents = tx.prepare_cached(&sql)?.execute([])?;
    Ok(u64::from(file.is_some()) + num_documents as u64)
}
