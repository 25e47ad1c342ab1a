//! What the browser app needs beyond the OpenAI-compatible API: the server's status, its loaded models and a
//! document's passages.

mod loaded_models;
mod passage;
mod status;

use actix_web::web::{self, ServiceConfig};

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
