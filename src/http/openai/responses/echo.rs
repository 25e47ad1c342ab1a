//! What a response object repeats of its request.

use serde_json::{Map, Value, json};

use super::extension::Extension;
use super::request::ResponsesRequest;
use crate::http::openai::parameters::SamplingFields;

/// What the response object repeats of its request.
#[derive(Clone)]
pub struct Echo {
    pub conversation_id: Option<String>,
    pub is_background: bool,
    pub max_tool_calls: Option<i64>,
    pub reasoning_effort: Option<String>,
    pub reasoning_summary: Option<String>,
    pub verbosity: String,
    pub top_logprobs: u32,
    pub presence_penalty: f64,
    pub frequency_penalty: f64,
    /// What is to be known of the answer besides its words.
    pub extension: Extension,
    pub instructions: Option<String>,
    pub max_output_tokens: Option<i64>,
    pub metadata: Map<String, Value>,
    pub parallel_tool_calls: bool,
    pub previous_response_id: Option<String>,
    pub prompt_cache_key: Option<String>,
    pub safety_identifier: Option<String>,
    pub temperature: f64,
    pub tool_choice: Value,
    pub tools: Vec<Value>,
    pub text_format: Value,
    pub top_p: f64,
    pub truncation: String,
    pub user: Option<String>,
}

impl Echo {
    pub fn of(
        request: ResponsesRequest,
        sampling: &SamplingFields,
        conversation_id: Option<String>,
        is_background: bool,
        verbosity: String,
    ) -> Self {
        let (effort, summary) = match request.reasoning {
            Some(reasoning) => (reasoning.effort, reasoning.summary),
            None => (None, None),
        };
        Self {
            conversation_id,
            is_background,
            max_tool_calls: request.max_tool_calls,
            reasoning_effort: effort,
            reasoning_summary: summary,
            verbosity,
            top_logprobs: request.top_logprobs.unwrap_or(0),
            presence_penalty: as_written(sampling.presence_penalty.unwrap_or(0.0)),
            frequency_penalty: as_written(sampling.frequency_penalty.unwrap_or(0.0)),
            extension: Extension::default(),
            instructions: request.instructions,
            max_output_tokens: request.max_output_tokens,
            metadata: request.metadata.unwrap_or_default(),
            parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
            previous_response_id: request.previous_response_id,
            prompt_cache_key: request.prompt_cache_key,
            safety_identifier: request.safety_identifier,
            temperature: as_written(sampling.temperature.unwrap_or(1.0)),
            tool_choice: request
                .tool_choice
                .filter(|choice| !choice.is_null())
                .unwrap_or(json!("auto")),
            tools: request
                .tools
                .unwrap_or_default()
                .into_iter()
                .map(echoed)
                .collect(),
            text_format: request
                .text
                .map(|text| text["format"].clone())
                .filter(|format| !format.is_null())
                .unwrap_or(json!({ "type": "text" })),
            top_p: as_written(sampling.top_p.unwrap_or(1.0)),
            truncation: request.truncation.unwrap_or_else(|| "disabled".into()),
            user: sampling.user.clone(),
        }
    }
}

/// A tool with every key that strict clients ask for.
fn echoed(mut tool: Value) -> Value {
    if tool["type"] == "function"
        && let Some(fields) = tool.as_object_mut()
    {
        for key in ["description", "parameters", "strict"] {
            fields.entry(key).or_insert(Value::Null);
        }
    }
    tool
}

/// The number as its sender wrote it: 0.2, not what is nearest to it in binary.
fn as_written(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| number.into())
}
