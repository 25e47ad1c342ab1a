//! Anthropic's Messages API over the same models.

mod block;
mod content;
mod messages;
mod request;
mod shape;
mod stream;

use utoipa::OpenApi;

use crate::http::routes::Routes;

/// What of it stands in the OpenAPI document.
#[derive(OpenApi)]
#[openapi(
    paths(messages::create, messages::count_tokens),
    components(schemas(block::Source))
)]
pub struct Document;

pub fn routes(routes: &mut Routes) {
    routes
        .post("/messages", messages::create)
        .post("/messages/count_tokens", messages::count_tokens);
}

/// Whether a path is one of this API's.
pub fn owns(path: &str) -> bool {
    // Its clients append /v1 to a base URL that may have it.
    let path = path.trim_start_matches("/v1");
    path == "/messages" || path.starts_with("/messages/")
}
