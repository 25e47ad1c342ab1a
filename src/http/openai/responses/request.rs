//! Reads a request for a response and checks all of it before anything runs.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::file_search::FileSearch;
use super::input::Conversation;
use super::item;
use super::item_shapes::Input;
use super::tools::{self, Tools};
use super::wanted::{OfferedTool, TextOptions, ToolChoice, Truncation, WantedConversation};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::openai::chat::wanted_logprobs;
use crate::http::openai::file_parts::TextBudget;
use crate::http::openai::parameters::{SamplingFields, is_thinking, refuse};
use crate::http::openai::{format, metadata};
use crate::rag::QUOTE_MODEL;
use crate::rag::constrain::Shape;
use crate::rag::conversation::ChatMessage;
use crate::rag::generate::GenerationOptions;
use crate::rag::tools::ToolUse;
use crate::store::{Item, new_id, unix_now};

/// The temperature of answers from documents, unless a request says otherwise.
const DOCUMENT_TEMPERATURE: f32 = 0.2;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ResponseParameters)]
pub struct ResponsesRequest {
    /// The default model, where none is named.
    model: Option<String>,
    /// Needed, unless a conversation is continued. It ends with what a user says, or what a function returned.
    #[schema(value_type = Option<Input>)]
    input: Option<Value>,
    /// What the model is told before everything else.
    instructions: Option<String>,
    /// The stored response that this one continues.
    previous_response_id: Option<String>,
    /// The conversation that this response continues and is added to; not together with `previous_response_id`.
    #[schema(value_type = Option<WantedConversation>)]
    conversation: Option<Value>,
    #[schema(ignore)]
    prompt: Option<Value>,
    /// Whether the answer comes at once, `queued`, to be fetched when it has ended.
    background: Option<bool>,
    #[schema(value_type = Option<Vec<OfferedTool>>)]
    tools: Option<Vec<Value>>,
    #[schema(value_type = Option<ToolChoice>)]
    tool_choice: Option<Value>,
    reasoning: Option<Reasoning>,
    /// `file_search_call.results` and `message.output_text.logprobs` add these to the answer.
    include: Option<Vec<String>>,
    /// Of thoughts and answer together.
    #[schema(minimum = 1)]
    max_output_tokens: Option<i64>,
    #[schema(schema_with = metadata::schema)]
    metadata: Option<Map<String, Value>>,
    /// Whether the model may call several functions at once; true by default.
    parallel_tool_calls: Option<bool>,
    /// Whether the response is kept, to be fetched and continued; true by default.
    store: Option<bool>,
    /// Whether the answer comes as events.
    stream: Option<bool>,
    #[schema(value_type = Option<TextOptions>)]
    text: Option<Value>,
    #[schema(value_type = Option<Truncation>, inline)]
    truncation: Option<String>,
    /// How many tokens are named in the place of each; it asks for log-probabilities.
    #[schema(maximum = 20)]
    top_logprobs: Option<u32>,
    /// Shown; it changes nothing.
    max_tool_calls: Option<i64>,
    /// Shown; it changes nothing.
    safety_identifier: Option<String>,
    /// Shown; it changes nothing.
    prompt_cache_key: Option<String>,
}

/// Whether the model is to think before it answers.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ReasoningOptions)]
struct Reasoning {
    /// `none` and `minimal`, or nothing, ask for no thoughts.
    effort: Option<String>,
    /// Shown; it changes nothing.
    summary: Option<String>,
}

/// A request that can be run.
#[derive(Clone)]
pub struct Checked {
    pub id: String,
    pub created_at: i64,
    /// As it was asked for; it is loaded last.
    pub model: Option<String>,
    /// The documents to answer from, if any.
    pub file_search: Option<FileSearch>,
    /// Whether they are searched for the question, or only what was shown of them earlier is shown.
    pub is_searching: bool,
    /// The conversation so far, with the question, or what functions returned.
    pub conversation: Conversation,
    /// What this request adds to the conversation.
    pub input: Vec<Item>,
    /// What the model reads from now on of the question, where the conversation has had it before.
    pub read_as: Option<(String, Value)>,
    pub functions: ToolUse,
    pub shape: Option<Shape>,
    pub options: GenerationOptions,
    /// Whether the model may think aloud first.
    pub is_thinking: bool,
    pub with_results: bool,
    pub is_stored: bool,
    pub is_streamed: bool,
    /// Whether old turns go when the context is full.
    pub is_truncated: bool,
    pub echo: Echo,
}

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
    /// Items that the model does not read, because the context is full.
    pub num_dropped_items: usize,
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

