//! `POST /v1/chat/completions`, streamed and not.

use actix_web::{HttpResponse, web};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::engine::{GeneratedToken, Usage};
use crate::http::error::ApiError;
use crate::http::json::JsonParts;
use crate::http::openai::parameters::{SamplingFields, is_thinking, refuse};
use crate::http::openai::quote;
use crate::http::sse::{self, ClientGone, Frame, Frames};
use crate::http::{Context, blocking};
use crate::rag::QUOTE_MODEL;
use crate::rag::generate::{ChatModel, EndReason, Generation, GenerationEvent};
use crate::store::{new_id, unix_now};

/// Choices that one request may ask for.
const MAX_CHOICES: u32 = 16;
/// Alternatives that may be asked for with log-probabilities.
const MAX_TOP_LOGPROBS: u32 = 20;

#[derive(Debug, Deserialize)]
pub struct ChatRequest {
    model: Option<String>,
    messages: Vec<Message>,
    max_completion_tokens: Option<i64>,
    max_tokens: Option<i64>,
    n: Option<u32>,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    tools: Option<Value>,
    tool_choice: Option<Value>,
    functions: Option<Value>,
    audio: Option<Value>,
    web_search_options: Option<Value>,
    response_format: Option<ResponseFormat>,
    chat_template_kwargs: Option<Map<String, Value>>,
    reasoning_effort: Option<String>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
pub struct Message {
    role: String,
    content: Option<Content>,
    tool_calls: Option<Value>,
}

/// Text, or parts of which only text is served.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
pub struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
}

impl ChatRequest {
    /// Takes the question that the conversation ends with.
    pub(super) fn take_question(&mut self) -> Result<String, ApiError> {
        let messages = template_messages(std::mem::take(&mut self.messages))?;
        let question = match messages.last() {
            Some(last) if last["role"] == "user" => last["content"].as_str().unwrap_or_default(),
            _ => {
                let message = "the last message must be of role 'user'";
                return Err(ApiError::invalid("messages", message));
            }
        };
        if question.trim().is_empty() {
            let message = "the last message is empty, but must be a question";
            return Err(ApiError::invalid("messages", message));
        }
        Ok(question.to_string())
    }

    pub(super) fn is_streamed(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn includes_usage(&self) -> bool {
        let options = self.stream_options.as_ref();
        options.is_some_and(|options| options.include_usage.unwrap_or(false))
    }
}

impl Content {
    /// The text of all parts together; `param` names the place in an error.
    pub fn into_text(self, param: &str) -> Result<String, ApiError> {
        let parts = match self {
            Content::Text(text) => return Ok(text),
            Content::Parts(parts) => parts,
        };
        let mut text = String::new();
        for (at, part) in parts.into_iter().enumerate() {
            let here = format!("{param}[{at}]");
            match part.kind.as_str() {
                "text" | "input_text" | "output_text" => {
                    text.push_str(&part.text.ok_or_else(|| {
                        ApiError::invalid(
                            format!("{here}.text"),
                            format!("{here} is of type '{}' but has no text", part.kind),
                        )
                    })?)
                }
                "refusal" => text.push_str(&part.refusal.unwrap_or_default()),
                other => {
                    let message =
                        format!("{here} is of type '{other}', but this model takes only text");
                    return Err(ApiError::unsupported(here, message));
                }
            }
        }
        Ok(text)
    }
}

/// The messages as a chat template reads them.
fn template_messages(messages: Vec<Message>) -> Result<Vec<Value>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid(
            "messages",
            "messages is empty, but must have at least one message",
        ));
    }
    let mut plain = Vec::with_capacity(messages.len());
    for (at, message) in messages.into_iter().enumerate() {
        let role = match message.role.as_str() {
            "system" | "developer" => "system",
            "user" => "user",
            "assistant" => "assistant",
            "tool" | "function" => "tool",
            other => {
                let param = format!("messages[{at}].role");
                let message = format!(
                    "{param} is '{other}', but must be one of system, developer, user, assistant, tool"
                );
                return Err(ApiError::invalid(param, message));
            }
        };
        let param = format!("messages[{at}].content");
        let content = match message.content {
            Some(content) => content.into_text(&param)?,
            None if role == "assistant" => String::new(),
            None => {
                return Err(ApiError::invalid(
                    param.clone(),
                    format!("missing required parameter: '{param}'"),
                ));
            }
        };
        let mut plain_message = json!({ "role": role, "content": content });
        if let Some(calls) = message.tool_calls.filter(|calls| !calls.is_null()) {
            plain_message["tool_calls"] = calls;
        }
        plain.push(plain_message);
    }
    Ok(plain)
}

