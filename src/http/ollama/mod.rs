//! Ollama's API over the same models, under `/api` beside the browser app's own: its wire format, not its behaviour
//! where that cuts a prompt unasked.

mod chat;
mod embed;
mod generate;
mod messages;
mod models;
mod options;
mod pull;
mod shape;
mod stream;

use actix_web::{HttpResponse, Responder};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::routes::Routes;
use crate::rag::generate::ChatModel;

pub use pull::{PullError, PullModel, PullStep};

/// What of it stands in the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(
    version,
    models::tags,
    models::running,
    models::show,
    chat::create,
    generate::create,
    embed::create,
    embed::create_one,
    pull::create,
))]
pub struct Document;

/// The release whose wire format this is: clients decide by it what they may ask for.
const VERSION: &str = "0.12.6";

/// The first parts of Ollama's paths under `/api`; those that have no route are unknown in its own words.
const PATHS: [&str; 14] = [
    "version",
    "tags",
    "ps",
    "show",
    "chat",
    "generate",
    "embed",
    "embeddings",
    "pull",
    "push",
    "create",
    "copy",
    "delete",
    "blobs",
];

pub fn routes(routes: &mut Routes) {
    routes
        .get("/version", version)
        .get("/tags", models::tags)
        .get("/ps", models::running)
        .post("/show", models::show)
        .post("/chat", chat::create)
        .post("/generate", generate::create)
        .post("/embed", embed::create)
        .post("/embeddings", embed::create_one)
        .post("/pull", pull::create);
}

/// Whether a path is one of Ollama's.
pub fn owns(path: &str) -> bool {
    let first = path
        .strip_prefix("/api/")
        .and_then(|rest| rest.split('/').next());
    first.is_some_and(|first| PATHS.contains(&first))
}

#[derive(Debug, Serialize, ToSchema)]
struct OllamaVersion {
    /// The release of Ollama whose wire format this is.
    version: &'static str,
    /// This program's own.
    inglenook: &'static str,
}

/// Tells which release of Ollama is spoken
#[utoipa::path(
    get,
    path = "/version",
    operation_id = "ollama_version",
    tag = "Ollama",
    responses((status = 200, body = OllamaVersion))
)]
async fn version() -> impl Responder {
    HttpResponse::Ok().json(OllamaVersion {
        version: VERSION,
        inglenook: env!("CARGO_PKG_VERSION"),
    })
}

/// The name as it is known here: Ollama's clients put `:latest` behind names without a tag.
fn plain<'a>(context: &Context, name: &'a str) -> &'a str {
    match name.strip_suffix(":latest") {
        Some(short) if !context.workspace.models.aliases().contains_key(name) => short,
        _ => name,
    }
}

/// Whether a request names the model that quotes documents.
fn is_quote_model(context: &Context, name: &str) -> bool {
    context.is_quote_model(Some(plain(context, name)))
}

async fn chat_model(context: &Context, name: &str) -> Result<ChatModel, ApiError> {
    let model = context.chat_model(Some(plain(context, name))).await;
    model.map_err(|error| not_found(error, name))
}

/// An unknown model in the words that clients look for.
fn not_found(error: ApiError, name: &str) -> ApiError {
    match error.is_unknown_model() {
        true => ApiError::model_not_found(format!("model '{name}' not found")),
        false => error,
    }
}
