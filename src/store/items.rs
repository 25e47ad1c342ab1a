//! Items of conversations and of responses: what was said, called and found, in its order. Their content is opaque here.

use rusqlite::{OptionalExtension, Row, Transaction, params, params_from_iter};
use serde_json::{Value, json};

use super::error::{Result, StoreError};
use super::json::Json;
use super::listing::{ListOptions, Page};
use super::{Store, new_id};

#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Also stands in `body`.
    pub id: String,
    pub body: Value,
    /// What the model reads, where that differs from `body`.
    pub read_as: Option<Value>,
}

/// Where items belong.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Conversation(i64),
    Response(&'a str),
}

impl Place<'_> {
    /// The condition that a row belongs here; its parameter is `key`.
    fn condition(self) -> &'static str {
        match self {
            Place::Conversation(_) => "conversation_row = ?",
            Place::Response(_) => "response_id = ?",
        }
    }

    fn key(self) -> rusqlite::types::Value {
        match self {
            Place::Conversation(row) => row.into(),
            Place::Response(id) => id.to_owned().into(),
        }
    }
}

impl Store {
    /// The item of this id, wherever it is kept; the newest, if it is kept more than once.
    pub async fn item(&self, id: &str) -> Result<Item> {
        let id = id.to_owned();
        let read = move |tx: &Transaction| {
            let sql = "SELECT id, body, read_as FROM items WHERE id = ? ORDER BY row DESC LIMIT 1";
            let found = tx.prepare_cached(sql)?.query_row([&id], from_row);
            found
                .optional()?
                .ok_or_else(|| StoreError::not_found("item", &id))
        };
        self.database().read(read).await
    }

    /// What a response was given.
    pub async fn input_items(&self, response_id: &str, list: ListOptions) -> Result<Page<Item>> {
        let id = response_id.to_owned();
        let read = move |tx: &Transaction| {
            let mut stored = tx.prepare_cached("SELECT 1 FROM responses WHERE id = ?")?;
            if !stored.exists([&id])? {
                return Err(StoreError::not_found("response", &id));
            }
            page(tx, Place::Response(&id), "is_input = 1", &list)
        };
        self.database().read(read).await
    }
}

pub(super) fn page(
    tx: &Transaction,
    place: Place<'_>,
    condition: &str,
    list: &ListOptions,
) -> Result<Page<Item>> {
    let window = list.window("row", |id| row_of(tx, place, id))?;
    let sql = format!(
        "SELECT id, body, read_as FROM items WHERE {} AND {condition}{}{}",
        place.condition(),
        window.conditions,
        window.order_and_limit
    );
    let mut values = vec![place.key()];
    values.extend(window.params.iter().cloned());
    let mut statement = tx.prepare_cached(&sql)?;
    let items = statement
        .query_map(params_from_iter(values), from_row)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(window.page(items))
}

pub(super) fn all(tx: &Transaction, place: Place<'_>) -> Result<Vec<Item>> {
    let sql = format!(
        "SELECT id, body, read_as FROM items WHERE {} ORDER BY row",
        place.condition()
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let items = statement.query_map([place.key()], from_row)?;
    Ok(items.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn one(tx: &Transaction, place: Place<'_>, id: &str) -> Result<Item> {
    let row = row_of(tx, place, id)?;
    let sql = "SELECT id, body, read_as FROM items WHERE row = ?";
    Ok(tx.prepare_cached(sql)?.query_row([row], from_row)?)
}

pub(super) fn delete(tx: &Transaction, place: Place<'_>, id: &str) -> Result<()> {
    let row = row_of(tx, place, id)?;
    tx.execute("DELETE FROM items WHERE row = ?", [row])?;
    Ok(())
}

/// Appends items. One whose id is there already gets another: clients send back what they were given. Returns them as
/// they are kept.
pub(super) fn append(
    tx: &Transaction,
    place: Place<'_>,
    is_input: bool,
    items: &[Item],
) -> Result<Vec<Item>> {
    let (conversation_row, response_id) = match place {
        Place::Conversation(row) => (Some(row), None),
        Place::Response(id) => (None, Some(id)),
    };
    let sql = "INSERT INTO items (id, conversation_row, response_id, is_input, body, read_as) VALUES (?, ?, ?, ?, ?, ?)";
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        let mut item = item.clone();
        if find(tx, place, &item.id)?.is_some() {
            let prefix = item.id.split_once('_').map_or("item", |(prefix, _)| prefix);
            item.id = new_id(&format!("{prefix}_"));
            item.body["id"] = json!(item.id);
        }
        tx.prepare_cached(sql)?.execute(params![
            item.id,
            conversation_row,
            response_id,
            is_input,
            Json(&item.body),
            item.read_as.as_ref().map(Json),
        ])?;
        kept.push(item);
    }
    Ok(kept)
}

fn row_of(tx: &Transaction, place: Place<'_>, id: &str) -> Result<i64> {
    find(tx, place, id)?.ok_or_else(|| StoreError::not_found("item", id))
}

fn find(tx: &Transaction, place: Place<'_>, id: &str) -> Result<Option<i64>> {
    let sql = format!(
        "SELECT row FROM items WHERE {} AND id = ?",
        place.condition()
    );
    let found = tx
        .prepare_cached(&sql)?
        .query_row(params![place.key(), id], |row| row.get(0));
    Ok(found.optional()?)
}

fn from_row(row: &Row) -> rusqlite::Result<Item> {
    Ok(Item {
        id: row.get(0)?,
        body: row.get::<_, Json<_>>(1)?.0,
        read_as: row.get::<_, Option<Json<_>>>(2)?.map(|json| json.0),
    })
}
