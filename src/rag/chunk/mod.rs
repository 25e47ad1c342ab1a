//! Text to chunks for search: along headings, paragraphs and sentences, measured in the embedder's own tokens. A
//! chunk never exceeds the limit, and no word of the text is in no chunk.

mod pack;
mod pieces;

use std::ops::Range;

use super::extract::ExtractedText;

/// Sizes in tokens of the embedder, without special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkOptions {
    /// At least 1.
    pub max_tokens: usize,
    /// How much of a chunk's end the next one may repeat, in whole sentences.
    pub overlap_tokens: usize,
}

impl Default for ChunkOptions {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            overlap_tokens: 32,
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
    pub num_tokens: usize,
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
    let pieces = pieces::cut(doc, &ruler, options.max_tokens);
    pack::pack(&pieces, &ruler, options)
        .into_iter()
        .map(|packed| {
            let of_chunk = &pieces[packed.pieces];
            let span = of_chunk[0].span.start..of_chunk[of_chunk.len() - 1].span.end;
            let (page_first, page_last) = pages(doc, &span);
            let heading_path = heading_path(doc, of_chunk);
            Chunk {
                span,
                page_first,
                page_last,
                heading_path,
                num_tokens: packed.num_tokens,
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
    fn count(&self, span: Range<usize>) -> usize {
        (self.count_tokens)(&self.text[span])
    }

    fn measure(&self, span: Range<usize>) -> usize {
        let len = span.len();
        Self::size(self.count(span), len)
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

/// The headings that all pieces of a chunk have in common.
fn heading_path(doc: &ExtractedText, pieces: &[pieces::Piece]) -> Vec<String> {
    let mut sections: Vec<usize> = pieces.iter().map(|piece| piece.section).collect();
    sections.dedup();
    let mut paths = sections
        .into_iter()
        .map(|section| open_headings(doc, section));
    let first = paths.next().unwrap_or_default();
    let common = paths.fold(first, |mut common, path| {
        let len = common.iter().zip(&path).take_while(|(a, b)| a == b).count();
        common.truncate(len);
        common
    });
    common
        .into_iter()
        .map(|index| doc.headings[index].title.clone())
        .collect()
}

/// The headings that are open in a section: the last one before it, and those of higher rank above that.
/// Section 0 is before the first heading, section n begins with heading n - 1.
fn open_headings(doc: &ExtractedText, section: usize) -> Vec<usize> {
    let mut open = Vec::new();
    let mut level = u8::MAX;
    for index in (0..section).rev() {
        if doc.headings[index].level < level {
            level = doc.headings[index].level;
            open.push(index);
        }
        if level <= 1 {
            break;
        }
    }
    open.reverse();
    open
}

#[cfg(test)]
mod tests;
