//! Vector stores: named sets of documents that are searched together.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, Transaction, params, params_from_iter};

use super::documents::{Chunking, NewDocument, attach};
use super::error::{Result, StoreError};
use super::json::Json;
use super::listing::{ListOptions, Page};
use super::reindex::{self, ReindexScope};
use super::{Store, new_id, unix_now};

const DEFAULT_NAME: &str = "Documents";
/// Searching puts a vector store's expiry off, but is not written down more often than this.
const SECONDS_BETWEEN_TOUCHES: i64 = 60;

#[derive(Debug, Clone, Default)]
pub struct NewVectorStore {
    pub name: String,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub expires_after_days: Option<u32>,
    /// How its documents are cut; `None` as the server's settings say.
    pub chunking: Option<Chunking>,
    /// Files that it begins with.
    pub files: Vec<NewDocument>,
}

/// What to change; `None` leaves as it is.
#[derive(Debug, Clone, Default)]
pub struct VectorStoreUpdate {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub expires_after_days: Option<Option<u32>>,
    /// Of documents that are added from now on.
    pub chunking: Option<Option<Chunking>>,
    /// How those that are there are cut anew with it.
    pub recut: Option<ReindexScope>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorStore {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub is_default: bool,
    /// Seconds since 1970.
    pub created_at: i64,
    pub last_active_at: i64,
    pub expires_after_days: Option<u32>,
    /// Seconds since 1970; `None` for never.
    pub expires_at: Option<i64>,
    /// What it held is gone or about to be, and it takes and finds nothing more.
    pub is_expired: bool,
    /// How its documents are cut; `None` as the server's settings say.
    pub chunking: Option<Chunking>,
    pub file_counts: FileCounts,
    /// Text and vectors of its chunks.
    pub usage_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileCounts {
    pub in_progress: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub total: u64,
}

impl FileCounts {
    /// Five columns from `first` on, in the order of the fields.
    pub(super) fn from_columns(row: &Row, first: usize) -> rusqlite::Result<Self> {
        let count = |column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(first + column)? as u64);
        Ok(Self {
            in_progress: count(0)?,
            completed: count(1)?,
            failed: count(2)?,
            cancelled: count(3)?,
            total: count(4)?,
        })
    }
}

const SELECT: &str = "
    SELECT v.id, v.name, v.description, v.metadata, v.is_default, v.created_at, v.last_active_at, v.expires_after_days,
           v.expires_at, coalesce(v.expires_at <= unixepoch(), false),
           count(*) FILTER (WHERE d.status = 'in_progress'), count(*) FILTER (WHERE d.status = 'completed'),
           count(*) FILTER (WHERE d.status = 'failed'), count(*) FILTER (WHERE d.status = 'cancelled'),
           count(d.id), coalesce(sum(d.usage_bytes), 0), v.max_chunk_tokens, v.chunk_overlap_tokens
    FROM vector_stores v LEFT JOIN documents d ON d.vector_store_row = v.row
         AND (v.expires_at IS NULL OR v.expires_at > unixepoch())";

impl Store {
    /// Makes a vector store and queues the ingestion of its files; when one of them does not exist, nothing is made.
    pub async fn create_vector_store(&self, new: NewVectorStore) -> Result<VectorStore> {
        let create = move |tx: &Transaction| {
            let id = insert(tx, &new, false)?;
            for file in new.files {
                attach(tx, &id, file)?;
            }
            get(tx, &id)
        };
        let created = self.database().write(create).await?;
        self.notify_jobs_changed();
        Ok(created)
    }

    pub async fn vector_store(&self, id: &str) -> Result<VectorStore> {
        let id = id.to_owned();
        self.database().read(move |tx| get(tx, &id)).await
    }

    /// How the documents of a vector store are cut; `None` as the server's settings say.
    pub async fn chunking_of(&self, id: &str) -> Result<Option<Chunking>> {
        let id = id.to_owned();
        let read = move |tx: &Transaction| chunking_in(tx, vector_store_row(tx, &id)?);
        self.database().read(read).await
    }

    /// The oldest vector store of this name that has not expired.
    pub async fn vector_store_named(&self, name: &str) -> Result<Option<String>> {
        let name = name.to_owned();
        let sql = "SELECT id FROM vector_stores WHERE name = ? AND coalesce(expires_at > unixepoch(), true)
                   ORDER BY row LIMIT 1";
        let read = move |tx: &Transaction| {
            let mut statement = tx.prepare_cached(sql)?;
            Ok(statement.query_row([name], |row| row.get(0)).optional()?)
        };
        self.database().read(read).await
    }

