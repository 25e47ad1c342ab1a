//! `POST /v1/rerank` and `/v2/rerank`: documents in the order in which they answer a query, in a shape that clients of Jina
//! and of both versions of Cohere read; and in that of text-embeddings-inference for who sends `texts`.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::embeddings::TextUsage;
use crate::embedding::{Priority, RerankPair, Score, TooLong};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::store::new_id;

/// Documents that one request may carry.
const MAX_DOCUMENTS: usize = 1000;

/// Either `documents` or `texts` is needed.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RerankRequest {
    /// The first rerank model there is when absent.
    model: Option<String>,
    #[schema(min_length = 1)]
    query: String,
    #[schema(value_type = Option<Vec<RerankDocument>>, min_items = 1, max_items = 1000)]
    documents: Option<Value>,
    /// In place of `documents`: the answer is a bare list.
    #[schema(value_type = Option<Vec<RerankDocument>>, min_items = 1, max_items = 1000)]
    texts: Option<Value>,
    /// Without it, all are returned.
    #[schema(minimum = 1)]
    top_n: Option<usize>,
    return_documents: Option<bool>,
    /// As `return_documents`, with `texts`.
    return_text: Option<bool>,
    /// Extension: the end of a document that is too long is left out, instead of an error.
    truncate: Option<bool>,
    /// Scores as the model gives them, instead of from 0 to 1.
    raw_scores: Option<bool>,
}

/// A text, or an object that has one.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is the schema of what `texts` reads")]
enum RerankDocument {
    Text(String),
    Fields(DocumentText),
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RerankDocumentText)]
struct DocumentText {
    text: String,
}

/// Documents in the order in which they answer the query.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Ranking {
    /// Of `documents`.
    Full(RankedDocuments),
    /// Of `texts`.
    Bare(Vec<RankedText>),
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RankedDocuments {
    id: String,
    model: String,
    /// Always `list`.
    object: &'static str,
    usage: TextUsage,
    results: Vec<RankedDocument>,
    meta: RerankMeta,
}

#[derive(Debug, Serialize, ToSchema)]
struct RankedDocument {
    /// Its place in the request.
    index: usize,
    relevance_score: f32,
    /// Where `return_documents` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentText>,
    /// Extension, only where the document was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RankedText {
    /// Its place in the request.
    index: usize,
    score: f32,
    /// Where `return_text` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// As Cohere has it.
#[derive(Debug, Serialize, ToSchema)]
struct RerankMeta {
    api_version: RerankVersion,
    billed_units: BilledUnits,
}

#[derive(Debug, Serialize, ToSchema)]
struct RerankVersion {
    version: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
struct BilledUnits {
    /// Cohere counts a query with up to a hundred documents as one.
    search_units: usize,
}

/// Sorts documents by how they answer a query
#[utoipa::path(
    post,
    path = "/rerank",
    operation_id = "rerank",
    tag = "Embeddings",
    request_body(
        content = RerankRequest,
        example = json!({ "query": "Who keeps the lighthouse?", "documents": ["Maren Holt does.", "Smoked eel"] })
    ),
    responses((status = 200, body = Ranking))
)]
pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<RerankRequest>,
) -> Result<HttpResponse, ApiError> {
    let ranking = rank(&context, body.0, "1").await?;
    Ok(HttpResponse::Ok().json(ranking))
}

/// Sorts documents by how they answer a query, for Cohere's newer clients
///
/// As `/v1/rerank` does.
#[utoipa::path(
    post,
    path = "/v2/rerank",
    operation_id = "rerank_v2",
    tag = "Embeddings",
    request_body(
        content = RerankRequest,
        example = json!({ "query": "Who keeps the lighthouse?", "documents": ["Maren Holt does.", "Smoked eel"] })
    ),
    responses((status = 200, body = Ranking))
)]
pub async fn create_v2(
    context: web::Data<Context>,
    body: JsonBody<RerankRequest>,
) -> Result<HttpResponse, ApiError> {
    let ranking = rank(&context, body.0, "2").await?;
    Ok(HttpResponse::Ok().json(ranking))
}

async fn rank(
    context: &Context,
    request: RerankRequest,
    version: &'static str,
) -> Result<Ranking, ApiError> {
    let (param, given) = match (request.documents, request.texts) {
        (Some(_), Some(_)) => {
            let message = "documents and texts are two names of the same; send one of them";
            return Err(ApiError::invalid("texts", message));
        }
        (None, Some(texts)) => ("texts", texts),
        (documents, None) => ("documents", documents.unwrap_or(Value::Null)),
    };
    let documents = texts(param, given)?;
    if request.query.is_empty() {
        return Err(ApiError::invalid("query", "query is empty"));
    }
    if request.top_n == Some(0) {
        return Err(ApiError::invalid(
            "top_n",
            "top_n is 0, but must be at least 1",
        ));
    }
    let reranker = context.rerank_model(request.model.as_deref()).await?;
    let too_long = match request.truncate.unwrap_or(false) {
        true => TooLong::Cut,
        false => TooLong::Refuse,
    };
    let query: Arc<str> = request.query.into();
    let pair = |document: &String| RerankPair {
        query: Arc::clone(&query),
        document: document.clone(),
        too_long,
    };
    let pairs = documents.iter().map(pair).collect();
    let scores = reranker.score(pairs, Priority::Interactive).await?;
    let mut ranked: Vec<(usize, &Score)> = scores.iter().enumerate().collect();
    ranked.sort_by(|(_, a), (_, b)| b.logit.total_cmp(&a.logit));
    ranked.truncate(request.top_n.unwrap_or(usize::MAX));

    let raw = request.raw_scores.unwrap_or(false);
    let value = |score: &Score| if raw { score.logit } else { score.relevance() };
    if param == "texts" {
        let with_text = request.return_text.unwrap_or(false);
        let results = ranked.iter().map(|(index, score)| RankedText {
            index: *index,
            score: value(score),
            text: with_text.then(|| documents[*index].clone()),
        });
        return Ok(Ranking::Bare(results.collect()));
    }
    let with_documents = request.return_documents.unwrap_or(false);
    let results = ranked.iter().map(|(index, score)| RankedDocument {
        index: *index,
        relevance_score: value(score),
        document: with_documents.then(|| DocumentText {
            text: documents[*index].clone(),
        }),
        truncated: score.is_cut.then_some(true),
    });
    Ok(Ranking::Full(RankedDocuments {
        id: new_id("rerank-"),
        model: reranker.spec().name.clone(),
        object: "list",
        usage: TextUsage::new(scores.iter().map(|score| score.num_tokens).sum()),
        results: results.collect(),
        meta: RerankMeta {
            api_version: RerankVersion { version },
            billed_units: BilledUnits {
                search_units: documents.len().div_ceil(100),
            },
        },
    }))
}

fn texts(param: &str, given: Value) -> Result<Vec<String>, ApiError> {
    let wrong = || {
        let message = format!("{param} must be an array of strings or of objects with a 'text'");
        ApiError::invalid(param, message)
    };
    let Value::Array(items) = given else {
        return Err(wrong());
    };
    if items.is_empty() || items.len() > MAX_DOCUMENTS {
        let message = format!(
            "{param} has {} texts, but must have 1 to {MAX_DOCUMENTS}",
            items.len()
        );
        return Err(ApiError::invalid(param, message));
    }
    let text = |item| match item {
        Value::String(text) => Ok(text),
        Value::Object(mut fields) => match fields.remove("text") {
            Some(Value::String(text)) => Ok(text),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    };
    items.into_iter().map(text).collect()
}
