//! What a request asks for, checked and turned into what `rag` takes.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::content::{self, Content, Message};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::openai::format;
use crate::http::openai::parameters::{OneOrMany, SamplingFields, refuse};
use crate::http::openai::tools;
use crate::rag::constrain::Shape;
use crate::rag::reply::ReplyRequest;
use crate::rag::tools::ToolUse;

/// The smallest budget for thoughts that Anthropic takes.
const MIN_THINKING_TOKENS: i64 = 1024;

#[derive(Debug, Deserialize)]
pub struct MessagesRequest {
    pub model: String,
    messages: Vec<Message>,
    system: Option<Content>,
    pub max_tokens: Option<i64>,
    pub stream: Option<bool>,
    stop_sequences: Option<Vec<String>>,
    temperature: Option<f32>,
    top_k: Option<i64>,
    top_p: Option<f32>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Choice>,
    thinking: Option<Thinking>,
    metadata: Option<Metadata>,
    output_config: Option<OutputConfig>,
    output_format: Option<OutputFormat>,
    mcp_servers: Option<Value>,
    container: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

/// How many tokens the thoughts take, up to `max_tokens`, is the model's own to say: `budget_tokens` is checked, and
/// nothing cuts thoughts that go beyond it.
#[derive(Debug, Deserialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: String,
    budget_tokens: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    user_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OutputConfig {
    format: Option<OutputFormat>,
}

#[derive(Debug, Deserialize)]
struct OutputFormat {
    #[serde(rename = "type")]
    kind: String,
    schema: Option<Value>,
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
