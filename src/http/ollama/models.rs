//! `GET /api/tags`, `POST /api/show` and `GET /api/ps`: which models are here, what one is, and which are in memory. The
//! model that quotes documents is none of them, as it does not converse.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::stream::rfc3339;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::rag::conversation::Dialect;
use crate::rag::models::{ModelDetails, ModelEntry, ModelKind};
use crate::tokenizer::ChatTemplate;

/// Models that stay as long as there is room have no time to give.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaTags)]
pub struct Tags {
    models: Vec<Tag>,
}

/// A model that is here.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = OllamaTag)]
struct Tag {
    name: String,
    /// The same as `name`.
    model: String,
    #[schema(format = DateTime)]
    modified_at: String,
    /// In bytes.
    size: u64,
    digest: String,
    details: Details,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = OllamaDetails)]
struct Details {
    /// Always empty.
    parent_model: &'static str,
    /// `gguf` or `safetensors`.
    format: &'static str,
    family: String,
    families: [String; 1],
    /// Such as `1.7B`.
    parameter_size: String,
    /// How the weights are stored, such as `Q8_0`.
    quantization_level: String,
}

/// Lists the models that are here
#[utoipa::path(
    get,
    path = "/tags",
    operation_id = "ollama_tags",
    tag = "Ollama",
    responses((status = 200, body = Tags))
)]
pub async fn tags(context: web::Data<Context>) -> HttpResponse {
    let models = &context.workspace.models;
    let mut listed = Vec::new();
    for entry in models.list().await {
        // One whose files were taken away meanwhile is not here.
        if let Ok(details) = models.details(&entry.id).await {
            listed.push(tag(&entry.id, &details));
        }
    }
    let aliases = models.aliases().iter().filter_map(|(name, id)| {
        let tag = listed.iter().find(|tag| tag.name == **id)?.clone();
        Some(Tag {
            name: name.to_string(),
            model: name.to_string(),
            ..tag
        })
    });
    let aliases: Vec<Tag> = aliases.collect();
    listed.extend(aliases);
    HttpResponse::Ok().json(Tags { models: listed })
}

fn tag(name: &str, details: &ModelDetails) -> Tag {
    Tag {
        name: name.to_owned(),
        model: name.to_owned(),
        modified_at: time_text(details.modified_at),
        size: details.num_bytes,
        digest: digest(name, details),
        details: described(details),
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaRunningModels)]
pub struct RunningModels {
    models: Vec<RunningModel>,
}

/// A model in memory.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaRunningModel)]
struct RunningModel {
    name: String,
    /// The same as `name`.
    model: String,
    /// Bytes in memory.
    size: u64,
    digest: String,
    details: Details,
    #[schema(format = DateTime)]
    expires_at: String,
    /// Bytes in a GPU's memory.
    size_vram: u64,
    /// In tokens.
    context_length: usize,
}

/// Lists the models in memory
#[utoipa::path(
    get,
    path = "/ps",
    operation_id = "ollama_running_models",
    tag = "Ollama",
    responses((status = 200, body = RunningModels))
)]
pub async fn running(context: web::Data<Context>) -> HttpResponse {
    let models = &context.workspace.models;
    let mut listed = Vec::new();
    for status in models.loaded() {
        let Ok(details) = models.details(&status.id).await else {
            continue;
        };
        let expires_at = SystemTime::now() + status.unloads_in.unwrap_or(FAR);
        let num_bytes = status.weights_bytes.saturating_add(status.cache_bytes);
        let is_on_gpu = context.device != "cpu";
        listed.push(RunningModel {
            name: status.id.clone(),
            model: status.id.clone(),
            size: num_bytes,
            digest: digest(&status.id, &details),
            details: described(&details),
            expires_at: time_text(expires_at),
            size_vram: if is_on_gpu { num_bytes } else { 0 },
            context_length: status.context_length,
        });
    }
    HttpResponse::Ok().json(RunningModels { models: listed })
}

/// One of both is needed.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaShow)]
pub struct ShowRequest {
    model: Option<String>,
    /// As older clients say it.
    name: Option<String>,
}

