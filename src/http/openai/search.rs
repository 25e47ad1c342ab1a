//! `POST /v1/vector_stores/{id}/search`: passages of a store's documents.

use actix_web::{HttpResponse, web};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::filters::{self, Filter};
use crate::http::openai::parameters::OneOrMany;
use crate::rag::retrieve::{Passage, Weights, retrieve};
use crate::rag::{Answerer, rewrite};
use crate::store::{AttributeValue, Attributes, SearchScope};

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

/// How what was found is ranked.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct RankingOptions {
    /// Taken and without effect: both searches are always fused.
    #[schema(pattern = "^(none|auto|default.*)$")]
    ranker: Option<String>,
    /// Results below it are left out; 0 by default.
    #[schema(minimum = 0, maximum = 1)]
    score_threshold: Option<f32>,
    hybrid_search: Option<HybridSearch>,
}

/// How much either search counts; one must be above 0.
#[derive(Debug, Deserialize, ToSchema)]
pub struct HybridSearch {
    /// Of the search by meaning.
    #[schema(minimum = 0)]
    embedding_weight: f32,
    /// Of the search by words.
    #[schema(minimum = 0)]
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

/// Where a passage was found, and how well it fits.
#[derive(Debug, Serialize, ToSchema)]
pub struct FoundPassage {
    file_id: String,
    filename: String,
    /// From 0 to 1: the weighted mean of its similarity and of how much of the query's words it has.
    score: f32,
    #[schema(value_type = BTreeMap<String, AttributeValue>)]
    attributes: Attributes,
    /// The number that an answer cites it by.
    number: usize,
    /// Cosine similarity to the query; null where only its words were found.
    #[schema(required)]
    similarity: Option<f32>,
    /// The page that it begins on, from 1; 0 in documents without pages.
    page_first: u32,
    /// The page that it ends on.
    page_last: u32,
    /// Its first byte in the document's text.
    start: usize,
    /// The byte after its last.
    end: usize,
    /// The headings that it stands under.
    heading_path: Vec<String>,
}

impl From<&Passage> for FoundPassage {
    fn from(passage: &Passage) -> Self {
        let chunk = &passage.chunk;
        Self {
            file_id: chunk.file_id.clone(),
            filename: chunk.filename.clone(),
            score: passage.score,
            attributes: chunk.attributes.clone(),
            number: passage.number,
            similarity: passage.similarity,
            page_first: chunk.page_first,
            page_last: chunk.page_last,
            start: chunk.span.start,
            end: chunk.span.end,
            heading_path: chunk.heading_path.clone(),
        }
    }
}

/// A passage that was found, with its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchResult {
    #[serde(flatten)]
    passage: FoundPassage,
    content: Vec<TextContent>,
}

/// A piece of a document's text.
#[derive(Debug, Serialize, ToSchema)]
pub struct TextContent {
    /// Always `text`.
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
}

impl TextContent {
    pub fn new(text: String) -> Self {
        Self { kind: "text", text }
    }
}

/// All at once: nothing follows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchResults {
    /// Always `vector_store.search_results.page`.
    object: &'static str,
    /// What was searched for.
    search_query: Vec<String>,
    data: Vec<SearchResult>,
    /// Always false.
    has_more: bool,
    /// Always null.
    #[schema(required)]
    next_page: Option<String>,
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
    let (threshold, weights) = ranking.checked("ranking_options")?;
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
    let retrieved = retrieve(
        &context.workspace,
        &queries,
        &scope,
        max_num_results,
        weights,
    )
    .await?;
    let shown = retrieved
        .passages
        .iter()
        .filter(|passage| passage.score >= threshold);
    let data = shown.map(|passage| SearchResult {
        passage: passage.into(),
        content: vec![TextContent::new(passage.chunk.text.clone())],
    });
    let data = data.collect();
    Ok(HttpResponse::Ok().json(SearchResults {
        object: "vector_store.search_results.page",
        search_query: retrieved.queries,
        data,
        has_more: false,
        next_page: None,
    }))
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
