//! Text to chunks for search: along headings, paragraphs, lists, tables, code and sentences, measured in the embedder's
//! own tokens. A chunk never exceeds the limit with what is embedded before it, and no word of the text is in no chunk.

mod code;
mod context;
mod fit;
mod headings;
mod pack;
mod pieces;
mod sentences;

use std::ops::Range;

use super::extract::ExtractedText;
use context::Contexts;

/// Changes whenever the same text is cut otherwise, or something else of it is embedded.
pub const CHUNKER_VERSION: u32 = 1;

/// Sizes in tokens of the embedder, without special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkOptions {
    /// At least 1. The text of a chunk and what is embedded before it have no more together.
    pub max_tokens: usize,
    /// How much of a chunk's end the next one may repeat, in whole sentences.
    pub overlap_tokens: usize,
}

impl Default for ChunkOptions {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            overlap_tokens: 64,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes of the document's text: the chunk's text, exactly.
    pub span: Range<usize>,
    pub page_first: u32,
    pub page_last: u32,
    /// The headings over the chunk, outermost first.
    pub heading_path: Vec<String>,
    /// Of its text alone.
    pub num_tokens: usize,
    /// What is embedded before the text and never cited: title, headings, the head of a table or the line before a list
    /// that the chunk goes on with. Empty, or ends with a new line.
    pub context: String,
}

impl Chunk {
    /// What the embedder reads of the chunk.
    pub fn embedded_text(&self, doc: &ExtractedText) -> String {
        format!("{}{}", self.context, &doc.text[self.span.clone()])
    }
}

/// Cuts a document into chunks, in order. A document of white space has none.
///
/// `count_tokens` is asked about every part of the text a small number of times, whatever the sizes. A word that is
/// longer than a chunk is cut between characters; a single character is never cut, whatever its count.
///
/// # Panics
/// If `max_tokens` is 0.
pub fn chunk(
    doc: &ExtractedText,
    options: &ChunkOptions,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Vec<Chunk> {
    assert!(
        options.max_tokens > 0,
        "a chunk of no tokens cannot hold text"
    );
    let ruler = Ruler {
        text: &doc.text,
        count_tokens,
    };
    let contexts = Contexts::new(doc, &ruler, options.max_tokens);
    // Whatever is embedded before a piece, both fit.
    let limit = |section| {
        let above = headings::open_headings(doc, section);
        options.max_tokens - contexts.of(&above, doc.text.len()).1
    };
    let pieces = pieces::cut(doc, &ruler, limit);
    pack::pack(doc, &pieces, &contexts, &ruler, options)
        .into_iter()
        .map(|packed| {
            let of_chunk = &pieces[packed.pieces];
            let span = of_chunk[0].span.start..of_chunk[of_chunk.len() - 1].span.end;
            let (page_first, page_last) = pages(doc, &span);
            let titles = headings::common_headings(doc, of_chunk).into_iter();
            Chunk {
                span,
                page_first,
                page_last,
                heading_path: titles.map(|it| doc.headings[it].title.clone()).collect(),
                num_tokens: packed.num_tokens,
                context: packed.context,
            }
        })
        .collect()
}

/// To some tokenizers a word of any length is one unknown token; a chunk must stay readable for models that see its
/// letters.
const MAX_BYTES_PER_TOKEN: usize = 16;

/// Measures parts of the text.
struct Ruler<'a> {
    text: &'a str,
    count_tokens: &'a dyn Fn(&str) -> usize,
}

impl Ruler<'_> {
    fn count_text(&self, text: &str) -> usize {
        (self.count_tokens)(text)
    }

    /// The size of a part of the text.
    fn measure(&self, span: Range<usize>) -> usize {
        self.size_of(&self.text[span])
    }

    fn size_of(&self, text: &str) -> usize {
        Self::size(self.count_text(text), text.len())
    }

    /// Tokens, but at least one for every few bytes.
    fn size(num_tokens: usize, num_bytes: usize) -> usize {
        num_tokens.max(num_bytes / MAX_BYTES_PER_TOKEN)
    }
}

/// The pages of a span's first and last byte.
fn pages(doc: &ExtractedText, span: &Range<usize>) -> (u32, u32) {
    let page_of = |offset: usize| {
        let after = doc.pages.partition_point(|page| page.span.start <= offset);
        // Pages without text stand between those with text and hold nothing.
        doc.pages[..after]
            .iter()
            .rev()
            .find(|page| !page.span.is_empty())
            .map_or(1, |page| page.number)
    };
    (page_of(span.start), page_of(span.end - 1))
}

#[cfg(test)]
mod tests;
