//! The input of a response: text, or items, and what a stored response is continued with.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::openai::chat::Content;
use crate::rag::conversation::{ChatMessage, PastCall};
use crate::rag::prompt::{Role, Sources, Turn};
use crate::store::StoreError;

/// A conversation, with the sources that its questions were shown with.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    pub messages: Vec<ChatMessage>,
    /// By the number of the message.
    sources: BTreeMap<usize, Sources>,
}

/// Where a stored question has its sources.
const SOURCES: &str = "sources";

impl Conversation {
    /// What a stored response continues, its own answer included.
    pub async fn earlier(context: &Context, id: &str) -> Result<Self, ApiError> {
        let stored = match context.workspace.store.response(id).await {
            Ok(stored) => stored,
            Err(StoreError::NotFound { .. }) => {
                return Err(ApiError::previous_response_not_found(id));
            }
            Err(error) => return Err(error.into()),
        };
        let mut conversation = Self::default();
        let Value::Array(items) = stored.input else {
            return Ok(conversation);
        };
        for (at, mut item) in items.into_iter().enumerate() {
            // Only what we stored names sources: a caller's items cannot bring in documents.
            let sources = item[SOURCES].take();
            add(item, &format!("input[{at}]"), &mut conversation.messages)?;
            // What an earlier version stored has none.
            if let Ok(sources) = serde_json::from_value(sources) {
                let place = conversation.messages.len().saturating_sub(1);
                conversation.sources.insert(place, sources);
            }
        }
        Ok(conversation)
    }

    /// Takes note of the sources that the last message was shown with.
    pub fn show_sources(&mut self, sources: Sources) {
        if !sources.is_empty() && !self.messages.is_empty() {
            self.sources.insert(self.messages.len() - 1, sources);
        }
    }

    /// The items that are read back by `earlier`.
    pub fn items(&self) -> Value {
        let mut items = Vec::new();
        for (at, message) in self.messages.iter().enumerate() {
            match message {
                ChatMessage::System(content) => {
                    items.push(json!({ "role": "system", "content": content }))
                }
                ChatMessage::User(content) => {
                    let mut item = json!({ "role": "user", "content": content });
                    if let Some(sources) = self.sources.get(&at) {
                        item[SOURCES] = json!(sources);
                    }
                    items.push(item);
                }
                ChatMessage::Assistant { content, calls, .. } => {
                    items.push(json!({ "role": "assistant", "content": content }));
                    items.extend(calls.iter().map(|call| {
                        json!({
                            "type": "function_call",
                            "call_id": call.id,
                            "name": call.name,
                            "arguments": call.arguments,
                        })
                    }));
                }
                ChatMessage::Tool { call_id, content } => items.push(json!({
                    "type": "function_call_output",
                    "call_id": call_id,
                    "output": content,
                })),
            }
        }
        Value::Array(items)
    }

    /// The turns of a conversation about documents, which has no calls.
    pub fn turns(&self) -> Vec<Turn> {
        let turn = |(at, message): (usize, &ChatMessage)| {
            let (role, content) = match message {
                ChatMessage::System(content) => (Role::System, content),
                ChatMessage::User(content) => (Role::User, content),
                ChatMessage::Assistant { content, .. } => (Role::Assistant, content),
                ChatMessage::Tool { .. } => return None,
            };
            let mut turn = Turn::new(role, content.clone());
            turn.sources = self.sources.get(&at).cloned().unwrap_or_default();
            Some(turn)
        };
        self.messages.iter().enumerate().filter_map(turn).collect()
    }
}

/// The messages of `input`: text, or items of which searches are passed over.
pub fn messages(input: Option<Value>) -> Result<Vec<ChatMessage>, ApiError> {
    let items = match input {
        Some(Value::String(text)) => return Ok(vec![ChatMessage::User(text)]),
        Some(Value::Array(items)) => items,
        None | Some(Value::Null) => {
            return Err(ApiError::invalid(
                "input",
                "missing required parameter: 'input'",
            ));
        }
        Some(_) => {
            return Err(ApiError::invalid(
                "input",
                "input must be a string or an array of items",
            ));
        }
    };
    let mut messages = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        add(item, &format!("input[{at}]"), &mut messages)?;
    }
    Ok(messages)
}

fn add(item: Value, param: &str, messages: &mut Vec<ChatMessage>) -> Result<(), ApiError> {
    match item["type"].as_str() {
        None | Some("message") => messages.push(message(&item, param)?),
        Some("file_search_call" | "reasoning") => {}
        Some("function_call") => {
            let call = PastCall {
                id: text(&item, "call_id", param)?,
                name: text(&item, "name", param)?,
                arguments: text(&item, "arguments", param)?,
            };
            // Calls belong to the message before them.
            if let Some(ChatMessage::Assistant { calls, .. }) = messages.last_mut() {
                calls.push(call);
            } else {
                messages.push(ChatMessage::Assistant {
                    content: String::new(),
                    reasoning: None,
                    calls: vec![call],
                });
            }
        }
        Some("function_call_output") => messages.push(ChatMessage::Tool {
            call_id: text(&item, "call_id", param)?,
            content: content(&item["output"], &format!("{param}.output"))?,
        }),
        Some(other) => {
            let message = format!(
                "{param} is of type '{other}', which is not served yet; served are 'message', \
                 'function_call' and 'function_call_output'"
            );
            return Err(ApiError::unsupported(param, message));
        }
    }
    Ok(())
}

fn message(item: &Value, param: &str) -> Result<ChatMessage, ApiError> {
    let content = |item: &Value| content(&item["content"], &format!("{param}.content"));
    match item["role"].as_str() {
        Some("user") => Ok(ChatMessage::User(content(item)?)),
        Some("assistant") => Ok(ChatMessage::Assistant {
            content: content(item)?,
            reasoning: None,
            calls: Vec::new(),
        }),
        Some("system" | "developer") => Ok(ChatMessage::System(content(item)?)),
        _ => {
            let message = format!("{param}.role must be one of user, assistant, system, developer");
            Err(ApiError::invalid(format!("{param}.role"), message))
        }
    }
}

fn content(value: &Value, param: &str) -> Result<String, ApiError> {
    let content: Content = serde_json::from_value(value.clone()).map_err(|_| {
        let message = format!("{param} must be a string or a list of text parts");
        ApiError::invalid(param, message)
    })?;
    content.into_text(param)
}

fn text(item: &Value, key: &str, param: &str) -> Result<String, ApiError> {
    let found = item[key].as_str().map(str::to_owned);
    found.ok_or_else(|| {
        let param = format!("{param}.{key}");
        let message = format!("missing required parameter: '{param}'");
        ApiError::invalid(param, message)
    })
}