/// What the answers carry besides the text.
pub(super) struct Envelope {
    pub id: String,
    pub created: i64,
    pub model: String,
    pub fingerprint: String,
    pub with_logprobs: bool,
}

impl Envelope {
    pub fn completion(&self, choices: &[Value], usage: &Usage) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "service_tier": "default",
            "choices": choices,
            "usage": usage_json(usage),
        })
    }

    pub fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }
}

pub async fn create(
    context: web::Data<Context>,
    body: JsonParts<ChatRequest, SamplingFields>,
) -> Result<HttpResponse, ApiError> {
    let JsonParts(request, sampling) = body;
    refuse_unserved(&request)?;
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
    if request.model.as_deref() == Some(QUOTE_MODEL) {
        if num_choices > 1 || logprobs.is_some() {
            let param = if num_choices > 1 { "n" } else { "logprobs" };
            let message = format!(
                "{param} is not served for '{QUOTE_MODEL}', which has one answer and no tokens"
            );
            return Err(ApiError::unsupported(param, message));
        }
        return quote::create(&context, request).await;
    }
    let chat = context.chat_model(request.model.as_deref()).await?;
    let mut extra = request.chat_template_kwargs.unwrap_or_default();
    let thinks = is_thinking(request.reasoning_effort.as_deref());
    extra.entry("enable_thinking").or_insert(json!(thinks));
    let messages = template_messages(request.messages)?;
    let templated = chat.clone();
    let prompt = blocking(move || Ok(templated.prompt(&messages, &extra)?)).await?;

    let generations = chat.generate_choices(prompt, options, num_choices as usize)?;
    let envelope = Envelope {
        id: new_id("chatcmpl-"),
        created: unix_now(),
        model: chat.id().to_string(),
        fingerprint: context.fingerprint(),
        with_logprobs: logprobs.is_some(),
    };
    if is_streamed {
        return Ok(sse::respond(move |frames| async move {
            let stream = ChunkStream {
                chat,
                envelope,
                include_usage,
                frames,
            };
            stream.run(generations).await
        }));
    }
    complete(&chat, envelope, generations).await
}

fn refuse_unserved(request: &ChatRequest) -> Result<(), ApiError> {
    let no_tools = request
        .tool_choice
        .as_ref()
        .is_some_and(|choice| choice == "none");
    if !no_tools {
        refuse(
            "tools",
            &request.tools,
            "tools are not served yet; leave out 'tools'",
        )?;
    }
    refuse(
        "functions",
        &request.functions,
        "functions are not served; leave out 'functions'",
    )?;
    refuse("audio", &request.audio, "audio output is not served")?;
    refuse(
        "web_search_options",
        &request.web_search_options,
        "web search is not served: nothing leaves this machine",
    )?;
    match &request.response_format {
        Some(format) if format.kind != "text" => Err(ApiError::unsupported(
            "response_format",
            format!(
                "response_format '{}' is not served yet; use 'text'",
                format.kind
            ),
        )),
        _ => Ok(()),
    }
}

fn wanted_logprobs(logprobs: Option<bool>, top: Option<u32>) -> Result<Option<usize>, ApiError> {
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
    generations: Vec<Generation>,
) -> Result<HttpResponse, ApiError> {
    let finished =
        futures_util::future::try_join_all(generations.into_iter().map(Generation::collect))
            .await?;
    let mut usage = Usage::default();
    let mut choices = Vec::new();
    for (index, generated) in finished.into_iter().enumerate() {
        add_usage(&mut usage, &generated.usage, index);
        let logprobs = envelope
            .with_logprobs
            .then(|| logprobs_json(chat, &generated.tokens));
        choices.push(json!({
            "index": index,
            "message": { "role": "assistant", "content": generated.text, "refusal": null },
            "logprobs": logprobs,
            "finish_reason": finish_reason(generated.reason),
        }));
    }
    Ok(HttpResponse::Ok().json(envelope.completion(&choices, &usage)))
}

