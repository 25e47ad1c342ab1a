//! The table `chunk_words`: which terms are in which chunk. Triggers fill it through functions that every connection has,
//! so that no statement can forget it. What FTS5 ranks by is left out of it: a term is stored with the class of its
//! frequency, and a row's id says of what document, chunk and length it is, so that BM25 can be computed from nothing else.

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::{Connection, Error, Transaction};

use super::error::Result;
use super::words::{Language, Terms, WantedTerm, num_words};

/// Bits of a row's id. With those of the document they make 63.
const LENGTH_BITS: u32 = 7;
const CHUNK_BITS: u32 = 30;
const DOCUMENT_BITS: u32 = 26;
/// Length classes to a doubling.
const CLASSES_PER_DOUBLING: f64 = 10.0;

/// The frequencies that are told apart, with the letter that stands before their terms. BM25 hardly tells many from more.
pub(super) const FREQUENCIES: [(char, f64); 8] = [
    ('h', 12.0),
    ('g', 7.0),
    ('f', 4.5),
    ('e', 3.0),
    ('d', 2.0),
    ('c', 1.5),
    ('b', 1.0),
    ('a', 0.5),
];

/// Gives a connection the functions that the triggers call.
pub(super) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("text_language", 1, flags, |context| {
        let text: Option<String> = context.get(0)?;
        Ok(text.map(|text| Language::of(&text).code()))
    })?;
    connection.create_scalar_function("words_rowid", 4, flags, |context| {
        let place = Place {
            document_id: context.get(0)?,
            chunk_id: context.get(1)?,
            length_class: length_class(num_words(&context.get::<String>(2)?, &headings(context, 3)?)),
        };
        place.packed().ok_or_else(|| {
            let why = format!("a data folder has no room for document {} and passage {}: ids are used up; ingest into a new one",
                place.document_id, place.chunk_id);
            Error::UserFunctionError(why.into())
        })
    })?;
    connection.create_scalar_function("word_terms", 3, flags, |context| {
        let language: Option<String> = context.get(2)?;
        let language = language.map_or(Language::ENGLISH, |code| Language::from_code(&code));
        let terms = Terms::of(&context.get::<String>(0)?, &headings(context, 1)?, language);
        let terms = terms.frequencies.iter();
        Ok(terms
            .map(|(term, times)| format!("{}{term} ", letter_of(*times)))
            .collect::<String>())
    })
}

fn headings(context: &Context<'_>, at: usize) -> rusqlite::Result<Vec<String>> {
    let path: String = context.get(at)?;
    serde_json::from_str(&path).map_err(|error| Error::UserFunctionError(error.into()))
}

fn letter_of(times: f32) -> char {
    // The nearest of those that are told apart.
    let distance = |(_, value): &(char, f64)| (value - f64::from(times)).abs();
    let nearest = FREQUENCIES
        .iter()
        .min_by(|a, b| distance(a).total_cmp(&distance(b)));
    nearest.map_or('b', |(letter, _)| *letter)
}

/// What a row's id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub document_id: i64,
    pub chunk_id: i64,
    pub length_class: i64,
}

impl Place {
    fn packed(self) -> Option<i64> {
        let fits = (0..1 << DOCUMENT_BITS).contains(&self.document_id)
            && (0..1 << CHUNK_BITS).contains(&self.chunk_id);
        fits.then_some(
            first_row(self.document_id) | self.chunk_id << LENGTH_BITS | self.length_class,
        )
    }

    pub fn of(row: i64) -> Self {
        Self {
            document_id: row >> (LENGTH_BITS + CHUNK_BITS),
            chunk_id: row >> LENGTH_BITS & ((1 << CHUNK_BITS) - 1),
            length_class: row & ((1 << LENGTH_BITS) - 1),
        }
    }
}

/// The least id that a row of a document can have.
pub(super) fn first_row(document_id: i64) -> i64 {
    document_id << (LENGTH_BITS + CHUNK_BITS)
}

/// Lengths within 4% of each other are one: BM25 does not tell them apart.
fn length_class(num_words: usize) -> i64 {
    let class = (num_words.max(1) as f64).log2() * CLASSES_PER_DOUBLING;
    (class.round() as i64).min((1 << LENGTH_BITS) - 1)
}

