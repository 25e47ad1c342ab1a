//! Items as callers send them, which checks them, and as they are kept; `item` completes and shows them.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::output::{FunctionCall, ItemStatus, SearchStatus};
use crate::http::openai::found::SearchTimings;

/// A text that a user says, or items.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum Input {
    Text(String),
    Items(Vec<InputItem>),
}

/// An item of a request.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum InputItem {
    Message(InputMessage),
    Other(OtherItem),
}

/// What somebody says.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it checks what is kept as it came")]
pub struct InputMessage {
    /// May be left out.
    #[serde(rename = "type")]
    #[schema(pattern = "^message$")]
    kind: Option<String>,
    #[schema(inline)]
    role: Role,
    content: InputContent,
    #[schema(inline)]
    status: Option<ItemStatus>,
    id: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    Assistant,
    System,
    Developer,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum InputContent {
    Text(String),
    Parts(Vec<InputPart>),
}

/// A part of what somebody says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InputPart {
    InputText(PlainText),
    OutputText(PlainText),
    Text(PlainText),
    Refusal(Refusal),
    InputFile(InputFile),
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it checks what is kept as it came")]
pub struct PlainText {
    text: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it checks what is kept as it came")]
pub struct Refusal {
    refusal: String,
}

/// A file of which the model reads the text; only a user's. Either `file_id` or `file_data`.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it checks what is kept as it came")]
pub struct InputFile {
    file_id: Option<String>,
    /// A data URL, or plain base64. It is not kept.
    file_data: Option<String>,
    filename: Option<String>,
}

/// An item that is no message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OtherItem {
    FunctionCall {
        id: Option<String>,
        call_id: String,
        name: String,
        /// JSON text.
        arguments: String,
        #[schema(inline)]
        status: Option<ItemStatus>,
    },
    FunctionCallOutput {
        id: Option<String>,
        call_id: String,
        output: FunctionOutput,
        #[schema(inline)]
        status: Option<ItemStatus>,
    },
    /// Passed over: it was shown to the model with its question.
    FileSearchCall {
        id: Option<String>,
        queries: Option<Vec<String>>,
        results: Option<Vec<GivenResult>>,
        #[schema(inline)]
        status: Option<SearchStatus>,
    },
    /// Passed over.
    Reasoning(GivenReasoning),
    /// An item that is kept here.
    ItemReference { id: String },
}

/// What a function returned.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum FunctionOutput {
    Text(String),
    Parts(Vec<OutputTextPart>),
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputTextPart {
    InputText(PlainText),
    OutputText(PlainText),
    Text(PlainText),
    Refusal(Refusal),
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it checks what is kept as it came")]
pub struct GivenReasoning {
    id: Option<String>,
    summary: Option<Vec<SummaryPart>>,
    content: Option<Vec<Thought>>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SummaryPart {
    SummaryText { text: String },
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Thought {
    ReasoningText { text: String },
    Text { text: String },
}

/// What a search found, as far as it is known.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it checks what is kept as it came")]
pub struct GivenResult {
    file_id: Option<String>,
    filename: Option<String>,
    score: Option<f64>,
    text: Option<String>,
    #[schema(value_type = Option<Object>)]
    attributes: Option<Map<String, Value>>,
}

/// An item that is kept, of a conversation or of a response's input.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    Message(KeptMessage),
    FunctionCall(FunctionCall),
    FunctionCallOutput(KeptFunctionOutput),
    FileSearchCall(KeptSearch),
    Reasoning(KeptReasoning),
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of a value")]
pub struct KeptMessage {
    id: String,
    #[schema(inline)]
    status: ItemStatus,
    #[schema(inline)]
    role: Role,
    content: Vec<KeptPart>,
}

/// A part of a message that is kept.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum KeptPart {
    InputText(PlainText),
    Text(PlainText),
    Refusal(Refusal),
    InputFile(InputFile),
    OutputText(KeptText),
}

/// What a model said.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of a value")]
pub struct KeptText {
    text: String,
    /// Of our own answers, citations.
    #[schema(value_type = Vec<Object>)]
    annotations: Vec<Value>,
    #[schema(value_type = Vec<Object>)]
    logprobs: Vec<Value>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of a value")]
pub struct KeptSearch {
    id: String,
    #[schema(inline)]
    status: SearchStatus,
    queries: Vec<String>,
    /// Where `include` asks for them.
    #[schema(required)]
    results: Option<Vec<GivenResult>>,
    notes: Option<Vec<String>>,
    timings: Option<SearchTimings>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of a value")]
pub struct KeptFunctionOutput {
    id: String,
    #[schema(inline)]
    status: ItemStatus,
    call_id: String,
    output: FunctionOutput,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of a value")]
pub struct KeptReasoning {
    id: String,
    summary: Vec<SummaryPart>,
    content: Option<Vec<Thought>>,
}
