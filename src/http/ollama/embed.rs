//! `POST /api/embed`, and `/api/embeddings` as older clients ask for one vector.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use super::stream::Clock;
use crate::embedding::{Embedder, Embeddings, InputKind, Priority};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::embeddings::{shortened, texts, wanted_dimensions};
use crate::rag::models::Leased;

#[derive(Debug, Deserialize)]
pub struct EmbedRequest {
    model: String,
    input: Option<Value>,
    /// Whether a text that is too long is cut. Nothing is cut for a request that does not say so.
    truncate: Option<bool>,
    dimensions: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub struct EmbeddingsRequest {
    model: String,
    prompt: Option<String>,
}

pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<EmbedRequest>,
) -> Result<HttpResponse, ApiError> {
    let mut clock = Clock::start();
    let request = body.0;
    let embedder = embedder(&context, &request.model).await?;
    clock.is_loaded();
    let dimensions = wanted_dimensions(embedder.spec(), request.dimensions)?;
    // Asked for nothing, the model is only loaded.
    let texts = match request.input {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::Array(items)) if items.is_empty() => Vec::new(),
        input => texts(input)?,
    };
    let embeddings = embed(&embedder, texts, request.truncate.unwrap_or(false)).await?;
    let vectors = embeddings.vectors.into_iter();
    let vectors: Vec<_> = vectors.map(|it| shortened(it, dimensions)).collect();
    let num_tokens: usize = embeddings.num_tokens.iter().sum();
    Ok(HttpResponse::Ok().json(json!({
        "model": request.model,
        "embeddings": vectors,
        "total_duration": clock.total_nanos(),
        "load_duration": clock.load_nanos(),
        "prompt_eval_count": num_tokens,
    })))
}

pub async fn create_one(
    context: web::Data<Context>,
    body: JsonBody<EmbeddingsRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    let embedder = embedder(&context, &request.model).await?;
    let texts = request.prompt.filter(|prompt| !prompt.is_empty());
    let embeddings = embed(&embedder, texts.into_iter().collect(), false).await?;
    let vector = embeddings.vectors.into_iter().next().unwrap_or_default();
    Ok(HttpResponse::Ok().json(json!({ "embedding": vector })))
}

async fn embedder(context: &Context, name: &str) -> Result<Leased<Embedder>, ApiError> {
    let embedder = context
        .embedding_model(Some(super::plain(context, name)))
        .await;
    embedder.map_err(|error| super::not_found(error, name))
}

/// One vector a text; a text that is too long is cut where that is wanted.
async fn embed(
    embedder: &Embedder,
    texts: Vec<String>,
    is_cut: bool,
) -> Result<Embeddings, ApiError> {
    if texts.is_empty() {
        return Ok(Embeddings {
            vectors: Vec::new(),
            num_tokens: Vec::new(),
            is_cut: Vec::new(),
        });
    }
    let embedded = match is_cut {
        true => {
            embedder
                .embed_cut(texts, InputKind::Raw, Priority::Interactive)
                .await
        }
        false => {
            embedder
                .embed(texts, InputKind::Raw, Priority::Interactive)
                .await
        }
    };
    embedded.map_err(|error| ApiError::from(error).about("input"))
}
