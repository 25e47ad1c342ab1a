//! What the browser app needs beyond the OpenAI-compatible API: the server's status, its loaded models and a
//! document's passages.

mod loaded_models;
mod passage;
mod status;

use actix_web::web::{self, ServiceConfig};
use utoipa::OpenApi;

/// What of it stands in the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(status::get, loaded_models::list, loaded_models::unload, passage::get))]
pub struct Document;

pub fn routes(config: &mut ServiceConfig) {
    config
        .route("/status", web::get().to(status::get))
        .route("/models/loaded", web::get().to(loaded_models::list))
        .route(
            "/models/loaded/{name:.*}",
            web::delete().to(loaded_models::unload),
        )
        .route("/files/{id}/passage", web::get().to(passage::get));
}
