//! Where sentences end, and which lines stand for themselves. Decides on the text alone.

use std::ops::Range;

use super::fit::trimmed;

/// The sentences and separate lines of a paragraph.
pub fn sentences(text: &str, paragraph: Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = paragraph.start;
    // A full stop within a row ends nothing: a row is understood whole.
    let mut in_row = is_table_row(&text[paragraph.clone()]);
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
            _ if in_row => false,
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
            in_row = is_table_row(after);
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
    is_row(text) || is_item(text) || words.starts_with("> ") || is_fence(text)
}

/// Whether the text begins with a line that none continues: a table row, code.
fn is_row(text: &str) -> bool {
    let line = first_line(text);
    line.starts_with("    ") || line.starts_with('\t') || is_table_row(text)
}

/// Whether the text begins with a list item.
pub fn is_item(text: &str) -> bool {
    let words = first_line(text).trim_start();
    let rest = words.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_numbered = (1..=3).contains(&(words.len() - rest.len()))
        && (rest.starts_with(". ") || rest.starts_with(") "));
    is_numbered
        || ["- ", "* ", "+ ", "• ", "– "]
            .iter()
            .any(|mark| words.starts_with(mark))
}

/// Whether the text begins with a row of a table.
pub fn is_table_row(text: &str) -> bool {
    let line = first_line(text);
    line.trim_start().starts_with('|') || line.contains(" | ")
}

/// Whether a row only sets the head of a Markdown table apart from its body.
pub fn is_table_rule(row: &str) -> bool {
    row.contains("--") && row.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '))
}

/// Whether the text begins with a line that opens or closes a block of code.
pub fn is_fence(text: &str) -> bool {
    let words = first_line(text).trim_start();
    words.starts_with("```") || words.starts_with("~~~")
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
    fn a_row_is_not_cut_at_a_full_stop() {
        assert_eq!(
            sentences_of("Name | He came. She left | x\nName | y\nIt ended. So it was."),
            [
                "Name | He came. She left | x",
                "Name | y",
                "It ended.",
                "So it was."
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
}
