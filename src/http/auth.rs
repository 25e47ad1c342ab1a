//! The one path that decides who may call. Everything but the pages themselves and `/health` passes it.

use std::net::IpAddr;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::web;
use subtle::ConstantTimeEq;

use crate::http::error::ApiError;
use crate::http::{Context, openapi, ui};

pub async fn require_key<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    match check(&request) {
        Ok(()) => next
            .call(request)
            .await
            .map(ServiceResponse::map_into_left_body),
        Err(error) => Ok(request.error_response(error).map_into_right_body()),
    }
}

fn check(request: &ServiceRequest) -> Result<(), ApiError> {
    let context = request
        .app_data::<web::Data<Context>>()
        .expect("every app has a context");
    let Some(key) = &context.options.api_key else {
        return check_host(request);
    };
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if request.method() == Method::OPTIONS || (is_read && is_public(request.path())) {
        return Ok(());
    }
    let Some(given) = given_key(request) else {
        return Err(ApiError::unauthorized(
            "no API key was given; send the header 'Authorization: Bearer KEY'",
        ));
    };
    if bool::from(given.as_bytes().ct_eq(key.as_bytes())) {
        Ok(())
    } else {
        Err(ApiError::unauthorized(
            "the API key is not valid on this server",
        ))
    }
}

/// Without a key only this machine may call, under its own name: a foreign page whose name was pointed at this machine
/// is refused.
fn check_host(request: &ServiceRequest) -> Result<(), ApiError> {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    match host {
        Some(host) if !is_local_host(host) => Err(ApiError::forbidden(
            "this server has no API key and answers only to localhost; set --api-key to call it by another name",
        )),
        _ => Ok(()),
    }
}

/// Whether `host`, with or without a port, is this machine's own name.
pub fn is_local_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    let is_loopback = |address: IpAddr| address.is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

/// The pages and their assets hold nothing private, and they are where a key is entered.
fn is_public(path: &str) -> bool {
    path == "/health" || ui::is_asset(path) || openapi::is_public(path)
}

fn given_key(request: &ServiceRequest) -> Option<&str> {
    let headers = request.headers();
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or_else(|| {
        headers
            .get("x-api-key")
            .and_then(|value| value.to_str().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::is_local_host;

    #[test]
    fn only_this_machine_has_a_local_name() {
        for host in [
            "localhost",
            "localhost:3000",
            "127.0.0.1:8321",
            "[::1]:8321",
            "LOCALHOST",
        ] {
            assert!(is_local_host(host), "{host}");
        }
        for host in [
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "10.0.0.1",
            "",
            "[::2]",
        ] {
            assert!(!is_local_host(host), "{host}");
        }
    }
}
