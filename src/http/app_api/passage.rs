//! `GET /api/files/{id}/passage?start=..&end=..`: exact bytes of a document with the text around them.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::document;

/// Most bytes shown on each side.
const MAX_CONTEXT: usize = 4000;

#[derive(Debug, Deserialize)]
pub struct Span {
    start: usize,
    end: usize,
    context: Option<usize>,
}

pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
    span: web::Query<Span>,
) -> Result<HttpResponse, ApiError> {
    let around = span.context.unwrap_or(600).min(MAX_CONTEXT);
    let passage = document::passage(&context.workspace.store, &id, span.start..span.end, around).await?;
    Ok(HttpResponse::Ok().json(json!({
        "file_id": *id,
        "filename": passage.filename,
        "title": passage.title,
        "page_first": passage.page_first,
        "page_last": passage.page_last,
        "before": passage.before,
        "text": passage.text,
        "after": passage.after,
        "start": span.start,
        "end": span.end,
    })))
}
