//! Checks citations against what is stored. Nothing is shown as a quote that its document does not say at that place.

use std::ops::Range;

use super::{AnswerError, Citation};
use crate::rag::document;
use crate::rag::retrieve::Passage;
use crate::store::{Store, StoreError};

/// The citation of `span` of a passage's text, with its quote as the stored document has it. `None` when the document went
/// away in the meantime. A selection that is no document's is its own source.
pub async fn verified(
    store: &Store,
    passage: &Passage,
    span: Range<usize>,
    index: usize,
) -> Result<Option<Citation>, AnswerError> {
    let chunk = &passage.chunk;
    let (start, end) = (chunk.span.start + span.start, chunk.span.start + span.end);
    let expected = &chunk.text[span];
    let quote = match chunk.file_id.is_empty() {
        true => expected.to_owned(),
        false => match stored_text(store, &chunk.file_id, start..end).await? {
            None => return Ok(None),
            Some(stored) if stored == expected => stored,
            Some(_) => {
                tracing::warn!(
                    file = chunk.file_id,
                    start,
                    end,
                    "a passage no longer matches its document, citation dropped"
                );
                return Ok(None);
            }
        },
    };
    let (page_first, page_last) = if chunk.page_first == chunk.page_last {
        (chunk.page_first, chunk.page_last)
    } else {
        document::pages_of_span(store, &chunk.file_id, start..end).await?
    };
    Ok(Some(Citation {
        number: passage.number,
        index,
        file_id: chunk.file_id.clone(),
        filename: chunk.filename.clone(),
        page_first,
        page_last,
        start,
        end,
        quote,
    }))
}

/// Whether a citation that was checked before still holds.
pub async fn still_holds(store: &Store, citation: &Citation) -> Result<bool, AnswerError> {
    if citation.file_id.is_empty() {
        return Ok(true);
    }
    let span = citation.start..citation.end;
    let stored = stored_text(store, &citation.file_id, span).await?;
    Ok(stored.is_some_and(|stored| stored == citation.quote))
}

/// Bytes of a document's text; `None` where they are not there any more.
async fn stored_text(
    store: &Store,
    file_id: &str,
    span: Range<usize>,
) -> Result<Option<String>, AnswerError> {
    match store.text_span(file_id, span.start, span.end).await {
        Ok(stored) => Ok(Some(stored)),
        Err(StoreError::NotFound { .. } | StoreError::BadSpan { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
