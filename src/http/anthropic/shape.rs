//! What answers are made of on the wire: a message, and the events of its stream.

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use utoipa::ToSchema;

use crate::engine::Usage;
use crate::rag::generate::EndReason;
use crate::rag::reply::Replied;
use crate::store::new_id;

/// A message of the model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicReply)]
pub struct Reply {
    id: String,
    /// Always `message`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Always `assistant`.
    role: &'static str,
    /// As the request names it.
    model: String,
    content: Vec<ReplyBlock>,
    #[serde(flatten)]
    stop: Stop,
    usage: MessageUsage,
}

impl Reply {
    /// Before anything is said.
    pub fn empty(model: &str, usage: &Usage) -> Self {
        Self {
            id: new_id("msg_"),
            kind: "message",
            role: "assistant",
            model: model.to_owned(),
            content: Vec::new(),
            stop: Stop::default(),
            usage: usage.into(),
        }
    }

    /// The same with what was said.
    pub fn finished(self, replied: Replied, shows_thoughts: bool) -> Self {
        let stopped_by = replied.stopped_by.as_deref();
        Self {
            stop: Stop::new(
                replied.reason,
                replied.calls.iter().map(|call| call.arguments.as_str()),
                stopped_by,
            ),
            usage: (&replied.usage).into(),
            content: blocks(replied, shows_thoughts),
            ..self
        }
    }
}

/// A part of a message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ReplyBlock {
    Thinking {
        thinking: String,
        /// Always empty.
        signature: &'static str,
    },
    Text {
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        /// The arguments, by name.
        #[schema(value_type = Object)]
        input: Value,
    },
}

/// The blocks of a finished answer.
fn blocks(replied: Replied, shows_thoughts: bool) -> Vec<ReplyBlock> {
    let mut blocks = Vec::new();
    if shows_thoughts && !replied.reasoning.is_empty() {
        blocks.push(ReplyBlock::Thinking {
            thinking: replied.reasoning,
            signature: "",
        });
    }
    if !replied.text.is_empty() {
        blocks.push(ReplyBlock::Text { text: replied.text });
    }
    // The input is an object: a call that was cut off is none.
    let calls = replied.calls.into_iter().filter_map(|call| {
        Some(ReplyBlock::ToolUse {
            input: serde_json::from_str(&call.arguments).ok()?,
            id: call.id,
            name: call.name,
        })
    });
    blocks.extend(calls);
    blocks
}

/// Why a message ended.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = AnthropicStop)]
pub struct Stop {
    /// `end_turn`, `max_tokens`, `stop_sequence` or `tool_use`.
    #[schema(required)]
    stop_reason: Option<&'static str>,
    /// The text that ended it, where one did.
    #[schema(required)]
    stop_sequence: Option<String>,
}

impl Stop {
    /// Why an answer with calls of these arguments ended. One that ended within a call has no such call to make.
    pub fn new<'a>(
        reason: Option<EndReason>,
        mut arguments: impl Iterator<Item = &'a str>,
        stopped_by: Option<&str>,
    ) -> Self {
        let is_whole = |arguments| serde_json::from_str::<IgnoredAny>(arguments).is_ok();
        let (reason, sequence) = match (reason, stopped_by) {
            (Some(EndReason::Length), _) => ("max_tokens", None),
            (_, Some(sequence)) => ("stop_sequence", Some(sequence.to_owned())),
            _ if arguments.any(is_whole) => ("tool_use", None),
            (Some(EndReason::Stop) | None, None) => ("end_turn", None),
        };
        Self {
            stop_reason: Some(reason),
            stop_sequence: sequence,
        }
    }
}

/// What a message took, in tokens. What was found in the cache is not counted as input again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicUsage)]
pub struct MessageUsage {
    input_tokens: usize,
    /// Always 0.
    cache_creation_input_tokens: usize,
    cache_read_input_tokens: usize,
    output_tokens: usize,
}

impl From<&Usage> for MessageUsage {
    fn from(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.num_prompt_tokens - usage.num_cached_tokens,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.num_cached_tokens,
            output_tokens: usage.num_completion_tokens,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicTokenCount)]
pub struct TokenCount {
    pub input_tokens: usize,
}

/// The data of an event, which repeats its name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicEvent)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    MessageStart {
        message: Reply,
    },
    ContentBlockStart {
        index: usize,
        content_block: ReplyBlock,
    },
    ContentBlockDelta {
        index: usize,
        delta: BlockDelta,
    },
    ContentBlockStop {
        index: usize,
    },
    MessageDelta {
        delta: Stop,
        usage: MessageUsage,
    },
    MessageStop {},
}

impl Event {
    pub fn name(&self) -> &'static str {
        match self {
            Event::MessageStart { .. } => "message_start",
            Event::ContentBlockStart { .. } => "content_block_start",
            Event::ContentBlockDelta { .. } => "content_block_delta",
            Event::ContentBlockStop { .. } => "content_block_stop",
            Event::MessageDelta { .. } => "message_delta",
            Event::MessageStop {} => "message_stop",
        }
    }
}

/// What a block grows by.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicDelta)]
#[serde(tag = "type")]
pub enum BlockDelta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "input_json_delta")]
    InputJson {
        /// A part of JSON text.
        partial_json: String,
    },
}
