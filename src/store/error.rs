//! What can go wrong in the store, in the caller's terms. Messages never carry document text.

use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, StoreError>;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no {kind} {id:?}; list the existing ones to see their ids")]
    NotFound { kind: &'static str, id: String },
    #[error(
        "job {job_id} on {file_id} is no longer this worker's: its document was deleted, cancelled or queued anew; drop it"
    )]
    Gone { job_id: i64, file_id: String },
    #[error("the import {id} is no longer this worker's: it was cancelled or forgotten; drop it")]
    ImportGone { id: String },
    #[error(
        "the vector store {id:?} has expired, and what it held is gone; create a new one and attach the files there"
    )]
    Expired { id: String },
    #[error("{what} is not valid: {why}")]
    Invalid { what: &'static str, why: String },
    #[error(
        "bytes {start}..{end} of the text of {file_id} ({num_bytes} bytes) are not a span of whole characters"
    )]
    BadSpan {
        file_id: String,
        start: usize,
        end: usize,
        num_bytes: usize,
    },
    #[error(
        "{path} has schema version {found} but this program knows only up to {supported}; start a newer version of the program on it"
    )]
    NewerSchema {
        path: PathBuf,
        found: i64,
        supported: i64,
    },
    #[error("{path} is damaged or not a database ({detail}); move it away and restore a backup")]
    Corrupt { path: PathBuf, detail: String },
    #[error(
        "{path} stayed locked by another process for {seconds} seconds; try again or stop that process"
    )]
    Locked { path: PathBuf, seconds: u64 },
    #[error("there is no room to write to {path}; free some disk space")]
    DiskFull { path: PathBuf },
    #[error("cannot {action}: {source}")]
    Io {
        action: String,
        source: std::io::Error,
    },
    #[error("database error: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("vector index error: {0}")]
    VectorIndex(String),
    #[error("the store has stopped; start the program again")]
    Stopped,
    #[error("a store operation panicked and was rolled back: {0}")]
    Panicked(String),
}

impl StoreError {
    pub(super) fn not_found(kind: &'static str, id: &str) -> Self {
        Self::NotFound {
            kind,
            id: id.to_owned(),
        }
    }

    pub(super) fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid {
            what,
            why: why.into(),
        }
    }

    pub(super) fn io(action: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            action: action.into(),
            source,
        }
    }

    /// Turns the SQLite failures that a person can act on into variants that name the file.
    pub(super) fn naming(self, path: &Path) -> Self {
        let Self::Sqlite(rusqlite::Error::SqliteFailure(code, message)) = &self else {
            return self;
        };
        let path = path.to_owned();
        match code.code {
            rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt => {
                Self::Corrupt {
                    path,
                    detail: message.clone().unwrap_or_else(|| code.to_string()),
                }
            }
            rusqlite::ErrorCode::DiskFull => Self::DiskFull { path },
            rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked => {
                Self::Locked {
                    path,
                    seconds: super::database::BUSY_TIMEOUT.as_secs(),
                }
            }
            _ => self,
        }
    }
}
