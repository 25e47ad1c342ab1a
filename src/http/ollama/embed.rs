//! `POST /api/embed`, and `/api/embeddings` as older clients ask for one vector.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use super::stream::Clock;
use crate::embedding::{Embedder, Embeddings, InputKind, Priority};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::embeddings::{check_dimensions, texts};
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
    check_dimensions(&embedder, request.dimensions)?;
    // Asked for nothing, the model is only loaded.
    let mut texts = match request.input {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::Array(items)) if items.is_empty() => Vec::new(),
        Some(input) => texts(input)?,
    };
    if request.truncate.unwrap_or(false) {
        let cutter = embedder.clone();
        let cut = move || {
            Ok(texts
                .into_iter()
                .map(|text| fitting(&cutter, text))
                .collect())
        };
        texts = crate::http::blocking(cut).await?;
    }
    let embeddings = embed(&embedder, texts).await?;
    let num_tokens: usize = embeddings.num_tokens.iter().sum();
    Ok(HttpResponse::Ok().json(json!({
        "model": request.model,
        "embeddings": embeddings.vectors,
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
    let embeddings = embed(&embedder, texts.into_iter().collect()).await?;
    let vector = embeddings.vectors.into_iter().next().unwrap_or_default();
    Ok(HttpResponse::Ok().json(json!({ "embedding": vector })))
}

async fn embedder(context: &Context, name: &str) -> Result<Leased<Embedder>, ApiError> {
    let embedder = context
        .embedding_model(Some(super::plain(context, name)))
        .await;
    embedder.map_err(|error| super::not_found(error, name))
}

async fn embed(embedder: &Embedder, texts: Vec<String>) -> Result<Embeddings, ApiError> {
    if texts.is_empty() {
        return Ok(Embeddings {
            vectors: Vec::new(),
            num_tokens: Vec::new(),
        });
    }
    let embeddings = embedder
        .embed(texts, InputKind::Raw, Priority::Interactive)
        .await;
    embeddings.map_err(|error| ApiError::from(error).about("input"))
}

/// The longest beginning of the text that the model can read.
fn fitting(embedder: &Embedder, mut text: String) -> String {
    let most = embedder.max_passage_tokens();
    if embedder.count_tokens(&text) <= most {
        return text;
    }
    let (mut fits, mut too_long) = (0, text.len());
    while let Some(middle) = boundary_between(&text, fits, too_long) {
        match embedder.count_tokens(&text[..middle]) <= most {
            true => fits = middle,
            false => too_long = middle,
        }
    }
    text.truncate(fits);
    text
}

/// A place between two characters, near the middle, that is neither of the ends.
fn boundary_between(text: &str, first: usize, last: usize) -> Option<usize> {
    let middle = first + (last - first) / 2;
    let is_between = |place: &usize| *place > first && text.is_char_boundary(*place);
    let below = (first..=middle).rev().find(is_between);
    below.or_else(|| (middle..last).find(is_between))
}
