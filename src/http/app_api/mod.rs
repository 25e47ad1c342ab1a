//! What the browser app needs beyond the OpenAI-compatible API: the server's status, its loaded models and a
//! document's passages.

mod loaded_models;
mod passage;
mod status;

use crate::http::routes::Routes;

pub fn routes(routes: &mut Routes) {
    routes
        .get("/status", status::get)
        .get("/models/loaded", loaded_models::list)
        .delete("/models/loaded/{name:.*}", loaded_models::unload)
        .get("/files/{id}/passage", passage::get);
}
