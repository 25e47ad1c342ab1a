//! `POST /v1/rerank` and `/v2/rerank`: documents in the order in which they answer a query, in a shape that clients of Jina
//! and of both versions of Cohere read; and in that of text-embeddings-inference for who sends `texts`.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::embedding::{Priority, RerankPair, Score, TooLong};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::store::new_id;

/// Documents that one request may carry.
const MAX_DOCUMENTS: usize = 1000;

#[derive(Debug, Deserialize)]
pub struct RerankRequest {
    model: Option<String>,
    query: String,
    /// Strings, or objects with a `text`.
    documents: Option<Value>,
    /// In place of `documents`: the answer is a bare list.
    texts: Option<Value>,
    /// Without it, all are returned.
    top_n: Option<usize>,
    return_documents: Option<bool>,
    return_text: Option<bool>,
    /// Extension: the end of a document that is too long is left out, instead of an error.
    truncate: Option<bool>,
    /// Scores as the model gives them, instead of from 0 to 1.
    raw_scores: Option<bool>,
}

pub async fn create(
    route: HttpRequest,
    context: web::Data<Context>,
    body: JsonBody<RerankRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
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
        let results = ranked.iter().map(|(index, score)| {
            let mut result = json!({ "index": index, "score": value(score) });
            if with_text {
                result["text"] = json!(documents[*index]);
            }
            result
        });
        return Ok(HttpResponse::Ok().json(results.collect::<Vec<_>>()));
    }
    let with_documents = request.return_documents.unwrap_or(false);
    let results = ranked.iter().map(|(index, score)| {
        let mut result = json!({ "index": index, "relevance_score": value(score) });
        if with_documents {
            result["document"] = json!({ "text": documents[*index] });
        }
        // An extension, only where it says something.
        if score.is_cut {
            result["truncated"] = json!(true);
        }
        result
    });
    let results: Vec<Value> = results.collect();
    let num_tokens: usize = scores.iter().map(|score| score.num_tokens).sum();
    let version = match route.path().starts_with("/v2/") {
        true => "2",
        false => "1",
    };
    Ok(HttpResponse::Ok().json(json!({
        "id": new_id("rerank-"),
        "model": reranker.spec().name,
        "object": "list",
        "usage": { "prompt_tokens": num_tokens, "total_tokens": num_tokens },
        "results": results,
        "meta": {
            "api_version": { "version": version },
            // Cohere counts a query with up to a hundred documents as one.
            "billed_units": { "search_units": documents.len().div_ceil(100) },
        },
    })))
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
