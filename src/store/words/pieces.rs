//! Text as what is looked for in it: words where blanks stand between them, and runs of letters where none do.

use std::ops::Range;

use unicode_normalization::char::is_combining_mark;

/// A stretch of letters and digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    Word(&'a str),
    /// Letters of a script without blanks, which are looked for in groups of `group`.
    Run {
        letters: &'a str,
        group: usize,
    },
}

/// The words and runs of `text`, in order. What an apostrophe cuts off, such as the s of "what's" and the l of "l'eau", is
/// no word.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((start, first)) = chars.next() {
        let Some(kind) = kind(first) else { continue };
        let mut end = start + first.len_utf8();
        while let Some((at, c)) = chars.peek().copied() {
            if self::kind(c) != Some(kind) && !is_combining_mark(c) {
                break;
            }
            end = at + c.len_utf8();
            chars.next();
        }
        let letters = &text[start..end];
        match kind {
            Kind::Word if is_cut_off(text, start..end) => {}
            Kind::Word => found.push(Piece::Word(letters)),
            Kind::Run(group) => found.push(Piece::Run { letters, group }),
        }
    }
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Run(usize),
}

fn kind(c: char) -> Option<Kind> {
    match c {
        // Chinese and Japanese, and Korean, which sets blanks but joins endings to its words.
        '\u{2E80}'..='\u{2FDF}'
        | '\u{3005}'..='\u{3007}'
        | '\u{3031}'..='\u{30FA}'
        | '\u{30FC}'..='\u{312F}'
        | '\u{3131}'..='\u{318E}'
        | '\u{31A0}'..='\u{4DBF}'
        | '\u{4E00}'..='\u{9FFF}'
        | '\u{AC00}'..='\u{D7AF}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFF}' => Some(Kind::Run(2)),
        // Thai, Lao, Burmese and Khmer write a sound with several letters.
        '\u{E00}'..='\u{E3A}'
        | '\u{E40}'..='\u{E4E}'
        | '\u{E80}'..='\u{ECF}'
        | '\u{1000}'..='\u{103F}'
        | '\u{1780}'..='\u{17D3}' => Some(Kind::Run(3)),
        c if c.is_alphanumeric() => Some(Kind::Word),
        _ => None,
    }
}

/// A single letter beside an apostrophe, and what English shortens behind one.
fn is_cut_off(text: &str, word: Range<usize>) -> bool {
    let is_apostrophe = |c: char| matches!(c, '\'' | '’' | 'ʼ');
    let letters = &text[word.clone()];
    let follows_one = text[..word.start].ends_with(is_apostrophe)
        && text[..word.start]
            .trim_end_matches(is_apostrophe)
            .ends_with(char::is_alphanumeric);
    let leads_one = text[word.end..].starts_with(is_apostrophe)
        && text[word.end..]
            .trim_start_matches(is_apostrophe)
            .starts_with(char::is_alphanumeric);
    let is_single = letters.chars().nth(1).is_none();
    let is_ending = matches!(letters, "ll" | "re" | "ve");
    (is_single && (follows_one || leads_one)) || (is_ending && follows_one)
}

/// The groups of neighbouring letters of a run: all of `group` letters, and those at the end that have fewer. So every
/// shorter stretch of the run is the beginning of one of them.
pub fn groups(letters: &str, group: usize) -> impl Iterator<Item = &str> {
    let starts: Vec<usize> = letters.char_indices().map(|(at, _)| at).collect();
    (0..starts.len()).map(move |first| {
        let end = starts.get(first + group).copied().unwrap_or(letters.len());
        &letters[starts[first]..end]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let shown = |piece: &Piece| match piece {
            Piece::Word(word) => (*word).to_owned(),
            Piece::Run { letters, group } => format!("{letters}/{group}"),
        };
        pieces(text).iter().map(shown).collect()
    }

    #[test]
    fn words_end_at_signs_and_runs_at_other_scripts() {
        assert_eq!(shown("max_tokens: 3.14!"), ["max", "tokens", "3", "14"]);
        assert_eq!(
            shown("東京の2号機、pump"),
            ["東京の/2", "2", "号機/2", "pump"]
        );
        assert_eq!(shown("ปั๊มน้ำ 펌프는"), ["ปั๊มน้ำ/3", "펌프는/2"]);
        assert_eq!(shown("हिन्दी"), ["हिन्दी"]);
        assert!(shown("…—* \0").is_empty());
    }

    #[test]
    fn what_an_apostrophe_cuts_off_is_no_word() {
        assert_eq!(shown("What's O’Brien's"), ["What", "Brien"]);
        assert_eq!(
            shown("l'eau qu'il don't we'll"),
            ["eau", "qu", "il", "don", "we"]
        );
        assert_eq!(shown("'a' b' 'c"), ["a", "b", "c"]);
    }

    #[test]
    fn every_short_stretch_begins_a_group() {
        let found: Vec<&str> = groups("東京都", 2).collect();
        assert_eq!(found, ["東京", "京都", "都"]);
        assert_eq!(groups("都", 2).collect::<Vec<_>>(), ["都"]);
    }
}
