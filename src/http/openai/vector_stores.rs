//! `/v1/vector_stores`: collections of documents, and search in them.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::filters;
use crate::http::openai::metadata;
use crate::http::openai::page::{self, PageQuery};
use crate::http::openai::parameters::{OneOrMany, refuse};
use crate::http::openai::vector_store_files::{AttachRequest, ChunkingStrategy, attach_one};
use crate::rag::retrieve::{Passage, Weights, retrieve};
use crate::store::{NewVectorStore, SearchScope, VectorStore, VectorStoreUpdate};

/// Files that a store may be created with.
const MAX_FILES: usize = 500;
/// Accepting what nothing carries out would keep documents that should be gone.
pub const NO_EXPIRY: &str = "expiry is not served yet; leave out 'expires_after'";

#[derive(Debug, Deserialize)]
pub struct CreateRequest {
    name: Option<String>,
    description: Option<String>,
    file_ids: Option<Vec<String>>,
    chunking_strategy: Option<ChunkingStrategy>,
    expires_after: Option<Value>,
    metadata: Option<Map<String, Value>>,
}

pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<CreateRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    refuse("expires_after", &request.expires_after, NO_EXPIRY)?;
    let file_ids = request.file_ids.unwrap_or_default();
    if !file_ids.is_empty() {
        context.documents_embedder()?;
    }
    if file_ids.len() > MAX_FILES {
        let message = format!(
            "file_ids has {} files, but may have {MAX_FILES}",
            file_ids.len()
        );
        return Err(ApiError::invalid("file_ids", message));
    }
    ChunkingStrategy::chunking(request.chunking_strategy.as_ref())?;
    let store = &context.workspace.store;
    // All or nothing: an unknown file is refused before the store exists.
    for id in &file_ids {
        store.file(id).await?;
    }
    let new = NewVectorStore {
        name: request.name.unwrap_or_default(),
        description: request.description,
        metadata: metadata::checked(request.metadata)?,
        expires_after_days: None,
    };
    let created = store.create_vector_store(new).await?;
    for file_id in file_ids {
        let chunking_strategy = request.chunking_strategy.clone();
        let attach = AttachRequest {
            file_id,
            attributes: None,
            chunking_strategy,
        };
        attach_one(&context, &created.id, attach).await?;
    }
    let created = store.vector_store(&created.id).await?;
    Ok(HttpResponse::Ok().json(store_json(&created)))
}

pub async fn list(
    context: web::Data<Context>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiError> {
    let page = context
        .workspace
        .store
        .list_vector_stores(query.request(20, 100)?)
        .await?;
    let data = page.items.iter().map(store_json).collect();
    Ok(HttpResponse::Ok().json(page::list(data, page.has_more)))
}

pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let found = context.workspace.store.vector_store(&id).await?;
    Ok(HttpResponse::Ok().json(store_json(&found)))
}

#[derive(Debug, Deserialize)]
pub struct UpdateRequest {
    name: Option<String>,
    metadata: Option<Map<String, Value>>,
    expires_after: Option<Value>,
}

pub async fn update(
    context: web::Data<Context>,
    id: web::Path<String>,
    body: JsonBody<UpdateRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    refuse("expires_after", &request.expires_after, NO_EXPIRY)?;
    let update = VectorStoreUpdate {
        name: request.name,
        metadata: request
            .metadata
            .map(|it| metadata::checked(Some(it)))
            .transpose()?,
        expires_after_days: None,
        description: None,
    };
    let updated = context
        .workspace
        .store
        .update_vector_store(&id, update)
        .await?;
    Ok(HttpResponse::Ok().json(store_json(&updated)))
}

pub async fn delete(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.store.delete_vector_store(&id).await?;
    Ok(HttpResponse::Ok()
        .json(json!({ "id": *id, "object": "vector_store.deleted", "deleted": true })))
}

#[derive(Debug, Deserialize)]
pub struct SearchRequest {
    query: OneOrMany,
    max_num_results: Option<usize>,
    filters: Option<Value>,
    ranking_options: Option<RankingOptions>,
}

#[derive(Debug, Default, Deserialize)]
pub struct RankingOptions {
    score_threshold: Option<f32>,
    hybrid_search: Option<HybridSearch>,
}

