//! `GET /health`: version and readiness, for load balancers and people. `GET /version`: the version alone.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::EngineStats;
use crate::http::Context;
use crate::http::error::{ApiError, ErrorBody};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A server that works.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    status: &'static str,
    version: &'static str,
    /// The one that answers when a request names none.
    #[schema(required)]
    chat_model: Option<String>,
    /// The one that embeds the documents.
    #[schema(required)]
    embedding_model: Option<String>,
    /// Where models run, in a few words.
    device: String,
    /// Null while no chat model is loaded.
    #[schema(required)]
    engine: Option<EngineCounts>,
}

/// What all chat models together are doing, and have done since they were loaded.
#[derive(Debug, Serialize, ToSchema)]
struct EngineCounts {
    num_running: usize,
    num_waiting: usize,
    /// Blocks of the cache that no sequence holds.
    num_free_blocks: usize,
    num_blocks: usize,
    num_generated_tokens: u64,
    num_computed_prompt_tokens: u64,
    /// Prompt tokens that were found in the cache.
    num_cached_tokens: u64,
    num_preemptions: u64,
    /// Tokens that were guessed and checked.
    num_drafted_tokens: u64,
    /// Guessed tokens that were right.
    num_accepted_tokens: u64,
}

impl From<EngineStats> for EngineCounts {
    fn from(stats: EngineStats) -> Self {
        Self {
            num_running: stats.num_running,
            num_waiting: stats.num_waiting,
            num_free_blocks: stats.num_free_blocks,
            num_blocks: stats.num_blocks,
            num_generated_tokens: stats.num_generated_tokens,
            num_computed_prompt_tokens: stats.num_computed_prompt_tokens,
            num_cached_tokens: stats.num_cached_tokens,
            num_preemptions: stats.num_preemptions,
            num_drafted_tokens: stats.num_drafted_tokens,
            num_accepted_tokens: stats.num_accepted_tokens,
        }
    }
}

/// A server of which a part has ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct Unhealthy {
    /// Always `error`.
    status: &'static str,
    version: &'static str,
    #[serde(flatten)]
    body: ErrorBody,
}

/// Tells whether the server works
///
/// It needs no key.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "get_health",
    tag = "Server",
    security(()),
    responses(
        (status = 200, description = "It works", body = Health),
        (status = 503, description = "A part of it has ended: restart it", body = Unhealthy)
    )
)]
pub async fn get(context: web::Data<Context>) -> HttpResponse {
    let workspace = &context.workspace;
    let ingestion = context.ingestion.as_ref();
    let loaded = workspace.models.loaded();
    let mut dead: Vec<String> = loaded
        .iter()
        .filter(|model| !model.is_alive)
        .map(|model| format!("{} model {}", model.kind.name(), model.id))
        .collect();
    if ingestion.is_some_and(|task| task.is_finished()) {
        dead.push("ingestion".into());
    }
    let ended = context.tasks.iter().filter(|(_, task)| task.is_finished());
    dead.extend(ended.map(|(name, _)| name.to_string()));
    if !dead.is_empty() {
        let message = format!("stopped working: {}; restart the server", dead.join(", "));
        let error = ApiError::of_status(StatusCode::SERVICE_UNAVAILABLE, &message);
        return HttpResponse::ServiceUnavailable().json(Unhealthy {
            status: "error",
            version: VERSION,
            body: error.error_body(),
        });
    }
    let embedder = workspace.embedder.as_ref();
    HttpResponse::Ok().json(Health {
        status: "ok",
        version: VERSION,
        chat_model: workspace.models.default_chat().map(str::to_owned),
        embedding_model: embedder.map(|embedder| embedder.spec().name.clone()),
        device: context.device.clone(),
        engine: workspace.models.engine_stats().map(EngineCounts::from),
    })
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    version: &'static str,
}

/// Tells the version of the program
#[utoipa::path(
    get,
    path = "/version",
    operation_id = "get_version",
    tag = "Server",
    responses((status = 200, body = Version))
)]
pub async fn version() -> HttpResponse {
    HttpResponse::Ok().json(Version { version: VERSION })
}
