//! API responses, kept so that they can be fetched again and continued. Their content is opaque here.

use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;

use super::error::{Result, StoreError};
use super::items::{self, Item, Place};
use super::json::Json;
use super::{Store, conversations};

#[derive(Debug, Clone, PartialEq)]
pub struct StoredResponse {
    pub id: String,
    /// Seconds since 1970.
    pub created_at: i64,
    pub body: Value,
    pub input: Value,
    /// The response this one continues, which may have been deleted since.
    pub previous_id: Option<String>,
    /// The process that works on it (`processes.rs`); `None` once it has ended.
    pub owner: Option<String>,
    /// Whether its events are kept.
    pub is_streamed: bool,
}

/// What is to be remembered of a response that has been written.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// `None` where only the conversation remembers it.
    pub response: Option<StoredResponse>,
    pub input: Vec<Item>,
    pub output: Vec<Item>,
    /// Both are appended to it.
    pub conversation_id: Option<String>,
    /// What the model reads from now on of an item that the conversation has had before, by its id.
    pub read_as: Option<(String, Value)>,
    /// Of a response that is streamed from the background.
    pub events: Option<String>,
}

impl Store {
    /// Keeps a response that is still to be written, with the items that it is given.
    pub async fn begin_response(&self, response: StoredResponse, input: Vec<Item>) -> Result<()> {
        let begin = move |tx: &Transaction| {
            insert(tx, &response)?;
            items::append(tx, Place::Response(&response.id), true, &input)?;
            Ok(())
        };
        self.database().write(begin).await
    }

    /// Replaces what is shown of a response that has not ended. False when it has, or is deleted.
    pub async fn update_response(&self, id: &str, body: Value) -> Result<bool> {
        let id = id.to_owned();
        let update = move |tx: &Transaction| {
            let sql = "UPDATE responses SET body = ? WHERE id = ? AND owner IS NOT NULL";
            Ok(tx.execute(sql, params![Json(body), id])? == 1)
        };
        self.database().write(update).await
    }

    /// Ends a response that has not ended. False when it has, or is deleted: the first to end it decides. `events` are
    /// those of one that is streamed, where they are known.
    pub async fn end_response(
        &self,
        id: &str,
        body: Value,
        events: Option<String>,
    ) -> Result<bool> {
        let id = id.to_owned();
        let end = move |tx: &Transaction| {
            let sql =
                "UPDATE responses SET body = ?, owner = NULL WHERE id = ? AND owner IS NOT NULL";
            let is_first = tx.execute(sql, params![Json(body), id])? == 1;
            if is_first {
                keep_events(tx, &id, events.as_deref())?;
            }
            Ok(is_first)
        };
        self.database().write(end).await
    }

    /// The events of a streamed response that has ended. `None` where none are kept.
    pub async fn response_events(&self, id: &str) -> Result<Option<String>> {
        let id = id.to_owned();
        let read = move |tx: &Transaction| {
            let sql = "SELECT events FROM response_events WHERE response_id = ?";
            let found = tx.prepare_cached(sql)?.query_row([id], |row| row.get(0));
            Ok(found.optional()?.flatten())
        };
        self.database().read(read).await
    }

    /// Keeps a response that was written at once.
    pub async fn save_written(&self, written: Written) -> Result<()> {
        let save = move |tx: &Transaction| {
            if let Some(response) = &written.response {
                let place = Place::Response(&response.id);
                insert(tx, response)?;
                items::append(tx, place, true, &written.input)?;
                items::append(tx, place, false, &written.output)?;
            }
            continue_conversation(tx, &written)
        };
        self.database().write(save).await
    }

    /// Keeps what was written for a response that was begun with its input. Nothing is kept, and false is the answer,
    /// when it has ended meanwhile.
    pub async fn finish_response(&self, written: Written) -> Result<bool> {
        let finish = move |tx: &Transaction| {
            let Some(response) = &written.response else {
                return Ok(false);
            };
            let sql = "UPDATE responses SET body = ?, input = ?, owner = NULL WHERE id = ? AND owner IS NOT NULL";
            let changed = tx.execute(
                sql,
                params![Json(&response.body), Json(&response.input), response.id],
            )?;
            if changed == 0 {
                return Ok(false);
            }
            items::append(tx, Place::Response(&response.id), false, &written.output)?;
            keep_events(tx, &response.id, written.events.as_deref())?;
            continue_conversation(tx, &written)?;
            Ok(true)
        };
        self.database().write(finish).await
    }

    pub async fn response(&self, id: &str) -> Result<StoredResponse> {
        let id = id.to_owned();
        let read = move |tx: &Transaction| {
            let sql = "SELECT id, created_at, body, input, previous_id, owner, \
                       EXISTS (SELECT 1 FROM response_events WHERE response_id = id) FROM responses WHERE id = ?";
            let found = tx.prepare_cached(sql)?.query_row([&id], |row| {
                Ok(StoredResponse {
                    id: row.get(0)?,
                    created_at: row.get(1)?,
                    body: row.get::<_, Json<_>>(2)?.0,
                    input: row.get::<_, Json<_>>(3)?.0,
                    previous_id: row.get(4)?,
                    owner: row.get(5)?,
                    is_streamed: row.get(6)?,
                })
            });
            found
                .optional()?
                .ok_or_else(|| StoreError::not_found("response", &id))
        };
        self.database().read(read).await
    }

    pub async fn delete_response(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        let delete = move |tx: &Transaction| match tx
            .execute("DELETE FROM responses WHERE id = ?", [&id])?
        {
            0 => Err(StoreError::not_found("response", &id)),
            _ => Ok(()),
        };
        self.database().write(delete).await
    }
}

fn insert(tx: &Transaction, response: &StoredResponse) -> Result<()> {
    let sql = "INSERT INTO responses (id, created_at, body, input, previous_id, owner) VALUES (?, ?, ?, ?, ?, ?)";
    tx.execute(
        sql,
        params![
            response.id,
            response.created_at,
            Json(&response.body),
            Json(&response.input),
            response.previous_id,
            response.owner
        ],
    )?;
    if response.is_streamed {
        let sql = "INSERT INTO response_events (response_id) VALUES (?)";
        tx.execute(sql, [&response.id])?;
    }
    Ok(())
}

fn keep_events(tx: &Transaction, id: &str, events: Option<&str>) -> Result<()> {
    let sql = "UPDATE response_events SET events = ? WHERE response_id = ?";
    tx.execute(sql, params![events, id])?;
    Ok(())
}

fn continue_conversation(tx: &Transaction, written: &Written) -> Result<()> {
    if let Some(id) = &written.conversation_id {
        if let Some((item_id, read_as)) = &written.read_as {
            conversations::read_as(tx, id, item_id, read_as)?;
        }
        conversations::append(tx, id, &written.input)?;
        conversations::append(tx, id, &written.output)?;
    }
    Ok(())
}
