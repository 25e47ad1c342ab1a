//! What a model reads: the messages that items make, and what stored responses and conversations bring with them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::background;
use super::item::{self, Given};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::from_value;
use crate::http::openai::chat::Content;
use crate::http::openai::file_parts::TextBudget;
use crate::rag::conversation::{ChatMessage, PastCall};
use crate::rag::prompt::{Sources, Turn};
use crate::store::{Item, StoreError};

/// A conversation, with the sources that its questions were shown with.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    pub messages: Vec<ChatMessage>,
    /// By the number of the message.
    sources: BTreeMap<usize, Sources>,
    /// The content of messages with stored files as it is kept, by the number of the message: files by their ids.
    kept: BTreeMap<usize, Value>,
    /// The last question of a stored conversation: its id there, and what is read of it.
    pub stored_question: Option<(String, Value)>,
}

/// Where a stored question has its sources.
pub const SOURCES: &str = "sources";

impl Conversation {
    /// What a stored response continues, its own answer included. Files are read as they are now.
    pub async fn earlier(
        context: &Context,
        id: &str,
        budget: &mut TextBudget,
    ) -> Result<Self, ApiError> {
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
        let param = "previous_response_id";
        for item in items {
            conversation
                .add_stored(context, item, param, budget)
                .await?;
        }
        Ok(conversation)
    }

    /// What a stored conversation holds so far. Files are read as they are now.
    pub async fn stored(
        context: &Context,
        id: &str,
        budget: &mut TextBudget,
    ) -> Result<Self, ApiError> {
        let items = context.workspace.store.conversation_items(id).await?;
        let mut conversation = Self::default();
        let last_question = items.iter().rposition(|item| item.body["role"] == "user");
        for (at, item) in items.into_iter().enumerate() {
            let read = item.read_as.unwrap_or_else(|| {
                let mut body = item.body;
                body.as_object_mut()
                    .map(|fields| fields.shift_remove(SOURCES));
                body
            });
            if last_question == Some(at) {
                conversation.stored_question = Some((item.id, read.clone()));
            }
            conversation
                .add_stored(context, read, "conversation", budget)
                .await?;
        }
        Ok(conversation)
    }

    /// Adds what was stored for the model to read. Only that names sources: a caller's items cannot bring in documents.
    async fn add_stored(
        &mut self,
        context: &Context,
        mut item: Value,
        param: &str,
        budget: &mut TextBudget,
    ) -> Result<(), ApiError> {
        let sources = item[SOURCES].take();
        let kept = item::read_again(context, &mut item, param, budget).await?;
        add(item, param, &mut self.messages)?;
        self.keep(kept);
        // What an earlier version stored has none.
        if let Ok(sources) = serde_json::from_value(sources) {
            let place = self.messages.len().saturating_sub(1);
            self.sources.insert(place, sources);
        }
        Ok(())
    }

    /// Takes note of the content with stored files that the last message was made of.
    fn keep(&mut self, content: Option<Value>) {
        if let (Some(content), Some(place)) = (content, self.messages.len().checked_sub(1)) {
            self.kept.insert(place, content);
        }
    }

    /// Adds the items of a request.
    pub fn add_given(&mut self, given: &[Given]) -> Result<(), ApiError> {
        for (at, Given { item, read }) in given.iter().enumerate() {
            let kept = item.read_as.as_ref().unwrap_or(&item.body);
            let now = read.as_ref().unwrap_or(kept);
            add(now.clone(), &format!("input[{at}]"), &mut self.messages)?;
            self.keep(read.as_ref().map(|_| kept["content"].clone()));
        }
        Ok(())
    }

    /// Adds items that were written.
    pub fn extend(&mut self, items: &[Item]) -> Result<(), ApiError> {
        for (at, item) in items.iter().enumerate() {
            add(
                item.body.clone(),
                &format!("output[{at}]"),
                &mut self.messages,
            )?;
        }
        Ok(())
    }

    /// Takes note of the sources that the last question was shown with.
    pub fn show_sources(&mut self, sources: Sources) {
        if let Some(place) = self.last_question() {
            self.sources.insert(place, sources);
        }
    }

    /// Whether any question was shown with sources.
    pub fn has_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    fn last_question(&self) -> Option<usize> {
        let is_question = |message: &ChatMessage| matches!(message, ChatMessage::User(_));
        self.messages.iter().rposition(is_question)
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
                    let content = self.kept.get(&at).cloned().unwrap_or(json!(content));
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

    /// The last question, with what came before it and after it.
    pub fn asked(&self) -> Option<Asked> {
        let place = self.last_question()?;
        let ChatMessage::User(question) = &self.messages[place] else {
            return None;
        };
        let sources = |at: usize| self.sources.get(&at).cloned().unwrap_or_default();
        let earlier = self.messages[..place].iter().enumerate();
        let turn = |(at, message): (usize, &ChatMessage)| Turn {
            message: message.clone(),
            sources: sources(at),
        };
        Some(Asked {
            question: question.clone(),
            sources: sources(place),
            earlier: earlier.map(turn).collect(),
            following: self.messages[place + 1..].to_vec(),
        })
    }
}

/// A question in its conversation.
pub struct Asked {
    pub question: String,
    /// What it has been shown with, where it has been asked before.
    pub sources: Sources,
    pub earlier: Vec<Turn>,
    /// Calls that were made for it, and what they returned.
    pub following: Vec<ChatMessage>,
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
    let content: Content = from_value(value.clone()).map_err(|_| {
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
