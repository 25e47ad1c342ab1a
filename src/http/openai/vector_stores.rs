//! `/v1/vector_stores`: collections of documents.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::{JsonBody, nullable};
use crate::http::openai::chunking::{ChunkingChoice, ChunkingStrategy};
use crate::http::openai::expiry::VectorStoreExpiry;
use crate::http::openai::metadata;
use crate::http::openai::page::{self, Deleted, Listed, Page, PageQuery};
use crate::http::openai::vector_store_files::{AttachRequest, new_document};
use crate::rag::ingest::reindex_scope;
use crate::store::{self, Chunking, NewVectorStore, VectorStoreUpdate};

/// Files that a store may be created with.
const MAX_FILES: usize = 500;
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateVectorStore)]
pub struct CreateRequest {
    name: Option<String>,
    description: Option<String>,
    /// Files to attach at once.
    #[schema(max_items = 500)]
    file_ids: Option<Vec<String>>,
    /// Of these files, and of those that are attached later without one.
    #[schema(value_type = Option<ChunkingChoice>)]
    chunking_strategy: Option<ChunkingStrategy>,
    /// When its documents go; never, by default.
    expires_after: Option<VectorStoreExpiry>,
    #[schema(schema_with = metadata::schema)]
    metadata: Option<Map<String, Value>>,
}

/// A collection of documents.
#[derive(Debug, Serialize, ToSchema)]
pub struct VectorStore {
    id: String,
    /// Always `vector_store`.
    object: &'static str,
    /// Unix seconds.
    created_at: i64,
    /// Empty where nobody gave one.
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    description: Option<String>,
    /// Text and vectors of its documents.
    usage_bytes: u64,
    file_counts: FileCounts,
    #[schema(inline)]
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_after: Option<VectorStoreExpiry>,
    /// Unix seconds; null for never.
    #[schema(required)]
    expires_at: Option<i64>,
    /// Unix seconds.
    last_active_at: i64,
    /// How files are cut that come without one.
    #[schema(value_type = ChunkingChoice)]
    chunking_strategy: ChunkingStrategy,
    metadata: BTreeMap<String, String>,
}

/// `in_progress` while documents are being read.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    InProgress,
    Completed,
    Expired,
}

/// Documents by how far they are.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileCounts {
    in_progress: u64,
    completed: u64,
    failed: u64,
    cancelled: u64,
    total: u64,
}

impl From<store::FileCounts> for FileCounts {
    fn from(counts: store::FileCounts) -> Self {
        Self {
            in_progress: counts.in_progress,
            completed: counts.completed,
            failed: counts.failed,
            cancelled: counts.cancelled,
            total: counts.total,
        }
    }
}

impl From<store::VectorStore> for VectorStore {
    fn from(store: store::VectorStore) -> Self {
        let status = if store.is_expired {
            Status::Expired
        } else if store.file_counts.in_progress > 0 {
            Status::InProgress
        } else {
            Status::Completed
        };
        Self {
            id: store.id,
            object: "vector_store",
            created_at: store.created_at,
            name: store.name,
            description: store.description,
            usage_bytes: store.usage_bytes,
            file_counts: store.file_counts.into(),
            status,
            expires_after: store.expires_after_days.map(VectorStoreExpiry::after),
            expires_at: store.expires_at,
            last_active_at: store.last_active_at,
            chunking_strategy: store.chunking.into(),
            metadata: store.metadata,
        }
    }
}

impl Listed for VectorStore {
    fn id(&self) -> &str {
        &self.id
    }
}

/// Creates a vector store
#[utoipa::path(
    post,
    path = "/vector_stores",
    operation_id = "create_vector_store",
    tag = "Vector stores",
    request_body = CreateRequest,
    responses((status = 200, body = VectorStore))
)]
pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<CreateRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    let file_ids = request.file_ids.unwrap_or_default();
    if file_ids.len() > MAX_FILES {
        let message = format!(
            "file_ids has {} files, but may have {MAX_FILES}",
            file_ids.len()
        );
        return Err(ApiError::invalid("file_ids", message));
    }
    let strategy = request.chunking_strategy.as_ref();
    let chunking = strategy.map(ChunkingStrategy::sizes).transpose()?.flatten();
    let attach = |file_id| {
        let attach = AttachRequest {
            file_id,
            attributes: None,
            chunking_strategy: None,
            if_exists: None,
            password: None,
        };
        new_document(&context, attach, chunking)
    };
    let files: Result<Vec<_>, ApiError> = file_ids.into_iter().map(attach).collect();
    let expires_after = request.expires_after;
    let new = NewVectorStore {
        name: request.name.unwrap_or_default(),
        description: request.description,
        metadata: metadata::checked(request.metadata.unwrap_or_default())?,
        expires_after_days: expires_after.map(|it| it.days()).transpose()?,
        chunking,
        files: files?,
    };
    let created = context.workspace.store.create_vector_store(new).await?;
    Ok(HttpResponse::Ok().json(VectorStore::from(created)))
}

