//! The items of a response's output, as they are sent.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::openai::chat::shape::TokenLogprob;
use crate::http::openai::found::{FoundPassage, SearchTimings};
use crate::rag::answer::Citation;
use crate::rag::retrieve::Passage;

/// What a response is made of.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputItem {
    Message(OutputMessage),
    FunctionCall(FunctionCall),
    FileSearchCall(FileSearchCall),
    Reasoning(Reasoning),
}

/// What the model says.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutputMessage {
    pub id: String,
    #[schema(value_type = ItemStatus, inline)]
    pub status: String,
    /// Always `assistant`.
    pub role: &'static str,
    #[schema(value_type = Vec<OutputPart>)]
    pub content: Vec<Value>,
}

/// A function that the model calls.
#[derive(Debug, Serialize, ToSchema)]
pub struct FunctionCall {
    pub id: String,
    #[schema(value_type = ItemStatus, inline)]
    pub status: String,
    /// What its result names it by.
    pub call_id: String,
    pub name: String,
    /// JSON text.
    pub arguments: String,
}

/// A search in vector stores.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileSearchCall {
    pub id: String,
    #[schema(value_type = SearchStatus, inline)]
    pub status: String,
    pub queries: Vec<String>,
    /// What was found, where `include` asks for it.
    #[schema(required, value_type = Option<Vec<FileSearchResult>>)]
    pub results: Option<Vec<Value>>,
    /// Extension: what did not go as it should, such as a rerank model that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Extension: how long the stages took, where `explain` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<SearchTimings>,
}

/// What the model thought before it answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reasoning {
    pub id: String,
    /// Always empty.
    pub summary: Vec<ReasoningText>,
    pub content: Vec<ReasoningText>,
}

/// How far an item is; `incomplete` where the token limit ended it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    InProgress,
    Completed,
    Incomplete,
}

/// How far a search is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchStatus {
    InProgress,
    Searching,
    Completed,
    Incomplete,
    Failed,
}

/// A part of what the model says.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputPart {
    OutputText(OutputText),
}

#[derive(Debug, Serialize, ToSchema)]
pub struct OutputText {
    pub text: String,
    /// Citations of documents.
    #[schema(value_type = Vec<Annotation>)]
    pub annotations: Vec<Value>,
    /// Empty where they are not asked for.
    #[schema(value_type = Vec<TokenLogprob>)]
    pub logprobs: Vec<Value>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ReasoningText {
    ReasoningText { text: String },
}

/// What is said of a place in a text.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Annotation {
    FileCitation(FileCitation),
}

/// A citation. The fields after `index` are extensions: they say which bytes of which page are quoted.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileCitation {
    file_id: String,
    filename: String,
    /// Where its marker begins in the text, in characters.
    index: usize,
    /// The number that the text cites it by.
    number: usize,
    /// The page that the quote begins on, from 1; 0 in documents without pages.
    page_first: u32,
    /// The page that it ends on.
    page_last: u32,
    /// Its first byte in the document's text.
    start: usize,
    /// The byte after its last.
    end: usize,
    quote: String,
}

impl From<&Citation> for Annotation {
    fn from(citation: &Citation) -> Self {
        Self::FileCitation(FileCitation {
            file_id: citation.file_id.clone(),
            filename: citation.filename.clone(),
            index: citation.index,
            number: citation.number,
            page_first: citation.page_first,
            page_last: citation.page_last,
            start: citation.start,
            end: citation.end,
            quote: citation.quote.clone(),
        })
    }
}

/// A passage that a search found.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileSearchResult {
    #[serde(flatten)]
    passage: FoundPassage,
    text: String,
}

impl From<&Passage> for FileSearchResult {
    fn from(passage: &Passage) -> Self {
        Self {
            passage: passage.into(),
            text: passage.chunk.text.clone(),
        }
    }
}
