//! What the browser app needs beyond the OpenAI-compatible API: the server's status, its loaded models and a
//! document's passages; imports from the web and watched folders.

mod imports;
mod loaded_models;
mod passage;
mod status;
mod watch;

use utoipa::OpenApi;

use crate::http::routes::Routes;

/// What of it stands in the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(
    status::get,
    loaded_models::list,
    loaded_models::unload,
    passage::get,
    imports::create,
    imports::list,
    imports::get,
    imports::delete,
    imports::events,
    watch::get
))]
pub struct Document;

pub fn routes(routes: &mut Routes) {
    routes
        .get("/status", status::get)
        .get("/models/loaded", loaded_models::list)
        .delete("/models/loaded/{name:.*}", loaded_models::unload)
        .get("/files/{id}/passage", passage::get)
        .post("/imports", imports::create)
        .get("/imports", imports::list)
        .get("/imports/{id}", imports::get)
        .delete("/imports/{id}", imports::delete)
        .get("/imports/{id}/events", imports::events)
        .get("/watch", watch::get);
}
