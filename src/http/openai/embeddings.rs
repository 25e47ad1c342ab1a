//! `POST /v1/embeddings`.

use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::embedding::{EmbedderSpec, InputKind, Priority};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;

/// Texts that one request may carry.
const MAX_INPUTS: usize = 2048;

#[derive(Debug, Deserialize)]
pub struct EmbeddingsRequest {
    model: Option<String>,
    input: Option<Value>,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
    /// Extension: `query` or `passage` puts the model's own instruction before the text.
    input_type: Option<String>,
    /// Extension: the end of a text that is too long is left out, instead of an error.
    truncate: Option<bool>,
}

pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<EmbeddingsRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    let texts = texts(request.input)?;
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
    if request.dimensions == Some(0) {
        let message = "dimensions is 0, but must be at least 1";
        return Err(ApiError::invalid("dimensions", message));
    }
    // A mistake is told before a model is loaded for it.
    let embedder = context.embedding_model(request.model.as_deref()).await?;
    let dimensions = wanted_dimensions(embedder.spec(), request.dimensions)?;
    let embedded = match request.truncate.unwrap_or(false) {
        true => embedder.embed_cut(texts, kind, Priority::Interactive).await,
        false => embedder.embed(texts, kind, Priority::Interactive).await,
    };
    let embeddings = embedded.map_err(|error| ApiError::from(error).about("input"))?;
    let vectors = embeddings.vectors.into_iter().zip(embeddings.is_cut);
    let data = vectors.enumerate().map(|(index, (vector, is_cut))| {
        let vector = shortened(vector, dimensions);
        let embedding = match as_base64 {
            true => json!(base64(&vector)),
            false => json!(vector),
        };
        let mut entry = json!({ "object": "embedding", "index": index, "embedding": embedding });
        // An extension, only where it says something.
        if is_cut {
            entry["truncated"] = json!(true);
        }
        entry
    });
    let data: Vec<Value> = data.collect();
    let num_tokens: usize = embeddings.num_tokens.iter().sum();
    Ok(HttpResponse::Ok().json(json!({
        "object": "list",
        "model": embedder.spec().name,
        "data": data,
        "usage": { "prompt_tokens": num_tokens, "total_tokens": num_tokens },
    })))
}

/// The length that vectors are to have.
pub fn wanted_dimensions(spec: &EmbedderSpec, wanted: Option<usize>) -> Result<usize, ApiError> {
    let full = spec.dimensions;
    let shorter = &spec.matryoshka_dimensions;
    match wanted {
        None => Ok(full),
        Some(wanted) if wanted == full || shorter.contains(&wanted) => Ok(wanted),
        Some(wanted) if shorter.is_empty() => Err(ApiError::unsupported(
            "dimensions",
            format!(
                "dimensions is {wanted}, but this model gives {full} and was not trained to be cut shorter"
            ),
        )),
        Some(wanted) => {
            let shorter: Vec<String> = shorter.iter().map(usize::to_string).collect();
            let message = format!(
                "dimensions is {wanted}, but this model gives {full} and can be cut to: {}",
                shorter.join(", ")
            );
            Err(ApiError::unsupported("dimensions", message))
        }
    }
}

/// The first numbers of a vector, with length 1 again.
pub fn shortened(mut vector: Vec<f32>, dimensions: usize) -> Vec<f32> {
    if dimensions >= vector.len() {
        return vector;
    }
    vector.truncate(dimensions);
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    vector
}

/// The numbers as 32-bit floats, little-endian.
fn base64(vector: &[f32]) -> String {
    let bytes = vector.iter().flat_map(|value| value.to_le_bytes());
    STANDARD.encode(bytes.collect::<Vec<u8>>())
}

pub fn texts(input: Option<Value>) -> Result<Vec<String>, ApiError> {
    let invalid = |message: &str| ApiError::invalid("input", message);
    let items = match input {
        None => return Err(invalid("missing required parameter: 'input'")),
        Some(Value::String(text)) => vec![Value::String(text)],
        Some(Value::Array(items)) => items,
        Some(_) => return Err(invalid("input must be a string or an array of strings")),
    };
    if items.is_empty() {
        return Err(invalid("input is empty, but must have at least one text"));
    }
    if items.iter().any(|item| item.is_number() || item.is_array()) {
        return Err(invalid(
            "input has token ids, which belong to another model's vocabulary; send text (in LangChain: \
             check_embedding_ctx_length=False)",
        ));
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
        _ => Err(invalid("input must be a string or an array of strings")),
    };
    items.into_iter().map(text).collect()
}