pub(super) fn length_of_class(class: f64) -> f64 {
    (class / CLASSES_PER_DOUBLING).exp2()
}

/// How many chunks there are, and how many words the middle one has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Totals {
    pub num_chunks: i64,
    pub typical_length: f64,
}

pub(super) fn totals(tx: &Transaction) -> Result<Totals> {
    let mut statement = tx.prepare_cached("SELECT num_chunks, length_classes FROM word_totals")?;
    Ok(statement.query_row([], |row| {
        let (num_chunks, classes): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(Totals {
            num_chunks,
            typical_length: length_of_class(classes as f64 / num_chunks.max(1) as f64),
        })
    })?)
}

/// A query that finds the chunks that have `term` so many times as `letter` says. Terms are letters and digits only.
pub(super) fn matching(letter: char, term: &WantedTerm) -> String {
    match term {
        WantedTerm::Exact(term) => format!("\"{letter}{term}\""),
        WantedTerm::Beginning(term) => format!("\"{letter}{term}\" *"),
    }
}

pub(super) fn num_matching(tx: &Transaction, matching: &str) -> Result<i64> {
    let sql = "SELECT count(*) FROM chunk_words WHERE chunk_words MATCH ?";
    Ok(tx
        .prepare_cached(sql)?
        .query_row([matching], |row| row.get(0))?)
}

/// Rows outside of the scope that are passed over before it is cheaper to look for the next document inside.
const MAX_PASSED: usize = 200;

/// Calls `visit` with each row of `documents`, which are in order, that is found. Returns how many rows were read.
pub(super) fn scan(
    tx: &Transaction,
    matching: &str,
    documents: &[i64],
    mut visit: impl FnMut(i64),
) -> Result<i64> {
    let sql =
        "SELECT rowid FROM chunk_words WHERE chunk_words MATCH ? AND rowid >= ? ORDER BY rowid";
    let mut statement = tx.prepare_cached(sql)?;
    let (mut at, mut num_read) = (0, 0);
    while let Some(document) = documents.get(at) {
        let mut num_passed = 0;
        let mut rows = statement.query((matching, first_row(*document)))?;
        loop {
            let Some(row) = rows.next()? else {
                return Ok(num_read);
            };
            num_read += 1;
            let row: i64 = row.get(0)?;
            let document = Place::of(row).document_id;
            if documents[at] < document {
                at += documents[at..].partition_point(|allowed| *allowed < document);
            }
            match documents.get(at) {
                None => return Ok(num_read),
                Some(allowed) if *allowed == document => {
                    num_passed = 0;
                    visit(row);
                }
                Some(_) => num_passed += 1,
            }
            if num_passed > MAX_PASSED {
                break;
            }
        }
    }
    Ok(num_read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_what_it_is_of_and_ids_that_do_not_fit_are_refused() {
        let place = Place {
            document_id: (1 << DOCUMENT_BITS) - 1,
            chunk_id: (1 << CHUNK_BITS) - 1,
            length_class: 127,
        };
        assert_eq!(place.packed(), Some(i64::MAX));
        assert_eq!(Place::of(i64::MAX), place);
        for beyond in [
            Place {
                chunk_id: 1 << CHUNK_BITS,
                ..place
            },
            Place {
                document_id: 1 << DOCUMENT_BITS,
                ..place
            },
        ] {
            assert_eq!(beyond.packed(), None);
        }
    }

    #[test]
    fn lengths_come_back_within_four_percent() {
        for length in [1, 2, 17, 256, 4000] {
            let back = length_of_class(length_class(length) as f64);
            assert!(
                (back / length as f64 - 1.0).abs() < 0.04,
                "{length}: {back}"
            );
        }
        assert_eq!(length_class(usize::MAX), 127);
    }

    #[test]
    fn frequencies_are_told_apart_where_they_count() {
        let letters: String = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 8.0, 500.0]
            .map(letter_of)
            .iter()
            .collect();
        assert_eq!(letters, "abcdeefgh");
    }
}
