//! Listings in pages: order, limit and cursors, the same for every resource.

use rusqlite::types::Value;

use super::error::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    Asc,
    #[default]
    Desc,
}

/// Which part of a listing, by time of creation. `after` and `before` are ids: the items that follow or precede that
/// one in the chosen order. With only `before`, the nearest ones to it are given.
#[derive(Debug, Clone)]
pub struct ListOptions {
    pub limit: usize,
    pub order: Order,
    pub after: Option<String>,
    pub before: Option<String>,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self {
            limit: 20,
            order: Order::default(),
            after: None,
            before: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Whether there is more in the direction of the listing.
    pub has_more: bool,
}

/// The end of a listing's SQL, and how to make a page of the rows it gives.
pub(super) struct Window {
    /// Further conditions, each beginning with AND.
    pub conditions: String,
    pub order_and_limit: String,
    pub params: Vec<Value>,
    limit: usize,
    is_backward: bool,
}

impl ListOptions {
    /// `column` numbers the rows by creation; `position` finds that number for a cursor's id.
    pub(super) fn window(
        &self,
        column: &str,
        position: impl Fn(&str) -> Result<i64>,
    ) -> Result<Window> {
        let is_backward = self.before.is_some() && self.after.is_none();
        let (beyond, short_of) = match self.order {
            Order::Asc => (">", "<"),
            Order::Desc => ("<", ">"),
        };
        let mut conditions = String::new();
        let mut params = Vec::new();
        for (cursor, comparison) in [(&self.after, beyond), (&self.before, short_of)] {
            if let Some(id) = cursor {
                conditions += &format!(" AND {column} {comparison} ?");
                params.push(Value::Integer(position(id)?));
            }
        }
        let is_ascending = (self.order == Order::Asc) != is_backward;
        let direction = if is_ascending { "ASC" } else { "DESC" };
        let order_and_limit = format!(" ORDER BY {column} {direction} LIMIT ?");
        // One more than asked for tells whether there is more.
        params.push(Value::Integer(
            i64::try_from(self.limit.saturating_add(1)).unwrap_or(i64::MAX),
        ));
        Ok(Window {
            conditions,
            order_and_limit,
            params,
            limit: self.limit,
            is_backward,
        })
    }
}

impl Window {
    pub(super) fn page<T>(&self, mut items: Vec<T>) -> Page<T> {
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        if self.is_backward {
            items.reverse();
        }
        Page { items, has_more }
    }
}
