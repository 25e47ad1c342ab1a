//! Items as callers send them, checked one by one, and as they are kept: with an id, and with what the model reads.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::input::{self, SOURCES};
use super::item_shapes::{InputMessage, OtherItem};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::from_value;
use crate::http::openai::file_parts::{FilePart, TextBudget};
use crate::store::{Item, StoreError, new_id};

const MAX_ID_BYTES: usize = 128;
/// Kept items that one request may refer to: each may be as large as a request.
const MAX_REFERENCES: usize = 256;

/// An item that a request brings.
pub struct Given {
    /// As it is kept: stored files by their ids, so that their text goes with them.
    pub item: Item,
    /// With the text of its files, where it has some.
    pub read: Option<Value>,
}

/// The items of `input`, which is a text or a list of items; `field` names it in an error.
pub async fn checked(
    context: &Context,
    input: Value,
    field: &str,
    budget: &mut TextBudget,
) -> Result<Vec<Given>, ApiError> {
    let given = match input {
        Value::String(text) => vec![json!({ "role": "user", "content": text })],
        Value::Array(items) => items,
        _ => {
            let message = format!("{field} must be a string or an array of items");
            return Err(ApiError::invalid(field, message));
        }
    };
    if given.iter().filter_map(reference).count() > MAX_REFERENCES {
        let message = format!(
            "{field} refers to more than {MAX_REFERENCES} kept items; continue a conversation instead"
        );
        return Err(ApiError::invalid(field, message));
    }
    let mut items = Vec::with_capacity(given.len());
    let mut ids = HashSet::new();
    for (at, item) in given.into_iter().enumerate() {
        let mut given = one(context, item, &format!("{field}[{at}]"), budget).await?;
        let item = &mut given.item;
        if !ids.insert(item.id.clone()) {
            item.id = new_id(prefix(&item.body));
            item.body["id"] = json!(item.id);
            ids.insert(item.id.clone());
        }
        items.push(given);
    }
    Ok(items)
}

async fn one(
    context: &Context,
    mut given: Value,
    param: &str,
    budget: &mut TextBudget,
) -> Result<Given, ApiError> {
    if let Some(id) = reference(&given) {
        let item = referenced(context, id, param).await?;
        let mut read = item.read_as.as_ref().unwrap_or(&item.body).clone();
        let has_files = read_again(context, &mut read, param, budget).await?;
        let read = has_files.is_some().then_some(read);
        return Ok(Given { item, read });
    }
    let (read_as, read) = with_texts_of_files(context, &mut given, param, budget).await?;
    // What is wrong with it is said before anything else is done.
    input::add(
        read.clone().unwrap_or_else(|| given.clone()),
        param,
        &mut Vec::new(),
    )?;
    check(&given, param)?;
    let body = complete(given);
    let id = body["id"].as_str().unwrap_or_default().to_owned();
    let item = Item { id, body, read_as };
    Ok(Given { item, read })
}

/// The id that an item of type `item_reference` names; its type may be left out.
fn reference(item: &Value) -> Option<&str> {
    let is_reference = match item["type"].as_str() {
        Some(kind) => kind == "item_reference",
        None => item["role"].is_null(),
    };
    is_reference.then(|| item["id"].as_str()).flatten()
}

async fn referenced(context: &Context, id: &str, param: &str) -> Result<Item, ApiError> {
    let mut item = match context.workspace.store.item(id).await {
        Ok(item) => item,
        Err(StoreError::NotFound { .. }) => {
            let message = format!("{param} refers to the item '{id}', which is not kept here");
            return Err(ApiError::invalid(format!("{param}.id"), message));
        }
        Err(error) => return Err(error.into()),
    };
    // Its sources have their numbers in the conversation that it comes from.
    if let Some(fields) = item.read_as.as_mut().and_then(Value::as_object_mut) {
        fields.shift_remove(SOURCES);
    }
    Ok(item)
}

/// What is kept for the model to read of a user's message with files, where that differs from the message, and what it
/// reads now: their text in their place. What came in base64 is taken out of the item: its text is all that is needed
/// later.
async fn with_texts_of_files(
    context: &Context,
    item: &mut Value,
    param: &str,
    budget: &mut TextBudget,
) -> Result<(Option<Value>, Option<Value>), ApiError> {
    if !is_of_user(item) {
        return Ok((None, None));
    }
    let Some(parts) = item["content"].as_array_mut() else {
        return Ok((None, None));
    };
    let (mut kept, mut read) = (Vec::new(), Vec::new());
    let (mut has_data, mut has_file) = (false, false);
    for (at, part) in parts.iter_mut().enumerate() {
        if part["type"] != "input_file" {
            kept.push(part.clone());
            read.push(part.clone());
            continue;
        }
        has_file = true;
        let param = format!("{param}.content[{at}]");
        let file: FilePart = from_value(part.clone()).map_err(|error| {
            ApiError::invalid(&param, format!("{param} cannot be read: {error}"))
        })?;
        let is_stored = !part["file_id"].is_null();
        let text = file.into_text(context, &param, budget).await?;
        let text = json!({ "type": "input_text", "text": text });
        if is_stored {
            kept.push(part.clone());
        } else {
            has_data = true;
            kept.push(text.clone());
            if let Some(fields) = part.as_object_mut() {
                fields.shift_remove("file_data");
            }
        }
        read.push(text);
    }
    let message = |content| json!({ "type": "message", "role": "user", "content": content });
    Ok((
        has_data.then(|| message(kept)),
        has_file.then(|| message(read)),
    ))
}

