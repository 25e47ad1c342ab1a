//! `GET /health`: version and readiness, for load balancers and people.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::http::Context;

pub async fn get(context: web::Data<Context>) -> HttpResponse {
    let workspace = &context.workspace;
    let ingestion = context.ingestion.as_ref();
    let dead = [
        (
            "chat model",
            workspace
                .chat
                .as_ref()
                .is_some_and(|chat| !chat.engine().is_alive()),
        ),
        (
            "embedding model",
            workspace
                .embedder
                .as_ref()
                .is_some_and(|embedder| !embedder.is_alive()),
        ),
        (
            "ingestion",
            ingestion.is_some_and(|task| task.is_finished()),
        ),
    ];
    let dead: Vec<&str> = dead
        .into_iter()
        .filter(|(_, dead)| *dead)
        .map(|(name, _)| name)
        .collect();
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
        "chat_model": workspace.chat.as_ref().map(|chat| chat.id()),
        "embedding_model": workspace.embedder.as_ref().map(|embedder| &embedder.spec().name),
        "device": context.device,
        "engine": workspace.chat.as_ref().map(|chat| {
            let stats = chat.engine().stats();
            json!({
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
            })
        }),
    }))
}
