//! Vector stores: named sets of documents that are searched together.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, Transaction, params, params_from_iter};

use super::error::{Result, StoreError};
use super::json::Json;
use super::listing::{ListOptions, Page};
use super::{Store, new_id, unix_now};

const DEFAULT_NAME: &str = "Documents";
const SECONDS_PER_DAY: i64 = 86_400;

#[derive(Debug, Clone, Default)]
pub struct NewVectorStore {
    pub name: String,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub expires_after_days: Option<u32>,
}

/// What to change; `None` leaves as it is.
#[derive(Debug, Clone, Default)]
pub struct VectorStoreUpdate {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub expires_after_days: Option<Option<u32>>,
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

impl VectorStore {
    /// Seconds since 1970; `None` for never.
    pub fn expires_at(&self) -> Option<i64> {
        self.expires_after_days
            .map(|days| self.last_active_at + i64::from(days) * SECONDS_PER_DAY)
    }
}

const SELECT: &str = "
    SELECT v.id, v.name, v.description, v.metadata, v.is_default, v.created_at, v.last_active_at, v.expires_after_days,
           count(*) FILTER (WHERE d.status = 'in_progress'), count(*) FILTER (WHERE d.status = 'completed'),
           count(*) FILTER (WHERE d.status = 'failed'), count(*) FILTER (WHERE d.status = 'cancelled'),
           count(d.id), coalesce(sum(d.usage_bytes), 0)
    FROM vector_stores v LEFT JOIN documents d ON d.vector_store_row = v.row";

impl Store {
    pub async fn create_vector_store(&self, new: NewVectorStore) -> Result<VectorStore> {
        let create = move |tx: &Transaction| {
            let id = insert(tx, &new, false)?;
            get(tx, &id)
        };
        self.database().write(create).await
    }

    pub async fn vector_store(&self, id: &str) -> Result<VectorStore> {
        let id = id.to_owned();
        self.database().read(move |tx| get(tx, &id)).await
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
        let write = move |tx: &Transaction| {
            let now = get(tx, &id)?;
            tx.execute(
                "UPDATE vector_stores SET name = ?, description = ?, metadata = ?, expires_after_days = ?, last_active_at = ?
                 WHERE id = ?",
                params![
                    update.name.unwrap_or(now.name),
                    update.description.unwrap_or(now.description),
                    Json(update.metadata.unwrap_or(now.metadata)),
                    update.expires_after_days.unwrap_or(now.expires_after_days),
                    unix_now(),
                    id
                ],
            )?;
            get(tx, &id)
        };
        self.database().write(write).await
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
        self.database().write(delete).await
    }
}

pub(super) fn vector_store_row(tx: &Transaction, id: &str) -> Result<i64> {
    let mut statement = tx.prepare_cached("SELECT row FROM vector_stores WHERE id = ?")?;
    let row = statement.query_row([id], |row| row.get(0)).optional()?;
    row.ok_or_else(|| StoreError::not_found("vector store", id))
}

/// Notes that something happened in a vector store, which puts its expiry off.
pub(super) fn touch(tx: &Transaction, row: i64) -> Result<()> {
    tx.prepare_cached("UPDATE vector_stores SET last_active_at = ? WHERE row = ?")?
        .execute([unix_now(), row])?;
    Ok(())
}

fn insert(tx: &Transaction, new: &NewVectorStore, is_default: bool) -> Result<String> {
    let id = new_id("vs_");
    tx.execute(
        "INSERT INTO vector_stores
             (id, name, description, metadata, created_at, last_active_at, expires_after_days, is_default)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)",
        params![id, new.name, new.description, Json(&new.metadata), unix_now(), new.expires_after_days, is_default],
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

fn get_default(tx: &Transaction) -> Result<Option<VectorStore>> {
    let sql = format!("{SELECT} WHERE v.is_default = 1 GROUP BY v.row");
    Ok(tx
        .prepare_cached(&sql)?
        .query_row([], from_row)
        .optional()?)
}

fn from_row(row: &Row) -> rusqlite::Result<VectorStore> {
    let count = |column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)? as u64);
    Ok(VectorStore {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        metadata: row.get::<_, Json<_>>(3)?.0,
        is_default: row.get(4)?,
        created_at: row.get(5)?,
        last_active_at: row.get(6)?,
        expires_after_days: row.get(7)?,
        file_counts: FileCounts {
            in_progress: count(8)?,
            completed: count(9)?,
            failed: count(10)?,
            cancelled: count(11)?,
            total: count(12)?,
        },
        usage_bytes: count(13)?,
    })
}
