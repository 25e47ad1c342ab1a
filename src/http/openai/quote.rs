//! Chat completions by the model `inglenook-quote`: the last message is asked of all documents in all vector stores, and
//! answered in their own words.

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
use crate::rag::reply::Replied;
use crate::store::{new_id, unix_now};

pub async fn create(
    context: &Context,
    mut request: ChatRequest,
    keeper: Option<Keeper>,
) -> Result<HttpResponse, ApiError> {
    let question = request.take_question()?;
    let search = FileSearch::everything(context).await?;
    let workspace = &context.workspace;
    let retrieved = search
        .run(workspace, std::slice::from_ref(&question))
        .await?;
    let mut answer = Answer::quote(workspace, &question, &retrieved).await?;
    let mut quoted = Quoted::default();
    while let Some(event) = answer.next().await {
        match event? {
            AnswerEvent::Reply(event) => quoted.reply.add(event),
            AnswerEvent::Citation(citation) => {
                quoted.citations.push(json!(file_citation(&citation)));
            }
        }
    }
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

#[derive(Default)]
struct Quoted {
    reply: Replied,
    citations: Vec<Value>,
}

impl Quoted {
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
