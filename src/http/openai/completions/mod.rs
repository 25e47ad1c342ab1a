//! `POST /v1/completions`: text in, its continuation out, without a chat template; or what belongs between two texts.

mod logprobs;
mod prompt;

use actix_web::{HttpResponse, web};
use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::Usage;
use crate::http::error::ApiError;
use crate::http::json::JsonParts;
use crate::http::openai::chat::{MAX_CHOICES, finish_reason, usage_json};
use crate::http::openai::parameters::SamplingFields;
use crate::http::sse::{self, Frame};
use crate::http::{Context, blocking};
use crate::rag::QUOTE_MODEL;
use crate::rag::generate::{ChatModel, Generation, GenerationEvent};
use crate::store::{new_id, unix_now};
use logprobs::Offset;
use prompt::{Read, prompts};

/// What OpenAI's own endpoint generates when nothing is said.
const DEFAULT_MAX_TOKENS: i64 = 16;
/// Alternatives that may be asked for with log-probabilities.
const MAX_LOGPROBS: i64 = 5;

#[derive(Debug, Deserialize)]
pub struct CompletionRequest {
    model: Option<String>,
    prompt: Option<Value>,
    max_tokens: Option<i64>,
    n: Option<u32>,
    best_of: Option<u32>,
    echo: Option<bool>,
    suffix: Option<String>,
    logprobs: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl CompletionRequest {
    fn num_choices(&self) -> Result<usize, ApiError> {
        let n = self.n.unwrap_or(1);
        if !(1..=MAX_CHOICES).contains(&n) {
            let message = format!("n is {n}, but must be between 1 and {MAX_CHOICES}");
            return Err(ApiError::invalid("n", message));
        }
        match self.best_of {
            Some(best_of) if best_of != n => Err(ApiError::unsupported(
                "best_of",
                format!(
                    "best_of is {best_of}, but must be the same as n: all choices are returned"
                ),
            )),
            _ => Ok(n as usize),
        }
    }

    fn wanted_logprobs(&self) -> Result<Option<usize>, ApiError> {
        let Some(wanted) = self.logprobs else {
            return Ok(None);
        };
        if !(0..=MAX_LOGPROBS).contains(&wanted) {
            let message = format!("logprobs is {wanted}, but must be between 0 and {MAX_LOGPROBS}");
            return Err(ApiError::invalid("logprobs", message));
        }
        if self.echo == Some(true) {
            let message = "logprobs of the prompt are not computed; leave out echo, or logprobs";
            return Err(ApiError::unsupported("echo", message));
        }
        Ok(Some(wanted as usize))
    }
}

pub async fn create(
    context: web::Data<Context>,
    body: JsonParts<CompletionRequest, SamplingFields>,
) -> Result<HttpResponse, ApiError> {
    let JsonParts(request, sampling) = body;
    let num_choices = request.num_choices()?;
    let logprobs = request.wanted_logprobs()?;
    let max_tokens = request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    let mut options = sampling.options(Some(max_tokens), logprobs, context.generation_timeout())?;
    // A continuation begins where the prompt ended.
    options.trims_start = false;
    let prompts = prompts(request.prompt, request.suffix)?;
    if context.is_quote_model(request.model.as_deref()) {
        let message = format!(
            "'{QUOTE_MODEL}' only answers questions about documents; ask it at /v1/responses or /v1/chat/completions"
        );
        return Err(ApiError::invalid("model", message));
    }
    let chat = context.chat_model(request.model.as_deref()).await?;
    let mut choices = Vec::new();
    for prompt in prompts {
        let reader = chat.clone();
        let Read { tokens, text } = blocking(move || prompt.read(&reader)).await?;
        let generations = chat
            .generate_choices(tokens, options.clone(), num_choices)
            .map_err(|error| ApiError::from(error).about("prompt"))?;
        let echoed = match request.echo {
            Some(true) => text,
            _ => String::new(),
        };
        let choice = |(k, generation)| Choice {
            generation,
            offset: Offset::after(&echoed),
            echoed: echoed.clone(),
            is_first_of_prompt: k == 0,
        };
        choices.extend(generations.into_iter().enumerate().map(choice));
    }
    let envelope = Envelope {
        id: new_id("cmpl-"),
        created: unix_now(),
        fingerprint: context.fingerprint(),
        with_logprobs: logprobs.is_some(),
        chat,
    };
    if !request.stream.unwrap_or(false) {
        return complete(envelope, choices).await;
    }
    let wanted = request.stream_options.and_then(|it| it.include_usage);
    let include_usage = wanted.unwrap_or(false);
    let keep_alive = context.options.sse_keep_alive;
    Ok(sse::respond(keep_alive, move |frames| {
        stream_choices(frames, envelope, choices, include_usage)
    }))
}

/// One continuation on its way. Its index is the prompt's number times the choices of each, plus its own.
struct Choice {
    generation: Generation,
    offset: Offset,
    echoed: String,
    is_first_of_prompt: bool,
}

async fn complete(envelope: Envelope, choices: Vec<Choice>) -> Result<HttpResponse, ApiError> {
    let finished = choices.into_iter().map(async |choice| {
        let generated = choice.generation.collect().await?;
        Ok::<_, ApiError>((choice.echoed, choice.is_first_of_prompt, generated))
    });
    let finished = try_join_all(finished).await?;
    let mut usage = Usage::default();
    let mut choices = Vec::new();
    for (index, (echoed, is_first, generated)) in finished.into_iter().enumerate() {
        add_usage(&mut usage, &generated.usage, is_first);
        let text = echoed.clone() + &generated.text;
        let logprobs = match envelope.with_logprobs {
            true => Offset::after(&echoed).lists(
                envelope.chat.tokenizer(),
                &generated.tokens,
                Some(text.chars().count()),
            ),
            false => Value::Null,
        };
        let reason = finish_reason(generated.reason);
        choices.push(choice_json(index, &text, logprobs, Some(reason)));
    }
    let mut body = envelope.json(json!(choices));
    body["usage"] = usage_json(&usage);
    Ok(HttpResponse::Ok().json(body))
}

/// All choices at the same time, as their tokens come.
async fn stream_choices(
    frames: sse::Frames,
    envelope: Envelope,
    choices: Vec<Choice>,
    include_usage: bool,
) -> Result<(), sse::ClientGone> {
    let chunk = |choice: Value| {
        let mut chunk = envelope.json(json!([choice]));
        if include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    for (index, choice) in choices.iter().enumerate() {
        if !choice.echoed.is_empty() {
            let echoed = choice_json(index, &choice.echoed, Value::Null, None);
            frames.send(Frame::Opening(chunk(echoed))).await?;
        }
    }
    let mut offsets: Vec<Offset> = choices.iter().map(|choice| choice.offset).collect();
    let firsts: Vec<bool> = choices
        .iter()
        .map(|choice| choice.is_first_of_prompt)
        .collect();
    let events = choices.into_iter().enumerate().map(|(index, choice)| {
        Box::pin(stream::unfold(
            choice.generation,
            move |mut it| async move {
                let event = it.next().await?;
                Some(((index, event), it))
            },
        ))
    });
    let mut events = stream::select_all(events);
    let mut usage = Usage::default();
    while let Some((index, event)) = events.next().await {
        let choice = match event {
            Ok(GenerationEvent::Text { text, tokens }) => {
                let logprobs = match envelope.with_logprobs {
                    true => offsets[index].lists(envelope.chat.tokenizer(), &tokens, None),
                    false => Value::Null,
                };
                choice_json(index, &text, logprobs, None)
            }
            Ok(GenerationEvent::Finished { reason, usage: one }) => {
                add_usage(&mut usage, &one, firsts[index]);
                choice_json(index, "", Value::Null, Some(finish_reason(Some(reason))))
            }
            Err(error) => return frames.send(Frame::Data(ApiError::from(error).body())).await,
        };
        frames.send(Frame::Data(chunk(choice))).await?;
    }
    if include_usage {
        let mut chunk = envelope.json(json!([]));
        chunk["usage"] = usage_json(&usage);
        frames.send(Frame::Data(chunk)).await?;
    }
    frames.send(Frame::Done).await
}

/// What the answers carry besides the choices.
struct Envelope {
    id: String,
    created: i64,
    fingerprint: String,
    with_logprobs: bool,
    chat: ChatModel,
}

impl Envelope {
    fn json(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.chat.id(),
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }
}

fn choice_json(index: usize, text: &str, logprobs: Value, finish_reason: Option<&str>) -> Value {
    json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason })
}

/// A prompt is counted once, however many choices were made of it.
fn add_usage(total: &mut Usage, one: &Usage, is_first_of_prompt: bool) {
    if is_first_of_prompt {
        total.num_prompt_tokens += one.num_prompt_tokens;
        total.num_cached_tokens += one.num_cached_tokens;
    }
    total.num_completion_tokens += one.num_completion_tokens;
}
