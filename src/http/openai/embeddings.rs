//! `POST /v1/embeddings`.

use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Array, Object, OneOf, Schema, Type};

use crate::embedding::{EmbedderSpec, InputKind, Priority};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;

/// Texts that one request may carry.
const MAX_INPUTS: usize = 2048;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateEmbeddings)]
pub struct EmbeddingsRequest {
    /// The model that embeds the documents when absent.
    model: Option<String>,
    #[schema(schema_with = texts_schema, required)]
    input: Option<Value>,
    /// `float` when absent.
    #[schema(value_type = Option<EncodingFormat>)]
    encoding_format: Option<String>,
    /// The numbers of a vector, for a model that was trained to be cut shorter.
    #[schema(minimum = 1)]
    dimensions: Option<usize>,
    /// Extension: `query` or `passage` puts the model's own instruction before the text.
    #[schema(value_type = Option<InputType>)]
    input_type: Option<String>,
    /// Extension: the end of a text that is too long is left out, instead of an error.
    truncate: Option<bool>,
}

/// The schema of what [`texts`] reads.
fn texts_schema() -> Schema {
    let text = || {
        Object::builder()
            .schema_type(Type::String)
            .min_length(Some(1))
    };
    let several = Array::builder()
        .items(text())
        .min_items(Some(1))
        .max_items(Some(MAX_INPUTS));
    let all = OneOf::builder().item(text()).item(several);
    all.description(Some("One text or several, none of them empty."))
        .into()
}

/// `base64` gives the numbers as 32-bit floats, little-endian.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of what `create` reads")]
enum EncodingFormat {
    Float,
    Base64,
}

#[derive(ToSchema)]
#[schema(as = EmbeddingInputType, rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the schema of what `create` reads")]
enum InputType {
    Query,
    SearchQuery,
    Passage,
    Document,
    SearchDocument,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Embeddings)]
pub struct EmbeddingList {
    /// Always `list`.
    object: &'static str,
    model: String,
    /// In the order of the texts.
    data: Vec<Embedding>,
    usage: TextUsage,
}

#[derive(Debug, Serialize, ToSchema)]
struct Embedding {
    /// Always `embedding`.
    object: &'static str,
    index: usize,
    embedding: Vector,
    /// Extension, only where the text was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
}

/// The numbers, or the same in base64.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

/// Tokens that were read.
#[derive(Debug, Serialize, ToSchema)]
pub struct TextUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl TextUsage {
    pub fn new(num_tokens: usize) -> Self {
        Self {
            prompt_tokens: num_tokens,
            total_tokens: num_tokens,
        }
    }
}

/// Turns texts into vectors
#[utoipa::path(
    post,
    path = "/embeddings",
    operation_id = "create_embeddings",
    tag = "Embeddings",
    request_body(
        content = EmbeddingsRequest,
        example = json!({ "input": ["The keeper of the lighthouse", "Smoked eel"] })
    ),
    responses((status = 200, body = EmbeddingList))
)]
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
        Embedding {
            object: "embedding",
            index,
            embedding: match as_base64 {
                true => Vector::Base64(base64(&vector)),
                false => Vector::Numbers(vector),
            },
            truncated: is_cut.then_some(true),
        }
    });
    Ok(HttpResponse::Ok().json(EmbeddingList {
        object: "list",
        model: embedder.spec().name.clone(),
        data: data.collect(),
        usage: TextUsage::new(embeddings.num_tokens.iter().sum()),
    }))
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
