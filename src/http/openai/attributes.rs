//! Attributes of documents, as the API allows them: a few short strings, numbers or booleans.

use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::http::error::ApiError;
use crate::http::openai::metadata::{check_key, key_schema};
use crate::store::{AttributeValue, Attributes};

/// Attributes that a document may have, and how long they may be.
const MAX_ATTRIBUTES: usize = 16;
const MAX_CHARS: usize = 512;

/// Checked attributes.
pub fn checked(attributes: Map<String, Value>) -> Result<Attributes, ApiError> {
    if attributes.len() > MAX_ATTRIBUTES {
        let message = format!(
            "attributes has {} keys, but may have {MAX_ATTRIBUTES}",
            attributes.len()
        );
        return Err(ApiError::invalid("attributes", message));
    }
    let mut checked = Attributes::new();
    for (key, given) in attributes {
        check_key("attributes", &key)?;
        let is_short = given
            .as_str()
            .is_none_or(|text| text.chars().count() <= MAX_CHARS);
        let Some(given) = value(&given).filter(|_| is_short) else {
            let message = format!(
                "attributes.{key} must be a number, a boolean or a string of at most {MAX_CHARS} characters"
            );
            return Err(ApiError::invalid(format!("attributes.{key}"), message));
        };
        checked.insert(key, given);
    }
    Ok(checked)
}

/// Attributes of a request, in the OpenAPI document; null is the same as none.
pub fn schema() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .property_names(Some(key_schema()))
        .additional_properties(Some(value_schema(Some(MAX_CHARS))))
        .max_properties(Some(MAX_ATTRIBUTES))
        .description(Some("What filters can ask for"))
        .build()
}

fn value_schema(max_chars: Option<usize>) -> Schema {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(max_chars);
    OneOfBuilder::new()
        .item(text)
        .item(Object::with_type(Type::Number))
        .item(Object::with_type(Type::Boolean))
        .build()
        .into()
}

impl ToSchema for AttributeValue {}

impl PartialSchema for AttributeValue {
    fn schema() -> RefOr<Schema> {
        value_schema(None).into()
    }
}

/// A single attribute value; `None` for null, lists and objects.
pub fn value(value: &Value) -> Option<AttributeValue> {
    match value {
        Value::String(text) => Some(AttributeValue::String(text.clone())),
        Value::Number(number) => Some(AttributeValue::Number(number.clone())),
        Value::Bool(flag) => Some(AttributeValue::Bool(*flag)),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
