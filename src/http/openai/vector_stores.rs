//! `/v1/vector_stores`: collections of documents, and search in them.

use actix_web::{HttpResponse, web};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::{JsonBody, nullable};
use crate::http::openai::expiry::VectorStoreExpiry;
use crate::http::openai::filters;
use crate::http::openai::metadata;
use crate::http::openai::page::{self, PageQuery};
use crate::http::openai::parameters::OneOrMany;
use crate::http::openai::vector_store_files::{AttachRequest, ChunkingStrategy, new_document};
use crate::rag::retrieve::{Passage, Weights, retrieve};
use crate::rag::{Answerer, rewrite};
use crate::store::{FileCounts, NewVectorStore, SearchScope, VectorStore, VectorStoreUpdate};

/// Files that a store may be created with.
const MAX_FILES: usize = 500;
/// Queries in one search; each is embedded and searched for.
const MAX_QUERIES: usize = 32;

#[derive(Debug, Deserialize)]
pub struct CreateRequest {
    name: Option<String>,
    description: Option<String>,
    file_ids: Option<Vec<String>>,
    chunking_strategy: Option<ChunkingStrategy>,
    expires_after: Option<VectorStoreExpiry>,
    metadata: Option<Map<String, Value>>,
}

pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<CreateRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    let file_ids = request.file_ids.unwrap_or_default();
    if file_ids.len() > MAX_FILES {
        let message = format!(
            "file_ids has {} files, but may have {MAX_FILES}",
            file_ids.len()
        );
        return Err(ApiError::invalid("file_ids", message));
    }
    ChunkingStrategy::chunking(request.chunking_strategy.as_ref())?;
    let attach = |file_id| {
        let attach = AttachRequest {
            file_id,
            attributes: None,
            chunking_strategy: request.chunking_strategy.clone(),
        };
        new_document(&context, attach)
    };
    let files: Result<Vec<_>, ApiError> = file_ids.into_iter().map(attach).collect();
    let expires_after = request.expires_after;
    let new = NewVectorStore {
        name: request.name.unwrap_or_default(),
        description: request.description,
        metadata: metadata::checked(request.metadata.unwrap_or_default())?,
        expires_after_days: expires_after.map(|it| it.days()).transpose()?,
        files: files?,
    };
    let created = context.workspace.store.create_vector_store(new).await?;
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

/// What to change; null takes it away.
#[derive(Debug, Deserialize)]
pub struct UpdateRequest {
    #[serde(default, deserialize_with = "nullable")]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    metadata: Option<Option<Map<String, Value>>>,
    #[serde(default, deserialize_with = "nullable")]
    expires_after: Option<Option<VectorStoreExpiry>>,
}

pub async fn update(
    context: web::Data<Context>,
    id: web::Path<String>,
    body: JsonBody<UpdateRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    let metadata = request.metadata.map(Option::unwrap_or_default);
    let days = |expiry: Option<VectorStoreExpiry>| expiry.map(|it| it.days()).transpose();
    let update = VectorStoreUpdate {
        name: request.name.map(Option::unwrap_or_default),
        metadata: metadata.map(metadata::checked).transpose()?,
        expires_after_days: request.expires_after.map(days).transpose()?,
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
    rewrite_query: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
pub struct RankingOptions {
    ranker: Option<String>,
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
        // Whatever the ranker, both searches are fused and no further model is asked.
        if let Some(ranker) = self.ranker.as_deref()
            && !matches!(ranker, "none" | "auto")
            && !ranker.starts_with("default")
        {
            let param = format!("{param}.ranker");
            let message = format!(
                "{param} is '{ranker}', but must be 'none', 'auto' or 'default-2024-11-15'"
            );
            return Err(ApiError::invalid(param, message));
        }
        let threshold = self.score_threshold.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&threshold) {
            let param = format!("{param}.score_threshold");
            let message = format!("{param} is {threshold}, but must be between 0 and 1");
            return Err(ApiError::invalid(param, message));
        }
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
        Ok((threshold, weights))
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
    if queries.len() > MAX_QUERIES {
        let message = format!(
            "query has {} queries, but may have {MAX_QUERIES}",
            queries.len()
        );
        return Err(ApiError::invalid("query", message));
    }
    let vector_store_ids = vec![id.into_inner()];
    let store = &context.workspace.store;
    store.use_vector_stores(&vector_store_ids).await?;
    let scope = SearchScope {
        vector_store_ids,
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
    let queries = match request.rewrite_query {
        Some(true) => rewritten(&context, queries).await,
        _ => queries,
    };
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
        "search_query": retrieved.queries,
        "data": data,
        "has_more": false,
        "next_page": null,
    })))
}

/// The queries as the chat model would search for them; as they are where none writes.
async fn rewritten(context: &Context, queries: Vec<String>) -> Vec<String> {
    match context.answerer(None).await {
        Ok(Answerer::Quote) => queries,
        Ok(Answerer::Chat(chat)) => {
            let rewritten = queries.into_iter().map(|it| rewrite::rewritten(&chat, it));
            join_all(rewritten).await
        }
        Err(error) => {
            tracing::warn!(%error, "queries are searched for as they are: the chat model cannot be used");
            queries
        }
    }
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
    let status = if store.is_expired {
        "expired"
    } else if counts.in_progress > 0 {
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
        "file_counts": counts_json(counts),
        "status": status,
        "expires_at": store.expires_at,
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

pub fn counts_json(counts: &FileCounts) -> Value {
    json!({
        "in_progress": counts.in_progress,
        "completed": counts.completed,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
        "total": counts.total,
    })
}
