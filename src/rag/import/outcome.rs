//! What is said of a page that has become no document.

use crate::fetch::FetchError;
use crate::store::{PageDocument, PageOutcome, PageResult};

/// Why a redirect is not followed.
pub(super) const OFF_PREFIX: &str = "which is outside of the prefix";
pub(super) const DISALLOWED: &str = "which robots.txt disallows";

/// What the reasons mean that mostly stand alone.
pub fn reason_in_words(reason: &str) -> Option<&'static str> {
    match reason {
        "robots" => Some("robots.txt does not allow it"),
        "off_prefix" => Some("it is outside of the prefix"),
        "type" => Some("it is no document"),
        "limit" => Some("the import has reached its limit of pages or links"),
        "noindex" => Some("the page asks not to be kept"),
        "empty" => Some("it is empty"),
        _ => None,
    }
}

pub(super) fn result_of(error: FetchError) -> PageResult {
    let message = error.to_string();
    let failed = |reason| PageResult {
        is_fetched: true,
        ..failed(reason, &message)
    };
    match error {
        FetchError::RedirectRefused { why, .. } => PageResult {
            is_fetched: true,
            ..skipped(
                if why == DISALLOWED {
                    "robots"
                } else {
                    "off_prefix"
                },
                Some(message),
            )
        },
        FetchError::BadUrl { .. } => failed("url"),
        FetchError::PrivateAddress { .. } => failed("private_address"),
        FetchError::Port { .. } => failed("port"),
        FetchError::TooManyRedirects { .. } => failed("redirects"),
        FetchError::Status { .. } => failed("status"),
        FetchError::TooLarge { .. } => failed("too_large"),
        FetchError::TimedOut { .. } => failed("timeout"),
        FetchError::Connection { .. } | FetchError::Abandoned => failed("connection"),
    }
}

pub(super) fn skipped(reason: &'static str, message: Option<String>) -> PageResult {
    PageResult {
        outcome: PageOutcome::Skipped,
        reason: Some(reason),
        message,
        address: None,
        title: None,
        document: PageDocument::None,
        links: Vec::new(),
        is_fetched: false,
        num_bytes: 0,
    }
}

pub(super) fn failed(reason: &'static str, message: &str) -> PageResult {
    PageResult {
        outcome: PageOutcome::Failed,
        ..skipped(reason, Some(message.to_owned()))
    }
}

pub(super) fn duplicate_of(twin: &str) -> PageResult {
    skipped("duplicate", Some(format!("it is the same as {twin}")))
}
