//! `/v1/responses`: conversation, and answers from documents through the `file_search` tool.

mod input;
mod items;
mod request;
mod run;
mod shape;

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonParts;
use crate::http::openai::parameters::SamplingFields;
use crate::http::sse;
use request::{Checked, ResponsesRequest};

pub use request::FileSearch;
pub use shape::file_citation;

pub async fn create(
    context: web::Data<Context>,
    body: JsonParts<ResponsesRequest, SamplingFields>,
) -> Result<HttpResponse, ApiError> {
    let checked = Checked::from_request(&context, body.0, body.1).await?;
    let is_streamed = checked.is_streamed;
    // Searching and fitting the prompt come before the first byte, so that their errors have a status of their own.
    let run = run::prepare(&context, checked).await?;
    if is_streamed {
        return Ok(sse::respond(
            context.options.sse_keep_alive,
            move |frames| async move { run.stream(frames).await },
        ));
    }
    Ok(HttpResponse::Ok().json(run.complete().await?))
}

pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let stored = context.workspace.store.response(&id).await?;
    Ok(HttpResponse::Ok().json(stored.body))
}

pub async fn delete(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.store.delete_response(&id).await?;
    Ok(HttpResponse::Ok().json(json!({ "id": *id, "object": "response", "deleted": true })))
}
