//! `/v1/vector_stores/{id}/file_batches`: files attached by one request, and followed and cancelled together.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::attributes;
use crate::http::openai::chunking::{ChunkingChoice, ChunkingStrategy};
use crate::http::openai::page::{self, Page, PageQuery};
use crate::http::openai::vector_store_file::VectorStoreFile;
use crate::http::openai::vector_store_files::{
    AttachRequest, IfExistsChoice, StatusQuery, new_document, polled,
};
use crate::http::openai::vector_stores::FileCounts;
use crate::store::{self, Chunking, NewDocument};

/// Files in one batch.
const MAX_FILES: usize = 2000;

/// Either `file_ids` or `files`. `attributes`, `chunking_strategy` and `if_exists` belong to `file_ids`; `files` bring their
/// own.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateFileBatch)]
pub struct CreateRequest {
    #[schema(min_items = 1, max_items = 2000)]
    file_ids: Option<Vec<String>>,
    #[schema(min_items = 1, max_items = 2000)]
    files: Option<Vec<AttachRequest>>,
    #[schema(schema_with = attributes::schema)]
    attributes: Option<Map<String, Value>>,
    #[schema(value_type = Option<ChunkingChoice>)]
    chunking_strategy: Option<ChunkingStrategy>,
    #[schema(value_type = Option<IfExistsChoice>, inline)]
    if_exists: Option<String>,
}

/// Files that were attached together.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileBatch {
    id: String,
    /// Always `vector_store.files_batch`.
    object: &'static str,
    /// Unix seconds.
    created_at: i64,
    vector_store_id: String,
    #[schema(inline)]
    status: Status,
    /// Of those of its files that are still in the vector store.
    file_counts: FileCounts,
}

/// `failed` where all files did.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    InProgress,
    Completed,
    Cancelled,
    Failed,
}

impl From<store::FileBatch> for FileBatch {
    fn from(batch: store::FileBatch) -> Self {
        let counts = batch.file_counts;
        let status = if batch.is_cancelled {
            Status::Cancelled
        } else if counts.in_progress > 0 {
            Status::InProgress
        } else if counts.failed > 0 && counts.failed == counts.total {
            Status::Failed
        } else {
            Status::Completed
        };
        Self {
            id: batch.id,
            object: "vector_store.files_batch",
            created_at: batch.created_at,
            vector_store_id: batch.vector_store_id,
            status,
            file_counts: counts.into(),
        }
    }
}

/// Attaches several files
///
/// All or none; each is then read for itself.
#[utoipa::path(
    post,
    path = "/vector_stores/{id}/file_batches",
    operation_id = "create_file_batch",
    tag = "Vector stores",
    params(("id" = String, Path)),
    request_body = CreateRequest,
    responses((status = 200, body = FileBatch))
)]
pub async fn create(
    context: web::Data<Context>,
    store_id: web::Path<String>,
    body: JsonBody<CreateRequest>,
) -> Result<HttpResponse, ApiError> {
    let of_collection = context.workspace.store.chunking_of(&store_id).await?;
    let files = files(&context, body.0, of_collection)?;
    let batch = context
        .workspace
        .store
        .create_file_batch(&store_id, files)
        .await?;
    Ok(HttpResponse::Ok().json(FileBatch::from(batch)))
}

fn check_count(param: &str, num_files: usize) -> Result<(), ApiError> {
    if (1..=MAX_FILES).contains(&num_files) {
        return Ok(());
    }
    let message = format!("{param} has {num_files} files, but must have between 1 and {MAX_FILES}");
    Err(ApiError::invalid(param, message))
}

/// Checked files of a request, to a collection whose documents are cut so.
fn files(
    context: &Context,
    request: CreateRequest,
    of_collection: Option<Chunking>,
) -> Result<Vec<NewDocument>, ApiError> {
    let (param, files): (_, Vec<AttachRequest>) = match (request.file_ids, request.files) {
        (Some(file_ids), None) => {
            // All have the same, so it is checked before it is copied.
            check_count("file_ids", file_ids.len())?;
            attributes::checked(request.attributes.clone().unwrap_or_default())?;
            let attach = |file_id| AttachRequest {
                file_id,
                attributes: request.attributes.clone(),
                chunking_strategy: request.chunking_strategy.clone(),
                if_exists: request.if_exists.clone(),
                password: None,
            };
            ("file_ids", file_ids.into_iter().map(attach).collect())
        }
        (None, Some(files)) => ("files", files),
        (Some(_), Some(_)) => {
            let message = "a batch has either 'file_ids' or 'files'; leave one of them out";
            return Err(ApiError::invalid("files", message));
        }
        (None, None) => {
            let message = "missing required parameter: 'file_ids' or 'files'";
            return Err(ApiError::invalid("file_ids", message));
        }
    };
    check_count(param, files.len())?;
    let checked = files.into_iter().enumerate().map(|(at, file)| {
        new_document(context, file, of_collection).map_err(|error| match param {
            "files" => error.about(&format!("files[{at}]")),
            _ => error,
        })
    });
    checked.collect()
}

/// Shows a batch of files
#[utoipa::path(
    get,
    path = "/vector_stores/{id}/file_batches/{batch}",
    operation_id = "get_file_batch",
    tag = "Vector stores",
    params(("id" = String, Path), ("batch" = String, Path)),
    responses((
        status = 200,
        body = FileBatch,
        headers(("openai-poll-after-ms" = u32, description = "When to ask again, while it is in progress"))
    ))
)]
pub async fn get(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let batch = context.workspace.store.file_batch(&path.0, &path.1).await?;
    let is_in_progress = batch.file_counts.in_progress > 0;
    Ok(polled(is_in_progress, FileBatch::from(batch)))
}

/// Cancels what of a batch has not been read yet
#[utoipa::path(
    post,
    path = "/vector_stores/{id}/file_batches/{batch}/cancel",
    operation_id = "cancel_file_batch",
    tag = "Vector stores",
    params(("id" = String, Path), ("batch" = String, Path)),
    responses((status = 200, body = FileBatch))
)]
pub async fn cancel(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let store = &context.workspace.store;
    let batch = store.cancel_file_batch(&path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(FileBatch::from(batch)))
}

/// Lists the files of a batch
#[utoipa::path(
    get,
    path = "/vector_stores/{id}/file_batches/{batch}/files",
    operation_id = "list_file_batch_files",
    tag = "Vector stores",
    params(("id" = String, Path), ("batch" = String, Path), PageQuery, StatusQuery),
    responses((status = 200, body = Page<VectorStoreFile>))
)]
pub async fn list_files(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
    query: web::Query<PageQuery>,
    filter: web::Query<StatusQuery>,
) -> Result<HttpResponse, ApiError> {
    let status = filter.status()?;
    let page = context
        .workspace
        .store
        .list_file_batch(&path.0, &path.1, status, query.request(20, 100)?)
        .await?;
    let data = page.items.into_iter().map(VectorStoreFile::from);
    Ok(HttpResponse::Ok().json(page::list(data.collect(), page.has_more)))
}
