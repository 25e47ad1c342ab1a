//! Uploaded originals. Their bytes are kept in the database in segments, so that no file is in memory as a whole
//! unless the caller asks for that. A file that came in parts is made of these, where they are.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use rusqlite::{OptionalExtension, Row, Transaction, params, params_from_iter};
use sha2::{Digest, Sha256};

use super::error::{Result, StoreError};
use super::json::Json;
use super::listing::{ListOptions, Page};
use super::{Store, new_id, unix_now};

pub(super) const SEGMENT_BYTES: usize = 1 << 20;

#[derive(Debug, Clone)]
pub struct NewFile {
    pub filename: String,
    pub purpose: String,
    pub media_type: String,
    /// `None` to keep it until it is deleted.
    pub expires_after_seconds: Option<u32>,
}

pub enum Content {
    Bytes(Vec<u8>),
    /// A file to copy from; it is not changed.
    Path(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    pub id: String,
    pub filename: String,
    pub purpose: String,
    pub media_type: String,
    pub num_bytes: u64,
    /// Of the content, in hexadecimal.
    pub sha256: String,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970; from then on it is gone. `None` for never.
    pub expires_at: Option<i64>,
}

const COLUMNS: &str =
    "id, filename, purpose, media_type, num_bytes, sha256, created_at, expires_at";

impl Store {
    /// Keeps a file. When this returns, it survives the end of the process and of the power.
    pub async fn create_file(&self, file: NewFile, content: Content) -> Result<StoredFile> {
        let create = move |tx: &Transaction| create(tx, file, content);
        self.database().write(create).await
    }

    pub async fn file(&self, id: &str) -> Result<StoredFile> {
        let id = id.to_owned();
        self.database().read(move |tx| get(tx, &id)).await
    }

    /// Those of `ids` that are neither deleted nor expired.
    pub async fn live_files(&self, ids: Vec<String>) -> Result<HashSet<String>> {
        let read = move |tx: &Transaction| {
            let sql = "SELECT id FROM live_files WHERE id IN (SELECT value FROM json_each(?))";
            let mut statement = tx.prepare_cached(sql)?;
            let found = statement.query_map([Json(&ids)], |row| row.get(0))?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        };
        self.database().read(read).await
    }

    /// Files in order of creation; with `purpose`, only those.
    pub async fn list_files(
        &self,
        purpose: Option<String>,
        list: ListOptions,
    ) -> Result<Page<StoredFile>> {
        let read = move |tx: &Transaction| {
            let window = list.window("row", |id| file_row(tx, id))?;
            let (condition, mut values) = match purpose {
                Some(purpose) => ("purpose = ?", vec![purpose.into()]),
                None => ("true", Vec::new()),
            };
            values.extend(window.params.iter().cloned());
            let sql = format!(
                "SELECT {COLUMNS} FROM live_files WHERE {condition}{}{}",
                window.conditions, window.order_and_limit
            );
            let mut statement = tx.prepare_cached(&sql)?;
            let files = statement
                .query_map(params_from_iter(values), from_row)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(window.page(files))
        };
        self.database().read(read).await
    }

    /// Deletes a file with all that came from it: text, documents, jobs, chunks, full-text rows, vectors. The next
    /// search cannot find it.
    pub async fn delete_file(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        let delete = move |tx: &Transaction| hide(tx, file_row(tx, &id)?);
        self.database().write(delete).await?;
        // Whoever reads it is to stop.
        self.notify_jobs_changed();
        self.remove_remains().await;
        Ok(())
    }

    pub async fn file_content(&self, id: &str) -> Result<Vec<u8>> {
        let id = id.to_owned();
        let read = move |tx: &Transaction| {
            let mut content = Vec::with_capacity(get(tx, &id)?.num_bytes as usize);
            let row = file_row(tx, &id)?;
            let mut ordinal = 0;
            while let Some(bytes) = segment(tx, row, ordinal)? {
                content.extend_from_slice(&bytes);
                ordinal += 1;
            }
            Ok(content)
        };
        self.database().read(read).await
    }

