//! Documents: the membership of a file in a vector store, and how far its ingestion is.

use std::collections::BTreeMap;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row, ToSql, Transaction, params, params_from_iter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{Result, StoreError};
use super::files::{self, file_row};
use super::filter::AttributeValue;
use super::json::Json;
use super::listing::{ListOptions, Page};
use super::passwords::{self, Password};
use super::vector_stores::{live_row, touch, vector_store_row};
use super::{Store, jobs, unix_now};

pub type Attributes = BTreeMap<String, AttributeValue>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DocumentStatus {
    InProgress,
    Completed,
    Cancelled,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DocumentErrorCode {
    ServerError,
    UnsupportedFile,
    InvalidFile,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    pub code: DocumentErrorCode,
    pub message: String,
}

/// How a document's text is cut, in the embedder's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunking {
    pub max_tokens: u32,
    pub overlap_tokens: u32,
}

/// A file to put into a vector store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDocument {
    pub file_id: String,
    pub attributes: Attributes,
    pub chunking: Chunking,
    /// Whether it keeps this chunking when that of its vector store changes.
    pub has_own_chunking: bool,
    pub if_exists: IfExists,
    /// Kept until the document is read.
    pub password: Option<Password>,
}

/// What becomes of a file when the vector store has another one of its name. Documents that follow a source are its own:
/// they count for nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfExists {
    /// Both are kept.
    #[default]
    Keep,
    /// Nothing is done if one of that name has the same content.
    Skip,
    /// The others go in the moment when this one is completed. Nothing is done if the newest has the same content.
    Replace,
}

/// What came of putting a file into a vector store.
#[derive(Debug, Clone, PartialEq)]
pub struct Attached {
    /// The one that was there, when nothing was done.
    pub document: Document,
    pub is_unchanged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub pages_read: u32,
    pub pages_total: u32,
    pub chunks_done: u32,
    pub chunks_total: u32,
    /// An estimate; `None` while there is nothing to make it from.
    pub seconds_left: Option<u32>,
}

/// What an unfinished document waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Queued,
    Reading,
    Embedding,
}

/// A page without text, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageWarning {
    pub page: u32,
    pub error: String,
    /// Whether it was read, and there is none.
    #[serde(default)]
    pub is_empty: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Never used again.
    pub id: i64,
    pub vector_store_id: String,
    pub file_id: String,
    pub filename: String,
    pub status: DocumentStatus,
    /// `None` once it is finished.
    pub stage: Option<Stage>,
    pub last_error: Option<DocumentError>,
    pub attributes: Attributes,
    pub chunking: Chunking,
    /// Seconds since 1970.
    pub created_at: i64,
    pub usage_bytes: u64,
    pub num_chunks: u32,
    /// The embedder of its chunks; `None` before ingestion began.
    pub embedder_hash: Option<String>,
    pub progress: Progress,
    pub page_warnings: Vec<PageWarning>,
}

const SELECT: &str = "
    SELECT v.id, f.id, d.status, d.error_code, d.error_message, d.attributes, d.max_chunk_tokens, d.chunk_overlap_tokens,
           d.created_at, d.usage_bytes, d.num_chunks, d.embedder_hash, d.pages_read, d.pages_total, d.chunks_done,
           d.chunks_total, d.page_warnings, d.seconds_left, d.id, f.filename,
           (SELECT state = 'queued' FROM jobs WHERE document_id = d.id)
    FROM documents d JOIN vector_stores v ON v.row = d.vector_store_row
         JOIN live_files f ON f.row = d.file_row";

impl Store {
    /// Puts a file into a vector store and queues its ingestion. A document that is there already is given back
    /// unchanged, unless it failed or was cancelled: then it is queued anew, with these attributes and this chunking.
    pub async fn attach(
        &self,
        vector_store_id: &str,
        file_id: &str,
        attributes: Attributes,
        chunking: Chunking,
    ) -> Result<Document> {
        let new = NewDocument {
            file_id: file_id.to_owned(),
            attributes,
            chunking,
            has_own_chunking: false,
            if_exists: IfExists::Keep,
            password: None,
        };
        Ok(self.attach_new(vector_store_id, new).await?.document)
    }

    /// As [`attach`](Self::attach), minding what else is there.
    pub async fn attach_new(&self, vector_store_id: &str, new: NewDocument) -> Result<Attached> {
        let vector_store_id = vector_store_id.to_owned();
        let write = move |tx: &Transaction| {
            let (id, is_unchanged) = match attach(tx, &vector_store_id, new)? {
                Place::Queued(id) => (id, false),
                Place::AsItWas(id) => (id, true),
            };
            let document = get(tx, id)?;
            Ok(Attached {
                document,
                is_unchanged,
            })
        };
        let attached = self.database().write(write).await?;
        self.notify_jobs_changed();
        Ok(attached)
    }

