//! `/v1/vector_stores/{id}/file_batches`: files attached by one request, and followed and cancelled together.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::attributes;
use crate::http::openai::page::{self, PageQuery};
use crate::http::openai::vector_store_files::{
    AttachRequest, ChunkingStrategy, document_json, new_document, parse_status, polled,
};
use crate::http::openai::vector_stores::counts_json;
use crate::store::{FileBatch, NewDocument};

/// Files in one batch.
const MAX_FILES: usize = 2000;

/// `attributes` and `chunking_strategy` belong to `file_ids`; `files` bring their own.
#[derive(Debug, Deserialize)]
pub struct CreateRequest {
    file_ids: Option<Vec<String>>,
    files: Option<Vec<AttachRequest>>,
    attributes: Option<Map<String, Value>>,
    chunking_strategy: Option<ChunkingStrategy>,
}

pub async fn create(
    context: web::Data<Context>,
    store_id: web::Path<String>,
    body: JsonBody<CreateRequest>,
) -> Result<HttpResponse, ApiError> {
    let files = files(&context, body.0)?;
    let batch = context
        .workspace
        .store
        .create_file_batch(&store_id, files)
        .await?;
    Ok(HttpResponse::Ok().json(batch_json(&batch)))
}

fn check_count(param: &str, num_files: usize) -> Result<(), ApiError> {
    if (1..=MAX_FILES).contains(&num_files) {
        return Ok(());
    }
    let message = format!("{param} has {num_files} files, but must have between 1 and {MAX_FILES}");
    Err(ApiError::invalid(param, message))
}

/// Checked files of a request.
fn files(context: &Context, request: CreateRequest) -> Result<Vec<NewDocument>, ApiError> {
    let (param, files): (_, Vec<AttachRequest>) = match (request.file_ids, request.files) {
        (Some(file_ids), None) => {
            // All have the same, so it is checked before it is copied.
            check_count("file_ids", file_ids.len())?;
            attributes::checked(request.attributes.clone().unwrap_or_default())?;
            let attach = |file_id| AttachRequest {
                file_id,
                attributes: request.attributes.clone(),
                chunking_strategy: request.chunking_strategy.clone(),
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
        new_document(context, file).map_err(|error| match param {
            "files" => error.about(&format!("files[{at}]")),
            _ => error,
        })
    });
    checked.collect()
}

pub async fn get(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let batch = context.workspace.store.file_batch(&path.0, &path.1).await?;
    let is_in_progress = batch.file_counts.in_progress > 0;
    Ok(polled(is_in_progress, batch_json(&batch)))
}

pub async fn cancel(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let store = &context.workspace.store;
    let batch = store.cancel_file_batch(&path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(batch_json(&batch)))
}

pub async fn list_files(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiError> {
    let status = query.filter.as_deref().map(parse_status).transpose()?;
    let page = context
        .workspace
        .store
        .list_file_batch(&path.0, &path.1, status, query.request(20, 100)?)
        .await?;
    let data = page.items.iter().map(document_json).collect();
    Ok(HttpResponse::Ok().json(page::list(data, page.has_more)))
}

fn batch_json(batch: &FileBatch) -> Value {
    let counts = &batch.file_counts;
    let status = if batch.is_cancelled {
        "cancelled"
    } else if counts.in_progress > 0 {
        "in_progress"
    } else if counts.failed > 0 && counts.failed == counts.total {
        "failed"
    } else {
        "completed"
    };
    json!({
        "id": batch.id,
        "object": "vector_store.files_batch",
        "created_at": batch.created_at,
        "vector_store_id": batch.vector_store_id,
        "status": status,
        "file_counts": counts_json(counts),
    })
}
