//! Passwords of encrypted documents, kept only while a job needs them. Never shown, never logged, in no object.

use std::fmt;

use rusqlite::{OptionalExtension, Transaction};
use serde::Deserialize;

use super::error::Result;
use super::{Job, Store};

/// What opens an encrypted document.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    pub fn new(password: String) -> Self {
        Self(password)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Store {
    /// The password that came with the document of a job, if one did.
    pub async fn password(&self, job: &Job) -> Result<Option<Password>> {
        let job_id = job.id;
        let read = move |tx: &Transaction| {
            let sql = "SELECT password FROM document_passwords
                       WHERE document_id = (SELECT document_id FROM jobs WHERE id = ?)";
            let mut statement = tx.prepare_cached(sql)?;
            let password = statement.query_row([job_id], |row| row.get(0)).optional()?;
            Ok(password.map(Password))
        };
        self.database().read(read).await
    }

    /// The document of a job has been read: nobody needs its password any more.
    pub async fn forget_password(&self, job: &Job) -> Result<()> {
        let job_id = job.id;
        let forget_it = move |tx: &Transaction| {
            let sql = "SELECT document_id FROM jobs WHERE id = ?";
            let document = tx.query_row(sql, [job_id], |row| row.get(0)).optional()?;
            document.map_or(Ok(()), |document| forget(tx, document))
        };
        self.database().write(forget_it).await
    }
}

pub(super) fn keep(tx: &Transaction, document_id: i64, password: Option<&Password>) -> Result<()> {
    forget(tx, document_id)?;
    if let Some(Password(password)) = password {
        tx.prepare_cached("INSERT INTO document_passwords (document_id, password) VALUES (?, ?)")?
            .execute((document_id, password))?;
    }
    Ok(())
}

/// Overwrites and deletes: a deleted row alone would stay readable in the file until its place is used again.
pub(super) fn forget(tx: &Transaction, document_id: i64) -> Result<()> {
    let overwrite = "UPDATE document_passwords SET password = replace(hex(zeroblob(length(password))), '00', '-')
                     WHERE document_id = ?";
    tx.prepare_cached(overwrite)?.execute([document_id])?;
    tx.prepare_cached("DELETE FROM document_passwords WHERE document_id = ?")?
        .execute([document_id])?;
    Ok(())
}
