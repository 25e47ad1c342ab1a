//! What a request asks for, checked and turned into what `rag` takes.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::block::{Content, Message};
use super::content;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::number;
use crate::http::openai::format::{self, JsonSchemaValue};
use crate::http::openai::parameters::{OneOrMany, SamplingFields, refuse};
use crate::http::openai::tools;
use crate::rag::constrain::Shape;
use crate::rag::reply::ReplyRequest;
use crate::rag::tools::ToolUse;

/// The smallest budget for thoughts that Anthropic takes.
const MIN_THINKING_TOKENS: i64 = 1024;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = MessageRequest)]
pub struct MessagesRequest {
    pub model: String,
    /// The last one is not of role `assistant`.
    #[schema(min_items = 1)]
    messages: Vec<Message>,
    /// Instructions.
    system: Option<Content>,
    /// Needed, but to count tokens.
    #[schema(minimum = 1)]
    pub max_tokens: Option<i64>,
    /// Whether the answer comes in parts, as events.
    pub stream: Option<bool>,
    stop_sequences: Option<Vec<String>>,
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = 0, maximum = 1)]
    temperature: Option<f32>,
    /// Below 1 it stands for no limit.
    top_k: Option<i64>,
    #[serde(default, deserialize_with = "number")]
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f32>,
    #[schema(value_type = Option<Vec<OwnTool>>, max_items = 128)]
    tools: Option<Vec<Value>>,
    tool_choice: Option<Choice>,
    thinking: Option<Thinking>,
    metadata: Option<Metadata>,
    output_config: Option<OutputConfig>,
    /// An older place of `output_config.format`.
    output_format: Option<OutputFormat>,
    #[schema(ignore)]
    mcp_servers: Option<Value>,
    #[schema(ignore)]
    container: Option<Value>,
}

/// The body of a request for a message.
#[derive(ToSchema)]
#[schema(as = CreateMessage)]
#[expect(dead_code, reason = "it is the schema of what `create` reads")]
pub struct Body {
    #[serde(flatten)]
    request: MessagesRequest,
    #[schema(minimum = 1)]
    max_tokens: i64,
}

/// A tool of the caller's own.
#[derive(ToSchema)]
#[schema(as = AnthropicTool)]
#[expect(dead_code, reason = "it is the schema of what `tool_use` reads")]
struct OwnTool {
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-zA-Z0-9_.-]+$")]
    name: String,
    description: Option<String>,
    /// A JSON schema of the arguments.
    #[schema(value_type = Object)]
    input_schema: Value,
    /// Whether arguments are held to the schema.
    strict: Option<bool>,
    #[schema(rename = "type")]
    kind: Option<OwnToolType>,
}

#[derive(ToSchema)]
#[schema(as = AnthropicToolType, rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of what `tool_use` reads")]
enum OwnToolType {
    Custom,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicToolChoice)]
struct Choice {
    #[serde(rename = "type")]
    #[schema(value_type = ChoiceType)]
    kind: String,
    /// Needed for `tool`.
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(ToSchema)]
#[schema(as = AnthropicToolChoiceType, rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of what `tool_use` reads")]
enum ChoiceType {
    Auto,
    Any,
    Tool,
    None,
}

/// How many tokens the thoughts take, up to `max_tokens`, is the model's own to say: `budget_tokens` is checked, and
/// nothing cuts thoughts that go beyond it.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicThinking)]
struct Thinking {
    #[serde(rename = "type")]
    #[schema(value_type = ThinkingType)]
    kind: String,
    budget_tokens: Option<i64>,
}

#[derive(ToSchema)]
#[schema(as = AnthropicThinkingType, rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of what `thinks` reads")]
enum ThinkingType {
    Enabled,
    Adaptive,
    Disabled,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicMetadata)]
struct Metadata {
    /// Who asks, for the sake of fairness.
    user_id: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicOutputConfig)]
struct OutputConfig {
    format: Option<OutputFormat>,
}

/// What shape the answer is to have.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicOutputFormat)]
struct OutputFormat {
    #[serde(rename = "type")]
    #[schema(value_type = OutputFormatType)]
    kind: String,
    #[schema(value_type = JsonSchemaValue)]
    schema: Option<Value>,
}

#[derive(ToSchema)]
#[schema(as = AnthropicOutputFormatType, rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the schema of what `shape` reads")]
enum OutputFormatType {
    JsonSchema,
}

