//! `/v1/conversations`: what was said, kept item by item, for responses to continue.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::file_parts::TextBudget;
use crate::http::openai::metadata;
use crate::http::openai::page::{self, ListQuery};
use crate::http::openai::responses::item;
use crate::store::{Item, StoredConversation};

/// Items that may be added at once.
const MAX_ITEMS: usize = 20;

#[derive(Debug, Deserialize)]
pub struct CreateRequest {
    metadata: Option<Map<String, Value>>,
    items: Option<Value>,
}

pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<CreateRequest>,
) -> Result<HttpResponse, ApiError> {
    let metadata = metadata::checked(body.0.metadata.unwrap_or_default())?;
    let items = match body.0.items.filter(|items| !items.is_null()) {
        Some(items) => checked(&context, items).await?,
        None => Vec::new(),
    };
    let store = &context.workspace.store;
    let created = store.create_conversation(metadata, items).await?;
    Ok(HttpResponse::Ok().json(conversation_json(&created)))
}

pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let found = context.workspace.store.conversation(&id).await?;
    Ok(HttpResponse::Ok().json(conversation_json(&found)))
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
    let store = &context.workspace.store;
    let updated = store.update_conversation(&id, metadata).await?;
    Ok(HttpResponse::Ok().json(conversation_json(&updated)))
}

pub async fn delete(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.store.delete_conversation(&id).await?;
    let deleted = json!({ "id": *id, "object": "conversation.deleted", "deleted": true });
    Ok(HttpResponse::Ok().json(deleted))
}

#[derive(Debug, Deserialize)]
pub struct AddRequest {
    items: Value,
}

pub async fn add_items(
    context: web::Data<Context>,
    id: web::Path<String>,
    query: web::Query<ListQuery>,
    body: JsonBody<AddRequest>,
) -> Result<HttpResponse, ApiError> {
    let store = &context.workspace.store;
    // Files are read only for a conversation that there is.
    store.conversation(&id).await?;
    let items = checked(&context, body.0.items).await?;
    let kept = store.add_conversation_items(&id, items).await?;
    let include = query.include();
    let data = kept.into_iter().map(|it| item::shown(it, &include));
    Ok(HttpResponse::Ok().json(page::list(data.collect(), false)))
}

pub async fn list_items(
    context: web::Data<Context>,
    id: web::Path<String>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let store = &context.workspace.store;
    let list = query.request(20, 100)?;
    let page = store.list_conversation_items(&id, list).await?;
    let include = query.include();
    let data = page.items.into_iter().map(|it| item::shown(it, &include));
    Ok(HttpResponse::Ok().json(page::list(data.collect(), page.has_more)))
}

pub async fn get_item(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let (id, item_id) = &*path;
    let found = context.workspace.store.conversation_item(id, item_id);
    let shown = item::shown(found.await?, &query.include());
    Ok(HttpResponse::Ok().json(shown))
}

pub async fn delete_item(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (id, item_id) = &*path;
    let store = &context.workspace.store;
    let conversation = store.delete_conversation_item(id, item_id).await?;
    Ok(HttpResponse::Ok().json(conversation_json(&conversation)))
}

async fn checked(context: &Context, items: Value) -> Result<Vec<Item>, ApiError> {
    let mut budget = TextBudget::of_a_request();
    let given = item::checked(context, few(items)?, "items", &mut budget).await?;
    Ok(given.into_iter().map(|given| given.item).collect())
}

fn few(items: Value) -> Result<Value, ApiError> {
    let num_items = items.as_array().map(Vec::len);
    match num_items {
        Some(num_items) if num_items <= MAX_ITEMS => Ok(items),
        Some(num_items) => {
            let message = format!("items has {num_items} items, but may have {MAX_ITEMS} at once");
            Err(ApiError::invalid("items", message))
        }
        None => Err(ApiError::invalid(
            "items",
            "items must be an array of items",
        )),
    }
}

fn conversation_json(conversation: &StoredConversation) -> Value {
    json!({
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": conversation.metadata,
    })
}
