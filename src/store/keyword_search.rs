//! Keyword search: BM25 (Robertson and Zaragoza, 2009) over the text and headings of chunks. The user's text is never read
//! as query syntax.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Transaction;

use super::Store;
use super::error::Result;
use super::scope::SearchScope;
use super::scope_cache::ScopeDocuments;
use super::word_index::{self, FREQUENCIES, Place, Totals, length_of_class};
use super::words::{Language, Wanted, wanted};

/// Distinct words of a query that are looked for; bounds the work of one search.
const MAX_WORDS: usize = 128;
/// From so many chunks on, words that most of them have are not looked for: they tell nothing apart.
const MANY_CHUNKS: i64 = 1_000;
/// Places of words that one search reads: the rarest words first, and of each word first the chunks that have it most.
const MAX_READ: i64 = 150_000;
/// BM25's k1 and b.
const K1: f64 = 1.2;
const B: f64 = 0.75;
/// A word counts at most so many times its inverse document frequency.
const MAX_SATURATION: f64 = K1 + 1.0;
/// The least inverse document frequency of a word.
const MIN_IDF: f64 = 1e-6;

/// A chunk that has words of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct WordHit {
    pub chunk_id: i64,
    /// BM25 as a share of the most that any chunk could have, from 0 to 1: near 1 has all the words, many times, and
    /// nothing else.
    pub score: f32,
    /// The words of the query that it has, as they were asked for.
    pub words: Vec<String>,
}

