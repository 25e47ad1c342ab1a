//! Documents that are kept in step with something elsewhere: web pages, files of watched folders, files that the command
//! line ingested. The old version of a document answers until the new one has been read (a trigger sees to it), and there
//! is never a moment with both.

use std::io::Read;

use rusqlite::{OptionalExtension, Row, Transaction, params};
use sha2::{Digest, Sha256};

use super::documents::{Attributes, Chunking, DocumentStatus, IfExists, NewDocument, attach};
use super::error::Result;
use super::files::{self, Content, NewFile, hexadecimal};
use super::passwords::Password;
use super::vector_stores::{chunking_in, vector_store_row};
use super::{Store, StoreError};

/// Where a document comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    Web,
    /// A watched folder, by its path.
    Folder(String),
    /// The command line; addresses are full paths.
    Ingested,
}

/// A document as it was last taken from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A URL, a path below the watched folder, or a full path.
    pub address: String,
    /// How a change is told.
    pub version: String,
    pub sha256: String,
    /// The newest version's file; `None` when somebody deleted it.
    pub file_id: Option<String>,
    /// How far the newest version is; `None` when somebody took it out of the vector store.
    pub status: Option<DocumentStatus>,
    pub error: Option<String>,
    /// Whether any version answers.
    pub is_searchable: bool,
}

/// A version of a document, to be kept.
pub struct NewSource {
    pub origin: Origin,
    pub address: String,
    pub version: String,
    pub file: NewFile,
    pub content: Content,
    pub attributes: Attributes,
    /// Where its vector store does not say otherwise.
    pub chunking: Chunking,
    /// Kept until the document is read.
    pub password: Option<Password>,
}

/// What came of a new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub file_id: String,
    pub sha256: String,
    /// Whether it has the bytes of the version that was there.
    pub is_unchanged: bool,
}

const SELECT: &str = "
    SELECT s.address, s.version, s.sha256, f.id, d.status, d.error_message,
           EXISTS (SELECT 1 FROM documents a WHERE a.vector_store_row = s.vector_store_row AND a.status = 'completed'
                   AND a.file_row IN (s.file_row, s.next_file_row))
    FROM sources s LEFT JOIN live_files f ON f.row = coalesce(s.next_file_row, s.file_row)
         LEFT JOIN documents d ON d.vector_store_row = s.vector_store_row AND d.file_row = f.row";

impl Store {
    /// Keeps a version of a document and queues its ingestion, unless these bytes are there already.
    pub async fn keep_source(&self, vector_store_id: &str, new: NewSource) -> Result<Kept> {
        let vector_store_id = vector_store_id.to_owned();
        let write = move |tx: &Transaction| keep(tx, &vector_store_id, new);
        let kept = self.database().write(write).await?;
        self.notify_jobs_changed();
        Ok(kept)
    }

    pub async fn source(
        &self,
        vector_store_id: &str,
        origin: &Origin,
        address: &str,
    ) -> Result<Option<Source>> {
        let (vector_store_id, origin) = (vector_store_id.to_owned(), origin.clone());
        let address = address.to_owned();
        let read = move |tx: &Transaction| {
            let store = vector_store_row(tx, &vector_store_id)?;
            let (kind, root) = origin.columns();
            let sql = format!(
                "{SELECT} WHERE s.vector_store_row = ? AND s.kind = ? AND s.root = ? AND s.address = ?"
            );
            let mut statement = tx.prepare_cached(&sql)?;
            let found = statement.query_row(params![store, kind, root, address], from_row);
            Ok(found.optional()?)
        };
        self.database().read(read).await
    }

    /// All documents of an origin in a vector store, by address.
    pub async fn sources(&self, vector_store_id: &str, origin: &Origin) -> Result<Vec<Source>> {
        let (vector_store_id, origin) = (vector_store_id.to_owned(), origin.clone());
        let read = move |tx: &Transaction| {
            let store = vector_store_row(tx, &vector_store_id)?;
            let (kind, root) = origin.columns();
            let sql = format!(
                "{SELECT} WHERE s.vector_store_row = ? AND s.kind = ? AND s.root = ? ORDER BY s.address"
            );
            let mut statement = tx.prepare_cached(&sql)?;
            let found = statement.query_map(params![store, kind, root], from_row)?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        };
        self.database().read(read).await
    }

    /// Forgets a source and deletes its document: the next search cannot find it.
    pub async fn remove_source(
        &self,
        vector_store_id: &str,
        origin: &Origin,
        address: &str,
    ) -> Result<()> {
        let (vector_store_id, origin) = (vector_store_id.to_owned(), origin.clone());
        let address = address.to_owned();
        let write = move |tx: &Transaction| {
            let store = vector_store_row(tx, &vector_store_id)?;
            remove(tx, store, &origin, &address)
        };
        self.database().write(write).await
    }
}

impl Origin {
    fn columns(&self) -> (&'static str, &str) {
        match self {
            Self::Web => ("web", ""),
            Self::Folder(path) => ("folder", path),
            Self::Ingested => ("ingested", ""),
        }
    }
}

