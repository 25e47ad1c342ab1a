//! Functions that a request offers the model, and its choice among them.

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::json::from_value;
use crate::rag::tools::{Tool, ToolChoice, ToolUse};

/// Functions that one request may offer.
const MAX_TOOLS: usize = 128;
const MAX_NAME_BYTES: usize = 64;

/// A function that the model may call.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = FunctionDescription)]
pub struct Function {
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-zA-Z0-9_.-]+$")]
    name: String,
    description: Option<String>,
    /// A JSON schema of the arguments.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    /// Whether arguments are held to the schema.
    strict: Option<bool>,
}

/// A function as a chat request offers it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of what `checked` reads")]
pub struct OfferedFunction {
    #[schema(rename = "type")]
    kind: FunctionType,
    function: Function,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the schema of what `checked` reads")]
enum FunctionType {
    Function,
}

/// Whether functions are called, and which.
#[derive(ToSchema)]
#[schema(as = ToolChoice)]
#[serde(untagged)]
pub enum WantedTool {
    Mode(ToolMode),
    Named(NamedFunction),
    Allowed(AllowedTools),
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum ToolMode {
    None,
    Auto,
    Required,
    Any,
}

/// The function that is called.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of what `chosen` reads")]
pub struct NamedFunction {
    #[schema(rename = "type")]
    kind: FunctionType,
    function: FunctionName,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of what `name_of` reads")]
struct FunctionName {
    name: String,
}

/// Only some of the functions may be called.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of what `chosen` reads")]
pub struct AllowedTools {
    #[schema(rename = "type")]
    kind: AllowedToolsType,
    allowed_tools: AllowedToolsList,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the schema of what `chosen` reads")]
enum AllowedToolsType {
    AllowedTools,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of what `chosen` reads")]
struct AllowedToolsList {
    mode: Option<ToolMode>,
    tools: Vec<NamedFunction>,
}

/// `tools`, `tool_choice` and `parallel_tool_calls` of a chat request.
pub fn checked(
    tools: Option<&[Value]>,
    choice: Option<&Value>,
    allows_parallel: Option<bool>,
) -> Result<ToolUse, ApiError> {
    let mut functions = Vec::new();
    for (at, tool) in tools.unwrap_or_default().iter().enumerate() {
        let param = format!("tools[{at}]");
        match tool["type"].as_str() {
            Some("function") => {
                functions.push(function(&tool["function"], &format!("{param}.function"))?)
            }
            Some(other) => {
                let message =
                    format!("{param} is of type '{other}', but only 'function' is served");
                return Err(ApiError::unsupported(param, message));
            }
            None => {
                let message = format!("{param} must be an object with a 'type'");
                return Err(ApiError::invalid(param, message));
            }
        }
    }
    chosen(functions, choice, allows_parallel)
}

/// The function that `value` describes; `param` names its place.
pub fn function(value: &Value, param: &str) -> Result<Tool, ApiError> {
    let function: Function = from_value(value.clone())
        .map_err(|error| ApiError::invalid(param, format!("{param} cannot be read: {error}")))?;
    let name = function.name;
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_letter) {
        let param = format!("{param}.name");
        let message = format!(
            "{param} is '{name}', but must be 1 to {MAX_NAME_BYTES} letters, digits, '_', '-' or '.'"
        );
        return Err(ApiError::invalid(param, message));
    }
    let parameters = match function.parameters {
        None | Some(Value::Null) => None,
        Some(Value::Object(mut fields)) => {
            let says_type = ["type", "$ref", "anyOf", "oneOf", "allOf"];
            if !says_type.iter().any(|key| fields.contains_key(*key)) {
                fields.insert("type".into(), json!("object"));
            }
            Some(Value::Object(fields))
        }
        Some(_) => {
            let param = format!("{param}.parameters");
            let message = format!("{param} must be a JSON schema, an object");
            return Err(ApiError::invalid(param, message));
        }
    };
    Ok(Tool {
        name,
        description: function.description,
        parameters,
        is_strict: function.strict.unwrap_or(false),
    })
}

/// The functions with what `tool_choice` makes of them.
pub fn chosen(
    mut tools: Vec<Tool>,
    choice: Option<&Value>,
    allows_parallel: Option<bool>,
) -> Result<ToolUse, ApiError> {
    if tools.len() > MAX_TOOLS {
        let message = format!(
            "tools has {} functions, but may have {MAX_TOOLS}",
            tools.len()
        );
        return Err(ApiError::invalid("tools", message));
    }
    for (at, tool) in tools.iter().enumerate() {
        if tools[..at].iter().any(|other| other.name == tool.name) {
            let message = format!("tools has two functions named '{}'", tool.name);
            return Err(ApiError::invalid(format!("tools[{at}]"), message));
        }
    }
    let unreadable = || {
        let message = "tool_choice must be 'none', 'auto', 'required', or name a function";
        ApiError::invalid("tool_choice", message)
    };
    let choice = match choice.filter(|choice| !choice.is_null()) {
        None => ToolChoice::Auto,
        Some(Value::String(choice)) => mode(choice).ok_or_else(unreadable)?,
        Some(choice) => match choice["type"].as_str() {
            Some("function") => ToolChoice::Named(name_of(choice).ok_or_else(unreadable)?),
            Some("allowed_tools") => {
                // Chat completions nest it, responses do not.
                let allowed = match &choice["allowed_tools"] {
                    Value::Null => choice,
                    nested => nested,
                };
                let named = allowed["tools"].as_array().ok_or_else(unreadable)?;
                if named.len() > MAX_TOOLS {
                    let message = format!(
                        "tool_choice allows {} functions, but may allow {MAX_TOOLS}",
                        named.len()
                    );
                    return Err(ApiError::invalid("tool_choice", message));
                }
                let names: Vec<String> = named.iter().filter_map(name_of).collect();
                tools.retain(|tool| names.contains(&tool.name));
                mode(allowed["mode"].as_str().unwrap_or("auto")).ok_or_else(unreadable)?
            }
            _ => return Err(unreadable()),
        },
    };
    if let ToolChoice::Named(name) = &choice
        && !tools.iter().any(|tool| tool.name == *name)
    {
        let message = format!("tool_choice names the function '{name}', which is not in 'tools'");
        return Err(ApiError::invalid("tool_choice", message));
    }
    if choice == ToolChoice::Required && tools.is_empty() {
        let message = "tool_choice is 'required', but there are no tools to call";
        return Err(ApiError::invalid("tool_choice", message));
    }
    Ok(ToolUse {
        tools,
        choice,
        allows_parallel: allows_parallel.unwrap_or(true),
    })
}

fn mode(choice: &str) -> Option<ToolChoice> {
    match choice {
        "none" => Some(ToolChoice::None),
        "auto" => Some(ToolChoice::Auto),
        "required" | "any" => Some(ToolChoice::Required),
        _ => None,
    }
}

/// `{"type": "function", "function": {"name": ..}}`, or flat as responses have it.
fn name_of(choice: &Value) -> Option<String> {
    let name = choice["function"]["name"]
        .as_str()
        .or(choice["name"].as_str())?;
    Some(name.to_owned())
}
