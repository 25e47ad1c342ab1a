//! Metadata that callers attach to objects: a few short strings.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

use crate::http::error::ApiError;

const MAX_KEYS: usize = 16;
const MAX_KEY_CHARS: usize = 64;
const MAX_VALUE_CHARS: usize = 512;

/// Checked metadata.
pub fn checked(metadata: Map<String, Value>) -> Result<BTreeMap<String, String>, ApiError> {
    if metadata.len() > MAX_KEYS {
        let message = format!(
            "metadata has {} keys, but may have {MAX_KEYS}",
            metadata.len()
        );
        return Err(ApiError::invalid("metadata", message));
    }
    let checked = metadata.into_iter().map(|(key, value)| {
        check_key("metadata", &key)?;
        match value {
            Value::String(text) if text.chars().count() <= MAX_VALUE_CHARS => Ok((key, text)),
            _ => Err(ApiError::invalid(
                format!("metadata.{key}"),
                format!("metadata.{key} must be a string of at most {MAX_VALUE_CHARS} characters"),
            )),
        }
    });
    checked.collect()
}

/// Metadata of a request, in the OpenAPI document; null is the same as none.
pub fn schema() -> Object {
    let value = ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(MAX_VALUE_CHARS));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .property_names(Some(key_schema()))
        .additional_properties(Some(value))
        .max_properties(Some(MAX_KEYS))
        .description(Some("Short texts of the caller's own"))
        .build()
}

/// What `check_key` lets pass.
pub fn key_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(MAX_KEY_CHARS))
        .build()
}

/// Refuses a key of `param` that is too long.
pub fn check_key(param: &str, key: &str) -> Result<(), ApiError> {
    let num_chars = key.chars().count();
    if num_chars <= MAX_KEY_CHARS {
        return Ok(());
    }
    let message = format!(
        "{param} has a key of {num_chars} characters, but keys may have {MAX_KEY_CHARS}: '{key}'"
    );
    Err(ApiError::invalid(param, message))
}
