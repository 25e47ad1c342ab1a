//! `GET /api/status`: what is served, where it runs, and what the reader should know.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::QUOTE_MODEL;
use crate::rag::models::{ModelEntry, ModelKind};

#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    version: &'static str,
    /// The one that answers when a request names none.
    #[schema(required)]
    chat_model: Option<ChatModelStatus>,
    /// The one that embeds the documents.
    #[schema(required)]
    embedding_model: Option<EmbeddingModelStatus>,
    /// The models that answer from documents, the default first.
    answer_models: Vec<String>,
    /// Where models run, in a few words.
    device: String,
    /// Where files are attached to that belong nowhere else.
    default_vector_store_id: String,
    /// Whether documents may be imported from the web.
    web_import: bool,
    /// What the reader should know of this server, such as that a model is missing.
    notices: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ChatModelStatus {
    id: String,
    /// In tokens, where it is known.
    #[schema(required)]
    context_length: Option<usize>,
    /// Whether it came with the program, and is to be replaced.
    is_demonstration: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct EmbeddingModelStatus {
    id: String,
    /// Whether it came with the program, and is to be replaced.
    is_demonstration: bool,
}

/// Tells what is served and where it runs
#[utoipa::path(
    get,
    path = "/status",
    operation_id = "get_status",
    tag = "Browser app",
    responses((status = 200, body = Status))
)]
pub async fn get(context: web::Data<Context>) -> Result<HttpResponse, ApiError> {
    let workspace = &context.workspace;
    let default = workspace.store.default_vector_store().await?;
    let mut notices = context.notices.clone();
    if workspace.embedder.is_some() {
        notices.extend(workspace.earlier.notices(&workspace.store).await?);
    }
    let entries = workspace.models.list().await;
    let find = |id: Option<&str>| entries.iter().find(|entry| Some(&*entry.id) == id);
    let chat = find(workspace.models.default_chat());
    let embedder = workspace.embedder.as_ref();
    let embedder = find(embedder.map(|embedder| embedder.spec().name.as_str()));
    Ok(HttpResponse::Ok().json(Status {
        version: env!("CARGO_PKG_VERSION"),
        chat_model: chat.map(|chat| ChatModelStatus {
            id: chat.id.clone(),
            context_length: chat.context_length,
            is_demonstration: chat.is_demonstration,
        }),
        embedding_model: embedder.map(|embedder| EmbeddingModelStatus {
            id: embedder.id.clone(),
            is_demonstration: embedder.is_demonstration,
        }),
        answer_models: answer_models(&context, &entries),
        device: context.device.clone(),
        default_vector_store_id: default.id,
        web_import: context.imports.is_some(),
        notices,
    }))
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
