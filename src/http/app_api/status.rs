//! `GET /api/status`: what is served, where it runs, and what the reader should know.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::http::Context;
use crate::http::error::ApiError;

pub async fn get(context: web::Data<Context>) -> Result<HttpResponse, ApiError> {
    let workspace = &context.workspace;
    let default = workspace.store.default_vector_store().await?;
    let chat = workspace.chat.as_ref();
    let embedder = workspace.embedder.as_ref();
    Ok(HttpResponse::Ok().json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "chat_model": chat.map(|chat| json!({ "id": chat.id(), "context_length": chat.context_length() })),
        "embedding_model": embedder.map(|embedder| json!({ "id": embedder.spec().name })),
        "device": context.device,
        "default_vector_store_id": default.id,
        "notices": context.notices,
    })))
}
