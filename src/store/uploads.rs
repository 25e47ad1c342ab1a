//! Files that come in parts. Each part is durable when it is acknowledged; joining them makes a file like any other. An
//! upload lives for an hour, and its parts are gone once it is completed, cancelled or expired.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use md5::{Digest, Md5};
use rusqlite::{OptionalExtension, Transaction, params};

use super::error::{Result, StoreError};
use super::files::{self, NewFile, StoredFile, for_each_segment, hexadecimal};
use super::{Store, new_id, unix_now};

/// How long an upload may take.
const LIFETIME_SECONDS: i64 = 3600;
/// Parts may come more than once, as when a client tries again, but not without end.
const MAX_COPIES: i64 = 2;

#[derive(Debug, Clone)]
pub struct NewUpload {
    pub file: NewFile,
    /// How long the file will be.
    pub num_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub id: String,
    pub filename: String,
    pub purpose: String,
    pub num_bytes: u64,
    /// Seconds since 1970.
    pub created_at: i64,
    pub expires_at: i64,
    pub status: UploadStatus,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadStatus {
    Pending,
    Completed(StoredFile),
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadPart {
    pub id: String,
    pub upload_id: String,
    /// Seconds since 1970.
    pub created_at: i64,
}

impl Store {
    pub async fn create_upload(&self, new: NewUpload) -> Result<Upload> {
        let create = move |tx: &Transaction| {
            let (id, now) = (new_id("upload_"), unix_now());
            let NewUpload { file, num_bytes } = new;
            tx.execute(
                "INSERT INTO uploads (id, filename, purpose, media_type, num_bytes, file_expires_after_seconds, created_at,
                                      expires_at, status)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending')",
                params![
                    id,
                    file.filename,
                    file.purpose,
                    file.media_type,
                    num_bytes as i64,
                    file.expires_after_seconds,
                    now,
                    now + LIFETIME_SECONDS
                ],
            )?;
            get(tx, &id)
        };
        self.database().write(create).await
    }

    /// Keeps a part, copied from the file at `content`. Parts may come in any order and side by side.
    pub async fn add_upload_part(&self, upload_id: &str, content: PathBuf) -> Result<UploadPart> {
        let upload_id = upload_id.to_owned();
        let add = move |tx: &Transaction| {
            let name = content.display().to_string();
            let opened = File::open(&content)
                .map_err(|source| StoreError::io(format!("open {name}"), source))?;
            insert_part(tx, &upload_id, opened, &name)
        };
        self.database().write(add).await
    }

    /// Joins parts, in the order of `part_ids`, into a file. An upload that is completed already is given back as it is,
    /// so that a client that missed the answer may ask again.
    pub async fn complete_upload(
        &self,
        id: &str,
        part_ids: Vec<String>,
        md5: Option<String>,
    ) -> Result<Upload> {
        let id = id.to_owned();
        let complete = move |tx: &Transaction| complete(tx, &id, &part_ids, md5.as_deref());
        self.database().write(complete).await
    }

    pub async fn cancel_upload(&self, id: &str) -> Result<Upload> {
        let id = id.to_owned();
        let cancel = move |tx: &Transaction| {
            match get(tx, &id)?.status {
                UploadStatus::Pending => {}
                UploadStatus::Cancelled => return get(tx, &id),
                UploadStatus::Completed(file) => {
                    let why = format!("it is completed; delete its file {} instead", file.id);
                    return Err(StoreError::invalid("upload_id", why));
                }
            }
            let row = upload_row(tx, &id)?;
            tx.execute(
                "UPDATE uploads SET status = 'cancelled' WHERE row = ?",
                [row],
            )?;
            delete_parts(tx, row)?;
            get(tx, &id)
        };
        self.database().write(cancel).await
    }
}

fn insert_part(
    tx: &Transaction,
    upload_id: &str,
    content: impl Read,
    content_name: &str,
) -> Result<UploadPart> {
    let upload = get(tx, upload_id)?;
    refuse_ended(&upload)?;
    let upload_row = upload_row(tx, upload_id)?;
    let part = UploadPart {
        id: new_id("part_"),
        upload_id: upload_id.to_owned(),
        created_at: unix_now(),
    };
    tx.execute(
        "INSERT INTO upload_parts (id, upload_row, num_bytes, created_at) VALUES (?, ?, 0, ?)",
        params![part.id, upload_row, part.created_at],
    )?;
    let part_row = tx.last_insert_rowid();
    let sql = "INSERT INTO upload_segments (part_row, ordinal, bytes) VALUES (?, ?, ?)";
    let mut statement = tx.prepare_cached(sql)?;
    let num_bytes = for_each_segment(content, content_name, |ordinal, segment| {
        statement.execute(params![part_row, ordinal, segment])?;
        Ok(())
    })?;
    tx.execute(
        "UPDATE upload_parts SET num_bytes = ? WHERE row = ?",
        [num_bytes, part_row],
    )?;
    let sql = "SELECT sum(num_bytes) FROM upload_parts WHERE upload_row = ?";
    let stored: i64 = tx.query_row(sql, [upload_row], |row| row.get(0))?;
    if stored > upload.num_bytes as i64 * MAX_COPIES {
        let why = format!(
            "the parts would have {stored} bytes, more than {MAX_COPIES} times the {} that were announced",
            upload.num_bytes
        );
        return Err(StoreError::invalid("data", why));
    }
    Ok(part)
}

fn complete(
    tx: &Transaction,
    id: &str,
    part_ids: &[String],
    expected_md5: Option<&str>,
) -> Result<Upload> {
    let upload = get(tx, id)?;
    if let UploadStatus::Completed(_) = upload.status {
        return Ok(upload);
    }
    refuse_ended(&upload)?;
    let upload_row = upload_row(tx, id)?;
    let mut parts = Vec::new();
    let mut num_bytes = 0;
    for part_id in part_ids {
        let sql = "SELECT row, num_bytes FROM upload_parts WHERE id = ? AND upload_row = ?";
        let found: Option<(i64, i64)> = tx
            .prepare_cached(sql)?
            .query_row(params![part_id, upload_row], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let (row, bytes) = found.ok_or_else(|| {
            StoreError::invalid("part_ids", format!("{part_id:?} is no part of {id}"))
        })?;
        if parts.contains(&row) {
            let why = format!("{part_id:?} is listed twice");
            return Err(StoreError::invalid("part_ids", why));
        }
        parts.push(row);
        num_bytes += bytes;
    }
    if num_bytes != upload.num_bytes as i64 {
        let why = format!(
            "these parts have {num_bytes} bytes in all, but the upload was announced with {}",
            upload.num_bytes
        );
        return Err(StoreError::invalid("part_ids", why));
    }
    let mut content = Parts {
        tx,
        left: parts.into_iter(),
        part_row: None,
        ordinal: 0,
        segment: io::Cursor::default(),
        md5: Md5::new(),
    };
    let file = files::insert(tx, new_file(tx, upload_row)?, &mut content, id)?;
    let md5 = hexadecimal(&content.md5.finalize());
    if let Some(expected) = expected_md5
        && !expected.eq_ignore_ascii_case(&md5)
    {
        let why = format!("the content has {md5}, not {expected}; send the parts again");
        return Err(StoreError::invalid("md5", why));
    }
    tx.execute(
        "UPDATE uploads SET status = 'completed', file_row = (SELECT row FROM files WHERE id = ?) WHERE row = ?",
        params![file.id, upload_row],
    )?;
    delete_parts(tx, upload_row)?;
    get(tx, id)
}

fn refuse_ended(upload: &Upload) -> Result<()> {
    let ended = match &upload.status {
        UploadStatus::Pending => return Ok(()),
        UploadStatus::Completed(_) => "completed",
        UploadStatus::Cancelled => "cancelled",
    };
    let why = format!("the upload is {ended}; create a new one");
    Err(StoreError::invalid("upload_id", why))
}

fn delete_parts(tx: &Transaction, upload_row: i64) -> Result<()> {
    tx.execute(
        "DELETE FROM upload_parts WHERE upload_row = ?",
        [upload_row],
    )?;
    Ok(())
}

/// The row of an upload that has not expired.
fn upload_row(tx: &Transaction, id: &str) -> Result<i64> {
    let sql = "SELECT row FROM uploads WHERE id = ? AND expires_at > unixepoch()";
    let row = tx
        .prepare_cached(sql)?
        .query_row([id], |row| row.get(0))
        .optional()?;
    row.ok_or_else(|| StoreError::not_found("upload", id))
}

fn new_file(tx: &Transaction, upload_row: i64) -> Result<NewFile> {
    let sql = "SELECT filename, purpose, media_type, file_expires_after_seconds FROM uploads WHERE row = ?";
    Ok(tx.query_row(sql, [upload_row], |row| {
        Ok(NewFile {
            filename: row.get(0)?,
            purpose: row.get(1)?,
            media_type: row.get(2)?,
            expires_after_seconds: row.get(3)?,
        })
    })?)
}

fn get(tx: &Transaction, id: &str) -> Result<Upload> {
    let sql =
        "SELECT u.filename, u.purpose, u.num_bytes, u.created_at, u.expires_at, u.status, f.id
               FROM uploads u LEFT JOIN files f ON f.row = u.file_row WHERE u.row = ?";
    let (mut upload, status, file_id) =
        tx.prepare_cached(sql)?
            .query_row([upload_row(tx, id)?], |row| {
                let upload = Upload {
                    id: id.to_owned(),
                    filename: row.get(0)?,
                    purpose: row.get(1)?,
                    num_bytes: row.get::<_, i64>(2)? as u64,
                    created_at: row.get(3)?,
                    expires_at: row.get(4)?,
                    status: UploadStatus::Pending,
                };
                Ok((
                    upload,
                    row.get::<_, String>(5)?,
                    row.get::<_, Option<String>>(6)?,
                ))
            })?;
    match (status.as_str(), file_id) {
        ("cancelled", _) => upload.status = UploadStatus::Cancelled,
        (_, Some(file_id)) => upload.status = UploadStatus::Completed(files::get(tx, &file_id)?),
        _ => {}
    }
    Ok(upload)
}

/// The bytes of parts one after the other, a segment in memory at a time; sums them up as they pass.
struct Parts<'a> {
    tx: &'a Transaction<'a>,
    left: std::vec::IntoIter<i64>,
    part_row: Option<i64>,
    ordinal: i64,
    segment: io::Cursor<Vec<u8>>,
    md5: Md5,
}

impl Parts<'_> {
    /// The next segment; `None` after the last part.
    fn next_segment(&mut self) -> rusqlite::Result<Option<Vec<u8>>> {
        let sql = "SELECT bytes FROM upload_segments WHERE part_row = ? AND ordinal = ?";
        let mut statement = self.tx.prepare_cached(sql)?;
        loop {
            let Some(part_row) = self.part_row.or_else(|| self.left.next()) else {
                return Ok(None);
            };
            let found = statement
                .query_row([part_row, self.ordinal], |row| row.get(0))
                .optional()?;
            if found.is_some() {
                (self.part_row, self.ordinal) = (Some(part_row), self.ordinal + 1);
                return Ok(found);
            }
            (self.part_row, self.ordinal) = (None, 0);
        }
    }
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.segment.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        let Some(segment) = self.next_segment().map_err(io::Error::other)? else {
            return Ok(0);
        };
        self.md5.update(&segment);
        self.segment = io::Cursor::new(segment);
        self.segment.read(buffer)
    }
}
