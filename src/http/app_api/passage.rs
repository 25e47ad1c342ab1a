//! `GET /api/files/{id}/passage?start=..&end=..`: exact bytes of a document with the text around them.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::document;

/// Most bytes shown on each side.
const MAX_CONTEXT: usize = 4000;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Span {
    /// The first byte of the text.
    start: usize,
    /// The byte after the last.
    end: usize,
    /// Bytes to be shown on each side, 600 when absent and at most 4000.
    context: Option<usize>,
}

/// Exact bytes of a document's text, with what stands around them.
#[derive(Debug, Serialize, ToSchema)]
pub struct Passage {
    file_id: String,
    filename: String,
    #[schema(required)]
    title: Option<String>,
    page_first: u32,
    page_last: u32,
    before: String,
    /// The bytes that were asked for.
    text: String,
    after: String,
    start: usize,
    end: usize,
}

/// Shows a passage of a document
///
/// A span is given in bytes of the text that was read from the file, as citations give it.
#[utoipa::path(
    get,
    path = "/files/{id}/passage",
    operation_id = "get_passage",
    tag = "Browser app",
    params(("id" = String, Path, description = "The file's id"), Span),
    responses((status = 200, body = Passage))
)]
pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
    span: web::Query<Span>,
) -> Result<HttpResponse, ApiError> {
    let around = span.context.unwrap_or(600).min(MAX_CONTEXT);
    let passage =
        document::passage(&context.workspace.store, &id, span.start..span.end, around).await?;
    Ok(HttpResponse::Ok().json(Passage {
        file_id: id.into_inner(),
        filename: passage.filename,
        title: passage.title,
        page_first: passage.page_first,
        page_last: passage.page_last,
        before: passage.before,
        text: passage.text,
        after: passage.after,
        start: span.start,
        end: span.end,
    }))
}
