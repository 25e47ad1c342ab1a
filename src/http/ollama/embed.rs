//! `POST /api/embed`, and `/api/embeddings` as older clients ask for one vector.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::stream::Clock;
use crate::embedding::{Embedder, Embeddings, InputKind, Priority};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::embeddings::{shortened, texts, wanted_dimensions};
use crate::http::openai::parameters::OneOrMany;
use crate::rag::models::Leased;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaEmbed)]
pub struct EmbedRequest {
    model: String,
    /// Without any, the model is only loaded.
    #[schema(value_type = Option<OneOrMany>)]
    input: Option<Value>,
    /// Whether a text that is too long is cut. Nothing is cut for a request that does not say so.
    truncate: Option<bool>,
    /// The numbers of a vector, for a model that was trained to be cut shorter.
    #[schema(minimum = 1)]
    dimensions: Option<usize>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaEmbedOne)]
pub struct EmbeddingsRequest {
    model: String,
    /// Without one, the model is only loaded.
    prompt: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaEmbeddings)]
pub struct Embedded {
    /// As the request names it.
    model: String,
    /// One a text.
    embeddings: Vec<Vec<f32>>,
    /// In nanoseconds.
    total_duration: u64,
    /// In nanoseconds.
    load_duration: u64,
    /// Tokens that were read.
    prompt_eval_count: usize,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaEmbedding)]
pub struct EmbeddedOne {
    embedding: Vec<f32>,
}

/// Turns texts into vectors
#[utoipa::path(
    post,
    path = "/embed",
    operation_id = "ollama_embed",
    tag = "Ollama",
    request_body(
        content = EmbedRequest,
        example = json!({ "model": "bge-small-en-v1.5", "input": ["The keeper", "Smoked eel"] })
    ),
    responses((status = 200, body = Embedded))
)]
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
    Ok(HttpResponse::Ok().json(Embedded {
        model: request.model,
        embeddings: vectors,
        total_duration: clock.total_nanos(),
        load_duration: clock.load_nanos(),
        prompt_eval_count: num_tokens,
    }))
}

/// Turns one text into a vector, for older clients
#[utoipa::path(
    post,
    path = "/embeddings",
    operation_id = "ollama_embeddings",
    tag = "Ollama",
    request_body(
        content = EmbeddingsRequest,
        example = json!({ "model": "bge-small-en-v1.5", "prompt": "The keeper" })
    ),
    responses((status = 200, body = EmbeddedOne))
)]
pub async fn create_one(
    context: web::Data<Context>,
    body: JsonBody<EmbeddingsRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    let embedder = embedder(&context, &request.model).await?;
    let texts = request.prompt.filter(|prompt| !prompt.is_empty());
    let embeddings = embed(&embedder, texts.into_iter().collect(), false).await?;
    let vector = embeddings.vectors.into_iter().next().unwrap_or_default();
    Ok(HttpResponse::Ok().json(EmbeddedOne { embedding: vector }))
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
