//! What base URLs and methods lead to, beyond the routes themselves: HEAD is served wherever GET is, whatever no route
//! takes is told why, and every error speaks JSON.

use actix_web::body::{EitherBody, MessageBody, to_bytes};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse, ResponseError};

use crate::http::error::ApiError;
use crate::http::openapi;

/// Answers HEAD as GET; the connection leaves the body out.
pub async fn serve_head<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    next.call(request).await
}

/// Whatever no route takes. A known path is told from an unknown one, so that a client sees which of both is wrong.
pub async fn fallback(request: HttpRequest) -> HttpResponse {
    let (method, path) = (request.method(), request.path());
    let method = method.as_str();
    match request.resource_map().match_pattern(path) {
        Some(_) if method == Method::OPTIONS => HttpResponse::Ok().finish(),
        Some(route) => {
            let allowed = openapi::methods(&route);
            HttpResponse::from_error(ApiError::wrong_method(method, path, allowed))
        }
        None => HttpResponse::from_error(ApiError::unknown_route(method, path)),
    }
}

/// Gives errors that come from below the handlers, in words or without any, the body that clients read.
pub async fn errors_as_json<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let response = next.call(request).await?;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let media_type = response.headers().get(header::CONTENT_TYPE);
    let is_json = media_type.is_some_and(|it| it.as_bytes().starts_with(b"application/json"));
    if !is_error || is_json {
        return Ok(response.map_into_left_body());
    }
    let (request, response) = response.into_parts();
    let (plain, body) = response.into_parts();
    let said = to_bytes(body).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let mut response = ApiError::of_status(status, said.trim()).error_response();
    for (name, value) in plain.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    Ok(ServiceResponse::new(request, response).map_into_right_body())
}
