//! What completions are made of on the wire: the request, and the answer whole or in parts.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::logprobs::TokenLists;
use super::{MAX_CHOICES, MAX_LOGPROBS, prompt};
use crate::http::error::ApiError;
use crate::http::openai::chat::request::StreamOptions;
use crate::http::openai::chat::shape::CompletionUsage;
use crate::http::openai::parameters::SamplingFields;
use crate::rag::generate::ChatModel;

/// A text to go on with, and how.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CompletionRequest {
    /// The default chat model when absent.
    pub model: Option<String>,
    #[schema(schema_with = prompt::schema, required = false)]
    pub prompt: Option<Value>,
    /// 16 when absent; below 1 there is no limit but the context.
    pub max_tokens: Option<i64>,
    /// How many choices are made of each prompt, 1 when absent.
    #[schema(minimum = 1, maximum = 16)]
    pub n: Option<u32>,
    /// The same as `n`, where it is given.
    #[schema(ignore)]
    pub best_of: Option<u32>,
    /// Whether the prompt stands before the answer.
    pub echo: Option<bool>,
    /// What follows: the text between is wanted. Only models that were trained for it have this.
    pub suffix: Option<String>,
    /// How many alternatives are told with the log-probabilities.
    #[schema(minimum = 0, maximum = 5)]
    pub logprobs: Option<i64>,
    /// Whether the answer comes in parts, as events.
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
}

/// The body of a completion request, which is read in two parts.
#[derive(ToSchema)]
#[schema(as = CreateCompletion)]
#[expect(dead_code, reason = "it is the schema of what JsonParts reads")]
pub struct Body {
    #[serde(flatten)]
    request: CompletionRequest,
    #[serde(flatten)]
    sampling: SamplingFields,
}

impl CompletionRequest {
    pub fn num_choices(&self) -> Result<usize, ApiError> {
        let n = self.n.unwrap_or(1);
        if !(1..=MAX_CHOICES).contains(&n) {
            let message = format!("n is {n}, but must be between 1 and {MAX_CHOICES}");
            return Err(ApiError::invalid("n", message));
        }
        match self.best_of {
            Some(best_of) if best_of != n => Err(ApiError::unsupported(
                "best_of",
                format!(
                    "best_of is {best_of}, but must be the same as n: all choices are returned"
                ),
            )),
            _ => Ok(n as usize),
        }
    }

    pub fn wanted_logprobs(&self) -> Result<Option<usize>, ApiError> {
        let Some(wanted) = self.logprobs else {
            return Ok(None);
        };
        if !(0..=MAX_LOGPROBS).contains(&wanted) {
            let message = format!("logprobs is {wanted}, but must be between 0 and {MAX_LOGPROBS}");
            return Err(ApiError::invalid("logprobs", message));
        }
        if self.echo == Some(true) {
            let message = "logprobs of the prompt are not computed; leave out echo, or logprobs";
            return Err(ApiError::unsupported("echo", message));
        }
        Ok(Some(wanted as usize))
    }
}

/// A completion, or a part of a streamed one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TextCompletion)]
pub struct Completion {
    id: String,
    /// Always `text_completion`.
    object: &'static str,
    /// Unix seconds.
    created: i64,
    model: String,
    /// Changes when answers may: another version or another start.
    system_fingerprint: String,
    /// In a part of a stream one, or none in that with the usage.
    choices: Vec<TextChoice>,
    /// In a stream only where `include_usage` asks for it: null in all parts but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<CompletionUsage>)]
    usage: Option<Option<CompletionUsage>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TextChoice {
    /// The prompt's number times the choices of each, plus its own.
    pub index: usize,
    pub text: String,
    #[schema(required)]
    pub logprobs: Option<TokenLists>,
    /// `stop` or `length`; null in a part of a stream, until the choice ends.
    #[schema(required)]
    pub finish_reason: Option<&'static str>,
}

/// What the answers carry besides the choices.
pub struct Envelope {
    pub id: String,
    pub created: i64,
    pub fingerprint: String,
    pub with_logprobs: bool,
    pub chat: ChatModel,
}

impl Envelope {
    /// The usage is absent, null or told.
    pub fn completion(
        &self,
        choices: Vec<TextChoice>,
        usage: Option<Option<CompletionUsage>>,
    ) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.chat.id().to_owned(),
            system_fingerprint: self.fingerprint.clone(),
            choices,
            usage,
        }
    }
}
