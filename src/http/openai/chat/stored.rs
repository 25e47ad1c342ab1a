//! Chat completions that are kept: `store` in the request, and the routes that read them again.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ChatRequest;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::metadata;
use crate::http::openai::page::{self, ListQuery};
use crate::http::openai::parameters::SamplingFields;
use crate::store::{Store, StoreError, StoredCompletion};

/// What a completion is kept with.
pub struct Keeper {
    store: Store,
    metadata: BTreeMap<String, String>,
    messages: Value,
    /// What the stored object repeats of its request.
    echo: Map<String, Value>,
}

impl Keeper {
    /// `None` where nothing is to be kept. Called before files are read into the messages: they are kept by name.
    pub fn new(
        context: &Context,
        request: &mut ChatRequest,
        sampling: &Map<String, Value>,
    ) -> Result<Option<Self>, ApiError> {
        let metadata = metadata::checked(request.metadata.take().unwrap_or_default())?;
        if !request.store.unwrap_or(false) {
            return Ok(None);
        }
        let mut echo = sampling.clone();
        echo.insert("tools".into(), json!(request.tools));
        echo.insert("tool_choice".into(), json!(request.tool_choice));
        Ok(Some(Self {
            store: context.workspace.store.clone(),
            metadata,
            messages: json!(request.messages),
            echo,
        }))
    }

    /// Keeps the completion, and returns it with its metadata.
    pub async fn keep(self, mut completion: Value) -> Result<Value, ApiError> {
        let text = |key: &str| completion[key].as_str().unwrap_or_default().to_owned();
        let (id, model) = (text("id"), text("model"));
        let mut body = completion.clone();
        if let Some(body) = body.as_object_mut() {
            body.extend(self.echo);
        }
        completion["metadata"] = json!(self.metadata);
        let completion_kept = StoredCompletion {
            id,
            model,
            metadata: self.metadata,
            body,
            messages: self.messages,
        };
        self.store.save_completion(completion_kept).await?;
        Ok(completion)
    }
}

/// The sampling parameters as they were sent.
pub fn sampling_json(sampling: &SamplingFields) -> Map<String, Value> {
    let fields = json!({
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "input_user": sampling.user,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn shown(completion: StoredCompletion) -> Value {
    let mut body = completion.body;
    body["metadata"] = json!(completion.metadata);
    body
}

pub async fn list(
    context: web::Data<Context>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let model = query.value("model");
    let model = model.map(|name| context.workspace.models.id(name).to_owned());
    // The only list whose own order is the oldest first.
    let list = query.ascending()?;
    let store = &context.workspace.store;
    let page = store
        .list_completions(model, query.metadata()?, list)
        .await?;
    let data = page.items.into_iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(page::list(data, page.has_more)))
}

pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let found = context.workspace.store.completion(&id).await?;
    Ok(HttpResponse::Ok().json(shown(found)))
}

#[derive(Debug, Deserialize)]
pub struct UpdateRequest {
    metadata: Map<String, Value>,
}

pub async fn update(
    context: web::Data<Context>,
    id: web::Path<String>,
    body: JsonBody<UpdateRequest>,
) -> Result<HttpResponse, ApiError> {
    let metadata = metadata::checked(body.0.metadata)?;
    let updated = context.workspace.store.update_completion(&id, metadata);
    Ok(HttpResponse::Ok().json(shown(updated.await?)))
}

pub async fn delete(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.store.delete_completion(&id).await?;
    let deleted = json!({ "id": *id, "object": "chat.completion.deleted", "deleted": true });
    Ok(HttpResponse::Ok().json(deleted))
}

/// The messages that a completion answers, by the numbers of their places.
pub async fn messages(
    context: web::Data<Context>,
    id: web::Path<String>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let found = context.workspace.store.completion(&id).await?;
    let list = query.ascending()?;
    let given = found.messages.as_array().cloned().unwrap_or_default();
    let messages = given.into_iter().enumerate();
    let mut messages: Vec<Value> = messages.map(|(at, it)| message_json(&id, at, it)).collect();
    if list.order == crate::store::Order::Desc {
        messages.reverse();
    }
    if let Some(after) = &list.after {
        let place = messages.iter().position(|it| it["id"] == after.as_str());
        let place = place.ok_or_else(|| StoreError::NotFound {
            kind: "message",
            id: after.clone(),
        })?;
        messages.drain(..=place);
    }
    let has_more = messages.len() > list.limit;
    messages.truncate(list.limit);
    Ok(HttpResponse::Ok().json(page::list(messages, has_more)))
}

/// A message with an id; its text is apart from its parts, where it has parts.
fn message_json(id: &str, at: usize, mut message: Value) -> Value {
    message["id"] = json!(format!("{id}-{at}"));
    message["content_parts"] = Value::Null;
    if let Some(parts) = message["content"].as_array().cloned() {
        let texts = parts.iter().filter_map(|part| part["text"].as_str());
        message["content"] = json!(texts.collect::<String>());
        message["content_parts"] = json!(parts);
    }
    message
}
