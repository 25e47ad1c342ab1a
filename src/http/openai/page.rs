//! Cursor pages of lists, as OpenAI clients follow them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

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
            return Err(ApiError::invalid(
                "limit",
                format!("limit is {limit}, but must be between 1 and {max}"),
            ));
        }
        let order = match self.order.as_deref() {
            None | Some("desc") => Order::Desc,
            Some("asc") => Order::Asc,
            Some(other) => {
                return Err(ApiError::invalid(
                    "order",
                    format!("order is '{other}', but must be 'asc' or 'desc'"),
                ));
            }
        };
        Ok(ListOptions {
            limit,
            order,
            after: self.after.clone(),
            before: self.before.clone(),
        })
    }
}

/// The query string of a list whose parameters may be repeated, as `include[]=a&include[]=b`, or have names of their
/// own, as `metadata[topic]=x`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct ListQuery(Vec<(String, String)>);

impl ListQuery {
    /// The page asked for: `default` items, at most `max`.
    pub fn request(&self, default: usize, max: usize) -> Result<ListOptions, ApiError> {
        let limit = self.value("limit").map(|limit| {
            let number = limit.parse();
            number.map_err(|_| {
                let message = format!("limit is '{limit}', but must be a number");
                ApiError::invalid("limit", message)
            })
        });
        let query = PageQuery {
            limit: limit.transpose()?,
            order: self.value("order").map(str::to_owned),
            after: self.value("after").map(str::to_owned),
            before: self.value("before").map(str::to_owned),
            filter: None,
            purpose: None,
        };
        query.request(default, max)
    }

    /// The page asked for of a list that begins with the oldest unless it is asked for otherwise.
    pub fn ascending(&self) -> Result<ListOptions, ApiError> {
        let mut list = self.request(20, 100)?;
        if self.value("order").is_none() {
            list.order = Order::Asc;
        }
        Ok(list)
    }

    /// The last value of this name; an empty one counts as absent.
    pub fn value(&self, name: &str) -> Option<&str> {
        let pairs = self.0.iter().rev().filter(|(_, value)| !value.is_empty());
        let mut values = pairs.filter(|(key, _)| key == name);
        values.next().map(|(_, value)| value.as_str())
    }

    /// What is to be shown besides the usual.
    pub fn include(&self) -> Vec<&str> {
        let is_include = |key: &str| key == "include" || key.starts_with("include[");
        let pairs = self.0.iter().filter(|(key, _)| is_include(key));
        pairs.flat_map(|(_, value)| value.split(',')).collect()
    }

    /// The pairs `metadata[key]=value`.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let key = |name: &str| {
            Some(
                name.strip_prefix("metadata[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        };
        let pairs = self.0.iter();
        pairs
            .filter_map(|(name, value)| Some((key(name)?, value.clone())))
            .collect()
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// Always `list`.
    object: &'static str,
    /// Empty where the page is.
    first_id: String,
    /// What `after` is given for the next page.
    last_id: String,
    has_more: bool,
    data: Vec<T>,
}

/// A page in the API's shape.
pub fn list(data: Vec<Value>, has_more: bool) -> Page<Value> {
    let id = |item: Option<&Value>| {
        let id = item.and_then(|item| item["id"].as_str());
        id.unwrap_or_default().to_owned()
    };
    Page {
        object: "list",
        first_id: id(data.first()),
        last_id: id(data.last()),
        has_more,
        data,
    }
}

/// In which order a list comes.
#[derive(ToSchema)]
#[schema(as = ListOrder, rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of what `request` reads")]
pub enum OrderName {
    Asc,
    Desc,
}