    /// Takes a file out of a vector store, with the chunks it has there. The file stays.
    pub async fn detach(&self, vector_store_id: &str, file_id: &str) -> Result<()> {
        let (vector_store_id, file_id) = (vector_store_id.to_owned(), file_id.to_owned());
        let delete = move |tx: &Transaction| {
            let id = document_id(tx, &vector_store_id, &file_id)?;
            tx.execute("DELETE FROM documents WHERE id = ?", [id])?;
            Ok(())
        };
        self.database().write(delete).await?;
        // Whoever works on it is to stop.
        self.notify_jobs_changed();
        Ok(())
    }

    pub async fn document(&self, vector_store_id: &str, file_id: &str) -> Result<Document> {
        let (vector_store_id, file_id) = (vector_store_id.to_owned(), file_id.to_owned());
        self.database()
            .read(move |tx| get(tx, document_id(tx, &vector_store_id, &file_id)?))
            .await
    }

    /// Documents of a vector store in order of attachment; cursors are file ids.
    pub async fn list_documents(
        &self,
        vector_store_id: &str,
        status: Option<DocumentStatus>,
        list: ListOptions,
    ) -> Result<Page<Document>> {
        let vector_store_id = vector_store_id.to_owned();
        let read =
            move |tx: &Transaction| list_documents(tx, &vector_store_id, None, status, &list);
        self.database().read(read).await
    }

    pub async fn update_attributes(
        &self,
        vector_store_id: &str,
        file_id: &str,
        attributes: Attributes,
    ) -> Result<Document> {
        let (vector_store_id, file_id) = (vector_store_id.to_owned(), file_id.to_owned());
        let write = move |tx: &Transaction| {
            let id = document_id(tx, &vector_store_id, &file_id)?;
            tx.execute(
                "UPDATE documents SET attributes = ? WHERE id = ?",
                params![Json(attributes), id],
            )?;
            get(tx, id)
        };
        self.database().write(write).await
    }

    /// How many documents are completed but cannot be searched, as another embedder made their vectors.
    pub async fn documents_of_other_embedders(&self) -> Result<u64> {
        let hash = self.embedder().hash.clone();
        let sql =
            "SELECT count(*) FROM documents WHERE status = 'completed' AND embedder_hash IS NOT ?";
        let read = move |tx: &Transaction| {
            Ok(tx.query_row(sql, [hash], |row| row.get::<_, i64>(0))? as u64)
        };
        self.database().read(read).await
    }
}

pub(super) fn document_id(tx: &Transaction, vector_store_id: &str, file_id: &str) -> Result<i64> {
    let sql = "SELECT id FROM documents WHERE vector_store_row = ?
               AND file_row = (SELECT row FROM live_files WHERE id = ?)";
    let values = params![vector_store_row(tx, vector_store_id)?, file_id];
    let id = tx
        .prepare_cached(sql)?
        .query_row(values, |row| row.get(0))
        .optional()?;
    id.ok_or_else(|| StoreError::not_found("vector store file", file_id))
}

