//! Packs pieces into chunks. Decides on sizes alone; never cuts a piece.

use std::ops::Range;

use super::pieces::Piece;
use super::{ChunkOptions, Ruler};

/// A chunk as a range of pieces.
pub struct Packed {
    pub pieces: Range<usize>,
    pub num_tokens: usize,
}

/// The chunks, rising in start and end; together they cover every piece.
pub fn pack(pieces: &[Piece], ruler: &Ruler, options: &ChunkOptions) -> Vec<Packed> {
    let packer = Packer {
        pieces,
        ruler,
        options,
        paragraph_sizes: paragraph_sizes(pieces),
    };
    let mut chunks: Vec<Packed> = Vec::new();
    let mut next = 0;
    while next < pieces.len() {
        let overlap = chunks.last().map_or(0, |last| packer.overlap(&last.pieces));
        let chunk = packer.chunk(next, overlap);
        next = chunk.pieces.end;
        chunks.push(chunk);
    }
    chunks
}

struct Packer<'a> {
    pieces: &'a [Piece],
    ruler: &'a Ruler<'a>,
    options: &'a ChunkOptions,
    /// For a piece that starts a paragraph, the size of the whole paragraph.
    paragraph_sizes: Vec<usize>,
}

impl Packer<'_> {
    /// The chunk that holds piece `next`, and before it up to `overlap` pieces again.
    fn chunk(&self, next: usize, overlap: usize) -> Packed {
        let mut start = next - overlap;
        let mut end = self.without_trailing_headings(next, self.fill(start, next));
        loop {
            let span = self.pieces[start].span.start..self.pieces[end - 1].span.end;
            let len = span.len();
            let num_tokens = self.ruler.count(span);
            let fits = Ruler::size(num_tokens, len) <= self.options.max_tokens;
            // Pieces do not add up exactly, because words are cut into tokens differently beside others.
            if !fits && end > next + 1 {
                end -= 1;
            } else if !fits && start < next {
                start += 1;
            } else {
                return Packed {
                    pieces: start..end,
                    num_tokens,
                };
            }
        }
    }

    /// How far the chunk from `start` goes; at least behind `next`.
    fn fill(&self, start: usize, next: usize) -> usize {
        let max = self.options.max_tokens;
        let mut size: usize = self.pieces[start..=next]
            .iter()
            .map(|piece| piece.size)
            .sum();
        let mut end = next + 1;
        while let Some(piece) = self.pieces.get(end) {
            // A new section begins a new chunk, unless this one is still too small to stand alone.
            let is_new_section = piece.section != self.pieces[end - 1].section;
            if size + piece.size > max || (is_new_section && size * 4 >= max) {
                break;
            }
            // A paragraph stays in one piece if it fits into the next chunk and this one is half full.
            if piece.starts_paragraph {
                let paragraph = self.paragraph_sizes[end];
                if size + paragraph > max && paragraph <= max && size * 2 >= max {
                    break;
                }
            }
            size += piece.size;
            end += 1;
        }
        end
    }

    /// A heading belongs to what follows it.
    fn without_trailing_headings(&self, next: usize, end: usize) -> usize {
        if end == self.pieces.len() {
            return end;
        }
        let num_headings = self.pieces[next..end]
            .iter()
            .rev()
            .take_while(|piece| piece.is_heading)
            .count();
        if num_headings < end - next {
            end - num_headings
        } else {
            end
        }
    }

    /// How many pieces at a chunk's end the next one repeats: whole sentences of the same section, never all.
    fn overlap(&self, last: &Range<usize>) -> usize {
        let Some(next) = self.pieces.get(last.end) else {
            return 0;
        };
        let mut size = 0;
        let may_repeat = |piece: &&Piece| {
            size += piece.size;
            piece.is_whole
                && !piece.is_heading
                && piece.section == next.section
                && size <= self.options.overlap_tokens
                && size + next.size <= self.options.max_tokens
        };
        let mut num_pieces = self.pieces[last.start + 1..last.end]
            .iter()
            .rev()
            .take_while(may_repeat)
            .count();
        let span = |num_pieces: usize| {
            self.pieces[last.end - num_pieces].span.start..self.pieces[last.end - 1].span.end
        };
        while num_pieces > 0 && self.ruler.measure(span(num_pieces)) > self.options.overlap_tokens {
            num_pieces -= 1;
        }
        num_pieces
    }
}

fn paragraph_sizes(pieces: &[Piece]) -> Vec<usize> {
    let mut sizes = vec![0; pieces.len()];
    let mut size = 0;
    for (index, piece) in pieces.iter().enumerate().rev() {
        size += piece.size;
        if piece.starts_paragraph {
            sizes[index] = size;
            size = 0;
        }
    }
    sizes
}
