//! Identifiers and times as the API shows them.

use std::time::{SystemTime, UNIX_EPOCH};

/// `prefix` and 24 random hexadecimal digits.
pub fn new_id(prefix: &str) -> String {
    format!("{prefix}{:024x}", rand::random::<u128>() >> 32)
}

pub fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}
