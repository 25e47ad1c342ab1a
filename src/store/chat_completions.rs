//! Chat completions that were asked to be kept. Their content is opaque here.

use std::collections::BTreeMap;

use rusqlite::types::Value as SqlValue;
use rusqlite::{OptionalExtension, Row, Transaction, params, params_from_iter};
use serde_json::Value;

use super::Store;
use super::error::{Result, StoreError};
use super::json::Json;
use super::listing::{ListOptions, Page};

#[derive(Debug, Clone, PartialEq)]
pub struct StoredCompletion {
    pub id: String,
    pub model: String,
    pub metadata: BTreeMap<String, String>,
    /// Without the metadata, which may change.
    pub body: Value,
    /// What it answers.
    pub messages: Value,
}

const COLUMNS: &str = "id, model, metadata, body, messages";

impl Store {
    pub async fn save_completion(&self, completion: StoredCompletion) -> Result<()> {
        let save = move |tx: &Transaction| {
            tx.execute(
                "INSERT INTO chat_completions (id, model, metadata, body, messages) VALUES (?, ?, ?, ?, ?)",
                params![
                    completion.id,
                    completion.model,
                    Json(&completion.metadata),
                    Json(&completion.body),
                    Json(&completion.messages)
                ],
            )?;
            Ok(())
        };
        self.database().write(save).await
    }

    pub async fn completion(&self, id: &str) -> Result<StoredCompletion> {
        let id = id.to_owned();
        self.database().read(move |tx| get(tx, &id)).await
    }

    /// Completions of `model`, if one is given, that have all of `metadata`.
    pub async fn list_completions(
        &self,
        model: Option<String>,
        metadata: BTreeMap<String, String>,
        list: ListOptions,
    ) -> Result<Page<StoredCompletion>> {
        let read = move |tx: &Transaction| {
            let window = list.window("row", |id| row_of(tx, id))?;
            let mut conditions = String::from("true");
            let mut values: Vec<SqlValue> = Vec::new();
            if let Some(model) = model {
                conditions += " AND model = ?";
                values.push(model.into());
            }
            for (key, value) in metadata {
                conditions += " AND EXISTS (SELECT 1 FROM json_each(metadata) AS pair WHERE pair.key = ? AND pair.value = ?)";
                values.extend([key.into(), value.into()]);
            }
            values.extend(window.params.iter().cloned());
            let sql = format!(
                "SELECT {COLUMNS} FROM chat_completions WHERE {conditions}{}{}",
                window.conditions, window.order_and_limit
            );
            let mut statement = tx.prepare(&sql)?;
            let found = statement
                .query_map(params_from_iter(values), from_row)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(window.page(found))
        };
        self.database().read(read).await
    }

    /// Replaces the metadata.
    pub async fn update_completion(
        &self,
        id: &str,
        metadata: BTreeMap<String, String>,
    ) -> Result<StoredCompletion> {
        let id = id.to_owned();
        let update = move |tx: &Transaction| {
            let sql = "UPDATE chat_completions SET metadata = ? WHERE id = ?";
            tx.execute(sql, params![Json(&metadata), id])?;
            get(tx, &id)
        };
        self.database().write(update).await
    }

    pub async fn delete_completion(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        let delete = move |tx: &Transaction| {
            let row = row_of(tx, &id)?;
            tx.execute("DELETE FROM chat_completions WHERE row = ?", [row])?;
            Ok(())
        };
        self.database().write(delete).await
    }
}

fn row_of(tx: &Transaction, id: &str) -> Result<i64> {
    let found = tx
        .prepare_cached("SELECT row FROM chat_completions WHERE id = ?")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    found.ok_or_else(|| StoreError::not_found("chat completion", id))
}

fn get(tx: &Transaction, id: &str) -> Result<StoredCompletion> {
    let sql = format!("SELECT {COLUMNS} FROM chat_completions WHERE id = ?");
    let found = tx
        .prepare_cached(&sql)?
        .query_row([id], from_row)
        .optional()?;
    found.ok_or_else(|| StoreError::not_found("chat completion", id))
}

fn from_row(row: &Row) -> rusqlite::Result<StoredCompletion> {
    Ok(StoredCompletion {
        id: row.get(0)?,
        model: row.get(1)?,
        metadata: row.get::<_, Json<_>>(2)?.0,
        body: row.get::<_, Json<_>>(3)?.0,
        messages: row.get::<_, Json<_>>(4)?.0,
    })
}
