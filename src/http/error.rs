//! The one place where an error becomes an HTTP answer, in the shape that OpenAI clients read; `dialect` gives it the
//! shape of others.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::embedding::EmbeddingError;
use crate::engine::{EngineError, SubmitError};
use crate::rag::answer::AnswerError;
use crate::rag::attached::AttachError;
use crate::rag::constrain::ConstrainError;
use crate::rag::extract::ExtractError;
use crate::rag::generate::GenerateError;
use crate::rag::models::{LoadError, UnloadError};
use crate::rag::prompt::PromptError;
use crate::rag::retrieve::RetrieveError;
use crate::rag::summary::SummaryError;
use crate::store::StoreError;

/// The body of an error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// What is wrong, and what to do about it.
    message: String,
    /// Whose fault it is, such as `invalid_request_error` or `server_error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The parameter that the error is about.
    #[schema(required)]
    param: Option<String>,
    /// The error's own name, where it has one.
    #[schema(required)]
    code: Option<&'static str>,
}

/// An answer that says what went wrong and what to do about it.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    /// Whether the parameter bears this name on every endpoint.
    is_param_certain: bool,
    message: String,
    /// For failures that pass: when to come again, in seconds.
    retry_after: Option<u32>,
    /// For a wrong method: those that the path takes.
    allowed_methods: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            is_param_certain: false,
            message: message.into(),
            retry_after: None,
            allowed_methods: None,
        }
    }

    /// 400: the request is wrong, in the parameter `param`.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(StatusCode::BAD_REQUEST, INVALID, message)
        }
    }

    /// 400: the request as a whole cannot be read.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    /// 400: a feature that is not served.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: Some("unsupported_value"),
            ..Self::invalid(param, message)
        }
    }

    /// 404: there is no `what` of this id.
    pub fn not_found(what: &str, id: &str) -> Self {
        let message = format!("no {what} found with id '{id}'");
        Self::new(StatusCode::NOT_FOUND, INVALID, message)
    }

    pub fn unknown_model(id: &str, served: &[String]) -> Self {
        let served = if served.is_empty() {
            "none".to_string()
        } else {
            served.join(", ")
        };
        Self::model_not_found(format!(
            "the model '{id}' is not served here; served are: {served}"
        ))
    }

    pub fn model_not_found(message: impl Into<String>) -> Self {
        Self {
            code: Some("model_not_found"),
            param: Some("model".into()),
            ..Self::new(StatusCode::NOT_FOUND, INVALID, message)
        }
    }

    pub fn is_unknown_model(&self) -> bool {
        self.code == Some("model_not_found")
    }

    pub fn unknown_route(method: &str, path: &str) -> Self {
        let message = format!("unknown request URL: {method} {path}; the API is served under /v1");
        Self {
            code: Some("unknown_url"),
            ..Self::new(StatusCode::NOT_FOUND, INVALID, message)
        }
    }

    /// 405: the path is served, but not with this method.
    pub fn wrong_method(method: &str, path: &str, allowed: String) -> Self {
        let message = format!("{path} does not take the method {method}, but {allowed}");
        Self {
            allowed_methods: Some(allowed),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, message)
        }
    }

    /// An error of which no more is known than its status and what was said with it.
    pub fn of_status(status: StatusCode, said: &str) -> Self {
        let kind = match status.is_server_error() {
            true => SERVER,
            false => INVALID,
        };
        let message = match said {
            "" => status.canonical_reason().unwrap_or("the request failed"),
            said => said,
        };
        Self::new(status, kind, message)
    }

    /// 400: a JSON body that is larger than may be read.
    pub fn body_too_large(limit_bytes: usize) -> Self {
        Self::malformed(format!(
            "the JSON body is larger than the limit of {limit_bytes} bytes; send less at once, or a file to /v1/files"
        ))
    }

    pub fn too_large(limit_bytes: u64, what: &str) -> Self {
        let message = format!("{what} is larger than the limit of {limit_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, message)
    }

    pub fn unauthorized(message: &str) -> Self {
        Self {
            code: Some("invalid_api_key"),
            ..Self::new(StatusCode::UNAUTHORIZED, INVALID, message)
        }
    }

    pub fn previous_response_not_found(id: &str) -> Self {
        let message =
            format!("previous response with id '{id}' not found; it may not have been stored");
        Self {
            code: Some("previous_response_not_found"),
            ..Self::invalid("previous_response_id", message)
        }
    }

    /// 429: what has a bound has reached it.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self {
            code: Some("rate_limit_exceeded"),
            retry_after: Some(2),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
        }
    }

    /// 500: the model's stream ended without saying why.
    pub fn ended_early() -> Self {
        Self::internal("the answer ended without a reason".into())
    }

    pub fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, INVALID, message)
    }

    /// 503 that no retry mends: something must be installed or configured first.
    pub fn not_available(message: impl Into<String>) -> Self {
        Self {
            code: Some("not_available"),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message)
        }
    }

    fn context_length(param: &str, message: String) -> Self {
        Self {
            code: Some("context_length_exceeded"),
            ..Self::invalid(param, message)
        }
    }

    pub fn internal(message: String) -> Self {
        tracing::error!(error = message, "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, message)
    }

    /// Names the parameter that the error is about, as this endpoint calls it. What is not the request's fault, or is
    /// known by its name, stays as it is.
    pub fn about(mut self, param: &str) -> Self {
        let is_its_fault =
            self.status.is_client_error() && self.status != StatusCode::TOO_MANY_REQUESTS;
        if is_its_fault && !self.is_param_certain {
            self.param = Some(param.into());
        }
        self
    }

    /// As a response object tells it, whose errors have these codes only.
    pub fn response_code(&self) -> &'static str {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_exceeded",
            status if status.is_client_error() => "invalid_prompt",
            _ => "server_error",
        }
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// The body, `{"error": {...}}` with all four keys.
    pub fn body(&self) -> Value {
        json!(self.error_body())
    }

    pub fn error_body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                message: self.message.clone(),
                kind: self.kind,
                param: self.param.clone(),
                code: self.code,
            },
        }
    }
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl std::fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status).json(self.body());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            headers.insert(
                header::HeaderName::from_static("retry-after-ms"),
                HeaderValue::from(u64::from(seconds) * 1000),
            );
        } else if self.status.is_server_error() {
            // Our own failures repeat themselves; a retry would only cost the same again.
            headers.insert(
                header::HeaderName::from_static("x-should-retry"),
                HeaderValue::from_static("false"),
            );
        }
        if let Some(Ok(allowed)) = self.allowed_methods.as_deref().map(HeaderValue::from_str) {
            headers.insert(header::ALLOW, allowed);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::QueueFull { .. } => Self {
                code: Some("rate_limit_exceeded"),
                retry_after: Some(2),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
            },
            SubmitError::PromptTooLong { .. } => Self::context_length("messages", message),
            SubmitError::EmptyPrompt => Self::invalid("messages", message),
            SubmitError::InvalidParameter { name, .. } => Self {
                // Tokens are the one parameter of the engine that has other names outside.
                is_param_certain: name != "prompt",
                ..Self::invalid(name, message)
            },
            SubmitError::Stopped => Self::not_available(message),
        }
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        let message = error.to_string();
        match error {
            LoadError::Unknown { .. } => Self::model_not_found(message),
            LoadError::WrongKind { .. } => Self::invalid("model", message),
            LoadError::NoRoom { no_room, .. } => Self {
                code: Some("not_enough_memory"),
                retry_after: no_room.may_pass().then_some(5),
                ..Self::not_available(message)
            },
            LoadError::Failed { .. } => Self::internal(message),
            LoadError::Stopped => Self::not_available(message),
        }
    }
}

