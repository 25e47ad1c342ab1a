//! API responses, kept so that they can be fetched again and continued. Their content is opaque here.

use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;

use super::Store;
use super::error::{Result, StoreError};
use super::json::Json;

#[derive(Debug, Clone, PartialEq)]
pub struct StoredResponse {
    pub id: String,
    /// Seconds since 1970.
    pub created_at: i64,
    pub body: Value,
    pub input: Value,
    /// The response this one continues, which may have been deleted since.
    pub previous_id: Option<String>,
}

impl Store {
    /// Keeps a response, in the place of an earlier one with the same id.
    pub async fn save_response(&self, response: StoredResponse) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO responses (id, created_at, body, input, previous_id) VALUES (?, ?, ?, ?, ?)";
        let save = move |tx: &Transaction| {
            let StoredResponse {
                id,
                created_at,
                body,
                input,
                previous_id,
            } = response;
            tx.execute(
                sql,
                params![id, created_at, Json(body), Json(input), previous_id],
            )?;
            Ok(())
        };
        self.database().write(save).await
    }

    pub async fn response(&self, id: &str) -> Result<StoredResponse> {
        let id = id.to_owned();
        let read = move |tx: &Transaction| {
            let sql = "SELECT id, created_at, body, input, previous_id FROM responses WHERE id = ?";
            let found = tx.prepare_cached(sql)?.query_row([&id], |row| {
                Ok(StoredResponse {
                    id: row.get(0)?,
                    created_at: row.get(1)?,
                    body: row.get::<_, Json<_>>(2)?.0,
                    input: row.get::<_, Json<_>>(3)?.0,
                    previous_id: row.get(4)?,
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
