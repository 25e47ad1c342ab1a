//! `POST /api/chat`, streamed unless asked otherwise.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::messages::{self, Message};
use super::options::{self, FormatOrSchema, KeepAlive, Options, Think};
use super::shape::ChatPart;
use super::stream::{Answer, Clock, Form};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::quote;
use crate::http::openai::tools::{self, OfferedFunction};
use crate::rag::reply::{ReplyPlan, ReplyRequest};

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaChat)]
pub struct ChatRequest {
    model: String,
    /// Without any, the model is only loaded.
    messages: Option<Vec<Message>>,
    #[schema(value_type = Option<Vec<OfferedFunction>>, max_items = 128)]
    tools: Option<Vec<Value>>,
    #[schema(value_type = Option<FormatOrSchema>)]
    format: Option<Value>,
    options: Option<Options>,
    /// True when absent.
    stream: Option<bool>,
    think: Option<Think>,
    #[schema(value_type = Option<KeepAlive>)]
    keep_alive: Option<Value>,
}

/// Answers a conversation
///
/// Streamed unless asked otherwise: every line is one object.
#[utoipa::path(
    post,
    path = "/chat",
    operation_id = "ollama_chat",
    tag = "Ollama",
    request_body(
        content = ChatRequest,
        example = json!({
            "model": "qwen3-1.7b",
            "messages": [{ "role": "user", "content": "Who keeps the lighthouse?" }],
            "stream": false
        })
    ),
    responses((
        status = 200,
        content((ChatPart = "application/json"), (ChatPart = "application/x-ndjson"))
    ))
)]
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
    let mut plan = ReplyRequest {
        messages,
        extra: Map::new(),
        tools,
        shape,
        options,
    };
    if super::is_quote_model(&context, &request.model) {
        let reply = quote::reply(&context, &plan).await?;
        let answer = Answer::new(request.model, Form::Chat, None, clock);
        return answer.respond(reply, request.stream.unwrap_or(true)).await;
    }
    let chat = super::chat_model(&context, &request.model).await?;
    clock.is_loaded();
    let thinks = options::thinks(request.think.as_ref(), &chat, &request.model)?;
    plan.extra = options::template_variables(thinks);
    let answer = Answer::new(request.model, Form::Chat, request.think, clock);
    let reply = ReplyPlan::new(&chat, plan).await?.start_one()?;
    answer.respond(reply, request.stream.unwrap_or(true)).await
}
