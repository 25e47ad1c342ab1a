//! The text of a file as it is kept, so that it is read once, whoever wants it.

use serde::{Deserialize, Serialize};

use crate::rag::extract::{ExtractedText, Format, Heading, PageOutcome, PageSpan};
use crate::store::{Extraction, Store, StoreError};

/// Changes whenever extraction gives another text for the same file, so that old texts are not mistaken for new ones.
pub const EXTRACTOR_VERSION: &str = "5";
/// Stands behind the version of a text that a password has opened. Whoever has the same file need not know its password.
const LOCKED: &str = " with a password";

/// What a document has besides its text, as it is stored.
#[derive(Serialize, Deserialize)]
struct Layout {
    format: Format,
    pages: Vec<PageSpan>,
    headings: Vec<Heading>,
}

/// The text of a file that has been read before, as it would be read now.
pub async fn known_text(store: &Store, file_id: &str) -> Result<Option<ExtractedText>, StoreError> {
    let stored = store.extraction(file_id).await?;
    // What a password has opened cannot be read anew, since the password is not kept.
    let is_usable = |it: &Extraction| {
        it.extractor_version == EXTRACTOR_VERSION || it.extractor_version.ends_with(LOCKED)
    };
    let Some(current) = stored.filter(is_usable) else {
        return Ok(None);
    };
    let decoded = tokio::task::spawn_blocking(move || decode(current)).await;
    decoded.map_err(|error| StoreError::Panicked(error.to_string()))
}

/// The text that another file with the same bytes has, which becomes the text of this one. Where a page could not be read
/// then, another attempt may do better.
pub(super) async fn text_of_same_content(
    store: &Store,
    file_id: &str,
) -> Result<Option<ExtractedText>, StoreError> {
    let same = store
        .extraction_of_same_content(file_id, EXTRACTOR_VERSION)
        .await?;
    let Some(extraction) = same else {
        return Ok(None);
    };
    let copy = extraction.clone();
    let decoded = tokio::task::spawn_blocking(move || decode(extraction)).await;
    let document = decoded.map_err(|error| StoreError::Panicked(error.to_string()))?;
    let document = document.filter(|it| !it.pages.iter().any(is_failed));
    if document.is_some() {
        store.save_extraction(file_id, copy).await?;
    }
    Ok(document)
}

/// A page that another attempt may read, also one that could be recognised where tesseract is installed.
fn is_failed(page: &PageSpan) -> bool {
    matches!(
        page.outcome,
        PageOutcome::Failed(_) | PageOutcome::Scanned(_)
    )
}

/// The text of what was read of a file, which is kept for whoever reads it next, unless a page of it could not be read.
pub async fn kept_text(
    store: &Store,
    file_id: &str,
    document: ExtractedText,
) -> Result<String, StoreError> {
    if document.pages.iter().any(is_failed) {
        return Ok(document.text);
    }
    let encoded = tokio::task::spawn_blocking(move || encode(&document)).await;
    let extraction = encoded.map_err(|error| StoreError::Panicked(error.to_string()))?;
    let text = extraction.text.clone();
    store.save_extraction(file_id, extraction).await?;
    Ok(text)
}

/// As `encode`, for a document that a password has opened.
pub(super) fn encode_locked(document: &ExtractedText) -> Extraction {
    let mut extraction = encode(document);
    extraction.extractor_version.push_str(LOCKED);
    extraction
}

pub(super) fn encode(document: &ExtractedText) -> Extraction {
    let ExtractedText {
        format,
        title,
        text,
        pages,
        headings,
    } = document.clone();
    let layout = serde_json::to_string(&Layout {
        format,
        pages,
        headings,
    })
    .expect("a layout is plain data");
    Extraction {
        extractor_version: EXTRACTOR_VERSION.into(),
        title,
        text,
        layout,
    }
}

/// The document that was stored; `None` when an earlier version stored it in another shape.
pub fn decode(stored: Extraction) -> Option<ExtractedText> {
    let Layout {
        format,
        pages,
        headings,
    } = serde_json::from_str(&stored.layout).ok()?;
    Some(ExtractedText {
        format,
        title: stored.title,
        text: stored.text,
        pages,
        headings,
    })
}
