//! Finds sentences and content words in text. Never changes the text: everything is a byte range of it.

use std::ops::Range;

use rust_stemmers::{Algorithm, Stemmer};

use super::full_stop;

/// Words that say nothing about a text's subject.
const STOP_WORDS: &[&str] = &[
    "a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been",
    "but", "by", "can", "could", "did", "do", "does", "doesn", "don", "for", "from", "had", "has",
    "have", "he", "her", "his", "how", "i", "if", "in", "into", "is", "it", "its", "many", "may",
    "more", "most", "much", "no", "not", "of", "on", "one", "or", "other", "our", "she", "so",
    "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they",
    "this", "those", "to", "two", "under", "up", "was", "we", "were", "what", "when", "where",
    "which", "who", "whom", "why", "will", "with", "would", "you", "your",
];

/// The sentences of `text`, in order, without the blanks around them. A line that is followed by an empty line ends
/// one too, as headings and list items do.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let end = at + character.len_utf8();
        let ends = match character {
            '.' | '!' | '?' => {
                let rest = text[end..].trim_start_matches(is_closing);
                let closes = rest.len() < text.len() - end || is_end(rest);
                let goes_on = rest.starts_with(['.', ',', ';', ':']);
                closes
                    && !goes_on
                    && (character != '.'
                        || full_stop::ends_sentence(text[start..at].trim_start(), rest))
            }
            '。' | '！' | '？' => true,
            '\n' => text[end..].starts_with('\n'),
            _ => false,
        };
        if !ends {
            continue;
        }
        let mut end = end;
        while let Some((at, closing)) = characters.peek().copied() {
            if !is_closing(closing) {
                break;
            }
            end = at + closing.len_utf8();
            characters.next();
        }
        found.extend(trimmed(text, start..end));
        start = end;
    }
    found.extend(trimmed(text, start..text.len()));
    found
}

/// What English shortens after an apostrophe, as in "what's" and "don't".
const CONTRACTED: &[&str] = &["d", "ll", "m", "re", "s", "t", "ve"];

/// Lower-case words of `text` that carry meaning, in order.
pub fn content_words(text: &str) -> impl Iterator<Item = String> + '_ {
    let is_apostrophe = |c: char| matches!(c, '\'' | '’');
    text.split(move |c: char| !c.is_alphanumeric() && !is_apostrophe(c))
        .flat_map(move |word| {
            let mut parts = word.split(is_apostrophe);
            let first = parts.next();
            first
                .into_iter()
                .chain(parts.filter(|part| !CONTRACTED.contains(part)))
        })
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .filter(|word| STOP_WORDS.binary_search(&word.as_str()).is_err())
}

/// The content words of `text` without their endings, so that "approves" meets "approved". Made for English; words of
/// other languages mostly stay as they are.
pub fn stems(text: &str) -> impl Iterator<Item = String> + '_ {
    let stemmer = Stemmer::create(Algorithm::English);
    content_words(text).map(move |word| stemmer.stem(&word).into_owned())
}

fn is_closing(c: char) -> bool {
    matches!(c, '"' | '\'' | ')' | '”' | '’')
}

fn is_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(char::is_whitespace)
}

fn trimmed(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let piece = &text[range.clone()];
    let start = range.start + (piece.len() - piece.trim_start().len());
    let end = start + piece.trim().len();
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_are_sorted_as_the_search_needs() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn contractions_leave_no_words_of_their_own() {
        let words = |text| content_words(text).collect::<Vec<_>>();
        assert_eq!(words("What's the dog’s name?"), ["dog", "name"]);
        assert_eq!(
            words("Don't they've O'Brien's 'boat'"),
            ["o", "brien", "boat"]
        );
    }

    #[test]
    fn a_full_stop_within_brackets_may_end_nothing() {
        let text = "It sells abroad (in the U.S.). It moved (to Ulm, etc.), as planned. (It stays.) So it is.";
        let found: Vec<&str> = sentences(text)
            .into_iter()
            .map(|range| &text[range])
            .collect();
        assert_eq!(
            found,
            [
                "It sells abroad (in the U.S.).",
                "It moved (to Ulm, etc.), as planned.",
                "(It stays.)",
                "So it is."
            ]
        );
    }

    #[test]
    fn sentences_are_exact_ranges() {
        let text = "Title\n\nDr. Smith paid on 14. März 3.5 euros. \"Why?\" he asked.\nThe end";
        let found: Vec<&str> = sentences(text)
            .into_iter()
            .map(|range| &text[range])
            .collect();
        assert_eq!(
            found,
            [
                "Title",
                "Dr. Smith paid on 14. März 3.5 euros.",
                "\"Why?\"",
                "he asked.",
                "The end"
            ]
        );
    }
}