    /// Refuses vector stores that do not exist or have expired, and puts the expiry of the others off.
    pub async fn use_vector_stores(&self, ids: &[String]) -> Result<()> {
        let ids = ids.to_vec();
        let now = unix_now();
        let stale = move |tx: &Transaction| {
            let mut stale = Vec::new();
            for id in &ids {
                let row = live_row(tx, id)?;
                let sql = "SELECT last_active_at FROM vector_stores WHERE row = ?";
                let last: i64 = tx.prepare_cached(sql)?.query_row([row], |row| row.get(0))?;
                if now - last >= SECONDS_BETWEEN_TOUCHES {
                    stale.push(row);
                }
            }
            Ok(stale)
        };
        let stale = self.database().read(stale).await?;
        if stale.is_empty() {
            return Ok(());
        }
        let touch_all =
            move |tx: &Transaction| stale.into_iter().try_for_each(|row| touch(tx, row));
        self.database().write(touch_all).await
    }

    /// The ids of all vector stores.
    pub async fn vector_store_ids(&self) -> Result<Vec<String>> {
        let read = |tx: &Transaction| {
            let mut statement = tx.prepare_cached("SELECT id FROM vector_stores ORDER BY row")?;
            let ids = statement.query_map([], |row| row.get(0))?;
            Ok(ids.collect::<rusqlite::Result<_>>()?)
        };
        self.database().read(read).await
    }

    /// The vector store for those who do not choose one; made when it is first asked for.
    pub async fn default_vector_store(&self) -> Result<VectorStore> {
        if let Some(found) = self.database().read(get_default).await? {
            return Ok(found);
        }
        let create = |tx: &Transaction| {
            // Another process may have been quicker.
            if let Some(found) = get_default(tx)? {
                return Ok(found);
            }
            let new = NewVectorStore {
                name: DEFAULT_NAME.to_owned(),
                ..NewVectorStore::default()
            };
            let id = insert(tx, &new, true)?;
            get(tx, &id)
        };
        self.database().write(create).await
    }

    pub async fn list_vector_stores(&self, list: ListOptions) -> Result<Page<VectorStore>> {
        let read = move |tx: &Transaction| {
            let window = list.window("v.row", |id| vector_store_row(tx, id))?;
            let sql = format!(
                "{SELECT} WHERE true{} GROUP BY v.row{}",
                window.conditions, window.order_and_limit
            );
            let mut statement = tx.prepare_cached(&sql)?;
            let found = statement.query_map(params_from_iter(&window.params), from_row)?;
            Ok(window.page(found.collect::<rusqlite::Result<_>>()?))
        };
        self.database().read(read).await
    }

    pub async fn update_vector_store(
        &self,
        id: &str,
        update: VectorStoreUpdate,
    ) -> Result<VectorStore> {
        let id = id.to_owned();
        let hash = self.embedder().hash.clone();
        let write = move |tx: &Transaction| {
            let now = get(tx, &id)?;
            if update.expires_after_days.is_some() {
                live_row(tx, &id)?;
            }
            if now.is_default && update.expires_after_days.flatten().is_some() {
                let why = "the default vector store stays; let another one expire";
                return Err(StoreError::invalid("expires_after", why));
            }
            let row = vector_store_row(tx, &id)?;
            touch(tx, row)?;
            let chunking = update.chunking.unwrap_or(now.chunking);
            tx.execute(
                "UPDATE vector_stores SET name = ?, description = ?, metadata = ?, expires_after_days = ?,
                     max_chunk_tokens = ?, chunk_overlap_tokens = ?
                 WHERE row = ?",
                params![
                    update.name.unwrap_or(now.name),
                    update.description.unwrap_or(now.description),
                    Json(update.metadata.unwrap_or(now.metadata)),
                    update.expires_after_days.unwrap_or(now.expires_after_days),
                    chunking.map(|it| it.max_tokens),
                    chunking.map(|it| it.overlap_tokens),
                    row
                ],
            )?;
            if let Some(scope) = &update.recut {
                reindex::recut(tx, row, scope, &hash)?;
            }
            get(tx, &id)
        };
        let updated = self.database().write(write).await?;
        self.notify_jobs_changed();
        Ok(updated)
    }

