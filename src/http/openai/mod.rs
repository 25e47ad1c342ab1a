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
pub mod metadata;
pub mod models;
pub mod page;
pub mod parameters;
pub mod quote;
pub mod rerank;
pub mod responses;
pub mod search;
pub mod tokenize;
pub mod tools;
pub mod uploads;
pub mod vector_store_file;
pub mod vector_store_files;
pub mod vector_stores;

use actix_web::web::{self, ServiceConfig};
use utoipa::OpenApi;

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

pub fn routes(config: &mut ServiceConfig) {
    config
        .route("/models", web::get().to(models::list))
        .route("/models/{id:.*}", web::get().to(models::get))
        .route("/chat/completions", web::post().to(chat::create))
        .route("/chat/completions", web::get().to(stored::list))
        .route("/chat/completions/{id}", web::get().to(stored::get))
        .route("/chat/completions/{id}", web::post().to(stored::update))
        .route("/chat/completions/{id}", web::delete().to(stored::delete))
        .route(
            "/chat/completions/{id}/messages",
            web::get().to(stored::messages),
        )
        .route("/completions", web::post().to(completions::create))
        .route("/embeddings", web::post().to(embeddings::create))
        .route("/rerank", web::post().to(rerank::create))
        .route("/tokenize", web::post().to(tokenize::tokenize))
        .route("/detokenize", web::post().to(tokenize::detokenize))
        .route("/responses", web::post().to(responses::create))
        .route(
            "/responses/input_tokens",
            web::post().to(responses::input_tokens),
        )
        .route("/responses/{id}", web::get().to(responses::get))
        .route("/responses/{id}", web::delete().to(responses::delete))
        .route("/responses/{id}/cancel", web::post().to(responses::cancel))
        .route(
            "/responses/{id}/input_items",
            web::get().to(responses::input_items),
        )
        .route("/conversations", web::post().to(conversations::create))
        .route("/conversations/{id}", web::get().to(conversations::get))
        .route("/conversations/{id}", web::post().to(conversations::update))
        .route(
            "/conversations/{id}",
            web::delete().to(conversations::delete),
        )
        .route(
            "/conversations/{id}/items",
            web::post().to(conversations::add_items),
        )
        .route(
            "/conversations/{id}/items",
            web::get().to(conversations::list_items),
        )
        .route(
            "/conversations/{id}/items/{item}",
            web::get().to(conversations::get_item),
        )
        .route(
            "/conversations/{id}/items/{item}",
            web::delete().to(conversations::delete_item),
        )
        .route("/files", web::post().to(files::create))
        .route("/files", web::get().to(files::list))
        .route("/files/{id}", web::get().to(files::get))
        .route("/files/{id}", web::delete().to(files::delete))
        .route("/files/{id}/content", web::get().to(files::content))
        .route("/vector_stores", web::post().to(vector_stores::create))
        .route("/vector_stores", web::get().to(vector_stores::list))
        .route("/vector_stores/{id}", web::get().to(vector_stores::get))
        .route("/vector_stores/{id}", web::post().to(vector_stores::update))
        .route(
            "/vector_stores/{id}",
            web::delete().to(vector_stores::delete),
        )
        .route("/vector_stores/{id}/search", web::post().to(search::search))
        .route(
            "/vector_stores/{id}/files",
            web::post().to(vector_store_files::attach),
        )
        .route(
            "/vector_stores/{id}/files",
            web::get().to(vector_store_files::list),
        )
        .route(
            "/vector_stores/{id}/files/{file}",
            web::get().to(vector_store_files::get),
        )
        .route(
            "/vector_stores/{id}/files/{file}",
            web::post().to(vector_store_files::update),
        )
        .route(
            "/vector_stores/{id}/files/{file}",
            web::delete().to(vector_store_files::detach),
        )
        .route(
            "/vector_stores/{id}/files/{file}/content",
            web::get().to(vector_store_files::content),
        )
        .route(
            "/vector_stores/{id}/file_batches",
            web::post().to(file_batches::create),
        )
        .route(
            "/vector_stores/{id}/file_batches/{batch}",
            web::get().to(file_batches::get),
        )
        .route(
            "/vector_stores/{id}/file_batches/{batch}/cancel",
            web::post().to(file_batches::cancel),
        )
        .route(
            "/vector_stores/{id}/file_batches/{batch}/files",
            web::get().to(file_batches::list_files),
        )
        .route("/uploads", web::post().to(uploads::create))
        .route("/uploads/{id}/parts", web::post().to(uploads::add_part))
        .route("/uploads/{id}/complete", web::post().to(uploads::complete))
        .route("/uploads/{id}/cancel", web::post().to(uploads::cancel));
}
