//! Finds the passages that a question is about: by meaning and by words, fused. What the caller may see is decided
//! inside the search, by its scope.

mod candidates;
mod diversity;
mod explain;
mod join;
mod options;
mod rerank;
mod shorten;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use candidates::{Candidate, Search, Searched, candidates};
use diversity::diverse;
use explain::ms_since;
use join::{Group, grouped, joined};
use shorten::shorten_all;

use crate::embedding::{EmbeddingError, InputKind, Priority};
use crate::rag::Workspace;
use crate::rag::duplicates::Shingles;
use crate::rag::sentence::content_words;
use crate::store::{ChunkRecord, SearchScope, StoreError};

pub use explain::{Explanation, Joined, Place, Timings};
pub use options::{Fusion, Ranker, RetrieveOptions, Weights};
pub use rerank::Reranking;

/// Candidates taken from each kind of search for every passage that is wanted.
const CANDIDATES_PER_PASSAGE: usize = 8;
/// Candidates of one search in all.
const MAX_CANDIDATES: usize = 800;
/// Passages that a diverse one is chosen from.
const CANDIDATES_PER_DIVERSE_PASSAGE: usize = 4;
/// Chunks that are looked at for each passage where neighbours are joined.
const CHUNKS_PER_JOINED_PASSAGE: usize = 2;
/// Searches until the documents keep still.
const MAX_SEARCHES: usize = 4;
/// Share of the question's words that makes a passage relevant by its words alone.
const MIN_WORD_COVERAGE: f32 = 0.6;

/// A passage that was found.
#[derive(Debug, Clone)]
pub struct Passage {
    /// From 1, as it is cited.
    pub number: usize,
    /// From 0 to 1: what the cross-encoder says where one has read it, else what both kinds of search say together.
    pub score: f32,
    /// Cosine similarity to the question; `None` in a search that asks for words only.
    pub similarity: Option<f32>,
    /// BM25 of the question's words, as a share of the most that it could be; 0 when none was found.
    pub words: f32,
    /// Where neighbours were joined, all of them: with the id of the best, and the span and text of all.
    pub chunk: ChunkRecord,
    /// How it came to its place, where that was asked for.
    pub explanation: Option<Arc<Explanation>>,
}

