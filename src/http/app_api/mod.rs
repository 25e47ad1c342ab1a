//! What the browser app needs beyond the OpenAI-compatible API: the server's status, its loaded models, a document's
//! passages and pages, how far ingestion is, how texts are cut, cutting and embedding documents anew, imports from the web
//! and watched folders.

mod chunks;
mod imports;
mod loaded_models;
mod pages;
mod passage;
mod progress;
mod reindex;
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
    chunks::preview,
    reindex::start,
    reindex::get,
    reindex::cancel,
    progress::follow,
    pages::list,
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
        .get("/vector_stores/{id}/progress", progress::follow)
        .get("/vector_stores/{id}/files/{file}/pages", pages::list)
        .post("/chunks/preview", chunks::preview)
        .post("/reindex", reindex::start)
        .get("/reindex", reindex::get)
        .delete("/reindex", reindex::cancel)
        .post("/imports", imports::create)
        .get("/imports", imports::list)
        .get("/imports/{id}", imports::get)
        .delete("/imports/{id}", imports::delete)
        .get("/imports/{id}/events", imports::events)
        .get("/watch", watch::get);
}
