//! What the product does, in its own words: documents become passages, questions become cited answers. Knows nothing
//! of HTTP, SQL or tensors.

pub mod answer;
pub mod answer_cache;
pub mod attached;
pub mod chunk;
pub mod cite;
pub mod confidence;
pub mod constrain;
pub mod conversation;
pub mod document;
mod duplicates;
pub mod earlier;
pub mod expiry;
pub mod extract;
mod full_stop;
pub mod generate;
pub mod import;
pub mod ingest;
pub mod marks;
pub mod models;
pub mod output;
pub mod prompt;
pub mod quote;
pub mod reply;
pub mod retrieve;
pub mod rewrite;
pub mod selection;
pub mod sentence;
pub mod standalone;
pub mod summary;
pub mod timings;
pub mod tools;
pub mod turns;
pub mod watch;

use crate::embedding::{Embedder, Pooling};
use crate::store::{Chunking, Store};
use answer_cache::AnswerCache;
use earlier::EarlierModels;
use generate::ChatModel;
use models::{LoadError, Models};
use retrieve::Reranking;

/// Everything that answering needs, joined at start and then only read. Cheap to clone.
#[derive(Clone)]
pub struct Workspace {
    pub store: Store,
    pub embedder: Option<Embedder>,
    /// Every model that can be asked for; the embedder above is one of them.
    pub models: Models,
    /// Whether the default chat model answers from documents when a request names nobody; otherwise they are quoted.
    pub writes_answers: bool,
    /// Cosine similarity below which a passage alone makes nothing relevant.
    pub min_similarity: f32,
    /// Confidence from 0 to 1 below which nothing is quoted, unless a request says otherwise.
    pub min_quote_confidence: f32,
    /// The same where the chat model writes.
    pub min_confidence: f32,
    /// What was answered before.
    pub answers: AnswerCache,
    /// Passages that one summary may have.
    pub max_summary_passages: usize,
    /// Passages given to the chat model for one question, unless a request says otherwise.
    pub top_k: usize,
    /// How documents are cut where neither they nor their collection say otherwise.
    pub chunking: Chunking,
    /// The models whose vectors are searched beside those of the embedder.
    pub earlier: EarlierModels,
    /// Who reads passages again before they are shown.
    pub reranking: Reranking,
}

impl Workspace {
    /// Who answers from documents when nobody is named.
    pub async fn default_answerer(&self) -> Result<Answerer, LoadError> {
        match self.models.default_chat() {
            Some(chat) if self.writes_answers => Ok(Answerer::Chat(self.models.chat(chat).await?)),
            _ => Ok(Answerer::Quote),
        }
    }
}

/// The model id that answers by quoting.
pub const QUOTE_MODEL: &str = "inglenook-quote";

/// Who answers from documents.
#[derive(Clone)]
pub enum Answerer {
    /// The documents' own sentences; needs no chat model.
    Quote,
    /// The chat model writes, and cites what it read.
    Chat(ChatModel),
}

impl Answerer {
    /// The model id that stands in answers.
    pub fn id(&self) -> &str {
        match self {
            Answerer::Quote => QUOTE_MODEL,
            Answerer::Chat(chat) => chat.id(),
        }
    }
}

/// The similarity floor that fits an embedding model, unless the owner sets one. Models pooled by their first token,
/// as bge is, put unrelated texts at 0.4 to 0.5; mean-pooled ones, as MiniLM is, near 0.1.
pub fn default_min_similarity(pooling: Pooling) -> f32 {
    match pooling {
        Pooling::Cls => 0.5,
        Pooling::Mean => 0.2,
    }
}
