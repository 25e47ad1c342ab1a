//! `GET /api/status`: what is served, where it runs, and what the reader should know.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::QUOTE_MODEL;

pub async fn get(context: web::Data<Context>) -> Result<HttpResponse, ApiError> {
    let workspace = &context.workspace;
    let default = workspace.store.default_vector_store().await?;
    let chat = workspace.chat.as_ref();
    let embedder = workspace.embedder.as_ref();
    Ok(HttpResponse::Ok().json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "chat_model": chat.map(|chat| json!({
            "id": chat.id(),
            "context_length": chat.context_length(),
            "is_demonstration": context.is_demonstration(chat.id()),
        })),
        "embedding_model": embedder.map(|embedder| json!({
            "id": embedder.spec().name,
            "is_demonstration": context.is_demonstration(&embedder.spec().name),
        })),
        "answer_models": answer_models(&context),
        "device": context.device,
        "default_vector_store_id": default.id,
        "notices": context.notices,
    })))
}

/// The models that answer from documents, the default first.
fn answer_models(context: &Context) -> Vec<String> {
    let workspace = &context.workspace;
    if workspace.embedder.is_none() {
        return Vec::new();
    }
    let mut models = vec![QUOTE_MODEL.to_string()];
    // The chat model that came with the program converses, but cannot read documents.
    let chat = workspace.chat.as_ref().map(|chat| chat.id().to_string());
    if let Some(chat) = chat.filter(|chat| !context.is_demonstration(chat)) {
        models.insert(0, chat);
    }
    models
}
