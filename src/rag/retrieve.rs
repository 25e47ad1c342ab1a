//! Finds the passages that a question is about: by meaning and by words, fused. What the caller may see is decided
//! inside the search, by its scope.

use std::collections::{HashMap, HashSet};

use crate::embedding::{Embedder, EmbeddingError, InputKind, Priority};
use crate::rag::Workspace;
use crate::rag::sentence::content_words;
use crate::store::{ChunkRecord, Hit, SearchScope, StoreError};

/// The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009).
const RANK_CONSTANT: f32 = 60.0;
/// Candidates taken from each kind of search for every passage that is wanted.
const CANDIDATES_PER_PASSAGE: usize = 8;
/// Share of the question's words that makes a passage relevant by its words alone.
const MIN_WORD_COVERAGE: f32 = 0.6;

/// How much each kind of search counts. What counts 0 finds nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    pub meaning: f32,
    pub words: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            meaning: 1.0,
            words: 1.0,
        }
    }
}

/// A passage that was found.
#[derive(Debug, Clone)]
pub struct Passage {
    /// From 1, as it is cited.
    pub number: usize,
    /// From 0 to 1; 1 is first in every kind of search.
    pub score: f32,
    /// Cosine similarity to the question; `None` when only its words were found.
    pub similarity: Option<f32>,
    pub chunk: ChunkRecord,
}

/// What a search gave.
#[derive(Debug, Clone)]
pub struct Retrieved {
    pub passages: Vec<Passage>,
    /// Whether anything found bears on the question at all.
    pub is_relevant: bool,
    /// What was searched for: the queries, shortened where one is longer than the embedder reads.
    pub queries: Vec<String>,
    /// The embedding of each query.
    pub query_vectors: Vec<Vec<f32>>,
}

impl Retrieved {
    /// The passages, unless none of them bears on the question.
    pub fn relevant(&self) -> &[Passage] {
        match self.is_relevant {
            true => &self.passages,
            false => &[],
        }
    }
}

/// Why a search failed.
#[derive(Debug, thiserror::Error)]
pub enum RetrieveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    #[error(
        "no embedding model is loaded, so documents cannot be searched; pull one with: inglenook models pull bge-small-en-v1.5"
    )]
    NoEmbedder,
}

/// The `top_k` passages within `scope` for `queries`, best first.
pub async fn retrieve(
    workspace: &Workspace,
    queries: &[String],
    scope: &SearchScope,
    top_k: usize,
    weights: Weights,
) -> Result<Retrieved, RetrieveError> {
    let embedder = workspace
        .embedder
        .as_ref()
        .ok_or(RetrieveError::NoEmbedder)?;
    let num_candidates = (top_k * CANDIDATES_PER_PASSAGE).max(50);
    let queries = shorten_all(queries, embedder).await?;
    let embedded = embedder
        .embed(queries.clone(), InputKind::Query, Priority::Interactive)
        .await?;

    let mut rankings = Vec::new();
    let mut similarities: HashMap<i64, f32> = HashMap::new();
    for (query, vector) in queries.iter().zip(&embedded.vectors) {
        let by_meaning = workspace
            .store
            .vector_search(vector.clone(), scope.clone(), num_candidates)
            .await?;
        let by_words = workspace
            .store
            .keyword_search(query, scope.clone(), num_candidates)
            .await?;
        for hit in &by_meaning {
            let best = similarities.entry(hit.chunk_id).or_insert(hit.score);
            *best = best.max(hit.score);
        }
        rankings.push((weights.meaning, by_meaning));
        rankings.push((weights.words, by_words));
    }
    let fused = fuse(&rankings);
    // Some more than asked for, since equal texts are shown once.
    let ids: Vec<i64> = fused.iter().take(top_k * 2).map(|(id, _)| *id).collect();
    let scores: HashMap<i64, f32> = fused.into_iter().collect();
    let mut seen = HashSet::new();
    let chunks = workspace.store.chunks(ids).await?;
    let distinct = chunks
        .into_iter()
        .filter(|chunk| seen.insert(chunk.text.clone()))
        .take(top_k);
    let passages: Vec<Passage> = distinct
        .enumerate()
        .map(|(at, chunk)| Passage {
            number: at + 1,
            score: scores.get(&chunk.id).copied().unwrap_or(0.0),
            similarity: similarities.get(&chunk.id).copied(),
            chunk,
        })
        .collect();
    let is_relevant = is_relevant(&queries, &passages, workspace.min_similarity);
    Ok(Retrieved {
        passages,
        is_relevant,
        queries,
        query_vectors: embedded.vectors,
    })
}

