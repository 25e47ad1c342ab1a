//! What shape an answer is to have: `response_format`, and the extensions that users of other servers know.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::rag::constrain::Shape;

#[derive(Debug, Deserialize, ToSchema)]
pub struct ResponseFormat {
    #[serde(rename = "type")]
    #[schema(value_type = FormatType)]
    kind: String,
    /// Needed for `json_schema`.
    json_schema: Option<JsonSchema>,
    /// For `json_object`, an extension.
    #[schema(value_type = Option<JsonSchemaValue>)]
    schema: Option<Value>,
}

#[derive(ToSchema)]
#[schema(as = ResponseFormatType, rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the schema of what `shape` reads")]
enum FormatType {
    Text,
    JsonObject,
    JsonSchema,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NamedJsonSchema)]
struct JsonSchema {
    #[schema(value_type = JsonSchemaValue)]
    schema: Option<Value>,
    /// Whether a schema that cannot be held is refused.
    strict: Option<bool>,
}

/// A JSON schema.
#[derive(ToSchema)]
#[schema(as = JsonSchema)]
#[serde(untagged)]
pub enum JsonSchemaValue {
    Fields(HashMap<String, Value>),
    Any(bool),
}

/// A JSON schema; some clients send it as text.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum JsonSchemaOrText {
    Schema(JsonSchemaValue),
    Text(String),
}

/// vLLM's ways to say it: `structured_outputs`, or `guided_json` and its like.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = StructuredOutputs)]
pub struct Guide {
    #[schema(value_type = Option<JsonSchemaOrText>)]
    pub json: Option<Value>,
    pub regex: Option<String>,
    /// In the syntax of Lark.
    pub grammar: Option<String>,
    /// One of these texts is the answer.
    #[schema(min_items = 1)]
    pub choice: Option<Vec<String>>,
}

/// The shape that a chat request asks for, with the name of the field that says it.
pub fn shape(
    format: Option<ResponseFormat>,
    structured_outputs: Option<Guide>,
    guide: Guide,
) -> Result<Option<(Shape, &'static str)>, ApiError> {
    let mut shapes = Vec::new();
    if let Some(format) = format {
        let shape = match (format.kind.as_str(), format.json_schema) {
            ("text", _) => None,
            ("json_object", _) => Some(json_object(format.schema)),
            ("json_schema", Some(named)) => Some(json_schema(named.schema, named.strict)?),
            ("json_schema", None) => Some(json_schema(None, None)?),
            (other, _) => {
                let message = format!(
                    "response_format is '{other}', but must be text, json_object or json_schema"
                );
                return Err(ApiError::unsupported("response_format", message));
            }
        };
        shapes.extend(shape.map(|shape| (shape, "response_format")));
    }
    shapes.extend(guide.shapes("guided_json")?);
    if let Some(outputs) = structured_outputs {
        shapes.extend(outputs.shapes("structured_outputs")?);
    }
    if let [(_, first), (_, second), ..] = shapes.as_slice() {
        let message = format!("{first} and {second} both give the answer a shape; use one");
        return Err(ApiError::invalid(*second, message));
    }
    Ok(shapes.pop())
}

impl Guide {
    /// All shapes that it has; `json_field` names the field with the schema, which others are named after.
    fn shapes(self, json_field: &'static str) -> Result<Vec<(Shape, &'static str)>, ApiError> {
        let of = |flat: &'static str| match json_field {
            "guided_json" => flat,
            nested => nested,
        };
        let mut shapes = Vec::new();
        if let Some(json) = self.json {
            let schema = match json {
                // Some clients send the schema as text.
                Value::String(text) => serde_json::from_str(&text).map_err(|error| {
                    let message = format!("the schema is not valid JSON: {error}");
                    ApiError::invalid(json_field, message)
                })?,
                schema => schema,
            };
            let is_strict = true;
            shapes.push((Shape::Json { schema, is_strict }, json_field));
        }
        if let Some(regex) = self.regex {
            shapes.push((Shape::Regex(regex), of("guided_regex")));
        }
        if let Some(grammar) = self.grammar {
            shapes.push((Shape::Lark(grammar), of("guided_grammar")));
        }
        if let Some(choice) = self.choice {
            if choice.is_empty() {
                let message = "the choice is empty, but must have at least one text";
                return Err(ApiError::invalid(of("guided_choice"), message));
            }
            shapes.push((Shape::Choice(choice), of("guided_choice")));
        }
        Ok(shapes)
    }
}

/// Any object, or one of a schema that is held as far as possible.
pub fn json_object(schema: Option<Value>) -> Shape {
    Shape::Json {
        schema: schema.unwrap_or_else(|| json!({ "type": "object" })),
        is_strict: false,
    }
}

/// The shape that a schema gives. Without `strict`, what cannot be held is passed over.
pub fn json_schema(schema: Option<Value>, strict: Option<bool>) -> Result<Shape, ApiError> {
    let schema = schema.filter(|schema| !schema.is_null()).ok_or_else(|| {
        let message = "a format of type json_schema needs a 'schema'";
        ApiError::invalid("response_format", message)
    })?;
    Ok(Shape::Json {
        schema,
        is_strict: strict.unwrap_or(false),
    })
}
