//! Attribute filters as the API writes them, turned into what the store searches with.

use serde_json::Value;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::openai::attributes;
use crate::store::{AttributeFilter, AttributeValue, CompareOp, FilterValue};

/// Conditions inside conditions: deeper ones are refused.
const MAX_DEPTH: usize = 8;
/// Conditions in one filter.
const MAX_CONDITIONS: usize = 64;

/// Which documents are searched, by their attributes: at most 64 conditions, nested at most 8 deep. What lacks the
/// attribute is searched only under `ne` and `nin`.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub enum Filter {
    Compare(Comparison),
    OneOf(Membership),
    Combine(Combination),
}

/// An attribute compared with one value.
#[derive(Debug, ToSchema)]
pub struct Comparison {
    #[schema(rename = "type", inline)]
    pub kind: ComparisonKind,
    pub key: String,
    pub value: AttributeValue,
}

#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum ComparisonKind {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
}

/// An attribute that is, or is not, among several values.
#[derive(Debug, ToSchema)]
pub struct Membership {
    #[schema(rename = "type", inline)]
    pub kind: MembershipKind,
    pub key: String,
    pub value: Vec<AttributeValue>,
}

#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum MembershipKind {
    In,
    Nin,
}

/// Filters of which all, or any, must hold.
#[derive(Debug, ToSchema)]
pub struct Combination {
    #[schema(rename = "type", inline)]
    pub kind: CombinationKind,
    #[schema(min_items = 1, max_items = 64, no_recursion)]
    pub filters: Vec<Filter>,
}

#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum CombinationKind {
    And,
    Or,
}

/// Reads `{type, key, value}` or `{type: and|or, filters: [...]}`.
pub fn parse(filter: &Value) -> Result<AttributeFilter, ApiError> {
    let mut left = MAX_CONDITIONS;
    parse_at(filter, "filters", 0, &mut left)
}

fn parse_at(
    filter: &Value,
    path: &str,
    depth: usize,
    left: &mut usize,
) -> Result<AttributeFilter, ApiError> {
    let invalid = |message: String| ApiError::invalid(path, message);
    if depth > MAX_DEPTH || *left == 0 {
        let message =
            format!("filters may have {MAX_CONDITIONS} conditions, nested {MAX_DEPTH} deep");
        return Err(invalid(message));
    }
    *left -= 1;
    let kind = filter["type"]
        .as_str()
        .ok_or_else(|| invalid(format!("{path} must be an object with a 'type'")))?;
    if kind == "and" || kind == "or" {
        let inner = filter["filters"]
            .as_array()
            .filter(|inner| !inner.is_empty());
        let inner = inner
            .ok_or_else(|| invalid(format!("{path} of type '{kind}' needs a list 'filters'")))?;
        let parsed: Result<Vec<_>, _> = inner
            .iter()
            .enumerate()
            .map(|(at, filter)| parse_at(filter, &format!("{path}.filters[{at}]"), depth + 1, left))
            .collect();
        return Ok(if kind == "and" {
            AttributeFilter::And(parsed?)
        } else {
            AttributeFilter::Or(parsed?)
        });
    }
    let op = match kind {
        "eq" => CompareOp::Eq,
        "ne" => CompareOp::Ne,
        "gt" => CompareOp::Gt,
        "gte" => CompareOp::Gte,
        "lt" => CompareOp::Lt,
        "lte" => CompareOp::Lte,
        "in" => CompareOp::In,
        "nin" => CompareOp::Nin,
        other => {
            let message = format!(
                "{path}.type is '{other}', but must be one of eq, ne, gt, gte, lt, lte, in, nin, and, or"
            );
            return Err(invalid(message));
        }
    };
    let key = filter["key"]
        .as_str()
        .ok_or_else(|| invalid(format!("{path} of type '{kind}' needs a string 'key'")))?;
    let value = filter.get("value").cloned().unwrap_or(Value::Null);
    let value = match op {
        CompareOp::In | CompareOp::Nin => value
            .as_array()
            .and_then(|items| {
                items
                    .iter()
                    .map(attributes::value)
                    .collect::<Option<Vec<_>>>()
            })
            .map(FilterValue::Many)
            .ok_or_else(|| {
                invalid(format!(
                    "{path}.value must be a list of strings, numbers or booleans"
                ))
            })?,
        _ => attributes::value(&value)
            .map(FilterValue::One)
            .ok_or_else(|| {
                invalid(format!(
                    "{path}.value must be a string, a number or a boolean"
                ))
            })?,
    };
    Ok(AttributeFilter::Compare {
        op,
        key: key.to_string(),
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_filter_of_every_shape_is_read() {
        let filter = json!({ "type": "and", "filters": [
            { "type": "gte", "key": "year", "value": 2020 },
            { "type": "or", "filters": [{ "type": "in", "key": "lang", "value": ["en", "de"] }] },
        ]});
        let AttributeFilter::And(inner) = parse(&filter).unwrap() else {
            panic!("not an and")
        };
        assert_eq!(inner.len(), 2);
    }

    #[test]
    fn a_malformed_filter_is_refused_with_its_place() {
        for (filter, place) in [
            (json!("x"), "filters"),
            (json!({ "type": "eq", "key": "a" }), "filters.value"),
            (
                json!({ "type": "in", "key": "a", "value": 1 }),
                "filters.value",
            ),
            (
                json!({ "type": "like", "key": "a", "value": 1 }),
                "filters.type",
            ),
            (
                json!({ "type": "and", "filters": [{ "type": "eq", "value": 1 }] }),
                "filters.filters[0]",
            ),
        ] {
            let error = parse(&filter).unwrap_err();
            assert!(error.message().contains(place), "{filter}: {error}");
        }
        let mut deep = json!({ "type": "eq", "key": "a", "value": 1 });
        for _ in 0..20 {
            deep = json!({ "type": "and", "filters": [deep] });
        }
        assert!(parse(&deep).is_err());
    }
}