/// Documents of a vector store, or only those of one of its batches.
pub(super) fn list_documents(
    tx: &Transaction,
    vector_store_id: &str,
    batch_row: Option<i64>,
    status: Option<DocumentStatus>,
    list: &ListOptions,
) -> Result<Page<Document>> {
    let mut condition = "d.vector_store_row = ?".to_owned();
    let mut values = vec![vector_store_row(tx, vector_store_id)?.into()];
    if let Some(batch_row) = batch_row {
        condition +=
            " AND d.id IN (SELECT document_id FROM file_batch_documents WHERE batch_row = ?)";
        values.push(batch_row.into());
    }
    if let Some(status) = status {
        condition += " AND d.status = ?";
        values.push(status.as_str().to_owned().into());
    }
    let window = list.window("d.id", |file_id| document_id(tx, vector_store_id, file_id))?;
    values.extend(window.params.iter().cloned());
    let sql = format!(
        "{SELECT} WHERE {condition}{}{}",
        window.conditions, window.order_and_limit
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let found = statement.query_map(params_from_iter(values), from_row)?;
    Ok(window.page(found.collect::<rusqlite::Result<_>>()?))
}

/// The document that stands for a file in a vector store.
pub(super) enum Place {
    Queued(i64),
    AsItWas(i64),
}

impl Place {
    pub(super) fn id(self) -> i64 {
        match self {
            Self::Queued(id) | Self::AsItWas(id) => id,
        }
    }
}

pub(super) fn attach(tx: &Transaction, vector_store_id: &str, new: NewDocument) -> Result<Place> {
    let NewDocument {
        file_id,
        attributes,
        chunking,
        has_own_chunking,
        if_exists,
        password,
    } = new;
    if chunking.max_tokens == 0 || chunking.overlap_tokens >= chunking.max_tokens {
        let why = format!(
            "chunks of at most {} tokens cannot overlap by {}; the overlap must be smaller",
            chunking.max_tokens, chunking.overlap_tokens
        );
        return Err(StoreError::invalid("chunking", why));
    }
    let vector_store = live_row(tx, vector_store_id)?;
    let file = file_row(tx, &file_id)?;
    let existing: Option<(i64, DocumentStatus)> = tx
        .prepare_cached(
            "SELECT id, status FROM documents WHERE vector_store_row = ? AND file_row = ?",
        )?
        .query_row([vector_store, file], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let may_open = |id| Ok::<_, StoreError>(password.is_some() && has_warnings(tx, id)?);
    match existing {
        Some((id, DocumentStatus::InProgress)) => return Ok(Place::AsItWas(id)),
        Some((id, DocumentStatus::Completed)) if !may_open(id)? => return Ok(Place::AsItWas(id)),
        _ => {}
    }
    if let Some(id) = same_content(tx, vector_store, &file_id, if_exists)?
        && !may_open(id)?
    {
        return Ok(Place::AsItWas(id));
    }
    let replaces_older = if_exists == IfExists::Replace;
    let id = match existing {
        Some((id, _)) => {
            tx.prepare_cached(
                "UPDATE documents SET attributes = ?, max_chunk_tokens = ?, chunk_overlap_tokens = ?, has_own_chunking = ?,
                     replaces_older = ?
                 WHERE id = ?",
            )?
            .execute(params![
                Json(attributes),
                chunking.max_tokens,
                chunking.overlap_tokens,
                has_own_chunking,
                replaces_older,
                id
            ])?;
            id
        }
        None => {
            tx.prepare_cached(
                "INSERT INTO documents
                     (vector_store_row, file_row, status, attributes, max_chunk_tokens, chunk_overlap_tokens, created_at,
                      replaces_older, has_own_chunking)
                 VALUES (?, ?, 'in_progress', ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                vector_store,
                file,
                Json(attributes),
                chunking.max_tokens,
                chunking.overlap_tokens,
                unix_now(),
                replaces_older,
                has_own_chunking
            ])?;
            tx.last_insert_rowid()
        }
    };
    jobs::enqueue(tx, id)?;
    passwords::keep(tx, id, password.as_ref())?;
    touch(tx, vector_store)?;
    Ok(Place::Queued(id))
}

/// Whether a part of a document was not read, which a password that comes now may open.
fn has_warnings(tx: &Transaction, document_id: i64) -> Result<bool> {
    let sql = "SELECT page_warnings <> '[]' FROM documents WHERE id = ?";
    Ok(tx
        .prepare_cached(sql)?
        .query_row([document_id], |row| row.get(0))?)
}

/// True of a document `o` that follows no source: nobody else sees to it.
const IS_UPLOADED: &str = "NOT EXISTS (
    SELECT 1 FROM sources s WHERE s.vector_store_row = o.vector_store_row
                                  AND (s.file_row = o.file_row OR s.next_file_row = o.file_row))";

/// A document of a vector store that is there or about to be, under the name that was asked for.
struct Named {
    id: i64,
    sha256: String,
}

/// The newest first.
fn named(tx: &Transaction, vector_store: i64, filename: &str) -> Result<Vec<Named>> {
    let sql = format!(
        "SELECT o.id, f.sha256 FROM live_files f JOIN documents o ON o.file_row = f.row
         WHERE f.filename = ? AND o.vector_store_row = ? AND o.status IN ('in_progress', 'completed') AND {IS_UPLOADED}
         ORDER BY o.id DESC"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let found = statement.query_map(params![filename, vector_store], |row| {
        Ok(Named {
            id: row.get(0)?,
            sha256: row.get(1)?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// The document that makes attaching a file needless.
fn same_content(
    tx: &Transaction,
    vector_store: i64,
    file_id: &str,
    if_exists: IfExists,
) -> Result<Option<i64>> {
    if if_exists == IfExists::Keep {
        return Ok(None);
    }
    let file = files::get(tx, file_id)?;
    let named = named(tx, vector_store, &file.filename)?;
    // Behind a newer one of other content, the same is no longer what is to be there.
    let considered = match if_exists {
        IfExists::Replace => &named[..named.len().min(1)],
        IfExists::Keep | IfExists::Skip => &named[..],
    };
    let same = considered.iter().find(|it| it.sha256 == file.sha256);
    Ok(same.map(|it| it.id))
}

/// Takes away what a document replaces, in the transaction that completes it: uploaded documents of the same name in its
/// vector store that are older, and their files where these are in no other one.
pub(super) fn remove_replaced(tx: &Transaction, document_id: i64) -> Result<()> {
    let sql = format!(
        "SELECT o.id, o.file_row
         FROM documents d JOIN files f ON f.row = d.file_row
              JOIN files g ON g.filename = f.filename JOIN documents o ON o.file_row = g.row
         WHERE d.id = ? AND d.replaces_older AND o.vector_store_row = d.vector_store_row AND o.id < d.id
               AND {IS_UPLOADED}"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let replaced = statement.query_map([document_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (id, file_row) in replaced.collect::<rusqlite::Result<Vec<(i64, i64)>>>()? {
        tx.prepare_cached("DELETE FROM documents WHERE id = ?")?
            .execute([id])?;
        let mut others = tx.prepare_cached("SELECT 1 FROM documents WHERE file_row = ?")?;
        if !others.exists([file_row])? {
            files::hide(tx, file_row)?;
        }
    }
    Ok(())
}

fn get(tx: &Transaction, id: i64) -> Result<Document> {
    let sql = format!("{SELECT} WHERE d.id = ?");
    Ok(tx.prepare_cached(&sql)?.query_row([id], from_row)?)
}

/// Those of `ids` that are there, in their order of attachment.
pub(super) fn get_all(tx: &Transaction, ids: &[i64]) -> Result<Vec<Document>> {
    let sql = format!("{SELECT} WHERE d.id IN (SELECT value FROM json_each(?)) ORDER BY d.id");
    let mut statement = tx.prepare_cached(&sql)?;
    let found = statement.query_map([Json(ids)], from_row)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn from_row(row: &Row) -> rusqlite::Result<Document> {
    let last_error = match row.get(3)? {
        Some(code) => Some(DocumentError {
            code,
            message: row.get(4)?,
        }),
        None => None,
    };
    let mut progress = Progress {
        pages_read: row.get(12)?,
        pages_total: row.get(13)?,
        chunks_done: row.get(14)?,
        chunks_total: row.get(15)?,
        seconds_left: row.get(17)?,
    };
    let stage = row
        .get::<_, Option<bool>>(20)?
        .map(|is_queued| match is_queued {
            true => Stage::Queued,
            false if progress.chunks_total == 0 => Stage::Reading,
            false => Stage::Embedding,
        });
    if stage == Some(Stage::Queued) {
        // What an interrupted worker has left is no longer true.
        progress.seconds_left = None;
    }
    Ok(Document {
        id: row.get(18)?,
        vector_store_id: row.get(0)?,
        file_id: row.get(1)?,
        filename: row.get(19)?,
        status: row.get(2)?,
        stage,
        last_error,
        attributes: row.get::<_, Json<_>>(5)?.0,
        chunking: Chunking {
            max_tokens: row.get(6)?,
            overlap_tokens: row.get(7)?,
        },
        created_at: row.get(8)?,
        usage_bytes: row.get::<_, i64>(9)? as u64,
        num_chunks: row.get(10)?,
        embedder_hash: row.get(11)?,
        progress,
        page_warnings: row.get::<_, Json<_>>(16)?.0,
    })
}

impl DocumentStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

impl DocumentErrorCode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerError => "server_error",
            Self::UnsupportedFile => "unsupported_file",
            Self::InvalidFile => "invalid_file",
        }
    }
}

impl ToSql for DocumentStatus {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for DocumentStatus {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let all = [
            Self::InProgress,
            Self::Completed,
            Self::Cancelled,
            Self::Failed,
        ];
        let text = value.as_str()?;
        all.into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(FromSqlError::InvalidType)
    }
}

impl ToSql for DocumentErrorCode {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for DocumentErrorCode {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let all = [Self::ServerError, Self::UnsupportedFile, Self::InvalidFile];
        let text = value.as_str()?;
        all.into_iter()
            .find(|code| code.as_str() == text)
            .ok_or(FromSqlError::InvalidType)
    }
}
