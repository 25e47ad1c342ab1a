//! The usearch graph: finds rows near a query without looking at all. It only grows; rows that are gone stay in it as
//! waypoints, which keeps it as good as it was, until there are so many that a new one is built.

use std::cell::Cell;

use serde::{Deserialize, Serialize};
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::codes::Query;
use super::error::{Result, StoreError};
use super::id_set::IdSet;

/// Neighbours of a node, twice as many on the ground level.
const CONNECTIVITY: usize = 16;
/// How many candidates adding a node keeps.
const EXPANSION_ADD: usize = 128;
/// So many are added one after the other: nodes that are added at the same moment do not see each other, which leaves some
/// unreachable where there are few others.
const FIRST_NODES: usize = 256;
/// Contexts that usearch prepares; above the number of threads that ever search or add at a time.
const NUM_CONTEXTS: usize = 16;

/// What the graph keeps of each vector. The full numbers are in the database in any case, and what a search shows was
/// compared with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VectorStorage {
    F32,
    F16,
    #[default]
    I8,
}

impl std::str::FromStr for VectorStorage {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "i8" => Ok(Self::I8),
            _ => Err(format!("{text:?} is not one of f32, f16 and i8")),
        }
    }
}

pub(super) struct Graph {
    index: Index,
    storage: VectorStorage,
    /// The rows that have a node.
    nodes: IdSet,
}

/// How long a search goes on that finds little that is allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Patience {
    /// Rows that it asks for at most.
    pub max_asked: usize,
    /// Of those that it has asked for, so many should be allowed.
    pub least_share: f32,
}

impl Patience {
    /// The share is looked at first after so many rows: the first ones are those on the way to the query.
    const LOOKS_FROM: usize = 256;

    #[cfg(test)]
    pub(super) const ENDLESS: Self = Self {
        max_asked: usize::MAX,
        least_share: 0.0,
    };

    fn is_over(&self, num_asked: usize, num_taken: usize) -> bool {
        let is_futile = num_asked >= Self::LOOKS_FROM
            && (num_taken as f32) < num_asked as f32 * self.least_share;
        is_futile || num_asked >= self.max_asked
    }
}

