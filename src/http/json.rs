//! Reads a JSON body leniently in its headers and strictly in its content: the error names the parameter.

use actix_web::dev::Payload;
use actix_web::web::{Bytes, BytesMut};
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::http::error::ApiError;

/// Largest JSON body: long prompts and files in base64 must fit.
pub const MAX_JSON_BYTES: usize = 64 << 20;

/// A JSON body of type `T`, whatever the content type says.
pub struct JsonBody<T>(pub T);

/// A JSON body whose fields are read into two types, each taking its own. Serde's `flatten` would do it in one, and lose
/// the name of the field that an error is about.
pub struct JsonParts<A, B>(pub A, pub B);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = read(request, payload);
        Box::pin(async move { Ok(Self(parse(&body.await?)?)) })
    }
}

impl<A: DeserializeOwned + 'static, B: DeserializeOwned + 'static> FromRequest for JsonParts<A, B> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = read(request, payload);
        Box::pin(async move {
            let body = body.await?;
            Ok(Self(parse(&body)?, parse(&body)?))
        })
    }
}

fn read(
    request: &HttpRequest,
    payload: &mut Payload,
) -> impl Future<Output = Result<Bytes, ApiError>> + use<> {
    let mut stream = actix_web::dev::Decompress::from_headers(payload.take(), request.headers());
    async move {
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
        Ok(body.freeze())
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    if body.is_empty() {
        return Err(ApiError::malformed(
            "the request body is empty, but must be a JSON object",
        ));
    }
    let invalid = |error: serde_json::Error| {
        ApiError::malformed(format!("the request body is not valid JSON: {error}"))
    };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if !error.is_data() {
            return invalid(error);
        }
        if let Some(field) = missing_field(&error.to_string()) {
            let field = if path == "." {
                field
            } else {
                format!("{path}.{field}")
            };
            let message = format!("missing required parameter: '{field}'");
            return ApiError::invalid(field, message);
        }
        if path == "." {
            return ApiError::malformed(format!("the request body does not fit: {error}"));
        }
        let message = format!("invalid value for '{path}': {error}");
        ApiError::invalid(path, message)
    })?;
    deserializer.end().map_err(invalid)?;
    Ok(value)
}

/// For a field in which null is not the same as nothing. It needs `#[serde(default)]` too.
pub fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn missing_field(message: &str) -> Option<String> {
    let rest = message.strip_prefix("missing field `")?;
    Some(rest.split('`').next()?.to_string())
}
