//! `/v1/responses`: conversation, and answers from documents through the `file_search` tool.

mod answering;
mod background;
mod echo;
mod event;
mod events;
mod extension;
mod file_search;
mod input;
pub mod item;
pub mod item_shapes;
mod items;
pub mod output;
mod prepare;
mod request;
mod response;
mod run;
mod shape;
mod tools;
mod wanted;
pub mod wishes;

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonParts;
use crate::http::openai::page::{self, Deleted, IncludeQuery, ListQuery, Page, PageQuery};
use crate::http::openai::parameters::SamplingFields;
use crate::http::openai::redact;
use crate::http::sse;
use event::NumberedEvent;
use item_shapes::Item;
use request::{Checked, ResponsesRequest};
use response::Response;

pub use background::BackgroundTasks;
pub use file_search::FileSearch;
pub use shape::file_citation;

/// The body of a request for a response, which is read in two parts.
#[derive(ToSchema)]
#[schema(as = CreateResponse)]
#[expect(dead_code, reason = "it is the schema of what JsonParts reads")]
pub struct Body {
    #[schema(inline)]
    #[serde(flatten)]
    request: ResponsesRequest,
    #[serde(flatten)]
    sampling: SamplingFields,
}

/// Answers a conversation
///
/// With the tool `file_search`, from documents and with citations. The answer is kept and can be continued, unless `store`
/// is false.
#[utoipa::path(
    post,
    path = "/responses",
    operation_id = "create_response",
    tag = "Responses",
    request_body = Body,
    responses((
        status = 200,
        content((Response = "application/json"), (NumberedEvent = "text/event-stream"))
    ))
)]
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

/// How many tokens a request has.
#[derive(Debug, Serialize, ToSchema)]
pub struct InputTokens {
    /// Always `response.input_tokens`.
    object: &'static str,
    input_tokens: usize,
}

/// Counts what a request would give the model to read
#[utoipa::path(
    post,
    path = "/responses/input_tokens",
    operation_id = "count_input_tokens",
    tag = "Responses",
    request_body = Body,
    responses((status = 200, body = InputTokens))
)]
pub async fn input_tokens(
    context: web::Data<Context>,
    body: JsonParts<ResponsesRequest, SamplingFields>,
) -> Result<HttpResponse, ApiError> {
    let checked = Checked::from_request(&context, body.0, body.1).await?;
    let input_tokens = prepare::count_input(&context, checked).await?;
    Ok(HttpResponse::Ok().json(InputTokens {
        object: "response.input_tokens",
        input_tokens,
    }))
}

/// How a stored response is fetched.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is the schema of what `get` reads")]
struct StreamQuery {
    /// Whether it comes as events, those to come too; only of a background response that was asked for with `stream`.
    stream: Option<bool>,
    /// The `sequence_number` of the last event that is not wanted again.
    starting_after: Option<u32>,
}

/// Shows a stored response
///
/// One in the background as far as it is.
#[utoipa::path(
    get,
    path = "/responses/{id}",
    operation_id = "get_response",
    tag = "Responses",
    params(("id" = String, Path), StreamQuery),
    responses((
        status = 200,
        content((Response = "application/json"), (NumberedEvent = "text/event-stream"))
    ))
)]
pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let first = first_wanted(&query)?;
    match query.value("stream") {
        None | Some("false") => {}
        Some("true") => return background::stream_again(context, id.into_inner(), first).await,
        Some(other) => {
            let message = format!("stream is '{other}', but must be 'true' or 'false'");
            return Err(ApiError::invalid("stream", message));
        }
    }
    let stored = background::current(&context, &id).await?;
    let shown = redact::without_deleted(&context.workspace.store, stored.body).await?;
    Ok(HttpResponse::Ok().json(shown))
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

/// Deletes a stored response
///
/// One that is being written in the background is ended.
#[utoipa::path(
    delete,
    path = "/responses/{id}",
    operation_id = "delete_response",
    tag = "Responses",
    params(("id" = String, Path)),
    responses((status = 200, body = Deleted))
)]
pub async fn delete(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let deleted = Deleted::new(&*id, "response");
    // To its end, also when the client leaves meanwhile.
    let delete = async move {
        context.workspace.store.delete_response(&id).await?;
        context.background.abort(&id);
        Ok::<_, ApiError>(())
    };
    let done = actix_web::rt::spawn(delete).await;
    done.map_err(|_| ApiError::ended_early())??;
    Ok(HttpResponse::Ok().json(deleted))
}

/// Cancels a response in the background
///
/// One that has ended stays as it is.
#[utoipa::path(
    post,
    path = "/responses/{id}/cancel",
    operation_id = "cancel_response",
    tag = "Responses",
    params(("id" = String, Path)),
    responses((status = 200, body = Response))
)]
pub async fn cancel(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    // To its end, also when the client leaves meanwhile.
    let cancel = async move { background::cancel(&context, &id).await };
    let cancelled = actix_web::rt::spawn(cancel).await;
    Ok(HttpResponse::Ok().json(cancelled.map_err(|_| ApiError::ended_early())??))
}

/// Lists the items that a request brought
///
/// What it continued is listed by its own response or conversation.
#[utoipa::path(
    get,
    path = "/responses/{id}/input_items",
    operation_id = "list_input_items",
    tag = "Responses",
    params(("id" = String, Path), PageQuery, IncludeQuery),
    responses((status = 200, body = Page<Item>))
)]
pub async fn input_items(
    context: web::Data<Context>,
    id: web::Path<String>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let list = query.request(20, 100)?;
    let store = &context.workspace.store;
    let page = store.input_items(&id, list).await?;
    let include = query.include();
    let data = page.items.into_iter().map(|it| item::shown(it, &include));
    let data = redact::all_without_deleted(store, data.collect()).await?;
    Ok(HttpResponse::Ok().json(page::list(data, page.has_more)))
}
