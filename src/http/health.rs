//! `GET /health`: version and readiness, for load balancers and people. `GET /version`: the version alone.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::http::Context;

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
    let version = env!("CARGO_PKG_VERSION");
    if !dead.is_empty() {
        let message = format!("stopped working: {}; restart the server", dead.join(", "));
        return HttpResponse::ServiceUnavailable().json(json!({
            "status": "error",
            "version": version,
            "error": { "message": message, "type": "server_error", "param": null, "code": null },
        }));
    }
    HttpResponse::Ok().json(json!({
        "status": "ok",
        "version": version,
        "chat_model": workspace.models.default_chat(),
        "embedding_model": workspace.embedder.as_ref().map(|embedder| &embedder.spec().name),
        "device": context.device,
        "engine": workspace.models.engine_stats().map(|stats| json!({
            "num_running": stats.num_running,
            "num_waiting": stats.num_waiting,
            "num_free_blocks": stats.num_free_blocks,
            "num_blocks": stats.num_blocks,
            "num_generated_tokens": stats.num_generated_tokens,
            "num_computed_prompt_tokens": stats.num_computed_prompt_tokens,
            "num_cached_tokens": stats.num_cached_tokens,
            "num_preemptions": stats.num_preemptions,
            "num_drafted_tokens": stats.num_drafted_tokens,
            "num_accepted_tokens": stats.num_accepted_tokens,
        })),
    }))
}

pub async fn version() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}
