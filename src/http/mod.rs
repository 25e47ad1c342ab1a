//! Speaks HTTP: the only place that knows actix. Parses, checks and streams; all work is done below.

pub mod anthropic;
pub mod app_api;
pub mod auth;
pub mod cors;
pub mod dialect;
pub mod error;
pub mod health;
pub mod json;
pub mod metrics;
pub mod ollama;
pub mod openai;
pub mod openapi;
pub mod request_id;
pub mod routes;
pub mod routing;
pub mod sse;
pub mod ui;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use actix_web::dev::{Server, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::{NormalizePath, from_fn};
use actix_web::{App, HttpServer, web};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::embedding::{Embedder, Reranker};
use crate::rag::attached::FileReader;
use crate::rag::generate::ChatModel;
use crate::rag::import::Imports;
use crate::rag::models::{Leased, LoadError, ModelKind};
use crate::rag::watch::FolderStatus;
use crate::rag::{Answerer, QUOTE_MODEL, Workspace};
use error::ApiError;
use openai::responses::BackgroundTasks;
use routes::{Methods, Routes};

/// What every handler sees.
pub struct Context {
    pub workspace: Workspace,
    pub options: HttpOptions,
    /// Unix seconds.
    pub started_at: i64,
    /// Where models run, in a few words.
    pub device: String,
    /// The running ingestion, where there is one.
    pub ingestion: Option<AbortHandle>,
    /// Reads the files that messages bring.
    pub files: FileReader,
    /// Responses that are written while nobody waits.
    pub background: BackgroundTasks,
    /// What the reader should know about this server, such as that a model is missing.
    pub notices: Vec<String>,
    /// Downloads a model, where the owner lets clients do so.
    pub pull_model: Option<ollama::PullModel>,
    /// Imports documents from the web, where the owner lets clients do so.
    pub imports: Option<Imports>,
    /// How the watched folders are, where there are any.
    pub watched: Option<watch::Receiver<Vec<FolderStatus>>>,
    /// What else runs in the background, by name.
    pub tasks: Vec<(&'static str, AbortHandle)>,
}

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    pub host: IpAddr,
    pub port: u16,
    pub api_key: Option<String>,
    pub max_upload_bytes: u64,
    /// Where an upload is kept until it is stored: beside the store, which has the room.
    pub upload_dir: PathBuf,
    pub generation_timeout: Duration,
    pub shutdown_grace: Duration,
    /// The silence before an answer begins after which a stream says that it lives; `None` never does.
    pub sse_keep_alive: Option<Duration>,
    pub cors_origins: Vec<String>,
    /// Between two looks at the watched folders.
    pub watch_interval: Duration,
}

impl Context {
    /// The chat model of that name, or the default when none is named. Waits while it is loaded.
    pub async fn chat_model(&self, name: Option<&str>) -> Result<ChatModel, ApiError> {
        let models = &self.workspace.models;
        let default = models.default_chat();
        let Some(name) = name.filter(|name| !name.is_empty()).or(default) else {
            return Err(ApiError::not_available(NO_CHAT_MODEL));
        };
        if self.is_quote_model(Some(name)) {
            let message = format!(
                "'{QUOTE_MODEL}' only answers questions in conversations; name a chat model"
            );
            return Err(ApiError::unsupported("model", message));
        }
        match models.chat(name).await {
            Ok(chat) => Ok(chat),
            Err(error) => Err(self.not_loaded(error).await),
        }
    }

    /// Whether a request names the model that quotes, by its own name or an alias.
    pub fn is_quote_model(&self, name: Option<&str>) -> bool {
        name.is_some_and(|name| self.workspace.models.id(name) == QUOTE_MODEL)
    }

    /// Who answers from documents: the model of that name, or the default when none is named.
    pub async fn answerer(&self, name: Option<&str>) -> Result<Answerer, ApiError> {
        match name {
            None | Some("") => match self.workspace.default_answerer().await {
                Ok(answerer) => Ok(answerer),
                Err(error) => Err(self.not_loaded(error).await),
            },
            Some(_) if self.is_quote_model(name) => Ok(Answerer::Quote),
            Some(_) => Ok(Answerer::Chat(self.chat_model(name).await?)),
        }
    }

    /// The model that embeds the documents.
    pub fn documents_embedder(&self) -> Result<&Embedder, ApiError> {
        let embedder = self.workspace.embedder.as_ref();
        embedder.ok_or_else(|| ApiError::not_available(NO_EMBEDDING_MODEL))
    }

    /// The embedding model of that name, or the documents' when none is named. Waits while it is loaded.
    pub async fn embedding_model(&self, name: Option<&str>) -> Result<Leased<Embedder>, ApiError> {
        let name = match name.filter(|name| !name.is_empty()) {
            Some(name) => name,
            None => &self.documents_embedder()?.spec().name,
        };
        match self.workspace.models.embedder(name).await {
            Ok(embedder) => Ok(embedder),
            Err(error) => Err(self.not_loaded(error).await),
        }
    }

