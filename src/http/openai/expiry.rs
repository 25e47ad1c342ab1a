//! When files and vector stores expire, as the API writes it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::ApiError;

const FILE_SECONDS: std::ops::RangeInclusive<i64> = 3600..=2_592_000;
const VECTOR_STORE_DAYS: std::ops::RangeInclusive<i64> = 1..=365;

/// When a file expires.
#[derive(Debug, Deserialize, ToSchema)]
pub struct FileExpiry {
    /// Always `created_at`.
    #[schema(pattern = "^created_at$")]
    pub anchor: String,
    /// Seconds after the creation.
    #[schema(minimum = 3600, maximum = 2592000)]
    pub seconds: i64,
}

impl FileExpiry {
    /// Checked seconds after creation.
    pub fn seconds(&self) -> Result<u32, ApiError> {
        check_anchor(&self.anchor, "created_at")?;
        check_range("expires_after.seconds", self.seconds, FILE_SECONDS)
    }
}

/// When a vector store expires.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct VectorStoreExpiry {
    /// Always `last_active_at`.
    #[schema(pattern = "^last_active_at$")]
    anchor: String,
    /// Days after its last use.
    #[schema(minimum = 1, maximum = 365)]
    days: i64,
}

impl VectorStoreExpiry {
    pub fn after(days: u32) -> Self {
        Self {
            anchor: "last_active_at".into(),
            days: days.into(),
        }
    }

    /// Checked days after the last use.
    pub fn days(&self) -> Result<u32, ApiError> {
        check_anchor(&self.anchor, "last_active_at")?;
        check_range("expires_after.days", self.days, VECTOR_STORE_DAYS)
    }
}

fn check_anchor(anchor: &str, served: &str) -> Result<(), ApiError> {
    if anchor == served {
        return Ok(());
    }
    let message = format!("expires_after.anchor is '{anchor}', but must be '{served}'");
    Err(ApiError::invalid("expires_after.anchor", message))
}

fn check_range(
    param: &str,
    value: i64,
    allowed: std::ops::RangeInclusive<i64>,
) -> Result<u32, ApiError> {
    if allowed.contains(&value) {
        return Ok(value as u32);
    }
    let (least, most) = (allowed.start(), allowed.end());
    let message = format!("{param} is {value}, but must be between {least} and {most}");
    Err(ApiError::invalid(param, message))
}
