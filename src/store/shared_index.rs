//! The one vector index of a process, kept in step with SQLite, which other processes may change as well. One thread
//! follows the log of vector changes, and builds and grows the graph in short steps; a search never waits for that: what
//! the index does not know yet is compared straight from SQLite. What cannot be followed is rebuilt, without a model.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension, ToSql, Transaction};

use super::error::{Result, StoreError};
use super::graph::{Graph, VectorStorage};
use super::id_set::IdSet;
use super::index_file::{Loaded, SavedGraph};
use super::json::Json;
use super::vector_index::{
    ChunkVector, MAX_EXACT, Position, VectorIndex, add_to_graph, best, unit, unit_dot,
    vector_from_bytes,
};
use super::vector_search::{Hit, compare};
use super::{EmbedderId, Store, index_file};

/// The graph grows once it lacks so many vectors; fewer are quickly compared one by one.
const GROW_FROM: usize = 2_048;
/// Vectors that are added at a time: to a graph nobody searches yet, and to one whose searches wait meanwhile.
const BUILD_BATCH: usize = 256;
const GROW_BATCH: usize = 8;
/// After so long, what changed meanwhile has its turn.
const STEP: Duration = Duration::from_millis(300);
/// After so many changed documents the file is written again: as a share of all, within bounds, the upper one well below
/// what the log keeps.
const UNSAVED_SHARE: i64 = 8;
const UNSAVED_AT_LEAST: i64 = 256;
const UNSAVED_AT_MOST: i64 = 5_000;

pub(super) struct SharedIndex {
    /// `None` until the first search asks for it, and after anything went wrong with it. Only the index thread writes.
    slot: RwLock<Option<VectorIndex>>,
    /// What the index thread is about; no other takes it.
    work: Mutex<Work>,
    /// The `seq` up to which the file on disk is.
    saved_seq: AtomicI64,
    is_refresh_queued: AtomicBool,
    path: PathBuf,
    embedder: Arc<EmbedderId>,
    storage: VectorStorage,
}

#[derive(Default)]
struct Work {
    /// In the index's file, and not read yet.
    saved_graph: Option<SavedGraph>,
    /// A graph that is being built while the old one, or none, answers; and the row up to which it is.
    building: Option<(Graph, u32)>,
    is_growing: bool,
    /// Built since the file was written: worth a file of its own. One that has grown is grown again at need.
    has_unsaved_graph: bool,
    has_unsaved_growth: bool,
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Done,
    Ongoing,
}

impl Store {
    /// Loads or rebuilds the vector index and its graph and waits for it. Searches are right without it, only slower.
    pub async fn warm_vector_index(&self) -> Result<()> {
        loop {
            let index = Arc::clone(&self.parts.index);
            let step = self.database().maintain(move |tx| index.step(tx));
            if step.await? == Progress::Done {
                return Ok(());
            }
        }
    }

    /// Saves the vector index if there is one in memory that the file does not have yet.
    pub async fn save_vector_index(&self) -> Result<()> {
        let index = Arc::clone(&self.parts.index);
        self.database().maintain(move |_| index.save()).await
    }

    /// Deletes the file of an index that has nothing to find any more.
    pub async fn delete_vector_index_file(&self) -> Result<()> {
        let index = Arc::clone(&self.parts.index);
        let delete = move |_: &Transaction| match std::fs::remove_file(&index.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let what = format!("delete {}", index.path.display());
                Err(StoreError::io(what, error))
            }
            _ => Ok(()),
        };
        self.database().maintain(delete).await
    }

    /// Brings the index up to date, and its file when that is far behind, without waiting for either.
    pub(super) fn refresh_vector_index(&self) {
        if self
            .parts
            .index
            .is_refresh_queued
            .swap(true, Ordering::AcqRel)
        {
            return;
        }
        // Between two steps nothing holds the store, so that it can be dropped in the middle of a long build.
        let parts = Arc::downgrade(&self.parts);
        self.database().maintain_in_background(move |tx| {
            let Some(parts) = parts.upgrade() else {
                return Ok(());
            };
            let index = &parts.index;
            // Before looking at the database: a change after this moment queues a refresh of its own.
            index.is_refresh_queued.store(false, Ordering::Release);
            match index.step(tx)? {
                Progress::Ongoing => Store { parts }.refresh_vector_index(),
                Progress::Done => index.save_if_far_behind()?,
            }
            Ok(())
        });
    }

    /// Has the index in memory, without its graph if that takes longer.
    pub(super) async fn load_vector_index(&self) -> Result<()> {
        if self.has_vector_index() {
            return Ok(());
        }
        let index = Arc::clone(&self.parts.index);
        let load = move |tx: &Transaction| {
            let mut work = index.work.lock().unwrap_or_else(PoisonError::into_inner);
            index.bring_up_to_date(tx, &mut work)
        };
        self.database().maintain(load).await
    }

    pub(super) fn has_vector_index(&self) -> bool {
        self.parts.index.read().is_some()
    }
}

