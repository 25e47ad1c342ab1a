//! `/v1/vector_stores/{id}/files`: documents of a vector store, from attached to searchable.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::{JsonBody, nullable};
use crate::http::openai::attributes;
use crate::http::openai::page::{self, PageQuery};
use crate::rag::ingest::{allowed_chunking, default_chunking};
use crate::store::{Chunking, Document, DocumentStatus, NewDocument};

/// Milliseconds after which a client that polls should ask again.
const POLL_AFTER_MS: &str = "100";

#[derive(Debug, Deserialize)]
pub struct AttachRequest {
    pub file_id: String,
    pub attributes: Option<Map<String, Value>>,
    pub chunking_strategy: Option<ChunkingStrategy>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ChunkingStrategy {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "static")]
    fixed: Option<StaticChunking>,
}

#[derive(Debug, Clone, Deserialize)]
struct StaticChunking {
    max_chunk_size_tokens: u32,
    chunk_overlap_tokens: u32,
}

impl ChunkingStrategy {
    /// Checked sizes. The embedder's window bounds them further.
    pub fn chunking(strategy: Option<&Self>) -> Result<Chunking, ApiError> {
        let auto = default_chunking();
        let Some(strategy) = strategy else {
            return Ok(auto);
        };
        match (strategy.kind.as_str(), &strategy.fixed) {
            ("auto", _) => Ok(auto),
            ("static", Some(fixed)) => {
                let (max, overlap) = (fixed.max_chunk_size_tokens, fixed.chunk_overlap_tokens);
                if !(100..=4096).contains(&max) {
                    let message =
                        format!("max_chunk_size_tokens is {max}, but must be between 100 and 4096");
                    return Err(ApiError::invalid(
                        "chunking_strategy.static.max_chunk_size_tokens",
                        message,
                    ));
                }
                if overlap > max / 2 {
                    let message = format!(
                        "chunk_overlap_tokens is {overlap}, but may be at most half of {max}"
                    );
                    return Err(ApiError::invalid(
                        "chunking_strategy.static.chunk_overlap_tokens",
                        message,
                    ));
                }
                Ok(Chunking {
                    max_tokens: max,
                    overlap_tokens: overlap,
                })
            }
            ("static", None) => Err(ApiError::invalid(
                "chunking_strategy.static",
                "missing required parameter: 'chunking_strategy.static'",
            )),
            (other, _) => Err(ApiError::invalid(
                "chunking_strategy.type",
                format!("chunking_strategy.type is '{other}', but must be 'auto' or 'static'"),
            )),
        }
    }
}

pub async fn attach(
    context: web::Data<Context>,
    store_id: web::Path<String>,
    body: JsonBody<AttachRequest>,
) -> Result<HttpResponse, ApiError> {
    let NewDocument {
        file_id,
        attributes,
        chunking,
    } = new_document(&context, body.0)?;
    let store = &context.workspace.store;
    let document = store
        .attach(&store_id, &file_id, attributes, chunking)
        .await?;
    Ok(HttpResponse::Ok().json(document_json(&document)))
}

/// A checked request. The sizes are those that the embedder allows, and are shown so.
pub fn new_document(context: &Context, request: AttachRequest) -> Result<NewDocument, ApiError> {
    let embedder = context.documents_embedder()?;
    let attributes = attributes::checked(request.attributes.unwrap_or_default())?;
    let chunking = ChunkingStrategy::chunking(request.chunking_strategy.as_ref())?;
    Ok(NewDocument {
        file_id: request.file_id,
        attributes,
        chunking: allowed_chunking(chunking, embedder),
    })
}

/// The answer to a client that may be waiting for the end of something: while that is not reached, the header that the
/// clients' polling helpers read says when to ask again.
pub fn polled(is_in_progress: bool, body: Value) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if is_in_progress {
        response.insert_header(("openai-poll-after-ms", POLL_AFTER_MS));
    }
    response.json(body)
}

