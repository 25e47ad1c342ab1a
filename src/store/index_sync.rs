//! Keeps the one vector index of a process in step with SQLite, which other processes may change as well: before each
//! search it reads the log of vector changes from where it stopped. What it cannot follow it rebuilds, without a model.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rusqlite::{OptionalExtension, ToSql, Transaction};

use super::error::Result;
use super::json::Json;
use super::vector_index::{ChunkVector, Position, VectorIndex, vector_from_bytes};
use super::{EmbedderId, Store, index_file};

/// Vectors that are read from SQLite and added at a time.
const BATCH: usize = 4096;
/// After so many documents changed, the file is written again.
const MAX_UNSAVED_CHANGES: i64 = 256;

/// The index behind its lock; `None` until the first search asks for it, and after anything went wrong with it.
pub(super) struct SharedIndex {
    slot: RwLock<Option<VectorIndex>>,
    /// The `seq` up to which the file on disk is.
    saved_seq: AtomicI64,
    path: PathBuf,
    embedder: Arc<EmbedderId>,
}

impl Store {
    /// Loads or rebuilds the vector index now, so that the first search does not have to wait for it.
    pub async fn warm_vector_index(&self) -> Result<()> {
        let index = Arc::clone(&self.parts.index);
        self.database()
            .search(move |tx| index.with_current(tx, |_| Ok(())))
            .await
    }

    /// Saves the vector index if there is one in memory that the file does not have yet.
    pub async fn save_vector_index(&self) -> Result<()> {
        let index = Arc::clone(&self.parts.index);
        self.database().search(move |_| index.save()).await
    }

    /// Brings an index that is in use up to date, and its file when that is far behind, without waiting for either.
    pub(super) fn refresh_vector_index(&self) {
        let index = Arc::clone(&self.parts.index);
        self.database().search_in_background(move |tx| {
            if index.read().is_some() {
                index.with_current(tx, |_| Ok(()))?;
                index.save_if_far_behind()?;
            }
            Ok(())
        });
    }
}

impl SharedIndex {
    pub(super) fn new(dir: &Path, embedder: Arc<EmbedderId>) -> Self {
        Self {
            slot: RwLock::new(None),
            saved_seq: AtomicI64::new(0),
            path: index_file::path(dir),
            embedder,
        }
    }

    /// Gives `work` the index in a state that is not older than the transaction's snapshot.
    pub(super) fn with_current<T>(
        &self,
        tx: &Transaction,
        work: impl FnOnce(&VectorIndex) -> Result<T>,
    ) -> Result<T> {
        let newest = newest_position(tx)?;
        let is_current = |index: &VectorIndex| index.position.seq >= newest.seq;
        loop {
            if let Some(index) = self.read().as_ref().filter(|index| is_current(index)) {
                return work(index);
            }
            let mut slot = self.write();
            if slot.as_ref().is_some_and(is_current) {
                continue;
            }
            // Taken out while it changes: what fails half-way is dropped, not searched.
            let index = slot.take().or_else(|| self.load());
            *slot = Some(match index {
                Some(index) if !index.is_worn() && is_known(tx, index.position)? => {
                    self.catch_up(tx, index, newest)?
                }
                _ => self.rebuild(tx, newest)?,
            });
        }
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

    fn catch_up(
        &self,
        tx: &Transaction,
        mut index: VectorIndex,
        newest: Position,
    ) -> Result<VectorIndex> {
        let mut statement =
            tx.prepare_cached("SELECT DISTINCT document_id FROM vector_changes WHERE seq > ?")?;
        let changed = statement.query_map([index.position.seq], |row| row.get(0))?;
        let changed = changed.collect::<rusqlite::Result<Vec<i64>>>()?;
        for document_id in &changed {
            index.remove_document(*document_id)?;
        }
        let only = " AND d.id IN (SELECT value FROM json_each(?))";
        self.add_documents(tx, &mut index, only, &[&Json(changed)])?;
        index.position = newest;
        Ok(index)
    }

    fn rebuild(&self, tx: &Transaction, newest: Position) -> Result<VectorIndex> {
        let mut index = VectorIndex::new(self.embedder.dimensions)?;
        self.add_documents(tx, &mut index, "", &[])?;
        index.position = newest;
        Ok(index)
    }

    /// Adds the vectors of the documents that meet `condition`, as far as they may be searched.
    fn add_documents(
        &self,
        tx: &Transaction,
        index: &mut VectorIndex,
        condition: &str,
        values: &[&dyn ToSql],
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
            if batch.len() == BATCH {
                index.add(&batch)?;
                batch.clear();
            }
        }
        index.add(&batch)
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
        // Readers cannot leave it broken, and a writer takes the index out while it works.
        self.slot.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<VectorIndex>> {
        self.slot.write().unwrap_or_else(PoisonError::into_inner)
    }
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
