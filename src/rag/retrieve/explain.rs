//! How a passage came to its place: what each stage of a search said of it, and how long the stages took.

use std::ops::Range;
use std::time::Instant;

use crate::store::ChunkRecord;

/// What each stage said of a passage.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Among what was found by meaning, from 1.
    pub similarity_rank: Option<usize>,
    /// Among what was found by words, from 1.
    pub words_rank: Option<usize>,
    /// Words of the question that the passage has, and groups of letters where a script sets no blanks.
    pub matched_words: Vec<String>,
    /// From 0 to 1, of both searches together.
    pub fused_score: f32,
    /// Among all that was found, from 1.
    pub fused_rank: usize,
    /// What the cross-encoder says, from 0 to 1.
    pub rerank_score: Option<f32>,
    /// Its worth beside those before it, where diversity counts.
    pub diversity_score: Option<f32>,
    /// Passages that say the same in nearly the same words, and are not shown.
    pub duplicates: Vec<Place>,
    /// Chunks that were joined to it.
    pub joined: Vec<Joined>,
}

/// Where a chunk stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file_id: String,
    pub filename: String,
    /// Bytes of the file's text.
    pub span: Range<usize>,
}

impl Place {
    pub(super) fn of(chunk: &ChunkRecord) -> Self {
        Self {
            file_id: chunk.file_id.clone(),
            filename: chunk.filename.clone(),
            span: chunk.span.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Bytes of the file's text.
    pub span: Range<usize>,
    /// Its rank where it was found too; else it only stands beside what was.
    pub fused_rank: Option<usize>,
}

/// Milliseconds of each stage. A stage that was not needed took none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// Embedding the queries.
    pub embedding_ms: f64,
    pub words_ms: f64,
    pub meaning_ms: f64,
    /// Reading the texts of what was found, and telling duplicates.
    pub reading_ms: f64,
    pub reranking_ms: f64,
    pub diversity_ms: f64,
    pub joining_ms: f64,
    pub total_ms: f64,
}

pub(super) fn ms_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}
