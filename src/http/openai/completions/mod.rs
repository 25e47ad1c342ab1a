//! `POST /v1/completions`: text in, its continuation out, without a chat template; or what belongs between two texts.

mod logprobs;
mod prompt;
mod shape;

use actix_web::{HttpResponse, web};
use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::engine::Usage;
use crate::http::error::ApiError;
use crate::http::json::JsonParts;
use crate::http::openai::chat::MAX_CHOICES;
use crate::http::openai::chat::request::StreamOptions;
use crate::http::openai::chat::shape::{CompletionUsage, finish_reason};
use crate::http::openai::parameters::SamplingFields;
use crate::http::sse::{self, Frame};
use crate::http::{Context, blocking};
use crate::rag::QUOTE_MODEL;
use crate::rag::generate::{Generation, GenerationEvent};
use crate::store::{new_id, unix_now};
use logprobs::Offset;
use prompt::{Read, prompts};
use shape::{Completion, CompletionRequest, Envelope, TextChoice};

/// What OpenAI's own endpoint generates when nothing is said.
const DEFAULT_MAX_TOKENS: i64 = 16;
/// Alternatives that may be asked for with log-probabilities.
const MAX_LOGPROBS: i64 = 5;

/// Goes on with a text
///
/// No chat template is put around it. Streamed, every event is a `TextCompletion`, and the last one is `[DONE]`.
#[utoipa::path(
    post,
    path = "/completions",
    operation_id = "create_completion",
    tag = "Chat",
    request_body(
        content = shape::Body,
        example = json!({ "prompt": "The keeper of the lighthouse is", "max_tokens": 20 })
    ),
    responses((
        status = 200,
        content((Completion = "application/json"), (Completion = "text/event-stream"))
    ))
)]
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
    let include_usage = StreamOptions::include_usage(request.stream_options.as_ref());
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
        let end = Some(text.chars().count());
        let mut offset = Offset::after(&echoed);
        let lists = || offset.lists(envelope.chat.tokenizer(), &generated.tokens, end);
        choices.push(TextChoice {
            index,
            logprobs: envelope.with_logprobs.then(lists),
            finish_reason: Some(finish_reason(generated.reason)),
            text,
        });
    }
    let usage = CompletionUsage::new(&usage, 0);
    Ok(HttpResponse::Ok().json(envelope.completion(choices, Some(Some(usage)))))
}

/// All choices at the same time, as their tokens come.
async fn stream_choices(
    frames: sse::Frames,
    envelope: Envelope,
    choices: Vec<Choice>,
    include_usage: bool,
) -> Result<(), sse::ClientGone> {
    let part = |choice: TextChoice| {
        json!(envelope.completion(vec![choice], include_usage.then_some(None)))
    };
    for (index, choice) in choices.iter().enumerate() {
        if !choice.echoed.is_empty() {
            let echoed = TextChoice {
                index,
                text: choice.echoed.clone(),
                logprobs: None,
                finish_reason: None,
            };
            frames.send(Frame::Opening(part(echoed))).await?;
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
                let lists = || offsets[index].lists(envelope.chat.tokenizer(), &tokens, None);
                TextChoice {
                    index,
                    text,
                    logprobs: envelope.with_logprobs.then(lists),
                    finish_reason: None,
                }
            }
            Ok(GenerationEvent::Finished { reason, usage: one }) => {
                add_usage(&mut usage, &one, firsts[index]);
                TextChoice {
                    index,
                    text: String::new(),
                    logprobs: None,
                    finish_reason: Some(finish_reason(Some(reason))),
                }
            }
            Err(error) => return frames.send(Frame::Data(ApiError::from(error).body())).await,
        };
        frames.send(Frame::Data(part(choice))).await?;
    }
    if include_usage {
        let usage = CompletionUsage::new(&usage, 0);
        let last = envelope.completion(Vec::new(), Some(Some(usage)));
        frames.send(Frame::Data(json!(last))).await?;
    }
    frames.send(Frame::Done).await
}

/// A prompt is counted once, however many choices were made of it.
fn add_usage(total: &mut Usage, one: &Usage, is_first_of_prompt: bool) {
    if is_first_of_prompt {
        total.num_prompt_tokens += one.num_prompt_tokens;
        total.num_cached_tokens += one.num_cached_tokens;
    }
    total.num_completion_tokens += one.num_completion_tokens;
}
