//! `/v1/conversations`: what was said, kept item by item, for responses to continue.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::file_parts::TextBudget;
use crate::http::openai::metadata;
use crate::http::openai::page::{self, Deleted, IncludeQuery, ListQuery, Page, PageQuery};
use crate::http::openai::redact;
use crate::http::openai::responses::item;
use crate::http::openai::responses::item_shapes::{InputItem, Item};
use crate::store::{self, StoredConversation};

/// Items that may be added at once.
const MAX_ITEMS: usize = 20;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateConversation)]
pub struct CreateRequest {
    #[schema(schema_with = metadata::schema)]
    metadata: Option<Map<String, Value>>,
    #[schema(value_type = Option<Vec<InputItem>>, max_items = 20)]
    items: Option<Value>,
}

/// What was said, kept item by item.
#[derive(Debug, Serialize, ToSchema)]
pub struct Conversation {
    id: String,
    /// Always `conversation`.
    object: &'static str,
    /// Unix seconds.
    created_at: i64,
    metadata: BTreeMap<String, String>,
}

impl From<StoredConversation> for Conversation {
    fn from(conversation: StoredConversation) -> Self {
        Self {
            id: conversation.id,
            object: "conversation",
            created_at: conversation.created_at,
            metadata: conversation.metadata,
        }
    }
}

/// Begins a conversation
#[utoipa::path(
    post,
    path = "/conversations",
    operation_id = "create_conversation",
    tag = "Conversations",
    request_body = CreateRequest,
    responses((status = 200, body = Conversation))
)]
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
    Ok(HttpResponse::Ok().json(Conversation::from(created)))
}

/// Shows a conversation
#[utoipa::path(
    get,
    path = "/conversations/{id}",
    operation_id = "get_conversation",
    tag = "Conversations",
    params(("id" = String, Path)),
    responses((status = 200, body = Conversation))
)]
pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let found = context.workspace.store.conversation(&id).await?;
    Ok(HttpResponse::Ok().json(Conversation::from(found)))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UpdateConversation)]
pub struct UpdateRequest {
    /// Takes the place of what there was.
    #[schema(value_type = BTreeMap<String, String>)]
    metadata: Map<String, Value>,
}

/// Changes the metadata of a conversation
#[utoipa::path(
    post,
    path = "/conversations/{id}",
    operation_id = "update_conversation",
    tag = "Conversations",
    params(("id" = String, Path)),
    request_body = UpdateRequest,
    responses((status = 200, body = Conversation))
)]
pub async fn update(
    context: web::Data<Context>,
    id: web::Path<String>,
    body: JsonBody<UpdateRequest>,
) -> Result<HttpResponse, ApiError> {
    let metadata = metadata::checked(body.0.metadata)?;
    let store = &context.workspace.store;
    let updated = store.update_conversation(&id, metadata).await?;
    Ok(HttpResponse::Ok().json(Conversation::from(updated)))
}

/// Deletes a conversation
///
/// Its items go with it.
#[utoipa::path(
    delete,
    path = "/conversations/{id}",
    operation_id = "delete_conversation",
    tag = "Conversations",
    params(("id" = String, Path)),
    responses((status = 200, body = Deleted))
)]
pub async fn delete(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.store.delete_conversation(&id).await?;
    Ok(HttpResponse::Ok().json(Deleted::new(&*id, "conversation.deleted")))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AddConversationItems)]
pub struct AddRequest {
    #[schema(value_type = Vec<InputItem>, max_items = 20)]
    items: Value,
}

/// Adds items to a conversation
#[utoipa::path(
    post,
    path = "/conversations/{id}/items",
    operation_id = "add_conversation_items",
    tag = "Conversations",
    params(("id" = String, Path), IncludeQuery),
    request_body = AddRequest,
    responses((status = 200, body = Page<Item>))
)]
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
    let data = redact::all_without_deleted(store, data.collect()).await?;
    Ok(HttpResponse::Ok().json(page::list(data, false)))
}

/// Lists the items of a conversation
#[utoipa::path(
    get,
    path = "/conversations/{id}/items",
    operation_id = "list_conversation_items",
    tag = "Conversations",
    params(("id" = String, Path), PageQuery, IncludeQuery),
    responses((status = 200, body = Page<Item>))
)]
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
    let data = redact::all_without_deleted(store, data.collect()).await?;
    Ok(HttpResponse::Ok().json(page::list(data, page.has_more)))
}

/// Shows one item of a conversation
#[utoipa::path(
    get,
    path = "/conversations/{id}/items/{item}",
    operation_id = "get_conversation_item",
    tag = "Conversations",
    params(("id" = String, Path), ("item" = String, Path), IncludeQuery),
    responses((status = 200, body = Item))
)]
pub async fn get_item(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let (id, item_id) = &*path;
    let store = &context.workspace.store;
    let found = store.conversation_item(id, item_id).await?;
    let shown = item::shown(found, &query.include());
    let shown = redact::without_deleted(store, shown).await?;
    Ok(HttpResponse::Ok().json(shown))
}

/// Deletes one item of a conversation
///
/// What is answered is the conversation.
#[utoipa::path(
    delete,
    path = "/conversations/{id}/items/{item}",
    operation_id = "delete_conversation_item",
    tag = "Conversations",
    params(("id" = String, Path), ("item" = String, Path)),
    responses((status = 200, body = Conversation))
)]
pub async fn delete_item(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (id, item_id) = &*path;
    let store = &context.workspace.store;
    let conversation = store.delete_conversation_item(id, item_id).await?;
    Ok(HttpResponse::Ok().json(Conversation::from(conversation)))
}

async fn checked(context: &Context, items: Value) -> Result<Vec<store::Item>, ApiError> {
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
