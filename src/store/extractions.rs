//! The text of a file, once per file. Chunk spans are byte offsets into it, so it never changes under them.

use rusqlite::{OptionalExtension, Transaction, params};

use super::error::{Result, StoreError};
use super::files::file_row;
use super::{Store, jobs};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    pub extractor_version: String,
    pub title: Option<String>,
    pub text: String,
    /// Pages, headings and what else the extractor knows, as JSON; opaque here.
    pub layout: String,
}

impl Store {
    /// Keeps the text of a file. When it differs from what was kept, the chunks that were cut from the old text go, and
    /// their finished documents are queued anew.
    pub async fn save_extraction(&self, file_id: &str, extraction: Extraction) -> Result<()> {
        let file_id = file_id.to_owned();
        self.database()
            .write_lazily(move |tx| save(tx, &file_id, &extraction))
            .await?;
        self.notify_jobs_changed();
        Ok(())
    }

    /// `None` when the file's text was not extracted yet.
    pub async fn extraction(&self, file_id: &str) -> Result<Option<Extraction>> {
        let file_id = file_id.to_owned();
        let read = move |tx: &Transaction| Extraction::of_file(tx, file_row(tx, &file_id)?);
        self.database().read(read).await
    }

    /// Bytes `start..end` of a file's text, without reading the rest.
    pub async fn text_span(&self, file_id: &str, start: usize, end: usize) -> Result<String> {
        let file_id = file_id.to_owned();
        self.database()
            .read(move |tx| text_span(tx, &file_id, start, end))
            .await
    }
}

impl Extraction {
    pub(super) fn of_file(tx: &Transaction, file_row: i64) -> Result<Option<Self>> {
        let sql =
            "SELECT extractor_version, title, text, layout FROM extractions WHERE file_row = ?";
        let found = tx.prepare_cached(sql)?.query_row([file_row], |row| {
            Ok(Self {
                extractor_version: row.get(0)?,
                title: row.get(1)?,
                text: row.get(2)?,
                layout: row.get(3)?,
            })
        });
        Ok(found.optional()?)
    }
}

fn save(tx: &Transaction, file_id: &str, new: &Extraction) -> Result<()> {
    let file_row = file_row(tx, file_id)?;
    let is_same_text: Option<bool> = tx
        .query_row(
            "SELECT text = ? FROM extractions WHERE file_row = ?",
            params![new.text, file_row],
            |row| row.get(0),
        )
        .optional()?;
    tx.execute(
        "INSERT INTO extractions (file_row, extractor_version, title, layout, text) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (file_row) DO UPDATE SET extractor_version = ?2, title = ?3, layout = ?4, text = ?5",
        params![file_row, new.extractor_version, new.title, new.layout, new.text],
    )?;
    if is_same_text == Some(false) {
        let mut statement =
            tx.prepare("SELECT id, status = 'completed' FROM documents WHERE file_row = ?")?;
        let documents = statement.query_map([file_row], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for (document_id, is_completed) in
            documents.collect::<rusqlite::Result<Vec<(i64, bool)>>>()?
        {
            jobs::clear_chunks(tx, document_id)?;
            if is_completed {
                jobs::enqueue(tx, document_id)?;
            }
        }
    }
    Ok(())
}

fn text_span(tx: &Transaction, file_id: &str, start: usize, end: usize) -> Result<String> {
    let file_row = file_row(tx, file_id)?;
    let text = match tx.blob_open("main", "extractions", "text", file_row, true) {
        Ok(text) => text,
        // SQLite's word for "no such row" when opening a blob.
        Err(rusqlite::Error::SqliteFailure(code, _))
            if code.code == rusqlite::ErrorCode::Unknown =>
        {
            return Err(StoreError::not_found("extracted text of file", file_id));
        }
        Err(other) => return Err(other.into()),
    };
    let bad_span = || StoreError::BadSpan {
        file_id: file_id.to_owned(),
        start,
        end,
        num_bytes: text.len(),
    };
    if start > end || end > text.len() {
        return Err(bad_span());
    }
    // The byte after the span tells whether the span ends between characters.
    let mut bytes = vec![0; (end + 1).min(text.len()) - start];
    text.read_at_exact(&mut bytes, start)?;
    let is_boundary = |at: usize| bytes.get(at).is_none_or(|byte| byte & 0xC0 != 0x80);
    if !is_boundary(0) || !is_boundary(end - start) {
        return Err(bad_span());
    }
    bytes.truncate(end - start);
    String::from_utf8(bytes).map_err(|_| bad_span())
}