pub(super) fn keep(tx: &Transaction, vector_store_id: &str, new: NewSource) -> Result<Kept> {
    let store = vector_store_row(tx, vector_store_id)?;
    let (kind, root) = new.origin.columns();
    let existing: Option<(i64, String, Option<i64>, Option<i64>)> = tx
        .prepare_cached(
            "SELECT row, sha256, file_row, next_file_row FROM sources
             WHERE vector_store_row = ? AND kind = ? AND root = ? AND address = ?",
        )?
        .query_row(params![store, kind, root, new.address], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let sha256 = hash(&new.content)?;
    if let Some((row, known, file, next)) = &existing
        && *known == sha256
        && let Some(file_id) = attached_file(tx, store, next.or(*file))?
    {
        tx.execute(
            "UPDATE sources SET version = ? WHERE row = ?",
            params![new.version, row],
        )?;
        return Ok(Kept {
            file_id,
            sha256,
            is_unchanged: true,
        });
    }
    let file_id = files::create(tx, new.file, new.content)?.id;
    let file_row = files::file_row(tx, &file_id)?;
    match existing {
        Some((row, _, _, next)) => {
            // A version that nobody has seen makes room for the one after it.
            if let Some(next) = next {
                let_go(tx, store, next)?;
            }
            let sql = "UPDATE sources SET version = ?, sha256 = ?, next_file_row = ? WHERE row = ?";
            tx.execute(sql, params![new.version, sha256, file_row, row])?;
        }
        None => {
            let sql = "INSERT INTO sources (vector_store_row, kind, root, address, version, sha256, next_file_row)
                       VALUES (?, ?, ?, ?, ?, ?, ?)";
            let values = params![
                store,
                kind,
                root,
                new.address,
                new.version,
                sha256,
                file_row
            ];
            tx.execute(sql, values)?;
        }
    }
    let document = NewDocument {
        file_id: file_id.clone(),
        attributes: new.attributes,
        chunking: chunking_in(tx, store)?.unwrap_or(new.chunking),
        has_own_chunking: false,
        if_exists: IfExists::Keep,
        password: new.password,
    };
    attach(tx, vector_store_id, document)?;
    Ok(Kept {
        file_id,
        sha256,
        is_unchanged: false,
    })
}

pub(super) fn remove(tx: &Transaction, store: i64, origin: &Origin, address: &str) -> Result<()> {
    let (kind, root) = origin.columns();
    let sql =
        "DELETE FROM sources WHERE vector_store_row = ? AND kind = ? AND root = ? AND address = ?
               RETURNING file_row, next_file_row";
    let files: Option<[Option<i64>; 2]> = tx
        .query_row(sql, params![store, kind, root, address], |row| {
            Ok([row.get(0)?, row.get(1)?])
        })
        .optional()?;
    for file in files.into_iter().flatten().flatten() {
        let_go(tx, store, file)?;
    }
    Ok(())
}

/// Takes a file out of the vector store, and deletes it unless it is in another one too.
fn let_go(tx: &Transaction, store: i64, file_row: i64) -> Result<()> {
    let sql = "DELETE FROM documents WHERE vector_store_row = ? AND file_row = ?";
    tx.execute(sql, [store, file_row])?;
    let is_used: bool = tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM documents WHERE file_row = ?)",
        [file_row],
        |row| row.get(0),
    )?;
    match is_used {
        true => Ok(()),
        false => files::hide(tx, file_row),
    }
}

/// The id of a file that still is in the vector store.
fn attached_file(tx: &Transaction, store: i64, file_row: Option<i64>) -> Result<Option<String>> {
    let sql = "SELECT f.id FROM live_files f JOIN documents d ON d.file_row = f.row
               WHERE f.row = ? AND d.vector_store_row = ?";
    let found = tx
        .prepare_cached(sql)?
        .query_row(params![file_row, store], |row| row.get(0));
    Ok(found.optional()?)
}

fn hash(content: &Content) -> Result<String> {
    let mut hash = Sha256::new();
    match content {
        Content::Bytes(bytes) => hash.update(bytes),
        Content::Path(path) => {
            let failed = |source| StoreError::io(format!("read {}", path.display()), source);
            let mut file = std::fs::File::open(path).map_err(failed)?;
            let mut buffer = vec![0; files::SEGMENT_BYTES];
            loop {
                match file.read(&mut buffer).map_err(failed)? {
                    0 => break,
                    read => hash.update(&buffer[..read]),
                }
            }
        }
    }
    Ok(hexadecimal(&hash.finalize()))
}

fn from_row(row: &Row) -> rusqlite::Result<Source> {
    Ok(Source {
        address: row.get(0)?,
        version: row.get(1)?,
        sha256: row.get(2)?,
        file_id: row.get(3)?,
        status: row.get(4)?,
        error: row.get(5)?,
        is_searchable: row.get(6)?,
    })
}
