//! Anthropic's Messages API over the same models.

mod content;
mod messages;
mod request;
mod stream;

use actix_web::web::{self, ServiceConfig};

pub fn routes(config: &mut ServiceConfig) {
    config
        .route("/messages", web::post().to(messages::create))
        .route(
            "/messages/count_tokens",
            web::post().to(messages::count_tokens),
        );
}

/// Whether a path is one of this API's.
pub fn owns(path: &str) -> bool {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    path == "/messages" || path.starts_with("/messages/")
}
