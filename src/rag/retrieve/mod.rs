//! Finds the passages that a question is about: by meaning and by words, fused. What the caller may see is decided
//! inside the search, by its scope.

use std::collections::{HashMap, HashSet};

use crate::embedding::{Embedder, EmbeddingError, InputKind, Priority};
use crate::rag::Workspace;
use crate::rag::duplicates::Shingles;
use crate::rag::sentence::content_words;
use crate::store::{ChunkRecord, SearchScope, StoreError};

/// Candidates taken from each kind of search for every passage that is wanted.
const CANDIDATES_PER_PASSAGE: usize = 8;
/// Share of the question's words that makes a passage relevant by its words alone.
const MIN_WORD_COVERAGE: f32 = 0.6;

/// A token of a question that has more bytes than this is no word.
const MAX_BYTES_PER_TOKEN: usize = 64;

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
    /// From 0 to 1: the weighted mean of what both kinds of search say.
    pub score: f32,
    /// Cosine similarity to the question; `None` in a search that asks for words only.
    pub similarity: Option<f32>,
    /// BM25 of the question's words, as a share of the most that it could be; 0 when none was found.
    pub words: f32,
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

    let mut found = HashMap::new();
    for (query, vector) in queries.iter().zip(&embedded.vectors) {
        let candidates = candidates(workspace, query, vector, scope, num_candidates, weights);
        for (id, candidate) in candidates.await? {
            let best: &mut Candidate = found.entry(id).or_default();
            *best = best.better(candidate, weights);
        }
    }
    let mut ranking: Vec<(i64, Candidate)> = found.into_iter().collect();
    // Ties go to the older passage.
    ranking.sort_by(|(a, left), (b, right)| {
        let (left, right) = (left.score(weights), right.score(weights));
        right.total_cmp(&left).then(a.cmp(b))
    });
    // All of them, since what is said many times is shown once.
    let ids = ranking.iter().map(|(id, _)| *id).collect();
    let ranked: HashMap<i64, Candidate> = ranking.into_iter().collect();
    let chunks = workspace.store.chunks(ids).await?;
    let distinct = move || distinct(chunks).take(top_k).collect::<Vec<_>>();
    let distinct = tokio::task::spawn_blocking(distinct).await;
    let distinct = distinct.map_err(|error| StoreError::Panicked(error.to_string()))?;
    let passages: Vec<Passage> = distinct
        .into_iter()
        .enumerate()
        .map(|(at, chunk)| {
            let candidate = ranked[&chunk.id];
            Passage {
                number: at + 1,
                score: candidate.score(weights),
                similarity: candidate.similarity,
                words: candidate.words,
                chunk,
            }
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

/// The chunks that say something that none before them has said.
fn distinct(chunks: Vec<ChunkRecord>) -> impl Iterator<Item = ChunkRecord> {
    let mut shown: Vec<Shingles> = Vec::new();
    chunks.into_iter().filter(move |chunk| {
        let shingles = Shingles::of(&chunk.text);
        let is_new = !shown.iter().any(|other| other.is_near(&shingles));
        shown.push(shingles);
        is_new
    })
}

/// What both kinds of search say of a chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Candidate {
    similarity: Option<f32>,
    words: f32,
}

impl Candidate {
    /// Both are shares of the most that there can be, so that their mean says how well a passage fits, whatever else was
    /// found: a convex combination finds more than reciprocal ranks, which forget by how much one is better (Bruch, Gai
    /// and Ingber, 2023; `tests/retrieval.rs` measures it).
    fn score(&self, weights: Weights) -> f32 {
        let meaning = self.similarity.unwrap_or(0.0).max(0.0);
        let total = (weights.meaning + weights.words).max(f32::MIN_POSITIVE);
        (weights.meaning * meaning + weights.words * self.words) / total
    }

    fn better(self, other: Self, weights: Weights) -> Self {
        match self.score(weights) >= other.score(weights) {
            true => self,
            false => other,
        }
    }
}

/// What either search finds for one query, each with what both say of it.
async fn candidates(
    workspace: &Workspace,
    query: &str,
    vector: &[f32],
    scope: &SearchScope,
    limit: usize,
    weights: Weights,
) -> Result<HashMap<i64, Candidate>, RetrieveError> {
    let store = &workspace.store;
    let mut found: HashMap<i64, Candidate> = HashMap::new();
    if weights.words > 0.0 {
        for hit in store.keyword_search(query, scope.clone(), limit).await? {
            found.entry(hit.chunk_id).or_default().words = hit.score;
        }
    }
    if weights.meaning > 0.0 {
        let vector = vector.to_vec();
        let near = store.vector_search(vector.clone(), scope.clone(), limit);
        let near = near.await?;
        let is_near: HashSet<i64> = near.iter().map(|hit| hit.chunk_id).collect();
        let others = found.keys().filter(|id| !is_near.contains(id)).copied();
        let others = store.similarities(vector, others.collect()).await?;
        for hit in near.into_iter().chain(others) {
            found.entry(hit.chunk_id).or_default().similarity = Some(hit.score);
        }
    }
    Ok(found)
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
    // Whatever stands farther from the end has no place among that many tokens.
    let mut start = query.len().saturating_sub(limit * MAX_BYTES_PER_TOKEN);
    while !query.is_char_boundary(start) {
        start += 1;
    }
    let query = &query[start..];
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

    fn candidate(similarity: Option<f32>, words: f32) -> Candidate {
        Candidate { similarity, words }
    }

    #[test]
    fn a_score_is_the_weighted_mean_of_what_both_searches_say() {
        let both = candidate(Some(0.8), 0.4);
        assert!((both.score(Weights::default()) - 0.6).abs() < 1e-6);
        let [meaning, words] =
            [[3.0, 0.0], [0.0, 2.0]].map(|[meaning, words]| Weights { meaning, words });
        assert!((both.score(meaning) - 0.8).abs() < 1e-6);
        assert!((both.score(words) - 0.4).abs() < 1e-6);
    }

    #[test]
    fn what_points_away_counts_as_nothing() {
        let away = candidate(Some(-0.5), 0.5);
        assert!((away.score(Weights::default()) - 0.25).abs() < 1e-6);
    }
}
