//! Chat completions that are kept: `store` in the request, and the routes that read them again.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::messages::{Message, Part};
use super::request::ChatRequest;
use super::shape::Completion;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::metadata;
use crate::http::openai::page::{self, Deleted, Direction, ListQuery, Listed, Page};
use crate::http::openai::parameters::SamplingFields;
use crate::http::openai::redact;
use crate::http::openai::tools::{OfferedFunction, WantedTool};
use crate::store::{Store, StoreError, StoredCompletion};

/// A completion that is kept, with what it repeats of its request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoredChatCompletion)]
struct Kept {
    #[serde(flatten)]
    completion: Completion,
    #[serde(flatten)]
    echo: Echo,
}

/// Parameters as they were sent; null where they were not.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatParameters)]
pub struct Echo {
    #[schema(required)]
    temperature: Option<f32>,
    #[schema(required)]
    top_p: Option<f32>,
    #[schema(required)]
    seed: Option<i64>,
    #[schema(required)]
    presence_penalty: Option<f32>,
    #[schema(required)]
    frequency_penalty: Option<f32>,
    /// The request's `user`.
    #[schema(required)]
    input_user: Option<String>,
    #[schema(required, value_type = Option<Vec<OfferedFunction>>)]
    tools: Option<Vec<Value>>,
    #[schema(required, value_type = Option<WantedTool>)]
    tool_choice: Option<Value>,
}

impl Echo {
    pub fn new(request: &ChatRequest, sampling: &SamplingFields) -> Self {
        Self {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            seed: sampling.seed,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            input_user: sampling.user.clone(),
            tools: request.tools.clone(),
            tool_choice: request.tool_choice.clone(),
        }
    }
}

/// What a completion is kept with.
pub struct Keeper {
    store: Store,
    metadata: BTreeMap<String, String>,
    messages: Value,
    echo: Echo,
}

impl Keeper {
    /// `None` where nothing is to be kept. Called before files are read into the messages: they are kept by name.
    pub fn new(
        context: &Context,
        request: &mut ChatRequest,
        echo: Echo,
    ) -> Result<Option<Self>, ApiError> {
        let metadata = metadata::checked(request.metadata.take().unwrap_or_default())?;
        if !request.store.unwrap_or(false) {
            return Ok(None);
        }
        Ok(Some(Self {
            store: context.workspace.store.clone(),
            metadata,
            messages: json!(request.messages),
            echo,
        }))
    }

    /// Keeps the completion, and returns it with its metadata.
    pub async fn keep(self, completion: Completion) -> Result<Completion, ApiError> {
        let (id, model) = (completion.id.clone(), completion.model.clone());
        let kept = Kept {
            completion,
            echo: self.echo,
        };
        let completion_kept = StoredCompletion {
            id,
            model,
            metadata: self.metadata.clone(),
            body: json!(kept),
            messages: self.messages,
        };
        self.store.save_completion(completion_kept).await?;
        Ok(kept.completion.with_metadata(self.metadata))
    }
}

fn shown(completion: StoredCompletion) -> Value {
    let mut body = completion.body;
    body["metadata"] = json!(completion.metadata);
    body
}

/// Lists the chat completions that are kept
///
/// The oldest first, unless it is asked for otherwise.
#[utoipa::path(
    get,
    path = "/chat/completions",
    operation_id = "list_chat_completions",
    tag = "Chat",
    params(
        ("model" = Option<String>, Query, description = "Only those of this model"),
        ("metadata" = Option<HashMap<String, String>>, Query, style = DeepObject, explode,
            description = "Only those with these pairs, as metadata[key]=value"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "20 when absent"),
        ("order" = inline(Option<Direction>), Query, description = "By the time they were made; asc when absent"),
        ("after" = Option<String>, Query, description = "The last id of the page before"),
    ),
    responses((status = 200, body = Page<Kept>))
)]
pub async fn list(
    context: web::Data<Context>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let model = query.value("model").filter(|name| !name.is_empty());
    let model = model.map(|name| context.workspace.models.id(name).to_owned());
    // The only list whose own order is the oldest first.
    let list = query.ascending()?;
    let store = &context.workspace.store;
    let page = store
        .list_completions(model, query.metadata()?, list)
        .await?;
    let data = page.items.into_iter().map(shown).collect();
    let data = redact::all_without_deleted(&context.workspace.store, data).await?;
    Ok(HttpResponse::Ok().json(page::list(data, page.has_more)))
}

