//! Cuts a text into the pieces that chunks are packed from: sentences and lines, and parts of those that are longer
//! than a chunk. Every letter is in exactly one piece.

use std::ops::Range;

use super::super::extract::ExtractedText;
use super::{MAX_BYTES_PER_TOKEN, Ruler};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Trimmed of white space, never empty.
    pub span: Range<usize>,
    /// Never more than the limit, unless it is a single character.
    pub size: usize,
    pub starts_paragraph: bool,
    /// Counts the headings up to here, itself included.
    pub section: usize,
    pub is_heading: bool,
    /// Ends where a sentence or line ends; only such pieces are repeated as overlap.
    pub is_whole: bool,
}

pub fn cut(doc: &ExtractedText, ruler: &Ruler, max_tokens: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut headings = doc.headings.iter().map(|heading| heading.offset).peekable();
    let mut section = 0;
    for paragraph in paragraphs(
        &doc.text,
        &doc.headings
            .iter()
            .map(|heading| heading.offset)
            .collect::<Vec<_>>(),
    ) {
        let mut is_heading = false;
        while headings.next_if(|offset| *offset < paragraph.end).is_some() {
            section += 1;
            is_heading = true;
        }
        let mut starts_paragraph = true;
        for sentence in sentences(&doc.text, paragraph) {
            let parts = parts(ruler, sentence, max_tokens);
            let num_parts = parts.len();
            for (span, size) in parts {
                pieces.push(Piece {
                    span,
                    size,
                    starts_paragraph,
                    section,
                    is_heading,
                    is_whole: num_parts == 1,
                });
                starts_paragraph = false;
            }
            // Only the heading's own line is the heading.
            is_heading = false;
        }
    }
    pieces
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

/// The sentences and separate lines of a paragraph.
fn sentences(text: &str, paragraph: Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = paragraph.start;
    let chars = text[paragraph.clone()]
        .char_indices()
        .map(|(at, c)| (paragraph.start + at, c));
    for (at, c) in chars {
        let end = at + c.len_utf8();
        let after = &text[end..paragraph.end];
        let ends = match c {
            '\n' => {
                is_own_line(after)
                    || is_row(&text[start..at])
                    || is_markdown_heading(&text[start..at])
            }
            '。' | '！' | '？' | '｡' => !after.starts_with(is_closing),
            '.' | '!' | '?' | '…' => ends_sentence(&text[start..at], c, after),
            c if is_closing(c) => {
                let closed = text[start..at].chars().next_back();
                match closed {
                    Some('。' | '！' | '？') => true,
                    Some('.' | '!' | '?' | '…') => begins_sentence(after),
                    _ => false,
                }
            }
            _ => false,
        };
        if ends {
            found.push(start..end);
            start = end;
        }
    }
    found.push(start..paragraph.end);
    found
        .into_iter()
        .filter_map(|span| trimmed(text, span))
        .collect()
}

fn is_closing(c: char) -> bool {
    matches!(
        c,
        '"' | '\'' | ')' | ']' | '”' | '’' | '»' | '」' | '』' | '）'
    )
}

fn ends_sentence(before: &str, stop: char, after: &str) -> bool {
    begins_sentence(after) && (stop != '.' || !is_abbreviation(before))
}

/// White space, and then something that a sentence may begin with.
fn begins_sentence(after: &str) -> bool {
    after.starts_with(char::is_whitespace)
        && after
            .trim_start()
            .chars()
            .next()
            .is_none_or(|c| !c.is_lowercase() && !matches!(c, ',' | ';' | ')'))
}

/// A full stop after these is part of the word.
fn is_abbreviation(before: &str) -> bool {
    const KNOWN: &[&str] = &[
        "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "etc", "e.g", "i.e", "cf", "al",
        "fig", "figs", "eq", "sec", "no", "nos", "vol", "pp", "ed", "eds", "inc", "ltd", "co",
        "corp", "approx", "dept", "z.b", "d.h", "bzw", "ca", "vgl", "nr", "abb", "bd", "jan",
        "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
    ];
    let word = before
        .rsplit(|c: char| c.is_whitespace() || matches!(c, '(' | '['))
        .next()
        .unwrap_or(before);
    let mut letters = word.chars();
    let is_initial = letters.next().is_some_and(char::is_uppercase) && letters.next().is_none();
    // "3." at the start of a line numbers what follows.
    let is_number = word.len() == before.len()
        && !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_digit());
    is_initial || is_number || KNOWN.contains(&word.to_lowercase().as_str())
}

/// Whether the text begins with a line that is no running text: a list item, a table row, code.
fn is_own_line(text: &str) -> bool {
    let words = first_line(text).trim_start();
    let is_numbered = || {
        let rest = words.trim_start_matches(|c: char| c.is_ascii_digit());
        let num_digits = words.len() - rest.len();
        (1..=3).contains(&num_digits) && (rest.starts_with(". ") || rest.starts_with(") "))
    };
    is_row(text)
        || ["- ", "* ", "+ ", "• ", "> ", "```", "~~~"]
            .iter()
            .any(|mark| words.starts_with(mark))
        || is_numbered()
}