impl From<UnloadError> for ApiError {
    fn from(error: UnloadError) -> Self {
        let message = error.to_string();
        match error {
            UnloadError::NotLoaded { .. } => Self::new(StatusCode::NOT_FOUND, INVALID, message),
            UnloadError::InUse { .. } | UnloadError::Stays { .. } => {
                Self::invalid("model", message)
            }
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::ConstraintFailed(_) => Self::malformed(message),
            EngineError::ModelFailed(_)
            | EngineError::InvalidLogits
            | EngineError::ShuttingDown
            | EngineError::Stopped => Self::internal(message),
        }
    }
}

impl From<ConstrainError> for ApiError {
    fn from(error: ConstrainError) -> Self {
        let message = error.to_string();
        match error {
            ConstrainError::Schema { .. }
            | ConstrainError::TooLarge { .. }
            | ConstrainError::TooSlow
            | ConstrainError::Unavailable { .. } => Self::malformed(message),
            ConstrainError::Busy => Self {
                code: Some("rate_limit_exceeded"),
                retry_after: Some(2),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
            },
        }
    }
}

impl From<GenerateError> for ApiError {
    fn from(error: GenerateError) -> Self {
        let message = error.to_string();
        match error {
            GenerateError::Submit(error) => error.into(),
            GenerateError::Engine(error) => error.into(),
            GenerateError::Constrain(error) => error.into(),
            GenerateError::Template(_) => Self::invalid("messages", message),
            GenerateError::TimedOut { .. } => Self {
                code: Some("timeout"),
                ..Self::new(StatusCode::GATEWAY_TIMEOUT, SERVER, message)
            },
        }
    }
}

