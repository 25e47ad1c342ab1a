//! Reads a request for a response and checks all of it before anything runs.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::echo::Echo;
use super::file_search::FileSearch;
use super::input::Conversation;
use super::item;
use super::item_shapes::Input;
use super::tools::{self, Tools};
use super::wanted::{OfferedTool, TextOptions, ToolChoice, Truncation, WantedConversation};
use super::wishes::{self, Mode, Wishes};
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
    pub(super) model: Option<String>,
    /// Needed, unless a conversation is continued. It ends with what a user says, or what a function returned.
    #[schema(value_type = Option<Input>)]
    pub(super) input: Option<Value>,
    /// What the model is told before everything else.
    pub(super) instructions: Option<String>,
    /// The stored response that this one continues.
    pub(super) previous_response_id: Option<String>,
    /// The conversation that this response continues and is added to; not together with `previous_response_id`.
    #[schema(value_type = Option<WantedConversation>)]
    pub(super) conversation: Option<Value>,
    #[schema(ignore)]
    prompt: Option<Value>,
    /// Whether the answer comes at once, `queued`, to be fetched when it has ended.
    background: Option<bool>,
    #[schema(value_type = Option<Vec<OfferedTool>>)]
    pub(super) tools: Option<Vec<Value>>,
    #[schema(value_type = Option<ToolChoice>)]
    pub(super) tool_choice: Option<Value>,
    pub(super) reasoning: Option<Reasoning>,
    /// `file_search_call.results` and `message.output_text.logprobs` add these to the answer.
    pub(super) include: Option<Vec<String>>,
    /// Of thoughts and answer together.
    #[schema(minimum = 1)]
    pub(super) max_output_tokens: Option<i64>,
    #[schema(schema_with = metadata::schema)]
    pub(super) metadata: Option<Map<String, Value>>,
    /// Whether the model may call several functions at once; true by default.
    pub(super) parallel_tool_calls: Option<bool>,
    /// Whether the response is kept, to be fetched and continued; true by default.
    pub(super) store: Option<bool>,
    /// Whether the answer comes as events.
    pub(super) stream: Option<bool>,
    #[schema(value_type = Option<TextOptions>)]
    pub(super) text: Option<Value>,
    #[schema(value_type = Option<Truncation>, inline)]
    pub(super) truncation: Option<String>,
    /// How many tokens are named in the place of each; it asks for log-probabilities.
    #[schema(maximum = 20)]
    pub(super) top_logprobs: Option<u32>,
    /// Shown; it changes nothing.
    pub(super) max_tool_calls: Option<i64>,
    /// Shown; it changes nothing.
    pub(super) safety_identifier: Option<String>,
    /// Shown; it changes nothing.
    pub(super) prompt_cache_key: Option<String>,
    #[schema(value_type = Option<wishes::Given>)]
    inglenook: Option<Value>,
}

/// Whether the model is to think before it answers.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ReasoningOptions)]
pub(super) struct Reasoning {
    /// `none` and `minimal`, or nothing, ask for no thoughts.
    pub(super) effort: Option<String>,
    /// Shown; it changes nothing.
    pub(super) summary: Option<String>,
}

/// A request that can be run.
#[derive(Clone)]
pub struct Checked {
    pub id: String,
    pub created_at: i64,
    /// As it was asked for; it is loaded last.
    pub model: Option<String>,
    /// What goes beyond OpenAI's API.
    pub wishes: Wishes,
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

impl Checked {
    pub async fn from_request(
        context: &Context,
        mut request: ResponsesRequest,
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
        let wishes = Wishes::checked(context, request.inglenook.take()).await?;
        let model = request.model.clone();
        let model = model.as_deref();
        let would_quote = quotes(context, model, wishes.mode);
        if wishes.mode == Some(Mode::Answer) && context.is_quote_model(model) {
            let message = format!(
                "inglenook.mode is 'answer', but '{QUOTE_MODEL}' only quotes; name a chat model"
            );
            return Err(ApiError::invalid("inglenook.mode", message));
        }
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
        if context.is_quote_model(model) || wishes.mode == Some(Mode::Quote) {
            // Quoting is searching: it cannot do without.
            is_searching = true;
            if file_search.is_none() {
                file_search = Some(match wishes.selection {
                    Some(_) => FileSearch::nothing(context),
                    None => FileSearch::everything(context).await?,
                });
            }
        }
        if wishes.selection.is_some() {
            file_search.get_or_insert_with(|| FileSearch::nothing(context));
        }

        let include = request.include.take().unwrap_or_default();
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
        let given = match request.input.take().filter(|input| !input.is_null()) {
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
        let has_sources = conversation.has_sources() && !would_quote;
        let is_shown = is_searching || has_sources || wishes.selection.is_some();
        let file_search = file_search.filter(|_| is_shown);
        let is_summary = wishes.mode == Some(Mode::Summary);
        let needs_documents =
            file_search.is_none() || is_summary && !is_searching && wishes.selection.is_none();
        if let Some(param) = wishes.about_documents().filter(|_| needs_documents) {
            let message = format!(
                "{param} is for answers from documents: offer the tool 'file_search', or send inglenook.selected_text"
            );
            return Err(ApiError::invalid(param, message));
        }
        let is_quoting = file_search.is_some() && (would_quote || is_summary);
        if is_quoting {
            let who = match is_summary {
                true => "a summary".to_owned(),
                false => format!("'{QUOTE_MODEL}' quotes documents and"),
            };
            refuse_beyond(&who, &functions, shape.as_ref(), logprobs)?;
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
        let effort = request.reasoning.as_ref().and_then(|it| it.effort.clone());
        let max_output_tokens = request.max_output_tokens;
        let (model, is_stored, is_streamed) = (
            request.model.clone(),
            request.store.unwrap_or(true),
            request.stream.unwrap_or(false),
        );
        let echo = Echo::of(
            request,
            &sampling,
            conversation_id,
            is_background,
            verbosity,
        );
        if max_output_tokens.is_some_and(|count| count < 1) {
            return Err(ApiError::invalid(
                "max_output_tokens",
                "max_output_tokens must be at least 1",
            ));
        }
        let options =
            sampling.options(max_output_tokens, logprobs, context.generation_timeout())?;
        Ok(Self {
            id: new_id("resp_"),
            created_at: unix_now(),
            model,
            wishes,
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
            is_stored,
            is_streamed,
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
pub fn quotes(context: &Context, model: Option<&str>, mode: Option<Mode>) -> bool {
    let named = model.filter(|name| !name.is_empty());
    match mode {
        Some(Mode::Quote) => true,
        Some(Mode::Answer) => false,
        Some(Mode::Summary) | None => {
            context.is_quote_model(named) || (named.is_none() && !context.workspace.writes_answers)
        }
    }
}

/// Refuses what only a model that answers freely can do; `who` cannot.
fn refuse_beyond(
    who: &str,
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
    let message = format!("{who} {what}; ask a chat model for an answer");
    Err(ApiError::unsupported(param, message))
}