/// The answer of a search, and whether the index should catch up.
pub(super) struct Found {
    pub hits: Vec<Hit>,
    pub is_index_behind: bool,
}

impl SharedIndex {
    pub(super) fn new(path: PathBuf, embedder: Arc<EmbedderId>, storage: VectorStorage) -> Self {
        Self {
            slot: RwLock::new(None),
            work: Mutex::default(),
            saved_seq: AtomicI64::new(0),
            is_refresh_queued: AtomicBool::new(false),
            path,
            embedder,
            storage,
        }
    }

    /// The chunks of the allowed documents that are most similar to `query`, as of the transaction's snapshot, in which
    /// the allowed ones were read.
    pub(super) fn search(
        &self,
        tx: &Transaction,
        query: &[f32],
        allowed: &IdSet,
        limit: usize,
    ) -> Result<Found> {
        let slot = self.read();
        let changed = match slot.as_ref() {
            Some(index) => changed_since(tx, index.position)?,
            None => None,
        };
        let (Some(index), Some(changed)) = (slot.as_ref(), changed) else {
            drop(slot);
            let documents: Vec<i64> = allowed.iter().collect();
            let hits = best(compare_stored(tx, query, documents)?, limit);
            return Ok(Found {
                hits,
                is_index_behind: true,
            });
        };
        let (candidates, unknown) = match changed.is_empty() {
            true => (index.search(query, allowed, limit)?, Vec::new()),
            false => {
                let mut known = allowed.clone();
                changed.iter().for_each(|id| known.remove(*id));
                let unknown = changed.iter().copied().filter(|id| allowed.contains(*id));
                (index.search(query, &known, limit)?, unknown.collect())
            }
        };
        let lacks_graph = index.lacks_graph(self.storage);
        drop(slot);
        let mut hits = compare_chunks(tx, query, candidates, allowed)?;
        hits.extend(compare_stored(tx, query, unknown)?);
        Ok(Found {
            hits: best(hits, limit),
            is_index_behind: !changed.is_empty() || lacks_graph,
        })
    }