/// Whether an item is what a user said: only there stand files.
fn is_of_user(item: &Value) -> bool {
    matches!(item["type"].as_str(), None | Some("message")) && item["role"] == "user"
}

/// Puts the text of stored files, as it is now, in their place in an item that was kept, and returns its content as that
/// was. `None` where there is no file.
pub async fn read_again(
    context: &Context,
    item: &mut Value,
    param: &str,
    budget: &mut TextBudget,
) -> Result<Option<Value>, ApiError> {
    let is_file = |part: &Value| part["type"] == "input_file";
    let parts = item["content"].as_array();
    if !is_of_user(item) || !parts.is_some_and(|parts| parts.iter().any(is_file)) {
        return Ok(None);
    }
    let kept = item["content"].clone();
    let parts = item["content"].as_array_mut().into_iter().flatten();
    for part in parts.filter(|part| is_file(part)) {
        let id = part["file_id"].as_str().unwrap_or_default().to_owned();
        let block = context.files.kept_block(&context.workspace.store, &id);
        let text = block
            .await
            .map_err(|error| ApiError::from(error).about(param))?;
        budget.take(&text, param)?;
        *part = json!({ "type": "input_text", "text": text });
    }
    Ok(Some(kept))
}

/// Refuses what is kept and shown though no model reads it, and is not what it should be.
fn check(item: &Value, param: &str) -> Result<(), ApiError> {
    let checked = match is_message(item) {
        true => InputMessage::deserialize(item).map(drop),
        false => OtherItem::deserialize(item).map(drop),
    };
    checked.map_err(|error| ApiError::invalid(param, format!("{param} cannot be read: {error}")))
}

fn is_message(item: &Value) -> bool {
    item["type"].is_null() || item["type"] == "message"
}

/// The item with every key that clients expect of one that is kept.
fn complete(mut item: Value) -> Value {
    let prefix = prefix(&item);
    let id = item["id"]
        .as_str()
        .filter(|id| !id.is_empty() && id.len() <= MAX_ID_BYTES);
    let id = id.map_or_else(|| new_id(prefix), str::to_owned);
    if !is_message(&item) {
        item["id"] = json!(id);
        if item["status"].is_null() && item["type"] != "reasoning" {
            item["status"] = json!("completed");
        }
        let lists: &[&str] = match item["type"].as_str() {
            Some("reasoning") => &["summary"],
            Some("file_search_call") => &["queries"],
            _ => &[],
        };
        fill(&mut item, lists);
        return item;
    }
    let is_assistant = item["role"] == "assistant";
    let content = match item["content"].take() {
        Value::String(text) if is_assistant => {
            json!([{ "type": "output_text", "text": text, "annotations": [], "logprobs": [] }])
        }
        Value::String(text) => json!([{ "type": "input_text", "text": text }]),
        mut parts => {
            let texts = parts.as_array_mut().into_iter().flatten();
            for text in texts.filter(|part| part["type"] == "output_text") {
                fill(text, &["annotations", "logprobs"]);
            }
            parts
        }
    };
    let status = item["status"].as_str().unwrap_or("completed");
    json!({
        "id": id,
        "type": "message",
        "status": status,
        "role": item["role"],
        "content": content,
    })
}

/// Gives lists that are missing to what has none.
fn fill(item: &mut Value, lists: &[&str]) {
    for list in lists {
        if !item[*list].is_array() {
            item[*list] = json!([]);
        }
    }
}

fn prefix(item: &Value) -> &'static str {
    match item["type"].as_str() {
        Some("function_call") => "fc_",
        Some("function_call_output") => "fco_",
        Some("reasoning") => "rs_",
        Some("file_search_call") => "fs_",
        _ => "msg_",
    }
}

/// An item of a response's output, to be kept.
pub fn written(body: Value) -> Item {
    Item {
        id: body["id"].as_str().unwrap_or_default().to_owned(),
        body,
        read_as: None,
    }
}

/// The item as it is shown: what a search found only where that is asked for.
pub fn shown(item: Item, include: &[&str]) -> Value {
    let mut body = item.body;
    if body["type"] == "file_search_call" && !include.contains(&"file_search_call.results") {
        body["results"] = Value::Null;
    }
    body
}