pub async fn list(
    context: web::Data<Context>,
    store_id: web::Path<String>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiError> {
    let status = query.filter.as_deref().map(parse_status).transpose()?;
    let page = context
        .workspace
        .store
        .list_documents(&store_id, status, query.request(20, 100)?)
        .await?;
    let data = page.items.iter().map(document_json).collect();
    Ok(HttpResponse::Ok().json(page::list(data, page.has_more)))
}

pub fn parse_status(text: &str) -> Result<DocumentStatus, ApiError> {
    match text {
        "in_progress" => Ok(DocumentStatus::InProgress),
        "completed" => Ok(DocumentStatus::Completed),
        "failed" => Ok(DocumentStatus::Failed),
        "cancelled" => Ok(DocumentStatus::Cancelled),
        other => {
            let message = format!(
                "filter is '{other}', but must be in_progress, completed, failed or cancelled"
            );
            Err(ApiError::invalid("filter", message))
        }
    }
}

pub async fn get(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let document = context.workspace.store.document(&path.0, &path.1).await?;
    let is_in_progress = document.status == DocumentStatus::InProgress;
    Ok(polled(is_in_progress, document_json(&document)))
}

#[derive(Debug, Deserialize)]
pub struct UpdateRequest {
    /// Null takes all away.
    #[serde(default, deserialize_with = "nullable")]
    attributes: Option<Option<Map<String, Value>>>,
}

pub async fn update(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
    body: JsonBody<UpdateRequest>,
) -> Result<HttpResponse, ApiError> {
    let attributes = body.0.attributes.ok_or_else(|| {
        ApiError::invalid("attributes", "missing required parameter: 'attributes'")
    })?;
    let attributes = attributes::checked(attributes.unwrap_or_default())?;
    let document = context
        .workspace
        .store
        .update_attributes(&path.0, &path.1, attributes)
        .await?;
    Ok(HttpResponse::Ok().json(document_json(&document)))
}

pub async fn detach(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.store.detach(&path.0, &path.1).await?;
    Ok(HttpResponse::Ok()
        .json(json!({ "id": path.1, "object": "vector_store.file.deleted", "deleted": true })))
}

/// The extracted text.
pub async fn content(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let store = &context.workspace.store;
    store.document(&path.0, &path.1).await?;
    let extraction = store.extraction(&path.1).await?;
    let data: Vec<Value> = extraction
        .into_iter()
        .map(|extraction| json!({ "type": "text", "text": extraction.text }))
        .collect();
    Ok(HttpResponse::Ok().json(json!({
        "object": "vector_store.file_content.page",
        "data": data,
        "has_more": false,
        "next_page": null,
    })))
}

pub fn document_json(document: &Document) -> Value {
    let last_error = document
        .last_error
        .as_ref()
        .map(|error| json!({ "code": error.code.as_str(), "message": error.message }));
    let warnings: Vec<Value> = document
        .page_warnings
        .iter()
        .map(|warning| json!({ "page": warning.page, "message": warning.error }))
        .collect();
    json!({
        "id": document.file_id,
        "object": "vector_store.file",
        "usage_bytes": document.usage_bytes,
        "created_at": document.created_at,
        "vector_store_id": document.vector_store_id,
        "status": document.status.as_str(),
        "last_error": last_error,
        "chunking_strategy": {
            "type": "static",
            "static": {
                "max_chunk_size_tokens": document.chunking.max_tokens,
                "chunk_overlap_tokens": document.chunking.overlap_tokens,
            },
        },
        "attributes": document.attributes,
        // Extensions.
        "num_chunks": document.num_chunks,
        "progress": {
            "pages_read": document.progress.pages_read,
            "pages_total": document.progress.pages_total,
            "chunks_done": document.progress.chunks_done,
            "chunks_total": document.progress.chunks_total,
        },
        "warnings": warnings,
    })
}
