//! The vectors in memory: a usearch graph, and which chunks belong to which document. Knows neither SQLite nor files.
//! Nothing here is the truth; when in doubt it is thrown away and built anew.

use std::collections::HashMap;

use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::error::{Result, StoreError};
use super::vector_search::Hit;

/// Up to so many allowed vectors are compared one by one; the graph is for more.
pub(super) const MAX_EXACT: usize = 20_000;
/// Graph parameters: neighbours of a node, and how many candidates building and searching keep.
const CONNECTIVITY: usize = 16;
const EXPANSION_ADD: usize = 128;
const EXPANSION_SEARCH: usize = 256;
/// Contexts that usearch prepares; above the number of threads that ever search or add at a time.
const NUM_CONTEXTS: usize = 16;
/// Fewer vectors are added on the calling thread.
const MIN_PARALLEL_ADD: usize = 256;

/// How far in the log of vector changes the index is. `seq` 0: before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub seq: i64,
    pub nonce: i64,
}

pub(super) struct VectorIndex {
    graph: Index,
    /// The chunks of each document, by ids.
    documents: HashMap<i64, Vec<i64>>,
    num_removed: usize,
    pub position: Position,
}

impl VectorIndex {
    pub(super) fn new(dimensions: usize) -> Result<Self> {
        Self::from_parts(new_graph(dimensions)?, HashMap::new(), Position::default())
    }

    pub(super) fn from_parts(
        graph: Index,
        documents: HashMap<i64, Vec<i64>>,
        position: Position,
    ) -> Result<Self> {
        graph
            .reserve_capacity_and_threads(graph.size().max(1), NUM_CONTEXTS)
            .map_err(failed)?;
        Ok(Self {
            graph,
            documents,
            num_removed: 0,
            position,
        })
    }

    pub(super) fn graph(&self) -> &Index {
        &self.graph
    }

    pub(super) fn documents(&self) -> &HashMap<i64, Vec<i64>> {
        &self.documents
    }

    pub(super) fn len(&self) -> usize {
        self.graph.size()
    }

    /// Whether so much was removed that searches in the graph would suffer.
    pub(super) fn is_worn(&self) -> bool {
        self.num_removed > 1_000 && self.num_removed > self.len() / 2
    }

    /// Adds vectors of chunks. They must not be in the index yet.
    pub(super) fn add(&mut self, vectors: &[ChunkVector]) -> Result<()> {
        let needed = self.graph.size() + vectors.len();
        if needed > self.graph.capacity() {
            // In large steps: reserving copies.
            let capacity = needed.max(self.graph.capacity() + self.graph.capacity() / 2);
            self.graph
                .reserve_capacity_and_threads(capacity, NUM_CONTEXTS)
                .map_err(failed)?;
        }
        let graph = &self.graph;
        let add_all = |part: &[ChunkVector]| {
            part.iter().try_for_each(|new| {
                graph
                    .add(new.chunk_id as u64, &unit(&new.vector))
                    .map_err(failed)
            })
        };
        let num_threads =
            std::thread::available_parallelism().map_or(1, |n| n.get().min(NUM_CONTEXTS / 2));
        if vectors.len() < MIN_PARALLEL_ADD || num_threads == 1 {
            add_all(vectors)?;
        } else {
            std::thread::scope(|scope| {
                let parts = vectors.chunks(vectors.len().div_ceil(num_threads));
                let adding: Vec<_> = parts
                    .map(|part| scope.spawn(move || add_all(part)))
                    .collect();
                let died = |_| {
                    Err(StoreError::VectorIndex(
                        "a thread that adds vectors panicked".to_owned(),
                    ))
                };
                adding
                    .into_iter()
                    .try_for_each(|thread| thread.join().unwrap_or_else(died))
            })?;
        }
        for new in vectors {
            self.documents
                .entry(new.document_id)
                .or_default()
                .push(new.chunk_id);
        }
        Ok(())
    }

    pub(super) fn remove_document(&mut self, document_id: i64) -> Result<()> {
        for chunk_id in self.documents.remove(&document_id).unwrap_or_default() {
            self.num_removed += self.graph.remove(chunk_id as u64).map_err(failed)?;
        }
        Ok(())
    }

    /// The `limit` chunks of the allowed documents that are most similar to `query`, best first. Exact for up to
    /// `MAX_EXACT` allowed vectors. Scores are cosine similarities.
    pub(super) fn search(&self, query: &[f32], allowed: &[i64], limit: usize) -> Result<Vec<Hit>> {
        let num_allowed: usize = allowed.iter().map(|id| self.chunks_of(id).len()).sum();
        match num_allowed {
            0..=MAX_EXACT => self.search_all(query, allowed, limit),
            _ => self.search_graph(query, allowed, limit),
        }
    }

