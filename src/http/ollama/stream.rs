//! An answer as Ollama gives it: lines of JSON, or one object, ending with what it took.

use actix_web::HttpResponse;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use super::options::{self, Think};
use super::shape::{ChatPart, End, GeneratePart, MadeCall, ReplyMessage};
use crate::engine::Usage;
use crate::http::Context;
use crate::http::dialect::Dialect;
use crate::http::error::ApiError;
use crate::http::sse::{self, ClientGone, Frame, Frames};
use crate::rag::conversation::PastCall;
use crate::rag::generate::EndReason;
use crate::rag::reply::{Reply, ReplyEvent};

/// Which endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Chat,
    Generate,
}

/// When the steps of a request were done.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    loaded: Instant,
}

impl Clock {
    pub fn start() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            loaded: now,
        }
    }

    /// The model is there.
    pub fn is_loaded(&mut self) {
        self.loaded = Instant::now();
    }

    pub fn total_nanos(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    pub fn load_nanos(&self) -> u64 {
        self.loaded.duration_since(self.started).as_nanos() as u64
    }

    /// In nanoseconds. Reading the prompt counts from when it was given to the engine, so waiting is a part of it.
    fn durations(&self, submitted: Instant, first_token: Option<Instant>, usage: &Usage) -> End {
        let now = Instant::now();
        let read = first_token.unwrap_or(now);
        let between = |from: Instant, to: Instant| to.duration_since(from).as_nanos() as u64;
        End {
            done_reason: None,
            total_duration: Some(self.total_nanos()),
            load_duration: Some(self.load_nanos()),
            prompt_eval_count: Some(usage.num_prompt_tokens),
            prompt_eval_duration: Some(between(submitted, read)),
            eval_count: Some(usage.num_completion_tokens),
            eval_duration: Some(between(read, now)),
        }
    }
}

/// An answer on its way.
pub struct Answer {
    /// As the client named it.
    pub model: String,
    pub form: Form,
    /// Whether thoughts are left out that a model has without being asked.
    pub hides_thoughts: bool,
    pub clock: Clock,
}

/// What one object says.
#[derive(Default)]
struct Said {
    text: String,
    thinking: String,
    calls: Vec<MadeCall>,
}

impl Answer {
    pub fn new(model: String, form: Form, think: Option<Think>, clock: Clock) -> Self {
        Self {
            model,
            form,
            hides_thoughts: matches!(think, Some(Think::Whether(false))),
            clock,
        }
    }

    pub async fn respond(self, reply: Reply, is_streamed: bool) -> Result<HttpResponse, ApiError> {
        let submitted = Instant::now();
        if is_streamed {
            return Ok(sse::respond_lines(move |frames| {
                self.stream(reply, submitted, frames)
            }));
        }
        let replied = reply.collect().await?;
        let said = Said {
            text: replied.text,
            thinking: replied.reasoning,
            calls: made(replied.calls),
        };
        let took = self
            .clock
            .durations(submitted, replied.first_token_at, &replied.usage);
        Ok(HttpResponse::Ok().json(self.last(said, replied.reason, took)))
    }

    async fn stream(
        self,
        mut reply: Reply,
        submitted: Instant,
        frames: Frames,
    ) -> Result<(), ClientGone> {
        // Arguments are an object, which is known when all of it is.
        let mut call: Option<PastCall> = None;
        while let Some(event) = reply.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    let error = Dialect::Ollama.body(&ApiError::from(error));
                    return frames.send(Frame::Line(error)).await;
                }
            };
            if let ReplyEvent::ToolArguments { fragment, .. } = event {
                if let Some(call) = &mut call {
                    call.arguments.push_str(&fragment);
                }
                continue;
            }
            let calls = made(call.take());
            if !calls.is_empty() {
                let said = Said {
                    calls,
                    ..Said::default()
                };
                self.send(&frames, said).await?;
            }
            let said = match event {
                ReplyEvent::Text { text, .. } => Said {
                    text,
                    ..Said::default()
                },
                ReplyEvent::Reasoning(thinking) => Said {
                    thinking,
                    ..Said::default()
                },
                ReplyEvent::ToolCall { id, name, .. } => {
                    let arguments = String::new();
                    call = Some(PastCall {
                        id,
                        name,
                        arguments,
                    });
                    continue;
                }
                ReplyEvent::ToolArguments { .. } => continue,
                ReplyEvent::Finished { reason, usage, .. } => {
                    let first_token = reply.first_token_at();
                    let took = self.clock.durations(submitted, first_token, &usage);
                    let last = self.last(Said::default(), Some(reason), took);
                    return frames.send(Frame::Line(last)).await;
                }
            };
            self.send(&frames, said).await?;
        }
        Ok(())
    }

    async fn send(&self, frames: &Frames, said: Said) -> Result<(), ClientGone> {
        if self.hides_thoughts && !said.thinking.is_empty() {
            return Ok(());
        }
        let part = self.object(said, None);
        frames.send(Frame::Line(part)).await
    }

    /// A part of the answer, or its end.
    fn object(&self, said: Said, end: Option<End>) -> Value {
        let thinking = Some(said.thinking).filter(|it| !it.is_empty() && !self.hides_thoughts);
        let (model, created_at) = (self.model.clone(), now());
        let done = end.is_some();
        let end = end.unwrap_or_default();
        match self.form {
            Form::Generate => json!(GeneratePart {
                model,
                created_at,
                response: said.text,
                thinking,
                done,
                end,
            }),
            Form::Chat => json!(ChatPart {
                model,
                created_at,
                message: ReplyMessage {
                    role: "assistant",
                    content: said.text,
                    thinking,
                    tool_calls: said.calls,
                },
                done,
                end,
            }),
        }
    }

    fn last(&self, said: Said, reason: Option<EndReason>, took: End) -> Value {
        let reason = match reason {
            Some(EndReason::Length) => "length",
            Some(EndReason::Stop) | None => "stop",
        };
        let end = End {
            done_reason: Some(reason),
            ..took
        };
        self.object(said, Some(end))
    }
}

/// The calls that are whole: one that was cut off is none.
fn made(calls: impl IntoIterator<Item = PastCall>) -> Vec<MadeCall> {
    let calls = calls.into_iter();
    calls.filter_map(MadeCall::of_model).collect()
}

/// What a request without a prompt is answered: the model is loaded, or unloaded where `keep_alive` is 0.
pub async fn without_prompt(
    context: &Context,
    model: &str,
    keep_alive: Option<Value>,
    form: Form,
) -> Result<HttpResponse, ApiError> {
    let mut clock = Clock::start();
    let reason = if options::unloads(keep_alive.as_ref()) {
        let models = &context.workspace.models;
        let name = super::plain(context, model);
        if models.is_loaded(models.id(name)) {
            models.unload(name).await?;
        }
        "unload"
    } else {
        super::chat_model(context, model).await?;
        clock.is_loaded();
        "load"
    };
    let answer = Answer {
        model: model.to_owned(),
        form,
        hides_thoughts: false,
        clock,
    };
    let end = End {
        done_reason: Some(reason),
        ..End::default()
    };
    Ok(HttpResponse::Ok().json(answer.object(Said::default(), Some(end))))
}

pub fn now() -> String {
    rfc3339(OffsetDateTime::now_utc())
}

pub fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}
