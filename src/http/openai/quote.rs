//! Answers by the model `inglenook-quote`: the last message of a conversation is asked of all documents in all vector
//! stores, and answered in their own words.

use actix_web::HttpResponse;
use serde_json::{Value, json};

use super::chat::chunk::{ChunkChoice, Delta};
use super::chat::request::ChatRequest;
use super::chat::shape::{AssistantMessage, Choice, CompletionUsage, Envelope, finish_reason};
use super::chat::stored::Keeper;
use super::responses::FileSearch;
use super::responses::file_citation;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::sse::{self, ClientGone, Frame, Frames};
use crate::rag::QUOTE_MODEL;
use crate::rag::answer::{Answer, AnswerEvent};
use crate::rag::conversation::ChatMessage;
use crate::rag::reply::{Replied, Reply, ReplyRequest};
use crate::store::{new_id, unix_now};

pub async fn create(
    context: &Context,
    mut request: ChatRequest,
    keeper: Option<Keeper>,
    min_confidence: Option<f32>,
) -> Result<HttpResponse, ApiError> {
    let quoted = Quoted::of(
        context,
        question(&request.take_messages()?)?,
        min_confidence,
    )
    .await?;
    let envelope = Envelope {
        id: new_id("chatcmpl-"),
        created: unix_now(),
        model: QUOTE_MODEL.into(),
        fingerprint: context.fingerprint(),
        with_logprobs: false,
    };
    let choice = Choice {
        index: 0,
        message: AssistantMessage::quoted(quoted.reply.text.clone(), quoted.citations.clone()),
        logprobs: None,
        finish_reason: finish_reason(None),
    };
    let mut completion = envelope.completion(vec![choice], quoted.usage());
    if let Some(keeper) = keeper {
        completion = keeper.keep(completion).await?;
    }
    if request.is_streamed() {
        let include_usage = request.includes_usage();
        return Ok(sse::respond(
            context.options.sse_keep_alive,
            move |frames| stream(frames, envelope, quoted, include_usage),
        ));
    }
    Ok(HttpResponse::Ok().json(completion))
}

/// What all documents say to a question.
#[derive(Default)]
struct Quoted {
    reply: Replied,
    citations: Vec<Value>,
}

/// The answer as other vendors' clients read it, which know no citations but those in the text.
pub async fn reply(context: &Context, request: &ReplyRequest) -> Result<Reply, ApiError> {
    refuse(&[
        ("tools", request.tools.is_wanted()),
        ("format", request.shape.is_some()),
    ])?;
    let quoted = Quoted::of(context, question(&request.messages)?, None).await?;
    Ok(Reply::said(quoted.reply.text, quoted.reply.usage))
}

/// Refuses the first of these parameters that is asked for: only a model that writes can do what they want.
pub fn refuse(unserved: &[(&str, bool)]) -> Result<(), ApiError> {
    match unserved.iter().find(|(_, is_asked)| *is_asked) {
        None => Ok(()),
        Some((param, _)) => {
            let message = format!(
                "{param} is not served for '{QUOTE_MODEL}', which has one answer in the documents' own words"
            );
            Err(ApiError::unsupported(*param, message))
        }
    }
}

/// The question that a conversation ends with.
fn question(messages: &[ChatMessage]) -> Result<&str, ApiError> {
    let Some(ChatMessage::User(question)) = messages.last() else {
        let message = "the last message must be of role 'user'";
        return Err(ApiError::invalid("messages", message));
    };
    if question.trim().is_empty() {
        let message = "the last message is empty, but must be a question";
        return Err(ApiError::invalid("messages", message));
    }
    Ok(question)
}

impl Quoted {
    async fn of(
        context: &Context,
        question: &str,
        min_confidence: Option<f32>,
    ) -> Result<Self, ApiError> {
        let search = FileSearch::everything(context).await?;
        let workspace = &context.workspace;
        let retrieved = search.run(workspace, &[question.to_owned()]).await?;
        let min_confidence = min_confidence.unwrap_or(workspace.min_quote_confidence);
        let mut answer = Answer::quote(workspace, question, &retrieved, min_confidence).await?;
        let mut quoted = Self::default();
        while let Some(event) = answer.next().await {
            match event? {
                AnswerEvent::Reply(event) => quoted.reply.add(event),
                AnswerEvent::Citation(citation) => {
                    quoted.citations.push(json!(file_citation(&citation)));
                }
                // Quoting is done at once.
                AnswerEvent::Progress(_) => {}
            }
        }
        Ok(quoted)
    }

    fn usage(&self) -> CompletionUsage {
        CompletionUsage::new(&self.reply.usage, 0)
    }
}

async fn stream(
    frames: Frames,
    envelope: Envelope,
    quoted: Quoted,
    include_usage: bool,
) -> Result<(), ClientGone> {
    let usage = quoted.usage();
    let citations = Delta {
        citations: Some(quoted.citations),
        ..Delta::default()
    };
    let deltas = [
        (Delta::opening(), None),
        (Delta::text(quoted.reply.text), None),
        (citations, Some(finish_reason(None))),
    ];
    for (delta, finish_reason) in deltas {
        let choice = ChunkChoice {
            index: 0,
            delta,
            logprobs: None,
            finish_reason,
        };
        let chunk = envelope.chunk(Some(choice), include_usage.then_some(None));
        frames.send(Frame::Data(chunk)).await?;
    }
    if include_usage {
        let chunk = envelope.chunk(None, Some(Some(usage)));
        frames.send(Frame::Data(chunk)).await?;
    }
    frames.send(Frame::Done).await
}
