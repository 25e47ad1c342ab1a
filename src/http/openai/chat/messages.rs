//! The messages of a chat request, checked one by one.

use serde::Deserialize;
use serde_json::Value;

use crate::http::error::ApiError;
use crate::rag::conversation::{ChatMessage, PastCall};

#[derive(Debug, Deserialize)]
pub struct Message {
    role: String,
    content: Option<Content>,
    name: Option<String>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<ToolCall>>,
    tool_call_id: Option<String>,
}

/// Text, or parts of which only text is served.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
pub struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ToolCall {
    id: Option<String>,
    function: CalledFunction,
}

#[derive(Debug, Deserialize)]
struct CalledFunction {
    name: String,
    /// JSON text; some clients send the object itself.
    arguments: Option<Value>,
}

impl Content {
    /// The text of all parts together; `param` names the place in an error.
    pub fn into_text(self, param: &str) -> Result<String, ApiError> {
        let parts = match self {
            Content::Text(text) => return Ok(text),
            Content::Parts(parts) => parts,
        };
        let mut text = String::new();
        for (at, part) in parts.into_iter().enumerate() {
            let here = format!("{param}[{at}]");
            match part.kind.as_str() {
                "text" | "input_text" | "output_text" => {
                    text.push_str(&part.text.ok_or_else(|| {
                        ApiError::invalid(
                            format!("{here}.text"),
                            format!("{here} is of type '{}' but has no text", part.kind),
                        )
                    })?)
                }
                "refusal" => text.push_str(&part.refusal.unwrap_or_default()),
                other => {
                    let message =
                        format!("{here} is of type '{other}', but this model takes only text");
                    return Err(ApiError::unsupported(here, message));
                }
            }
        }
        Ok(text)
    }
}

/// The whole conversation.
pub fn checked(messages: Vec<Message>) -> Result<Vec<ChatMessage>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid(
            "messages",
            "messages is empty, but must have at least one message",
        ));
    }
    let checked = messages
        .into_iter()
        .enumerate()
        .map(|(at, message)| one(at, message));
    checked.collect()
}

fn one(at: usize, message: Message) -> Result<ChatMessage, ApiError> {
    let missing = |field: &str| {
        let param = format!("messages[{at}].{field}");
        let message = format!("missing required parameter: '{param}'");
        ApiError::invalid(param, message)
    };
    let param = format!("messages[{at}].content");
    let content = match message.content {
        Some(content) => Some(content.into_text(&param)?),
        None => None,
    };
    let said = |content: Option<String>| content.ok_or_else(|| missing("content"));
    Ok(match message.role.as_str() {
        "system" | "developer" => ChatMessage::System(said(content)?),
        "user" => ChatMessage::User(said(content)?),
        "assistant" => ChatMessage::Assistant {
            content: content.unwrap_or_default(),
            reasoning: message.reasoning_content,
            calls: message
                .tool_calls
                .unwrap_or_default()
                .into_iter()
                .map(past_call)
                .collect(),
        },
        "tool" => ChatMessage::Tool {
            call_id: message
                .tool_call_id
                .ok_or_else(|| missing("tool_call_id"))?,
            content: said(content)?,
        },
        "function" => ChatMessage::Tool {
            call_id: message.name.ok_or_else(|| missing("name"))?,
            content: said(content)?,
        },
        other => {
            let param = format!("messages[{at}].role");
            let message = format!(
                "{param} is '{other}', but must be one of system, developer, user, assistant, tool"
            );
            return Err(ApiError::invalid(param, message));
        }
    })
}

fn past_call(call: ToolCall) -> PastCall {
    let arguments = match call.function.arguments {
        None | Some(Value::Null) => "{}".into(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    };
    PastCall {
        id: call.id.unwrap_or_else(|| call.function.name.clone()),
        name: call.function.name,
        arguments,
    }
}
