//! Which pages and apps may call from a browser. A preflight asks for no key, since browsers send none with it.

use actix_cors::Cors;
use actix_web::http::header;

use crate::http::auth;

/// Schemes that only an installed app has for its own page: no site on the network can have one of them.
const APP_SCHEMES: &[&str] = &[
    "app",
    "capacitor",
    "ionic",
    "tauri",
    "vscode-file",
    "vscode-webview",
];

/// Names of which an installed app's own page has one where it cannot have a scheme, as Tauri's on Windows. Browsers look
/// for everything below `localhost` on this machine only.
const APP_HOSTS: &[&str] = &["tauri.localhost", "ionic.localhost"];

/// Browsers may call from this server's own page, from this machine, from installed apps and from the origins that the
/// owner names; any header is allowed, as client libraries send their own. Other origins are refused, not only kept from
/// reading.
pub fn cors(origins: &[String]) -> Cors {
    let allowed = origins.to_vec();
    Cors::default()
        .allowed_origin_fn(move |origin, request| {
            let Ok(origin) = origin.to_str() else {
                return false;
            };
            let (scheme, host) = origin.split_once("://").unwrap_or(("", ""));
            let own = request
                .headers()
                .get(header::HOST)
                .and_then(|own| own.to_str().ok());
            APP_SCHEMES.contains(&scheme)
                || APP_HOSTS.contains(&host)
                || auth::is_local_host(host)
                || own == Some(host)
                || allowed
                    .iter()
                    .any(|allowed| allowed == origin || allowed == "*")
        })
        .block_on_origin_mismatch(true)
        .allow_any_method()
        .allow_any_header()
        .expose_headers([
            "x-request-id",
            "request-id",
            "retry-after",
            "retry-after-ms",
            "x-should-retry",
            "openai-processing-ms",
            "openai-poll-after-ms",
            "openai-version",
        ])
        .max_age(3600)
}