/// Whether the text begins with a line that none continues: a table row, code.
fn is_row(text: &str) -> bool {
    let line = first_line(text);
    line.starts_with("    ")
        || line.starts_with('\t')
        || line.trim_start().starts_with('|')
        || line.contains(" | ")
}

/// The beginning of the first line: enough to know its kind, however long it is.
fn first_line(text: &str) -> &str {
    const ENOUGH: usize = 256;
    let mut chars = text.char_indices();
    let end = chars
        .find(|(at, c)| *c == '\n' || *at >= ENOUGH)
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

fn is_markdown_heading(line: &str) -> bool {
    let rest = line.trim_start_matches('#');
    rest.len() < line.len() && rest.starts_with(' ')
}

/// A sentence as pieces that fit.
fn parts(ruler: &Ruler, span: Range<usize>, max_tokens: usize) -> Vec<(Range<usize>, usize)> {
    // No sentence of more bytes fits: no need to have it counted.
    if span.len() <= max_tokens * MAX_BYTES_PER_TOKEN {
        let size = ruler.measure(span.clone());
        if size <= max_tokens {
            return vec![(span, size)];
        }
    }
    let mut parts = Vec::new();
    let mut rest = Some(span);
    // How many bytes a token has here, learnt from the parts before.
    let mut bytes_per_token = 4.0;
    while let Some(within) = rest {
        let (part, size) = longest_fitting(ruler, &within, max_tokens, &mut bytes_per_token);
        rest = trimmed(ruler.text, part.end..within.end);
        parts.push((part, size));
    }
    parts
}

/// A beginning of `rest` that fits: by guess, shortened until it does. Ends between words if there are any.
fn longest_fitting(
    ruler: &Ruler,
    rest: &Range<usize>,
    max_tokens: usize,
    bytes_per_token: &mut f64,
) -> (Range<usize>, usize) {
    let guess = (max_tokens as f64 * *bytes_per_token * 0.95) as usize;
    let mut len = guess
        .clamp(1, max_tokens.saturating_mul(MAX_BYTES_PER_TOKEN))
        .min(rest.len());
    loop {
        let end = boundary(ruler.text, rest.start + len, rest);
        let end = rest.start + ruler.text[rest.start..end].trim_end().len();
        let part = rest.start..end;
        let size = ruler.measure(part.clone());
        if size <= max_tokens || is_one_character(&ruler.text[part.clone()]) {
            *bytes_per_token =
                (part.len() as f64 / size.max(1) as f64).clamp(0.5, MAX_BYTES_PER_TOKEN as f64);
            return (part, size);
        }
        // In proportion, and at least a little less.
        len = (part.len() * max_tokens / size).min(part.len() * 9 / 10);
    }
}

/// Where to cut near `end`: after the last white space before it unless that wastes half, else between characters;
/// behind the first character at least.
fn boundary(text: &str, end: usize, within: &Range<usize>) -> usize {
    let mut end = end.min(within.end);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end < within.end {
        let head = &text[within.start..end];
        let before = head.rfind(char::is_whitespace).map(|at| within.start + at);
        if let Some(before) = before.filter(|before| (before - within.start) * 2 >= head.len()) {
            end = before;
        }
    }
    let first = text[within.clone()]
        .chars()
        .next()
        .map_or(0, char::len_utf8);
    end.max(within.start + first)
}

fn is_one_character(text: &str) -> bool {
    text.chars().nth(1).is_none()
}

fn trimmed(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let inside = &text[span.clone()];
    let start = span.start + (inside.len() - inside.trim_start().len());
    let end = span.start + inside.trim_end().len();
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences_of(text: &str) -> Vec<&str> {
        sentences(text, 0..text.len())
            .into_iter()
            .map(|span| &text[span])
            .collect()
    }

    #[test]
    fn sentences_end_where_they_end() {
        assert_eq!(
            sentences_of(
                "Dr. A. Smith (e.g. here) paid 3.50. \"Really?\" he said. Yes! See Fig. 3. 你好。「是。」好"
            ),
            [
                "Dr. A. Smith (e.g. here) paid 3.50.",
                "\"Really?\" he said.",
                "Yes!",
                "See Fig. 3.",
                "你好。",
                "「是。」",
                "好"
            ]
        );
    }

    #[test]
    fn list_items_and_rows_are_pieces_of_their_own() {
        assert_eq!(
            sentences_of(
                "Some text\nthat goes on:\n- one\n- two\n  more\n1. three\n| a | b |\nend"
            ),
            [
                "Some text\nthat goes on:",
                "- one",
                "- two\n  more",
                "1. three",
                "| a | b |",
                "end"
            ]
        );
    }

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
