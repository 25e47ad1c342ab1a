//! What is remembered: files, uploads, their text, vector stores, documents, batches, jobs, chunks, conversations,
//! responses, chat completions, and the search over them.
//! SQLite is the truth; the vector index is a cache that may be deleted at any moment. Never sees a model.

mod chat_completions;
mod chunks;
mod conversations;
mod database;
mod documents;
mod error;
mod expiry;
mod extractions;
mod file_batches;
mod files;
mod filter;
mod index_file;
mod items;
mod jobs;
mod json;
mod keyword_search;
mod listing;
mod processes;
mod responses;
mod scope;
mod shared_index;
mod uploads;
mod vector_index;
mod vector_search;
mod vector_stores;
mod word_index;
mod words;
mod worker_lock;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;

pub use chat_completions::StoredCompletion;
pub use chunks::ChunkRecord;
pub use conversations::StoredConversation;
pub use database::create_private_dir;
pub use documents::{
    Attributes, Chunking, Document, DocumentError, DocumentErrorCode, DocumentStatus, NewDocument,
    PageWarning, Progress,
};
pub use error::{Result, StoreError};
pub use extractions::Extraction;
pub use file_batches::FileBatch;
pub use files::{Content, NewFile, StoredFile};
pub use filter::{AttributeFilter, AttributeValue, CompareOp, FilterValue};
pub use items::Item;
pub use jobs::{Job, NewChunk};
pub use keyword_search::{WordFrequencies, WordHit};
pub use listing::{ListOptions, Order, Page};
pub use responses::{StoredResponse, Written};
pub use scope::SearchScope;
pub use uploads::{NewUpload, Upload, UploadPart, UploadStatus};
pub use vector_search::Hit;
pub use vector_stores::{FileCounts, NewVectorStore, VectorStore, VectorStoreUpdate};
pub use worker_lock::{WorkerLock, try_worker_lock};

use database::Database;
use keyword_search::WordCounts;
use processes::ProcessMark;
use shared_index::SharedIndex;

/// Which model made the vectors. Chunks of another one are kept but never searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedderId {
    pub hash: String,
    pub dimensions: usize,
}

/// A handle to one data folder; clones share it. Several processes may have the same folder open.
#[derive(Clone)]
pub struct Store {
    parts: Arc<Parts>,
}

struct Parts {
    database: Database,
    embedder: Arc<EmbedderId>,
    index: Arc<SharedIndex>,
    jobs_changed: Notify,
    process: ProcessMark,
    word_counts: Arc<WordCounts>,
}

impl Store {
    /// Opens the data folder, and creates it (readable by its owner only) when it is not there.
    pub async fn open(data_dir: &Path, embedder: EmbedderId) -> Result<Self> {
        let dir = data_dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let database = Database::open(&dir)?;
            let embedder = Arc::new(embedder);
            let index = Arc::new(SharedIndex::new(&dir, Arc::clone(&embedder)));
            let parts = Parts {
                database,
                embedder,
                index,
                jobs_changed: Notify::new(),
                process: ProcessMark::new(&dir),
                word_counts: Arc::default(),
            };
            Ok(Self {
                parts: Arc::new(parts),
            })
        });
        opened
            .await
            .map_err(|error| StoreError::Panicked(error.to_string()))?
    }

    pub fn embedder(&self) -> &EmbedderId {
        &self.parts.embedder
    }

    /// Saves what makes the next start fast. Nothing is lost without it.
    pub async fn flush(&self) -> Result<()> {
        self.save_vector_index().await?;
        self.database().checkpoint().await
    }

    fn database(&self) -> &Database {
        &self.parts.database
    }
}

/// `prefix` and 24 random hexadecimal digits.
pub fn new_id(prefix: &str) -> String {
    let digits = files::hexadecimal(&rand::random::<[u8; 12]>());
    format!("{prefix}{digits}")
}

/// Seconds since 1970.
pub fn unix_now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs() as i64)
}
