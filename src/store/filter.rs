//! Filters on document attributes, compiled to SQL in which every key and value is a parameter.

use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use super::error::{Result, StoreError};

/// Bounds what one request can make SQLite parse and run.
const MAX_CONDITIONS: usize = 256;
const MAX_DEPTH: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeValue {
    Bool(bool),
    Number(serde_json::Number),
    String(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq)]
pub enum FilterValue {
    One(AttributeValue),
    Many(Vec<AttributeValue>),
}

/// Values of different kinds (text, number, bool) are never equal and have no order. A document without the attribute
/// matches only `Ne` and `Nin`.
#[derive(Debug, Clone, PartialEq)]
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
        self.compile_within(MAX_DEPTH, &mut num_left, sql, params)
    }

    fn compile_within(
        &self,
        depth: usize,
        num_left: &mut usize,
        sql: &mut String,
        params: &mut Vec<Value>,
    ) -> Result<()> {
        if depth == 0 || *num_left == 0 {
            let why = format!(
                "it has more than {MAX_CONDITIONS} conditions or {MAX_DEPTH} levels; simplify it"
            );
            return Err(StoreError::invalid("filter", why));
        }
        *num_left -= 1;
        let (filters, joint, of_none) = match self {
            Self::Compare { op, key, value } => {
                return compile_comparison(*op, key, value, sql, params);
            }
            Self::And(filters) => (filters, " AND ", "true"),
            Self::Or(filters) => (filters, " OR ", "false"),
        };
        sql.push('(');
        for (i, filter) in filters.iter().enumerate() {
            if i > 0 {
                sql.push_str(joint);
            }
            filter.compile_within(depth - 1, num_left, sql, params)?;
        }
        if filters.is_empty() {
            sql.push_str(of_none);
        }
        sql.push(')');
        Ok(())
    }
}

fn compile_comparison(
    op: CompareOp,
    key: &str,
    value: &FilterValue,
    sql: &mut String,
    params: &mut Vec<Value>,
) -> Result<()> {
    let (is_negated, operator) = match op {
        CompareOp::Eq | CompareOp::In => (false, "="),
        CompareOp::Ne | CompareOp::Nin => (true, "="),
        CompareOp::Gt => (false, ">"),
        CompareOp::Gte => (false, ">="),
        CompareOp::Lt => (false, "<"),
        CompareOp::Lte => (false, "<="),
    };
    let values = match (op, value) {
        (CompareOp::In | CompareOp::Nin, FilterValue::Many(values)) => values.as_slice(),
        (CompareOp::In | CompareOp::Nin, FilterValue::One(_)) => {
            return Err(StoreError::invalid(
                "filter",
                format!("in and nin on {key:?} need a list of values"),
            ));
        }
        (_, FilterValue::One(value)) => std::slice::from_ref(value),
        (_, FilterValue::Many(_)) => {
            return Err(StoreError::invalid(
                "filter",
                format!("only in and nin on {key:?} can have a list of values"),
            ));
        }
    };
    if values.len() > MAX_CONDITIONS {
        let why = format!(
            "{key:?} is compared with {} values; the most is {MAX_CONDITIONS}",
            values.len()
        );
        return Err(StoreError::invalid("filter", why));
    }
    // Through json_each, not a JSON path: a key may contain any character.
    let not = if is_negated { "NOT " } else { "" };
    *sql +=
        &format!("{not}EXISTS (SELECT 1 FROM json_each(d.attributes) a WHERE a.key = ? AND (false");
    params.push(Value::Text(key.to_owned()));
    for value in values {
        let (types, param) = typed(value);
        *sql += &format!(" OR (a.type IN ({types}) AND a.value {operator} ?)");
        params.push(param);
    }
    sql.push_str("))");
    Ok(())
}

/// The names SQLite's json_each gives to the value's kind, and the value.
fn typed(value: &AttributeValue) -> (&'static str, Value) {
    match value {
        AttributeValue::String(text) => ("'text'", Value::Text(text.clone())),
        AttributeValue::Bool(bit) => ("'true', 'false'", Value::Integer((*bit).into())),
        AttributeValue::Number(number) => {
            let value = match number.as_i64() {
                Some(integer) => Value::Integer(integer),
                None => Value::Real(number.as_f64().unwrap_or(f64::NAN)),
            };
            ("'integer', 'real'", value)
        }
    }
}
