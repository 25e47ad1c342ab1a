//! Files that come in parts. Each part is durable when it is acknowledged. Completing makes a file of parts where they
//! are, without copying them; other parts are gone once the upload is completed, cancelled or expired, after an hour.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use md5::{Digest, Md5};
use rusqlite::{OptionalExtension, Transaction, params};
use sha2::Sha256;

use super::error::{Result, StoreError};
use super::files::{self, NewFile, SEGMENT_BYTES, StoredFile, for_each_segment, hexadecimal};
use super::{Store, new_id, unix_now};

/// How long an upload may take.
const LIFETIME_SECONDS: i64 = 3600;
/// Parts may come more than once, as when a client tries again, but not without end.
const MAX_COPIES: i64 = 2;
/// Segments that are summed up before the next reader has its turn.
const SEGMENTS_AT_ONCE: i64 = 16;

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
        let found = self.database().read({
            let (id, part_ids) = (id.to_owned(), part_ids.clone());
            move |tx| joining(tx, &id, &part_ids)
        });
        let parts = match found.await? {
            Joining::Done(upload) => return Ok(*upload),
            Joining::Of(parts) => parts,
        };
        // Nobody who writes waits for this.
        let sums = self.sums(parts).await?;
        if let Some(expected) = md5
            && !expected.eq_ignore_ascii_case(&sums.md5)
        {
            let why = format!(
                "the content has {}, not {expected}; send the parts again",
                sums.md5
            );
            return Err(StoreError::invalid("md5", why));
        }
        let id = id.to_owned();
        let complete = move |tx: &Transaction| complete(tx, &id, &part_ids, &sums.sha256);
        let upload = self.database().write(complete).await?;
        self.remove_remains().await;
        Ok(upload)
    }

    /// The sums of the parts one after the other.
    async fn sums(&self, parts: Vec<Part>) -> Result<Sums> {
        let mut hashes = (Sha256::new(), Md5::new());
        for part in parts {
            for first in (0..part.num_segments()).step_by(SEGMENTS_AT_ONCE as usize) {
                let add = move |tx: &Transaction| add_segments(tx, part.row, first, hashes);
                hashes = self.database().read(add).await?;
            }
        }
        Ok(Sums {
            sha256: hexadecimal(&hashes.0.finalize()),
            md5: hexadecimal(&hashes.1.finalize()),
        })
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
            get(tx, &id)
        };
        let cancelled = self.database().write(cancel).await?;
        self.remove_remains().await;
        Ok(cancelled)
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

/// What a request to complete an upload comes to.
enum Joining {
    /// It is completed already.
    Done(Box<Upload>),
    Of(Vec<Part>),
}

#[derive(Clone, Copy)]
struct Part {
    row: i64,
    num_bytes: i64,
}

impl Part {
    fn num_segments(self) -> i64 {
        (self.num_bytes as u64).div_ceil(SEGMENT_BYTES as u64) as i64
    }
}

struct Sums {
    sha256: String,
    md5: String,
}

/// The parts that the file is to be made of, checked.
fn joining(tx: &Transaction, id: &str, part_ids: &[String]) -> Result<Joining> {
    let upload = get(tx, id)?;
    if let UploadStatus::Completed(_) = upload.status {
        return Ok(Joining::Done(Box::new(upload)));
    }
    refuse_ended(&upload)?;
    let upload_row = upload_row(tx, id)?;
    let mut parts = Vec::new();
    let mut seen = HashSet::new();
    for part_id in part_ids {
        let sql = "SELECT row, num_bytes FROM upload_parts WHERE id = ? AND upload_row = ?";
        let found = tx
            .prepare_cached(sql)?
            .query_row(params![part_id, upload_row], |row| {
                let (row, num_bytes) = (row.get(0)?, row.get(1)?);
                Ok(Part { row, num_bytes })
            })
            .optional()?;
        let part = found.ok_or_else(|| {
            StoreError::invalid("part_ids", format!("{part_id:?} is no part of {id}"))
        })?;
        if !seen.insert(part.row) {
            let why = format!("{part_id:?} is listed twice");
            return Err(StoreError::invalid("part_ids", why));
        }
        parts.push(part);
    }
    let num_bytes: i64 = parts.iter().map(|part| part.num_bytes).sum();
    if num_bytes != upload.num_bytes as i64 {
        let why = format!(
            "these parts have {num_bytes} bytes in all, but the upload was announced with {}",
            upload.num_bytes
        );
        return Err(StoreError::invalid("part_ids", why));
    }
    Ok(Joining::Of(parts))
}

/// Sums up the segments of a part from the one numbered `first` on, as many as are read at once.
fn add_segments(
    tx: &Transaction,
    part_row: i64,
    first: i64,
    mut hashes: (Sha256, Md5),
) -> Result<(Sha256, Md5)> {
    let sql = "SELECT bytes FROM upload_segments WHERE part_row = ? AND ordinal >= ? ORDER BY ordinal LIMIT ?";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([part_row, first, SEGMENTS_AT_ONCE])?;
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        hashes.0.update(bytes);
        hashes.1.update(bytes);
    }
    Ok(hashes)
}

/// Makes the file. Its parts are checked again, as the upload may have ended meanwhile; what is in a part never changes.
fn complete(tx: &Transaction, id: &str, part_ids: &[String], sha256: &str) -> Result<Upload> {
    let parts = match joining(tx, id, part_ids)? {
        Joining::Done(upload) => return Ok(*upload),
        Joining::Of(parts) => parts,
    };
    let upload_row = upload_row(tx, id)?;
    let num_bytes = parts.iter().map(|part| part.num_bytes).sum();
    files::insert_row(tx, new_file(tx, upload_row)?, num_bytes, sha256)?;
    let file_row = tx.last_insert_rowid();
    let mut first_segment = 0;
    for part in parts {
        let sql = "UPDATE upload_parts SET first_segment = ? WHERE row = ?";
        tx.prepare_cached(sql)?.execute([first_segment, part.row])?;
        first_segment += part.num_segments();
    }
    tx.execute(
        "UPDATE uploads SET status = 'completed', file_row = ? WHERE row = ?",
        [file_row, upload_row],
    )?;
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
        // A file that is deleted or has expired takes its upload with it.
        (_, Some(file_id)) => upload.status = UploadStatus::Completed(files::get(tx, &file_id)?),
        _ => {}
    }
    Ok(upload)
}
