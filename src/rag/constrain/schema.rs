//! Checks a JSON schema before it is compiled: a hostile one must cost nothing, and one that cannot be held must be
//! refused by the keyword that is the reason.

use serde_json::{Map, Value, json};

use super::ConstrainError;

/// Schemas of real interfaces have a tenth of this.
const MAX_BYTES: usize = 256 << 10;
const MAX_DEPTH: usize = 64;
/// Counts of repetitions become states of an automaton.
const MAX_REPETITIONS: u64 = 10_000;
const MAX_PATTERN_BYTES: usize = 2_000;
const MAX_ENUM: usize = 5_000;
const MAX_PATTERNS: usize = 256;
/// Keys of `patternProperties` are compared each with each.
const MAX_PATTERN_PROPERTIES: usize = 16;
/// Patterns that must hold together multiply: each more may square the time to find whether any text fits.
const MAX_JOINED_PATTERNS: usize = 2;

/// Keywords that say something of a value which cannot be held while it is being written.
const UNSUPPORTED: &[&str] = &[
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependentRequired",
    "dependencies",
    "unevaluatedProperties",
    "unevaluatedItems",
    "propertyNames",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "$dynamicRef",
    "$recursiveRef",
];

const COUNTS: &[&str] = &[
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
];

/// Blanks between the parts: one, or a line break with its indentation. More would let a model write blanks for ever.
const BLANKS: &str = r" |\n[ \t]{0,32}";

/// The schema as it is compiled. Strictly: each keyword is held, or refused by name. Otherwise what cannot be held is
/// passed over.
pub fn prepare(schema: &Value, is_strict: bool) -> Result<Value, ConstrainError> {
    let Value::Object(fields) = schema else {
        return Err(ConstrainError::Schema {
            message: "the schema must be a JSON object".into(),
        });
    };
    let num_bytes = schema.to_string().len();
    if num_bytes > MAX_BYTES {
        return Err(ConstrainError::TooLarge {
            message: format!("the schema has {num_bytes} bytes, but may have {MAX_BYTES}"),
        });
    }
    check(schema, Kind::Schema, 0, is_strict)?;
    check_patterns(schema)?;
    let mut fields = fields.clone();
    fields.insert(
        "x-guidance".into(),
        json!({ "whitespace_pattern": BLANKS, "lenient": !is_strict }),
    );
    Ok(Value::Object(fields))
}

/// What a JSON value within a schema is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Schema,
    /// An object of schemas by name.
    Named,
    /// Data, such as an enum's values.
    Data,
}

