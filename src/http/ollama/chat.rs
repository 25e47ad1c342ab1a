//! `POST /api/chat`, streamed unless asked otherwise.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::Value;

use super::messages::{self, Message};
use super::options::{self, Options, Think};
use super::stream::{Answer, Clock, Form};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::tools;
use crate::rag::reply::{ReplyPlan, ReplyRequest};

#[derive(Debug, Deserialize)]
pub struct ChatRequest {
    model: String,
    messages: Option<Vec<Message>>,
    tools: Option<Vec<Value>>,
    format: Option<Value>,
    options: Option<Options>,
    stream: Option<bool>,
    think: Option<Think>,
    keep_alive: Option<Value>,
}

pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<ChatRequest>,
) -> Result<HttpResponse, ApiError> {
    let mut clock = Clock::start();
    let request = body.0;
    let options = request.options.unwrap_or_default();
    let options = options.checked(context.generation_timeout())?;
    let shape = options::shape(request.format)?;
    let tools = tools::checked(request.tools.as_deref(), None, None)?;
    let messages = messages::checked(request.messages.unwrap_or_default())?;
    if messages.is_empty() {
        return super::stream::without_prompt(
            &context,
            &request.model,
            request.keep_alive,
            Form::Chat,
        )
        .await;
    }
    let chat = super::chat_model(&context, &request.model).await?;
    clock.is_loaded();
    let thinks = options::thinks(request.think.as_ref(), &chat, &request.model)?;
    let plan = ReplyRequest {
        messages,
        extra: options::template_variables(thinks),
        tools,
        shape,
        options,
    };
    let answer = Answer {
        model: request.model,
        form: Form::Chat,
        hides_thoughts: matches!(request.think, Some(Think::Whether(false))),
        clock,
    };
    let plan = ReplyPlan::new(&chat, plan).await?;
    answer.respond(plan, request.stream.unwrap_or(true)).await
}
