//! `POST /v1/embeddings`.

use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::embedding::{Embedder, InputKind, Priority};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;

/// Texts that one request may carry.
const MAX_INPUTS: usize = 2048;

#[derive(Debug, Deserialize)]
pub struct EmbeddingsRequest {
    model: Option<String>,
    input: Value,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
    /// Extension: `query` or `passage` puts the model's own instruction before the text.
    input_type: Option<String>,
}

pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<EmbeddingsRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    let embedder = context.embedding_model(request.model.as_deref()).await?;
    let texts = texts(request.input)?;
    check_dimensions(&embedder, request.dimensions)?;
    let as_base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("encoding_format is '{other}', but must be 'float' or 'base64'");
            return Err(ApiError::invalid("encoding_format", message));
        }
    };
    let kind = match request.input_type.as_deref() {
        None => InputKind::Raw,
        Some("query" | "search_query") => InputKind::Query,
        Some("passage" | "document" | "search_document") => InputKind::Passage,
        Some(other) => {
            let message = format!("input_type is '{other}', but must be 'query' or 'passage'");
            return Err(ApiError::invalid("input_type", message));
        }
    };
    let embeddings = embedder
        .embed(texts, kind, Priority::Interactive)
        .await
        .map_err(|error| ApiError::from(error).about("input"))?;
    let data: Vec<Value> = embeddings
        .vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            let embedding = if as_base64 {
                let bytes: Vec<u8> = vector
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                json!(STANDARD.encode(bytes))
            } else {
                json!(vector)
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let num_tokens: usize = embeddings.num_tokens.iter().sum();
    Ok(HttpResponse::Ok().json(json!({
        "object": "list",
        "model": embedder.spec().name,
        "data": data,
        "usage": { "prompt_tokens": num_tokens, "total_tokens": num_tokens },
    })))
}

/// Refuses vectors of another length than the model's.
pub fn check_dimensions(embedder: &Embedder, wanted: Option<usize>) -> Result<(), ApiError> {
    let dimensions = embedder.spec().dimensions;
    match wanted.filter(|wanted| *wanted != dimensions) {
        None => Ok(()),
        Some(wanted) => {
            let message = format!(
                "dimensions is {wanted}, but this model gives {dimensions} and cannot be shortened"
            );
            Err(ApiError::unsupported("dimensions", message))
        }
    }
}

/// The texts of an `input`.
pub fn texts(input: Value) -> Result<Vec<String>, ApiError> {
    let invalid = |message: &str| ApiError::invalid("input", message);
    let items = match input {
        Value::String(text) => vec![Value::String(text)],
        Value::Array(items) => items,
        _ => return Err(invalid("input must be a string or an array of strings")),
    };
    if items.is_empty() {
        return Err(invalid("input is empty, but must have at least one text"));
    }
    if items.len() > MAX_INPUTS {
        return Err(invalid(&format!(
            "input has {} texts, but may have {MAX_INPUTS}",
            items.len()
        )));
    }
    let text = |item| match item {
        Value::String(text) if text.is_empty() => {
            Err(invalid("input has an empty text, which has no embedding"))
        }
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Array(_) => Err(invalid(
            "input has token ids, which belong to another model's vocabulary; send text (in LangChain: \
             check_embedding_ctx_length=False)",
        )),
        _ => Err(invalid("input must be a string or an array of strings")),
    };
    items.into_iter().map(text).collect()
}
