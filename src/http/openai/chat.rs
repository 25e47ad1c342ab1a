//! `POST /v1/chat/completions`, streamed and not.

pub mod chunk;
pub(super) mod messages;
pub mod request;
pub mod shape;
pub mod stored;

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::engine::Usage;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonParts;
use crate::http::openai::parameters::{SamplingFields, is_thinking};
use crate::http::openai::responses::wishes::ChatWishes;
use crate::http::openai::{format, quote, tools};
use crate::http::sse;
use crate::rag::generate::{ChatModel, GenerateError};
use crate::rag::reply::{Replied, Reply, ReplyPlan, ReplyRequest};
use crate::store::{new_id, unix_now};
use chunk::ChunkStream;
use request::ChatRequest;
use shape::{
    AssistantMessage, Choice, Completion, CompletionUsage, Envelope, Logprobs, reply_finish_reason,
};
use stored::{Echo, Keeper};

pub use messages::Content;
pub use shape::token_logprobs;

/// Choices that one request may ask for.
pub const MAX_CHOICES: u32 = 16;
/// Alternatives that may be asked for with log-probabilities.
const MAX_TOP_LOGPROBS: u32 = 20;

/// Answers a conversation
///
/// Streamed, every event is a `ChatCompletionChunk`, and the last one is `[DONE]`.
#[utoipa::path(
    post,
    path = "/chat/completions",
    operation_id = "create_chat_completion",
    tag = "Chat",
    request_body(
        content = request::Body,
        example = json!({ "messages": [{ "role": "user", "content": "Who keeps the lighthouse?" }] })
    ),
    responses((
        status = 200,
        content((Completion = "application/json"), (chunk::Chunk = "text/event-stream"))
    ))
)]
pub async fn create(
    context: web::Data<Context>,
    body: JsonParts<ChatRequest, SamplingFields>,
) -> Result<HttpResponse, ApiError> {
    let JsonParts(mut request, sampling) = body;
    let echo = Echo::new(&request, &sampling);
    request.refuse_unserved()?;
    let (is_streamed, include_usage) = (request.is_streamed(), request.includes_usage());
    let num_choices = request.n.unwrap_or(1);
    if !(1..=MAX_CHOICES).contains(&num_choices) {
        return Err(ApiError::invalid(
            "n",
            format!("n is {num_choices}, but must be between 1 and {MAX_CHOICES}"),
        ));
    }
    let logprobs = wanted_logprobs(request.logprobs, request.top_logprobs)?;
    let max_tokens = request.max_completion_tokens.or(request.max_tokens);
    let options = sampling.options(max_tokens, logprobs, context.generation_timeout())?;
    let tools = tools::checked(
        request.tools.as_deref(),
        request.tool_choice.as_ref(),
        request.parallel_tool_calls,
    )?;
    let guide = request.take_guide();
    let shape = format::shape(
        request.response_format.take(),
        request.structured_outputs.take(),
        guide,
    )?;
    let keeper = Keeper::new(&context, &mut request, echo)?;
    let wishes = ChatWishes::checked(request.inglenook.take())?;
    if context.is_quote_model(request.model.as_deref()) || wishes.is_quoting {
        quote::refuse(&[
            ("n", num_choices > 1),
            ("logprobs", logprobs.is_some()),
            ("tools", tools.is_wanted()),
            ("response_format", shape.is_some()),
        ])?;
        messages::read_files(&context, &mut request.messages).await?;
        let min_confidence = wishes.min_confidence;
        return quote::create(&context, request, keeper, min_confidence).await;
    }
    if wishes.min_confidence.is_some() {
        let message = "inglenook.min_confidence is for answers from documents: ask for inglenook.mode 'quote'";
        return Err(ApiError::invalid("inglenook.min_confidence", message));
    }
    let held_by = shape.as_ref().map_or("tools", |(_, field)| *field);
    messages::read_files(&context, &mut request.messages).await?;
    let messages = messages::checked(request.messages)?;
    let chat = context.chat_model(request.model.as_deref()).await?;
    let mut extra = request.chat_template_kwargs.unwrap_or_default();
    let thinks = is_thinking(request.reasoning_effort.as_deref());
    extra.entry("enable_thinking").or_insert(json!(thinks));
    let plan = ReplyPlan::new(
        &chat,
        ReplyRequest {
            messages,
            extra,
            tools,
            shape: shape.map(|(shape, _)| shape),
            options,
        },
    );
    let plan = plan.await.map_err(|error| match error {
        GenerateError::Constrain(error) => ApiError::from(error).about(held_by),
        error => error.into(),
    })?;

    let replies = plan.start(num_choices as usize)?;
    let envelope = Envelope {
        id: new_id("chatcmpl-"),
        created: unix_now(),
        model: chat.id().to_string(),
        fingerprint: context.fingerprint(),
        with_logprobs: logprobs.is_some(),
    };
    if is_streamed {
        return Ok(sse::respond(
            context.options.sse_keep_alive,
            move |frames| async move {
                let stream = ChunkStream {
                    chat,
                    envelope,
                    include_usage,
                    frames,
                    keeper,
                };
                stream.run(replies).await
            },
        ));
    }
    complete(&chat, envelope, replies, keeper).await
}