fn check(value: &Value, kind: Kind, depth: usize, is_strict: bool) -> Result<(), ConstrainError> {
    if depth > MAX_DEPTH {
        return Err(ConstrainError::TooLarge {
            message: format!("the schema is nested deeper than {MAX_DEPTH} levels"),
        });
    }
    match value {
        Value::Array(items) => {
            for item in items {
                check(item, kind, depth + 1, is_strict)?;
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                let kind = match kind {
                    Kind::Schema => {
                        check_keyword(key, value, fields, is_strict)?;
                        kind_of(key)
                    }
                    Kind::Named => Kind::Schema,
                    Kind::Data => Kind::Data,
                };
                check(value, kind, depth + 1, is_strict)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

/// Refuses patterns in a number that would take too long.
fn check_patterns(schema: &Value) -> Result<(), ConstrainError> {
    let mut all = PatternCount::default();
    all.add(schema);
    if all.num_pattern_properties > MAX_PATTERN_PROPERTIES {
        return Err(ConstrainError::TooLarge {
            message: format!(
                "the schema has {} patterns in 'patternProperties', but may have {MAX_PATTERN_PROPERTIES}",
                all.num_pattern_properties
            ),
        });
    }
    let (count, limit, what) = match all.has_joins {
        true => (all.num_patterns, MAX_JOINED_PATTERNS, "beside 'allOf'"),
        false => (all.num_patterns, MAX_PATTERNS, "in one schema"),
    };
    if count <= limit {
        return Ok(());
    }
    Err(ConstrainError::TooLarge {
        message: format!("the schema has {count} patterns {what}, but may have {limit}"),
    })
}

#[derive(Default)]
struct PatternCount {
    num_patterns: usize,
    num_pattern_properties: usize,
    /// Whether several schemas must hold for one value.
    has_joins: bool,
}

impl PatternCount {
    fn add(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(fields) => {
                self.num_patterns +=
                    usize::from(fields.get("pattern").is_some_and(Value::is_string));
                if let Some(Value::Object(patterns)) = fields.get("patternProperties") {
                    self.num_pattern_properties += patterns.len();
                }
                let num_options =
                    |key: &str| fields.get(key).and_then(Value::as_array).map(Vec::len);
                self.has_joins |= num_options("allOf").is_some_and(|num| num > 1)
                    || (fields.contains_key("$ref") && fields.contains_key("pattern"));
                fields.values().for_each(|field| self.add(field));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn kind_of(key: &str) -> Kind {
    match key {
        "properties" | "patternProperties" | "$defs" | "definitions" => Kind::Named,
        "items"
        | "prefixItems"
        | "additionalItems"
        | "additionalProperties"
        | "anyOf"
        | "oneOf"
        | "allOf" => Kind::Schema,
        _ => Kind::Data,
    }
}

fn check_keyword(
    key: &str,
    value: &Value,
    fields: &Map<String, Value>,
    is_strict: bool,
) -> Result<(), ConstrainError> {
    let refused = |message: String| Err(ConstrainError::Schema { message });
    // `"uniqueItems": false` and the like say nothing.
    if is_strict && UNSUPPORTED.contains(&key) && *value != Value::Bool(false) {
        return refused(format!(
            "the schema uses '{key}', which cannot be held while the answer is written; leave it out"
        ));
    }
    if COUNTS.contains(&key) && value.as_u64().is_some_and(|count| count > MAX_REPETITIONS) {
        return Err(ConstrainError::TooLarge {
            message: format!("'{key}' is {value}, but may be at most {MAX_REPETITIONS}"),
        });
    }
    let long_key =
        |fields: &Map<String, Value>| fields.keys().any(|key| key.len() > MAX_PATTERN_BYTES);
    if key == "patternProperties" && value.as_object().is_some_and(long_key) {
        return Err(ConstrainError::TooLarge {
            message: format!(
                "a key of 'patternProperties' is longer than {MAX_PATTERN_BYTES} bytes"
            ),
        });
    }
    // Elsewhere it would lead to what was not checked.
    let is_checked =
        |to: &str| to == "#" || to.starts_with("#/$defs/") || to.starts_with("#/definitions/");
    if key == "$ref" && value.as_str().is_some_and(|to| !is_checked(to)) {
        return refused(format!(
            "'$ref' leads to {value}, but may only lead to '#', '#/$defs/NAME' or '#/definitions/NAME'"
        ));
    }
    if key == "pattern"
        && value
            .as_str()
            .is_some_and(|it| it.len() > MAX_PATTERN_BYTES)
    {
        return Err(ConstrainError::TooLarge {
            message: format!("a 'pattern' is longer than {MAX_PATTERN_BYTES} bytes"),
        });
    }
    if key == "enum" && value.as_array().is_some_and(|it| it.len() > MAX_ENUM) {
        return Err(ConstrainError::TooLarge {
            message: format!("an 'enum' has more than {MAX_ENUM} values"),
        });
    }
    if key == "$ref" && value.as_str().is_some_and(|it| !it.starts_with('#')) {
        return refused(format!(
            "the schema's '$ref' {value} points outside of it; put the definition into '$defs'"
        ));
    }
    if key == "x-guidance" {
        return refused("'x-guidance' is not a keyword here; leave it out".into());
    }
    if key == "required" && is_strict {
        let declared = fields.get("properties").and_then(Value::as_object);
        let is_missing = |name: &&Value| {
            let name = name.as_str().unwrap_or_default();
            declared.is_some_and(|declared| !declared.contains_key(name))
                && fields.get("additionalProperties") == Some(&Value::Bool(false))
        };
        if let Some(name) = value.as_array().into_iter().flatten().find(is_missing) {
            return refused(format!(
                "the schema requires the property {name}, which it does not allow"
            ));
        }
    }
    Ok(())
}
