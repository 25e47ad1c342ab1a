//! Turns a conversation into the text that a model was trained to continue, as the transformers library renders the
//! model's template. Templates come from model files: one must not be able to take the process with it.

mod python;

use std::sync::Arc;

use minijinja::value::{Serde, Value};
use minijinja::{Environment, ErrorKind};
use time::OffsetDateTime;

/// Instructions that one rendering may take. The longest real conversations need less than a tenth; all of them are
/// spent in about a second.
const FUEL: u64 = 20_000_000;
const MAX_RECURSION: usize = 200;
const NAME: &str = "chat template";

/// A compiled template. Clones share it.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: Arc<str>,
    environment: Arc<Environment<'static>>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Compiles a Jinja template. `bos` and `eos` are what it calls `bos_token` and `eos_token`.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        let mut environment = python::environment();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| TemplateError::Syntax(describe(&error)))?;
        Ok(Self {
            source: source.into(),
            environment: Arc::new(environment),
            bos: bos.into(),
            eos: eos.into(),
        })
    }

    /// Whether the template's own text contains this: what a model was trained to write is spelled there.
    pub fn mentions(&self, text: &str) -> bool {
        self.source.contains(text)
    }

    /// The prompt for a conversation. `messages` and `tools` are as in OpenAI's API; `extra` are further variables for
    /// the template, which cannot replace those that it always has.
    pub fn render(
        &self,
        messages: &[serde_json::Value],
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
        extra: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<String, TemplateError> {
        let variables = [
            ("messages", Value::from(Serde(messages))),
            ("tools", Value::from(Serde(tools))),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ];
        self.render_at(variables, extra, OffsetDateTime::now_utc())
    }

    fn render_at<const N: usize>(
        &self,
        variables: [(&str, Value); N],
        extra: &serde_json::Map<String, serde_json::Value>,
        now: OffsetDateTime,
    ) -> Result<String, TemplateError> {
        let fixed = [
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
            (
                "strftime_now",
                Value::from_function(move |format: &str| python::strftime(now, format)),
            ),
        ];
        let extra = extra
            .iter()
            .map(|(name, value)| (name.as_str(), Value::from(Serde(value))));
        let context = Value::from_pairs(extra.chain(variables).chain(fixed));
        let template = self
            .environment
            .get_template(NAME)
            .expect("it was added by `new`");
        template
            .render(context)
            .map_err(|error| TemplateError::from_render(&error))
    }
}

/// Why a template could not be used or a conversation not be rendered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TemplateError {
    #[error("the model's chat template cannot be read: {0}")]
    Syntax(String),
    /// The template's own words about the conversation.
    #[error("the model's chat template refuses this conversation: {message}")]
    Refused { message: String },
    #[error(
        "the model's chat template takes too long for this conversation; use a shorter conversation or another model"
    )]
    TooLong,
    #[error("the model's chat template fails on this conversation: {0}")]
    Render(String),
}

impl TemplateError {
    fn from_render(error: &minijinja::Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(python::Raised(message)) = error.downcast_ref() {
                return Self::Refused {
                    message: message.clone(),
                };
            }
            cause = error.source();
        }
        match error.kind() {
            ErrorKind::OutOfFuel => Self::TooLong,
            _ => Self::Render(describe(error)),
        }
    }
}

fn describe(error: &minijinja::Error) -> String {
    match error.line() {
        Some(line) => format!("{error} (line {line})"),
        None => error.to_string(),
    }
}

/// The `generation` block marks what a trainer learns from and changes nothing in the text: here it becomes a block that
/// is always entered.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        let Some(end) = tag.find("%}") else { break };
        let (tag, after) = tag.split_at(end + 2);
        let name = tag[2..end]
            .trim_start_matches(['-', '+'])
            .trim_end_matches(['-', '+'])
            .trim();
        result.push_str(before);
        match name {
            "generation" => result.push_str(&tag.replacen(name, "if true", 1)),
            "endgeneration" => result.push_str(&tag.replacen(name, "endif", 1)),
            _ => result.push_str(tag),
        }
        rest = after;
    }
    result + rest
}

#[cfg(test)]
mod tests;
