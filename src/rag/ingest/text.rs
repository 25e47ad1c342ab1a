//! The text of a file as it is kept, so that it is read once, whoever wants it.

use serde::{Deserialize, Serialize};

use crate::rag::extract::{ExtractedText, Format, Heading, PageOutcome, PageSpan};
use crate::store::{Extraction, Store, StoreError};

/// Changes whenever extraction gives another text for the same file, so that old texts are not mistaken for new ones.
const EXTRACTOR_VERSION: &str = "2";

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
    let Some(current) = stored.filter(|it| it.extractor_version == EXTRACTOR_VERSION) else {
        return Ok(None);
    };
    let decoded = tokio::task::spawn_blocking(move || decode(current)).await;
    decoded.map_err(|error| StoreError::Panicked(error.to_string()))
}

/// The text of what was read of a file, which is kept for whoever reads it next, unless a page of it could not be read.
pub async fn kept_text(
    store: &Store,
    file_id: &str,
    document: ExtractedText,
) -> Result<String, StoreError> {
    let is_failed = |page: &PageSpan| matches!(page.outcome, PageOutcome::Failed(_));
    if document.pages.iter().any(is_failed) {
        return Ok(document.text);
    }
    let encoded = tokio::task::spawn_blocking(move || encode(&document)).await;
    let extraction = encoded.map_err(|error| StoreError::Panicked(error.to_string()))?;
    let text = extraction.text.clone();
    store.save_extraction(file_id, extraction).await?;
    Ok(text)
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
