//! The objects of the Responses API, with every key that strict clients ask for.

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::output::{
    Annotation, FileSearchCall, FunctionCall, OutputItem, OutputMessage, OutputPart, OutputText,
    Reasoning, ReasoningText,
};
use super::request::Echo;
use super::wanted::{OfferedTool, TextFormat, ToolChoice, Truncation, Verbosity};
use crate::engine::Usage;
use crate::http::openai::found::SearchTimings;
use crate::rag::answer::Citation;
use crate::rag::retrieve::Retrieved;

/// Identity of one response.
#[derive(Debug, Clone)]
pub struct Head {
    pub id: String,
    pub created_at: i64,
    pub model: String,
    pub is_stored: bool,
}

/// What a response took.
#[derive(Default)]
pub struct Spent {
    pub usage: Usage,
    pub num_reasoning_tokens: usize,
}

/// How far a response has come.
pub enum Progress<'a> {
    Queued,
    Running,
    Completed {
        usage: &'a Spent,
        completed_at: i64,
    },
    /// Ended by the token limit.
    Incomplete {
        usage: &'a Spent,
    },
    Failed {
        code: &'a str,
        message: &'a str,
    },
}

/// The object with every key that strict clients ask for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Response {
    id: String,
    /// Always `response`.
    object: &'static str,
    /// Unix seconds.
    created_at: i64,
    /// Unix seconds.
    #[schema(required)]
    completed_at: Option<i64>,
    #[schema(inline)]
    status: Status,
    background: bool,
    #[schema(required)]
    conversation: Option<ConversationRef>,
    /// Why it failed.
    #[schema(required)]
    error: Option<ResponseError>,
    /// Why it is incomplete.
    #[schema(required)]
    incomplete_details: Option<IncompleteDetails>,
    #[schema(required)]
    instructions: Option<String>,
    #[schema(required)]
    max_output_tokens: Option<i64>,
    #[schema(required)]
    max_tool_calls: Option<i64>,
    model: String,
    #[schema(value_type = Vec<OutputItem>)]
    output: Vec<Value>,
    parallel_tool_calls: bool,
    presence_penalty: f64,
    frequency_penalty: f64,
    #[schema(required)]
    previous_response_id: Option<String>,
    #[schema(required)]
    prompt_cache_key: Option<String>,
    reasoning: ReasoningEcho,
    #[schema(required)]
    safety_identifier: Option<String>,
    /// Always `default`.
    service_tier: &'static str,
    /// Whether it can be fetched again.
    store: bool,
    temperature: f64,
    text: TextEcho,
    #[schema(value_type = ToolChoice)]
    tool_choice: Value,
    #[schema(value_type = Vec<OfferedTool>)]
    tools: Vec<Value>,
    top_logprobs: u32,
    top_p: f64,
    #[schema(value_type = Truncation, inline)]
    truncation: String,
    /// Once it has ended.
    #[schema(required)]
    usage: Option<ResponseUsage>,
    #[schema(required)]
    user: Option<String>,
    /// The request's, and what is to be known of an answer from documents: `inglenook_outcome`, `inglenook_confidence`
    /// and `inglenook_dropped`.
    #[schema(value_type = BTreeMap<String, String>)]
    metadata: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    inglenook: Option<Extension>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    Queued,
    InProgress,
    Completed,
    Incomplete,
    Failed,
    /// Of one in the background.
    #[expect(dead_code, reason = "whoever cancels a stored response writes it")]
    Cancelled,
}

