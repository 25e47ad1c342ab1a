//! `/api/reindex`: cutting and embedding documents anew while they go on answering, its progress, and its end.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::OptionalJsonBody;
use crate::http::openai::chunking::{ChunkingChoice, ChunkingStrategy};
use crate::http::openai::vector_stores::cut_anew;
use crate::rag::ingest;
use crate::store::{ReindexProgress, Store};

/// Failures told at most.
const MAX_FAILURES: u32 = 20;

#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = StartReindex)]
pub struct ReindexRequest {
    /// The collection; all of them by default.
    vector_store_id: Option<String>,
    /// How its documents are cut from now on, those that are there included unless they came with a chunking of their own.
    /// Needs `vector_store_id`.
    #[schema(value_type = Option<ChunkingChoice>)]
    chunking: Option<ChunkingStrategy>,
}

/// How far re-indexing is: the run that is at work, or the last one.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReindexState {
    /// `in_progress`, or `idle` when nothing waits.
    #[schema(inline)]
    status: ReindexStatus,
    /// Documents of this run.
    num_documents: u64,
    num_waiting: u64,
    num_running: u64,
    num_done: u64,
    /// They still answer as they were.
    num_failed: u64,
    /// Of the document that is being worked on.
    chunks_done: u64,
    chunks_total: u64,
    /// The first of them.
    failures: Vec<ReindexFailure>,
    /// Completed documents whose vectors another embedding model made.
    num_of_other_models: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ReindexStatus {
    InProgress,
    Idle,
}

/// A document that could not be made anew.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReindexFailure {
    vector_store_id: String,
    file_id: String,
    message: String,
}

/// Cuts and embeds documents anew
///
/// Those whose chunks another embedding model, another version or another chunking made. Each answers as it is until its
/// new chunks are complete, and is changed in one step then. Works in the background, and goes on after a restart.
#[utoipa::path(
    post,
    path = "/reindex",
    operation_id = "start_reindex",
    tag = "Browser app",
    request_body = Option<ReindexRequest>,
    responses((status = 200, body = ReindexState))
)]
pub async fn start(
    context: web::Data<Context>,
    body: OptionalJsonBody<ReindexRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    let embedder = context.documents_embedder()?;
    let store = &context.workspace.store;
    match (&request.chunking, request.vector_store_id) {
        (Some(strategy), Some(id)) => {
            let update = cut_anew(&context, &id, strategy.sizes_of("chunking")?);
            store.update_vector_store(&id, update).await?;
        }
        (Some(_), None) => {
            let message = "chunking needs a 'vector_store_id': name the collection that is to be cut otherwise";
            return Err(ApiError::invalid("chunking", message));
        }
        (None, id) => {
            let scope = ingest::reindex_scope(id, None, embedder);
            store.queue_reindex(scope).await?;
        }
    }
    Ok(HttpResponse::Ok().json(state(store).await?))
}

/// Tells how far re-indexing is
#[utoipa::path(
    get,
    path = "/reindex",
    operation_id = "get_reindex",
    tag = "Browser app",
    responses((status = 200, body = ReindexState))
)]
pub async fn get(context: web::Data<Context>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(state(&context.workspace.store).await?))
}

/// Stops re-indexing
///
/// What is not complete stays as it was.
#[utoipa::path(
    delete,
    path = "/reindex",
    operation_id = "cancel_reindex",
    tag = "Browser app",
    responses((status = 200, body = ReindexState))
)]
pub async fn cancel(context: web::Data<Context>) -> Result<HttpResponse, ApiError> {
    let store = &context.workspace.store;
    store.cancel_reindex().await?;
    Ok(HttpResponse::Ok().json(state(store).await?))
}

async fn state(store: &Store) -> Result<ReindexState, ApiError> {
    let progress = store.reindex_progress().await?;
    let ReindexProgress {
        num_documents,
        num_waiting,
        num_running,
        num_done,
        num_failed,
        chunks_done,
        chunks_total,
    } = progress;
    let failures = store.reindex_failures(MAX_FAILURES).await?.into_iter();
    let failure = |it: crate::store::ReindexFailure| ReindexFailure {
        vector_store_id: it.vector_store_id,
        file_id: it.file_id,
        message: it.message,
    };
    Ok(ReindexState {
        status: match progress.is_finished() {
            true => ReindexStatus::Idle,
            false => ReindexStatus::InProgress,
        },
        num_documents,
        num_waiting,
        num_running,
        num_done,
        num_failed,
        chunks_done,
        chunks_total,
        failures: failures.map(failure).collect(),
        num_of_other_models: store.documents_of_other_embedders().await?,
    })
}
