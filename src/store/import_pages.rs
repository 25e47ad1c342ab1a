//! The pages of imports, and what became of each. A page's outcome, its document and the links found on it are kept
//! together.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row, ToSql, Transaction, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Store;
use super::documents::DocumentStatus;
use super::error::Result;
use super::imports::{Import, import_row, owned_row};
use super::sources::{self, Kept, NewSource, Origin};
use super::vector_stores::live_row;

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

impl Store {
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

pub(super) fn add_page(
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