impl From<EmbeddingError> for ApiError {
    fn from(error: EmbeddingError) -> Self {
        let message = error.to_string();
        match error {
            EmbeddingError::InputTooLong { .. } => Self::context_length("input", message),
            EmbeddingError::PairTooLong { .. } => Self::context_length("documents", message),
            EmbeddingError::QueryTooLong { .. } => Self::context_length("query", message),
            EmbeddingError::Stopped => Self::not_available(message),
            EmbeddingError::Tokenize { .. } => Self::invalid("input", message),
            EmbeddingError::Read { .. }
            | EmbeddingError::InvalidFile { .. }
            | EmbeddingError::Unsupported { .. }
            | EmbeddingError::UnknownToken { .. }
            | EmbeddingError::NotFinite
            | EmbeddingError::Compute { .. } => Self::internal(message),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NotFound { kind, id } => Self::not_found(kind, &id),
            StoreError::Invalid { what, .. } => Self::invalid(what, message),
            StoreError::Expired { .. } => Self {
                code: Some("vector_store_expired"),
                ..Self::invalid("vector_store_id", message)
            },
            StoreError::BadSpan { .. } => Self::invalid("start", message),
            StoreError::Stopped | StoreError::DiskFull { .. } => Self::not_available(message),
            StoreError::Gone { .. }
            | StoreError::ImportGone { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Locked { .. }
            | StoreError::Io { .. }
            | StoreError::Sqlite(_)
            | StoreError::VectorIndex(_)
            | StoreError::Panicked(_) => Self::internal(message),
        }
    }
}

impl From<AttachError> for ApiError {
    fn from(error: AttachError) -> Self {
        let message = error.to_string();
        match error {
            AttachError::Store(error) => error.into(),
            AttachError::Extract(ExtractError::Worker { .. }) => Self::internal(message),
            AttachError::Extract(
                ExtractError::UnsupportedFormat { .. }
                | ExtractError::Empty { .. }
                | ExtractError::Encrypted
                | ExtractError::NeedsPassword
                | ExtractError::WrongPassword
                | ExtractError::NeedsRecognition { .. }
                | ExtractError::NoText { .. }
                | ExtractError::Invalid { .. }
                | ExtractError::TooLarge { .. }
                | ExtractError::TimedOut { .. }
                | ExtractError::OutOfMemory { .. }
                | ExtractError::Crashed { .. },
            )
            | AttachError::NoText { .. }
            | AttachError::TooLong { .. } => Self::malformed(message),
        }
    }
}

impl From<RetrieveError> for ApiError {
    fn from(error: RetrieveError) -> Self {
        match error {
            RetrieveError::Store(error) => error.into(),
            RetrieveError::Embedding(error) => error.into(),
            RetrieveError::NoEmbedder => Self::not_available(error.to_string()),
        }
    }
}

impl From<SummaryError> for ApiError {
    fn from(error: SummaryError) -> Self {
        match error {
            SummaryError::TooLarge { .. } => Self::invalid("tools", error.to_string()),
            SummaryError::Store(error) => error.into(),
        }
    }
}

impl From<AnswerError> for ApiError {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Prompt(PromptError::Generate(error)) | AnswerError::Generate(error) => {
                error.into()
            }
            AnswerError::Prompt(error @ PromptError::TooLong { .. }) => {
                Self::context_length("input", error.to_string())
            }
            AnswerError::Store(error) => error.into(),
            AnswerError::Retrieve(error) => error.into(),
        }
    }
}
