//! Text that a reader selected, as the only source of an answer: no search is made. Where it comes from a document, its
//! place there is found, so that what is cited of it are spans of the document.

use std::ops::Range;

use crate::rag::document;
use crate::rag::retrieve::Passage;
use crate::rag::sentence::sentences;
use crate::store::{ChunkRecord, Store, StoreError};

/// What a selection is called that is no document's.
pub const SELECTED_TEXT: &str = "selected text";
/// Bytes that one source of it has about.
const PIECE_BYTES: usize = 1500;

/// A text and where it stands.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Empty where it is no document's.
    pub file_id: String,
    pub filename: String,
    /// Bytes of the document's text, or of the selection.
    pub span: Range<usize>,
    pub text: String,
    pages: (u32, u32),
}

/// Why a selection cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    #[error("the selected text is not in the document '{file_id}'")]
    NotThere { file_id: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Selection {
    /// A text that is no document's.
    pub fn alone(text: String) -> Self {
        Self {
            file_id: String::new(),
            filename: SELECTED_TEXT.into(),
            span: 0..text.len(),
            text,
            pages: (0, 0),
        }
    }

    /// A text of a document, as it stands there: a browser shows other blanks than a document has.
    pub async fn of_document(
        store: &Store,
        file_id: &str,
        text: &str,
    ) -> Result<Self, SelectionError> {
        let filename = store.file(file_id).await?.filename;
        let whole = document::text(store, file_id).await?;
        let wanted = text.to_owned();
        let search = move || {
            let span = place(&whole, &wanted)?;
            let text = whole[span.clone()].to_owned();
            Some((span, text))
        };
        let found = tokio::task::spawn_blocking(search).await;
        let found = found.map_err(|error| StoreError::Panicked(error.to_string()))?;
        let Some((span, text)) = found else {
            return Err(SelectionError::NotThere {
                file_id: file_id.to_owned(),
            });
        };
        let pages = document::pages_of_span(store, file_id, span.clone()).await?;
        Ok(Self {
            file_id: file_id.to_owned(),
            filename,
            span,
            text,
            pages,
        })
    }

    /// The sources that it makes: whole sentences, as many as about [`PIECE_BYTES`] have.
    pub fn passages(&self) -> Vec<Passage> {
        let mut pieces: Vec<Range<usize>> = Vec::new();
        for sentence in sentences(&self.text) {
            match pieces.last_mut() {
                Some(last) if sentence.end - last.start <= PIECE_BYTES => last.end = sentence.end,
                _ => pieces.push(sentence),
            }
        }
        let pieces = pieces.into_iter().enumerate();
        pieces.map(|(at, span)| self.passage(at, span)).collect()
    }

    fn passage(&self, at: usize, span: Range<usize>) -> Passage {
        let (start, end) = (self.span.start + span.start, self.span.start + span.end);
        Passage::shown(
            at + 1,
            ChunkRecord {
                // No chunk has it, so what was shown of a selection is not read from the store again.
                id: 0,
                vector_store_id: String::new(),
                file_id: self.file_id.clone(),
                filename: self.filename.clone(),
                ordinal: at as u32,
                page_first: self.pages.0,
                page_last: self.pages.1,
                heading_path: Vec::new(),
                text: self.text[span].to_owned(),
                span: start..end,
                num_tokens: 0,
                attributes: Default::default(),
            },
        )
    }
}

/// Where `wanted` stands in `text`, whatever the blanks between its words.
fn place(text: &str, wanted: &str) -> Option<Range<usize>> {
    let wanted = wanted.trim();
    if let Some(start) = text.find(wanted).filter(|_| !wanted.is_empty()) {
        return Some(start..start + wanted.len());
    }
    // Both without blanks, and where each byte that is left came from.
    let mut letters = String::new();
    let mut places = Vec::new();
    for (at, character) in text.char_indices().filter(|(_, c)| is_letter(*c)) {
        places.extend((0..character.len_utf8()).map(|byte| at + byte));
        letters.push(character);
    }
    let wanted: String = wanted.chars().filter(|c| is_letter(*c)).collect();
    let start = letters.find(&wanted).filter(|_| !wanted.is_empty())?;
    Some(places[start]..places[start + wanted.len() - 1] + 1)
}

/// Whether it is more than a blank: breaks of words and invisible characters count as such.
fn is_letter(c: char) -> bool {
    !c.is_whitespace()
        && !matches!(
            c,
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_found_whatever_its_blanks() {
        let text = "Titel\n\nDie Über-\nsicht zeigt\n  drei Dinge. Ende.";
        let found = |wanted: &str| place(text, wanted).map(|span| &text[span]);
        assert_eq!(found("drei Dinge."), Some("drei Dinge."));
        assert_eq!(
            found(" Über-sicht zeigt drei "),
            Some("Über-\nsicht zeigt\n  drei")
        );
        assert_eq!(found("Titel Die"), Some("Titel\n\nDie"));
        assert_eq!(found("vier Dinge"), None);
        assert_eq!(found(" \n"), None);
    }

    #[test]
    fn a_long_selection_is_several_sources_of_whole_sentences() {
        let text = "This sentence is said again and again. ".repeat(100);
        let selection = Selection::alone(text.clone());
        let passages = selection.passages();
        assert!(passages.len() > 2);
        for (at, passage) in passages.iter().enumerate() {
            assert_eq!(passage.number, at + 1);
            assert_eq!(&text[passage.chunk.span.clone()], passage.chunk.text);
            assert!(passage.chunk.text.ends_with('.'));
            assert!(passage.chunk.text.len() <= PIECE_BYTES);
        }
    }
}