/// The prompt is counted once, however many choices were made of it.
fn add_usage(total: &mut Usage, one: &Usage, index: usize) {
    if index == 0 {
        total.num_prompt_tokens = one.num_prompt_tokens;
        total.num_cached_tokens = one.num_cached_tokens;
    }
    total.num_completion_tokens += one.num_completion_tokens;
}

struct ChunkStream {
    chat: ChatModel,
    envelope: Envelope,
    include_usage: bool,
    frames: Frames,
}

impl ChunkStream {
    async fn run(self, generations: Vec<Generation>) -> Result<(), ClientGone> {
        let num_choices = generations.len();
        for index in 0..num_choices {
            self.send(
                index,
                json!({ "role": "assistant", "content": "" }),
                None,
                Value::Null,
            )
            .await?;
        }
        let mut events = stream::select_all(generations.into_iter().enumerate().map(
            |(index, generation)| {
                Box::pin(stream::unfold(
                    generation,
                    move |mut generation| async move {
                        let event = generation.next().await?;
                        Some(((index, event), generation))
                    },
                ))
            },
        ));
        let mut usage = Usage::default();
        while let Some((index, event)) = events.next().await {
            match event {
                Ok(GenerationEvent::Text { text, tokens }) => {
                    let logprobs = if self.envelope.with_logprobs {
                        logprobs_json(&self.chat, &tokens)
                    } else {
                        Value::Null
                    };
                    self.send(index, json!({ "content": text }), None, logprobs)
                        .await?;
                }
                Ok(GenerationEvent::Finished { reason, usage: one }) => {
                    add_usage(&mut usage, &one, index);
                    self.send(
                        index,
                        json!({}),
                        Some(finish_reason(Some(reason))),
                        Value::Null,
                    )
                    .await?;
                }
                Err(error) => {
                    return self
                        .frames
                        .send(Frame::Data(ApiError::from(error).body()))
                        .await;
                }
            }
        }
        if self.include_usage {
            let mut chunk = self.envelope.chunk(json!([]));
            chunk["usage"] = usage_json(&usage);
            self.frames.send(Frame::Data(chunk)).await?;
        }
        self.frames.send(Frame::Done).await
    }

    async fn send(
        &self,
        index: usize,
        delta: Value,
        finish_reason: Option<&str>,
        logprobs: Value,
    ) -> Result<(), ClientGone> {
        let mut chunk = self.envelope.chunk(json!([{
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }]));
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        self.frames.send(Frame::Data(chunk)).await
    }
}

pub fn finish_reason(reason: Option<EndReason>) -> &'static str {
    match reason {
        Some(EndReason::Length) => "length",
        Some(EndReason::Stop) | None => "stop",
    }
}

pub fn usage_json(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_completion_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_completion_tokens,
        "prompt_tokens_details": { "cached_tokens": usage.num_cached_tokens },
        "completion_tokens_details": { "reasoning_tokens": 0 },
    })
}

fn logprobs_json(chat: &ChatModel, tokens: &[GeneratedToken]) -> Value {
    let entry = |id: u32, logprob: f32| {
        let bytes = chat.tokenizer().token_bytes(id).unwrap_or_default();
        json!({ "token": String::from_utf8_lossy(bytes), "logprob": logprob, "bytes": bytes })
    };
    let content: Vec<Value> = tokens
        .iter()
        .filter_map(|token| {
            let logprob = token.logprob.as_ref()?;
            let mut value = entry(token.id, logprob.logprob);
            let top: Vec<Value> = logprob
                .alternatives
                .iter()
                .map(|one| entry(one.id, one.logprob))
                .collect();
            value["top_logprobs"] = json!(top);
            Some(value)
        })
        .collect();
    json!({ "content": content, "refusal": null })
}
