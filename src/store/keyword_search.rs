//! Keyword search: BM25 over the text and headings of chunks. The user's text is never read as query syntax.

use std::collections::BTreeSet;

use rusqlite::types::Value;
use rusqlite::{Transaction, params_from_iter};

use super::Store;
use super::error::Result;
use super::scope::{AllowedDocuments, SearchScope};
use super::vector_search::Hit;

/// Distinct words of a query that are looked for; bounds the work of one search.
const MAX_WORDS: usize = 128;
/// A word in more chunks than this is common, however many more there are.
const MAX_COUNTED: i64 = 100_000;
/// From so many chunks on, words that most of them have are not looked for: they tell nothing apart, and reading all their
/// places takes long.
const MANY_CHUNKS: i64 = 1_000;
/// FTS5's `bm25` gives a word at most so many times its inverse document frequency: its k1 is 1.2.
const MAX_SATURATION: f64 = 2.2;
/// The least inverse document frequency that FTS5 gives a word.
const MIN_IDF: f64 = 1e-6;

impl Store {
    /// Chunks that contain at least one word of `text`, best first. Scores are BM25 as a share of the most that any chunk
    /// could have, from 0 to 1: near 1 has all the words, many times, and nothing else.
    pub async fn keyword_search(
        &self,
        text: &str,
        scope: SearchScope,
        limit: usize,
    ) -> Result<Vec<Hit>> {
        let words = quoted_words(text);
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let allowed = scope.allowed_documents(&self.embedder().hash)?;
        self.database()
            .search(move |tx| search(tx, words, allowed, limit))
            .await
    }

    /// In how many chunks each of `words` occurs, in any form that keyword search takes for the same word, and how many
    /// chunks there are. Counted over everything stored, up to [`MAX_COUNTED`] a word.
    pub async fn word_frequencies(&self, words: Vec<String>) -> Result<WordFrequencies> {
        let read = move |tx: &Transaction| {
            let counts = words.iter().map(|word| {
                let quoted = quoted_words(word).join(" OR ");
                match quoted.is_empty() {
                    true => Ok(0),
                    false => num_with_word(tx, &quoted, MAX_COUNTED),
                }
            });
            Ok(WordFrequencies {
                num_with_word: counts.collect::<Result<_>>()?,
                num_chunks: num_chunks(tx)?,
            })
        };
        self.database().search(read).await
    }
}

/// How common words are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordFrequencies {
    /// Chunks with each word, in the order in which they were asked for.
    pub num_with_word: Vec<i64>,
    pub num_chunks: i64,
}

fn num_chunks(tx: &Transaction) -> Result<i64> {
    Ok(tx.query_row("SELECT count(*) FROM chunks", [], |row| row.get(0))?)
}

/// In how many chunks a quoted word occurs, counted up to `limit`.
fn num_with_word(tx: &Transaction, quoted: &str, limit: i64) -> Result<i64> {
    let sql = "SELECT count(*) FROM (SELECT 1 FROM chunks_fts WHERE chunks_fts MATCH ? LIMIT ?)";
    let mut statement = tx.prepare_cached(sql)?;
    Ok(statement.query_row((quoted, limit), |row| row.get(0))?)
}

/// The words that are worth looking for, as a query, and the most that `bm25` could give a chunk for all of them.
fn weighed(tx: &Transaction, words: Vec<String>) -> Result<(String, f64)> {
    let num_chunks = num_chunks(tx)?;
    let mut attainable = 0.0;
    let mut telling = Vec::new();
    for word in &words {
        let num_with = num_with_word(tx, word, num_chunks / 2 + 1)?;
        let is_common = num_with > num_chunks / 2;
        if !(is_common && num_chunks >= MANY_CHUNKS) {
            telling.push(word.as_str());
        }
        // As FTS5 weighs words.
        let (all, with) = (num_chunks as f64, num_with as f64);
        let idf = ((all - with + 0.5) / (with + 0.5)).ln();
        attainable += MAX_SATURATION * idf.max(MIN_IDF);
    }
    if telling.is_empty() {
        telling.extend(words.iter().map(String::as_str));
    }
    Ok((telling.join(" OR "), attainable))
}

fn search(
    tx: &Transaction,
    words: Vec<String>,
    allowed: AllowedDocuments,
    limit: usize,
) -> Result<Vec<Hit>> {
    let (query, attainable) = weighed(tx, words)?;
    // CROSS JOIN keeps the full-text match outermost; headings count half.
    let sql = format!(
        "SELECT c.id, -bm25(chunks_fts, 1.0, 0.5) AS score FROM chunks_fts CROSS JOIN chunks c ON c.id = chunks_fts.rowid
         WHERE chunks_fts MATCH ? AND c.document_id IN ({}) ORDER BY score DESC, c.id LIMIT ?",
        allowed.sql
    );
    let mut params = vec![Value::Text(query)];
    params.extend(allowed.params);
    params.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
    let mut statement = tx.prepare_cached(&sql)?;
    let hits = statement.query_map(params_from_iter(params), |row| {
        Ok(Hit {
            chunk_id: row.get(0)?,
            score: (row.get::<_, f64>(1)? / attainable) as f32,
        })
    })?;
    Ok(hits.collect::<rusqlite::Result<_>>()?)
}

/// The distinct words of `text`, each as a quoted string of FTS5's query syntax.
fn quoted_words(text: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let words = text
        .split(is_separator)
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .filter(|word| seen.insert(*word))
        .take(MAX_WORDS);
    // No word contains a quote: quotes are separators.
    words.map(|word| format!("\"{word}\"")).collect()
}

/// Characters that FTS5's unicode61 tokenizer never makes part of a word. Others that it drops stay inside the quoted
/// string, where it drops them again.
fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || c.is_ascii_punctuation()
        || matches!(c, '\u{2000}'..='\u{206F}' | '\u{3000}'..='\u{303F}' | '«' | '»' | '¿' | '¡')
}

#[cfg(test)]
mod tests {
    use super::quoted_words;

    #[test]
    fn words_are_quoted_once_each_and_syntax_is_gone() {
        let words = quoted_words("the \"cat*\" AND NEAR(dog, 2) the -x:y").join(" ");
        assert_eq!(words, r#""the" "cat" "AND" "NEAR" "dog" "2" "x" "y""#);
    }

    #[test]
    fn text_without_a_word_is_no_query() {
        for text in ["", "  ", "\"\"", "*-()^:", "\0", "…—"] {
            assert!(quoted_words(text).is_empty(), "{text:?}");
        }
    }
}