    /// A piece of the content, counted from 0; `None` after the last.
    pub async fn file_segment(&self, id: &str, ordinal: u32) -> Result<Option<Vec<u8>>> {
        let id = id.to_owned();
        let read = move |tx: &Transaction| segment(tx, file_row(tx, &id)?, ordinal.into());
        self.database().read(read).await
    }
}

/// As [`Store::create_file`], as part of something larger.
pub(super) fn create(tx: &Transaction, file: NewFile, content: Content) -> Result<StoredFile> {
    match content {
        Content::Bytes(bytes) => insert(tx, file, bytes.as_slice(), "the uploaded bytes"),
        Content::Path(path) => {
            let name = path.display().to_string();
            let opened = File::open(&path)
                .map_err(|source| StoreError::io(format!("open {name}"), source))?;
            insert(tx, file, opened, &name)
        }
    }
}

fn segment(tx: &Transaction, file_row: i64, ordinal: i64) -> Result<Option<Vec<u8>>> {
    let sql = "
        SELECT bytes FROM file_segments WHERE file_row = ?1 AND ordinal = ?2
        UNION ALL
        SELECT s.bytes FROM uploads u JOIN upload_parts p ON p.upload_row = u.row AND p.first_segment <= ?2
               JOIN upload_segments s ON s.part_row = p.row AND s.ordinal = ?2 - p.first_segment
        WHERE u.file_row = ?1";
    let mut statement = tx.prepare_cached(sql)?;
    let found = statement.query_row([file_row, ordinal], |row| row.get(0));
    Ok(found.optional()?)
}

/// Makes a file unreadable with all that came from it; its bytes are for [`Store::delete_remains`] to remove.
pub(super) fn hide(tx: &Transaction, row: i64) -> Result<()> {
    for sql in [
        "UPDATE files SET is_deleted = 1 WHERE row = ?",
        "DELETE FROM documents WHERE file_row = ?",
        "DELETE FROM extractions WHERE file_row = ?",
    ] {
        tx.prepare_cached(sql)?.execute([row])?;
    }
    Ok(())
}

pub(super) fn file_row(tx: &Transaction, id: &str) -> Result<i64> {
    let row = tx
        .prepare_cached("SELECT row FROM live_files WHERE id = ?")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    row.ok_or_else(|| StoreError::not_found("file", id))
}

pub(super) fn get(tx: &Transaction, id: &str) -> Result<StoredFile> {
    let sql = format!("SELECT {COLUMNS} FROM live_files WHERE id = ?");
    let found = tx
        .prepare_cached(&sql)?
        .query_row([id], from_row)
        .optional()?;
    found.ok_or_else(|| StoreError::not_found("file", id))
}

fn insert(
    tx: &Transaction,
    file: NewFile,
    content: impl Read,
    content_name: &str,
) -> Result<StoredFile> {
    let id = insert_row(tx, file, 0, "")?;
    let file_row = tx.last_insert_rowid();
    let mut statement =
        tx.prepare_cached("INSERT INTO file_segments (file_row, ordinal, bytes) VALUES (?, ?, ?)")?;
    let mut hash = Sha256::new();
    let num_bytes = for_each_segment(content, content_name, |ordinal, segment| {
        hash.update(segment);
        statement.execute(params![file_row, ordinal, segment])?;
        Ok(())
    })?;
    tx.execute(
        "UPDATE files SET num_bytes = ?, sha256 = ? WHERE row = ?",
        params![num_bytes, hexadecimal(&hash.finalize()), file_row],
    )?;
    get(tx, &id)
}

/// Adds a file of which no byte is kept yet, and returns its id.
pub(super) fn insert_row(
    tx: &Transaction,
    file: NewFile,
    num_bytes: i64,
    sha256: &str,
) -> Result<String> {
    let (id, now) = (new_id("file-"), unix_now());
    let lifetime = file.expires_after_seconds.map(i64::from);
    tx.execute(
        "INSERT INTO files (id, filename, purpose, media_type, num_bytes, sha256, created_at, expires_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            id,
            file.filename,
            file.purpose,
            file.media_type,
            num_bytes,
            sha256,
            now,
            lifetime.map(|seconds| now + seconds)
        ],
    )?;
    Ok(id)
}

/// Cuts `content` into the pieces that are kept, and says how many bytes there were.
pub(super) fn for_each_segment(
    mut content: impl Read,
    content_name: &str,
    mut keep: impl FnMut(i64, &[u8]) -> Result<()>,
) -> Result<i64> {
    let mut num_bytes = 0;
    let mut segment = Vec::with_capacity(SEGMENT_BYTES);
    for ordinal in 0.. {
        segment.clear();
        (&mut content)
            .take(SEGMENT_BYTES as u64)
            .read_to_end(&mut segment)
            .map_err(|source| StoreError::io(format!("read {content_name}"), source))?;
        if segment.is_empty() {
            break;
        }
        num_bytes += segment.len() as i64;
        keep(ordinal, &segment)?;
    }
    Ok(num_bytes)
}

/// Of some bytes, as files have it.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_row(row: &Row) -> rusqlite::Result<StoredFile> {
    Ok(StoredFile {
        id: row.get(0)?,
        filename: row.get(1)?,
        purpose: row.get(2)?,
        media_type: row.get(3)?,
        num_bytes: row.get::<_, i64>(4)? as u64,
        sha256: row.get(5)?,
        created_at: row.get(6)?,
        expires_at: row.get(7)?,
    })
}
