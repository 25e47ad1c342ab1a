//! `GET /api/models/loaded` and `DELETE /api/models/loaded/{name}`: which models are in memory and what each is doing, and
//! unloading one.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::models::ModelStatus;

#[derive(Debug, Serialize, ToSchema)]
pub struct LoadedModels {
    models: Vec<LoadedModel>,
    /// Names of the models that are being loaded.
    loading: Vec<String>,
}

/// A model in memory.
#[derive(Debug, Serialize, ToSchema)]
struct LoadedModel {
    id: String,
    /// `chat`, `embedding` or `rerank`.
    kind: &'static str,
    /// Where it runs, in a few words.
    device: String,
    weights_bytes: u64,
    /// Memory for the contexts of requests.
    cache_bytes: u64,
    /// Tokens that the cache holds in all.
    #[schema(required)]
    cache_tokens: Option<usize>,
    /// In tokens.
    context_length: usize,
    num_running: usize,
    num_waiting: usize,
    /// Since its last request ended; null while there is one.
    #[schema(required)]
    idle_seconds: Option<u64>,
    /// When it is unloaded if nobody asks for it; null when that has no fixed time.
    #[schema(required)]
    unloads_in_seconds: Option<u64>,
}

impl LoadedModel {
    fn new(context: &Context, status: &ModelStatus) -> Self {
        Self {
            id: status.id.clone(),
            kind: status.kind.name(),
            device: context.device.clone(),
            weights_bytes: status.weights_bytes,
            cache_bytes: status.cache_bytes,
            cache_tokens: status.cache_tokens,
            context_length: status.context_length,
            num_running: status.num_running,
            num_waiting: status.num_waiting,
            idle_seconds: status.idle_for.map(|idle| idle.as_secs()),
            unloads_in_seconds: status.unloads_in.map(|left| left.as_secs()),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Unloaded {
    id: String,
    /// Always true.
    unloaded: bool,
}

/// Lists the models in memory
#[utoipa::path(
    get,
    path = "/models/loaded",
    operation_id = "list_loaded_models",
    tag = "Browser app",
    responses((status = 200, body = LoadedModels))
)]
pub async fn list(context: web::Data<Context>) -> HttpResponse {
    let models = &context.workspace.models;
    let loaded = models.loaded();
    let loaded = loaded.iter().map(|it| LoadedModel::new(&context, it));
    HttpResponse::Ok().json(LoadedModels {
        models: loaded.collect(),
        loading: models.loading(),
    })
}

/// Unloads a model
///
/// One that is in use, or that the server keeps, stays.
#[utoipa::path(
    delete,
    path = "/models/loaded/{name}",
    operation_id = "unload_model",
    tag = "Browser app",
    params(("name" = String, Path, description = "The model's name; it may have slashes")),
    responses((status = 200, body = Unloaded))
)]
pub async fn unload(
    context: web::Data<Context>,
    name: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.models.unload(&name).await?;
    Ok(HttpResponse::Ok().json(Unloaded {
        id: name.into_inner(),
        unloaded: true,
    }))
}
