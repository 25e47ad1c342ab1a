//! The OpenAI-compatible API, a file a resource.

pub mod attributes;
pub mod chat;
pub mod chunking;
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
pub mod found;
pub mod metadata;
pub mod models;
pub mod page;
pub mod parameters;
pub mod quote;
pub mod ranking;
pub mod rerank;
pub mod responses;
pub mod search;
pub mod tokenize;
pub mod tools;
pub mod uploads;
pub mod vector_store_file;
pub mod vector_store_files;
pub mod vector_stores;

use utoipa::OpenApi;

use crate::http::routes::Routes;
use chat::stored;

/// What of it stands in the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(
    models::list,
    models::get,
    chat::create,
    stored::list,
    stored::get,
    stored::update,
    stored::delete,
    stored::messages,
    completions::create,
    embeddings::create,
    rerank::create,
    tokenize::tokenize,
    tokenize::detokenize,
))]
pub struct Document;

/// What is kept: files, vector stores, conversations and responses.
#[derive(OpenApi)]
#[openapi(paths(
    files::create,
    files::list,
    files::get,
    files::delete,
    files::content,
    uploads::create,
    uploads::add_part,
    uploads::complete,
    uploads::cancel,
    vector_stores::create,
    vector_stores::list,
    vector_stores::get,
    vector_stores::update,
    vector_stores::delete,
    search::search,
    vector_store_files::attach,
    vector_store_files::list,
    vector_store_files::get,
    vector_store_files::update,
    vector_store_files::detach,
    vector_store_files::content,
    file_batches::create,
    file_batches::get,
    file_batches::cancel,
    file_batches::list_files,
    conversations::create,
    conversations::get,
    conversations::update,
    conversations::delete,
    conversations::add_items,
    conversations::list_items,
    conversations::get_item,
    conversations::delete_item,
    responses::create,
    responses::input_tokens,
    responses::get,
    responses::delete,
    responses::cancel,
    responses::input_items,
))]
pub struct StoredDocument;

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
        .post("/vector_stores/{id}/search", search::search)
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