impl Checked {
    pub async fn from_request(
        context: &Context,
        request: ResponsesRequest,
        mut sampling: SamplingFields,
    ) -> Result<Self, ApiError> {
        refuse(
            "prompt",
            &request.prompt,
            "stored prompts are not served; send 'input'",
        )?;
        let conversation_id = conversation_id(&request)?;
        let is_background = is_background(&request)?;
        let is_truncated = match request.truncation.as_deref() {
            None | Some("disabled") => false,
            Some("auto") => true,
            Some(other) => {
                let message = format!("truncation is '{other}', but must be 'auto' or 'disabled'");
                return Err(ApiError::invalid("truncation", message));
            }
        };
        let verbosity = verbosity(request.text.as_ref())?;
        metadata::checked(request.metadata.clone().unwrap_or_default())?;
        let shape = shape(request.text.as_ref())?;
        let model = request.model.as_deref();
        let Tools {
            mut file_search,
            mut is_searching,
            functions,
        } = tools::checked(
            context,
            request.tools.as_deref().unwrap_or_default(),
            request.tool_choice.as_ref(),
            request.parallel_tool_calls,
        )
        .await?;
        if context.is_quote_model(model) {
            // Quoting is searching: it cannot do without.
            is_searching = true;
            if file_search.is_none() {
                file_search = Some(FileSearch::everything(context).await?);
            }
        }

        let include = request.include.unwrap_or_default();
        let asks_logprobs = include
            .iter()
            .any(|it| it == "message.output_text.logprobs");
        let logprobs = (asks_logprobs || request.top_logprobs.is_some())
            .then(|| wanted_logprobs(Some(true), request.top_logprobs));
        let logprobs = logprobs.transpose()?.flatten();
        let mut budget = TextBudget::of_a_request();
        let mut conversation = match (&request.previous_response_id, &conversation_id) {
            (Some(id), _) => Conversation::earlier(context, id, &mut budget).await?,
            (None, Some(id)) => Conversation::stored(context, id, &mut budget).await?,
            (None, None) => Conversation::default(),
        };
        let given = match request.input.filter(|input| !input.is_null()) {
            Some(input) => item::checked(context, input, "input", &mut budget).await?,
            None if conversation_id.is_some() => Vec::new(),
            None => {
                let message = "missing required parameter: 'input'";
                return Err(ApiError::invalid("input", message));
            }
        };
        conversation.add_given(&given)?;
        let input = given.into_iter().map(|given| given.item).collect();
        // Without a search, what was shown of documents is all there is of them.
        let would_quote = quotes(context, model);
        let has_sources = conversation.has_sources() && !would_quote;
        let file_search = file_search.filter(|_| is_searching || has_sources);
        let is_quoting = file_search.is_some() && would_quote;
        if is_quoting {
            refuse_to_quote(&functions, shape.as_ref(), logprobs)?;
        }
        let has_question = conversation.asked().is_some();
        match conversation.messages.last() {
            Some(ChatMessage::User(_)) => {}
            Some(ChatMessage::Tool { .. }) if file_search.is_none() => {}
            Some(ChatMessage::Tool { .. }) if has_question && !is_quoting => {}
            Some(ChatMessage::Tool { .. }) => {
                let message =
                    "there is nothing to search for: input must have a message of role 'user'";
                return Err(ApiError::invalid("input", message));
            }
            Some(_) => {
                return Err(ApiError::invalid(
                    "input",
                    "the last item of input must be a message of role 'user', or what a function returned",
                ));
            }
            None => {
                return Err(ApiError::invalid(
                    "input",
                    "input is empty, but must have a message",
                ));
            }
        }
        if file_search.is_some() {
            // What documents say is not to be varied, unless the caller wants it so.
            sampling.temperature.get_or_insert(DOCUMENT_TEMPERATURE);
        }
        let (effort, summary) = match request.reasoning {
            Some(reasoning) => (reasoning.effort, reasoning.summary),
            None => (None, None),
        };
        let echo = Echo {
            conversation_id,
            is_background,
            max_tool_calls: request.max_tool_calls,
            reasoning_effort: effort.clone(),
            reasoning_summary: summary,
            verbosity,
            top_logprobs: request.top_logprobs.unwrap_or(0),
            presence_penalty: as_written(sampling.presence_penalty.unwrap_or(0.0)),
            frequency_penalty: as_written(sampling.frequency_penalty.unwrap_or(0.0)),
            num_dropped_items: 0,
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
        };
        if request.max_output_tokens.is_some_and(|count| count < 1) {
            return Err(ApiError::invalid(
                "max_output_tokens",
                "max_output_tokens must be at least 1",
            ));
        }
        let max_tokens = request.max_output_tokens;
        let options = sampling.options(max_tokens, logprobs, context.generation_timeout())?;
        Ok(Self {
            id: new_id("resp_"),
            created_at: unix_now(),
            model: request.model,
            file_search,
            is_searching,
            conversation,
            input,
            read_as: None,
            functions,
            shape,
            options,
            is_thinking: is_thinking(effort.as_deref()),
            with_results: include.iter().any(|item| {
                item == "file_search_call.results"
                    || item == "output[*].file_search_call.search_results"
            }),
            is_stored: request.store.unwrap_or(true),
            is_streamed: request.stream.unwrap_or(false),
            is_truncated,
            echo,
        })
    }
}

