//! Shows a document's extracted text: exact spans with their pages and what stands around them.

use std::ops::Range;

use crate::rag::extract::{ExtractedText, PageOutcome, PageSpan};
use crate::store::{Document, Store, StoreError};

/// A span of a document and its surroundings.
#[derive(Debug, Clone)]
pub struct PassageView {
    pub filename: String,
    pub title: Option<String>,
    pub page_first: u32,
    pub page_last: u32,
    pub before: String,
    pub text: String,
    pub after: String,
}

/// Bytes `span` of the text of `file_id`, with up to `around` bytes on each side, cut at blanks.
pub async fn passage(
    store: &Store,
    file_id: &str,
    span: Range<usize>,
    around: usize,
) -> Result<PassageView, StoreError> {
    let file = store.file(file_id).await?;
    let document = document(store, file_id).await?;
    let text = document.text.get(span.clone());
    let text = text.ok_or_else(|| StoreError::BadSpan {
        file_id: file_id.to_owned(),
        start: span.start,
        end: span.end,
        num_bytes: document.text.len(),
    })?;
    let text = text.to_owned();
    let (page_first, page_last) = pages_of(&document.pages, &span);
    Ok(PassageView {
        filename: file.filename,
        before: before(&document.text, span.start, around).to_string(),
        after: after(&document.text, span.end, around).to_string(),
        title: document.title,
        page_first,
        page_last,
        text,
    })
}

/// A page of a document, and what became of it.
#[derive(Debug, Clone)]
pub struct Page {
    pub number: u32,
    pub outcome: PageOutcome,
    pub num_characters: usize,
    /// Passages that have text of it.
    pub num_passages: usize,
}

/// Some of a document's pages.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    pub pages: Vec<Page>,
    /// Of the document, where it is known.
    pub num_pages: usize,
    pub has_more: bool,
}

/// The pages of a document that come after number `after`. While it has not been read, and after that failed, only those
/// are known that its warnings tell of.
pub async fn pages(
    store: &Store,
    vector_store_id: &str,
    file_id: &str,
    after: u32,
    limit: usize,
) -> Result<Pages, StoreError> {
    let document = store.document(vector_store_id, file_id).await?;
    let Some(stored) = store.extraction(file_id).await? else {
        return Ok(warned(&document, after, limit));
    };
    let passages = store.pages_of_chunks(vector_store_id, file_id).await?;
    let counted = tokio::task::spawn_blocking(move || {
        let text = crate::rag::ingest::decode(stored)?;
        let wanted = text.pages.iter().filter(|page| page.number > after);
        let pages = wanted.clone().take(limit).map(|page| Page {
            number: page.number,
            outcome: page.outcome.clone(),
            num_characters: text.text[page.span.clone()].chars().count(),
            num_passages: passages
                .iter()
                .filter(|(first, last)| (*first..=*last).contains(&page.number))
                .count(),
        });
        Some(Pages {
            pages: pages.collect(),
            num_pages: text.pages.len(),
            has_more: wanted.count() > limit,
        })
    });
    let counted = counted.await;
    let counted = counted.map_err(|error| StoreError::Panicked(error.to_string()))?;
    Ok(counted.unwrap_or_else(|| warned(&document, after, limit)))
}

/// What the warnings of a document tell of its pages.
fn warned(document: &Document, after: u32, limit: usize) -> Pages {
    let warnings = &document.page_warnings;
    let wanted = warnings.iter().filter(|warning| warning.page > after);
    let pages = wanted.clone().take(limit).map(|warning| Page {
        number: warning.page,
        outcome: match warning.is_empty {
            true => PageOutcome::Empty,
            false => PageOutcome::Failed(warning.error.clone()),
        },
        num_characters: 0,
        num_passages: 0,
    });
    Pages {
        pages: pages.collect(),
        num_pages: document.progress.pages_total as usize,
        has_more: wanted.count() > limit,
    }
}

/// The whole text of `file_id`.
pub async fn text(store: &Store, file_id: &str) -> Result<String, StoreError> {
    Ok(document(store, file_id).await?.text)
}

/// The first and last page of bytes `span` of the text of `file_id`.
pub async fn pages_of_span(
    store: &Store,
    file_id: &str,
    span: Range<usize>,
) -> Result<(u32, u32), StoreError> {
    let document = document(store, file_id).await?;
    Ok(pages_of(&document.pages, &span))
}

async fn document(store: &Store, file_id: &str) -> Result<ExtractedText, StoreError> {
    let missing = || StoreError::NotFound {
        kind: "extracted text of file",
        id: file_id.to_string(),
    };
    let stored = store.extraction(file_id).await?.ok_or_else(missing)?;
    let decode = move || crate::rag::ingest::decode(stored);
    let decoded = tokio::task::spawn_blocking(decode).await;
    let decoded = decoded.map_err(|error| StoreError::Panicked(error.to_string()))?;
    decoded.ok_or_else(missing)
}

fn pages_of(pages: &[PageSpan], span: &Range<usize>) -> (u32, u32) {
    let mut touched = pages
        .iter()
        .filter(|page| page.span.start < span.end && span.start < page.span.end);
    let first = touched.next().map_or(1, |page| page.number);
    (first, touched.next_back().map_or(first, |page| page.number))
}

fn before(text: &str, end: usize, around: usize) -> &str {
    let mut start = end.saturating_sub(around);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let piece = &text[start..end];
    match piece.find(char::is_whitespace).filter(|_| start > 0) {
        Some(blank) => &piece[blank..],
        None => piece,
    }
}

fn after(text: &str, start: usize, around: usize) -> &str {
    let mut end = (start + around).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let piece = &text[start..end];
    match piece
        .rfind(char::is_whitespace)
        .filter(|_| end < text.len())
    {
        Some(blank) => &piece[..blank],
        None => piece,
    }
}