impl Store {
    /// Chunks that contain at least one word of `text`, best first.
    pub async fn keyword_search(
        &self,
        text: &str,
        scope: SearchScope,
        limit: usize,
    ) -> Result<Vec<WordHit>> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let allowed = scope.allowed_documents(&self.embedder().hash)?;
        let (text, parts) = (text.to_owned(), Arc::clone(&self.parts));
        let search = move |tx: &Transaction| {
            let documents = parts.scopes.documents(tx, &allowed)?;
            let words = wanted(&text, &documents.texts(tx)?.languages, MAX_WORDS);
            search(tx, &parts.word_counts, &words, &documents, limit)
        };
        self.database().search(search).await
    }

    /// In how many chunks each of `words` occurs, in any form that keyword search takes for the same word, and how many
    /// chunks there are. Counted over everything stored.
    pub async fn word_frequencies(&self, words: Vec<String>) -> Result<WordFrequencies> {
        let counts = Arc::clone(&self.parts.word_counts);
        let read = move |tx: &Transaction| {
            let sql = "SELECT DISTINCT language FROM documents";
            let languages = languages(tx.prepare_cached(sql)?.query_map([], |row| row.get(0))?)?;
            let totals = word_index::totals(tx)?;
            let count = |word: &String| {
                let counted = counted(tx, &counts, totals, &wanted(word, &languages, MAX_WORDS));
                Ok(counted?.iter().map(|word| word.num_with).sum::<i64>())
            };
            Ok(WordFrequencies {
                num_with_word: words.iter().map(count).collect::<Result<_>>()?,
                num_chunks: totals.num_chunks,
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

/// How many chunks have a term, of terms that many have: counting those anew takes longer than searching. They change
/// slowly.
#[derive(Default)]
pub(super) struct WordCounts {
    /// By query, with the number of all chunks when it was counted.
    counted: Mutex<HashMap<String, (i64, i64)>>,
}

impl WordCounts {
    /// Terms that fewer chunks have are counted anew.
    const MIN_KEPT: i64 = 5_000;
    const MAX_KEPT: usize = 20_000;

    fn of(&self, tx: &Transaction, matching: &str, num_chunks: i64) -> Result<i64> {
        let lock = || self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((num, num_then)) = lock().get(matching).copied()
            && (num_chunks - num_then).abs() * 20 <= num_then
        {
            return Ok(num);
        }
        let num = word_index::num_matching(tx, matching)?;
        if num >= Self::MIN_KEPT {
            let mut counted = lock();
            if counted.len() >= Self::MAX_KEPT {
                counted.clear();
            }
            counted.insert(matching.to_owned(), (num, num_chunks));
        }
        Ok(num)
    }
}

/// Each language once; a document that has none yet is read as English.
fn languages(
    codes: impl Iterator<Item = rusqlite::Result<Option<String>>>,
) -> Result<Vec<Language>> {
    let mut last = None;
    let mut found = Vec::new();
    for code in codes {
        let code = code?;
        if last.as_ref() == Some(&code) {
            continue;
        }
        let language = code
            .as_deref()
            .map_or(Language::ENGLISH, Language::from_code);
        if !found.contains(&language) {
            found.push(language);
        }
        last = Some(code);
    }
    Ok(found)
}

/// A word of a query, with the queries that find it.
struct CountedWord {
    num_with: i64,
    sources: Vec<Source>,
}

/// The chunks that have a word in one form, and equally often.
struct Source {
    matching: String,
    frequency: f64,
    num_chunks: i64,
}

fn counted(
    tx: &Transaction,
    counts: &WordCounts,
    totals: Totals,
    words: &[Wanted],
) -> Result<Vec<CountedWord>> {
    let count = |word: &Wanted| {
        let mut sources = Vec::new();
        for term in &word.terms {
            for (letter, frequency) in FREQUENCIES {
                let matching = word_index::matching(letter, term);
                let num_chunks = counts.of(tx, &matching, totals.num_chunks)?;
                if num_chunks > 0 {
                    sources.push(Source {
                        matching,
                        frequency,
                        num_chunks,
                    });
                }
            }
        }
        let num_with: i64 = sources.iter().map(|source| source.num_chunks).sum();
        Ok(CountedWord {
            // A chunk may have a word in two forms.
            num_with: num_with.min(totals.num_chunks),
            sources,
        })
    };
    words.iter().map(count).collect()
}

/// How much a word tells, as FTS5 weighs words.
fn idf(totals: Totals, word: &CountedWord) -> f64 {
    let (all, with) = (totals.num_chunks as f64, word.num_with as f64);
    ((all - with + 0.5) / (with + 0.5)).ln().max(MIN_IDF)
}

/// What is known of a chunk while words are read.
#[derive(Default)]
struct Found {
    score: f64,
    /// A bit for each word.
    words: u128,
}

/// Reads the places of words in the order of what they can add, so that what is left unread where there are too many adds
/// least (Anh and Moffat, 2006).
fn search(
    tx: &Transaction,
    counts: &WordCounts,
    words: &[Wanted],
    scope: &ScopeDocuments,
    limit: usize,
) -> Result<Vec<WordHit>> {
    let totals = word_index::totals(tx)?;
    let counted = counted(tx, counts, totals, words)?;
    let is_common = |word: &CountedWord| {
        totals.num_chunks >= MANY_CHUNKS && word.num_with > totals.num_chunks / 2
    };
    let are_all_common = counted.iter().all(is_common);
    let mut attainable = 0.0;
    let mut sources = Vec::new();
    for (at, word) in counted.iter().enumerate() {
        let idf = idf(totals, word);
        attainable += MAX_SATURATION * idf;
        if are_all_common || !is_common(word) {
            let ranked = word.sources.iter().map(|source| (at, idf, source));
            sources.extend(ranked);
        }
    }
    let most =
        |(_, idf, source): &(usize, f64, &Source)| idf * source.frequency / (source.frequency + K1);
    sources.sort_by(|a, b| most(b).total_cmp(&most(a)));

    let mut found: HashMap<i64, Found, BuildHasherDefault<RowHasher>> = HashMap::default();
    let documents: Vec<i64> = scope.ids.iter().collect();
    // Places of a word that are read at most: those outside of the scope are leapt over.
    let most_read = scope.texts(tx)?.num_chunks + (documents.len() * word_index::MAX_PASSED) as i64;
    let mut num_left = MAX_READ;
    for (at, idf, source) in sources {
        let num_to_read = source.num_chunks.min(most_read);
        // In part it would favour the documents that came first.
        if num_to_read > num_left && !found.is_empty() {
            continue;
        }
        let bit = 1 << at;
        num_left -= word_index::scan(tx, &source.matching, &documents, |row| {
            let chunk = found.entry(row).or_default();
            // In another form, which it has as often or more often.
            if chunk.words & bit == 0 {
                let length =
                    length_of_class(Place::of(row).length_class as f64) / totals.typical_length;
                let damping = K1 * (1.0 - B + B * length);
                let frequency = source.frequency;
                chunk.score += idf * frequency * MAX_SATURATION / (frequency + damping);
                chunk.words |= bit;
            }
        })?;
    }
    let mut ranking: Vec<(i64, Found)> = found.into_iter().collect();
    let by_score = |(a, left): &(i64, Found), (b, right): &(i64, Found)| {
        let ids = [a, b].map(|row| Place::of(*row).chunk_id);
        right.score.total_cmp(&left.score).then(ids[0].cmp(&ids[1]))
    };
    if ranking.len() > limit && limit > 0 {
        ranking.select_nth_unstable_by(limit - 1, by_score);
    }
    ranking.truncate(limit);
    ranking.sort_by(by_score);
    let hit = |(row, found): (i64, Found)| WordHit {
        chunk_id: Place::of(row).chunk_id,
        score: (found.score / attainable) as f32,
        words: (0..words.len())
            .filter(|at| found.words >> at & 1 == 1)
            .map(|at| words[at].word.clone())
            .collect(),
    };
    Ok(ranking.into_iter().map(hit).collect())
}

/// Spreads row ids, which nobody chooses so as to collide, faster than the standard hasher.
#[derive(Default)]
struct RowHasher(u64);

impl Hasher for RowHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_i64(i64::from(*byte));
        }
    }

    fn write_i64(&mut self, row: i64) {
        let mixed = (self.0 ^ row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
