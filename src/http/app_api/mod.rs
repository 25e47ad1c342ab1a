//! What the browser app needs beyond the OpenAI-compatible API: the server's status and a document's passages.

mod passage;
mod status;

use actix_web::web::{self, ServiceConfig};

pub fn routes(config: &mut ServiceConfig) {
    config
        .route("/status", web::get().to(status::get))
        .route("/files/{id}/passage", web::get().to(passage::get));
}
