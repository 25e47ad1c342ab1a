//! A file of a vector store, as it is shown: how far it has been read, and what of it could not be.

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::openai::chunking::{ChunkingChoice, ChunkingStrategy};
use crate::http::openai::page::Listed;
use crate::store::{
    AttributeValue, Attributes, Document, DocumentError, DocumentErrorCode, DocumentStatus,
    PageWarning, Progress,
};

/// A file of a vector store.
#[derive(Debug, Serialize, ToSchema)]
pub struct VectorStoreFile {
    /// The file's id.
    id: String,
    /// Always `vector_store.file`.
    object: &'static str,
    /// Of its text and vectors.
    usage_bytes: u64,
    /// Unix seconds: when it was attached.
    created_at: i64,
    vector_store_id: String,
    #[schema(inline)]
    status: DocumentStatus,
    /// Why it failed.
    #[schema(required)]
    last_error: Option<LastError>,
    #[schema(value_type = ChunkingChoice)]
    chunking_strategy: ChunkingStrategy,
    #[schema(value_type = BTreeMap<String, AttributeValue>)]
    attributes: Attributes,
    num_chunks: u32,
    progress: ReadingProgress,
    /// Pages that could not be read, in a file whose other pages could.
    warnings: Vec<Warning>,
}

#[derive(Debug, Serialize, ToSchema)]
struct LastError {
    #[schema(inline)]
    code: DocumentErrorCode,
    message: String,
}

/// How far a file has been read. Totals are 0 while they are not known.
#[derive(Debug, Serialize, ToSchema)]
struct ReadingProgress {
    pages_read: u32,
    pages_total: u32,
    chunks_done: u32,
    chunks_total: u32,
}

#[derive(Debug, Serialize, ToSchema)]
struct Warning {
    /// From 1.
    page: u32,
    message: String,
}

impl From<Document> for VectorStoreFile {
    fn from(document: Document) -> Self {
        Self {
            id: document.file_id,
            object: "vector_store.file",
            usage_bytes: document.usage_bytes,
            created_at: document.created_at,
            vector_store_id: document.vector_store_id,
            status: document.status,
            last_error: document.last_error.map(LastError::from),
            chunking_strategy: document.chunking.into(),
            attributes: document.attributes,
            num_chunks: document.num_chunks,
            progress: document.progress.into(),
            warnings: document
                .page_warnings
                .into_iter()
                .map(Warning::from)
                .collect(),
        }
    }
}

impl From<DocumentError> for LastError {
    fn from(error: DocumentError) -> Self {
        Self {
            code: error.code,
            message: error.message,
        }
    }
}

impl From<Progress> for ReadingProgress {
    fn from(progress: Progress) -> Self {
        Self {
            pages_read: progress.pages_read,
            pages_total: progress.pages_total,
            chunks_done: progress.chunks_done,
            chunks_total: progress.chunks_total,
        }
    }
}

impl From<PageWarning> for Warning {
    fn from(warning: PageWarning) -> Self {
        Self {
            page: warning.page,
            message: warning.error,
        }
    }
}

impl Listed for VectorStoreFile {
    fn id(&self) -> &str {
        &self.id
    }
}