/// A row's vector, as its graph takes it.
pub(super) enum Node<'a> {
    /// Of length 1.
    Full(&'a [f32]),
    Rounded(&'a [i8]),
}

impl Graph {
    pub(super) fn new(dimensions: usize, storage: VectorStorage) -> Result<Self> {
        let options = IndexOptions {
            dimensions,
            metric: MetricKind::Cos,
            quantization: match storage {
                VectorStorage::F32 => ScalarKind::F32,
                VectorStorage::F16 => ScalarKind::F16,
                VectorStorage::I8 => ScalarKind::I8,
            },
            connectivity: CONNECTIVITY,
            expansion_add: EXPANSION_ADD,
            // A search asks for as many matches as it wants candidates.
            expansion_search: 1,
            multi: false,
        };
        let graph = Self {
            index: Index::new(&options).map_err(failed)?,
            storage,
            nodes: IdSet::default(),
        };
        graph.reserve(1)?;
        Ok(graph)
    }

    /// From what `to_bytes` gave, with the rows it had nodes for. usearch trusts the bytes: they must be checked.
    pub(super) fn from_bytes(
        dimensions: usize,
        storage: VectorStorage,
        bytes: &[u8],
        nodes: IdSet,
    ) -> Result<Self> {
        let mut graph = Self::new(dimensions, storage)?;
        graph.index.load_from_buffer(bytes).map_err(failed)?;
        if graph.index.dimensions() != dimensions || graph.index.size() != nodes.len() {
            return Err(failed("a saved graph does not hold what it says"));
        }
        graph.nodes = nodes;
        // Reading forgets for how many threads room was made.
        graph
            .index
            .reserve_capacity_and_threads(graph.index.size().max(1), NUM_CONTEXTS)
            .map_err(failed)?;
        Ok(graph)
    }

    pub(super) fn save(&self, path: &str) -> Result<()> {
        self.index.save(path).map_err(failed)
    }

    pub(super) fn storage(&self) -> VectorStorage {
        self.storage
    }

    pub(super) fn nodes(&self) -> &IdSet {
        &self.nodes
    }

    pub(super) fn num_nodes(&self) -> usize {
        self.index.size()
    }

    /// Makes room, in large steps: growing copies.
    pub(super) fn reserve(&self, num_nodes: usize) -> Result<()> {
        if num_nodes <= self.index.capacity() && self.index.size() > 0 {
            return Ok(());
        }
        let capacity = num_nodes.max(self.index.capacity() + self.index.capacity() / 4);
        self.index
            .reserve_capacity_and_threads(capacity, NUM_CONTEXTS)
            .map_err(failed)
    }

    /// Adds rows that have no node yet, on so many threads.
    pub(super) fn add(&mut self, rows: &[(u32, Node)], num_threads: usize) -> Result<()> {
        self.reserve(self.index.size() + rows.len())?;
        let index = &self.index;
        let add_all = |part: &[(u32, Node)]| {
            part.iter().try_for_each(|(row, node)| {
                let added = match node {
                    Node::Full(vector) => index.add(u64::from(*row), vector),
                    Node::Rounded(numbers) => index.add(u64::from(*row), numbers),
                };
                added.map_err(failed)
            })
        };
        let num_threads = num_threads.clamp(1, NUM_CONTEXTS / 2);
        let num_first = match num_threads {
            1 => rows.len(),
            _ => FIRST_NODES.saturating_sub(index.size()).min(rows.len()),
        };
        let (first, rest) = rows.split_at(num_first);
        add_all(first)?;
        if !rest.is_empty() {
            std::thread::scope(|scope| {
                let parts = rest.chunks(rest.len().div_ceil(num_threads));
                let adding: Vec<_> = parts
                    .map(|part| scope.spawn(move || add_all(part)))
                    .collect();
                let died = |_| Err(failed("a thread that adds vectors panicked"));
                adding
                    .into_iter()
                    .try_for_each(|thread| thread.join().unwrap_or_else(died))
            })?;
        }
        rows.iter()
            .for_each(|(row, _)| self.nodes.insert((*row).into()));
        Ok(())
    }

    /// About `count` rows near the query that `is_allowed` takes. `None` when patience ran out: then so few near the query
    /// are allowed that comparing all of those is quicker.
    pub(super) fn search(
        &self,
        query: &Query,
        count: usize,
        patience: Patience,
        is_allowed: impl Fn(u32) -> bool,
    ) -> Result<Option<Vec<u32>>> {
        let (num_asked, num_taken) = (Cell::new(0), Cell::new(0));
        let is_over = Cell::new(false);
        // Once it is given up everything is taken, which ends the search at once: usearch cannot be interrupted.
        let filter = |key: u64| {
            if is_over.get() {
                return true;
            }
            let is_allowed = is_allowed(key as u32);
            num_asked.set(num_asked.get() + 1);
            num_taken.set(num_taken.get() + usize::from(is_allowed));
            is_over.set(patience.is_over(num_asked.get(), num_taken.get()));
            is_allowed
        };
        // usearch prepares room for as many matches as are asked for.
        let count = count.min(self.num_nodes());
        let found = match self.storage {
            VectorStorage::I8 => self
                .index
                .filtered_search(&query.code.numbers, count, filter),
            VectorStorage::F16 | VectorStorage::F32 => {
                self.index.filtered_search(&query.unit, count, filter)
            }
        };
        let found = found.map_err(failed)?;
        let rows = found.keys.iter().map(|key| *key as u32).collect();
        Ok((!is_over.get()).then_some(rows))
    }
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::VectorIndex(error.to_string())
}
