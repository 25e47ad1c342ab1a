//! Mends what PDF does to text: ligature letters, hyphens at line ends, odd spaces. Changes nothing that could be
//! meant: when in doubt the page's own characters stay.

use unicode_normalization::UnicodeNormalization;

const SOFT_HYPHEN: char = '\u{ad}';

/// The text of one page, trimmed.
pub fn page(text: &str) -> String {
    let mut begins_paragraph = true;
    let mut lines = Vec::new();
    for text in text.lines() {
        lines.push((text, begins_paragraph));
        begins_paragraph = text.trim().is_empty();
    }
    joined(lines).0
}

/// Lines, each with whether it begins a paragraph, as text, and where in it each line begins.
pub fn joined<'l>(lines: impl IntoIterator<Item = (&'l str, bool)>) -> (String, Vec<usize>) {
    let mut out = String::new();
    let mut offsets = Vec::new();
    let mut is_paragraph_start = true;
    for (text, begins_paragraph) in lines {
        is_paragraph_start |= begins_paragraph;
        let line = line(text);
        if line.is_empty() {
            offsets.push(out.len());
            continue;
        }
        if !out.is_empty() {
            if is_paragraph_start {
                out.truncate(out.trim_end_matches(SOFT_HYPHEN).len());
                out.push_str("\n\n");
            } else {
                join_line(&mut out, &line);
            }
        }
        is_paragraph_start = false;
        offsets.push(out.len());
        out.push_str(&line);
    }
    out.truncate(out.trim_end_matches(SOFT_HYPHEN).len());
    (out, offsets)
}

/// What stands between two pages: a sentence that goes on is not cut into paragraphs.
pub fn page_break(before: &str, after: &str) -> &'static str {
    let ends = before
        .chars()
        .next_back()
        .is_none_or(|c| !(c.is_alphanumeric() || matches!(c, ',' | ';' | '-')));
    let begins = after.chars().next().is_none_or(|c| !c.is_lowercase());
    if ends || begins { "\n\n" } else { "\n" }
}

/// Whether a sentence goes on from the last line of one column in the first of the next.
pub fn goes_on(before: &str, after: &str) -> bool {
    let is_open =
        |c: char| c.is_alphabetic() || matches!(c, ',' | ';' | '-' | '\u{2010}' | SOFT_HYPHEN);
    before.trim_end().chars().next_back().is_some_and(is_open)
        && after
            .trim_start()
            .chars()
            .next()
            .is_some_and(char::is_lowercase)
}

/// Prepares `out` for the next line of its paragraph: a line break, or nothing inside a divided word.
fn join_line(out: &mut String, next: &str) {
    let continues = next.chars().next().is_some_and(char::is_lowercase);
    if let Some(word) = out.strip_suffix(SOFT_HYPHEN) {
        out.truncate(word.len());
        return;
    }
    if continues
        && let Some(word) = out.strip_suffix(['-', '\u{2010}'])
        && word.chars().next_back().is_some_and(char::is_lowercase)
        && !is_compound(word)
    {
        out.truncate(word.len());
        return;
    }
    out.push('\n');
}

/// Whether the word at the end has a hyphen of its own already, as in `state-of-the-`.
fn is_compound(text: &str) -> bool {
    let word = text.rsplit(char::is_whitespace).next().unwrap_or(text);
    word.contains('-')
}

fn line(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            // Presentation forms: ligatures and the shapes of Arabic letters.
            '\u{fb00}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' => {
                out.extend(std::iter::once(c).nfkc())
            }
            // Symbol fonts keep their bullets in the private area.
            '\u{f0b7}' | '\u{f0a7}' => out.push('•'),
            '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{200b}' | '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_whitespace() => {
                if !out.ends_with(' ') && !out.is_empty() {
                    out.push(' ');
                }
            }
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.truncate(out.trim_end().len());
    // Only at the end of a line a soft hyphen says something.
    match out.strip_suffix(SOFT_HYPHEN) {
        Some(before) => before.replace(SOFT_HYPHEN, "") + "\u{ad}",
        None => out.replace(SOFT_HYPHEN, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divided_words_are_joined_and_meant_hyphens_stay() {
        assert_eq!(
            page("an exam-\nple of a state-of-\nthe art, 1990-\n2000, Anglo-\nSaxon"),
            "an example of a state-of-\nthe art, 1990-\n2000, Anglo-\nSaxon"
        );
        assert_eq!(
            page("soft\u{ad}\nware and co\u{ad}operate"),
            "software and cooperate"
        );
        assert_eq!(page("end-\n\nnew"), "end-\n\nnew");
    }

    #[test]
    fn ligatures_and_spaces_are_made_plain() {
        assert_eq!(
            page("  of\u{fb01}ce\u{a0} \u{f0b7}\u{7} x \n\n\n\n y² "),
            "office • x\n\ny²"
        );
    }

    #[test]
    fn a_sentence_goes_on_over_a_page_break() {
        assert_eq!(page_break("the quick", "brown fox"), "\n");
        assert_eq!(page_break("the end.", "brown fox"), "\n\n");
        assert_eq!(page_break("the quick", "Chapter 2"), "\n\n");
    }
}