    /// Brings the index up to date with the transaction's snapshot, and does some of the work on its graph that there may
    /// be. Runs on the index thread only.
    fn step(&self, tx: &Transaction) -> Result<Progress> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        self.bring_up_to_date(tx, &mut work)?;
        let end = Instant::now() + STEP;
        while Instant::now() < end {
            if self.improve_graph(tx, &mut work)? == Progress::Done {
                return Ok(Progress::Done);
            }
        }
        Ok(Progress::Ongoing)
    }

    /// Loads, rebuilds or catches up, whatever is needed.
    fn bring_up_to_date(&self, tx: &Transaction, work: &mut Work) -> Result<()> {
        let newest = newest_position(tx)?;
        let position = self.read().as_ref().map(|index| index.position);
        let changed = match position {
            Some(position) => self.changed_in_memory(tx, position)?,
            None => None,
        };
        let changed = match (position, changed) {
            (Some(position), _) if position == newest => return Ok(()),
            (_, Some(changed)) => changed,
            (in_memory, None) => {
                // What was begun was begun for other rows.
                *work = Work::default();
                let file = if in_memory.is_none() {
                    self.load()
                } else {
                    None
                };
                match file {
                    Some(Loaded {
                        index,
                        graph,
                        is_of_earlier_format,
                    }) if is_known(tx, index.position)? => {
                        // One of an earlier format is as good as behind.
                        let saved_seq = match is_of_earlier_format {
                            true => 0,
                            false => index.position.seq,
                        };
                        self.saved_seq.store(saved_seq, Ordering::Relaxed);
                        work.saved_graph = graph;
                        let changed = changed_since(tx, index.position)?;
                        self.put(index);
                        changed.unwrap_or_default()
                    }
                    _ => {
                        work.has_unsaved_graph = true;
                        self.put(self.rebuild(tx, newest)?);
                        return Ok(());
                    }
                }
            }
        };
        // Until the position moves, searches do not ask the index about these documents, so it may change in steps.
        let changed: Vec<i64> = changed.into_iter().collect();
        self.change(|index| {
            changed.iter().for_each(|id| index.remove_document(*id));
            Ok(())
        })?;
        let only = " AND d.id IN (SELECT value FROM json_each(?))";
        self.read_documents(tx, only, &[&Json(changed)], |document_id, chunks| {
            self.change(|index| index.add_document(document_id, chunks))
        })?;
        self.change(|index| {
            index.position = newest;
            Ok(())
        })
    }

    /// The documents that the index in memory does not have as they are; `None` when it is of another history.
    fn changed_in_memory(
        &self,
        tx: &Transaction,
        position: Position,
    ) -> Result<Option<HashSet<i64>>> {
        let oldest: Option<i64> = tx
            .prepare_cached("SELECT min(seq) FROM vector_changes")?
            .query_row([], |row| row.get(0))?;
        if is_known(tx, position)? {
            return changed_since(tx, position);
        }
        if oldest.is_none_or(|oldest| position.seq >= oldest) {
            return Ok(None);
        }
        // More changed at once than the log keeps. Chunks are never changed and their ids never given out again, so the
        // first one's id and how many there are tell whether a document is the one that the index knows.
        let mut statement = tx.prepare_cached(
            "SELECT d.id, min(c.id), count(*) FROM documents d CROSS JOIN chunks c ON c.document_id = d.id
             WHERE d.status = 'completed' AND d.embedder_hash = ? GROUP BY d.id",
        )?;
        let stored = statement.query_map([&self.embedder.hash], |row| {
            Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))
        })?;
        let stored: HashMap<i64, (i64, u32)> = stored.collect::<rusqlite::Result<_>>()?;
        let slot = self.read();
        let known: HashMap<i64, (i64, u32)> = match slot.as_ref() {
            Some(index) => index.documents().collect(),
            None => return Ok(None),
        };
        let ids = stored.keys().chain(known.keys()).copied();
        Ok(Some(
            ids.filter(|id| stored.get(id) != known.get(id)).collect(),
        ))
    }

    /// Some of what the graph lacks: to be read from its file, built, or grown.
    fn improve_graph(&self, tx: &Transaction, work: &mut Work) -> Result<Progress> {
        if let Some(saved) = work.saved_graph.take() {
            match saved.load() {
                Ok(graph) => self.change_graph(Some(graph))?,
                Err(why) => tracing::info!(%why, "the graph of the vector index is built anew"),
            }
            return Ok(Progress::Ongoing);
        }
        let slot = self.read();
        let Some(index) = slot.as_ref() else {
            return Ok(Progress::Done);
        };
        if index.graph().is_none() && index.len() <= MAX_EXACT {
            work.building = None;
            let is_wasteful = index.has_idle_rows();
            drop(slot);
            if is_wasteful {
                self.change_graph(None)?;
            }
            return Ok(Progress::Done);
        }
        if index.lacks_graph(self.storage) || index.is_worn() {
            let (mut graph, start) = match work.building.take() {
                Some(building) => building,
                None => {
                    let graph = Graph::new(self.embedder.dimensions, self.storage)?;
                    graph.reserve(index.len())?;
                    (graph, 0)
                }
            };
            let rows = index.missing_in(&graph, start, BUILD_BATCH);
            let Some(last) = rows.last() else {
                drop(slot);
                work.has_unsaved_graph = true;
                self.change_graph(Some(graph))?;
                return Ok(Progress::Ongoing);
            };
            let full = |chunk_ids: &[i64]| read_units(tx, chunk_ids);
            add_to_graph(&mut graph, index.rows(), &rows, full, num_builders())?;
            work.building = Some((graph, last + 1));
            return Ok(Progress::Ongoing);
        }
        let (place, num_outside) = index.outside_the_graph();
        drop(slot);
        work.building = None;
        let Some(place) = place.filter(|_| work.is_growing || num_outside >= GROW_FROM) else {
            work.is_growing = false;
            return Ok(Progress::Done);
        };
        work.is_growing = true;
        work.has_unsaved_growth = true;
        self.change(|index| {
            index.grow_graph(place, GROW_BATCH, |chunk_ids| read_units(tx, chunk_ids))
        })?;
        // Or the next change might come before the searches that waited for this one.
        std::thread::yield_now();
        Ok(Progress::Ongoing)
    }

    fn load(&self) -> Option<Loaded> {
        let loaded = index_file::load(&self.path, &self.embedder);
        loaded
            .inspect_err(
                |why| tracing::info!(%why, "the vector index is rebuilt from the database"),
            )
            .ok()
    }

    fn rebuild(&self, tx: &Transaction, newest: Position) -> Result<VectorIndex> {
        let mut index = VectorIndex::new(self.embedder.dimensions);
        self.read_documents(tx, "", &[], |id, chunks| index.add_document(id, chunks))?;
        index.position = newest;
        Ok(index)
    }

    /// Hands `each` the searchable vectors of each of the documents that meet `condition`.
    fn read_documents(
        &self,
        tx: &Transaction,
        condition: &str,
        values: &[&dyn ToSql],
        mut each: impl FnMut(i64, &[ChunkVector]) -> Result<()>,
    ) -> Result<()> {
        let mut statement = tx.prepare_cached(&format!(
            "SELECT d.id, c.id, c.vector FROM documents d CROSS JOIN chunks c ON c.document_id = d.id
             WHERE d.status = 'completed' AND d.embedder_hash = ?{condition}
             ORDER BY d.id, c.ordinal"
        ))?;
        let mut all_values: Vec<&dyn ToSql> = vec![&self.embedder.hash];
        all_values.extend(values);
        let mut rows = statement.query(all_values.as_slice())?;
        let mut document_id = 0;
        let mut chunks = Vec::new();
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            if id != document_id && !chunks.is_empty() {
                each(document_id, &chunks)?;
                chunks.clear();
            }
            document_id = id;
            let vector =
                vector_from_bytes(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?);
            chunks.push(ChunkVector {
                chunk_id: row.get(1)?,
                vector,
            });
        }
        match chunks.is_empty() {
            true => Ok(()),
            false => each(document_id, &chunks),
        }
    }

    fn save_if_far_behind(&self) -> Result<()> {
        let (seq, num_documents) = match self.read().as_ref() {
            Some(index) => (index.position.seq, index.num_documents() as i64),
            None => return Ok(()),
        };
        let max_unsaved = (num_documents / UNSAVED_SHARE).clamp(UNSAVED_AT_LEAST, UNSAVED_AT_MOST);
        let is_far_behind = seq - self.saved_seq.load(Ordering::Relaxed) >= max_unsaved;
        let has_new_graph = {
            let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            work.has_unsaved_graph && num_documents > UNSAVED_AT_LEAST
        };
        match is_far_behind || has_new_graph {
            true => self.save(),
            false => Ok(()),
        }
    }

    fn save(&self) -> Result<()> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = self.read();
        // With the graph still in the file only, the file is the better one.
        let Some(index) = slot.as_ref().filter(|_| work.saved_graph.is_none()) else {
            return Ok(());
        };
        let is_saved = index.position.seq == self.saved_seq.load(Ordering::Relaxed);
        if is_saved && !work.has_unsaved_graph && !work.has_unsaved_growth {
            return Ok(());
        }
        index_file::save(index, &self.path, &self.embedder)?;
        self.saved_seq.store(index.position.seq, Ordering::Relaxed);
        work.has_unsaved_graph = false;
        work.has_unsaved_growth = false;
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<VectorIndex>> {
        // `change` leaves nothing half-done behind, whatever happens in it.
        self.slot.read().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn num_vectors(&self) -> usize {
        self.read().as_ref().map_or(0, VectorIndex::len)
    }

    /// What the graph keeps, and how many nodes it has.
    #[cfg(test)]
    pub(super) fn graph_state(&self) -> Option<(VectorStorage, usize)> {
        let slot = self.read();
        let graph = slot.as_ref()?.graph()?;
        Some((graph.storage(), graph.num_nodes()))
    }

    fn put(&self, index: VectorIndex) {
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = Some(index);
    }

    fn change_graph(&self, graph: Option<Graph>) -> Result<()> {
        self.change(|index| {
            index.set_graph(graph);
            Ok(())
        })
    }

    /// Changes the index out of its place, so that after an error or a panic there is none, instead of a wrong one.
    fn change(&self, change: impl FnOnce(&mut VectorIndex) -> Result<()>) -> Result<()> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        let missing = || StoreError::VectorIndex("it was dropped after an error".to_owned());
        let mut index = slot.take().ok_or_else(missing)?;
        change(&mut index)?;
        *slot = Some(index);
        Ok(())
    }
}

