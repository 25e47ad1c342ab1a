//! `GET /v1/models` and `/v1/models/{id}`: every model that can be asked for, loaded or not: chat, quoting, embedding,
//! reranking, and the other names that the owner gave them.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::QUOTE_MODEL;
use crate::rag::models::{ModelEntry, ModelKind};

/// A model that can be asked for.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Model {
    /// The name that requests give as `model`.
    pub id: String,
    /// Always `model`.
    object: &'static str,
    /// Unix seconds.
    created: i64,
    owned_by: &'static str,
    /// `chat`, `quote`, `embedding` or `rerank`.
    kind: &'static str,
    is_loaded: bool,
    /// What it can be asked to do.
    capabilities: Vec<&'static str>,
    /// In tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<usize>,
    /// Whether it came with the program, and is to be replaced.
    is_demonstration: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Numbers in a vector, of the model that embeds the documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
    /// The model that this is another name of.
    #[serde(skip_serializing_if = "Option::is_none")]
    alias_of: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    object: &'static str,
    data: Vec<Model>,
}

/// Lists the models that can be asked for
///
/// What is taken when nobody chooses comes first, other names last.
#[utoipa::path(get, path = "/models", operation_id = "list_models", tag = "Models", responses((status = 200, body = ModelList)))]
pub async fn list(context: web::Data<Context>) -> HttpResponse {
    let data = served(&context).await;
    HttpResponse::Ok().json(ModelList {
        object: "list",
        data,
    })
}

/// Shows one model
#[utoipa::path(
    get,
    path = "/models/{id}",
    operation_id = "get_model",
    tag = "Models",
    params(("id" = String, Path, description = "The model's name; it may have slashes")),
    responses((status = 200, body = Model))
)]
pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = id.into_inner();
    let models = served(&context).await;
    match models.into_iter().find(|model| model.id == id) {
        Some(model) => Ok(HttpResponse::Ok().json(model)),
        None => Err(ApiError::unknown_model(&id, &context.served_models().await)),
    }
}

/// What is taken when nobody chooses comes first, then everything else, then other names.
pub async fn served(context: &Context) -> Vec<Model> {
    let workspace = &context.workspace;
    let mut rest = workspace.models.list().await;
    let mut take = |id: Option<&str>| {
        let place = rest.iter().position(|entry| Some(&*entry.id) == id)?;
        Some(model(context, &rest.remove(place)))
    };
    let chat = take(workspace.models.default_chat());
    let embedder = workspace.embedder.as_ref();
    let embedder = take(embedder.map(|embedder| embedder.spec().name.as_str()));
    let quote = embedder.as_ref().map(|_| quote(context));
    let (first, second) = match workspace.writes_answers {
        true => (chat, quote),
        false => (quote, chat),
    };
    let mut models: Vec<Model> = [first, second, embedder].into_iter().flatten().collect();
    models.extend(rest.iter().map(|entry| model(context, entry)));
    let aliases = workspace.models.aliases().iter();
    let aliases = aliases.filter_map(|(name, id)| {
        let model = models.iter().find(|model| model.id == **id)?;
        Some(Model {
            id: name.to_string(),
            alias_of: Some(id.to_string()),
            ..model.clone()
        })
    });
    let aliases: Vec<Model> = aliases.collect();
    models.extend(aliases);
    models
}

fn quote(context: &Context) -> Model {
    Model {
        id: QUOTE_MODEL.into(),
        object: "model",
        created: context.started_at,
        owned_by: "inglenook",
        kind: "quote",
        is_loaded: true,
        capabilities: vec!["quote"],
        context_length: None,
        is_demonstration: false,
        description: None,
        dimensions: None,
        alias_of: None,
    }
}

fn model(context: &Context, entry: &ModelEntry) -> Model {
    let (capability, instead) = match entry.kind {
        ModelKind::Chat => ("completion", "qwen3-1.7b"),
        ModelKind::Embedding => ("embedding", "bge-small-en-v1.5"),
        ModelKind::Rerank => ("rerank", "bge-reranker-base"),
    };
    let embedder = context.workspace.embedder.as_ref();
    let embedder = embedder.filter(|embedder| embedder.spec().name == entry.id);
    Model {
        id: entry.id.clone(),
        object: "model",
        created: context.started_at,
        owned_by: "inglenook",
        kind: entry.kind.name(),
        is_loaded: context.workspace.models.is_loaded(&entry.id),
        capabilities: vec![capability],
        context_length: entry.context_length,
        is_demonstration: entry.is_demonstration,
        description: entry.is_demonstration.then(|| description(instead)),
        dimensions: embedder.map(|embedder| embedder.spec().dimensions),
        alias_of: None,
    }
}

/// What the reader should know of a model that came with the program, and which to pull instead.
fn description(instead: &str) -> String {
    format!(
        "a small demonstration model; replace it with: inglenook models pull {instead}, then restart"
    )
}
