//! The items of a response, with every key that strict clients ask for.

use serde_json::{Value, json};

use super::output::{
    Annotation, FileSearchCall, FunctionCall, OutputItem, OutputMessage, OutputPart, OutputText,
    Reasoning, ReasoningText,
};
use crate::http::openai::found::SearchTimings;
use crate::rag::answer::Citation;
use crate::rag::retrieve::Retrieved;

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
