//! Reads a JSON body leniently in its headers and strictly in its content: the error names the parameter.

mod objects;

use actix_web::dev::{Decompress, Payload};
use actix_web::http::header;
use actix_web::web::{Bytes, BytesMut};
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::http::error::ApiError;
use objects::{Objects, from_objects};

/// Largest JSON body: long prompts and files in base64 must fit.
pub const MAX_JSON_BYTES: usize = 64 << 20;

/// A client that sends more than may be read still gets its answer when it has sent all; but no more than this is waited
/// for.
const MAX_SKIPPED_BYTES: usize = 4 * MAX_JSON_BYTES;
/// Some clients begin UTF-8 with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A JSON body of type `T`, whatever the content type says.
pub struct JsonBody<T>(pub T);

/// A JSON body of type `T` that may be left out, which is the same as an empty object.
pub struct OptionalJsonBody<T>(pub T);

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

impl<T: DeserializeOwned + Default + 'static> FromRequest for OptionalJsonBody<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = read(request, payload);
        Box::pin(async move {
            let body = body.await?;
            Ok(Self(match body.is_empty() {
                true => T::default(),
                false => parse(&body)?,
            }))
        })
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
    let encoding = checked_encoding(request);
    let mut stream = Decompress::from_headers(payload.take(), request.headers());
    async move {
        encoding?;
        let mut body = BytesMut::new();
        let mut num_bytes = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| {
                ApiError::malformed(format!("the request body cannot be read: {error}"))
            })?;
            num_bytes += chunk.len();
            if num_bytes <= MAX_JSON_BYTES {
                body.extend_from_slice(&chunk);
            } else if num_bytes > MAX_SKIPPED_BYTES {
                break;
            }
        }
        if num_bytes > MAX_JSON_BYTES {
            return Err(ApiError::body_too_large(MAX_JSON_BYTES));
        }
        Ok(body.freeze())
    }
}

/// Refuses an encoding that would be taken for the text itself.
fn checked_encoding(request: &HttpRequest) -> Result<(), ApiError> {
    let Some(encoding) = request.headers().get(header::CONTENT_ENCODING) else {
        return Ok(());
    };
    let encoding = String::from_utf8_lossy(encoding.as_bytes()).to_lowercase();
    match encoding.as_str() {
        "" | "identity" | "gzip" | "deflate" => Ok(()),
        other => Err(ApiError::malformed(format!(
            "the content-encoding '{other}' is not read; send the body as it is, or with gzip or deflate"
        ))),
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    if body.is_empty() {
        return Err(ApiError::malformed(
            "the request body is empty, but must be a JSON object",
        ));
    }
    let invalid = |error: serde_json::Error| {
        ApiError::malformed(format!("the request body is not valid JSON: {error}"))
    };
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        serde_json::from_slice::<IgnoredAny>(body).map_err(invalid)?;
        return Err(ApiError::malformed(
            "the request body must be a JSON object",
        ));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = from_objects(&mut deserializer).map_err(|error| {
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
        // Null is the same as absent.
        if error.to_string().starts_with("invalid type: null") && path != "." {
            let message = format!("missing required parameter: '{path}'");
            return ApiError::invalid(path, message);
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

/// Reads what stands in a body, and was kept as it came until it was known what it is.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
    T::deserialize(Objects(value))
}

/// For a field in which null is not the same as nothing. It needs `#[serde(default)]` too.
pub fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// For a number with bounds, which are whole. One that lies so close behind a bound that 32 bits do not tell it from the
/// bound stays behind it. The field needs `#[serde(default)]` too.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.map(rounded))
}

/// The same for a field that must be there.
pub fn needed_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    Ok(rounded(f64::deserialize(deserializer)?))
}

fn rounded(value: f64) -> f32 {
    let nearest = value as f32;
    match f64::from(nearest) {
        whole if whole.fract() != 0.0 => nearest,
        whole if whole < value => nearest.next_up(),
        whole if whole > value => nearest.next_down(),
        _ => nearest,
    }
}

fn missing_field(message: &str) -> Option<String> {
    let rest = message.strip_prefix("missing field `")?;
    Some(rest.split('`').next()?.to_string())
}
