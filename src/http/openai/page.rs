//! Cursor pages of lists, as OpenAI clients follow them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::http::error::ApiError;
use crate::http::openai::metadata;
use crate::store::{ListOptions, Order};

/// The query string of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Items in a page, 20 by default.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    pub limit: Option<String>,
    /// By the time of creation; `desc`, the newest first, is the default.
    #[param(value_type = Option<Direction>, inline)]
    pub order: Option<String>,
    /// The id that the page begins after.
    pub after: Option<String>,
    /// The id that the page ends before.
    pub before: Option<String>,
}

/// The query string of items, of which more may be asked for than is shown by default.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct IncludeQuery {
    /// `file_search_call.results` shows what searches found; other values change nothing. `include[]` is the same.
    pub include: Option<Vec<String>>,
}

/// How a list is ordered.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Direction {
    Asc,
    Desc,
}

impl PageQuery {
    /// The page asked for: `default` items, at most `max`.
    pub fn request(&self, default: usize, max: usize) -> Result<ListOptions, ApiError> {
        let limit = match self.limit.as_deref() {
            None => default,
            Some(limit) => limit.parse().map_err(|_| {
                let message = format!("limit is '{limit}', but must be a number");
                ApiError::invalid("limit", message)
            })?,
        };
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
            after: named(&self.after),
            before: named(&self.before),
        })
    }
}

/// Some clients send an empty text for no item.
fn named(id: &Option<String>) -> Option<String> {
    id.clone().filter(|id| !id.is_empty())
}

/// The query string of a list whose parameters may be repeated, as `include[]=a&include[]=b`, or have names of their
/// own, as `metadata[topic]=x`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct ListQuery(Vec<(String, String)>);

impl ListQuery {
    /// The page asked for: `default` items, at most `max`.
    pub fn request(&self, default: usize, max: usize) -> Result<ListOptions, ApiError> {
        let value = |name| self.value(name).map(str::to_owned);
        let query = PageQuery {
            limit: value("limit"),
            order: value("order"),
            after: value("after"),
            before: value("before"),
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

    /// The last value of this name.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter().rev();
        let found = pairs.find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// What is to be shown besides the usual.
    pub fn include(&self) -> Vec<&str> {
        let is_include = |key: &str| key == "include" || key.starts_with("include[");
        let pairs = self.0.iter().filter(|(key, _)| is_include(key));
        pairs.flat_map(|(_, value)| value.split(',')).collect()
    }

    /// The pairs `metadata[key]=value`, as many as an object may have.
    pub fn metadata(&self) -> Result<BTreeMap<String, String>, ApiError> {
        let mut pairs = Map::new();
        for (name, value) in &self.0 {
            let Some(inside) = name.strip_prefix("metadata[") else {
                continue;
            };
            // What is in a pair is a text, and neither pairs of its own nor several texts.
            let key = inside
                .strip_suffix(']')
                .filter(|key| !key.contains(['[', ']']))
                .filter(|key| !pairs.contains_key(*key));
            let Some(key) = key else {
                let message = format!("{name} must be metadata[key]=value, once for each key");
                return Err(ApiError::invalid(name.as_str(), message));
            };
            pairs.insert(key.to_owned(), Value::from(value.as_str()));
        }
        metadata::checked(pairs)
    }
}

/// What lists are made of.
pub trait Listed {
    fn id(&self) -> &str;
}

/// What is kept as it was shown.
impl Listed for Value {
    fn id(&self) -> &str {
        self["id"].as_str().unwrap_or_default()
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// Always `list`.
    object: &'static str,
    data: Vec<T>,
    /// The first item's id, empty where there is none.
    first_id: String,
    /// The last item's id: what the next page begins `after`.
    last_id: String,
    /// Whether there is a next page.
    has_more: bool,
}

/// A page in the API's shape.
pub fn list<T: Listed>(data: Vec<T>, has_more: bool) -> Page<T> {
    let id = |item: Option<&T>| item.map_or("", Listed::id).to_owned();
    Page {
        object: "list",
        first_id: id(data.first()),
        last_id: id(data.last()),
        has_more,
        data,
    }
}

/// What is answered when something has been deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deleted {
    id: String,
    /// What it was, such as `file` or `vector_store.deleted`.
    object: &'static str,
    /// Always true.
    deleted: bool,
}

impl Deleted {
    pub fn new(id: impl Into<String>, object: &'static str) -> Self {
        Self {
            id: id.into(),
            object,
            deleted: true,
        }
    }
}
