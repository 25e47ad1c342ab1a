//! `GET /api/status`: what is served, where it runs, and what the reader should know.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::QUOTE_MODEL;
use crate::rag::models::{ModelEntry, ModelKind};

pub async fn get(context: web::Data<Context>) -> Result<HttpResponse, ApiError> {
    let workspace = &context.workspace;
    let default = workspace.store.default_vector_store().await?;
    let entries = workspace.models.list().await;
    let find = |id: Option<&str>| entries.iter().find(|entry| Some(&*entry.id) == id);
    let chat = find(workspace.models.default_chat());
    let embedder = workspace.embedder.as_ref();
    let embedder = find(embedder.map(|embedder| embedder.spec().name.as_str()));
    Ok(HttpResponse::Ok().json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "chat_model": chat.map(|chat| json!({
            "id": chat.id,
            "context_length": chat.context_length,
            "is_demonstration": chat.is_demonstration,
        })),
        "embedding_model": embedder.map(|embedder| json!({
            "id": embedder.id,
            "is_demonstration": embedder.is_demonstration,
        })),
        "answer_models": answer_models(&context, &entries),
        "device": context.device,
        "default_vector_store_id": default.id,
        "notices": context.notices,
    })))
}

/// The models that answer from documents, the default first.
fn answer_models(context: &Context, entries: &[ModelEntry]) -> Vec<String> {
    let workspace = &context.workspace;
    if workspace.embedder.is_none() {
        return Vec::new();
    }
    // The chat model that came with the program converses, but cannot read documents.
    let writers = entries
        .iter()
        .filter(|entry| entry.kind == ModelKind::Chat && !entry.is_demonstration);
    let mut models: Vec<String> = writers.map(|entry| entry.id.clone()).collect();
    let default = workspace.models.default_chat();
    models.sort_by_key(|id| Some(id.as_str()) != default);
    let has_default = models.first().map(String::as_str) == default && default.is_some();
    models.insert(usize::from(has_default), QUOTE_MODEL.to_string());
    models
}
