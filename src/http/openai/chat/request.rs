//! What a chat request has.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::messages::{self, Message};
use crate::http::error::ApiError;
use crate::http::openai::format::{Guide, JsonSchemaOrText, ResponseFormat};
use crate::http::openai::parameters::{Effort, SamplingFields, refuse};
use crate::http::openai::responses::wishes;
use crate::http::openai::tools::{OfferedFunction, WantedTool};
use crate::rag::conversation::ChatMessage;

/// A conversation to go on with, and how.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatRequest {
    /// The default chat model when absent. `inglenook-quote` answers from all documents, in their own words.
    pub model: Option<String>,
    #[schema(min_items = 1)]
    pub messages: Vec<Message>,
    /// Below 1 there is no limit but the context.
    pub max_completion_tokens: Option<i64>,
    /// An older name of `max_completion_tokens`.
    pub max_tokens: Option<i64>,
    /// How many choices are made, 1 when absent.
    #[schema(minimum = 1, maximum = 16)]
    pub n: Option<u32>,
    pub logprobs: Option<bool>,
    /// Needs `logprobs`.
    #[schema(maximum = 20)]
    pub top_logprobs: Option<u32>,
    /// Whether the answer comes in chunks, as events.
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    #[schema(value_type = Option<Vec<OfferedFunction>>, max_items = 128)]
    pub tools: Option<Vec<Value>>,
    #[schema(value_type = Option<WantedTool>)]
    pub tool_choice: Option<Value>,
    /// True when absent.
    pub parallel_tool_calls: Option<bool>,
    #[schema(ignore)]
    pub functions: Option<Value>,
    #[schema(ignore)]
    pub audio: Option<Value>,
    #[schema(ignore)]
    pub web_search_options: Option<Value>,
    pub response_format: Option<ResponseFormat>,
    /// As vLLM's clients send it: the answer has this shape.
    pub structured_outputs: Option<Guide>,
    /// As `structured_outputs` has it.
    #[schema(value_type = Option<JsonSchemaOrText>)]
    pub guided_json: Option<Value>,
    pub guided_regex: Option<String>,
    /// In the syntax of Lark.
    pub guided_grammar: Option<String>,
    #[schema(min_items = 1)]
    pub guided_choice: Option<Vec<String>>,
    /// Variables of the model's chat template.
    #[schema(value_type = Option<HashMap<String, Value>>)]
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// Whether the model thinks before it answers; it does not when absent.
    #[schema(value_type = Option<Effort>)]
    pub reasoning_effort: Option<String>,
    /// Whether the completion is kept, to be read again.
    pub store: Option<bool>,
    /// At most 16 pairs; keys have at most 64 characters, values 512.
    #[schema(value_type = Option<HashMap<String, String>>)]
    pub metadata: Option<Map<String, Value>>,
    /// Extensions: of these only `mode` `quote` and `min_confidence` are served here.
    #[schema(value_type = Option<wishes::Given>)]
    pub inglenook: Option<Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// Whether a last chunk tells what the request took.
    include_usage: Option<bool>,
}

/// The body of a chat request, which is read in two parts.
#[derive(ToSchema)]
#[schema(as = CreateChatCompletion)]
#[expect(dead_code, reason = "it is the schema of what JsonParts reads")]
pub struct Body {
    #[schema(inline)]
    #[serde(flatten)]
    request: ChatRequest,
    #[serde(flatten)]
    sampling: SamplingFields,
}

impl StreamOptions {
    /// Whether the options, if any, ask for the usage.
    pub fn include_usage(options: Option<&Self>) -> bool {
        options.is_some_and(|options| options.include_usage.unwrap_or(false))
    }
}

impl ChatRequest {
    pub fn take_messages(&mut self) -> Result<Vec<ChatMessage>, ApiError> {
        messages::checked(std::mem::take(&mut self.messages))
    }

    pub fn is_streamed(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub fn includes_usage(&self) -> bool {
        StreamOptions::include_usage(self.stream_options.as_ref())
    }

    pub fn refuse_unserved(&self) -> Result<(), ApiError> {
        refuse(
            "functions",
            &self.functions,
            "functions are not served; use 'tools'",
        )?;
        refuse("audio", &self.audio, "audio output is not served")?;
        refuse(
            "web_search_options",
            &self.web_search_options,
            "web search is not served: nothing leaves this machine",
        )
    }

    /// Takes the fields that give the answer a shape in vLLM's way.
    pub fn take_guide(&mut self) -> Guide {
        Guide {
            json: self.guided_json.take(),
            regex: self.guided_regex.take(),
            grammar: self.guided_grammar.take(),
            choice: self.guided_choice.take(),
        }
    }
}
