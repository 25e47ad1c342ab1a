//! Cuts a text into the pieces that chunks are packed from: sentences, items, rows and lines of code, and parts of those
//! that are longer than a chunk. Every letter is in exactly one piece. Each piece knows how good a place its beginning is
//! to begin a chunk, and what before it says what it belongs to.

use std::ops::Range;

use super::super::extract::{ExtractedText, Format};
use super::Ruler;
use super::code;
use super::fit::{parts, trimmed};
use super::sentences::{is_fence, is_item, is_table_row, is_table_rule, sentences};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Trimmed of white space, never empty.
    pub span: Range<usize>,
    /// Never more than the limit, unless it is a single character.
    pub size: usize,
    pub break_before: Break,
    /// Counts the headings up to here, itself included.
    pub section: usize,
    /// Ends where a sentence or line ends; only such pieces are repeated as overlap.
    pub is_whole: bool,
    /// Headings, the head of a table, the line before a list: nothing without what follows.
    pub belongs_to_next: bool,
    /// What stands before the piece and says what it belongs to: the head of its table, the line before its list.
    pub lead: Option<Range<usize>>,
}

/// How good a place is to begin a chunk, the best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Break {
    /// In the middle of a sentence or line, or before a line that closes something.
    Within,
    /// Between sentences, rows, lines of code, items of an inner list.
    Line,
    /// Between the items of a list.
    Item,
    Paragraph,
    /// Between the functions of a program.
    Block,
}

/// `limit` is the most tokens that a piece in a section may have.
pub fn cut(doc: &ExtractedText, ruler: &Ruler, limit: impl Fn(usize) -> usize) -> Vec<Piece> {
    let offsets: Vec<usize> = doc.headings.iter().map(|heading| heading.offset).collect();
    let mut headings = offsets.iter().copied().peekable();
    let is_program = doc.format == Format::Text && code::is_program(&doc.text);
    let mut cutter = Cutter {
        ruler,
        pieces: Vec::new(),
        kinds: Vec::new(),
        section: 0,
        limit: limit(0),
    };
    let mut in_fence = false;
    for paragraph in paragraphs(&doc.text, &offsets) {
        let mut is_heading = false;
        while headings.next_if(|offset| *offset < paragraph.end).is_some() {
            cutter.section += 1;
            is_heading = true;
        }
        if is_heading {
            cutter.limit = limit(cutter.section);
        }
        let mut break_before = match is_program {
            true => code::break_after_blank(&doc.text, &paragraph),
            false if in_fence => code::break_after_blank(&doc.text, &paragraph).min(Break::Item),
            false => Break::Paragraph,
        };
        for (run, is_code) in runs(&doc.text, paragraph, is_program, &mut in_fence) {
            let lines = match is_code {
                true => code::lines(&doc.text, run),
                false => sentences(&doc.text, run),
            };
            for line in lines {
                let kind = match is_code {
                    _ if is_heading => Kind::Heading,
                    true => Kind::Code,
                    false => Kind::of(&doc.text[line.clone()]),
                };
                let own = match (is_code, kind) {
                    (true, _) => code::break_before(&doc.text, &line),
                    (false, Kind::Item) if !is_indented(&doc.text, line.start) => Break::Item,
                    _ => Break::Line,
                };
                cutter.push(line, kind, break_before.max(own));
                break_before = Break::Within;
                // Only the heading's own line is the heading.
                is_heading = false;
            }
        }
    }
    let Cutter {
        mut pieces, kinds, ..
    } = cutter;
    relate(&doc.text, &mut pieces, &kinds);
    pieces
}

/// What a piece is, as far as it matters to what stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Heading,
    Sentence,
    Item,
    Row,
    Code,
    /// A line that opens a block of code.
    Fence,
}

impl Kind {
    fn of(text: &str) -> Self {
        if is_item(text) {
            Self::Item
        } else if is_table_row(text) {
            Self::Row
        } else if is_fence(text) {
            Self::Fence
        } else {
            Self::Sentence
        }
    }
}

struct Cutter<'a> {
    ruler: &'a Ruler<'a>,
    pieces: Vec<Piece>,
    kinds: Vec<Kind>,
    section: usize,
    limit: usize,
}

impl Cutter<'_> {
    fn push(&mut self, line: Range<usize>, kind: Kind, break_before: Break) {
        let parts = parts(self.ruler, line, self.limit);
        let is_whole = parts.len() == 1;
        for (at, (span, size)) in parts.into_iter().enumerate() {
            self.kinds.push(kind);
            self.pieces.push(Piece {
                span,
                size,
                break_before: if at == 0 { break_before } else { Break::Within },
                section: self.section,
                is_whole,
                belongs_to_next: kind == Kind::Heading || kind == Kind::Fence,
                lead: None,
            });
        }
    }
}