/// Threads that build a graph: one core stays for those who search meanwhile.
fn num_builders() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get() - 1)
}

/// Compares `query` with these chunks as they are stored, those of allowed documents.
fn compare_chunks(
    tx: &Transaction,
    query: &[f32],
    chunk_ids: Vec<i64>,
    allowed: &IdSet,
) -> Result<Vec<Hit>> {
    let query = unit(query);
    let mut statement = tx.prepare_cached("SELECT document_id, vector FROM chunks WHERE id = ?")?;
    let mut hits = Vec::with_capacity(chunk_ids.len());
    for chunk_id in chunk_ids {
        let mut rows = statement.query([chunk_id])?;
        let Some(row) = rows.next()? else { continue };
        if allowed.contains(row.get(0)?) {
            let vector = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let score = unit_dot(&query, &unit(&vector_from_bytes(vector)));
            hits.push(Hit { chunk_id, score });
        }
    }
    Ok(hits)
}

/// The vectors of these chunks as they are stored, in that order, scaled to length 1.
fn read_units(tx: &Transaction, chunk_ids: &[i64]) -> Result<Vec<Vec<f32>>> {
    let mut statement = tx.prepare_cached("SELECT vector FROM chunks WHERE id = ?")?;
    let read = |id: &i64| {
        let vector = statement.query_row([id], |row| row.get::<_, Vec<u8>>(0))?;
        Ok(unit(&vector_from_bytes(&vector)))
    };
    chunk_ids.iter().map(read).collect()
}

