//! How an answer is to be generated, as Ollama's clients say it.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::json::number;
use crate::http::openai::format;
use crate::http::openai::parameters::{OneOrMany, SamplingFields, is_thinking};
use crate::rag::constrain::Shape;
use crate::rag::generate::{ChatModel, GenerationOptions};

/// What Ollama samples with when a request does not say.
const TEMPERATURE: f32 = 0.8;
const TOP_P: f32 = 0.9;
const TOP_K: i64 = 40;

/// `options`. Those that say how Ollama is to load the model, such as `num_gpu`, have no meaning here. Neither has
/// `num_ctx`: the context is the loaded model's, and a prompt that does not fit is an error, not cut.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = OllamaOptions)]
pub struct Options {
    /// Most tokens to generate; below 1 there is no limit but the context.
    num_predict: Option<i64>,
    /// 0.8 when absent.
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f32>,
    /// 40 when absent; below 1 there is no limit.
    top_k: Option<i64>,
    /// 0.9 when absent.
    #[serde(default, deserialize_with = "number")]
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f32>,
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f32>,
    #[serde(default, deserialize_with = "number")]
    #[schema(exclusive_minimum = 0)]
    repeat_penalty: Option<f32>,
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f32>,
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f32>,
    /// The same seed gives the same answer.
    seed: Option<i64>,
    stop: Option<OneOrMany>,
}

/// What shape the answer is to have: `json`, or a JSON schema.
#[derive(ToSchema)]
#[schema(as = OllamaFormat)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is the schema of what `shape` reads")]
pub enum FormatOrSchema {
    Json(FormatName),
    Schema(HashMap<String, Value>),
}

#[derive(ToSchema)]
#[schema(as = OllamaFormatName, rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of what `shape` reads")]
pub enum FormatName {
    Json,
}

/// 0 unloads the model of a request without a prompt. How long it stays otherwise is the owner's to say.
#[derive(ToSchema)]
#[schema(as = OllamaKeepAlive)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is the schema of what `unloads` reads")]
pub enum KeepAlive {
    Seconds(f64),
    Duration(String),
}

impl Options {
    pub fn checked(self, timeout: Duration) -> Result<GenerationOptions, ApiError> {
        let sampling = SamplingFields {
            temperature: self.temperature.or(Some(TEMPERATURE)),
            top_k: self.top_k.or(Some(TOP_K)),
            top_p: self.top_p.or(Some(TOP_P)),
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed,
            stop: self.stop,
            ..SamplingFields::default()
        };
        // Below 1 it stands for no limit.
        sampling.options(self.num_predict, None, timeout)
    }
}

/// `format`: `"json"` or a schema.
pub fn shape(wanted: Option<Value>) -> Result<Option<Shape>, ApiError> {
    match wanted {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text == "json" => Ok(Some(format::json_object(None))),
        Some(schema @ Value::Object(_)) => format::json_schema(Some(schema), None).map(Some),
        Some(_) => Err(ApiError::invalid(
            "format",
            "format must be \"json\" or a JSON schema, an object",
        )),
    }
}

/// `think`: yes or no, or how much.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaThink)]
#[serde(untagged)]
pub enum Think {
    Whether(bool),
    Effort(String),
}

/// Whether thoughts are asked for, which only some models have.
pub fn thinks(think: Option<&Think>, chat: &ChatModel, name: &str) -> Result<bool, ApiError> {
    let wanted = match think {
        None => false,
        Some(Think::Whether(wanted)) => *wanted,
        Some(Think::Effort(effort)) => is_thinking(Some(effort)),
    };
    if wanted && !chat.dialect().thinks {
        let message = format!("\"{name}\" does not support thinking");
        return Err(ApiError::unsupported("think", message));
    }
    Ok(wanted)
}

/// What the chat template is told.
pub fn template_variables(thinks: bool) -> Map<String, Value> {
    Map::from_iter([("enable_thinking".to_owned(), json!(thinks))])
}

/// Whether `keep_alive` asks to unload the model at once. How long it stays otherwise is the owner's to say.
pub fn unloads(keep_alive: Option<&Value>) -> bool {
    match keep_alive {
        Some(Value::Number(seconds)) => seconds.as_f64() == Some(0.0),
        Some(Value::String(text)) => matches!(text.as_str(), "0" | "0s" | "0m" | "0h"),
        _ => false,
    }
}