/// Tells the rows of a table its head, and the items of a list the line before it.
fn relate(text: &str, pieces: &mut [Piece], kinds: &[Kind]) {
    let mut table: Option<Range<usize>> = None;
    let mut list: Option<Range<usize>> = None;
    let mut in_list = false;
    for at in 0..pieces.len() {
        let before = at.checked_sub(1).map(|before| pieces[before].span.clone());
        let is_before = |kind| at > 0 && kinds[at - 1] == kind;
        let piece = &pieces[at];
        let starts_paragraph = piece.break_before >= Break::Paragraph;
        let words = &text[piece.span.clone()];

        // A row after an empty line begins a table of its own.
        let goes_on = kinds[at] == Kind::Row && is_before(Kind::Row) && !starts_paragraph;
        match &mut table {
            _ if kinds[at] != Kind::Row => table = None,
            Some(head) if goes_on && is_table_rule(words) => head.end = piece.span.end,
            Some(head) if goes_on => pieces[at].lead = Some(head.clone()),
            _ if names_columns(words) => table = Some(piece.span.clone()),
            _ => table = None,
        }
        let is_head = table
            .as_ref()
            .is_some_and(|head| head.end == pieces[at].span.end);

        let leads = |before: &Range<usize>| text[before.clone()].ends_with([':', '：']);
        let begins = matches!(kinds[at], Kind::Item | Kind::Row | Kind::Code | Kind::Fence);
        let led_by = before.filter(|before| begins && leads(before));
        if kinds[at] == Kind::Item {
            if !in_list {
                list = led_by.clone();
                in_list = true;
            }
        } else if kinds[at] != Kind::Sentence
            || (starts_paragraph && !is_indented(text, pieces[at].span.start))
        {
            in_list = false;
            list = None;
        }
        if in_list && pieces[at].lead.is_none() {
            pieces[at].lead = list.clone();
        }
        if led_by.is_some() && pieces[at - 1].section == pieces[at].section {
            pieces[at - 1].belongs_to_next = true;
        }
        pieces[at].belongs_to_next |= is_head;
    }
}

/// Whether a row may be the head of its table. Rows that repeat the names of the columns need none.
fn names_columns(row: &str) -> bool {
    !row.split(" | ").skip(1).any(|cell| cell.contains(": "))
}

/// Whether the line of a text that has `offset` begins with white space.
fn is_indented(text: &str, offset: usize) -> bool {
    text[..offset].ends_with([' ', '\t', '\u{a0}'])
}

/// The parts of a paragraph that are code, and those that are not. Fences may stand around several paragraphs.
fn runs(
    text: &str,
    paragraph: Range<usize>,
    is_program: bool,
    in_fence: &mut bool,
) -> Vec<(Range<usize>, bool)> {
    if is_program {
        return vec![(paragraph, true)];
    }
    let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
    let mut offset = paragraph.start;
    for line in text[paragraph.clone()].split_inclusive('\n') {
        let span = offset..offset + line.len();
        offset = span.end;
        let is_code = *in_fence;
        *in_fence ^= is_fence(line);
        match runs.last_mut() {
            Some((run, kind)) if *kind == is_code => run.end = span.end,
            _ => runs.push((span, is_code)),
        }
    }
    runs
}

/// Spans between empty lines; a heading begins one of its own.
fn paragraphs(text: &str, headings: &[usize]) -> Vec<Range<usize>> {
    let mut headings = headings.iter().copied().peekable();
    let mut found = Vec::new();
    let mut start = 0;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let is_heading = headings
            .next_if(|heading| *heading < offset + line.len())
            .is_some();
        while headings
            .next_if(|heading| *heading < offset + line.len())
            .is_some()
        {}
        if line.trim().is_empty() || is_heading {
            found.push(start..offset);
            start = offset;
        }
        offset += line.len();
    }
    found.push(start..offset);
    found
        .into_iter()
        .filter_map(|span| trimmed(text, span))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_end_at_empty_lines_and_before_headings() {
        let text = "a\nb\n \nc\n# d\ne";
        let found: Vec<_> = paragraphs(text, &[8])
            .into_iter()
            .map(|span| &text[span])
            .collect();
        assert_eq!(found, ["a\nb", "c", "# d\ne"]);
    }
}