    /// Deletes a vector store with its documents and their chunks; the files stay.
    pub async fn delete_vector_store(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        let delete = move |tx: &Transaction| match tx
            .execute("DELETE FROM vector_stores WHERE id = ?", [&id])?
        {
            0 => Err(StoreError::not_found("vector store", &id)),
            _ => Ok(()),
        };
        self.database().write(delete).await?;
        // Whoever works on its documents is to stop.
        self.notify_jobs_changed();
        Ok(())
    }
}

pub(super) fn vector_store_row(tx: &Transaction, id: &str) -> Result<i64> {
    let mut statement = tx.prepare_cached("SELECT row FROM vector_stores WHERE id = ?")?;
    let row = statement.query_row([id], |row| row.get(0)).optional()?;
    row.ok_or_else(|| StoreError::not_found("vector store", id))
}

/// The row of a vector store that has not expired.
pub(super) fn live_row(tx: &Transaction, id: &str) -> Result<i64> {
    let row = vector_store_row(tx, id)?;
    let sql = "SELECT coalesce(expires_at <= unixepoch(), false) FROM vector_stores WHERE row = ?";
    match tx.prepare_cached(sql)?.query_row([row], |row| row.get(0))? {
        true => Err(StoreError::Expired { id: id.to_owned() }),
        false => Ok(row),
    }
}

/// Notes that something happened in a vector store, which puts its expiry off. An expired one stays expired.
pub(super) fn touch(tx: &Transaction, row: i64) -> Result<()> {
    let sql = "UPDATE vector_stores SET last_active_at = ?1
               WHERE row = ?2 AND (expires_at IS NULL OR expires_at > ?1)";
    tx.prepare_cached(sql)?.execute([unix_now(), row])?;
    Ok(())
}

fn insert(tx: &Transaction, new: &NewVectorStore, is_default: bool) -> Result<String> {
    let id = new_id("vs_");
    tx.execute(
        "INSERT INTO vector_stores
             (id, name, description, metadata, created_at, last_active_at, expires_after_days, is_default,
              max_chunk_tokens, chunk_overlap_tokens)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, ?9)",
        params![
            id,
            new.name,
            new.description,
            Json(&new.metadata),
            unix_now(),
            new.expires_after_days,
            is_default,
            new.chunking.map(|it| it.max_tokens),
            new.chunking.map(|it| it.overlap_tokens)
        ],
    )?;
    Ok(id)
}

fn get(tx: &Transaction, id: &str) -> Result<VectorStore> {
    let sql = format!("{SELECT} WHERE v.id = ? GROUP BY v.row");
    let found = tx
        .prepare_cached(&sql)?
        .query_row([id], from_row)
        .optional()?;
    found.ok_or_else(|| StoreError::not_found("vector store", id))
}

/// How the documents of a vector store are cut, where it says so.
pub(super) fn chunking_in(tx: &Transaction, row: i64) -> Result<Option<Chunking>> {
    let sql = "SELECT max_chunk_tokens, chunk_overlap_tokens FROM vector_stores WHERE row = ?";
    let mut statement = tx.prepare_cached(sql)?;
    Ok(statement.query_row([row], |row| chunking_from(row, 0))?)
}

/// Two columns from `first` on, both there or neither.
fn chunking_from(row: &Row, first: usize) -> rusqlite::Result<Option<Chunking>> {
    let (max_tokens, overlap_tokens): (Option<u32>, Option<u32>) =
        (row.get(first)?, row.get(first + 1)?);
    let pair = max_tokens.zip(overlap_tokens);
    Ok(pair.map(|(max_tokens, overlap_tokens)| Chunking {
        max_tokens,
        overlap_tokens,
    }))
}

fn get_default(tx: &Transaction) -> Result<Option<VectorStore>> {
    let sql = format!("{SELECT} WHERE v.is_default = 1 GROUP BY v.row");
    Ok(tx
        .prepare_cached(&sql)?
        .query_row([], from_row)
        .optional()?)
}

fn from_row(row: &Row) -> rusqlite::Result<VectorStore> {
    Ok(VectorStore {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        metadata: row.get::<_, Json<_>>(3)?.0,
        is_default: row.get(4)?,
        created_at: row.get(5)?,
        last_active_at: row.get(6)?,
        expires_after_days: row.get(7)?,
        expires_at: row.get(8)?,
        is_expired: row.get(9)?,
        file_counts: FileCounts::from_columns(row, 10)?,
        usage_bytes: row.get::<_, i64>(15)? as u64,
        chunking: chunking_from(row, 16)?,
    })
}
