//! The vectors in memory: their codes, which are compared one by one while that is quicker, and a usearch graph beyond.
//! Knows neither SQLite nor files. Nothing here is the truth; when in doubt it is thrown away and built anew.

use std::ops::Range;

use super::codes::{Code, Query};
use super::error::{Result, StoreError};
use super::finalists::Finalists;
use super::graph::{Graph, Node, Patience, VectorStorage};
use super::id_set::IdSet;
use super::vector_rows::{Run, VectorRows};
use super::vector_search::Hit;

/// Up to so many allowed vectors are always compared one by one, and an index that has no more needs no graph.
pub(super) const MAX_EXACT: usize = 20_000;
/// How many candidates a search in the graph keeps at least.
const EXPANSION_SEARCH: usize = 192;
/// Rows that are compared at a time, at most.
const PIECE: u32 = 32;
/// The graph's search is given up after so many times the work that it should take, and some.
const PATIENCE: usize = 4;
const MORE_PATIENCE: usize = 400;
/// And when near the query so many times fewer are allowed than everywhere.
const LEAST_OF_SHARE: f32 = 3.0;

/// How far in the log of vector changes the index is. `seq` 0: before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub seq: i64,
    pub nonce: i64,
}

pub(super) struct VectorIndex {
    rows: VectorRows,
    graph: Option<Graph>,
    pub position: Position,
}

/// How a search goes about it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    CompareAll,
    Graph {
        expansion: usize,
        patience: Patience,
    },
}

impl VectorIndex {
    pub(super) fn new(dimensions: usize) -> Self {
        Self::from_parts(VectorRows::new(dimensions), Position::default())
    }

    pub(super) fn from_parts(rows: VectorRows, position: Position) -> Self {
        Self {
            rows,
            graph: None,
            position,
        }
    }

    pub(super) fn rows(&self) -> &VectorRows {
        &self.rows
    }

    pub(super) fn graph(&self) -> Option<&Graph> {
        self.graph.as_ref()
    }

    /// Vectors that may be found.
    pub(super) fn len(&self) -> usize {
        self.rows.num_live()
    }

    /// Each document with the id of its first chunk and how many it has.
    pub(super) fn documents(&self) -> impl Iterator<Item = (i64, (i64, u32))> {
        self.rows.live_runs().map(|run| {
            let first = self.rows.chunk_id(run.start);
            (run.document_id.into(), (first, run.len))
        })
    }

    pub(super) fn num_documents(&self) -> usize {
        self.rows.live_runs().count()
    }

    /// Whether, without a graph, more rows are left over from what is gone than it is worth to keep.
    pub(super) fn has_idle_rows(&self) -> bool {
        self.graph.is_none() && self.rows.runs().len() > 2 * self.num_documents() + 100
    }

    /// Whether the graph that should be there is not, or is of another kind.
    pub(super) fn lacks_graph(&self, storage: VectorStorage) -> bool {
        match &self.graph {
            Some(graph) => graph.storage() != storage,
            None => self.len() > MAX_EXACT,
        }
    }

    /// Whether so many of the graph's nodes are of vectors that are gone that searches take much longer for them.
    pub(super) fn is_worn(&self) -> bool {
        let in_graph = self.rows.live_runs().filter(|run| run.is_in_graph);
        let num_alive: usize = in_graph.map(|run| run.len as usize).sum();
        let num_nodes = self.graph.as_ref().map_or(0, Graph::num_nodes);
        let num_gone = num_nodes.saturating_sub(num_alive);
        num_gone > 1_000 && num_gone > num_alive / 2
    }

    /// Adds all chunks of a document that is not there. They are found from now on, and are in the graph once it has
    /// grown.
    pub(super) fn add_document(&mut self, document_id: i64, chunks: &[ChunkVector]) -> Result<()> {
        let coded: Vec<(i64, Code)> = chunks
            .iter()
            .map(|chunk| (chunk.chunk_id, Code::of(&unit(&chunk.vector))))
            .collect();
        self.rows.add(document_id, &coded)
    }

