//! The chunks of a streamed chat completion, and the stream of them that a model's replies make.

use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::shape::{CompletionUsage, Envelope, Logprobs, reply_finish_reason};
use super::stored::Keeper;
use super::{Spent, whole};
use crate::http::error::ApiError;
use crate::http::openai::responses::output::Annotation;
use crate::http::sse::{ClientGone, Frame, Frames};
use crate::rag::generate::ChatModel;
use crate::rag::reply::{Replied, Reply, ReplyEvent};

/// A part of a streamed chat completion.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatCompletionChunk)]
pub struct Chunk {
    id: String,
    /// Always `chat.completion.chunk`.
    object: &'static str,
    /// Unix seconds.
    created: i64,
    model: String,
    system_fingerprint: String,
    /// One; none in the chunk with the usage.
    choices: Vec<ChunkChoice>,
    /// Only where `include_usage` asks for it: null in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<CompletionUsage>)]
    usage: Option<Option<CompletionUsage>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatChunkChoice)]
pub struct ChunkChoice {
    pub index: usize,
    pub delta: Delta,
    #[schema(required)]
    pub logprobs: Option<Logprobs>,
    /// Null until the choice ends.
    #[schema(required)]
    pub finish_reason: Option<&'static str>,
}

/// What a chunk adds.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = ChatDelta)]
pub struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<[CallDelta; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Annotation>>)]
    pub citations: Option<Vec<Value>>,
}

impl Delta {
    /// What every choice begins with.
    pub fn opening() -> Self {
        Self {
            role: Some("assistant"),
            content: Some(String::new()),
            ..Self::default()
        }
    }

    pub fn text(text: String) -> Self {
        Self {
            content: Some(text),
            ..Self::default()
        }
    }

    fn call(call: CallDelta) -> Self {
        Self {
            tool_calls: Some([call]),
            ..Self::default()
        }
    }
}

/// A call begins with its id and its name; its arguments follow.
#[derive(Debug, Serialize, ToSchema)]
pub struct CallDelta {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// `function`, with the id.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionDelta,
}

#[derive(Debug, Serialize, ToSchema)]
struct FunctionDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// A part of JSON text.
    arguments: String,
}

impl Envelope {
    /// A chunk of one choice, or of none with what all of them took.
    pub fn chunk(
        &self,
        choice: Option<ChunkChoice>,
        usage: Option<Option<CompletionUsage>>,
    ) -> Value {
        json!(Chunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices: choice.into_iter().collect(),
            usage,
        })
    }
}

pub struct ChunkStream {
    pub chat: ChatModel,
    pub envelope: Envelope,
    pub include_usage: bool,
    pub frames: Frames,
    /// Where the completion is to be kept.
    pub keeper: Option<Keeper>,
}

impl ChunkStream {
    pub async fn run(mut self, replies: Vec<Reply>) -> Result<(), ClientGone> {
        let mut replied: Vec<Replied> = replies.iter().map(|_| Replied::default()).collect();
        let mut num_calls = vec![0; replies.len()];
        for index in 0..replies.len() {
            let opening = self.chunk(index, Delta::opening(), None, None);
            self.frames.send(Frame::Opening(opening)).await?;
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
            let mut logprobs = None;
            let mut finished = None;
            let delta = match event {
                ReplyEvent::Text { text, tokens } => {
                    if self.envelope.with_logprobs {
                        logprobs = Some(Logprobs::new(&self.chat, &tokens));
                    }
                    Delta::text(text)
                }
                ReplyEvent::Reasoning(thought) => Delta {
                    reasoning_content: Some(thought),
                    ..Delta::default()
                },
                ReplyEvent::ToolCall {
                    index: at,
                    id,
                    name,
                } => {
                    num_calls[index] += 1;
                    Delta::call(CallDelta {
                        index: at,
                        id: Some(id),
                        kind: Some("function"),
                        function: FunctionDelta {
                            name: Some(name),
                            arguments: String::new(),
                        },
                    })
                }
                ReplyEvent::ToolArguments {
                    index: at,
                    fragment,
                } => Delta::call(CallDelta {
                    index: at,
                    id: None,
                    kind: None,
                    function: FunctionDelta {
                        name: None,
                        arguments: fragment,
                    },
                }),
                ReplyEvent::Finished {
                    reason,
                    usage,
                    num_reasoning_tokens,
                } => {
                    spent.add(&usage, num_reasoning_tokens, index);
                    finished = Some(reply_finish_reason(Some(reason), num_calls[index]));
                    Delta::default()
                }
            };
            let chunk = self.chunk(index, delta, finished, logprobs);
            self.frames.send(Frame::Data(chunk)).await?;
        }
        if let Some(keeper) = self.keeper.take() {
            let kept = keeper.keep(whole(&self.chat, &self.envelope, replied));
            if let Err(error) = kept.await {
                return self.frames.send(Frame::Data(error.body())).await;
            }
        }
        if self.include_usage {
            let chunk = self.envelope.chunk(None, Some(Some(spent.usage())));
            self.frames.send(Frame::Data(chunk)).await?;
        }
        self.frames.send(Frame::Done).await
    }

    fn chunk(
        &self,
        index: usize,
        delta: Delta,
        finish_reason: Option<&'static str>,
        logprobs: Option<Logprobs>,
    ) -> Value {
        let choice = ChunkChoice {
            index,
            delta,
            logprobs,
            finish_reason,
        };
        let usage = self.include_usage.then_some(None);
        self.envelope.chunk(Some(choice), usage)
    }
}
