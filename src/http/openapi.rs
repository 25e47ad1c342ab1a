//! `GET /openapi.json`: what is served, in OpenAPI 3.1, generated from the types and handlers that serve it. `GET /docs`:
//! the same as pages to try it on, embedded in the binary; they load nothing from elsewhere.

use std::sync::{Arc, LazyLock};

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, web};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{self, Content, PathItem, Ref, RefOr, ResponseBuilder, Server, response};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_swagger_ui::Config;

use crate::http::dialect::{AnthropicError, Dialect, OllamaError};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::routes::Routes;
use crate::http::{anthropic, app_api, health, metrics, ollama, openai};

/// Where `/docs` leads: its files are named relative to it.
const INDEX: &str = "/docs/index.html";

/// The pages load only what this server has, and draw with styles and images of their own.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Inglenook",
        description = "Answers from your team's documents, with citations that can be checked, and the models behind \
            them, under the API that OpenAI's clients speak. What is served of each field, refused or ignored, stands \
            in docs/api.md."
    ),
    paths(
        health::get,
        health::version,
        metrics::get,
        openai::rerank::create_v2
    ),
    components(schemas(ErrorBody, OllamaError, AnthropicError)),
    nest(
        (path = "/v1", api = openai::Document),
        (path = "/v1", api = openai::StoredDocument),
        (path = "/v1", api = anthropic::Document),
        (path = "/api", api = ollama::Document),
        (path = "/api", api = app_api::Document)
    ),
    tags(
        (name = "Responses", description = "Conversation, and answers from documents"),
        (name = "Conversations", description = "What responses go on with"),
        (name = "Chat", description = "Chat completions, and completions of plain text"),
        (name = "Embeddings", description = "Texts as vectors, and the order of documents for a query"),
        (name = "Tokens"),
        (name = "Models"),
        (name = "Files"),
        (name = "Uploads", description = "Files that come in parts"),
        (name = "Vector stores", description = "Collections of documents, and their search"),
        (name = "Anthropic", description = "The Messages API"),
        (name = "Ollama", description = "Ollama's API, but for what changes models"),
        (name = "Browser app", description = "What the app in the browser needs besides"),
        (name = "Server")
    ),
    modifiers(&Key, &Errors)
)]
struct Document;

/// Every operation asks for the key, where the server has one.
struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", bearer);
        let key = SecurityRequirement::new::<_, [&str; 0], _>("key", []);
        document.security = Some(vec![SecurityRequirement::default(), key]);
        document.servers = Some(vec![Server::new("/")]);
    }
}

/// What any operation may answer instead.
struct Errors;

const ERRORS: &[(StatusCode, &str)] = &[
    (
        StatusCode::BAD_REQUEST,
        "The request is wrong: the error names the parameter",
    ),
    (
        StatusCode::UNAUTHORIZED,
        "No key, or not the one of this server",
    ),
    (StatusCode::FORBIDDEN, "A page or a name that may not call"),
    (
        StatusCode::NOT_FOUND,
        "There is no such thing, or no such model",
    ),
    (StatusCode::PAYLOAD_TOO_LARGE, "More than may be sent"),
    (StatusCode::INTERNAL_SERVER_ERROR, "The server failed"),
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "Something is missing on this server, or busy",
    ),
    (
        StatusCode::TOO_MANY_REQUESTS,
        "The queue is full: come again",
    ),
    (
        StatusCode::GATEWAY_TIMEOUT,
        "The answer took longer than the server allows",
    ),
];

impl Modify for Errors {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            let dialect = Dialect::of(path);
            for operation in operations(item) {
                let responses = &mut operation.responses.responses;
                for (status, description) in ERRORS {
                    let status = dialect.as_known(*status);
                    let response = || RefOr::T(error(dialect, description));
                    let status = status.as_str().to_owned();
                    responses.entry(status).or_insert_with(response);
                }
            }
        }
    }
}

fn error(dialect: Dialect, description: &str) -> response::Response {
    let schema = Ref::from_schema_name(match dialect {
        Dialect::OpenAi => ErrorBody::name(),
        Dialect::Ollama => OllamaError::name(),
        Dialect::Anthropic => AnthropicError::name(),
    });
    ResponseBuilder::new()
        .description(description)
        .content("application/json", Content::new(Some(schema)))
        .build()
}

/// The operations of a path, whatever their methods.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let methods = [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.delete,
        &mut item.head,
    ];
    methods.into_iter().flatten()
}

/// The document as it is sent: it never changes while the program runs.
static JSON: LazyLock<String> = LazyLock::new(|| {
    Document::openapi()
        .to_json()
        .expect("the document is plain data")
});

pub fn routes(routes: &mut Routes) {
    routes
        .get("/openapi.json", json)
        .get("/docs", to_index)
        .get("/docs/{file:.*}", page);
}

/// Whether the path is part of the pages, which hold nothing private: a key is entered there.
pub fn is_public(path: &str) -> bool {
    path == "/openapi.json" || path == "/docs" || path.starts_with("/docs/")
}

async fn json() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(JSON.as_str())
}

async fn to_index() -> HttpResponse {
    HttpResponse::TemporaryRedirect()
        .insert_header((header::LOCATION, INDEX))
        .finish()
}

async fn page(file: web::Path<String>) -> Result<HttpResponse, ApiError> {
    // Without the badge of a validator that is elsewhere, and without the bar that asks for another document.
    let config = Config::from("../openapi.json")
        .persist_authorization(true)
        .validator_url("none")
        .use_base_layout();
    let found = utoipa_swagger_ui::serve(&file, Arc::new(config));
    match found.map_err(|error| ApiError::internal(error.to_string()))? {
        Some(found) => Ok(HttpResponse::Ok()
            .content_type(found.content_type)
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .body(found.bytes.into_owned())),
        None => Err(ApiError::not_found("page", &file)),
    }
}
