//! Metadata that callers attach to what is kept: a few short strings.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::http::error::ApiError;

/// Pairs that an object may have, and how long they may be, in characters.
const MAX_METADATA: usize = 16;
const MAX_KEY_CHARS: usize = 64;
const MAX_VALUE_CHARS: usize = 512;

/// Checked metadata; none where nothing was given.
pub fn checked(metadata: Option<Map<String, Value>>) -> Result<BTreeMap<String, String>, ApiError> {
    let metadata = metadata.unwrap_or_default();
    if metadata.len() > MAX_METADATA {
        let message = format!(
            "metadata has {} keys, but may have {MAX_METADATA}",
            metadata.len()
        );
        return Err(ApiError::invalid("metadata", message));
    }
    let text = |(key, value): (String, Value)| match value {
        Value::String(text)
            if key.chars().count() <= MAX_KEY_CHARS && text.chars().count() <= MAX_VALUE_CHARS =>
        {
            Ok((key, text))
        }
        _ => {
            let param = format!("metadata.{key}");
            let message = format!(
                "{param} must be a string of at most {MAX_VALUE_CHARS} characters, and its key have at most \
                 {MAX_KEY_CHARS}"
            );
            Err(ApiError::invalid(param, message))
        }
    };
    metadata.into_iter().map(text).collect()
}
