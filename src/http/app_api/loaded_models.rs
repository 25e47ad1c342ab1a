//! `GET /api/models/loaded` and `DELETE /api/models/loaded/{name}`: which models are in memory and what each is doing, and
//! unloading one.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::models::ModelStatus;

pub async fn list(context: web::Data<Context>) -> HttpResponse {
    let models = &context.workspace.models;
    let loaded = models.loaded();
    let loaded: Vec<Value> = loaded.iter().map(|it| status_json(&context, it)).collect();
    HttpResponse::Ok().json(json!({ "models": loaded, "loading": models.loading() }))
}

pub async fn unload(
    context: web::Data<Context>,
    name: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.models.unload(&name).await?;
    Ok(HttpResponse::Ok().json(json!({ "id": *name, "unloaded": true })))
}

fn status_json(context: &Context, status: &ModelStatus) -> Value {
    json!({
        "id": status.id,
        "kind": status.kind.name(),
        "device": context.device,
        "weights_bytes": status.weights_bytes,
        "cache_bytes": status.cache_bytes,
        "cache_tokens": status.cache_tokens,
        "context_length": status.context_length,
        "num_running": status.num_running,
        "num_waiting": status.num_waiting,
        "idle_seconds": status.idle_for.map(|idle| idle.as_secs()),
        "unloads_in_seconds": status.unloads_in.map(|left| left.as_secs()),
    })
}
