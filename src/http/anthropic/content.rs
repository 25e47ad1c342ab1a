//! The messages of a request, each checked: blocks of text, thoughts, calls and their results.

use serde_json::json;

use super::block::{Block, Content, Message, Source};
use crate::http::error::ApiError;
use crate::rag::conversation::{ChatMessage, PastCall};

/// The whole conversation, with the system's instructions first.
pub fn checked(
    system: Option<Content>,
    messages: Vec<Message>,
) -> Result<Vec<ChatMessage>, ApiError> {
    if messages.is_empty() {
        let message = "messages: at least one message is required";
        return Err(ApiError::invalid("messages", message));
    }
    if messages.last().is_some_and(|last| last.role == "assistant") {
        let message = "the last message is of role 'assistant', but answers are not gone on with; end with a message \
                       of role 'user'";
        return Err(ApiError::unsupported("messages", message));
    }
    let mut checked = Vec::with_capacity(messages.len() + 1);
    if let Some(system) = system {
        let text = text_of(system, "system")?;
        checked.extend(
            Some(text)
                .filter(|it| !it.is_empty())
                .map(ChatMessage::System),
        );
    }
    for (at, message) in messages.into_iter().enumerate() {
        let here = format!("messages.{at}.content");
        match message.role.as_str() {
            "user" => read_user(message.content, &here, &mut checked)?,
            "assistant" => checked.push(assistant(message.content, &here)?),
            "system" => checked.push(ChatMessage::System(text_of(message.content, &here)?)),
            other => {
                let param = format!("messages.{at}.role");
                let message = format!("{param} is '{other}', but must be 'user' or 'assistant'");
                return Err(ApiError::invalid(param, message));
            }
        }
    }
    Ok(checked)
}

/// Results of calls come first, as templates want them right after the calls.
fn read_user(content: Content, here: &str, checked: &mut Vec<ChatMessage>) -> Result<(), ApiError> {
    let mut texts = Vec::new();
    let mut has_results = false;
    for (block, here) in blocks(content, here) {
        if block.kind != "tool_result" {
            texts.push(block_text(block, &here)?);
            continue;
        }
        has_results = true;
        let call_id = block
            .tool_use_id
            .ok_or_else(|| missing(&here, "tool_use_id"))?;
        let content = match block.content {
            Some(content) => text_of(content, &format!("{here}.content"))?,
            None => String::new(),
        };
        let content = match block.is_error.unwrap_or(false) {
            true => format!("Error: {content}"),
            false => content,
        };
        checked.push(ChatMessage::Tool { call_id, content });
    }
    if !texts.is_empty() || !has_results {
        checked.push(ChatMessage::User(texts.join("\n\n")));
    }
    Ok(())
}

fn assistant(content: Content, here: &str) -> Result<ChatMessage, ApiError> {
    let mut texts = Vec::new();
    let mut thoughts = Vec::new();
    let mut calls = Vec::new();
    for (block, here) in blocks(content, here) {
        match block.kind.as_str() {
            "thinking" => thoughts.extend(block.thinking),
            // Another server's thoughts, which nobody here can read.
            "redacted_thinking" => {}
            "tool_use" => calls.push(PastCall {
                id: block.id.ok_or_else(|| missing(&here, "id"))?,
                name: block.name.ok_or_else(|| missing(&here, "name"))?,
                arguments: block.input.unwrap_or_else(|| json!({})).to_string(),
            }),
            _ => texts.push(block_text(block, &here)?),
        }
    }
    Ok(ChatMessage::Assistant {
        content: texts.join(""),
        reasoning: (!thoughts.is_empty()).then(|| thoughts.join("\n")),
        calls,
    })
}

/// The text of all blocks together.
fn text_of(content: Content, here: &str) -> Result<String, ApiError> {
    let texts = blocks(content, here).map(|(block, here)| block_text(block, &here));
    Ok(texts
        .collect::<Result<Vec<String>, ApiError>>()?
        .join("\n\n"))
}

/// The blocks with their places; a text is a block of its own.
fn blocks(content: Content, here: &str) -> impl Iterator<Item = (Block, String)> {
    let (blocks, here) = match content {
        Content::Text(text) => (vec![Block::of_text(text)], here.to_owned()),
        Content::Blocks(blocks) => (blocks, here.to_owned()),
    };
    let place = move |(at, block)| (block, format!("{here}.{at}"));
    blocks.into_iter().enumerate().map(place)
}

fn block_text(block: Block, here: &str) -> Result<String, ApiError> {
    match block.kind.as_str() {
        "text" => block.text.ok_or_else(|| missing(here, "text")),
        "document" => document_text(block, here),
        "search_result" => {
            let place = match block.source {
                Some(Source::Place(place)) => Some(place),
                _ => None,
            };
            let content = block.content.ok_or_else(|| missing(here, "content"))?;
            let text = text_of(content, &format!("{here}.content"))?;
            let parts = block.title.into_iter().chain(place).chain([text]);
            Ok(parts.collect::<Vec<String>>().join("\n"))
        }
        "image" => {
            let message = format!("{here} is an image, but this model takes only text");
            Err(ApiError::unsupported(here, message))
        }
        other => {
            let message = format!("{here} is of type '{other}', which is not served here");
            Err(ApiError::unsupported(here, message))
        }
    }
}

/// A document's text under its title.
fn document_text(block: Block, here: &str) -> Result<String, ApiError> {
    let here = format!("{here}.source");
    let Some(Source::Document(source)) = block.source else {
        return Err(missing(&here, "type"));
    };
    let text = match (source.kind.as_str(), source.data, source.content) {
        ("text", Some(data), _) => data,
        ("content", _, Some(content)) => text_of(content, &format!("{here}.content"))?,
        (kind, ..) => {
            let message = format!(
                "{here} is of type '{kind}', but only documents of text are read here; send their text, or search them \
                 as files with /v1/responses"
            );
            return Err(ApiError::unsupported(here, message));
        }
    };
    let parts = block.title.into_iter().chain(block.context).chain([text]);
    Ok(parts.collect::<Vec<String>>().join("\n"))
}

fn missing(here: &str, field: &str) -> ApiError {
    let param = format!("{here}.{field}");
    let message = format!("{param}: field required");
    ApiError::invalid(param, message)
}
