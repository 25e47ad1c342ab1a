//! `POST /v1/messages` and `/v1/messages/count_tokens`.

use actix_web::{HttpResponse, web};

use super::request::{self, MessagesRequest};
use super::shape::{self, TokenCount};
use super::stream::MessageStream;
use crate::engine::Usage;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::quote;
use crate::http::sse;
use crate::rag::reply::ReplyPlan;

/// Answers a conversation
///
/// Streamed, every event's data is an `AnthropicEvent`.
#[utoipa::path(
    post,
    path = "/messages",
    operation_id = "create_message",
    tag = "Anthropic",
    request_body(
        content = request::Body,
        example = json!({
            "model": "qwen3-1.7b",
            "max_tokens": 200,
            "messages": [{ "role": "user", "content": "Who keeps the lighthouse?" }]
        })
    ),
    responses((
        status = 200,
        content((shape::Reply = "application/json"), (shape::Event = "text/event-stream"))
    ))
)]
pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<MessagesRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    match request.max_tokens {
        None => {
            return Err(ApiError::invalid(
                "max_tokens",
                "max_tokens: field required",
            ));
        }
        Some(count) if count < 1 => {
            let message = format!("max_tokens is {count}, but must be at least 1");
            return Err(ApiError::invalid("max_tokens", message));
        }
        Some(_) => {}
    }
    let model = request.model.clone();
    let (shows_thoughts, is_streamed) = (request.thinks(), request.stream.unwrap_or(false));
    let request = request.checked(&context)?;
    let mut usage = Usage::default();
    let reply = if context.is_quote_model(Some(&model)) {
        quote::reply(&context, &request).await?
    } else {
        let chat = context.chat_model(Some(&model)).await?;
        let plan = ReplyPlan::new(&chat, request).await?;
        usage.num_prompt_tokens = plan.prompt().len();
        plan.start_one()?
    };
    let empty = shape::Reply::empty(&model, &usage);
    if is_streamed {
        return Ok(sse::respond(
            context.options.sse_keep_alive,
            move |frames| MessageStream::new(frames, shows_thoughts).run(reply, empty),
        ));
    }
    let replied = reply.collect().await?;
    Ok(HttpResponse::Ok().json(empty.finished(replied, shows_thoughts)))
}

/// Counts the tokens of a conversation
#[utoipa::path(
    post,
    path = "/messages/count_tokens",
    operation_id = "count_message_tokens",
    tag = "Anthropic",
    request_body(
        content = MessagesRequest,
        example = json!({
            "model": "qwen3-1.7b",
            "max_tokens": 200,
            "messages": [{ "role": "user", "content": "Who keeps the lighthouse?" }]
        })
    ),
    responses((status = 200, body = TokenCount))
)]
pub async fn count_tokens(
    context: web::Data<Context>,
    body: JsonBody<MessagesRequest>,
) -> Result<HttpResponse, ApiError> {
    let model = body.0.model.clone();
    let request = body.0.checked(&context)?;
    let chat = context.chat_model(Some(&model)).await?;
    let plan = ReplyPlan::new(&chat, request).await?;
    let input_tokens = plan.prompt().len();
    Ok(HttpResponse::Ok().json(TokenCount { input_tokens }))
}
