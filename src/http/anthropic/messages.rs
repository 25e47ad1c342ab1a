//! `POST /v1/messages` and `/v1/messages/count_tokens`.

use actix_web::{HttpResponse, web};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::request::MessagesRequest;
use super::stream::MessageStream;
use crate::engine::Usage;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::sse;
use crate::rag::generate::EndReason;
use crate::rag::reply::{Replied, ReplyPlan};
use crate::store::new_id;

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
    let chat = context.chat_model(Some(&model)).await?;
    let plan = ReplyPlan::new(&chat, request).await?;
    let usage = Usage {
        num_prompt_tokens: plan.prompt().len(),
        ..Usage::default()
    };
    let reply = plan.start_one()?;
    let empty = message(&model, Vec::new(), usage);
    if is_streamed {
        return Ok(sse::respond(
            context.options.sse_keep_alive,
            move |frames| MessageStream::new(frames, shows_thoughts).run(reply, empty),
        ));
    }
    let replied = reply.collect().await?;
    let arguments = replied.calls.iter().map(|call| call.arguments.as_str());
    let reason = stop_reason(replied.reason, arguments, replied.stopped_by.as_deref());
    let (usage, stopped_by) = (replied.usage, replied.stopped_by.clone());
    let mut message = message(&model, blocks(replied, shows_thoughts), usage);
    message["stop_reason"] = json!(reason);
    message["stop_sequence"] = json!(stopped_by.filter(|_| reason == STOP_SEQUENCE));
    Ok(HttpResponse::Ok().json(message))
}

pub async fn count_tokens(
    context: web::Data<Context>,
    body: JsonBody<MessagesRequest>,
) -> Result<HttpResponse, ApiError> {
    let model = body.0.model.clone();
    let request = body.0.checked(&context)?;
    let chat = context.chat_model(Some(&model)).await?;
    let plan = ReplyPlan::new(&chat, request).await?;
    Ok(HttpResponse::Ok().json(json!({ "input_tokens": plan.prompt().len() })))
}

fn message(model: &str, content: Vec<Value>, usage: Usage) -> Value {
    json!({
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": null,
        "stop_sequence": null,
        "usage": usage_json(&usage),
    })
}

fn blocks(replied: Replied, shows_thoughts: bool) -> Vec<Value> {
    let mut blocks = Vec::new();
    if shows_thoughts && !replied.reasoning.is_empty() {
        blocks.push(json!({ "type": "thinking", "thinking": replied.reasoning, "signature": "" }));
    }
    if !replied.text.is_empty() {
        blocks.push(json!({ "type": "text", "text": replied.text }));
    }
    // The input is an object: a call that was cut off is none.
    let calls = replied.calls.into_iter().filter_map(|call| {
        let input: Value = serde_json::from_str(&call.arguments).ok()?;
        Some(json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input }))
    });
    blocks.extend(calls);
    blocks
}

pub const STOP_SEQUENCE: &str = "stop_sequence";

/// Why an answer with calls of these arguments ended. One that ended within a call has no such call to make.
pub fn stop_reason<'a>(
    reason: Option<EndReason>,
    mut arguments: impl Iterator<Item = &'a str>,
    stopped_by: Option<&str>,
) -> &'static str {
    let is_whole = |arguments| serde_json::from_str::<IgnoredAny>(arguments).is_ok();
    match reason {
        Some(EndReason::Length) => "max_tokens",
        _ if stopped_by.is_some() => STOP_SEQUENCE,
        _ if arguments.any(is_whole) => "tool_use",
        Some(EndReason::Stop) | None => "end_turn",
    }
}

/// What was found in the cache is not counted as input again.
pub fn usage_json(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.num_prompt_tokens - usage.num_cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.num_cached_tokens,
        "output_tokens": usage.num_completion_tokens,
    })
}
