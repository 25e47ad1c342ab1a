//! What words are in a text, as keyword search compares them: without the endings and marks that its language lets them
//! have, and by overlapping groups of letters where no blanks stand between words. The same for what is stored and what is
//! asked, so that a change here needs a migration that indexes everything anew.

mod language;
mod letters;
mod pieces;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use rust_stemmers::Stemmer;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

pub use language::Language;
use language::Script;
use letters::{folded, lower};
use pieces::{Piece, groups, pieces};

/// What is longer is no word that anybody looks for, and is known by its beginning.
const MAX_TERM_BYTES: usize = 64;

/// How often each term is in a chunk, and how long the chunk is.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// By term: times in the text, and half a time for each in the headings.
    pub frequencies: BTreeMap<String, f32>,
    pub num_words: usize,
}

impl Terms {
    pub fn of(text: &str, headings: &[String], language: Language) -> Self {
        let mut terms = Self {
            frequencies: BTreeMap::new(),
            num_words: 0,
        };
        let texts = headings.iter().map(|heading| (heading.as_str(), 0.5));
        for (text, weight) in texts.chain([(text, 1.0)]) {
            let text = normalised(text);
            for piece in pieces(&text) {
                terms.add(&piece, language, weight);
            }
        }
        terms
    }

    fn add(&mut self, piece: &Piece, language: Language, weight: f32) {
        let mut count = |term: String| *self.frequencies.entry(term).or_default() += weight;
        match piece {
            Piece::Word(word) => {
                self.num_words += 1;
                let (term, unmarked) = read(word, language);
                count(term);
                unmarked.into_iter().for_each(count);
            }
            Piece::Run { letters, group } => {
                for term in groups(letters, *group) {
                    self.num_words += 1;
                    count(term.to_owned());
                }
            }
        }
    }
}

/// How many words and groups of letters a chunk has: how long it is, in whatever language.
pub fn num_words(text: &str, headings: &[String]) -> usize {
    let count = |text: &str| -> usize {
        let length = |piece: &Piece| match piece {
            Piece::Word(_) => 1,
            Piece::Run { letters, .. } => letters.chars().count(),
        };
        pieces(&normalised(text)).iter().map(length).sum()
    };
    headings.iter().map(|it| count(it)).sum::<usize>() + count(text)
}

/// A word of a question, and how it may be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// As it was asked for.
    pub word: String,
    /// Any of them is the word, in one language or another.
    pub terms: Vec<WantedTerm>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WantedTerm {
    Exact(String),
    /// Stands at the beginning of a group of letters.
    Beginning(String),
}

/// The words of `text`, each once, as texts in `languages` have them; at most `max` of them.
pub fn wanted(text: &str, languages: &[Language], max: usize) -> Vec<Wanted> {
    let text = normalised(text);
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for piece in pieces(&text) {
        let words: Vec<Wanted> = match piece {
            Piece::Word(word) => {
                let terms: BTreeSet<_> = languages
                    .iter()
                    .map(|language| WantedTerm::Exact(read(word, *language).0))
                    .collect();
                vec![Wanted {
                    word: word.to_owned(),
                    terms: terms.into_iter().collect(),
                }]
            }
            Piece::Run { letters, group } => {
                let num_letters = letters.chars().count();
                let is_short = num_letters < group;
                let num_whole = (num_letters + 1).saturating_sub(group).max(1);
                let wanted = |letters: &str| Wanted {
                    word: letters.to_owned(),
                    terms: vec![match is_short {
                        true => WantedTerm::Beginning(letters.to_owned()),
                        false => WantedTerm::Exact(letters.to_owned()),
                    }],
                };
                groups(letters, group).take(num_whole).map(wanted).collect()
            }
        };
        found.extend(words.into_iter().filter(|it| seen.insert(it.terms.clone())));
        if found.len() >= max {
            found.truncate(max);
            break;
        }
    }
    found
}

/// The term of a word in `language`, and where that differs the term of the word as typed without its marks, which many
/// keyboards lack: the endings of "información" are not found in "informacion".
fn read(word: &str, language: Language) -> (String, Option<String>) {
    let lower = lower(word, language);
    let term = bounded(folded(&stemmed(&lower, language), language));
    let plain = folded(&lower, language);
    if plain == lower {
        return (term, None);
    }
    let unmarked = bounded(folded(&stemmed(&plain, language), language));
    let differs = unmarked != term;
    (term, differs.then_some(unmarked))
}

fn stemmed(word: &str, language: Language) -> Cow<'_, str> {
    let script = word.chars().next().map_or(Script::Other, Script::of);
    let is_word = word.len() <= MAX_TERM_BYTES && !word.contains(|c: char| c.is_numeric());
    match language.stemmer(script).filter(|_| is_word) {
        Some(algorithm) => Stemmer::create(algorithm).stem(word),
        None => word.into(),
    }
}

fn bounded(mut term: String) -> String {
    if term.len() > MAX_TERM_BYTES {
        let whole = term.char_indices().map(|(at, c)| at + c.len_utf8());
        let end = whole.take_while(|end| *end <= MAX_TERM_BYTES).last();
        term.truncate(end.unwrap_or(0));
    }
    term
}

/// Wide, narrow and joined forms of letters as the plain ones.
fn normalised(text: &str) -> Cow<'_, str> {
    match text.is_ascii() || is_nfkc_quick(text.chars()) == IsNormalized::Yes {
        true => text.into(),
        false => text.nfkc().collect::<String>().into(),
    }
}

#[cfg(test)]
mod tests;
