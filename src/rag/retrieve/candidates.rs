//! What both kinds of search find for a query, and what they say of it together.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::explain::{Timings, ms_since};
use super::{Fusion, RetrieveError, RetrieveOptions, Weights};
use crate::store::{SearchScope, Store};

/// Damps the difference between the first ranks, as its authors found best.
const RANK_DAMPING: f32 = 60.0;

/// What both kinds of search say of a chunk.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Candidate {
    pub similarity: Option<f32>,
    pub words: f32,
    /// From 1, by either search alone.
    pub similarity_rank: Option<usize>,
    pub words_rank: Option<usize>,
    /// Words of the query that the chunk has.
    pub matched: Vec<String>,
}

impl Candidate {
    /// From 0 to 1.
    pub fn score(&self, options: &RetrieveOptions) -> f32 {
        let Weights { meaning, words } = options.weights;
        let total = (meaning + words).max(f32::MIN_POSITIVE);
        let (by_meaning, by_words) = match options.fusion {
            Fusion::Weighted => (self.similarity.unwrap_or(0.0).max(0.0), self.words),
            Fusion::ReciprocalRank => (
                reciprocal(self.similarity_rank),
                reciprocal(self.words_rank),
            ),
        };
        (meaning * by_meaning + words * by_words) / total
    }

    pub fn better(self, other: Self, options: &RetrieveOptions) -> Self {
        match self.score(options) >= other.score(options) {
            true => self,
            false => other,
        }
    }
}

/// As a share of that of the first rank.
fn reciprocal(rank: Option<usize>) -> f32 {
    rank.map_or(0.0, |rank| {
        (RANK_DAMPING + 1.0) / (RANK_DAMPING + rank as f32)
    })
}

/// What is searched: what one embedder made the vectors of.
pub(super) struct Searched<'a> {
    pub store: &'a Store,
    /// The query by that embedder; without it only words are searched for.
    pub vector: Option<&'a [f32]>,
    /// Similarities as they compare with those of the embedder of now.
    pub rescale: &'a (dyn Fn(f32) -> f32 + Sync),
}

/// Where and how both searches look.
pub(super) struct Search<'a> {
    pub scope: &'a SearchScope,
    pub options: &'a RetrieveOptions,
    /// Chunks that either search finds at most.
    pub limit: usize,
}

/// What either search finds for one query, each with what both say of it.
pub(super) async fn candidates(
    search: &Search<'_>,
    searched: &Searched<'_>,
    query: &str,
    timings: &mut Timings,
) -> Result<HashMap<i64, Candidate>, RetrieveError> {
    let Search {
        scope,
        options,
        limit,
    } = *search;
    let store = searched.store;
    let mut found: HashMap<i64, Candidate> = HashMap::new();
    let begun = Instant::now();
    if options.weights.words > 0.0 {
        let hits = store.keyword_search(query, scope.clone(), limit).await?;
        for (hit, rank) in hits.into_iter().zip(1..) {
            let candidate = found.entry(hit.chunk_id).or_default();
            candidate.words = hit.score;
            candidate.words_rank = Some(rank);
            candidate.matched = hit.words;
        }
    }
    timings.words_ms += ms_since(begun);
    let begun = Instant::now();
    if options.weights.meaning > 0.0
        && let Some(vector) = searched.vector
    {
        let vector = vector.to_vec();
        let near = store.vector_search(vector.clone(), scope.clone(), limit);
        let near = near.await?;
        let is_near: HashSet<i64> = near.iter().map(|hit| hit.chunk_id).collect();
        let others = found.keys().filter(|id| !is_near.contains(id)).copied();
        let others = store.similarities(vector, others.collect()).await?;
        for (hit, rank) in near.iter().zip(1..) {
            let candidate = found.entry(hit.chunk_id).or_default();
            candidate.similarity_rank = Some(rank);
        }
        for hit in near.into_iter().chain(others) {
            let similarity = (searched.rescale)(hit.score);
            found.entry(hit.chunk_id).or_default().similarity = Some(similarity);
        }
    }
    timings.meaning_ms += ms_since(begun);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(meaning: f32, words: f32) -> RetrieveOptions {
        RetrieveOptions {
            weights: Weights { meaning, words },
            ..RetrieveOptions::default()
        }
    }

    fn candidate(similarity: Option<f32>, words: f32) -> Candidate {
        Candidate {
            similarity,
            words,
            ..Candidate::default()
        }
    }

    #[test]
    fn a_score_is_the_weighted_mean_of_what_both_searches_say() {
        let both = candidate(Some(0.8), 0.4);
        assert!((both.score(&options(1.0, 1.0)) - 0.6).abs() < 1e-6);
        assert!((both.score(&RetrieveOptions::default()) - 0.6).abs() < 1e-6);
        assert!((both.score(&options(3.0, 0.0)) - 0.8).abs() < 1e-6);
        assert!((both.score(&options(0.0, 2.0)) - 0.4).abs() < 1e-6);
        let alpha = RetrieveOptions {
            weights: Weights::from_alpha(0.75),
            ..RetrieveOptions::default()
        };
        assert!((both.score(&alpha) - 0.7).abs() < 1e-6);
    }

    #[test]
    fn what_points_away_counts_as_nothing() {
        let away = candidate(Some(-0.5), 0.5);
        assert!((away.score(&options(1.0, 1.0)) - 0.25).abs() < 1e-6);
    }

    #[test]
    fn reciprocal_ranks_forget_scores_and_reach_from_0_to_1() {
        let fused = |similarity_rank, words_rank| {
            let candidate = Candidate {
                similarity_rank,
                words_rank,
                ..candidate(Some(0.1), 0.9)
            };
            let options = RetrieveOptions {
                fusion: Fusion::ReciprocalRank,
                ..RetrieveOptions::default()
            };
            candidate.score(&options)
        };
        assert_eq!(fused(Some(1), Some(1)), 1.0);
        assert_eq!(fused(Some(1), None), 0.5);
        assert_eq!(fused(None, None), 0.0);
        assert!(fused(Some(2), Some(3)) > fused(Some(1), None));
    }
}