/// What is known of a model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaShown)]
pub struct Shown {
    modelfile: String,
    /// Always empty.
    parameters: &'static str,
    /// The chat template.
    template: String,
    /// Always empty.
    license: &'static str,
    details: Details,
    /// Under the names that GGUF files have.
    #[schema(value_type = HashMap<String, Value>)]
    model_info: Map<String, Value>,
    /// `completion`, `tools`, `thinking`, `embedding`, `rerank`.
    capabilities: Vec<&'static str>,
    #[schema(format = DateTime)]
    modified_at: String,
}

/// Shows one model
#[utoipa::path(
    post,
    path = "/show",
    operation_id = "ollama_show",
    tag = "Ollama",
    request_body(content = ShowRequest, example = json!({ "model": "qwen3-1.7b" })),
    responses((status = 200, body = Shown))
)]
pub async fn show(
    context: web::Data<Context>,
    body: JsonBody<ShowRequest>,
) -> Result<HttpResponse, ApiError> {
    let ShowRequest { model, name } = body.0;
    let name = model.or(name).unwrap_or_default();
    let models = &context.workspace.models;
    let id = models.id(super::plain(&context, &name));
    let unknown = || ApiError::model_not_found(format!("model '{name}' not found"));
    let entry = models.list().await.into_iter().find(|entry| entry.id == id);
    let entry = entry.ok_or_else(unknown)?;
    let details = models.details(id).await?;
    Ok(HttpResponse::Ok().json(Shown {
        modelfile: format!("# {id} is kept by Inglenook; there is no Modelfile to change.\n"),
        parameters: "",
        template: details.chat_template.clone().unwrap_or_default(),
        license: "",
        details: described(&details),
        model_info: model_info(&entry, &details),
        capabilities: capabilities(&entry, &details),
        modified_at: time_text(details.modified_at),
    }))
}

fn described(details: &ModelDetails) -> Details {
    let family = details.architecture.clone().unwrap_or_default();
    let num_parameters = details.num_parameters.map(in_words);
    Details {
        parent_model: "",
        format: details.format,
        families: [family.clone()],
        family,
        parameter_size: num_parameters.unwrap_or_default(),
        quantization_level: details.quantization.clone().unwrap_or_default(),
    }
}

/// Under the names that GGUF files have, which clients look up.
fn model_info(entry: &ModelEntry, details: &ModelDetails) -> Map<String, Value> {
    let mut known = Map::new();
    if let Some(count) = details.num_parameters {
        known.insert("general.parameter_count".into(), json!(count));
    }
    if let Some(architecture) = &details.architecture {
        known.insert("general.architecture".into(), json!(architecture));
        if let Some(length) = entry.context_length {
            known.insert(format!("{architecture}.context_length"), json!(length));
        }
    }
    known
}

fn capabilities(entry: &ModelEntry, details: &ModelDetails) -> Vec<&'static str> {
    match entry.kind {
        ModelKind::Embedding => vec!["embedding"],
        ModelKind::Rerank => vec!["rerank"],
        ModelKind::Chat => {
            // A template that knows no functions is taught them.
            let mut capabilities = vec!["completion", "tools"];
            let template = details.chat_template.as_deref();
            let template = template.and_then(|text| ChatTemplate::new(text, "", "").ok());
            if template.is_some_and(|template| Dialect::of(&template).thinks) {
                capabilities.push("thinking");
            }
            capabilities
        }
    }
}

/// Tells one state of a model's files from another, as clients use it. Their contents are not read for it.
fn digest(name: &str, details: &ModelDetails) -> String {
    let modified_at = OffsetDateTime::from(details.modified_at).unix_timestamp_nanos();
    let state = format!("{name}\0{}\0{modified_at}", details.num_bytes);
    let mut digest = String::new();
    for byte in Sha256::digest(state) {
        write!(digest, "{byte:02x}").expect("a string takes all");
    }
    digest
}

/// `1.7B`, `596M`
fn in_words(count: u64) -> String {
    let scaled = |unit: f64| count as f64 / unit;
    match count {
        1_000_000_000.. => format!("{:.1}B", scaled(1e9)),
        1_000_000.. => format!("{:.1}M", scaled(1e6)),
        1_000.. => format!("{:.1}K", scaled(1e3)),
        _ => count.to_string(),
    }
}

fn time_text(time: SystemTime) -> String {
    rfc3339(OffsetDateTime::from(time))
}