/// The conversation that the response is to continue: its id, or an object with it.
fn conversation_id(request: &ResponsesRequest) -> Result<Option<String>, ApiError> {
    let id = match request.conversation.as_ref() {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(id)) => Some(id.as_str()),
        Some(conversation) => conversation["id"].as_str(),
    };
    let Some(id) = id else {
        let message = "conversation must be an id, or an object with an 'id'";
        return Err(ApiError::invalid("conversation", message));
    };
    if request.previous_response_id.is_some() {
        let message = "conversation and previous_response_id exclude each other; send one of them";
        return Err(ApiError::invalid("conversation", message));
    }
    Ok(Some(id.to_owned()))
}

fn is_background(request: &ResponsesRequest) -> Result<bool, ApiError> {
    if !request.background.unwrap_or(false) {
        return Ok(false);
    }
    if request.store == Some(false) {
        let message = "background needs 'store': a response that is not kept could not be fetched";
        return Err(ApiError::invalid("store", message));
    }
    Ok(true)
}

fn verbosity(text: Option<&Value>) -> Result<String, ApiError> {
    match text.map(|text| &text["verbosity"]) {
        None | Some(Value::Null) => Ok("medium".into()),
        Some(Value::String(level)) if ["low", "medium", "high"].contains(&level.as_str()) => {
            Ok(level.clone())
        }
        Some(other) => {
            let message = format!("text.verbosity is {other}, but must be low, medium or high");
            Err(ApiError::invalid("text.verbosity", message))
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

/// The shape that `text.format` asks for.
fn shape(text: Option<&Value>) -> Result<Option<Shape>, ApiError> {
    let format = match text {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(text)) => text.get("format"),
        Some(_) => {
            let message = "text must be an object with a 'format'";
            return Err(ApiError::invalid("text", message));
        }
    };
    let Some(format) = format.filter(|format| !format.is_null()) else {
        return Ok(None);
    };
    match format["type"].as_str() {
        None => {
            let message = "text.format must be an object with a 'type'";
            Err(ApiError::invalid("text.format", message))
        }
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(format::json_object(None))),
        Some("json_schema") => {
            let schema = Some(format["schema"].clone());
            let shape = format::json_schema(schema, format["strict"].as_bool());
            shape.map(Some).map_err(|error| error.about("text.format"))
        }
        Some(other) => Err(ApiError::unsupported(
            "text.format",
            format!("text.format is '{other}', but must be text, json_object or json_schema"),
        )),
    }
}

/// Whether documents are quoted, and no model writes.
pub fn quotes(context: &Context, model: Option<&str>) -> bool {
    let named = model.filter(|name| !name.is_empty());
    context.is_quote_model(named) || (named.is_none() && !context.workspace.writes_answers)
}

/// Quoting cannot do what only a model that writes can.
fn refuse_to_quote(
    functions: &ToolUse,
    shape: Option<&Shape>,
    logprobs: Option<usize>,
) -> Result<(), ApiError> {
    let (param, what) = if functions.is_wanted() {
        ("tools", "calls no functions")
    } else if shape.is_some() {
        ("text.format", "keeps to no format")
    } else if logprobs.is_some() {
        ("include", "has no log-probabilities")
    } else {
        return Ok(());
    };
    let message = format!("'{QUOTE_MODEL}' quotes documents and {what}; name a chat model");
    Err(ApiError::unsupported(param, message))
}
