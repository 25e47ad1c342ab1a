//! The OpenAI-compatible API, a file a resource.

pub mod attributes;
pub mod chat;
pub mod completions;
pub mod conversations;
pub mod embeddings;
pub mod expiry;
pub mod file_batches;
pub mod file_parts;
pub mod files;
pub mod filters;
pub mod form;
pub mod format;
pub mod metadata;
pub mod models;
pub mod page;
pub mod parameters;
pub mod quote;
pub mod rerank;
pub mod responses;
pub mod tokenize;
pub mod tools;
pub mod uploads;
pub mod vector_store_files;
pub mod vector_stores;

use utoipa::OpenApi;

use crate::http::routes::Routes;
use chat::stored;

/// What of it stands in the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(models::list, models::get))]
pub struct Document;

pub fn routes(routes: &mut Routes) {
    routes
        .get("/models", models::list)
        .get("/models/{id:.*}", models::get)
        .post("/chat/completions", chat::create)
        .get("/chat/completions", stored::list)
        .get("/chat/completions/{id}", stored::get)
        .post("/chat/completions/{id}", stored::update)
        .delete("/chat/completions/{id}", stored::delete)
        .get("/chat/completions/{id}/messages", stored::messages)
        .post("/completions", completions::create)
        .post("/embeddings", embeddings::create)
        .post("/rerank", rerank::create)
        .post("/tokenize", tokenize::tokenize)
        .post("/detokenize", tokenize::detokenize)
        .post("/responses", responses::create)
        .post("/responses/input_tokens", responses::input_tokens)
        .get("/responses/{id}", responses::get)
        .delete("/responses/{id}", responses::delete)
        .post("/responses/{id}/cancel", responses::cancel)
        .get("/responses/{id}/input_items", responses::input_items)
        .post("/conversations", conversations::create)
        .get("/conversations/{id}", conversations::get)
        .post("/conversations/{id}", conversations::update)
        .delete("/conversations/{id}", conversations::delete)
        .post("/conversations/{id}/items", conversations::add_items)
        .get("/conversations/{id}/items", conversations::list_items)
        .get("/conversations/{id}/items/{item}", conversations::get_item)
        .delete(
            "/conversations/{id}/items/{item}",
            conversations::delete_item,
        )
        .post("/files", files::create)
        .get("/files", files::list)
        .get("/files/{id}", files::get)
        .delete("/files/{id}", files::delete)
        .get("/files/{id}/content", files::content)
        .post("/vector_stores", vector_stores::create)
        .get("/vector_stores", vector_stores::list)
        .get("/vector_stores/{id}", vector_stores::get)
        .post("/vector_stores/{id}", vector_stores::update)
        .delete("/vector_stores/{id}", vector_stores::delete)
        .post("/vector_stores/{id}/search", vector_stores::search)
        .post("/vector_stores/{id}/files", vector_store_files::attach)
        .get("/vector_stores/{id}/files", vector_store_files::list)
        .get("/vector_stores/{id}/files/{file}", vector_store_files::get)
        .post(
            "/vector_stores/{id}/files/{file}",
            vector_store_files::update,
        )
        .delete(
            "/vector_stores/{id}/files/{file}",
            vector_store_files::detach,
        )
        .get(
            "/vector_stores/{id}/files/{file}/content",
            vector_store_files::content,
        )
        .post("/vector_stores/{id}/file_batches", file_batches::create)
        .get(
            "/vector_stores/{id}/file_batches/{batch}",
            file_batches::get,
        )
        .post(
            "/vector_stores/{id}/file_batches/{batch}/cancel",
            file_batches::cancel,
        )
        .get(
            "/vector_stores/{id}/file_batches/{batch}/files",
            file_batches::list_files,
        )
        .post("/uploads", uploads::create)
        .post("/uploads/{id}/parts", uploads::add_part)
        .post("/uploads/{id}/complete", uploads::complete)
        .post("/uploads/{id}/cancel", uploads::cancel);
}
