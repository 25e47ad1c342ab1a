//! `GET /v1/models` and `/v1/models/{id}`: every model that is served: chat, quoting and embedding.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::{Answerer, QUOTE_MODEL};

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
            "is_demonstration": context.is_demonstration(chat.id()),
            "description": description(context, chat.id(), "qwen3-1.7b"),
        }));
    }
    if let Some(embedder) = &workspace.embedder {
        let quote = json!({
            "id": QUOTE_MODEL,
            "object": "model",
            "created": context.started_at,
            "owned_by": "inglenook",
            "capabilities": ["quote"],
        });
        // The first is what a caller gets who takes any.
        match workspace.default_answerer {
            Answerer::Quote => models.insert(0, quote),
            Answerer::Chat(_) => models.push(quote),
        }
        models.push(json!({
            "id": embedder.spec().name,
            "object": "model",
            "created": context.started_at,
            "owned_by": "inglenook",
            "context_length": embedder.spec().max_tokens,
            "dimensions": embedder.spec().dimensions,
            "capabilities": ["embedding"],
            "is_demonstration": context.is_demonstration(&embedder.spec().name),
            "description": description(context, &embedder.spec().name, "bge-small-en-v1.5"),
        }));
    }
    models
}

/// What the reader should know of a model that came with the program, and which to pull instead.
fn description(context: &Context, model: &str, instead: &str) -> Option<String> {
    context.is_demonstration(model).then(|| {
        format!("a small demonstration model; replace it with: inglenook models pull {instead}, then restart")
    })
}