/// Shows a chat completion that is kept
#[utoipa::path(
    get,
    path = "/chat/completions/{id}",
    operation_id = "get_chat_completion",
    tag = "Chat",
    params(("id" = String, Path)),
    responses((status = 200, body = Kept))
)]
pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let found = context.workspace.store.completion(&id).await?;
    let store = &context.workspace.store;
    let shown = redact::without_deleted(store, shown(found)).await?;
    Ok(HttpResponse::Ok().json(shown))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UpdateChatCompletion)]
pub struct UpdateRequest {
    /// In place of what was there: at most 16 pairs; keys have at most 64 characters, values 512.
    #[schema(value_type = HashMap<String, String>)]
    metadata: Map<String, Value>,
}

/// Changes the metadata of a chat completion that is kept
#[utoipa::path(
    post,
    path = "/chat/completions/{id}",
    operation_id = "update_chat_completion",
    tag = "Chat",
    params(("id" = String, Path)),
    request_body = UpdateRequest,
    responses((status = 200, body = Kept))
)]
pub async fn update(
    context: web::Data<Context>,
    id: web::Path<String>,
    body: JsonBody<UpdateRequest>,
) -> Result<HttpResponse, ApiError> {
    let metadata = metadata::checked(body.0.metadata)?;
    let updated = context.workspace.store.update_completion(&id, metadata);
    let store = &context.workspace.store;
    let shown = redact::without_deleted(store, shown(updated.await?)).await?;
    Ok(HttpResponse::Ok().json(shown))
}

/// Deletes a chat completion that is kept
#[utoipa::path(
    delete,
    path = "/chat/completions/{id}",
    operation_id = "delete_chat_completion",
    tag = "Chat",
    params(("id" = String, Path)),
    responses((status = 200, body = Deleted))
)]
pub async fn delete(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.store.delete_completion(&id).await?;
    let deleted = Deleted::new(id.into_inner(), "chat.completion.deleted");
    Ok(HttpResponse::Ok().json(deleted))
}

/// A message that a completion answers.
#[derive(Debug, Serialize, ToSchema)]
struct StoredMessage {
    /// The completion's id and the number of the message's place.
    id: String,
    /// Its content is text; parts stand in `content_parts`.
    #[serde(flatten)]
    #[schema(value_type = Message)]
    message: Map<String, Value>,
    #[schema(required, value_type = Option<Vec<Part>>)]
    content_parts: Option<Vec<Value>>,
}

impl StoredMessage {
    /// Its text is apart from its parts, where it has parts.
    fn new(id: &str, at: usize, message: Value) -> Self {
        let mut message = match message {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let mut content_parts = None;
        if let Some(Value::Array(parts)) = message.get("content").cloned() {
            let texts = parts.iter().filter_map(|part| part["text"].as_str());
            message.insert("content".into(), json!(texts.collect::<String>()));
            content_parts = Some(parts);
        }
        Self {
            id: format!("{id}-{at}"),
            message,
            content_parts,
        }
    }
}

impl Listed for StoredMessage {
    fn id(&self) -> &str {
        &self.id
    }
}

/// Lists the messages that a kept completion answers
///
/// The oldest first, unless it is asked for otherwise.
#[utoipa::path(
    get,
    path = "/chat/completions/{id}/messages",
    operation_id = "list_chat_completion_messages",
    tag = "Chat",
    params(
        ("id" = String, Path),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "20 when absent"),
        ("order" = inline(Option<Direction>), Query, description = "asc when absent"),
        ("after" = Option<String>, Query, description = "The last id of the page before"),
    ),
    responses((status = 200, body = Page<StoredMessage>))
)]
pub async fn messages(
    context: web::Data<Context>,
    id: web::Path<String>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let found = context.workspace.store.completion(&id).await?;
    let list = query.ascending()?;
    let given = found.messages.as_array().cloned().unwrap_or_default();
    let messages = given.into_iter().enumerate();
    let mut messages: Vec<StoredMessage> = messages
        .map(|(at, it)| StoredMessage::new(&id, at, it))
        .collect();
    if list.order == crate::store::Order::Desc {
        messages.reverse();
    }
    if let Some(after) = &list.after {
        let place = messages.iter().position(|it| it.id == *after);
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
