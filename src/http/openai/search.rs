//! `POST /v1/vector_stores/{id}/search`: passages of a store's documents.

use actix_web::{HttpResponse, web};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::filters::{self, Filter};
use crate::http::openai::found::SearchResults;
use crate::http::openai::parameters::OneOrMany;
use crate::http::openai::ranking::{RankingOptions, checked_results};
use crate::rag::retrieve::{RetrieveOptions, retrieve};
use crate::rag::{Answerer, rewrite};
use crate::store::SearchScope;

/// Queries in one search; each is embedded and searched for.
const MAX_QUERIES: usize = 32;

#[derive(Debug, Deserialize, ToSchema)]
pub struct SearchRequest {
    #[schema(schema_with = query_schema)]
    query: OneOrMany,
    /// 10 by default.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 50)]
    max_num_results: Option<usize>,
    #[schema(value_type = Option<Filter>)]
    filters: Option<Value>,
    ranking_options: Option<RankingOptions>,
    /// Whether the chat model rewrites the queries; what was searched for is told in the answer.
    rewrite_query: Option<bool>,
    /// Extension: whether each result says how it came to its place.
    explain: Option<bool>,
}

/// A text, or several that are searched for together.
fn query_schema() -> Schema {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(r"\S"))
        .build();
    let texts = ArrayBuilder::new()
        .items(text.clone())
        .min_items(Some(1))
        .max_items(Some(MAX_QUERIES));
    OneOfBuilder::new().item(text).item(texts).build().into()
}

/// Searches a vector store
///
/// By meaning and by words, fused.
#[utoipa::path(
    post,
    path = "/vector_stores/{id}/search",
    operation_id = "search_vector_store",
    tag = "Vector stores",
    params(("id" = String, Path)),
    request_body = SearchRequest,
    responses((status = 200, body = SearchResults))
)]
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
    let (threshold, options) = ranking.checked(&context, "ranking_options").await?;
    let queries = match request.rewrite_query {
        // With whatever it takes to have the model there.
        Some(true) => {
            let rewritten = rewritten(&context, queries.clone());
            timeout(rewrite::MAX_WAIT, rewritten)
                .await
                .unwrap_or(queries)
        }
        _ => queries,
    };
    let options = RetrieveOptions {
        top_k: max_num_results,
        explains: request.explain.unwrap_or(false),
        ..options
    };
    let retrieved = retrieve(&context.workspace, &queries, &scope, &options).await?;
    let results = SearchResults::new(&retrieved, threshold, &options);
    Ok(HttpResponse::Ok().json(results))
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
