//! A file of a vector store, as it is shown: how far it has been read, and what of it could not be.

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::openai::chunking::{ChunkingChoice, ChunkingStrategy};
use crate::http::openai::page::Listed;
use crate::store::{
    Attached, AttributeValue, Attributes, Document, DocumentError, DocumentErrorCode,
    DocumentStatus, PageWarning, Stage,
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
    filename: String,
    num_chunks: u32,
    progress: ReadingProgress,
    /// Pages without text, and why.
    warnings: Vec<Warning>,
    /// In the answer to attaching it: whether nothing was done, because it, or one of the same name and content, was there
    /// already. It is that one which is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    is_unchanged: Option<bool>,
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
    /// What an unfinished file waits for; null for others.
    #[schema(required, inline)]
    stage: Option<Stage>,
    pages_read: u32,
    pages_total: u32,
    chunks_done: u32,
    chunks_total: u32,
    /// An estimate by what was measured; null while there is none.
    #[schema(required)]
    seconds_left: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Warning {
    /// From 1.
    page: u32,
    message: String,
}

impl From<Document> for VectorStoreFile {
    fn from(document: Document) -> Self {
        let progress = ReadingProgress::of(&document);
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
            filename: document.filename,
            num_chunks: document.num_chunks,
            progress,
            warnings: document
                .page_warnings
                .into_iter()
                .map(Warning::from)
                .collect(),
            is_unchanged: None,
        }
    }
}

impl From<Attached> for VectorStoreFile {
    fn from(attached: Attached) -> Self {
        Self {
            is_unchanged: Some(attached.is_unchanged),
            ..Self::from(attached.document)
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

impl ReadingProgress {
    fn of(document: &Document) -> Self {
        let progress = document.progress;
        Self {
            stage: document.stage,
            pages_read: progress.pages_read,
            pages_total: progress.pages_total,
            chunks_done: progress.chunks_done,
            chunks_total: progress.chunks_total,
            seconds_left: progress.seconds_left,
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
