//! Gives every answer its request id and the time it took, and logs one line a request.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;

use crate::http::harden;
use crate::store::new_id;

pub async fn add(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let id = new_id("req_");
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.path().to_string());
    let mut response = next.call(request).await?;
    let elapsed = started.elapsed().as_millis() as u64;
    tracing::info!(%method, path, status = response.status().as_u16(), ms = elapsed, id, "request");
    harden(&mut response);
    let headers = response.headers_mut();
    // Anthropic's clients read the second.
    for name in ["x-request-id", "request-id"] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_str(&id).expect("ids are ASCII"),
        );
    }
    headers.insert(
        HeaderName::from_static("openai-processing-ms"),
        HeaderValue::from(elapsed),
    );
    headers.insert(
        HeaderName::from_static("openai-version"),
        HeaderValue::from_static("2020-10-01"),
    );
    Ok(response)
}
