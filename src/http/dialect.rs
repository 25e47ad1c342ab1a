//! In whose words a request speaks, told by its path, and how an error looks there. Whoever refuses a request raises an
//! [`ApiError`]; only this module gives it another vendor's shape, also where it comes from below the handlers.

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::{anthropic, ollama};

/// Whose clients a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Ollama,
    Anthropic,
}

/// The body of an error on Ollama's paths.
#[derive(Debug, Serialize, ToSchema)]
pub struct OllamaError {
    /// What is wrong, and what to do about it.
    error: String,
}

/// The body of an error on Anthropic's paths.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnthropicError {
    /// Always `error`.
    #[serde(rename = "type")]
    kind: &'static str,
    error: AnthropicErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
struct AnthropicErrorDetail {
    /// Whose fault it is, such as `invalid_request_error` or `api_error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What is wrong, and what to do about it.
    message: String,
}

impl Dialect {
    pub fn of(path: &str) -> Self {
        if ollama::owns(path) {
            Self::Ollama
        } else if anthropic::owns(path) {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }

    /// The body of an answer, or the event of a stream, that tells of the error.
    pub fn body(self, error: &ApiError) -> Value {
        match self {
            Self::OpenAi => error.body(),
            Self::Ollama => json!(OllamaError {
                error: error.message().to_owned(),
            }),
            Self::Anthropic => json!(AnthropicError {
                kind: "error",
                error: AnthropicErrorDetail {
                    kind: anthropic_kind(self.status(error)),
                    message: error.message().to_owned(),
                },
            }),
        }
    }

    fn status(self, error: &ApiError) -> StatusCode {
        self.as_known(error.status_code())
    }

    /// The status as its clients know it: each has one of its own for a server that is busy.
    pub fn as_known(self, status: StatusCode) -> StatusCode {
        match (self, status) {
            (Self::Ollama, StatusCode::TOO_MANY_REQUESTS) => StatusCode::SERVICE_UNAVAILABLE,
            (Self::Anthropic, StatusCode::TOO_MANY_REQUESTS) => overloaded(),
            (_, status) => status,
        }
    }

    /// The whole answer that tells of the error.
    pub fn response(self, error: &ApiError) -> HttpResponse {
        let mut response = error.error_response();
        *response.status_mut() = self.status(error);
        response.set_body(BoxBody::new(self.body(error).to_string()))
    }
}

/// 529, which Anthropic's clients know for an overloaded server.
fn overloaded() -> StatusCode {
    StatusCode::from_u16(529).expect("529 is a status")
}

fn anthropic_kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status == overloaded() => "overloaded_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    }
}

/// Gives errors the shape that the client reads.
pub async fn word_errors<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let dialect = Dialect::of(request.path());
    let response = next.call(request).await?;
    let error = response.response().error();
    let error = error.and_then(|error| error.as_error::<ApiError>());
    let reworded = error
        .filter(|_| dialect != Dialect::OpenAi)
        .map(|error| dialect.response(error));
    Ok(match reworded {
        Some(reworded) => response.into_response(reworded).map_into_right_body(),
        None => response.map_into_left_body(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_tells_whose_clients_ask() {
        for (path, dialect) in [
            ("/api/chat", Dialect::Ollama),
            ("/api/blobs/sha256:1", Dialect::Ollama),
            ("/api/chats", Dialect::OpenAi),
            ("/api/status", Dialect::OpenAi),
            ("/api/models/loaded", Dialect::OpenAi),
            ("/v1/messages", Dialect::Anthropic),
            ("/messages/count_tokens", Dialect::Anthropic),
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }

    #[test]
    fn a_full_queue_is_told_as_each_client_knows_it() {
        let full = || ApiError::from(crate::engine::SubmitError::QueueFull { capacity: 3 });
        assert_eq!(Dialect::Ollama.status(&full()), 503);
        assert_eq!(Dialect::Anthropic.status(&full()), 529);
        let body = Dialect::Anthropic.body(&full());
        assert_eq!(body["error"]["type"], "overloaded_error");
    }
}
