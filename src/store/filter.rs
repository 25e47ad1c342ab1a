//! Filters on document attributes. To SQL a filter is one parameter of a function that every connection has, which reads a
//! document's attributes once, whatever the number of conditions.

use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use super::attributes::{Attribute, ReadAttributes};
use super::error::{Result, StoreError};

/// Bounds what one request can make a search run for every document.
const MAX_CONDITIONS: usize = 256;
const MAX_DEPTH: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeValue {
    Bool(bool),
    Number(serde_json::Number),
    String(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareOp {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
    In,
    Nin,
}

/// `Many` belongs to `In` and `Nin`, `One` to all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FilterValue {
    One(AttributeValue),
    Many(Vec<AttributeValue>),
}

/// Values of different kinds (text, number, bool) are never equal and have no order. A document without the attribute
/// matches only `Ne` and `Nin`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AttributeFilter {
    Compare {
        op: CompareOp,
        key: String,
        value: FilterValue,
    },
    /// Of none: true.
    And(Vec<AttributeFilter>),
    /// Of none: false.
    Or(Vec<AttributeFilter>),
}

impl AttributeFilter {
    /// Appends a condition on `d.attributes` to `sql` and its parameters to `params`.
    pub(super) fn compile(&self, sql: &mut String, params: &mut Vec<Value>) -> Result<()> {
        let mut num_left = MAX_CONDITIONS;
        self.check(MAX_DEPTH, &mut num_left)?;
        let filter = serde_json::to_string(self)
            .map_err(|error| StoreError::invalid("filter", error.to_string()))?;
        sql.push_str("attributes_match(d.attributes, ?)");
        params.push(Value::Text(filter));
        Ok(())
    }

    fn check(&self, depth: usize, num_left: &mut usize) -> Result<()> {
        if depth == 0 || *num_left == 0 {
            let why = format!(
                "it has more than {MAX_CONDITIONS} conditions or {MAX_DEPTH} levels; simplify it"
            );
            return Err(StoreError::invalid("filter", why));
        }
        *num_left -= 1;
        match self {
            Self::Compare { op, key, value } => check_values(*op, key, value),
            Self::And(filters) | Self::Or(filters) => filters
                .iter()
                .try_for_each(|filter| filter.check(depth - 1, num_left)),
        }
    }

    fn takes(&self, attributes: &ReadAttributes) -> bool {
        match self {
            Self::And(filters) => filters.iter().all(|filter| filter.takes(attributes)),
            Self::Or(filters) => filters.iter().any(|filter| filter.takes(attributes)),
            Self::Compare { op, key, value } => {
                let meets = |value: &AttributeValue| {
                    let order = attributes
                        .get(key)
                        .and_then(|one| one.compare(&value.into()));
                    order.is_some_and(|order| match op {
                        CompareOp::Gt => order.is_gt(),
                        CompareOp::Gte => order.is_ge(),
                        CompareOp::Lt => order.is_lt(),
                        CompareOp::Lte => order.is_le(),
                        CompareOp::Eq | CompareOp::Ne | CompareOp::In | CompareOp::Nin => {
                            order.is_eq()
                        }
                    })
                };
                let is_met = match value {
                    FilterValue::One(value) => meets(value),
                    FilterValue::Many(values) => values.iter().any(meets),
                };
                is_met != matches!(op, CompareOp::Ne | CompareOp::Nin)
            }
        }
    }
}

/// Gives a connection the function that conditions call.
pub(super) fn register(connection: &Connection) -> rusqlite::Result<()> {
    type Failure = Box<dyn std::error::Error + Send + Sync>;
    let failed = |error: Failure| rusqlite::Error::UserFunctionError(error);
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("attributes_match", 2, flags, move |context| {
        // Kept from one document to the next.
        let filter: Arc<AttributeFilter> = context.get_or_create_aux(1, |value| {
            Ok::<_, Failure>(serde_json::from_str(value.as_str()?)?)
        })?;
        let attributes = context.get_raw(0).as_str()?;
        let attributes = ReadAttributes::of(attributes).map_err(|error| failed(error.into()))?;
        Ok(filter.takes(&attributes))
    })
}

fn check_values(op: CompareOp, key: &str, value: &FilterValue) -> Result<()> {
    let is_of_many = matches!(op, CompareOp::In | CompareOp::Nin);
    match value {
        FilterValue::One(_) if is_of_many => Err(StoreError::invalid(
            "filter",
            format!("in and nin on {key:?} need a list of values"),
        )),
        FilterValue::Many(_) if !is_of_many => Err(StoreError::invalid(
            "filter",
            format!("only in and nin on {key:?} can have a list of values"),
        )),
        FilterValue::Many(values) if values.len() > MAX_CONDITIONS => {
            let why = format!(
                "{key:?} is compared with {} values; the most is {MAX_CONDITIONS}",
                values.len()
            );
            Err(StoreError::invalid("filter", why))
        }
        _ => Ok(()),
    }
}

impl<'a> From<&'a AttributeValue> for Attribute<'a> {
    fn from(value: &'a AttributeValue) -> Self {
        match value {
            AttributeValue::Bool(bit) => Self::Bool(*bit),
            AttributeValue::String(text) => Self::Text(text.into()),
            AttributeValue::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Self::Integer(integer),
                (None, Some(real)) => Self::Real(real),
                (None, None) => Self::Other,
            },
        }
    }
}