    /// The rerank model of that name, or the first there is when none is named. Waits while it is loaded.
    pub async fn rerank_model(&self, name: Option<&str>) -> Result<Leased<Reranker>, ApiError> {
        let models = &self.workspace.models;
        let name = match name.filter(|name| !name.is_empty()) {
            Some(name) => name.to_owned(),
            None => {
                let entries = models.list().await.into_iter();
                let mut rerankers = entries.filter(|entry| entry.kind == ModelKind::Rerank);
                let first = rerankers.next();
                first
                    .ok_or_else(|| ApiError::not_available(NO_RERANK_MODEL))?
                    .id
            }
        };
        match models.reranker(&name).await {
            Ok(reranker) => Ok(reranker),
            Err(error) => Err(self.not_loaded(error).await),
        }
    }

    /// Why a model cannot be used; one that is not here is answered with those that are.
    async fn not_loaded(&self, error: LoadError) -> ApiError {
        match error {
            LoadError::Unknown { name, hint: None } => {
                ApiError::unknown_model(&name, &self.served_models().await)
            }
            error => error.into(),
        }
    }

    pub async fn served_models(&self) -> Vec<String> {
        let models = openai::models::served(self).await;
        models.into_iter().map(|model| model.id).collect()
    }

    pub fn generation_timeout(&self) -> Duration {
        self.options.generation_timeout
    }

    /// Changes when answers may: another version or another start.
    pub fn fingerprint(&self) -> String {
        format!(
            "inglenook_{}_{:x}",
            env!("CARGO_PKG_VERSION"),
            self.started_at
        )
    }
}

/// What to do when there is no chat model.
pub const NO_CHAT_MODEL: &str =
    "no chat model is loaded; pull one with: inglenook models pull qwen3-1.7b, then restart";
/// What to do when there is no embedding model.
pub const NO_EMBEDDING_MODEL: &str = "no embedding model is loaded; pull one with: inglenook models pull bge-small-en-v1.5, then restart";

/// What to do when there is no rerank model.
pub const NO_RERANK_MODEL: &str =
    "there is no rerank model; pull one with: inglenook models pull bge-reranker-base";

/// Binds the address, so that a port in use is an error before anything is served.
pub fn bind(options: &HttpOptions) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((options.host, options.port))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// What commands run on: one thread, as handlers have theirs.
pub fn runtime() -> actix_web::rt::SystemRunner {
    actix_web::rt::System::new()
}

/// The server on a bound listener; it runs when awaited, and stops by its handle.
pub fn serve(context: Context, listener: TcpListener) -> std::io::Result<Server> {
    let grace = context.options.shutdown_grace;
    let context = web::Data::new(context);
    let counts = web::Data::new(metrics::RequestCounts::default());
    let server = HttpServer::new(move || {
        let methods = Methods::default();
        App::new()
            .app_data(context.clone())
            .app_data(counts.clone())
            .app_data(methods.clone())
            .app_data(web::QueryConfig::default().error_handler(|error, _| {
                ApiError::malformed(format!("the query cannot be read: {error}")).into()
            }))
            .wrap(from_fn(routing::serve_head))
            .wrap(from_fn(auth::require_key))
            .wrap(from_fn(dialect::word_errors))
            .wrap(cors::cors(&context.options.cors_origins))
            .wrap(from_fn(routing::errors_as_json))
            .wrap(from_fn(metrics::count))
            .wrap(from_fn(request_id::add))
            .wrap(NormalizePath::trim())
            .configure(|config| routes(&mut Routes::new(config, methods)))
            .default_service(web::to(routing::fallback))
    });
    let server = server
        .listen(listener)?
        .workers(2)
        .client_request_timeout(Duration::from_secs(30))
        .keep_alive(Duration::from_secs(75))
        // A client that closes its side has left: whoever works for it must stop.
        .h1_allow_half_closed(false)
        .shutdown_timeout(grace.as_secs())
        .disable_signals();
    Ok(server.run())
}

fn routes(routes: &mut Routes) {
    routes
        .get("/health", health::get)
        .get("/version", health::version)
        .get("/metrics", metrics::get)
        .below("/api", |routes| {
            routes.with(app_api::routes).with(ollama::routes);
        })
        // Clients that append /v1 to a base URL which has it.
        .below("/v1/v1", vendors)
        .below("/v1", vendors)
        .post("/v2/rerank", openai::rerank::create_v2)
        .with(ui::routes)
        .with(openapi::routes)
        // Clients whose base URL lacks /v1.
        .with(vendors);
}

/// The APIs that are served under /v1.
fn vendors(routes: &mut Routes) {
    routes.with(openai::routes).with(anthropic::routes);
}

/// Runs `work`, which computes, away from the threads that serve.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match web::block(work).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::ended_early()),
    }
}

/// Headers that every answer carries.
fn harden<B>(response: &mut ServiceResponse<B>) {
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        header::HeaderValue::from_static("no-referrer"),
    );
}
