//! Packs pieces into chunks. Decides on sizes and on what belongs together; never cuts a piece.

use std::ops::Range;

use super::context::Contexts;
use super::headings::common_headings;
use super::pieces::{Break, Piece};
use super::{ChunkOptions, Ruler};
use crate::rag::extract::ExtractedText;

/// A chunk as a range of pieces.
pub struct Packed {
    pub pieces: Range<usize>,
    /// Of the text alone.
    pub num_tokens: usize,
    /// What is embedded before the text.
    pub context: String,
}

/// The chunks, rising in start and end; together they cover every piece.
pub fn pack(
    doc: &ExtractedText,
    pieces: &[Piece],
    contexts: &Contexts,
    ruler: &Ruler,
    options: &ChunkOptions,
) -> Vec<Packed> {
    let packer = Packer {
        doc,
        pieces,
        contexts,
        ruler,
        options,
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
    doc: &'a ExtractedText,
    pieces: &'a [Piece],
    contexts: &'a Contexts<'a>,
    ruler: &'a Ruler<'a>,
    options: &'a ChunkOptions,
}

impl Packer<'_> {
    /// The chunk that holds piece `next`, and before it up to `overlap` pieces again.
    fn chunk(&self, next: usize, overlap: usize) -> Packed {
        let max = self.options.max_tokens;
        let mut start = next - overlap;
        let taken = self.context(start..next + 1, true).1;
        let mut end = self.fill(start, next, max.saturating_sub(taken));
        let mut has_lead = true;
        loop {
            let span = self.pieces[start].span.start..self.pieces[end - 1].span.end;
            let (context, _) = self.context(start..end, has_lead);
            let text = &self.doc.text[span];
            let num_tokens = self.ruler.count_text(text);
            let embedded = match context.is_empty() {
                true => Ruler::size(num_tokens, text.len()),
                false => self.ruler.size_of(&format!("{context}{text}")),
            };
            // Pieces do not add up exactly, because words are cut into tokens differently beside others.
            if embedded <= max || (end == next + 1 && start == next && context.is_empty()) {
                return Packed {
                    pieces: start..end,
                    num_tokens,
                    context,
                };
            }
            if end > next + 1 {
                end = self.whole(next, end - 1);
            } else if start < next {
                start += 1;
            } else if has_lead {
                has_lead = false;
            } else {
                return Packed {
                    pieces: start..end,
                    num_tokens,
                    context: String::new(),
                };
            }
        }
    }

    /// What is embedded before these pieces, and its size.
    fn context(&self, pieces: Range<usize>, has_lead: bool) -> (String, usize) {
        let first = &self.pieces[pieces.start];
        let headings = common_headings(self.doc, &self.pieces[pieces]);
        let (mut context, mut size) = self.contexts.of(&headings, first.span.start);
        let lead = first.lead.as_ref().filter(|_| has_lead);
        let (lead, lead_size) = self.contexts.lead(lead);
        if !lead.is_empty() {
            context.push_str(lead);
            context.push('\n');
            size += lead_size;
        }
        (context, size)
    }

    /// How far the chunk from `start` goes when it may have `max` tokens; at least behind `next`.
    fn fill(&self, start: usize, next: usize, max: usize) -> usize {
        let mut size: usize = self.pieces[start..=next]
            .iter()
            .map(|piece| piece.size)
            .sum();
        let mut end = next + 1;
        let mut best: Option<(Break, usize)> = None;
        while let Some(piece) = self.pieces.get(end) {
            // A new section begins a new chunk, unless this one is still too small to stand alone.
            if piece.section != self.pieces[end - 1].section && size * 4 >= max {
                return self.whole(next, end);
            }
            // Where there is a choice, the chunk ends at the best place, and late.
            if size * 2 >= max
                && !self.pieces[end - 1].belongs_to_next
                && best.is_none_or(|(before, _)| before <= piece.break_before)
            {
                best = Some((piece.break_before, end));
            }
            if size + piece.size > max {
                return best.map_or_else(|| self.whole(next, end), |(_, end)| end);
            }
            size += piece.size;
            end += 1;
        }
        end
    }

    /// `end`, or before it where what would be last belongs to what follows.
    fn whole(&self, next: usize, end: usize) -> usize {
        let num_last = self.pieces[next..end]
            .iter()
            .rev()
            .take_while(|piece| piece.belongs_to_next)
            .count();
        match end - num_last {
            whole if whole > next && end < self.pieces.len() => whole,
            _ => end,
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
                && !piece.belongs_to_next
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
        while num_pieces > 0
            && self.ruler.size_of(&self.doc.text[span(num_pieces)]) > self.options.overlap_tokens
        {
            num_pieces -= 1;
        }
        num_pieces
    }
}