impl MessagesRequest {
    /// Whether thoughts are asked for.
    pub fn thinks(&self) -> bool {
        let thinking = self.thinking.as_ref();
        thinking.is_some_and(|thinking| matches!(thinking.kind.as_str(), "enabled" | "adaptive"))
    }

    fn check_thinking_budget(&self) -> Result<(), ApiError> {
        let budget = self.thinking.as_ref().and_then(|it| it.budget_tokens);
        let Some(budget) = budget.filter(|_| self.thinks()) else {
            return Ok(());
        };
        let param = "thinking.budget_tokens";
        if budget < MIN_THINKING_TOKENS {
            let message =
                format!("{param} is {budget}, but must be at least {MIN_THINKING_TOKENS}");
            return Err(ApiError::invalid(param, message));
        }
        match self.max_tokens {
            Some(most) if budget >= most => {
                let message = format!(
                    "{param} is {budget}, but must be less than max_tokens, which is {most}"
                );
                Err(ApiError::invalid(param, message))
            }
            _ => Ok(()),
        }
    }

    /// The conversation and how it is to go on; nothing is left to be checked but what only the model knows.
    pub fn checked(self, context: &Context) -> Result<ReplyRequest, ApiError> {
        let why = "is not served: nothing leaves this machine";
        refuse(
            "mcp_servers",
            &self.mcp_servers,
            &format!("mcp_servers {why}"),
        )?;
        refuse("container", &self.container, &format!("container {why}"))?;
        if let Some(temperature) = self.temperature
            && !(0.0..=1.0).contains(&temperature)
        {
            let message = format!("temperature is {temperature}, but must be between 0 and 1");
            return Err(ApiError::invalid("temperature", message));
        }
        self.check_thinking_budget()?;
        let thinks = self.thinks();
        let sampling = SamplingFields {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            stop: self.stop_sequences.map(OneOrMany::Many),
            user: self.metadata.and_then(|metadata| metadata.user_id),
            ..SamplingFields::default()
        };
        let format = self.output_config.and_then(|config| config.format);
        Ok(ReplyRequest {
            messages: content::checked(self.system, self.messages)?,
            extra: Map::from_iter([("enable_thinking".to_owned(), json!(thinks))]),
            tools: tool_use(self.tools.unwrap_or_default(), self.tool_choice)?,
            shape: format.or(self.output_format).map(shape).transpose()?,
            options: sampling.options(self.max_tokens, None, context.generation_timeout())?,
        })
    }
}

fn shape(format: OutputFormat) -> Result<Shape, ApiError> {
    if format.kind != "json_schema" {
        let message = format!(
            "output_config.format is of type '{}', but must be 'json_schema'",
            format.kind
        );
        return Err(ApiError::invalid("output_config.format", message));
    }
    format::json_schema(format.schema, Some(true))
}

/// The functions and the choice among them, by way of the words that OpenAI's clients use for the same.
fn tool_use(offered: Vec<Value>, choice: Option<Choice>) -> Result<ToolUse, ApiError> {
    let mut functions = Vec::with_capacity(offered.len());
    for (at, tool) in offered.into_iter().enumerate() {
        let param = format!("tools.{at}");
        if let Some(kind) = tool["type"].as_str().filter(|kind| *kind != "custom") {
            let message = format!(
                "{param} is of type '{kind}', but only tools of the caller's own are served"
            );
            return Err(ApiError::unsupported(param, message));
        }
        if !tool["input_schema"].is_object() {
            let param = format!("{param}.input_schema");
            let message = format!("{param} must be a JSON schema, an object");
            return Err(ApiError::invalid(param, message));
        }
        let function = json!({
            "name": tool["name"],
            "description": tool["description"],
            "parameters": tool["input_schema"],
            "strict": tool["strict"],
        });
        functions.push(tools::function(&function, &param)?);
    }
    let allows_parallel = choice
        .as_ref()
        .and_then(|choice| choice.disable_parallel_tool_use)
        .map(|is_disabled| !is_disabled);
    let choice = choice.map(|choice| match (choice.kind.as_str(), choice.name) {
        ("tool", name) => json!({ "type": "function", "name": name }),
        (mode, _) => json!(mode),
    });
    tools::chosen(functions, choice.as_ref(), allows_parallel)
}
