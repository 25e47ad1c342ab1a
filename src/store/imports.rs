//! Imports from the web: what was asked for, what was found, and what became of each page. Every step is durable: a
//! page's outcome, its document and the links found on it are kept together, so an import that was killed goes on with
//! the page that it was at.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row, ToSql, Transaction, params, params_from_iter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::documents::DocumentStatus;
use super::error::{Result, StoreError};
use super::listing::{ListOptions, Page};
use super::sources::{self, Kept, NewSource, Origin};
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

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PageOutcome {
    /// It is a document now, or a newer version of one.
    Imported,
    /// It is what it was.
    Unchanged,
    Skipped,
    Failed,
    /// It is there no more; its document still answers.
    Gone,
    /// It is there no more, and its document was removed.
    Removed,
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportPage {
    row: i64,
    pub url: String,
    /// Links between the first page and this one.
    pub depth: u32,
    /// `None` until it was visited.
    pub outcome: Option<PageOutcome>,
    /// The reason in one word.
    pub reason: Option<String>,
    pub message: Option<String>,
    pub title: Option<String>,
    pub file_id: Option<String>,
    pub document_status: Option<DocumentStatus>,
    pub document_error: Option<String>,
}

/// What is to be done with the document of a page.
pub enum PageDocument {
    None,
    Keep(Box<NewSource>),
    /// It is what it was; the source has this address and is now told by this version.
    Same {
        address: String,
        version: String,
    },
    Remove {
        address: String,
    },
}

/// What a visit brought.
pub struct PageResult {
    pub outcome: PageOutcome,
    pub reason: Option<&'static str>,
    pub message: Option<String>,
    /// The address that the page has in the end.
    pub address: Option<String>,
    pub title: Option<String>,
    pub document: PageDocument,
    /// Addresses found on it, with what is already known of those that are not visited.
    pub links: Vec<(String, Option<&'static str>)>,
    pub is_fetched: bool,
    pub num_bytes: u64,
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

    /// Pages of an import in the order in which they are visited; the number tells where the next ones begin.
    pub async fn import_pages(
        &self,
        id: &str,
        after: i64,
        limit: usize,
    ) -> Result<(Vec<ImportPage>, Option<i64>)> {
        let id = id.to_owned();
        let read = move |tx: &Transaction| {
            let sql = format!("{PAGE} WHERE p.import_row = ? AND p.row > ? ORDER BY p.row LIMIT ?");
            let mut statement = tx.prepare_cached(&sql)?;
            let values = params![import_row(tx, &id)?, after, limit as i64 + 1];
            let found = statement.query_map(values, page_from_row)?;
            let mut pages = found.collect::<rusqlite::Result<Vec<_>>>()?;
            let has_more = pages.len() > limit;
            pages.truncate(limit);
            let next = pages.last().map(|page| page.row).filter(|_| has_more);
            Ok((pages, next))
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

    /// Adds pages to be visited, except those that are known; `depth` is theirs.
    pub async fn add_import_pages(
        &self,
        import: &Import,
        urls: Vec<String>,
        depth: u32,
    ) -> Result<()> {
        let import = import.clone();
        let write = move |tx: &Transaction| {
            let row = owned_row(tx, &import)?;
            for url in &urls {
                add_page(tx, row, url, depth, None)?;
            }
            Ok(())
        };
        self.database().write(write).await
    }

    /// The page to be visited next, in the order in which they were found.
    pub async fn next_import_page(&self, import: &Import) -> Result<Option<ImportPage>> {
        let import = import.clone();
        let read = move |tx: &Transaction| {
            let row = owned_row(tx, &import)?;
            let sql = format!(
                "{PAGE} WHERE p.import_row = ? AND p.outcome IS NULL ORDER BY p.row LIMIT 1"
            );
            let mut statement = tx.prepare_cached(&sql)?;
            Ok(statement.query_row([row], page_from_row).optional()?)
        };
        self.database().read(read).await
    }

    /// The page of this import that has this address in the end, or these bytes.
    pub async fn twin_page(
        &self,
        import: &Import,
        address: &str,
        sha256: Option<String>,
    ) -> Result<Option<String>> {
        let (import, address) = (import.clone(), address.to_owned());
        let read = move |tx: &Transaction| {
            let row = owned_row(tx, &import)?;
            let is_done = "import_row = ?1 AND outcome IN ('imported', 'unchanged')";
            let sql = format!(
                "SELECT url FROM import_pages WHERE {is_done} AND address = ?2
                 UNION ALL SELECT url FROM import_pages WHERE {is_done} AND sha256 = ?3 LIMIT 1"
            );
            let mut statement = tx.prepare_cached(&sql)?;
            let found = statement.query_row(params![row, address, sha256], |row| row.get(0));
            Ok(found.optional()?)
        };
        self.database().read(read).await
    }

    /// Writes down what a visit brought, all or nothing. At most `max_pages` are known of an import; further links are
    /// counted and dropped.
    pub async fn finish_import_page(
        &self,
        import: &Import,
        page: &ImportPage,
        result: PageResult,
        max_pages: u64,
    ) -> Result<()> {
        let (import, page) = (import.clone(), page.clone());
        let write = move |tx: &Transaction| finish_page(tx, &import, &page, result, max_pages);
        self.database().write(write).await?;
        self.notify_jobs_changed();
        Ok(())
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

const PAGE: &str = "
    SELECT p.row, p.url, p.depth, p.outcome, p.reason, p.message, p.title, f.id, d.status, d.error_message
    FROM import_pages p JOIN imports i ON i.row = p.import_row LEFT JOIN live_files f ON f.row = p.file_row
         LEFT JOIN documents d ON d.file_row = p.file_row AND d.vector_store_row = i.vector_store_row";

fn finish_page(
    tx: &Transaction,
    import: &Import,
    page: &ImportPage,
    result: PageResult,
    max_pages: u64,
) -> Result<()> {
    let row = owned_row(tx, import)?;
    let store = live_row(tx, &import.vector_store_id)?;
    let mut outcome = result.outcome;
    let mut kept: Option<Kept> = None;
    match result.document {
        PageDocument::None => {}
        PageDocument::Keep(new) => {
            let new = sources::keep(tx, &import.vector_store_id, *new)?;
            if new.is_unchanged {
                outcome = PageOutcome::Unchanged;
            }
            kept = Some(new);
        }
        PageDocument::Same { address, version } => {
            let sql = "UPDATE sources SET version = ? WHERE vector_store_row = ? AND kind = 'web' AND address = ?
                       RETURNING sha256, coalesce(next_file_row, file_row)";
            let found = tx.query_row(sql, params![version, store, address], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?))
            });
            if let Some((sha256, file_row)) = found.optional()? {
                let sql = "UPDATE import_pages SET sha256 = ?, file_row = ? WHERE row = ?";
                tx.execute(sql, params![sha256, file_row, page.row])?;
            }
        }
        PageDocument::Remove { address } => sources::remove(tx, store, &Origin::Web, &address)?,
    }
    tx.execute(
        "UPDATE import_pages SET outcome = ?, reason = ?, message = ?, address = ?, title = ? WHERE row = ?",
        params![outcome, result.reason, result.message, result.address, result.title, page.row],
    )?;
    if let Some(Kept {
        file_id, sha256, ..
    }) = kept
    {
        let sql = "UPDATE import_pages SET sha256 = ?, file_row = (SELECT row FROM files WHERE id = ?) WHERE row = ?";
        tx.execute(sql, params![sha256, file_id, page.row])?;
    }
    let sql = "SELECT count(*) FROM import_pages WHERE import_row = ?";
    let mut num_pages = tx.query_row(sql, [row], |row| row.get::<_, i64>(0))? as u64;
    let mut num_dropped = 0;
    for (url, skipped_as) in &result.links {
        let is_known = tx
            .prepare_cached("SELECT 1 FROM import_pages WHERE import_row = ? AND url = ?")?
            .exists(params![row, url])?;
        if is_known {
            continue;
        }
        if num_pages >= max_pages {
            num_dropped += 1;
            continue;
        }
        add_page(tx, row, url, page.depth + 1, *skipped_as)?;
        num_pages += 1;
    }
    tx.execute(
        "UPDATE imports SET num_fetched = num_fetched + ?, num_bytes = num_bytes + ?, num_dropped = num_dropped + ?
         WHERE row = ?",
        params![result.is_fetched, result.num_bytes as i64, num_dropped, row],
    )?;
    Ok(())
}

fn add_page(
    tx: &Transaction,
    import: i64,
    url: &str,
    depth: u32,
    skipped_as: Option<&str>,
) -> Result<()> {
    tx.prepare_cached(
        "INSERT OR IGNORE INTO import_pages (import_row, url, depth, outcome, reason) VALUES (?, ?, ?, ?, ?)",
    )?
    .execute(params![import, url, depth, skipped_as.map(|_| PageOutcome::Skipped), skipped_as])?;
    Ok(())
}

/// The row of an import that is still its worker's.
fn owned_row(tx: &Transaction, import: &Import) -> Result<i64> {
    let sql = "SELECT row FROM imports WHERE id = ? AND owner IS ? AND status = 'in_progress'";
    let row = tx
        .prepare_cached(sql)?
        .query_row(params![import.id, import.owner], |row| row.get(0))
        .optional()?;
    row.ok_or_else(|| StoreError::ImportGone {
        id: import.id.clone(),
    })
}

fn import_row(tx: &Transaction, id: &str) -> Result<i64> {
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

fn page_from_row(row: &Row) -> rusqlite::Result<ImportPage> {
    Ok(ImportPage {
        row: row.get(0)?,
        url: row.get(1)?,
        depth: row.get(2)?,
        outcome: row.get(3)?,
        reason: row.get(4)?,
        message: row.get(5)?,
        title: row.get(6)?,
        file_id: row.get(7)?,
        document_status: row.get(8)?,
        document_error: row.get(9)?,
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

impl PageOutcome {
    const ALL: [Self; 6] = [
        Self::Imported,
        Self::Unchanged,
        Self::Skipped,
        Self::Failed,
        Self::Gone,
        Self::Removed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::Unchanged => "unchanged",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Gone => "gone",
            Self::Removed => "removed",
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

impl ToSql for PageOutcome {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for PageOutcome {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or(FromSqlError::InvalidType)
    }
}
