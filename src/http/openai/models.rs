//! `GET /v1/models` and `/v1/models/{id}`: every model that can be asked for, loaded or not: chat, quoting, embedding,
//! reranking, and the other names that the owner gave them.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::QUOTE_MODEL;
use crate::rag::models::{ModelEntry, ModelKind};

pub async fn list(context: web::Data<Context>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "object": "list", "data": served(&context).await }))
}

pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = id.into_inner();
    let models = served(&context).await;
    match models.into_iter().find(|model| model["id"] == id.as_str()) {
        Some(model) => Ok(HttpResponse::Ok().json(model)),
        None => Err(ApiError::unknown_model(&id, &context.served_models().await)),
    }
}

/// What is taken when nobody chooses comes first, then everything else, then other names.
pub async fn served(context: &Context) -> Vec<Value> {
    let workspace = &context.workspace;
    let mut rest = workspace.models.list().await;
    let mut take = |id: Option<&str>| {
        let place = rest.iter().position(|entry| Some(&*entry.id) == id)?;
        Some(model_json(context, &rest.remove(place)))
    };
    let chat = take(workspace.models.default_chat());
    let embedder = workspace.embedder.as_ref();
    let embedder = take(embedder.map(|embedder| embedder.spec().name.as_str()));
    let quote = embedder.as_ref().map(|_| quote_json(context));
    let (first, second) = match workspace.writes_answers {
        true => (chat, quote),
        false => (quote, chat),
    };
    let mut models: Vec<Value> = [first, second, embedder].into_iter().flatten().collect();
    models.extend(rest.iter().map(|entry| model_json(context, entry)));
    let aliases = workspace.models.aliases().iter();
    let aliases = aliases.filter_map(|(name, id)| {
        let mut model = models.iter().find(|model| model["id"] == **id)?.clone();
        model["id"] = json!(name);
        model["alias_of"] = json!(id);
        Some(model)
    });
    let aliases: Vec<Value> = aliases.collect();
    models.extend(aliases);
    models
}

fn quote_json(context: &Context) -> Value {
    json!({
        "id": QUOTE_MODEL,
        "object": "model",
        "created": context.started_at,
        "owned_by": "inglenook",
        "kind": "quote",
        "is_loaded": true,
        "capabilities": ["quote"],
    })
}

fn model_json(context: &Context, entry: &ModelEntry) -> Value {
    let (capability, instead) = match entry.kind {
        ModelKind::Chat => ("completion", "qwen3-1.7b"),
        ModelKind::Embedding => ("embedding", "bge-small-en-v1.5"),
        ModelKind::Rerank => ("rerank", "bge-reranker-base"),
    };
    let mut model = json!({
        "id": entry.id,
        "object": "model",
        "created": context.started_at,
        "owned_by": "inglenook",
        "kind": entry.kind.name(),
        "is_loaded": context.workspace.models.is_loaded(&entry.id),
        "context_length": entry.context_length,
        "capabilities": [capability],
        "is_demonstration": entry.is_demonstration,
        "description": entry.is_demonstration.then(|| description(instead)),
    });
    let embedder = context.workspace.embedder.as_ref();
    if let Some(embedder) = embedder.filter(|embedder| embedder.spec().name == entry.id) {
        model["dimensions"] = json!(embedder.spec().dimensions);
    }
    model
}

/// What the reader should know of a model that came with the program, and which to pull instead.
fn description(instead: &str) -> String {
    format!(
        "a small demonstration model; replace it with: inglenook models pull {instead}, then restart"
    )
}
