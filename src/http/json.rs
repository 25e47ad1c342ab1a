//! Reads a JSON body leniently in its headers and strictly in its content: the error names the parameter.

use actix_web::dev::Payload;
use actix_web::web::{Bytes, BytesMut};
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

use crate::http::error::ApiError;

/// Largest JSON body: long prompts and files in base64 must fit.
pub const MAX_JSON_BYTES: usize = 64 << 20;

/// A JSON body of type `T`, whatever the content type says.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let mut stream =
            actix_web::dev::Decompress::from_headers(payload.take(), request.headers());
        Box::pin(async move {
            let mut body = BytesMut::new();
            while let Some(chunk) = stream.next().await {
                let chunk = chunk.map_err(|error| {
                    ApiError::malformed(format!("the request body cannot be read: {error}"))
                })?;
                if body.len() + chunk.len() > MAX_JSON_BYTES {
                    return Err(ApiError::too_large(MAX_JSON_BYTES as u64, "the JSON body"));
                }
                body.extend_from_slice(&chunk);
            }
            parse(&body.freeze()).map(JsonBody)
        })
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    if body.is_empty() {
        return Err(ApiError::malformed(
            "the request body is empty, but must be a JSON object",
        ));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if error.is_data() && path != "." {
            ApiError::invalid(path.clone(), format!("invalid value for '{path}': {error}"))
        } else if error.is_data() {
            match missing_field(&error.to_string()) {
                Some(field) => ApiError::invalid(
                    field.clone(),
                    format!("missing required parameter: '{field}'"),
                ),
                None => ApiError::malformed(format!("the request body does not fit: {error}")),
            }
        } else {
            ApiError::malformed(format!("the request body is not valid JSON: {error}"))
        }
    })?;
    deserializer.end().map_err(|error| {
        ApiError::malformed(format!("the request body is not valid JSON: {error}"))
    })?;
    Ok(value)
}

fn missing_field(message: &str) -> Option<String> {
    let rest = message.strip_prefix("missing field `")?;
    Some(rest.split('`').next()?.to_string())
}
