//! What answers are made of on the wire.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::rag::conversation::PastCall;

/// One object of `/api/chat`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaChatPart)]
pub struct ChatPart {
    /// As the request names it.
    pub model: String,
    #[schema(format = DateTime)]
    pub created_at: String,
    pub message: ReplyMessage,
    pub done: bool,
    #[serde(flatten)]
    pub end: End,
}

/// One object of `/api/generate`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaGeneratePart)]
pub struct GeneratePart {
    /// As the request names it.
    pub model: String,
    #[schema(format = DateTime)]
    pub created_at: String,
    pub response: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    pub done: bool,
    #[serde(flatten)]
    pub end: End,
}

/// What the last object says besides.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = OllamaEnd)]
pub struct End {
    /// `stop`, `length`, `load` or `unload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_reason: Option<&'static str>,
    /// In nanoseconds, as all durations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_duration: Option<u64>,
    /// Tokens of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_eval_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_eval_duration: Option<u64>,
    /// Tokens that were generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_duration: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaReplyMessage)]
pub struct ReplyMessage {
    /// Always `assistant`.
    pub role: &'static str,
    pub content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub tool_calls: Vec<MadeCall>,
}

/// A call that the model made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaMadeCall)]
pub struct MadeCall {
    pub id: String,
    pub function: MadeFunction,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaMadeFunction)]
pub struct MadeFunction {
    pub name: String,
    /// By name.
    #[schema(value_type = Object)]
    pub arguments: Value,
}

impl MadeCall {
    /// `None` when the answer ended within the arguments.
    pub fn of_model(call: PastCall) -> Option<Self> {
        let arguments = match call.arguments.trim() {
            "" => json!({}),
            text => serde_json::from_str(text).ok()?,
        };
        Some(Self {
            id: call.id,
            function: MadeFunction {
                name: call.name,
                arguments,
            },
        })
    }
}