/// The conversation that the response belongs to.
#[derive(Debug, Serialize, ToSchema)]
struct ConversationRef {
    id: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ResponseError {
    code: String,
    message: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct IncompleteDetails {
    /// Always `max_output_tokens`.
    reason: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
struct ReasoningEcho {
    #[schema(required)]
    effort: Option<String>,
    #[schema(required)]
    summary: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct TextEcho {
    #[schema(value_type = TextFormat)]
    format: Value,
    #[schema(value_type = Verbosity, inline)]
    verbosity: String,
}

/// An extension, where `truncation` is `auto` and the context was full.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DroppedItems)]
struct Extension {
    /// How many of the oldest items the model did not read.
    dropped_items: usize,
}

/// What a response took, in tokens.
#[derive(Debug, Serialize, ToSchema)]
struct ResponseUsage {
    input_tokens: usize,
    input_tokens_details: InputTokensDetails,
    output_tokens: usize,
    output_tokens_details: OutputTokensDetails,
    total_tokens: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct InputTokensDetails {
    /// Those that were found in the cache.
    cached_tokens: usize,
    /// Always 0.
    cache_write_tokens: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct OutputTokensDetails {
    reasoning_tokens: usize,
}

impl From<&Spent> for ResponseUsage {
    fn from(spent: &Spent) -> Self {
        let usage = &spent.usage;
        Self {
            input_tokens: usage.num_prompt_tokens,
            input_tokens_details: InputTokensDetails {
                cached_tokens: usage.num_cached_tokens,
                cache_write_tokens: 0,
            },
            output_tokens: usage.num_completion_tokens,
            output_tokens_details: OutputTokensDetails {
                reasoning_tokens: spent.num_reasoning_tokens,
            },
            total_tokens: usage.num_prompt_tokens + usage.num_completion_tokens,
        }
    }
}

pub fn response(head: &Head, echo: &Echo, progress: &Progress<'_>, output: &[Value]) -> Value {
    let (status, completed_at, usage) = match progress {
        Progress::Queued => (Status::Queued, None, None),
        Progress::Running => (Status::InProgress, None, None),
        Progress::Completed {
            usage,
            completed_at,
        } => (Status::Completed, Some(*completed_at), Some(*usage)),
        Progress::Incomplete { usage } => (Status::Incomplete, None, Some(*usage)),
        Progress::Failed { .. } => (Status::Failed, None, None),
    };
    let error = match progress {
        Progress::Failed { code, message } => Some(ResponseError {
            code: (*code).into(),
            message: (*message).into(),
        }),
        _ => None,
    };
    let is_incomplete = matches!(progress, Progress::Incomplete { .. });
    let incomplete_details = is_incomplete.then_some(IncompleteDetails {
        reason: "max_output_tokens",
    });
    let conversation = echo.conversation_id.clone();
    let dropped_items = echo.num_dropped_items;
    json!(Response {
        id: head.id.clone(),
        object: "response",
        created_at: head.created_at,
        completed_at,
        status,
        background: echo.is_background,
        conversation: conversation.map(|id| ConversationRef { id }),
        error,
        incomplete_details,
        instructions: echo.instructions.clone(),
        max_output_tokens: echo.max_output_tokens,
        max_tool_calls: echo.max_tool_calls,
        model: head.model.clone(),
        output: output.to_vec(),
        parallel_tool_calls: echo.parallel_tool_calls,
        presence_penalty: echo.presence_penalty,
        frequency_penalty: echo.frequency_penalty,
        previous_response_id: echo.previous_response_id.clone(),
        prompt_cache_key: echo.prompt_cache_key.clone(),
        reasoning: ReasoningEcho {
            effort: echo.reasoning_effort.clone(),
            summary: echo.reasoning_summary.clone(),
        },
        safety_identifier: echo.safety_identifier.clone(),
        service_tier: "default",
        store: head.is_stored,
        temperature: echo.temperature,
        text: TextEcho {
            format: echo.text_format.clone(),
            verbosity: echo.verbosity.clone(),
        },
        tool_choice: echo.tool_choice.clone(),
        tools: echo.tools.clone(),
        top_logprobs: echo.top_logprobs,
        top_p: echo.top_p,
        truncation: echo.truncation.clone(),
        usage: usage.map(ResponseUsage::from),
        user: echo.user.clone(),
        metadata: echo.metadata.clone(),
        inglenook: (dropped_items > 0).then_some(Extension { dropped_items }),
    })
}

pub fn message(id: &str, status: &str, content: &[Value]) -> Value {
    json!(OutputItem::Message(OutputMessage {
        id: id.into(),
        status: status.into(),
        role: "assistant",
        content: content.to_vec(),
    }))
}

pub fn reasoning(id: &str, text: &str) -> Value {
    let mut content = Vec::new();
    if !text.is_empty() {
        let text = text.into();
        content.push(ReasoningText::ReasoningText { text });
    }
    json!(OutputItem::Reasoning(Reasoning {
        id: id.into(),
        summary: Vec::new(),
        content,
    }))
}

pub fn function_call(id: &str, status: &str, call_id: &str, name: &str, arguments: &str) -> Value {
    json!(OutputItem::FunctionCall(FunctionCall {
        id: id.into(),
        status: status.into(),
        call_id: call_id.into(),
        name: name.into(),
        arguments: arguments.into(),
    }))
}

pub fn output_text(text: &str, annotations: &[Value], logprobs: &[Value]) -> Value {
    json!(OutputPart::OutputText(OutputText {
        text: text.into(),
        annotations: annotations.to_vec(),
        logprobs: logprobs.to_vec(),
    }))
}

/// How a search went.
pub struct SearchMade {
    pub notes: Vec<String>,
    pub timings: Option<SearchTimings>,
}

impl From<&Retrieved> for SearchMade {
    fn from(retrieved: &Retrieved) -> Self {
        let is_explained = retrieved.passages.iter().any(|it| it.explanation.is_some());
        Self {
            notes: retrieved.notes.clone(),
            timings: is_explained.then(|| retrieved.timings.into()),
        }
    }
}

pub fn file_search_call(
    id: &str,
    status: &str,
    queries: &[String],
    results: Option<&[Value]>,
    made: Option<&SearchMade>,
) -> Value {
    json!(OutputItem::FileSearchCall(FileSearchCall {
        id: id.into(),
        status: status.into(),
        queries: queries.to_vec(),
        results: results.map(<[Value]>::to_vec),
        notes: made.map_or_else(Vec::new, |made| made.notes.clone()),
        timings: made.and_then(|made| made.timings),
    }))
}

pub fn file_citation(citation: &Citation) -> Value {
    json!(Annotation::from(citation))
}
