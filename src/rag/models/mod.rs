//! Several models side by side: each is loaded when it is first asked for, stays while it is used, and makes room for
//! others. [`residency`] decides who stays, [`pool`] loads and unloads; what a model file is, only the library knows.

mod pool;
mod residency;
#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::time::{Duration, SystemTime};

use crate::embedding::{Embedder, Reranker};
use crate::rag::generate::ChatModel;

pub use pool::{Lease, Models, ModelsOptions};
pub use residency::{NoRoom, Room};

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    Chat,
    Embedding,
    Rerank,
}

impl ModelKind {
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::Chat => "chat",
            ModelKind::Embedding => "embedding",
            ModelKind::Rerank => "rerank",
        }
    }
}

/// A model that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    pub id: String,
    pub kind: ModelKind,
    /// The longest context or input in tokens, where it is known without loading.
    pub context_length: Option<usize>,
    /// Whether it came with the program, to show what it does until others are pulled.
    pub is_demonstration: bool,
}

/// What a model's files say of it, without loading it. What they do not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDetails {
    pub num_bytes: u64,
    pub modified_at: SystemTime,
    /// `gguf` or `safetensors`.
    pub format: &'static str,
    pub architecture: Option<String>,
    pub num_parameters: Option<u64>,
    /// How the weights are stored, such as `Q8_0` or `F32`.
    pub quantization: Option<String>,
    pub chat_template: Option<String>,
}

/// The models on this machine, and how one is loaded. Its methods block: they are called away from the threads that
/// serve.
pub trait ModelLibrary: Send + Sync + 'static {
    /// All of them, in the order in which to show them. They may change while the program runs.
    fn list(&self) -> Vec<ModelEntry>;

    /// What to do about a name that [`list`](Self::list) does not have, where that is known.
    fn hint(&self, name: &str) -> Option<String>;

    fn details(&self, id: &str) -> Result<ModelDetails, LoadError>;

    /// Where the model can be loaded now or with others gone, one room at least: each processor alone, and all together where
    /// they can share it.
    fn rooms(&self, id: &str) -> Result<Vec<Room>, LoadError>;

    /// Memory that all models together can take now, in bytes, where it is known.
    fn free_memory(&self) -> Option<u64>;

    /// Loads it into one of its rooms. Takes at most the room's free memory, all in all, where that can be chosen.
    fn load(&self, id: &str, room: &Room) -> Result<LoadedModel, LoadError>;
}

/// A model in memory, ready to be used.
#[derive(Clone)]
pub enum LoadedModel {
    Chat(ChatModel),
    Embedder(Embedder),
    Reranker(Reranker),
}

/// Why a model cannot be used. All who waited for it get the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("{}", hint.clone().unwrap_or_else(|| format!("the model '{name}' is not on this machine")))]
    Unknown { name: String, hint: Option<String> },
    #[error("'{name}' is of kind '{}', but a model of kind '{}' is needed", actual.name(), wanted.name())]
    WrongKind {
        name: String,
        actual: ModelKind,
        wanted: ModelKind,
    },
    #[error("the model '{name}' cannot be loaded now: {no_room}")]
    NoRoom { name: String, no_room: NoRoom },
    #[error("{reason}")]
    Failed { reason: String },
    #[error("the server is shutting down, try again later")]
    Stopped,
}

/// Why a model was not unloaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnloadError {
    #[error("the model '{name}' is not loaded")]
    NotLoaded { name: String },
    #[error("the model '{name}' answers requests now; try again when they are done")]
    InUse { name: String },
    #[error("the model '{name}' embeds the documents and stays loaded")]
    Stays { name: String },
}

/// What a loaded model is doing.
#[derive(Debug, Clone)]
pub struct ModelStatus {
    pub id: String,
    pub kind: ModelKind,
    pub weights_bytes: u64,
    /// Memory for the contexts of requests.
    pub cache_bytes: u64,
    /// Tokens that the cache holds in all.
    pub cache_tokens: Option<usize>,
    pub context_length: usize,
    /// Whether its thread runs; once false, every request fails.
    pub is_alive: bool,
    pub num_running: usize,
    pub num_waiting: usize,
    /// Since its last request ended; `None` while there is one.
    pub idle_for: Option<Duration>,
    /// When it is unloaded if nobody asks for it; `None` when that has no fixed time.
    pub unloads_in: Option<Duration>,
}

/// A model that is not unloaded while this lives.
#[derive(Clone)]
pub struct Leased<T> {
    model: T,
    _lease: Lease,
}

impl<T> Deref for Leased<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.model
    }
}

impl LoadedModel {
    pub fn kind(&self) -> ModelKind {
        match self {
            LoadedModel::Chat(_) => ModelKind::Chat,
            LoadedModel::Embedder(_) => ModelKind::Embedding,
            LoadedModel::Reranker(_) => ModelKind::Rerank,
        }
    }

    fn num_bytes(&self) -> u64 {
        match self {
            LoadedModel::Chat(chat) => {
                let spec = chat.engine().spec();
                spec.weights_bytes.saturating_add(spec.cache_bytes)
            }
            LoadedModel::Embedder(embedder) => embedder.spec().memory_bytes as u64,
            LoadedModel::Reranker(reranker) => reranker.spec().memory_bytes as u64,
        }
    }

    fn context_length(&self) -> usize {
        match self {
            LoadedModel::Chat(chat) => chat.context_length(),
            LoadedModel::Embedder(embedder) => embedder.spec().max_tokens,
            LoadedModel::Reranker(reranker) => reranker.spec().max_tokens,
        }
    }

    /// Ends its thread and frees its memory.
    async fn shutdown(&self) {
        match self {
            LoadedModel::Chat(chat) => chat.engine().shutdown(Duration::ZERO).await,
            LoadedModel::Embedder(embedder) => embedder.shutdown().await,
            LoadedModel::Reranker(reranker) => reranker.shutdown().await,
        }
    }

    /// What it is doing; when it leaves is not its own business.
    fn status(&self, id: &str, num_leases: usize) -> ModelStatus {
        let mut status = ModelStatus {
            id: id.to_owned(),
            kind: self.kind(),
            weights_bytes: self.num_bytes(),
            cache_bytes: 0,
            cache_tokens: None,
            context_length: self.context_length(),
            is_alive: true,
            num_running: num_leases,
            num_waiting: 0,
            idle_for: None,
            unloads_in: None,
        };
        match self {
            LoadedModel::Chat(chat) => {
                let (spec, stats) = (chat.engine().spec(), chat.engine().stats());
                status.weights_bytes = spec.weights_bytes;
                status.cache_bytes = spec.cache_bytes;
                status.cache_tokens = Some(spec.num_blocks * spec.block_size);
                status.is_alive = chat.engine().is_alive();
                status.num_running = stats.num_running;
                status.num_waiting = stats.num_waiting;
            }
            LoadedModel::Embedder(embedder) => status.is_alive = embedder.is_alive(),
            LoadedModel::Reranker(reranker) => status.is_alive = reranker.is_alive(),
        }
        status
    }
}
