//! A message as a stream of named events: it starts, its blocks start, grow and stop one after the other, and it ends with
//! the reason and what it took.

use serde_json::json;

use super::shape::{self, BlockDelta, Event, ReplyBlock, Stop};
use crate::http::dialect::Dialect;
use crate::http::error::ApiError;
use crate::http::sse::{ClientGone, Frame, Frames};
use crate::rag::reply::{Reply, ReplyEvent};

pub struct MessageStream {
    frames: Frames,
    shows_thoughts: bool,
    /// The block that grows.
    open: Option<Kind>,
    /// Blocks that have started.
    num_blocks: usize,
    /// The arguments of each call so far.
    calls: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    /// With the number of the call.
    ToolUse(usize),
}

impl MessageStream {
    pub fn new(frames: Frames, shows_thoughts: bool) -> Self {
        Self {
            frames,
            shows_thoughts,
            open: None,
            num_blocks: 0,
            calls: Vec::new(),
        }
    }

    /// `empty` is the message before anything is said.
    pub async fn run(mut self, mut reply: Reply, empty: shape::Reply) -> Result<(), ClientGone> {
        self.send(Event::MessageStart { message: empty }).await?;
        while let Some(event) = reply.next().await {
            match event {
                Ok(ReplyEvent::Text { text, .. }) => {
                    if !text.is_empty() {
                        let block = ReplyBlock::Text {
                            text: String::new(),
                        };
                        self.grow(Kind::Text, block).await?;
                        self.delta(BlockDelta::Text { text }).await?;
                    }
                }
                Ok(ReplyEvent::Reasoning(thinking)) => {
                    if self.shows_thoughts {
                        let block = ReplyBlock::Thinking {
                            thinking: String::new(),
                            signature: "",
                        };
                        self.grow(Kind::Thinking, block).await?;
                        self.delta(BlockDelta::Thinking { thinking }).await?;
                    }
                }
                Ok(ReplyEvent::ToolCall { index, id, name }) => {
                    self.calls.push(String::new());
                    let input = json!({});
                    let block = ReplyBlock::ToolUse { id, name, input };
                    self.grow(Kind::ToolUse(index), block).await?;
                }
                Ok(ReplyEvent::ToolArguments { fragment, .. }) => {
                    if let Some(arguments) = self.calls.last_mut() {
                        arguments.push_str(&fragment);
                    }
                    let partial_json = fragment;
                    self.delta(BlockDelta::InputJson { partial_json }).await?;
                }
                Ok(ReplyEvent::Finished { reason, usage, .. }) => {
                    self.close().await?;
                    let arguments = self.calls.iter().map(String::as_str);
                    let delta = Stop::new(Some(reason), arguments, reply.stopped_by());
                    let usage = (&usage).into();
                    self.send(Event::MessageDelta { delta, usage }).await?;
                    return self.send(Event::MessageStop {}).await;
                }
                Err(error) => {
                    let error = Dialect::Anthropic.body(&ApiError::from(error));
                    return self.frames.send(Frame::Event("error", error)).await;
                }
            }
        }
        Ok(())
    }

    /// Starts `block` unless one of its kind is open.
    async fn grow(&mut self, kind: Kind, block: ReplyBlock) -> Result<(), ClientGone> {
        if self.open == Some(kind) {
            return Ok(());
        }
        self.close().await?;
        self.open = Some(kind);
        self.num_blocks += 1;
        self.send(Event::ContentBlockStart {
            index: self.num_blocks - 1,
            content_block: block,
        })
        .await
    }

    async fn delta(&self, delta: BlockDelta) -> Result<(), ClientGone> {
        let index = self.num_blocks.saturating_sub(1);
        self.send(Event::ContentBlockDelta { index, delta }).await
    }

    async fn close(&mut self) -> Result<(), ClientGone> {
        match self.open.take() {
            None => Ok(()),
            Some(_) => {
                let index = self.num_blocks - 1;
                self.send(Event::ContentBlockStop { index }).await
            }
        }
    }

    async fn send(&self, event: Event) -> Result<(), ClientGone> {
        let frame = Frame::Event(event.name(), json!(event));
        self.frames.send(frame).await
    }
}
