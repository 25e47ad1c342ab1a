//! What a model reads: the messages that items make, and what stored responses and conversations bring with them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::background;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::openai::chat::Content;
use crate::rag::conversation::{ChatMessage, PastCall};
use crate::rag::prompt::{Role, Sources, Turn};
use crate::store::{Item, StoreError};

/// A conversation, with the sources that its questions were shown with.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    pub messages: Vec<ChatMessage>,
    /// By the number of the message.
    sources: BTreeMap<usize, Sources>,
}

/// Where a stored question has its sources.
pub const SOURCES: &str = "sources";

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
        // One whose writer was killed has ended, though nobody has asked for it since.
        let has_writer = stored.owner.is_some();
        if has_writer && background::current(context, id).await?.owner.is_some() {
            let message =
                format!("the response '{id}' has not ended yet; wait for it or cancel it");
            return Err(ApiError::invalid("previous_response_id", message));
        }
        let mut conversation = Self::default();
        let Value::Array(items) = stored.input else {
            return Ok(conversation);
        };
        for (at, item) in items.into_iter().enumerate() {
            conversation.add_stored(item, at)?;
        }
        Ok(conversation)
    }

    /// What a stored conversation holds so far.
    pub async fn stored(context: &Context, id: &str) -> Result<Self, ApiError> {
        let items = context.workspace.store.conversation_items(id).await?;
        let mut conversation = Self::default();
        for (at, item) in items.into_iter().enumerate() {
            match item.read_as {
                Some(read_as) => conversation.add_stored(read_as, at)?,
                None => add(
                    item.body,
                    &format!("items[{at}]"),
                    &mut conversation.messages,
                )?,
            }
        }
        Ok(conversation)
    }

    /// Adds what was stored for the model to read. Only that names sources: a caller's items cannot bring in documents.
    fn add_stored(&mut self, mut item: Value, at: usize) -> Result<(), ApiError> {
        let sources = item[SOURCES].take();
        add(item, &format!("input[{at}]"), &mut self.messages)?;
        // What an earlier version stored has none.
        if let Ok(sources) = serde_json::from_value(sources) {
            let place = self.messages.len().saturating_sub(1);
            self.sources.insert(place, sources);
        }
        Ok(())
    }

    /// Adds the items of a request, which have been checked.
    pub fn extend(&mut self, items: &[Item]) -> Result<(), ApiError> {
        for (at, item) in items.iter().enumerate() {
            let read = item.read_as.as_ref().unwrap_or(&item.body);
            add(read.clone(), &format!("input[{at}]"), &mut self.messages)?;
        }
        Ok(())
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

/// Adds an item to the messages; searches and thoughts are passed over.
pub fn add(item: Value, param: &str, messages: &mut Vec<ChatMessage>) -> Result<(), ApiError> {
    let kind = match &item["type"] {
        Value::Null => "message",
        Value::String(kind) => kind,
        other => {
            let message = format!("{param}.type is {other}, but must be a string");
            return Err(ApiError::invalid(format!("{param}.type"), message));
        }
    };
    match kind {
        "message" => messages.push(message(&item, param)?),
        "file_search_call" | "reasoning" => {}
        "function_call" => {
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
        "function_call_output" => messages.push(ChatMessage::Tool {
            call_id: text(&item, "call_id", param)?,
            content: content(&item["output"], &format!("{param}.output"))?,
        }),
        other => {
            let message = format!(
                "{param} is of type '{other}', which is not served yet; served are 'message', 'function_call', \
                 'function_call_output', 'reasoning', 'file_search_call' and 'item_reference'"
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
