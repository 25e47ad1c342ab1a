//! The browser app, embedded in the binary. It fetches nothing from elsewhere, and the policy it is served with
//! forbids it to.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};
use rust_embed::RustEmbed;

use crate::http::routes::Routes;

#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Assets;

const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'";

const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Inglenook</title>\
     <h1>Inglenook is running</h1><p>The browser app is missing from this build: it was built without Node. \
     The API is served under <code>/v1</code>. Install Node and run <code>make</code> to have the app.</p></html>";

/// What whoever asks without a browser reads. Ollama's own clients look only whether there is an answer; some others look
/// for its greeting in it.
const GREETING: &str = concat!(
    "Inglenook ",
    env!("CARGO_PKG_VERSION"),
    " is running. The API is served under /v1; open this address in a browser for the page.\n",
    "For clients of Ollama, whose API is served under /api: Ollama is running\n",
);

pub fn routes(routes: &mut Routes) {
    routes
        .get("/", index)
        .get("/assets/{path:.*}", asset)
        .get("/favicon.svg", asset);
}

/// Whether the path is part of the page.
pub fn is_asset(path: &str) -> bool {
    path == "/" || path == "/favicon.svg" || path.starts_with("/assets/")
}

/// The page for browsers, and a greeting for everyone else.
async fn index(request: HttpRequest) -> HttpResponse {
    let accepts = request.headers().get(header::ACCEPT);
    let accepts = accepts.and_then(|value| value.to_str().ok());
    if !accepts.is_some_and(|types| types.contains("text/html")) {
        return HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "text/plain; charset=utf-8"))
            .insert_header((header::VARY, "accept"))
            .body(GREETING);
    }
    let page = Assets::get("index.html").map_or_else(
        || MISSING.as_bytes().to_vec(),
        |file| file.data.into_owned(),
    );
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::VARY, "accept"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .body(page)
}

async fn asset(request: HttpRequest) -> HttpResponse {
    let path = request.path().trim_start_matches('/');
    let Some(file) = Assets::get(path) else {
        return HttpResponse::NotFound().finish();
    };
    // The names of assets carry a hash of their content.
    let caching = if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let media_type = mime_guess::from_path(path).first_or_octet_stream();
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, media_type.as_ref()))
        .insert_header((header::CACHE_CONTROL, caching))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .body(file.data.into_owned())
}

/// Whether the app was there when the binary was built.
pub fn is_built() -> bool {
    Assets::get("index.html").is_some()
}
