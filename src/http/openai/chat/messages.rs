//! The messages of a chat request, checked one by one.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::openai::file_parts::{FilePart, TextBudget};
use crate::rag::conversation::{ChatMessage, PastCall};

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = ChatMessage)]
pub struct Message {
    #[schema(value_type = Role)]
    role: String,
    /// Null only of an assistant.
    content: Option<Content>,
    /// Of role `function`, the function's.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// What an assistant thought.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    /// Calls that an assistant made.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<ToolCall>>,
    /// Needed in a message of role `tool`: the call that it is the result of.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

/// Who speaks.
#[derive(ToSchema)]
#[schema(as = ChatRole, rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of what `one` reads")]
enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Function,
}

/// Text, or parts of which text is served, and files in what a user says.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = ChatContent)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = ChatContentPart)]
pub struct Part {
    #[serde(rename = "type")]
    #[schema(value_type = PartKind)]
    kind: String,
    /// Needed in a part with text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    /// Needed in a part of type `file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FilePart>,
}

/// `file` in messages of role `user` only.
#[derive(ToSchema)]
#[schema(as = ChatContentPartType, rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the schema of what `into_text` reads")]
enum PartKind {
    Text,
    InputText,
    OutputText,
    Refusal,
    File,
}

/// A call of an earlier turn.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct ToolCall {
    id: Option<String>,
    /// `function`.
    #[serde(rename = "type", default = "function")]
    kind: String,
    function: CalledFunction,
}

fn function() -> String {
    "function".into()
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
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
                    let message = format!(
                        "{here} is of type '{other}', but this model takes only text, and files as their text in \
                         messages of role 'user'"
                    );
                    return Err(ApiError::unsupported(here, message));
                }
            }
        }
        Ok(text)
    }
}

/// Puts the text of files in their place in what users say.
pub async fn read_files(context: &Context, messages: &mut [Message]) -> Result<(), ApiError> {
    let mut budget = TextBudget::of_a_request();
    for (at, message) in messages.iter_mut().enumerate() {
        let Some(Content::Parts(parts)) = &mut message.content else {
            continue;
        };
        if message.role != "user" {
            continue;
        }
        for (part_at, part) in parts.iter_mut().enumerate() {
            if part.kind != "file" {
                continue;
            }
            let param = format!("messages[{at}].content[{part_at}].file");
            let file = part.file.take().ok_or_else(|| {
                ApiError::invalid(&param, format!("missing required parameter: '{param}'"))
            })?;
            part.text = Some(file.into_text(context, &param, &mut budget).await?);
            part.kind = "text".into();
        }
    }
    Ok(())
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
