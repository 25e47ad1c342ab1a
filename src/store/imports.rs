//! Imports from the web: what was asked for, who works on it, and how it ended. Every step is durable, so an import that
//! was killed goes on with the page that it was at.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row, ToSql, Transaction, params, params_from_iter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{Result, StoreError};
use super::import_pages::add_page;
use super::listing::{ListOptions, Page};
use super::vector_stores::live_row;
use super::{Store, new_id, unix_now};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportStatus {
    Queued,
    InProgress,
    Completed,
    Failed,
    Cancelled,
}

#[derive(Debug, Clone)]
pub struct NewImport {
    pub vector_store_id: String,
    /// What was asked for, as whoever runs it understands it.
    pub request: String,
    /// The process that runs it; without one, the first that looks.
    pub owner: Option<String>,
    /// The pages to begin with.
    pub pages: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    pub id: String,
    pub vector_store_id: String,
    pub request: String,
    pub status: ImportStatus,
    pub error: Option<String>,
    pub owner: Option<String>,
    /// Seconds since 1970.
    pub created_at: i64,
    pub finished_at: Option<i64>,
    /// Pages that were asked for at a server.
    pub num_fetched: u64,
    pub num_bytes: u64,
    /// Links for which there was no room.
    pub num_dropped: u64,
    pub counts: ImportCounts,
}

/// Pages by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportCounts {
    pub queued: u64,
    pub imported: u64,
    pub unchanged: u64,
    pub skipped: u64,
    pub failed: u64,
    pub gone: u64,
    pub removed: u64,
}

const SELECT: &str = "
    SELECT i.id, v.id, i.request, i.status, i.error, i.owner, i.created_at, i.finished_at, i.num_fetched, i.num_bytes,
           i.num_dropped, count(p.row) FILTER (WHERE p.outcome IS NULL),
           count(*) FILTER (WHERE p.outcome = 'imported'), count(*) FILTER (WHERE p.outcome = 'unchanged'),
           count(*) FILTER (WHERE p.outcome = 'skipped'), count(*) FILTER (WHERE p.outcome = 'failed'),
           count(*) FILTER (WHERE p.outcome = 'gone'), count(*) FILTER (WHERE p.outcome = 'removed'), i.row
    FROM imports i JOIN vector_stores v ON v.row = i.vector_store_row LEFT JOIN import_pages p ON p.import_row = i.row";

impl Store {
    pub async fn create_import(&self, new: NewImport) -> Result<Import> {
        let write = move |tx: &Transaction| {
            let store = live_row(tx, &new.vector_store_id)?;
            let id = new_id("import_");
            let status = match new.owner {
                Some(_) => ImportStatus::InProgress,
                None => ImportStatus::Queued,
            };
            tx.execute(
                "INSERT INTO imports (id, vector_store_row, request, status, owner, created_at) VALUES (?, ?, ?, ?, ?, ?)",
                params![id, store, new.request, status, new.owner, unix_now()],
            )?;
            let row = tx.last_insert_rowid();
            for url in &new.pages {
                add_page(tx, row, url, 0, None)?;
            }
            get(tx, &id)
        };
        self.database().write(write).await
    }

    pub async fn import(&self, id: &str) -> Result<Import> {
        let id = id.to_owned();
        self.database().read(move |tx| get(tx, &id)).await
    }

    /// Imports in order of creation.
    pub async fn list_imports(&self, list: ListOptions) -> Result<Page<Import>> {
        let read = move |tx: &Transaction| {
            let window = list.window("i.row", |id| import_row(tx, id))?;
            let conditions = window.conditions.replacen(" AND", " WHERE", 1);
            let order = window
                .order_and_limit
                .replacen(" ORDER", " GROUP BY i.row ORDER", 1);
            let sql = format!("{SELECT}{conditions}{order}");
            let mut statement = tx.prepare_cached(&sql)?;
            let found = statement.query_map(params_from_iter(window.params.iter()), from_row)?;
            Ok(window.page(found.collect::<rusqlite::Result<_>>()?))
        };
        self.database().read(read).await
    }

    /// Takes the oldest import that nobody works on: one that waits, or whose process has ended.
    pub async fn claim_import(&self) -> Result<Option<Import>> {
        let read = |tx: &Transaction| {
            let sql = "SELECT id, owner FROM imports WHERE status IN ('queued', 'in_progress') ORDER BY row";
            let mut statement = tx.prepare_cached(sql)?;
            let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(found.collect::<rusqlite::Result<Vec<(String, Option<String>)>>>()?)
        };
        for (id, owner) in self.database().read(read).await? {
            if let Some(owner) = &owner
                && self.is_process_running(owner)?
            {
                continue;
            }
            let new_owner = self.process_id()?;
            let claim = move |tx: &Transaction| {
                let sql = "UPDATE imports SET owner = ?, status = 'in_progress'
                           WHERE id = ? AND owner IS ? AND status IN ('queued', 'in_progress')";
                let num_claimed = tx.execute(sql, params![new_owner, id, owner])?;
                if num_claimed == 0 {
                    Ok(None)
                } else {
                    get(tx, &id).map(Some)
                }
            };
            if let Some(import) = self.database().write(claim).await? {
                return Ok(Some(import));
            }
        }
        Ok(None)
    }