/// How many alternatives are wanted with the log-probabilities; `None` where these are not.
pub fn wanted_logprobs(
    logprobs: Option<bool>,
    top: Option<u32>,
) -> Result<Option<usize>, ApiError> {
    let top_logprobs = top.unwrap_or(0);
    if top_logprobs > MAX_TOP_LOGPROBS {
        let message =
            format!("top_logprobs is {top_logprobs}, but must be at most {MAX_TOP_LOGPROBS}");
        return Err(ApiError::invalid("top_logprobs", message));
    }
    match logprobs.unwrap_or(false) {
        true => Ok(Some(top_logprobs as usize)),
        false if top_logprobs > 0 => Err(ApiError::invalid(
            "top_logprobs",
            "top_logprobs needs 'logprobs' to be true",
        )),
        false => Ok(None),
    }
}

async fn complete(
    chat: &ChatModel,
    envelope: Envelope,
    replies: Vec<Reply>,
    keeper: Option<Keeper>,
) -> Result<HttpResponse, ApiError> {
    let finished =
        futures_util::future::try_join_all(replies.into_iter().map(Reply::collect)).await?;
    let mut completion = whole(chat, &envelope, finished);
    if let Some(keeper) = keeper {
        completion = keeper.keep(completion).await?;
    }
    Ok(HttpResponse::Ok().json(completion))
}

/// The completion that finished replies make.
fn whole(chat: &ChatModel, envelope: &Envelope, finished: Vec<Replied>) -> Completion {
    let mut spent = Spent::default();
    let mut choices = Vec::new();
    for (index, replied) in finished.into_iter().enumerate() {
        spent.add(&replied.usage, replied.num_reasoning_tokens, index);
        let with_logprobs = envelope.with_logprobs;
        choices.push(Choice {
            index,
            logprobs: with_logprobs.then(|| Logprobs::new(chat, &replied.tokens)),
            finish_reason: reply_finish_reason(replied.reason, replied.calls.len()),
            message: AssistantMessage::of_model(replied),
        });
    }
    envelope.completion(choices, spent.usage())
}

/// What all choices together took.
#[derive(Default)]
struct Spent {
    usage: Usage,
    num_reasoning_tokens: usize,
}

impl Spent {
    /// The prompt is counted once, however many choices were made of it.
    fn add(&mut self, one: &Usage, num_reasoning_tokens: usize, index: usize) {
        if index == 0 {
            self.usage.num_prompt_tokens = one.num_prompt_tokens;
            self.usage.num_cached_tokens = one.num_cached_tokens;
        }
        self.usage.num_completion_tokens += one.num_completion_tokens;
        self.num_reasoning_tokens += num_reasoning_tokens;
    }

    fn usage(&self) -> CompletionUsage {
        CompletionUsage::new(&self.usage, self.num_reasoning_tokens)
    }
}