/// Compares `query` with all vectors of these documents as they are stored.
fn compare_stored(tx: &Transaction, query: &[f32], documents: Vec<i64>) -> Result<Vec<Hit>> {
    if documents.is_empty() {
        return Ok(Vec::new());
    }
    let mut statement = tx.prepare_cached(
        "SELECT id, vector FROM chunks WHERE document_id IN (SELECT value FROM json_each(?))",
    )?;
    compare(query, statement.query([Json(documents)])?)
}

fn newest_position(tx: &Transaction) -> Result<Position> {
    let sql = "SELECT seq, nonce FROM vector_changes ORDER BY seq DESC LIMIT 1";
    let newest = tx.prepare_cached(sql)?.query_row([], |row| {
        Ok(Position {
            seq: row.get(0)?,
            nonce: row.get(1)?,
        })
    });
    Ok(newest.optional()?.unwrap_or_default())
}

/// The documents whose vectors changed after `position`; `None` when the log does not tell.
fn changed_since(tx: &Transaction, position: Position) -> Result<Option<HashSet<i64>>> {
    // An index that is ahead of this snapshot knows all of it, and what it does not know is looked up in SQLite again.
    if position.seq <= newest_position(tx)?.seq && !is_known(tx, position)? {
        return Ok(None);
    }
    let mut statement =
        tx.prepare_cached("SELECT document_id FROM vector_changes WHERE seq > ?")?;
    let changed = statement.query_map([position.seq], |row| row.get(0))?;
    Ok(Some(changed.collect::<rusqlite::Result<_>>()?))
}

/// Whether the log still tells everything that happened after `position`, in this database's own history.
fn is_known(tx: &Transaction, position: Position) -> Result<bool> {
    let sql = match position.seq {
        // Before the first change: known as long as that one was not pruned.
        0 => "SELECT coalesce(min(seq), 1) = 1 AND ?1 = ?2 FROM vector_changes",
        _ => "SELECT EXISTS (SELECT 1 FROM vector_changes WHERE seq = ?1 AND nonce = ?2)",
    };
    Ok(tx
        .prepare_cached(sql)?
        .query_row([position.seq, position.nonce], |row| row.get(0))?)
}