    /// Fails when the import is no longer this worker's.
    pub async fn check_import(&self, import: &Import) -> Result<()> {
        let import = import.clone();
        let read = move |tx: &Transaction| owned_row(tx, &import).map(|_| ());
        self.database().read(read).await
    }

    /// Ends an import; with `error`, as failed. What was not visited stays so.
    pub async fn finish_import(&self, import: &Import, error: Option<String>) -> Result<()> {
        let import = import.clone();
        let status = match error {
            None => ImportStatus::Completed,
            Some(_) => ImportStatus::Failed,
        };
        let write = move |tx: &Transaction| {
            let row = owned_row(tx, &import)?;
            let sql = "UPDATE imports SET status = ?, error = ?, finished_at = ?, owner = NULL WHERE row = ?";
            tx.execute(sql, params![status, error, unix_now(), row])?;
            Ok(())
        };
        self.database().write(write).await
    }

    /// Gives an import back unfinished, for a process that stops in good order.
    pub async fn release_import(&self, import: &Import) -> Result<()> {
        let import = import.clone();
        let write = move |tx: &Transaction| {
            let row = owned_row(tx, &import)?;
            let sql = "UPDATE imports SET status = 'queued', owner = NULL WHERE row = ?";
            tx.execute(sql, [row])?;
            Ok(())
        };
        self.database().write(write).await
    }

    /// Ends an import that is not finished. What it has brought stays.
    pub async fn cancel_import(&self, id: &str) -> Result<Import> {
        let id = id.to_owned();
        let write = move |tx: &Transaction| {
            let row = import_row(tx, &id)?;
            let sql = "UPDATE imports SET status = 'cancelled', finished_at = ?, owner = NULL
                       WHERE row = ? AND status IN ('queued', 'in_progress')";
            tx.execute(sql, params![unix_now(), row])?;
            get(tx, &id)
        };
        self.database().write(write).await
    }

    /// Forgets an import that has ended. What it has brought stays.
    pub async fn forget_import(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        let write = move |tx: &Transaction| {
            let row = import_row(tx, &id)?;
            tx.execute("DELETE FROM imports WHERE row = ?", [row])?;
            Ok(())
        };
        self.database().write(write).await
    }
}

/// The row of an import that is still its worker's.
pub(super) fn owned_row(tx: &Transaction, import: &Import) -> Result<i64> {
    let sql = "SELECT row FROM imports WHERE id = ? AND owner IS ? AND status = 'in_progress'";
    let row = tx
        .prepare_cached(sql)?
        .query_row(params![import.id, import.owner], |row| row.get(0))
        .optional()?;
    row.ok_or_else(|| StoreError::ImportGone {
        id: import.id.clone(),
    })
}

pub(super) fn import_row(tx: &Transaction, id: &str) -> Result<i64> {
    let mut statement = tx.prepare_cached("SELECT row FROM imports WHERE id = ?")?;
    let row = statement.query_row([id], |row| row.get(0)).optional()?;
    row.ok_or_else(|| StoreError::not_found("import", id))
}

fn get(tx: &Transaction, id: &str) -> Result<Import> {
    let sql = format!("{SELECT} WHERE i.row = ? GROUP BY i.row");
    let row = import_row(tx, id)?;
    Ok(tx.prepare_cached(&sql)?.query_row([row], from_row)?)
}

fn from_row(row: &Row) -> rusqlite::Result<Import> {
    let count = |column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)? as u64);
    Ok(Import {
        id: row.get(0)?,
        vector_store_id: row.get(1)?,
        request: row.get(2)?,
        status: row.get(3)?,
        error: row.get(4)?,
        owner: row.get(5)?,
        created_at: row.get(6)?,
        finished_at: row.get(7)?,
        num_fetched: count(8)?,
        num_bytes: count(9)?,
        num_dropped: count(10)?,
        counts: ImportCounts {
            queued: count(11)?,
            imported: count(12)?,
            unchanged: count(13)?,
            skipped: count(14)?,
            failed: count(15)?,
            gone: count(16)?,
            removed: count(17)?,
        },
    })
}

impl ImportStatus {
    const ALL: [Self; 5] = [
        Self::Queued,
        Self::InProgress,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn is_ended(self) -> bool {
        match self {
            Self::Queued | Self::InProgress => false,
            Self::Completed | Self::Failed | Self::Cancelled => true,
        }
    }
}

impl ToSql for ImportStatus {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for ImportStatus {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or(FromSqlError::InvalidType)
    }
}
