//! Texts made comparable, as SQuAD's evaluation does it: what is left are words in lower case with single blanks.

/// Lower case, without marks and articles, with single blanks between words.
pub fn normalized(text: &str) -> String {
    let kept = |c: char| match c {
        // "7,000" and "7000" are one number.
        ',' | '\'' | '\u{2019}' => None,
        c if c.is_alphanumeric() => Some(c),
        _ => Some(' '),
    };
    let plain: String = text.chars().filter_map(kept).collect();
    let words = plain.split_whitespace().map(str::to_lowercase);
    let is_article = |word: &String| matches!(word.as_str(), "a" | "an" | "the");
    let words: Vec<String> = words.filter(|word| !is_article(word)).collect();
    words.join(" ")
}

/// The first `max_chars` of a text on one line.
pub fn snippet(text: &str, max_chars: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(max_chars) {
        None => line,
        Some((at, _)) => format!("{}…", line[..at].trim_end()),
    }
}

/// Where `wanted` stands in `text`, in bytes: at the character `start` if it stands there, else at the place nearest to
/// it. `None` when the text does not have it.
pub fn located(text: &str, wanted: &str, start: Option<usize>) -> Option<std::ops::Range<usize>> {
    if wanted.is_empty() {
        return None;
    }
    let hint = start.map_or(0, |start| {
        text.char_indices().nth(start).map_or(text.len(), |it| it.0)
    });
    let nearest = text
        .match_indices(wanted)
        .map(|(at, _)| at)
        .min_by_key(|at| at.abs_diff(hint))?;
    Some(nearest..nearest + wanted.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_are_compared() {
        let text = "The \u{201c}Big\u{201d}  Apple's the 7,000.";
        assert_eq!(normalized(text), "big apples 7000");
        assert_eq!(normalized("the"), "");
    }

    #[test]
    fn a_text_is_found_where_it_was_seen_or_nearest_to_it() {
        let text = "é 12 and 12 and 12";
        assert_eq!(located(text, "12", Some(9)), Some(10..12));
        assert_eq!(located(text, "12", Some(10)), Some(10..12));
        assert_eq!(located(text, "12", None), Some(3..5));
        assert_eq!(located(text, "13", None), None);
    }

    #[test]
    fn a_snippet_is_one_line() {
        assert_eq!(snippet("one\n two three", 7), "one two…");
    }
}