/// Weighted reciprocal rank fusion of several rankings, scaled so that first place in all of them is 1. Ties go to the
/// older passage.
fn fuse(rankings: &[(f32, Vec<Hit>)]) -> Vec<(i64, f32)> {
    let mut scores: HashMap<i64, f32> = HashMap::new();
    for (weight, ranking) in rankings.iter().filter(|(weight, _)| *weight > 0.0) {
        for (rank, hit) in ranking.iter().enumerate() {
            *scores.entry(hit.chunk_id).or_default() +=
                weight / (RANK_CONSTANT + 1.0 + rank as f32);
        }
    }
    let total: f32 = rankings.iter().map(|(weight, _)| weight).sum();
    let best_possible = total.max(f32::MIN_POSITIVE) / (RANK_CONSTANT + 1.0);
    let mut fused: Vec<(i64, f32)> = scores
        .into_iter()
        .map(|(id, score)| (id, score / best_possible))
        .collect();
    fused.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    fused
}

/// A question bears on the documents when one passage is close in meaning, or has most of its words.
fn is_relevant(queries: &[String], passages: &[Passage], min_similarity: f32) -> bool {
    let close = |passage: &Passage| {
        passage
            .similarity
            .is_some_and(|value| value >= min_similarity)
    };
    if passages.iter().any(close) {
        return true;
    }
    queries.iter().any(|query| {
        let wanted: HashSet<String> = content_words(query).collect();
        wanted.len() >= 2
            && passages.iter().any(|passage| {
                let found: HashSet<String> = content_words(&passage.chunk.text).collect();
                wanted.intersection(&found).count() as f32
                    >= MIN_WORD_COVERAGE * wanted.len() as f32
            })
    })
}

/// Counts tokens, and so works away from the threads that serve.
async fn shorten_all(
    queries: &[String],
    embedder: &Embedder,
) -> Result<Vec<String>, RetrieveError> {
    let (queries, embedder) = (queries.to_vec(), embedder.clone());
    let work = move || {
        queries
            .iter()
            .map(|query| shortened(query, &embedder))
            .collect()
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| EmbeddingError::Stopped.into())
}

/// A question longer than the embedder's window is searched by its end, where the question itself usually stands. Only
/// the search sees the shorter text; the prompt keeps the whole.
fn shortened(query: &str, embedder: &Embedder) -> String {
    let limit = embedder.max_query_tokens();
    if embedder.count_tokens(query) <= limit {
        return query.to_string();
    }
    let starts: Vec<usize> = query.char_indices().map(|(at, _)| at).collect();
    let fits = |start: usize| embedder.count_tokens(&query[start..]) <= limit;
    // The first character from which on everything fits.
    let first = starts.partition_point(|start| !fits(*start));
    let rest = starts.get(first).map_or("", |start| &query[*start..]);
    // Not from the middle of a word, where there are words.
    match rest
        .find(char::is_whitespace)
        .filter(|at| *at * 2 < rest.len())
    {
        Some(blank) => rest[blank..].trim_start().to_string(),
        None => rest.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(ids: &[i64]) -> Vec<Hit> {
        ids.iter()
            .map(|id| Hit {
                chunk_id: *id,
                score: 0.5,
            })
            .collect()
    }

    #[test]
    fn what_both_searches_find_comes_first() {
        let fused = fuse(&[(1.0, ranking(&[1, 2, 3])), (1.0, ranking(&[3, 4]))]);
        assert_eq!(
            fused.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            [3, 1, 2, 4]
        );
        let alone = fuse(&[(0.3, ranking(&[7])), (0.7, ranking(&[7]))]);
        assert!((alone[0].1 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_search_that_counts_nothing_finds_nothing() {
        let fused = fuse(&[(0.0, ranking(&[1, 2])), (2.0, ranking(&[3, 2]))]);
        assert_eq!(fused.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 2]);
        assert!((fused[0].1 - 1.0).abs() < 1e-6);
    }
}