    pub(super) fn remove_document(&mut self, document_id: i64) {
        self.rows.remove(document_id);
    }

    /// Takes another graph, or none, in the place of the one that was there.
    pub(super) fn set_graph(&mut self, graph: Option<Graph>) {
        self.rows
            .settle(graph.as_ref().map_or(&IdSet::default(), Graph::nodes));
        self.graph = graph;
    }

    /// Rows that may be found and that `graph` has no node for, at most `limit`, from `start` on.
    pub(super) fn missing_in(&self, graph: &Graph, start: u32, limit: usize) -> Vec<u32> {
        let all = start..self.rows.len() as u32;
        all.filter(|row| self.rows.is_live(*row) && !graph.nodes().contains((*row).into()))
            .take(limit)
            .collect()
    }

    /// The first document that the graph does not have whole, and how many there are in all.
    pub(super) fn outside_the_graph(&self) -> (Option<usize>, usize) {
        let mut outside = (0..)
            .zip(self.rows.runs())
            .filter(|(_, run)| !run.is_in_graph && self.rows.is_live(run.start));
        let first = outside.next();
        let rest: usize = outside.map(|(_, run)| run.len as usize).sum();
        let num_first = first.map_or(0, |(_, run)| run.len as usize);
        (first.map(|(place, _)| place), num_first + rest)
    }

    /// Adds to the graph what it lacks of the run at `place`, at most `limit` rows; `full` gives vectors by chunk ids, if
    /// the graph keeps more than codes.
    pub(super) fn grow_graph(
        &mut self,
        place: usize,
        limit: usize,
        full: impl FnOnce(&[i64]) -> Result<Vec<Vec<f32>>>,
    ) -> Result<()> {
        let Some(graph) = &mut self.graph else {
            return Ok(());
        };
        let run = self.rows.runs()[place];
        let rows: Vec<u32> = (run.start..run.start + run.len)
            .filter(|row| !graph.nodes().contains((*row).into()))
            .take(limit)
            .collect();
        let is_last = rows.len() < limit;
        add_to_graph(graph, &self.rows, &rows, full, 1)?;
        if is_last {
            self.rows.mark_in_graph(place);
        }
        Ok(())
    }

    /// The chunks among which are the `limit` most similar to `query` of the allowed documents: all of them when there
    /// are few to compare, nearly always beyond. The caller compares them exactly.
    pub(super) fn search(&self, query: &[f32], allowed: &IdSet, limit: usize) -> Result<Vec<i64>> {
        let num_nodes = self.graph.as_ref().map_or(0, Graph::num_nodes);
        let (mut num_allowed, mut num_outside) = (0, 0);
        for run in self.rows.runs() {
            if allowed.contains(run.document_id.into()) {
                num_allowed += run.len as usize;
                num_outside += if run.is_in_graph { 0 } else { run.len as usize };
            }
        }
        match way(num_allowed, num_allowed - num_outside, num_nodes, limit) {
            Way::CompareAll => Ok(self.compare_all(query, allowed, limit)),
            Way::Graph {
                expansion,
                patience,
            } => self.search_graph(query, allowed, limit, expansion, patience),
        }
    }

    /// Compares every allowed vector.
    pub(super) fn compare_all(&self, query: &[f32], allowed: &IdSet, limit: usize) -> Vec<i64> {
        let pieces = self.pieces(|run| allowed.contains(run.document_id.into()));
        let mut finalists = Finalists::new(limit);
        let query = Query::of(unit(query));
        self.rows.codes.find(&query, &pieces, &mut finalists);
        self.chunks(finalists)
    }