impl Passage {
    /// One that is shown without having been searched for.
    pub fn shown(number: usize, chunk: ChunkRecord) -> Self {
        Self {
            number,
            score: 1.0,
            similarity: None,
            words: 0.0,
            chunk,
            explanation: None,
        }
    }
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
    /// How well the best passage fits, from 0 to 1, where a cross-encoder has read it.
    pub relevance: Option<f32>,
    /// What did not go as it should, in sentences.
    pub notes: Vec<String>,
    pub timings: Timings,
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

/// The passages within `scope` for `queries`, best first.
pub async fn retrieve(
    workspace: &Workspace,
    queries: &[String],
    scope: &SearchScope,
    options: &RetrieveOptions,
) -> Result<Retrieved, RetrieveError> {
    let begun = Instant::now();
    let mut timings = Timings::default();
    let embedder = workspace
        .embedder
        .as_ref()
        .ok_or(RetrieveError::NoEmbedder)?;
    let queries = shorten_all(queries, embedder).await?;
    let embedded = embedder
        .embed(queries.clone(), InputKind::Query, Priority::Interactive)
        .await?;
    timings.embedding_ms = ms_since(begun);

    let model = workspace.reranking.model(&options.ranker);
    let num_wanted = num_wanted(options, model.map(|_| workspace.reranking.num_candidates));
    let search = Search {
        scope,
        options,
        limit: (num_wanted * CANDIDATES_PER_PASSAGE).clamp(50, MAX_CANDIDATES),
    };
    let mut read = Instant::now();
    let mut ranked = Vec::new();
    for _ in 0..MAX_SEARCHES {
        let found = found(
            workspace,
            &search,
            &queries,
            &embedded.vectors,
            &mut timings,
        )
        .await?;
        read = Instant::now();
        let is_complete;
        (ranked, is_complete) = distinct(workspace, ranking(found, options), num_wanted).await?;
        // A document whose chunks were changed for new ones between finding and reading is found anew.
        if is_complete {
            break;
        }
    }
    timings.reading_ms = ms_since(read);

    let mut notes = Vec::new();
    if let Some(model) = model {
        let reranked = Instant::now();
        notes.extend(rerank(workspace, model, &queries, &mut ranked).await.err());
        timings.reranking_ms = ms_since(reranked);
    }
    let relevances = ranked.iter().filter_map(|it| it.rerank_score);
    let relevance = relevances.reduce(f32::max);
    if options.diversity > 0.0 {
        let diversified = Instant::now();
        ranked = diversified_by(workspace, ranked, options).await?;
        timings.diversity_ms = ms_since(diversified);
    }
    let joined = Instant::now();
    let passages = passages(workspace, ranked, options).await?;
    timings.joining_ms = ms_since(joined);

    let is_relevant = is_relevant(&queries, &passages, workspace.min_similarity);
    timings.total_ms = ms_since(begun);
    Ok(Retrieved {
        passages,
        is_relevant,
        queries,
        query_vectors: embedded.vectors,
        relevance,
        notes,
        timings,
    })
}

/// What is found for all queries, by the embedder of now and by those before it.
async fn found(
    workspace: &Workspace,
    search: &Search<'_>,
    queries: &[String],
    vectors: &[Vec<f32>],
    timings: &mut Timings,
) -> Result<HashMap<i64, Candidate>, RetrieveError> {
    let mut found = HashMap::new();
    let mut keep = |candidates: HashMap<i64, Candidate>| {
        for (id, candidate) in candidates {
            let best: &mut Candidate = found.entry(id).or_default();
            *best = std::mem::take(best).better(candidate, search.options);
        }
    };
    for (query, vector) in queries.iter().zip(vectors) {
        let searched = Searched {
            store: &workspace.store,
            vector: Some(vector),
            rescale: &|similarity| similarity,
        };
        keep(candidates(search, &searched, query, timings).await?);
    }
    for model in workspace.earlier.in_use(&workspace.store).await? {
        let embedded = match &model.embedder {
            Some(embedder) => {
                let queries = shorten_all(queries, embedder).await?;
                let embedded = embedder.embed(queries, InputKind::Query, Priority::Interactive);
                embedded.await?.vectors
            }
            None => Vec::new(),
        };
        for (at, query) in queries.iter().enumerate() {
            let searched = Searched {
                store: &model.store,
                vector: embedded.get(at).map(Vec::as_slice),
                rescale: &|similarity| model.rescaled(similarity, workspace.min_similarity),
            };
            keep(candidates(search, &searched, query, timings).await?);
        }
    }
    Ok(found)
}

/// `passages` as if a search for `query` had found them.
pub async fn as_if_found(
    workspace: &Workspace,
    query: &str,
    passages: Vec<Passage>,
) -> Result<Retrieved, RetrieveError> {
    let embedder = workspace
        .embedder
        .as_ref()
        .ok_or(RetrieveError::NoEmbedder)?;
    let queries = shorten_all(&[query.to_owned()], embedder).await?;
    let embedded = embedder
        .embed(queries.clone(), InputKind::Query, Priority::Interactive)
        .await?;
    Ok(Retrieved {
        passages,
        is_relevant: true,
        queries,
        query_vectors: embedded.vectors,
        relevance: None,
        notes: Vec::new(),
        timings: Timings::default(),
    })
}

/// Different passages to read the text of: more than are shown where later stages choose among them.
fn num_wanted(options: &RetrieveOptions, num_reranked: Option<usize>) -> usize {
    let top_k = options.top_k;
    let by_reranking = num_reranked.unwrap_or(0);
    let by_diversity = match options.diversity > 0.0 {
        true => top_k * CANDIDATES_PER_DIVERSE_PASSAGE,
        false => 0,
    };
    let by_joining = options
        .neighbors
        .map_or(0, |_| top_k * CHUNKS_PER_JOINED_PASSAGE);
    top_k.max(by_reranking).max(by_diversity).max(by_joining)
}

/// A chunk on its way to be shown.
struct Ranked {
    chunk: ChunkRecord,
    candidate: Candidate,
    score: f32,
    fused_score: f32,
    fused_rank: usize,
    rerank_score: Option<f32>,
    diversity_score: Option<f32>,
    duplicates: Vec<Place>,
}

/// What was found, best first.
fn ranking(
    found: HashMap<i64, Candidate>,
    options: &RetrieveOptions,
) -> Vec<(i64, f32, Candidate)> {
    let mut ranking: Vec<(i64, f32, Candidate)> = found
        .into_iter()
        .map(|(id, candidate)| (id, candidate.score(options), candidate))
        .collect();
    // Ties go to the older passage.
    ranking.sort_by(|(a, left, _), (b, right, _)| right.total_cmp(left).then(a.cmp(b)));
    ranking
}

/// The first `limit` of the ranking that say something that none before them has said, and whether all of the ranking was
/// still there.
async fn distinct(
    workspace: &Workspace,
    ranking: Vec<(i64, f32, Candidate)>,
    limit: usize,
) -> Result<(Vec<Ranked>, bool), RetrieveError> {
    // All of them, since what is said many times is shown once.
    let ids: Vec<i64> = ranking.iter().map(|(id, ..)| *id).collect();
    let num_found = ids.len();
    let chunks = workspace.store.chunks(ids).await?;
    let is_complete = chunks.len() == num_found;
    let mut places: HashMap<i64, (usize, f32, Candidate)> = ranking
        .into_iter()
        .zip(1..)
        .map(|((id, score, candidate), rank)| (id, (rank, score, candidate)))
        .collect();
    let choose = move || {
        let mut shown: Vec<(Shingles, usize)> = Vec::new();
        let mut ranked: Vec<Ranked> = Vec::new();
        for chunk in chunks {
            let shingles = Shingles::of(&chunk.text);
            let known = shown.iter().find(|(other, _)| other.is_near(&shingles));
            if let Some((_, place)) = known {
                let place = *place;
                ranked[place].duplicates.push(Place::of(&chunk));
                shown.push((shingles, place));
                continue;
            }
            if ranked.len() == limit {
                break;
            }
            let Some((fused_rank, fused_score, candidate)) = places.remove(&chunk.id) else {
                continue;
            };
            shown.push((shingles, ranked.len()));
            ranked.push(Ranked {
                chunk,
                candidate,
                score: fused_score,
                fused_score,
                fused_rank,
                rerank_score: None,
                diversity_score: None,
                duplicates: Vec::new(),
            });
        }
        ranked
    };
    let ranked = tokio::task::spawn_blocking(choose).await;
    let ranked = ranked.map_err(|error| StoreError::Panicked(error.to_string()))?;
    Ok((ranked, is_complete))
}

/// Orders what was found by what the cross-encoder says of it. On an error, which says why, the order stays.
async fn rerank(
    workspace: &Workspace,
    model: &str,
    queries: &[String],
    ranked: &mut [Ranked],
) -> Result<(), String> {
    if ranked.is_empty() {
        return Ok(());
    }
    let chunks: Vec<&ChunkRecord> = ranked.iter().map(|it| &it.chunk).collect();
    let relevances = rerank::relevances(workspace, model, queries, &chunks)
        .await
        .inspect_err(|note| tracing::warn!("{note}"))?;
    for (ranked, relevance) in ranked.iter_mut().zip(relevances) {
        ranked.rerank_score = Some(relevance);
        ranked.score = relevance;
    }
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(())
}

async fn diversified_by(
    workspace: &Workspace,
    ranked: Vec<Ranked>,
    options: &RetrieveOptions,
) -> Result<Vec<Ranked>, RetrieveError> {
    let ids = ranked.iter().map(|it| it.chunk.id).collect();
    let mut vectors = workspace.store.chunk_vectors(ids).await?;
    let vectors: Vec<_> = ranked
        .iter()
        .map(|it| vectors.remove(&it.chunk.id))
        .collect();
    let relevances: Vec<f32> = ranked.iter().map(|it| it.score).collect();
    let mut left: Vec<Option<Ranked>> = ranked.into_iter().map(Some).collect();
    let chosen = diverse(&relevances, &vectors, options.diversity, left.len());
    let in_order = chosen.into_iter().filter_map(|(at, worth)| {
        let mut ranked = left[at].take()?;
        ranked.diversity_score = Some(worth);
        Some(ranked)
    });
    Ok(in_order.collect())
}

/// The passages as they are shown, numbered.
async fn passages(
    workspace: &Workspace,
    ranked: Vec<Ranked>,
    options: &RetrieveOptions,
) -> Result<Vec<Passage>, RetrieveError> {
    let chunks: Vec<ChunkRecord> = ranked.iter().map(|it| it.chunk.clone()).collect();
    let groups = match options.neighbors {
        Some(neighbors) => grouped(&chunks, neighbors as u32, options.top_k),
        None => (0..chunks.len().min(options.top_k))
            .map(|at| Group {
                members: vec![at],
                ordinals: chunks[at].ordinal..chunks[at].ordinal + 1,
            })
            .collect(),
    };
    let mut passages = Vec::new();
    for (group, number) in groups.into_iter().zip(1..) {
        let best = &ranked[group.members[0]];
        let (chunk, parts) = joined(&workspace.store, &best.chunk, group.ordinals).await?;
        let explanation = options.explains.then(|| {
            let others = parts.iter().filter(|part| part.id != best.chunk.id);
            let joined = others.map(|part| Joined {
                span: part.span.clone(),
                fused_rank: group
                    .members
                    .iter()
                    .find(|at| ranked[**at].chunk.id == part.id)
                    .map(|at| ranked[*at].fused_rank),
            });
            Arc::new(best.explanation(joined.collect()))
        });
        passages.push(Passage {
            number,
            score: best.score,
            similarity: best.candidate.similarity,
            words: best.candidate.words,
            chunk,
            explanation,
        });
    }
    Ok(passages)
}

impl Ranked {
    fn explanation(&self, joined: Vec<Joined>) -> Explanation {
        Explanation {
            similarity_rank: self.candidate.similarity_rank,
            words_rank: self.candidate.words_rank,
            matched_words: self.candidate.matched.clone(),
            fused_score: self.fused_score,
            fused_rank: self.fused_rank,
            rerank_score: self.rerank_score,
            diversity_score: self.diversity_score,
            duplicates: self.duplicates.clone(),
            joined,
        }
    }
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
