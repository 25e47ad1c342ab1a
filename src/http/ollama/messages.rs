//! The messages of a chat request. Ollama's have no ids by which a result finds its call; they are found by name and
//! order.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::openai::chat::Content;
use crate::rag::conversation::{ChatMessage, PastCall};

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaMessage)]
pub struct Message {
    #[schema(value_type = Role)]
    role: String,
    content: Option<Content>,
    /// What an assistant thought.
    thinking: Option<String>,
    #[schema(ignore)]
    images: Option<Vec<Value>>,
    /// Calls that an assistant made.
    tool_calls: Option<Vec<ToolCall>>,
    /// Of role `tool`: the function whose result it is.
    tool_name: Option<String>,
    /// Another name of `tool_name`.
    name: Option<String>,
    /// Of role `tool`: the call that it is the result of, where calls have ids.
    tool_call_id: Option<String>,
}

/// Who speaks.
#[derive(ToSchema)]
#[schema(as = OllamaRole, rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of what `checked` reads")]
enum Role {
    System,
    User,
    Assistant,
    Tool,
}

/// A call of an earlier turn.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaToolCall)]
struct ToolCall {
    id: Option<String>,
    function: CalledFunction,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaCalledFunction)]
struct CalledFunction {
    name: String,
    /// An object; some clients send JSON text.
    arguments: Option<Value>,
}

/// A call whose result has not come yet.
struct OpenCall {
    id: String,
    name: String,
}

/// The whole conversation.
pub fn checked(messages: Vec<Message>) -> Result<Vec<ChatMessage>, ApiError> {
    let mut open = VecDeque::new();
    let mut num_calls = 0;
    let checked = messages.into_iter().enumerate().map(|(at, message)| {
        refuse_images(&format!("messages[{at}].images"), message.images.as_deref())?;
        let content = match message.content {
            Some(content) => content.into_text(&format!("messages[{at}].content"))?,
            None => String::new(),
        };
        Ok(match message.role.as_str() {
            "system" => ChatMessage::System(content),
            "user" => ChatMessage::User(content),
            "assistant" => {
                let calls = message.tool_calls.unwrap_or_default();
                let calls = calls.into_iter().map(|call| {
                    num_calls += 1;
                    let call = past_call(call, num_calls);
                    open.push_back(OpenCall {
                        id: call.id.clone(),
                        name: call.name.clone(),
                    });
                    call
                });
                ChatMessage::Assistant {
                    content,
                    reasoning: message.thinking.filter(|thought| !thought.is_empty()),
                    calls: calls.collect(),
                }
            }
            "tool" => ChatMessage::Tool {
                call_id: answered(
                    &mut open,
                    message.tool_call_id,
                    message.tool_name.or(message.name),
                ),
                content,
            },
            other => {
                let param = format!("messages[{at}].role");
                let message = format!(
                    "{param} is '{other}', but must be one of system, user, assistant, tool"
                );
                return Err(ApiError::invalid(param, message));
            }
        })
    });
    checked.collect()
}

pub fn refuse_images(param: &str, images: Option<&[Value]>) -> Result<(), ApiError> {
    match images {
        None | Some([]) => Ok(()),
        Some(_) => {
            let message = format!("{param} has images, but this model takes only text");
            Err(ApiError::unsupported(param, message))
        }
    }
}

fn past_call(call: ToolCall, number: usize) -> PastCall {
    let arguments = match call.function.arguments {
        None | Some(Value::Null) => json!({}),
        Some(arguments) => arguments,
    };
    PastCall {
        id: call.id.unwrap_or_else(|| format!("call_{number}")),
        name: call.function.name,
        arguments: match arguments {
            Value::String(text) => text,
            other => other.to_string(),
        },
    }
}

/// The id of the call that a result belongs to: the one it names, else the first open one of its function, else the
/// first open one.
fn answered(
    open: &mut VecDeque<OpenCall>,
    call_id: Option<String>,
    name: Option<String>,
) -> String {
    let place = match (&call_id, &name) {
        (Some(id), _) => open.iter().position(|call| call.id == *id),
        (None, Some(name)) => open.iter().position(|call| call.name == *name),
        (None, None) => (!open.is_empty()).then_some(0),
    };
    let found = place
        .and_then(|place| open.remove(place))
        .map(|call| call.id);
    found.or(call_id).or(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call_ids(messages: Value) -> Vec<String> {
        let messages = checked(serde_json::from_value(messages).unwrap()).unwrap();
        let id = |message: ChatMessage| match message {
            ChatMessage::Tool { call_id, .. } => Some(call_id),
            _ => None,
        };
        messages.into_iter().filter_map(id).collect()
    }

    #[test]
    fn results_find_their_calls_by_name_and_order() {
        let call = |name: &str| json!({ "function": { "name": name, "arguments": {} } });
        let calls = json!([call("time"), call("weather"), call("weather")]);
        let result =
            |name: Option<&str>| json!({ "role": "tool", "content": "x", "tool_name": name });
        let ids = call_ids(json!([
            { "role": "assistant", "content": "", "tool_calls": calls },
            result(Some("weather")),
            result(Some("weather")),
            result(None),
            result(Some("unheard")),
        ]));
        assert_eq!(ids, ["call_2", "call_3", "call_1", "unheard"]);
    }
}
