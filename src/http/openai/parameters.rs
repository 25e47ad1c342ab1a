//! Generation parameters as OpenAI clients send them, checked and turned into what the engine takes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::engine::{SamplingParams, SubmitError};
use crate::http::error::ApiError;
use crate::http::json::number;
use crate::rag::generate::GenerationOptions;

/// Texts that may end an answer: all of them are looked for with every token.
const MAX_STOPS: usize = 256;

/// Parameters that chat completions, completions and responses share. `null` is the same as absent.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct SamplingFields {
    /// 0 takes the likeliest token each time.
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f32>,
    #[serde(default, deserialize_with = "number")]
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// Below 1 it stands for no limit.
    pub top_k: Option<i64>,
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = 0, maximum = 1)]
    pub min_p: Option<f32>,
    /// The same seed gives the same answer.
    pub seed: Option<i64>,
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = -2, maximum = 2)]
    pub frequency_penalty: Option<f32>,
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = -2, maximum = 2)]
    pub presence_penalty: Option<f32>,
    #[serde(default, deserialize_with = "number")]
    #[schema(exclusive_minimum = 0)]
    pub repetition_penalty: Option<f32>,
    /// Another name of `repetition_penalty`.
    #[serde(default, deserialize_with = "number")]
    #[schema(exclusive_minimum = 0)]
    pub repeat_penalty: Option<f32>,
    /// By token id, from -100 to 100.
    pub logit_bias: Option<BTreeMap<String, f32>>,
    /// Texts that end the answer, and are not part of it.
    pub stop: Option<OneOrMany>,
    /// Who asks, for the sake of fairness.
    pub user: Option<String>,
}

/// `"a"` or `["a", "b"]`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// How much the model is to think before it answers. Models here either do or, for `none` and `minimal`, do not.
#[derive(ToSchema)]
#[schema(as = ReasoningEffort, rename_all = "lowercase")]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
}

impl OneOrMany {
    pub fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

impl SamplingFields {
    /// `max_tokens` below 1 stands for no limit, as several clients send it.
    pub fn options(
        self,
        max_tokens: Option<i64>,
        logprobs: Option<usize>,
        timeout: Duration,
    ) -> Result<GenerationOptions, ApiError> {
        let mut logit_bias = Vec::new();
        for (token, bias) in self.logit_bias.into_iter().flatten() {
            let id = token.parse::<u32>().map_err(|_| {
                ApiError::invalid(
                    "logit_bias",
                    format!("logit_bias has the key '{token}', but keys must be token ids"),
                )
            })?;
            logit_bias.push((id, bias));
        }
        let stops: Vec<String> = self.stop.map(OneOrMany::into_vec).unwrap_or_default();
        if stops.len() > MAX_STOPS {
            let message = format!("stop has {} texts, but may have {MAX_STOPS}", stops.len());
            return Err(ApiError::invalid("stop", message));
        }
        let defaults = SamplingParams::default();
        let is_renamed = self.repetition_penalty.is_none() && self.repeat_penalty.is_some();
        let sampling = SamplingParams {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            top_k: self.top_k.filter(|k| *k > 0).map(|k| k as usize),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: self
                .repetition_penalty
                .or(self.repeat_penalty)
                .unwrap_or(defaults.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            logit_bias,
            seed: self.seed.map(|seed| seed as u64),
        };
        sampling.validate().map_err(|error| match error {
            SubmitError::InvalidParameter {
                name: "repetition_penalty",
                message,
            } if is_renamed => SubmitError::InvalidParameter {
                name: "repeat_penalty",
                message,
            },
            error => error,
        })?;
        Ok(GenerationOptions {
            max_tokens: max_tokens
                .filter(|count| *count > 0)
                .map(|count| count as usize),
            sampling,
            stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(),
            logprobs,
            user: self.user,
            ..GenerationOptions::new(timeout)
        })
    }
}

/// Refuses what is not served rather than ignoring it. `value` counts as absent when it is null or empty.
pub fn refuse(param: &str, value: &Option<Value>, why: &str) -> Result<(), ApiError> {
    match value {
        None | Some(Value::Null) | Some(Value::Bool(false)) => Ok(()),
        Some(Value::Array(items)) if items.is_empty() => Ok(()),
        Some(Value::String(text)) if text.is_empty() => Ok(()),
        Some(_) => Err(ApiError::unsupported(param, why)),
    }
}

/// Whether a reasoning effort asks the model to think aloud. Nobody asks by saying nothing: thoughts take their time
/// before the first word of the answer.
pub fn is_thinking(effort: Option<&str>) -> bool {
    !matches!(effort, None | Some("none" | "minimal"))
}
