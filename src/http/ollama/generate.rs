//! `POST /api/generate`: one prompt, through the chat template or as it stands.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::messages::refuse_images;
use super::options::{self, FormatOrSchema, KeepAlive, Options, Think};
use super::shape::GeneratePart;
use super::stream::{Answer, Clock, Form, without_prompt};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::parameters::refuse;
use crate::http::openai::quote;
use crate::rag::conversation::ChatMessage;
use crate::rag::reply::{ReplyPlan, ReplyRequest};
use crate::rag::tools::ToolUse;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaGenerate)]
pub struct GenerateRequest {
    model: String,
    /// Without one, the model is only loaded.
    prompt: Option<String>,
    system: Option<String>,
    /// Whether the prompt is gone on with as it stands, without the chat template.
    raw: Option<bool>,
    #[schema(ignore)]
    suffix: Option<Value>,
    #[schema(ignore)]
    template: Option<Value>,
    #[schema(ignore)]
    context: Option<Value>,
    #[schema(ignore)]
    images: Option<Vec<Value>>,
    #[schema(value_type = Option<FormatOrSchema>)]
    format: Option<Value>,
    options: Option<Options>,
    /// True when absent.
    stream: Option<bool>,
    think: Option<Think>,
    #[schema(value_type = Option<KeepAlive>)]
    keep_alive: Option<Value>,
}

/// Answers one prompt
///
/// Streamed unless asked otherwise: every line is one object.
#[utoipa::path(
    post,
    path = "/generate",
    operation_id = "ollama_generate",
    tag = "Ollama",
    request_body(
        content = GenerateRequest,
        example = json!({
            "model": "qwen3-1.7b",
            "prompt": "Who keeps the lighthouse?",
            "stream": false
        })
    ),
    responses((
        status = 200,
        content((GeneratePart = "application/json"), (GeneratePart = "application/x-ndjson"))
    ))
)]
pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<GenerateRequest>,
) -> Result<HttpResponse, ApiError> {
    let mut clock = Clock::start();
    let request = body.0;
    refuse_images("images", request.images.as_deref())?;
    let no_insert = format!("\"{}\" does not support insert", request.model);
    refuse("suffix", &request.suffix, &no_insert)?;
    let own_template = "template is not served: the model's own chat template is used; send 'raw' with a prompt that \
                        has one applied";
    refuse("template", &request.template, own_template)?;
    let no_context = "context is not served; send the earlier turns as 'messages' to /api/chat";
    refuse("context", &request.context, no_context)?;
    let mut options = request
        .options
        .unwrap_or_default()
        .checked(context.generation_timeout())?;
    let shape = options::shape(request.format)?;
    let prompt = request.prompt.unwrap_or_default();
    if prompt.is_empty() {
        return without_prompt(&context, &request.model, request.keep_alive, Form::Generate).await;
    }
    if super::is_quote_model(&context, &request.model) {
        let question = ReplyRequest {
            messages: vec![ChatMessage::User(prompt)],
            extra: Map::new(),
            tools: ToolUse::default(),
            shape,
            options,
        };
        let reply = quote::reply(&context, &question).await?;
        let answer = Answer::new(request.model, Form::Generate, None, clock);
        return answer.respond(reply, request.stream.unwrap_or(true)).await;
    }
    let chat = super::chat_model(&context, &request.model).await?;
    clock.is_loaded();
    let plan = if request.raw.unwrap_or(false) {
        // A continuation begins where the prompt ended.
        options.trims_start = false;
        ReplyPlan::going_on(&chat, prompt, shape, options).await?
    } else {
        let thinks = options::thinks(request.think.as_ref(), &chat, &request.model)?;
        let system = request.system.filter(|system| !system.is_empty());
        let system = system.map(ChatMessage::System);
        let plan = ReplyRequest {
            messages: system
                .into_iter()
                .chain([ChatMessage::User(prompt)])
                .collect(),
            extra: options::template_variables(thinks),
            tools: ToolUse::default(),
            shape,
            options,
        };
        ReplyPlan::new(&chat, plan).await?
    };
    let answer = Answer::new(request.model, Form::Generate, request.think, clock);
    let reply = plan.start_one()?;
    answer.respond(reply, request.stream.unwrap_or(true)).await
}
