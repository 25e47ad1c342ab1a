//! The one vector index of a process, kept in step with SQLite, which other processes may change as well. One thread
//! follows the log of vector changes; a search never waits for that: what the index does not know yet is compared
//! straight from SQLite. What cannot be followed is rebuilt, without a model.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use rusqlite::{OptionalExtension, ToSql, Transaction};

use super::error::{Result, StoreError};
use super::json::Json;
use super::vector_index::{ChunkVector, Position, VectorIndex, best, vector_from_bytes};
use super::vector_search::{Hit, compare};
use super::{EmbedderId, Store, index_file};

/// Vectors that are added at a time: to an index nobody searches yet, and to one whose searches wait meanwhile.
const REBUILD_BATCH: usize = 4096;
const CATCH_UP_BATCH: usize = 256;
/// After so many documents changed, the file is written again.
const MAX_UNSAVED_CHANGES: i64 = 256;

pub(super) struct SharedIndex {
    /// `None` until the first search asks for it, and after anything went wrong with it. Only the index thread writes.
    slot: RwLock<Option<VectorIndex>>,
    /// The `seq` up to which the file on disk is.
    saved_seq: AtomicI64,
    is_refresh_queued: AtomicBool,
    path: PathBuf,
    embedder: Arc<EmbedderId>,
}

impl Store {
    /// Loads or rebuilds the vector index and waits for it. Searches are right without it, only slower.
    pub async fn warm_vector_index(&self) -> Result<()> {
        let index = Arc::clone(&self.parts.index);
        self.database()
            .maintain(move |tx| index.bring_up_to_date(tx))
            .await
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
        let index = Arc::clone(&self.parts.index);
        self.database().maintain_in_background(move |tx| {
            // Before looking at the database: a change after this moment queues a refresh of its own.
            index.is_refresh_queued.store(false, Ordering::Release);
            index.bring_up_to_date(tx)?;
            index.save_if_far_behind()
        });
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
    pub(super) fn new(path: PathBuf, embedder: Arc<EmbedderId>) -> Self {
        Self {
            slot: RwLock::new(None),
            saved_seq: AtomicI64::new(0),
            is_refresh_queued: AtomicBool::new(false),
            path,
            embedder,
        }
    }

    /// The chunks of the allowed documents that are most similar to `query`, as of the transaction's snapshot.
    pub(super) fn search(
        &self,
        tx: &Transaction,
        query: &[f32],
        allowed: Vec<i64>,
        limit: usize,
    ) -> Result<Found> {
        let slot = self.read();
        let index = slot.as_ref().filter(|index| !index.is_worn());
        let changed = match index {
            Some(index) => changed_since(tx, index.position)?,
            None => None,
        };
        let (Some(index), Some(changed)) = (index, changed) else {
            drop(slot);
            let hits = best(compare_stored(tx, query, &allowed)?, limit);
            return Ok(Found {
                hits,
                is_index_behind: true,
            });
        };
        let (unknown, known): (Vec<i64>, Vec<i64>) =
            allowed.iter().partition(|id| changed.contains(id));
        let mut hits = index.search(query, &known, limit)?;
        drop(slot);
        hits.extend(compare_stored(tx, query, &unknown)?);
        Ok(Found {
            hits: best(hits, limit),
            is_index_behind: !changed.is_empty(),
        })
    }

    /// Loads, rebuilds or catches up, whatever is needed. Runs on the index thread only.
    fn bring_up_to_date(&self, tx: &Transaction) -> Result<()> {
        let newest = newest_position(tx)?;
        let position = self
            .read()
            .as_ref()
            .filter(|index| !index.is_worn())
            .map(|index| index.position);
        let position = match position {
            Some(position) if is_known(tx, position)? => position,
            Some(_) => self.put(self.rebuild(tx, newest)?),
            None => match self.load().filter(|index| !index.is_worn()) {
                Some(index) if is_known(tx, index.position)? => self.put(index),
                _ => self.put(self.rebuild(tx, newest)?),
            },
        };
        if position == newest {
            return Ok(());
        }
        // Until the position moves, searches do not ask the index about these documents, so it may change in steps.
        let changed: Vec<i64> = changed_since(tx, position)?.into_iter().flatten().collect();
        for document_id in &changed {
            self.change(|index| index.remove_document(*document_id))?;
        }
        let only = " AND d.id IN (SELECT value FROM json_each(?))";
        self.read_vectors(tx, only, &[&Json(changed)], CATCH_UP_BATCH, |batch| {
            self.change(|index| index.add(batch))
        })?;
        self.change(|index| {
            index.position = newest;
            Ok(())
        })
    }

    fn load(&self) -> Option<VectorIndex> {
        match index_file::load(&self.path, &self.embedder) {
            Ok(index) => {
                self.saved_seq.store(index.position.seq, Ordering::Relaxed);
                Some(index)
            }
            Err(why) => {
                tracing::info!(%why, "the vector index is rebuilt from the database");
                None
            }
        }
    }

    fn rebuild(&self, tx: &Transaction, newest: Position) -> Result<VectorIndex> {
        let mut index = VectorIndex::new(self.embedder.dimensions)?;
        self.read_vectors(tx, "", &[], REBUILD_BATCH, |batch| index.add(batch))?;
        index.position = newest;
        Ok(index)
    }

    /// Hands `each` the searchable vectors of the documents that meet `condition`, in batches.
    fn read_vectors(
        &self,
        tx: &Transaction,
        condition: &str,
        values: &[&dyn ToSql],
        batch_size: usize,
        mut each: impl FnMut(&[ChunkVector]) -> Result<()>,
    ) -> Result<()> {
        let mut statement = tx.prepare_cached(&format!(
            "SELECT d.id, c.id, c.vector FROM documents d CROSS JOIN chunks c ON c.document_id = d.id
             WHERE d.status = 'completed' AND d.embedder_hash = ?{condition}"
        ))?;
        let mut all_values: Vec<&dyn ToSql> = vec![&self.embedder.hash];
        all_values.extend(values);
        let mut rows = statement.query(all_values.as_slice())?;
        let mut batch = Vec::new();
        while let Some(row) = rows.next()? {
            let vector =
                vector_from_bytes(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?);
            batch.push(ChunkVector {
                document_id: row.get(0)?,
                chunk_id: row.get(1)?,
                vector,
            });
            if batch.len() == batch_size {
                each(&batch)?;
                batch.clear();
            }
        }
        each(&batch)
    }

    fn save_if_far_behind(&self) -> Result<()> {
        let seq = self.read().as_ref().map_or(0, |index| index.position.seq);
        if seq - self.saved_seq.load(Ordering::Relaxed) < MAX_UNSAVED_CHANGES {
            return Ok(());
        }
        self.save()
    }

    fn save(&self) -> Result<()> {
        let slot = self.read();
        let Some(index) = slot.as_ref() else {
            return Ok(());
        };
        if index.position.seq == self.saved_seq.load(Ordering::Relaxed) {
            return Ok(());
        }
        index_file::save(index, &self.path, &self.embedder)?;
        self.saved_seq.store(index.position.seq, Ordering::Relaxed);
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

    fn put(&self, index: VectorIndex) -> Position {
        let position = index.position;
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = Some(index);
        position
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

/// Compares `query` with all vectors of these documents as they are stored.
fn compare_stored(tx: &Transaction, query: &[f32], documents: &[i64]) -> Result<Vec<Hit>> {
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
