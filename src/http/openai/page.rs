//! Cursor pages of lists, as OpenAI clients follow them.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::error::ApiError;
use crate::store::{ListOptions, Order};

/// The query string of a list.
#[derive(Debug, Deserialize)]
pub struct PageQuery {
    limit: Option<usize>,
    order: Option<String>,
    after: Option<String>,
    before: Option<String>,
    /// Status of files in a vector store.
    pub filter: Option<String>,
    /// Purpose of files.
    pub purpose: Option<String>,
}

impl PageQuery {
    /// The page asked for: `default` items, at most `max`.
    pub fn request(&self, default: usize, max: usize) -> Result<ListOptions, ApiError> {
        let limit = self.limit.unwrap_or(default);
        if !(1..=max).contains(&limit) {
            return Err(ApiError::invalid("limit", format!("limit is {limit}, but must be between 1 and {max}")));
        }
        let order = match self.order.as_deref() {
            None | Some("desc") => Order::Desc,
            Some("asc") => Order::Asc,
            Some(other) => {
                return Err(ApiError::invalid("order", format!("order is '{other}', but must be 'asc' or 'desc'")));
            }
        };
        Ok(ListOptions { limit, order, after: self.after.clone(), before: self.before.clone() })
    }
}

/// A page in the API's shape.
pub fn list(data: Vec<Value>, has_more: bool) -> Value {
    let id = |item: Option<&Value>| item.map_or(json!(""), |item| item["id"].clone());
    json!({
        "object": "list",
        "first_id": id(data.first()),
        "last_id": id(data.last()),
        "has_more": has_more,
        "data": data,
    })
}