    /// Follows the graph past vectors that are not allowed, and compares those that it does not have.
    pub(super) fn search_graph(
        &self,
        query: &[f32],
        allowed: &IdSet,
        limit: usize,
        expansion: usize,
        patience: Patience,
    ) -> Result<Vec<i64>> {
        let prepared = Query::of(unit(query));
        let is_allowed = |row| allowed.contains(self.rows.document_id(row));
        let found = match &self.graph {
            Some(graph) => graph.search(&prepared, expansion, patience, is_allowed)?,
            None => None,
        };
        let Some(found) = found else {
            return Ok(self.compare_all(query, allowed, limit));
        };
        let mut finalists = Finalists::new(limit);
        let (codes, mut products) = (&self.rows.codes, Vec::new());
        for row in found {
            codes.compare(&prepared.code, row..row + 1, &mut products, &mut finalists);
        }
        let outside = |run: &Run| !run.is_in_graph && allowed.contains(run.document_id.into());
        codes.find(&prepared, &self.pieces(outside), &mut finalists);
        Ok(self.chunks(finalists))
    }

    /// The rows of runs that `takes` takes, those that lie side by side together, up to a length.
    fn pieces(&self, takes: impl Fn(&Run) -> bool) -> Vec<Range<u32>> {
        let mut pieces: Vec<Range<u32>> = Vec::new();
        for run in self.rows.runs().iter().filter(|run| takes(run)) {
            let mut rows = run.start..run.start + run.len;
            if let Some(last) = pieces.last_mut()
                && last.end == rows.start
            {
                let room = PIECE.saturating_sub(last.len() as u32);
                last.end = rows.end.min(last.end + room);
                rows.start = last.end;
            }
            while !rows.is_empty() {
                let end = rows.end.min(rows.start + PIECE);
                pieces.push(rows.start..end);
                rows.start = end;
            }
        }
        pieces
    }

    fn chunks(&self, finalists: Finalists) -> Vec<i64> {
        let rows = finalists.into_rows();
        rows.iter().map(|row| self.rows.chunk_id(*row)).collect()
    }
}

/// Comparing all costs as much as there are; the graph's search, as many nodes as it has to look at until enough of them
/// are allowed.
fn way(num_allowed: usize, num_in_graph: usize, num_nodes: usize, limit: usize) -> Way {
    if num_allowed <= MAX_EXACT || num_in_graph == 0 {
        return Way::CompareAll;
    }
    let expansion = EXPANSION_SEARCH.max(2 * limit);
    let num_looked_at = expansion * num_nodes / num_in_graph;
    if num_looked_at * compared_per_candidate(num_nodes) >= num_in_graph {
        return Way::CompareAll;
    }
    Way::Graph {
        expansion,
        patience: Patience {
            max_asked: PATIENCE * num_looked_at + MORE_PATIENCE,
            least_share: num_in_graph as f32 / num_nodes as f32 / LEAST_OF_SHARE,
        },
    }
}

/// How many vectors can be compared in the time in which the graph's search looks at one candidate. That waits for memory,
/// the longer the larger the graph is: measured, 3 us of 100,000 nodes and 8 us of 1,000,000, while a vector takes 10 to 20 ns.
fn compared_per_candidate(num_nodes: usize) -> usize {
    num_nodes.isqrt()
}

/// Adds rows to a graph; `full` gives vectors by chunk ids, if the graph keeps more than codes.
pub(super) fn add_to_graph(
    graph: &mut Graph,
    rows: &VectorRows,
    new: &[u32],
    full: impl FnOnce(&[i64]) -> Result<Vec<Vec<f32>>>,
    num_threads: usize,
) -> Result<()> {
    if graph.storage() == VectorStorage::I8 {
        let nodes: Vec<(u32, Node)> = new
            .iter()
            .map(|row| (*row, Node::Rounded(rows.codes.numbers_of(*row))))
            .collect();
        return graph.add(&nodes, num_threads);
    }
    let chunk_ids: Vec<i64> = new.iter().map(|row| rows.chunk_id(*row)).collect();
    let vectors = full(&chunk_ids)?;
    if vectors.len() != new.len() {
        return Err(StoreError::VectorIndex(
            "vectors of the graph are missing in the database".into(),
        ));
    }
    let nodes: Vec<(u32, Node)> = new
        .iter()
        .zip(&vectors)
        .map(|(row, vector)| (*row, Node::Full(vector)))
        .collect();
    graph.add(&nodes, num_threads)
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

pub(super) struct ChunkVector {
    pub chunk_id: i64,
    pub vector: Vec<f32>,
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
