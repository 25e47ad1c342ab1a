//! `/v1/responses`: conversation, and answers from documents through the `file_search` tool.

mod background;
mod events;
mod file_search;
mod input;
pub mod item;
mod items;
mod prepare;
mod request;
mod run;
mod shape;
mod tools;

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonParts;
use crate::http::openai::page::{self, ListQuery};
use crate::http::openai::parameters::SamplingFields;
use crate::http::sse;
use request::{Checked, ResponsesRequest};

pub use background::BackgroundTasks;
pub use file_search::FileSearch;
pub use shape::file_citation;

pub async fn create(
    context: web::Data<Context>,
    body: JsonParts<ResponsesRequest, SamplingFields>,
) -> Result<HttpResponse, ApiError> {
    let checked = Checked::from_request(&context, body.0, body.1).await?;
    if checked.echo.is_background {
        return background::start(context, checked).await;
    }
    let is_streamed = checked.is_streamed;
    // Searching and fitting the prompt come before the first byte, so that their errors have a status of their own.
    let run = prepare::prepare(&context, checked).await?;
    if is_streamed {
        return Ok(sse::respond(
            context.options.sse_keep_alive,
            move |frames| async move { run.stream(frames).await },
        ));
    }
    Ok(HttpResponse::Ok().json(run.complete().await?))
}

/// How many tokens a request would give the model to read.
pub async fn input_tokens(
    context: web::Data<Context>,
    body: JsonParts<ResponsesRequest, SamplingFields>,
) -> Result<HttpResponse, ApiError> {
    let checked = Checked::from_request(&context, body.0, body.1).await?;
    let input_tokens = prepare::count_input(&context, checked).await?;
    let counted = json!({ "object": "response.input_tokens", "input_tokens": input_tokens });
    Ok(HttpResponse::Ok().json(counted))
}

pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    if query.value("stream").is_some_and(|it| it != "false") {
        let first = first_wanted(&query)?;
        return background::stream_again(context, id.into_inner(), first).await;
    }
    let stored = background::current(&context, &id).await?;
    Ok(HttpResponse::Ok().json(stored.body))
}

/// The number of the first event to send.
fn first_wanted(query: &ListQuery) -> Result<usize, ApiError> {
    let Some(number) = query.value("starting_after") else {
        return Ok(0);
    };
    // As a number of 32 bits it has a successor.
    let number: u32 = number.parse().map_err(|_| {
        let message =
            format!("starting_after is '{number}', but must be the sequence_number of an event");
        ApiError::invalid("starting_after", message)
    })?;
    Ok(number as usize + 1)
}

pub async fn delete(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.store.delete_response(&id).await?;
    context.background.abort(&id);
    Ok(HttpResponse::Ok().json(json!({ "id": *id, "object": "response", "deleted": true })))
}

pub async fn cancel(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(background::cancel(&context, &id).await?))
}

/// The items that the request brought; what it continued is listed by its own response or conversation.
pub async fn input_items(
    context: web::Data<Context>,
    id: web::Path<String>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let list = query.request(20, 100)?;
    let page = context.workspace.store.input_items(&id, list).await?;
    let include = query.include();
    let data = page.items.into_iter().map(|it| item::shown(it, &include));
    Ok(HttpResponse::Ok().json(page::list(data.collect(), page.has_more)))
}
