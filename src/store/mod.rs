//! What is remembered: files, uploads, their text, vector stores, documents, batches, jobs, chunks, conversations,
//! responses, chat completions, and the search over them.
//! SQLite is the truth; the vector index is a cache that may be deleted at any moment. Never sees a model.

mod attributes;
mod chat_completions;
mod chunks;
mod codes;
mod conversations;
mod copies;
mod database;
mod documents;
mod embedders;
mod error;
mod expiry;
mod extractions;
mod file_batches;
mod files;
mod filter;
mod finalists;
mod graph;
mod id_set;
mod import_pages;
mod imports;
mod index_file;
mod index_version;
mod items;
mod jobs;
mod json;
mod keyword_search;
mod listing;
mod passwords;
mod processes;
mod progress;
mod queue;
mod reindex;
mod responses;
mod rotation;
mod scope;
mod scope_cache;
mod shared_index;
mod sketches;
mod sources;
mod summaries;
mod uploads;
mod vector_index;
mod vector_rows;
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
pub use chunks::{ChunkRecord, ChunksInOrder};
pub use conversations::StoredConversation;
pub use copies::Twin;
pub use database::create_private_dir;
pub use documents::{
    Attached, Attributes, Chunking, Document, DocumentError, DocumentErrorCode, DocumentStatus,
    IfExists, NewDocument, PageWarning, Progress, Stage,
};
pub use embedders::OtherEmbedder;
pub use error::{Result, StoreError};
pub use extractions::Extraction;
pub use file_batches::FileBatch;
pub use files::{Content, NewFile, StoredFile, sha256};
pub use filter::{AttributeFilter, AttributeValue, CompareOp, FilterValue};
pub use graph::VectorStorage;
pub use import_pages::{ImportPage, PageDocument, PageOutcome, PageResult};
pub use imports::{Import, ImportCounts, ImportStatus, NewImport};
pub use index_version::IndexVersion;
pub use items::Item;
pub use jobs::{Job, NewChunk};
pub use keyword_search::{WordFrequencies, WordHit};
pub use listing::{ListOptions, Order, Page};
pub use passwords::Password;
pub use progress::{LastLook, Look};
pub use reindex::{Reindex, ReindexFailure, ReindexProgress, ReindexScope};
pub use responses::{StoredResponse, Written};
pub use scope::SearchScope;
pub use sources::{Kept, NewSource, Origin, Source};
pub use summaries::PassageSummary;
pub use uploads::{NewUpload, Upload, UploadPart, UploadStatus};
pub use vector_search::Hit;
pub use vector_stores::{FileCounts, NewVectorStore, VectorStore, VectorStoreUpdate};
pub use worker_lock::{WatchLock, WorkerLock, try_watch_lock, try_worker_lock};

use database::Database;
use keyword_search::WordCounts;
use processes::ProcessMark;
use scope_cache::ScopeCache;
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
    database: Arc<Database>,
    embedder: Arc<EmbedderId>,
    index: Arc<SharedIndex>,
    scopes: ScopeCache,
    storage: VectorStorage,
    jobs_changed: Arc<Notify>,
    process: Arc<ProcessMark>,
    word_counts: Arc<WordCounts>,
}

impl Store {
    /// Opens the data folder, and creates it (readable by its owner only) when it is not there.
    pub async fn open(data_dir: &Path, embedder: EmbedderId) -> Result<Self> {
        Self::open_with(data_dir, embedder, VectorStorage::default()).await
    }

    /// As `open`, with another storage of the vectors in the index. One of another storage answers until it is built.
    pub async fn open_with(
        data_dir: &Path,
        embedder: EmbedderId,
        storage: VectorStorage,
    ) -> Result<Self> {
        let dir = data_dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let database = Database::open(&dir)?;
            let embedder = Arc::new(embedder);
            let path = index_file::path(&dir);
            let index = SharedIndex::new(path, Arc::clone(&embedder), storage);
            let parts = Parts {
                database: Arc::new(database),
                embedder,
                index: Arc::new(index),
                scopes: ScopeCache::default(),
                storage,
                jobs_changed: Arc::default(),
                process: Arc::new(ProcessMark::new(&dir)),
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

    /// The same data, of which searches find what another embedder made the vectors of.
    pub fn of_embedder(&self, embedder: EmbedderId) -> Self {
        let (parts, embedder) = (&self.parts, Arc::new(embedder));
        let path = index_file::path_of_other(parts.database.dir(), &embedder);
        Self {
            parts: Arc::new(Parts {
                database: Arc::clone(&parts.database),
                index: Arc::new(SharedIndex::new(path, Arc::clone(&embedder), parts.storage)),
                scopes: ScopeCache::default(),
                storage: parts.storage,
                embedder,
                jobs_changed: Arc::clone(&parts.jobs_changed),
                process: Arc::clone(&parts.process),
                word_counts: Arc::clone(&parts.word_counts),
            }),
        }
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