    /// Compares every allowed vector.
    pub(super) fn search_all(
        &self,
        query: &[f32],
        allowed: &[i64],
        limit: usize,
    ) -> Result<Vec<Hit>> {
        let hits = self.score(
            &unit(query),
            allowed.iter().flat_map(|id| self.chunks_of(id)).copied(),
        )?;
        Ok(best(hits, limit))
    }

    /// Follows the graph past vectors that are not allowed; finds nearly the same as `search_all`.
    pub(super) fn search_graph(
        &self,
        query: &[f32],
        allowed: &[i64],
        limit: usize,
    ) -> Result<Vec<Hit>> {
        let query = unit(query);
        let allowed =
            ChunkSet::from_iter(allowed.iter().flat_map(|id| self.chunks_of(id)).copied());
        // usearch prepares room for as many matches as are asked for.
        let limit = limit.min(self.len());
        let found = self
            .graph
            .filtered_search(&query, limit, |key| allowed.contains(key))
            .map_err(failed)?;
        // Scored as in an exact search, so that scores do not depend on the way.
        Ok(best(
            self.score(&query, found.keys.iter().map(|key| *key as i64))?,
            limit,
        ))
    }

    fn chunks_of(&self, document_id: &i64) -> &[i64] {
        self.documents.get(document_id).map_or(&[], Vec::as_slice)
    }

    fn score(&self, query: &[f32], chunk_ids: impl Iterator<Item = i64>) -> Result<Vec<Hit>> {
        let mut vector = vec![0.0; query.len()];
        let mut hits = Vec::with_capacity(chunk_ids.size_hint().0);
        for chunk_id in chunk_ids {
            if self
                .graph
                .get(chunk_id as u64, &mut vector)
                .map_err(failed)?
                == 0
            {
                return Err(StoreError::VectorIndex(format!(
                    "chunk {chunk_id} has no vector"
                )));
            }
            hits.push(Hit {
                chunk_id,
                score: unit_dot(query, &vector),
            });
        }
        Ok(hits)
    }
}

pub(super) fn best(mut hits: Vec<Hit>, limit: usize) -> Vec<Hit> {
    let best_first = |a: &Hit, b: &Hit| {
        b.score
            .total_cmp(&a.score)
            .then(a.chunk_id.cmp(&b.chunk_id))
    };
    if hits.len() > limit {
        hits.select_nth_unstable_by(limit, best_first);
        hits.truncate(limit);
    }
    hits.sort_unstable_by(best_first);
    hits
}

pub(super) fn new_graph(dimensions: usize) -> Result<Index> {
    let options = IndexOptions {
        dimensions,
        metric: MetricKind::Cos,
        quantization: ScalarKind::F32,
        connectivity: CONNECTIVITY,
        expansion_add: EXPANSION_ADD,
        expansion_search: EXPANSION_SEARCH,
        multi: false,
    };
    let graph = Index::new(&options).map_err(failed)?;
    graph
        .reserve_capacity_and_threads(1, NUM_CONTEXTS)
        .map_err(failed)?;
    Ok(graph)
}

pub(super) struct ChunkVector {
    pub document_id: i64,
    pub chunk_id: i64,
    pub vector: Vec<f32>,
}

/// Chunk ids as bits: they are dense enough, and looking one up cannot fail or panic inside usearch.
struct ChunkSet {
    words: Vec<u64>,
}

impl FromIterator<i64> for ChunkSet {
    fn from_iter<I: IntoIterator<Item = i64>>(chunk_ids: I) -> Self {
        let mut words = Vec::new();
        for id in chunk_ids {
            let word = (id as u64 / 64) as usize;
            if word >= words.len() {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (id as u64 % 64);
        }
        Self { words }
    }
}

impl ChunkSet {
    fn contains(&self, key: u64) -> bool {
        self.words
            .get((key / 64) as usize)
            .is_some_and(|word| word >> (key % 64) & 1 == 1)
    }
}

/// Whether a cosine with `vector` is defined.
pub(super) fn has_direction(vector: &[f32]) -> bool {
    let length = dot(vector, vector);
    length.is_finite() && length > 0.0
}

pub(super) fn vector_to_bytes(vector: &[f32]) -> Vec<u8> {
    vector
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

pub(super) fn vector_from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect()
}

pub(super) fn unit(vector: &[f32]) -> Vec<f32> {
    let length = dot(vector, vector).sqrt();
    vector.iter().map(|value| value / length).collect()
}

/// The cosine similarity of two vectors of length 1.
pub(super) fn unit_dot(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b).clamp(-1.0, 1.0)
}

/// Several sums side by side, so that the compiler can use vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::VectorIndex(error.to_string())
}
