//! `POST /v1/chat/completions`, streamed and not.

pub(super) mod messages;
pub mod stored;

use actix_web::{HttpResponse, web};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::engine::{GeneratedToken, Usage};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonParts;
use crate::http::openai::format::{self, Guide, ResponseFormat};
use crate::http::openai::parameters::{SamplingFields, is_thinking, refuse};
use crate::http::openai::{quote, tools};
use crate::http::sse::{self, ClientGone, Frame, Frames};
use crate::rag::QUOTE_MODEL;
use crate::rag::conversation::{ChatMessage, PastCall};
use crate::rag::generate::{ChatModel, EndReason, GenerateError};
use crate::rag::reply::{Replied, Reply, ReplyEvent, ReplyPlan, ReplyRequest};
use crate::store::{new_id, unix_now};
use messages::Message;
use stored::Keeper;

pub use messages::Content;

/// Choices that one request may ask for.
pub const MAX_CHOICES: u32 = 16;
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
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    functions: Option<Value>,
    audio: Option<Value>,
    web_search_options: Option<Value>,
    response_format: Option<ResponseFormat>,
    structured_outputs: Option<Guide>,
    guided_json: Option<Value>,
    guided_regex: Option<String>,
    guided_grammar: Option<String>,
    guided_choice: Option<Vec<String>>,
    chat_template_kwargs: Option<Map<String, Value>>,
    reasoning_effort: Option<String>,
    store: Option<bool>,
    metadata: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl ChatRequest {
    /// Takes the question that the conversation ends with.
    pub(super) fn take_question(&mut self) -> Result<String, ApiError> {
        let messages = messages::checked(std::mem::take(&mut self.messages))?;
        let Some(ChatMessage::User(question)) = messages.last() else {
            let message = "the last message must be of role 'user'";
            return Err(ApiError::invalid("messages", message));
        };
        if question.trim().is_empty() {
            let message = "the last message is empty, but must be a question";
            return Err(ApiError::invalid("messages", message));
        }
        Ok(question.clone())
    }

    pub(super) fn is_streamed(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn includes_usage(&self) -> bool {
        let options = self.stream_options.as_ref();
        options.is_some_and(|options| options.include_usage.unwrap_or(false))
    }
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
    pub fn completion(&self, choices: &[Value], usage: Value) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "service_tier": "default",
            "choices": choices,
            "usage": usage,
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
    let JsonParts(mut request, sampling) = body;
    let sampling_seen = stored::sampling_json(&sampling);
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
    let tools = tools::checked(
        request.tools.as_deref(),
        request.tool_choice.as_ref(),
        request.parallel_tool_calls,
    )?;
    let guide = Guide {
        json: request.guided_json.take(),
        regex: request.guided_regex.take(),
        grammar: request.guided_grammar.take(),
        choice: request.guided_choice.take(),
    };
    let shape = format::shape(
        request.response_format.take(),
        request.structured_outputs.take(),
        guide,
    )?;
    let keeper = Keeper::new(&context, &mut request, &sampling_seen)?;
    if context.is_quote_model(request.model.as_deref()) {
        let unserved = [
            ("n", num_choices > 1),
            ("logprobs", logprobs.is_some()),
            ("tools", tools.is_wanted()),
            ("response_format", shape.is_some()),
        ];
        if let Some((param, _)) = unserved.iter().find(|(_, is_asked)| *is_asked) {
            let message = format!(
                "{param} is not served for '{QUOTE_MODEL}', which has one answer in the documents' own words"
            );
            return Err(ApiError::unsupported(*param, message));
        }
        messages::read_files(&context, &mut request.messages).await?;
        return quote::create(&context, request, keeper).await;
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

fn refuse_unserved(request: &ChatRequest) -> Result<(), ApiError> {
    refuse(
        "functions",
        &request.functions,
        "functions are not served; use 'tools'",
    )?;
    refuse("audio", &request.audio, "audio output is not served")?;
    refuse(
        "web_search_options",
        &request.web_search_options,
        "web search is not served: nothing leaves this machine",
    )
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
fn whole(chat: &ChatModel, envelope: &Envelope, finished: Vec<Replied>) -> Value {
    let mut spent = Spent::default();
    let mut choices = Vec::new();
    for (index, replied) in finished.into_iter().enumerate() {
        spent.add(&replied.usage, replied.num_reasoning_tokens, index);
        let logprobs = envelope
            .with_logprobs
            .then(|| logprobs_json(chat, &replied.tokens));
        choices.push(json!({
            "index": index,
            "logprobs": logprobs,
            "finish_reason": reply_finish_reason(replied.reason, replied.calls.len()),
            "message": message_json(replied),
        }));
    }
    envelope.completion(&choices, spent.json())
}

fn message_json(replied: Replied) -> Value {
    // Nothing but calls is no content.
    let is_said = !replied.text.is_empty() || replied.calls.is_empty();
    let content = is_said.then_some(replied.text);
    let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
    if !replied.reasoning.is_empty() {
        message["reasoning_content"] = json!(replied.reasoning);
    }
    if !replied.calls.is_empty() {
        let call = |call: PastCall| {
            json!({
                "id": call.id,
                "type": "function",
                "function": { "name": call.name, "arguments": call.arguments },
            })
        };
        message["tool_calls"] = replied.calls.into_iter().map(call).collect();
    }
    message
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

    fn json(&self) -> Value {
        let mut usage = usage_json(&self.usage);
        usage["completion_tokens_details"]["reasoning_tokens"] = json!(self.num_reasoning_tokens);
        usage
    }
}

struct ChunkStream {
    chat: ChatModel,
    envelope: Envelope,
    include_usage: bool,
    frames: Frames,
    /// Where the completion is to be kept.
    keeper: Option<Keeper>,
}

impl ChunkStream {
    async fn run(mut self, replies: Vec<Reply>) -> Result<(), ClientGone> {
        let mut replied: Vec<Replied> = replies.iter().map(|_| Replied::default()).collect();
        let mut num_calls = vec![0; replies.len()];
        for index in 0..replies.len() {
            let role = json!({ "role": "assistant", "content": "" });
            let opening = Frame::Opening(self.chunk(index, role, None, Value::Null));
            self.frames.send(opening).await?;
        }
        let events = replies.into_iter().enumerate().map(|(index, reply)| {
            Box::pin(stream::unfold(reply, move |mut reply| async move {
                let event = reply.next().await?;
                Some(((index, event), reply))
            }))
        });
        let mut events = stream::select_all(events);
        let mut spent = Spent::default();
        while let Some((index, event)) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    let error = Frame::Data(ApiError::from(error).body());
                    return self.frames.send(error).await;
                }
            };
            if self.keeper.is_some() {
                replied[index].add(event.clone());
            }
            let mut logprobs = Value::Null;
            let mut finished = None;
            let delta = match event {
                ReplyEvent::Text { text, tokens } => {
                    if self.envelope.with_logprobs {
                        logprobs = logprobs_json(&self.chat, &tokens);
                    }
                    json!({ "content": text })
                }
                ReplyEvent::Reasoning(thought) => json!({ "reasoning_content": thought }),
                ReplyEvent::ToolCall {
                    index: at,
                    id,
                    name,
                } => {
                    num_calls[index] += 1;
                    let function = json!({ "name": name, "arguments": "" });
                    let call =
                        json!({ "index": at, "id": id, "type": "function", "function": function });
                    json!({ "tool_calls": [call] })
                }
                ReplyEvent::ToolArguments {
                    index: at,
                    fragment,
                } => {
                    let call = json!({ "index": at, "function": { "arguments": fragment } });
                    json!({ "tool_calls": [call] })
                }
                ReplyEvent::Finished {
                    reason,
                    usage,
                    num_reasoning_tokens,
                } => {
                    spent.add(&usage, num_reasoning_tokens, index);
                    finished = Some(reply_finish_reason(Some(reason), num_calls[index]));
                    json!({})
                }
            };
            self.send(index, delta, finished, logprobs).await?;
        }
        if let Some(keeper) = self.keeper.take() {
            let kept = keeper.keep(whole(&self.chat, &self.envelope, replied));
            if let Err(error) = kept.await {
                return self.frames.send(Frame::Data(error.body())).await;
            }
        }
        if self.include_usage {
            let mut chunk = self.envelope.chunk(json!([]));
            chunk["usage"] = spent.json();
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
        let chunk = self.chunk(index, delta, finish_reason, logprobs);
        self.frames.send(Frame::Data(chunk)).await
    }

    fn chunk(
        &self,
        index: usize,
        delta: Value,
        finish_reason: Option<&str>,
        logprobs: Value,
    ) -> Value {
        let mut chunk = self.envelope.chunk(json!([{
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }]));
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

fn reply_finish_reason(reason: Option<EndReason>, num_calls: usize) -> &'static str {
    match reason {
        Some(EndReason::Stop) | None if num_calls > 0 => "tool_calls",
        reason => finish_reason(reason),
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
    json!({ "content": token_logprobs(chat, tokens), "refusal": null })
}

/// What each token's probability was, and that of others in its place; nothing of tokens for which it is not known.
pub fn token_logprobs(chat: &ChatModel, tokens: &[GeneratedToken]) -> Vec<Value> {
    let entry = |id: u32, logprob: f32| {
        let bytes = chat.tokenizer().token_bytes(id).unwrap_or_default();
        json!({ "token": String::from_utf8_lossy(bytes), "logprob": logprob, "bytes": bytes })
    };
    let known = tokens.iter().filter_map(|token| {
        let logprob = token.logprob.as_ref()?;
        let mut value = entry(token.id, logprob.logprob);
        let others = logprob.alternatives.iter();
        let top = others.map(|one| entry(one.id, one.logprob));
        value["top_logprobs"] = top.collect();
        Some(value)
    });
    known.collect()
}