#[derive(Debug, Deserialize)]
struct HybridSearch {
    embedding_weight: f32,
    text_weight: f32,
}

impl RankingOptions {
    /// The lowest score to show, and the weights of both searches. `param` names the place in an error.
    pub fn checked(self, param: &str) -> Result<(f32, Weights), ApiError> {
        let weights = match self.hybrid_search {
            Some(hybrid) => Weights {
                meaning: hybrid.embedding_weight,
                words: hybrid.text_weight,
            },
            None => Weights::default(),
        };
        let (meaning, words) = (weights.meaning, weights.words);
        let is_sound = |weight: f32| weight >= 0.0 && weight.is_finite();
        if !is_sound(meaning) || !is_sound(words) || meaning + words == 0.0 {
            let param = format!("{param}.hybrid_search");
            let message = format!(
                "{param} has the weights {meaning} and {words}, but none may be negative and one must be above 0"
            );
            return Err(ApiError::invalid(param, message));
        }
        Ok((self.score_threshold.unwrap_or(0.0), weights))
    }
}

pub async fn search(
    context: web::Data<Context>,
    id: web::Path<String>,
    body: JsonBody<SearchRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    let queries: Vec<String> = request.query.into_vec();
    if queries.is_empty() || queries.iter().any(|query| query.trim().is_empty()) {
        return Err(ApiError::invalid(
            "query",
            "query is empty, but must have at least one word",
        ));
    }
    let max_num_results =
        checked_results("max_num_results", request.max_num_results.unwrap_or(10))?;
    context.workspace.store.vector_store(&id).await?;
    let scope = SearchScope {
        vector_store_ids: vec![id.into_inner()],
        file_ids: None,
        filter: request
            .filters
            .as_ref()
            .filter(|value| !value.is_null())
            .map(filters::parse)
            .transpose()?,
    };
    let ranking = request.ranking_options.unwrap_or_default();
    let (threshold, weights) = ranking.checked("ranking_options")?;
    let retrieved = retrieve(
        &context.workspace,
        &queries,
        &scope,
        max_num_results,
        weights,
    )
    .await?;
    let data: Vec<Value> = retrieved
        .passages
        .iter()
        .filter(|passage| passage.score >= threshold)
        .map(|passage| {
            let mut result = passage_json(passage);
            result["content"] = json!([{ "type": "text", "text": passage.chunk.text }]);
            result
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({
        "object": "vector_store.search_results.page",
        "search_query": queries,
        "data": data,
        "has_more": false,
        "next_page": null,
    })))
}

pub fn checked_results(param: &str, count: usize) -> Result<usize, ApiError> {
    match count {
        1..=50 => Ok(count),
        _ => Err(ApiError::invalid(
            param,
            format!("{param} is {count}, but must be between 1 and 50"),
        )),
    }
}

/// What a search result says of its passage, besides the text.
pub fn passage_json(passage: &Passage) -> Value {
    let chunk = &passage.chunk;
    json!({
        "file_id": chunk.file_id,
        "filename": chunk.filename,
        "score": passage.score,
        "attributes": chunk.attributes,
        // Extensions: where exactly the passage stands.
        "number": passage.number,
        "similarity": passage.similarity,
        "page_first": chunk.page_first,
        "page_last": chunk.page_last,
        "start": chunk.span.start,
        "end": chunk.span.end,
        "heading_path": chunk.heading_path,
    })
}

fn store_json(store: &VectorStore) -> Value {
    let counts = &store.file_counts;
    let status = if counts.in_progress > 0 {
        "in_progress"
    } else {
        "completed"
    };
    let mut value = json!({
        "id": store.id,
        "object": "vector_store",
        "created_at": store.created_at,
        "name": store.name,
        "usage_bytes": store.usage_bytes,
        "file_counts": {
            "in_progress": counts.in_progress,
            "completed": counts.completed,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
            "total": counts.total,
        },
        "status": status,
        "expires_at": store.expires_at(),
        "last_active_at": store.last_active_at,
        "metadata": store.metadata,
    });
    if let Some(days) = store.expires_after_days {
        value["expires_after"] = json!({ "anchor": "last_active_at", "days": days });
    }
    if let Some(description) = &store.description {
        value["description"] = json!(description);
    }
    value
}
