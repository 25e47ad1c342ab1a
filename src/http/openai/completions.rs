//! `POST /v1/completions`: text in, its continuation out, without a chat template.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::Usage;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonParts;
use crate::http::openai::chat::{finish_reason, usage_json};
use crate::http::openai::parameters::{SamplingFields, refuse};
use crate::http::sse::{self, Frame};
use crate::rag::generate::{Generation, GenerationEvent};
use crate::store::{new_id, unix_now};

/// What OpenAI's own endpoint generates when nothing is said.
const DEFAULT_MAX_TOKENS: i64 = 16;
/// Prompts that one request may carry.
const MAX_PROMPTS: usize = 16;

#[derive(Debug, Deserialize)]
pub struct CompletionRequest {
    model: Option<String>,
    prompt: Value,
    max_tokens: Option<i64>,
    n: Option<u32>,
    best_of: Option<u32>,
    echo: Option<bool>,
    suffix: Option<Value>,
    logprobs: Option<Value>,
    stream: Option<bool>,
    stream_options: Option<Value>,
}

pub async fn create(
    context: web::Data<Context>,
    body: JsonParts<CompletionRequest, SamplingFields>,
) -> Result<HttpResponse, ApiError> {
    let JsonParts(request, sampling) = body;
    refuse(
        "suffix",
        &request.suffix,
        "suffix is not served yet; leave it out",
    )?;
    refuse(
        "logprobs",
        &request.logprobs,
        "logprobs are served by /v1/chat/completions only; leave it out",
    )?;
    for (param, value) in [("n", request.n), ("best_of", request.best_of)] {
        if value.is_some_and(|value| value != 1) {
            return Err(ApiError::unsupported(
                param,
                format!("{param} must be 1 on this endpoint"),
            ));
        }
    }
    let max_tokens = request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    let mut options = sampling.options(Some(max_tokens), None, context.generation_timeout())?;
    // A continuation begins where the prompt ended.
    options.trims_start = false;
    let echo = request.echo.unwrap_or(false);
    let prompts = prompts(request.prompt)?;
    let chat = context.chat_model(request.model.as_deref()).await?;
    let mut generations = Vec::new();
    for prompt in prompts {
        let (tokens, text) = match prompt {
            Prompt::Text(text) => (chat.plain_prompt(&text), text),
            Prompt::Tokens(tokens) => {
                if let Some(id) = tokens
                    .iter()
                    .find(|id| **id as usize >= chat.tokenizer().vocab_size())
                {
                    let message = format!(
                        "prompt has token {id}, but the vocabulary has {} tokens",
                        chat.tokenizer().vocab_size()
                    );
                    return Err(ApiError::invalid("prompt", message));
                }
                let text = chat.tokenizer().decode(&tokens);
                (tokens, text)
            }
        };
        let generation = chat
            .generate(tokens, options.clone())
            .map_err(|error| ApiError::from(error).about("prompt"))?;
        generations.push((if echo { text } else { String::new() }, generation));
    }
    let envelope = Envelope {
        id: new_id("cmpl-"),
        created: unix_now(),
        model: chat.id().to_string(),
    };
    if request.stream.unwrap_or(false) {
        let include_usage = request
            .stream_options
            .is_some_and(|options| options["include_usage"] == true);
        return Ok(sse::respond(move |frames| {
            stream(frames, envelope, generations, include_usage)
        }));
    }
    let mut usage = Usage::default();
    let mut choices = Vec::new();
    for (index, (echoed, generation)) in generations.into_iter().enumerate() {
        let generated = generation.collect().await?;
        add_usage(&mut usage, &generated.usage);
        choices.push(choice(
            index,
            &(echoed + &generated.text),
            Some(finish_reason(generated.reason)),
        ));
    }
    let mut body = envelope.json(json!(choices));
    body["usage"] = usage_json(&usage);
    Ok(HttpResponse::Ok().json(body))
}

async fn stream(
    frames: sse::Frames,
    envelope: Envelope,
    generations: Vec<(String, Generation)>,
    include_usage: bool,
) -> Result<(), sse::ClientGone> {
    let mut usage = Usage::default();
    for (index, (echoed, mut generation)) in generations.into_iter().enumerate() {
        if !echoed.is_empty() {
            frames
                .send(Frame::Data(
                    envelope.json(json!([choice(index, &echoed, None)])),
                ))
                .await?;
        }
        while let Some(event) = generation.next().await {
            let choice = match event {
                Ok(GenerationEvent::Text { text, .. }) => choice(index, &text, None),
                Ok(GenerationEvent::Finished { reason, usage: one }) => {
                    add_usage(&mut usage, &one);
                    choice(index, "", Some(finish_reason(Some(reason))))
                }
                Err(error) => return frames.send(Frame::Data(ApiError::from(error).body())).await,
            };
            frames
                .send(Frame::Data(envelope.json(json!([choice]))))
                .await?;
        }
    }
    if include_usage {
        let mut chunk = envelope.json(json!([]));
        chunk["usage"] = usage_json(&usage);
        frames.send(Frame::Data(chunk)).await?;
    }
    frames.send(Frame::Done).await
}

struct Envelope {
    id: String,
    created: i64,
    model: String,
}

impl Envelope {
    fn json(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

fn choice(index: usize, text: &str, finish_reason: Option<&str>) -> Value {
    json!({ "index": index, "text": text, "logprobs": null, "finish_reason": finish_reason })
}

fn add_usage(total: &mut Usage, one: &Usage) {
    total.num_prompt_tokens += one.num_prompt_tokens;
    total.num_cached_tokens += one.num_cached_tokens;
    total.num_completion_tokens += one.num_completion_tokens;
}

enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// `"text"`, `["text", ...]`, `[ids]` or `[[ids], ...]`.
fn prompts(value: Value) -> Result<Vec<Prompt>, ApiError> {
    let wrong = || {
        ApiError::invalid(
            "prompt",
            "prompt must be a string, an array of strings, or token ids",
        )
    };
    let tokens = |items: &[Value]| -> Result<Vec<u32>, ApiError> {
        let id = |item: &Value| {
            item.as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(wrong)
        };
        items.iter().map(id).collect()
    };
    let prompts = match value {
        Value::String(text) => vec![Prompt::Text(text)],
        Value::Array(items) if items.first().is_some_and(Value::is_number) => {
            vec![Prompt::Tokens(tokens(&items)?)]
        }
        Value::Array(items) => {
            let prompt = |item: Value| match item {
                Value::String(text) => Ok(Prompt::Text(text)),
                Value::Array(ids) => Ok(Prompt::Tokens(tokens(&ids)?)),
                _ => Err(wrong()),
            };
            items.into_iter().map(prompt).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong()),
    };
    if prompts.is_empty() || prompts.len() > MAX_PROMPTS {
        let message = format!(
            "prompt has {} texts, but must have 1 to {MAX_PROMPTS}",
            prompts.len()
        );
        return Err(ApiError::invalid("prompt", message));
    }
    Ok(prompts)
}