/// Lists the vector stores
#[utoipa::path(
    get,
    path = "/vector_stores",
    operation_id = "list_vector_stores",
    tag = "Vector stores",
    params(PageQuery),
    responses((status = 200, body = Page<VectorStore>))
)]
pub async fn list(
    context: web::Data<Context>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiError> {
    let page = context
        .workspace
        .store
        .list_vector_stores(query.request(20, 100)?)
        .await?;
    let data = page.items.into_iter().map(VectorStore::from);
    Ok(HttpResponse::Ok().json(page::list(data.collect(), page.has_more)))
}

/// Shows one vector store
#[utoipa::path(
    get,
    path = "/vector_stores/{id}",
    operation_id = "get_vector_store",
    tag = "Vector stores",
    params(("id" = String, Path)),
    responses((status = 200, body = VectorStore))
)]
pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let found = context.workspace.store.vector_store(&id).await?;
    Ok(HttpResponse::Ok().json(VectorStore::from(found)))
}

/// What to change; null takes it away.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UpdateVectorStore)]
pub struct UpdateRequest {
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(schema_with = metadata::schema)]
    metadata: Option<Option<Map<String, Value>>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<VectorStoreExpiry>)]
    expires_after: Option<Option<VectorStoreExpiry>>,
    /// Of files that are attached from now on, and of those that are there: unless they came with one of their own, they
    /// are cut anew in the background while they go on answering. `GET /api/reindex` tells how far that is.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<ChunkingChoice>)]
    chunking_strategy: Option<Option<ChunkingStrategy>>,
}

/// Changes a vector store
#[utoipa::path(
    post,
    path = "/vector_stores/{id}",
    operation_id = "update_vector_store",
    tag = "Vector stores",
    params(("id" = String, Path)),
    request_body = UpdateRequest,
    responses((status = 200, body = VectorStore))
)]
pub async fn update(
    context: web::Data<Context>,
    id: web::Path<String>,
    body: JsonBody<UpdateRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    let metadata = request.metadata.map(Option::unwrap_or_default);
    let days = |expiry: Option<VectorStoreExpiry>| expiry.map(|it| it.days()).transpose();
    let chunked = match &request.chunking_strategy {
        Some(Some(strategy)) => cut_anew(&context, &id, strategy.sizes()?),
        Some(None) => cut_anew(&context, &id, None),
        None => VectorStoreUpdate::default(),
    };
    let update = VectorStoreUpdate {
        name: request.name.map(Option::unwrap_or_default),
        metadata: metadata.map(metadata::checked).transpose()?,
        expires_after_days: request.expires_after.map(days).transpose()?,
        ..chunked
    };
    let updated = context
        .workspace
        .store
        .update_vector_store(&id, update)
        .await?;
    Ok(HttpResponse::Ok().json(VectorStore::from(updated)))
}

/// The change that has a collection cut otherwise, the documents that are there included. Without a model for documents
/// these stay as they are.
pub fn cut_anew(context: &Context, id: &str, chunking: Option<Chunking>) -> VectorStoreUpdate {
    let wanted = chunking.unwrap_or(context.workspace.chunking);
    let scope = |embedder| reindex_scope(Some(id.to_owned()), Some(wanted), embedder);
    VectorStoreUpdate {
        chunking: Some(chunking),
        recut: context.documents_embedder().ok().map(scope),
        ..VectorStoreUpdate::default()
    }
}

/// Deletes a vector store
///
/// Its documents go with it; their files stay.
#[utoipa::path(
    delete,
    path = "/vector_stores/{id}",
    operation_id = "delete_vector_store",
    tag = "Vector stores",
    params(("id" = String, Path)),
    responses((status = 200, body = Deleted))
)]
pub async fn delete(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.store.delete_vector_store(&id).await?;
    Ok(HttpResponse::Ok().json(Deleted::new(&*id, "vector_store.deleted")))
}
