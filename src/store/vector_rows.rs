//! Which row holds which chunk of which document. Rows are never moved; those of a deleted document are given out again
//! once no graph knows them.

use std::collections::HashMap;

use super::codes::{Code, Codes};
use super::error::{Result, StoreError};
use super::id_set::IdSet;

/// In the place of a document: the row holds nothing that may be found.
const NOBODY: u32 = u32::MAX;

/// The rows of one document, side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub document_id: u32,
    pub start: u32,
    pub len: u32,
    /// Whether all of its rows have a node in the graph.
    pub is_in_graph: bool,
}

pub(super) struct VectorRows {
    pub codes: Codes,
    chunk_ids: Vec<i64>,
    documents: Vec<u32>,
    runs: Vec<Run>,
    /// Where in `runs` a document's is.
    places: HashMap<u32, u32>,
    /// Start and length of what can be given out again.
    free: Vec<(u32, u32)>,
    num_live: usize,
}

impl VectorRows {
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            codes: Codes::new(dimensions),
            chunk_ids: Vec::new(),
            documents: Vec::new(),
            runs: Vec::new(),
            places: HashMap::new(),
            free: Vec::new(),
            num_live: 0,
        }
    }

    /// From saved codes, the chunk of each row, and the runs; `None` when they do not fit together.
    pub(super) fn from_parts(codes: Codes, chunk_ids: Vec<i64>, runs: Vec<Run>) -> Option<Self> {
        let mut rows = Self {
            documents: vec![NOBODY; codes.len()],
            ..Self::new(0)
        };
        if chunk_ids.len() != codes.len() {
            return None;
        }
        for (run, place) in runs.iter().zip(0..) {
            let held = rows
                .documents
                .get_mut(run.start as usize..)?
                .get_mut(..run.len as usize)?;
            let is_new = rows.places.insert(run.document_id, place).is_none();
            if !is_new || run.document_id == NOBODY || held.iter().any(|id| *id != NOBODY) {
                return None;
            }
            held.fill(run.document_id);
            rows.num_live += run.len as usize;
        }
        (rows.codes, rows.chunk_ids, rows.runs) = (codes, chunk_ids, runs);
        Some(rows)
    }

    pub(super) fn len(&self) -> usize {
        self.chunk_ids.len()
    }

    /// Rows that hold a vector that may be found.
    pub(super) fn num_live(&self) -> usize {
        self.num_live
    }

    /// In no particular order; those of deleted documents belong to no document.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn live_runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.document_id != NOBODY)
    }

    pub(super) fn chunk_ids(&self) -> &[i64] {
        &self.chunk_ids
    }

    pub(super) fn chunk_id(&self, row: u32) -> i64 {
        self.chunk_ids[row as usize]
    }

    /// The document that a row belongs to; an id that no document has when it belongs to none.
    #[inline]
    pub(super) fn document_id(&self, row: u32) -> i64 {
        self.documents
            .get(row as usize)
            .map_or(NOBODY.into(), |id| i64::from(*id))
    }

    pub(super) fn is_live(&self, row: u32) -> bool {
        self.document_id(row) != i64::from(NOBODY)
    }

    /// Adds all chunks of a document that is not there.
    pub(super) fn add(&mut self, document_id: i64, chunks: &[(i64, Code)]) -> Result<()> {
        let id = u32::try_from(document_id).unwrap_or(NOBODY);
        if id == NOBODY || self.places.contains_key(&id) {
            let why = format!("document {document_id} cannot be added or is there already");
            return Err(StoreError::VectorIndex(why));
        }
        if chunks.is_empty() {
            return Ok(());
        }
        let len = u32::try_from(chunks.len()).unwrap_or(NOBODY);
        let start = self.room_for(len)?;
        for (row, (chunk_id, code)) in (start..).zip(chunks) {
            self.codes.put(row, code);
            if row as usize == self.chunk_ids.len() {
                self.chunk_ids.push(*chunk_id);
                self.documents.push(id);
            } else {
                self.chunk_ids[row as usize] = *chunk_id;
                self.documents[row as usize] = id;
            }
        }
        self.places.insert(id, self.runs.len() as u32);
        self.runs.push(Run {
            document_id: id,
            start,
            len,
            is_in_graph: false,
        });
        self.num_live += chunks.len();
        Ok(())
    }

    pub(super) fn remove(&mut self, document_id: i64) {
        let place = u32::try_from(document_id)
            .ok()
            .and_then(|id| self.places.remove(&id));
        let Some(run) = place.map(|place| &mut self.runs[place as usize]) else {
            return;
        };
        run.document_id = NOBODY;
        let rows = run.start as usize..(run.start + run.len) as usize;
        self.num_live -= rows.len();
        self.documents[rows].fill(NOBODY);
    }

    /// Notes which documents a graph has nodes for, and gives rows that hold nothing and have no node out again.
    pub(super) fn settle(&mut self, nodes: &IdSet) {
        self.runs.retain(|run| run.document_id != NOBODY);
        for (run, place) in self.runs.iter_mut().zip(0..) {
            self.places.insert(run.document_id, place);
            run.is_in_graph =
                (run.start..run.start + run.len).all(|row| nodes.contains(row.into()));
        }
        self.free.clear();
        for row in 0..self.len() as u32 {
            if self.is_live(row) || nodes.contains(row.into()) {
                continue;
            }
            match self.free.last_mut() {
                Some((start, len)) if *start + *len == row => *len += 1,
                _ => self.free.push((row, 1)),
            }
        }
    }

    /// Notes that the graph has nodes for all rows of the run at `place`.
    pub(super) fn mark_in_graph(&mut self, place: usize) {
        self.runs[place].is_in_graph = true;
    }

    fn room_for(&mut self, len: u32) -> Result<u32> {
        if let Some(fitting) = self.free.iter_mut().find(|(_, room)| *room >= len) {
            let start = fitting.0;
            *fitting = (start + len, fitting.1 - len);
            self.free.retain(|(_, room)| *room > 0);
            return Ok(start);
        }
        // One below the mark for nobody, so that every row has a number.
        match self.len() as u64 + u64::from(len) < u64::from(NOBODY) {
            true => Ok(self.len() as u32),
            false => Err(StoreError::VectorIndex("it has too many vectors".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sketches::Sketches;
    use super::*;

    fn chunks(ids: std::ops::Range<i64>) -> Vec<(i64, Code)> {
        ids.map(|id| (id, Code::of(&[1.0, 0.0]))).collect()
    }

    fn rows_of(rows: &VectorRows, document_id: i64) -> Vec<u32> {
        let all = 0..rows.len() as u32;
        all.filter(|row| rows.document_id(*row) == document_id)
            .collect()
    }

    #[test]
    fn rows_are_given_out_again_only_when_no_graph_knows_them() {
        let mut rows = VectorRows::new(2);
        for document in 0..4 {
            rows.add(document, &chunks(document * 3..document * 3 + 3))
                .unwrap();
        }
        rows.remove(1);
        rows.remove(2);
        assert_eq!((rows.num_live(), rows.len()), (6, 12));
        rows.add(4, &chunks(20..22)).unwrap();
        assert_eq!(rows_of(&rows, 4), [12, 13], "nothing was settled yet");
        // A graph that still has a node for row 5.
        let nodes = [0, 1, 2, 5].into_iter().collect();
        rows.settle(&nodes);
        rows.add(5, &chunks(30..33)).unwrap();
        assert_eq!(rows_of(&rows, 5), [6, 7, 8], "the gap of two is too small");
        rows.add(6, &chunks(40..42)).unwrap();
        assert_eq!(rows_of(&rows, 6), [3, 4]);
        assert_eq!(rows.chunk_id(4), 41);
        assert!(!rows.is_live(5));
        let in_graph = rows.live_runs().filter(|run| run.is_in_graph);
        assert_eq!(in_graph.map(|run| run.document_id).collect::<Vec<_>>(), [0]);
        rows.remove(5);
        assert_eq!(rows.num_live(), 10);
        assert!(rows.add(6, &chunks(0..1)).is_err(), "it is there");
    }

    #[test]
    fn parts_that_contradict_each_other_are_refused() {
        let run = |document_id, start, len| Run {
            document_id,
            start,
            len,
            is_in_graph: false,
        };
        let load = |runs: Vec<Run>| {
            let (numbers, ones, zeros) = (vec![127; 5], vec![1.0; 5], vec![0.0; 5]);
            let sketches = Sketches::of(1, &numbers, &ones, &zeros);
            let codes = Codes::from_parts(numbers, ones, zeros, sketches).unwrap();
            VectorRows::from_parts(codes, (0..5).collect(), runs)
        };
        assert_eq!(
            load(vec![run(7, 0, 2), run(8, 3, 2)]).unwrap().num_live(),
            4
        );
        for bad in [
            vec![run(7, 0, 2), run(8, 1, 2)],
            vec![run(7, 0, 2), run(7, 2, 2)],
            vec![run(7, 4, 2)],
            vec![run(7, 9, 1)],
            vec![run(NOBODY, 0, 1)],
        ] {
            assert!(load(bad.clone()).is_none(), "{bad:?}");
        }
    }
}
