//! What the product does, in its own words: documents become passages, questions become cited answers. Knows nothing
//! of HTTP, SQL or tensors.

pub mod answer;
pub mod chunk;
pub mod cite;
pub mod document;
pub mod extract;
pub mod generate;
pub mod ingest;
pub mod prompt;
pub mod retrieve;
pub mod sentence;

use crate::embedding::{Embedder, Pooling};
use crate::store::Store;
use generate::ChatModel;

/// Everything that answering needs, joined at start and then only read. Cheap to clone.
#[derive(Clone)]
pub struct Workspace {
    pub store: Store,
    pub embedder: Option<Embedder>,
    pub chat: Option<ChatModel>,
    /// Cosine similarity below which a passage alone makes nothing relevant.
    pub min_similarity: f32,
    /// Passages given to the chat model for one question, unless a request says otherwise.
    pub top_k: usize,
}

/// The similarity floor that fits an embedding model, unless the owner sets one. Models pooled by their first token,
/// as bge is, put unrelated texts at 0.4 to 0.5; mean-pooled ones, as MiniLM is, near 0.1.
pub fn default_min_similarity(pooling: Pooling) -> f32 {
    match pooling {
        Pooling::Cls => 0.5,
        Pooling::Mean => 0.2,
    }
}
