//! `GET /v1/models` and `/v1/models/{id}`: every model that is served, chat and embedding.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::http::Context;
use crate::http::error::ApiError;

pub async fn list(context: web::Data<Context>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "object": "list", "data": served(&context) }))
}

pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = id.into_inner();
    match served(&context)
        .into_iter()
        .find(|model| model["id"] == id.as_str())
    {
        Some(model) => Ok(HttpResponse::Ok().json(model)),
        None => Err(ApiError::unknown_model(&id, &context.served_models())),
    }
}

fn served(context: &Context) -> Vec<Value> {
    let workspace = &context.workspace;
    let mut models = Vec::new();
    if let Some(chat) = &workspace.chat {
        models.push(json!({
            "id": chat.id(),
            "object": "model",
            "created": chat.created(),
            "owned_by": "inglenook",
            "context_length": chat.context_length(),
            "capabilities": ["completion"],
        }));
    }
    if let Some(embedder) = &workspace.embedder {
        models.push(json!({
            "id": embedder.spec().name,
            "object": "model",
            "created": context.started_at,
            "owned_by": "inglenook",
            "context_length": embedder.spec().max_tokens,
            "dimensions": embedder.spec().dimensions,
            "capabilities": ["embedding"],
        }));
    }
    models
}
