//! Conversations that the API keeps: a few words about each, and its items.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;

use super::error::{Result, StoreError};
use super::items::{self, Item, Place};
use super::json::Json;
use super::listing::{ListOptions, Page};
use super::{Store, new_id, unix_now};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredConversation {
    pub id: String,
    /// Seconds since 1970.
    pub created_at: i64,
    pub metadata: BTreeMap<String, String>,
}

impl Store {
    pub async fn create_conversation(
        &self,
        metadata: BTreeMap<String, String>,
        items: Vec<Item>,
    ) -> Result<StoredConversation> {
        let conversation = StoredConversation {
            id: new_id("conv_"),
            created_at: unix_now(),
            metadata,
        };
        let create = move |tx: &Transaction| {
            tx.execute(
                "INSERT INTO conversations (id, created_at, metadata) VALUES (?, ?, ?)",
                params![
                    conversation.id,
                    conversation.created_at,
                    Json(&conversation.metadata)
                ],
            )?;
            let place = Place::Conversation(tx.last_insert_rowid());
            items::append(tx, place, true, &items)?;
            Ok(conversation)
        };
        self.database().write(create).await
    }

    pub async fn conversation(&self, id: &str) -> Result<StoredConversation> {
        let id = id.to_owned();
        self.database().read(move |tx| get(tx, &id)).await
    }

    /// Replaces the metadata.
    pub async fn update_conversation(
        &self,
        id: &str,
        metadata: BTreeMap<String, String>,
    ) -> Result<StoredConversation> {
        let id = id.to_owned();
        let update = move |tx: &Transaction| {
            let sql = "UPDATE conversations SET metadata = ? WHERE id = ?";
            tx.execute(sql, params![Json(&metadata), id])?;
            get(tx, &id)
        };
        self.database().write(update).await
    }

    /// Deletes a conversation with its items.
    pub async fn delete_conversation(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        let delete = move |tx: &Transaction| {
            let row = row(tx, &id)?;
            tx.execute("DELETE FROM conversations WHERE row = ?", [row])?;
            Ok(())
        };
        self.database().write(delete).await
    }

    /// Appends items, and returns them as they are kept.
    pub async fn add_conversation_items(&self, id: &str, items: Vec<Item>) -> Result<Vec<Item>> {
        let id = id.to_owned();
        let add = move |tx: &Transaction| append(tx, &id, &items);
        self.database().write(add).await
    }

    pub async fn list_conversation_items(&self, id: &str, list: ListOptions) -> Result<Page<Item>> {
        let id = id.to_owned();
        let read = move |tx: &Transaction| {
            items::page(tx, Place::Conversation(row(tx, &id)?), "true", &list)
        };
        self.database().read(read).await
    }

    /// All items, the oldest first.
    pub async fn conversation_items(&self, id: &str) -> Result<Vec<Item>> {
        let id = id.to_owned();
        let read = move |tx: &Transaction| items::all(tx, Place::Conversation(row(tx, &id)?));
        self.database().read(read).await
    }

    pub async fn conversation_item(&self, id: &str, item_id: &str) -> Result<Item> {
        let (id, item_id) = (id.to_owned(), item_id.to_owned());
        let read =
            move |tx: &Transaction| items::one(tx, Place::Conversation(row(tx, &id)?), &item_id);
        self.database().read(read).await
    }

    pub async fn delete_conversation_item(
        &self,
        id: &str,
        item_id: &str,
    ) -> Result<StoredConversation> {
        let (id, item_id) = (id.to_owned(), item_id.to_owned());
        let delete = move |tx: &Transaction| {
            items::delete(tx, Place::Conversation(row(tx, &id)?), &item_id)?;
            get(tx, &id)
        };
        self.database().write(delete).await
    }
}

pub(super) fn append(tx: &Transaction, id: &str, items: &[Item]) -> Result<Vec<Item>> {
    items::append(tx, Place::Conversation(row(tx, id)?), true, items)
}

/// Changes what the model reads of an item; nothing is done where that is gone.
pub(super) fn read_as(tx: &Transaction, id: &str, item_id: &str, read: &Value) -> Result<()> {
    let sql = "UPDATE items SET read_as = ? WHERE conversation_row = ? AND id = ?";
    tx.execute(sql, params![Json(read), row(tx, id)?, item_id])?;
    Ok(())
}

fn row(tx: &Transaction, id: &str) -> Result<i64> {
    let found = tx
        .prepare_cached("SELECT row FROM conversations WHERE id = ?")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    found.ok_or_else(|| StoreError::not_found("conversation", id))
}

fn get(tx: &Transaction, id: &str) -> Result<StoredConversation> {
    let found = tx
        .prepare_cached("SELECT id, created_at, metadata FROM conversations WHERE id = ?")?
        .query_row([id], |row| {
            Ok(StoredConversation {
                id: row.get(0)?,
                created_at: row.get(1)?,
                metadata: row.get::<_, Json<_>>(2)?.0,
            })
        });
    found
        .optional()?
        .ok_or_else(|| StoreError::not_found("conversation", id))
}
