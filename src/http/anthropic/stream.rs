//! A message as a stream of named events: it starts, its blocks start, grow and stop one after the other, and it ends with
//! the reason and what it took.

use serde_json::{Value, json};

use super::messages::{STOP_SEQUENCE, stop_reason, usage_json};
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
    pub async fn run(mut self, mut reply: Reply, empty: Value) -> Result<(), ClientGone> {
        self.send("message_start", json!({ "message": empty }))
            .await?;
        while let Some(event) = reply.next().await {
            match event {
                Ok(ReplyEvent::Text { text, .. }) => {
                    if !text.is_empty() {
                        self.grow(Kind::Text, json!({ "type": "text", "text": "" }))
                            .await?;
                        self.delta(json!({ "type": "text_delta", "text": text }))
                            .await?;
                    }
                }
                Ok(ReplyEvent::Reasoning(thought)) => {
                    if self.shows_thoughts {
                        let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
                        self.grow(Kind::Thinking, block).await?;
                        self.delta(json!({ "type": "thinking_delta", "thinking": thought }))
                            .await?;
                    }
                }
                Ok(ReplyEvent::ToolCall { index, id, name }) => {
                    self.calls.push(String::new());
                    let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                    self.grow(Kind::ToolUse(index), block).await?;
                }
                Ok(ReplyEvent::ToolArguments { fragment, .. }) => {
                    if let Some(arguments) = self.calls.last_mut() {
                        arguments.push_str(&fragment);
                    }
                    self.delta(json!({ "type": "input_json_delta", "partial_json": fragment }))
                        .await?;
                }
                Ok(ReplyEvent::Finished { reason, usage, .. }) => {
                    self.close().await?;
                    let stopped_by = reply.stopped_by();
                    let arguments = self.calls.iter().map(String::as_str);
                    let reason = stop_reason(Some(reason), arguments, stopped_by);
                    let sequence = stopped_by.filter(|_| reason == STOP_SEQUENCE);
                    let delta = json!({ "stop_reason": reason, "stop_sequence": sequence });
                    let end = json!({ "delta": delta, "usage": usage_json(&usage) });
                    self.send("message_delta", end).await?;
                    return self.send("message_stop", json!({})).await;
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
    async fn grow(&mut self, kind: Kind, block: Value) -> Result<(), ClientGone> {
        if self.open == Some(kind) {
            return Ok(());
        }
        self.close().await?;
        self.open = Some(kind);
        self.num_blocks += 1;
        let start = json!({ "index": self.num_blocks - 1, "content_block": block });
        self.send("content_block_start", start).await
    }

    async fn delta(&self, delta: Value) -> Result<(), ClientGone> {
        let delta = json!({ "index": self.num_blocks.saturating_sub(1), "delta": delta });
        self.send("content_block_delta", delta).await
    }

    async fn close(&mut self) -> Result<(), ClientGone> {
        match self.open.take() {
            None => Ok(()),
            Some(_) => {
                let stop = json!({ "index": self.num_blocks - 1 });
                self.send("content_block_stop", stop).await
            }
        }
    }

    /// Every event's data repeats its name.
    async fn send(&self, name: &'static str, mut data: Value) -> Result<(), ClientGone> {
        data["type"] = json!(name);
        self.frames.send(Frame::Event(name, data)).await
    }
}
