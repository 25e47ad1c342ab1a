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

impl Store {
    /// Chunks that contain at least one word of `text`, best first. Scores are BM25: higher is better, and they compare
    /// only within one search.
    pub async fn keyword_search(
        &self,
        text: &str,
        scope: SearchScope,
        limit: usize,
    ) -> Result<Vec<Hit>> {
        let Some(query) = any_of_the_words(text) else {
            return Ok(Vec::new());
        };
        let allowed = scope.allowed_documents(&self.embedder().hash)?;
        self.database()
            .search(move |tx| search(tx, query, allowed, limit))
            .await
    }

    /// In how many chunks each of `words` occurs, in any form that keyword search takes for the same word, and how many
    /// chunks there are. Counted over everything stored, up to [`MAX_COUNTED`] a word.
    pub async fn word_frequencies(&self, words: Vec<String>) -> Result<WordFrequencies> {
        let read = move |tx: &Transaction| {
            let num_chunks: i64 =
                tx.query_row("SELECT count(*) FROM chunks", [], |row| row.get(0))?;
            let sql =
                "SELECT count(*) FROM (SELECT 1 FROM chunks_fts WHERE chunks_fts MATCH ? LIMIT ?)";
            let mut statement = tx.prepare_cached(sql)?;
            let mut count = |word: &String| -> Result<i64> {
                match any_of_the_words(word) {
                    Some(query) => Ok(statement.query_row((query, MAX_COUNTED), |row| row.get(0))?),
                    None => Ok(0),
                }
            };
            let num_with_word = words.iter().map(&mut count).collect::<Result<_>>()?;
            Ok(WordFrequencies {
                num_with_word,
                num_chunks,
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

fn search(
    tx: &Transaction,
    query: String,
    allowed: AllowedDocuments,
    limit: usize,
) -> Result<Vec<Hit>> {
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
            score: row.get::<_, f64>(1)? as f32,
        })
    })?;
    Ok(hits.collect::<rusqlite::Result<_>>()?)
}

/// An FTS5 query for any word of `text`, each as a quoted string; `None` when there is no word.
fn any_of_the_words(text: &str) -> Option<String> {
    let mut seen = BTreeSet::new();
    let words = text
        .split(is_separator)
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .filter(|word| seen.insert(*word))
        .take(MAX_WORDS);
    // No word contains a quote: quotes are separators.
    let quoted: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    (!quoted.is_empty()).then(|| quoted.join(" OR "))
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
    use super::any_of_the_words;

    #[test]
    fn words_are_quoted_once_each_and_syntax_is_gone() {
        let query = any_of_the_words("the \"cat*\" AND NEAR(dog, 2) the -x:y");
        let expected = r#""the" OR "cat" OR "AND" OR "NEAR" OR "dog" OR "2" OR "x" OR "y""#;
        assert_eq!(query.as_deref(), Some(expected));
    }

    #[test]
    fn text_without_a_word_is_no_query() {
        for text in ["", "  ", "\"\"", "*-()^:", "\0", "…—"] {
            assert_eq!(any_of_the_words(text), None, "{text:?}");
        }
    }
}
