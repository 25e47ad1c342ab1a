//! The events of a streamed response, as they are sent.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::output::{Annotation, OutputItem, OutputPart};
use super::response::Response;
use crate::http::openai::chat::shape::TokenLogprob;
use crate::http::sse::event_text;
use crate::rag::summary;

/// An event of a streamed response.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResponseEvent)]
pub struct NumberedEvent {
    /// From 0, one more with each event.
    pub sequence_number: usize,
    #[serde(flatten)]
    pub event: Event,
}

impl NumberedEvent {
    /// The event as it is sent.
    pub fn text(&self) -> String {
        event_text(self.event.kind(), &json!(self))
    }
}

/// What an event says; its type is also the name of the server-sent event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResponseEventKind)]
#[serde(tag = "type")]
pub enum Event {
    #[serde(rename = "response.created")]
    Created(Lifecycle),
    #[serde(rename = "response.queued")]
    Queued(Lifecycle),
    #[serde(rename = "response.in_progress")]
    InProgress(Lifecycle),
    #[serde(rename = "response.completed")]
    Completed(Lifecycle),
    #[serde(rename = "response.incomplete")]
    Incomplete(Lifecycle),
    #[serde(rename = "response.failed")]
    Failed(Lifecycle),
    /// An extension: how far the work on a summary is, before its first word.
    #[serde(rename = "response.inglenook.progress")]
    Progress {
        #[schema(inline)]
        stage: Stage,
        done: usize,
        total: usize,
    },
    #[serde(rename = "response.output_item.added")]
    ItemAdded(ItemEvent),
    #[serde(rename = "response.output_item.done")]
    ItemDone(ItemEvent),
    #[serde(rename = "response.file_search_call.in_progress")]
    SearchInProgress(Place),
    #[serde(rename = "response.file_search_call.searching")]
    Searching(Place),
    #[serde(rename = "response.file_search_call.completed")]
    SearchCompleted(Place),
    #[serde(rename = "response.content_part.added")]
    PartAdded(PartEvent),
    #[serde(rename = "response.content_part.done")]
    PartDone(PartEvent),
    #[serde(rename = "response.output_text.delta")]
    TextDelta {
        #[serde(flatten)]
        place: PartPlace,
        delta: String,
        /// Of the tokens of `delta`.
        #[schema(value_type = Vec<TokenLogprob>)]
        logprobs: Vec<Value>,
    },
    #[serde(rename = "response.output_text.annotation.added")]
    AnnotationAdded {
        #[serde(flatten)]
        place: PartPlace,
        annotation_index: usize,
        #[schema(value_type = Annotation)]
        annotation: Value,
    },
    #[serde(rename = "response.output_text.done")]
    TextDone {
        #[serde(flatten)]
        place: PartPlace,
        text: String,
        #[schema(value_type = Vec<TokenLogprob>)]
        logprobs: Vec<Value>,
    },
    #[serde(rename = "response.reasoning_text.delta")]
    ReasoningDelta {
        #[serde(flatten)]
        place: PartPlace,
        delta: String,
    },
    #[serde(rename = "response.reasoning_text.done")]
    ReasoningDone {
        #[serde(flatten)]
        place: PartPlace,
        text: String,
    },
    #[serde(rename = "response.function_call_arguments.delta")]
    ArgumentsDelta {
        #[serde(flatten)]
        place: Place,
        delta: String,
    },
    #[serde(rename = "response.function_call_arguments.done")]
    ArgumentsDone {
        #[serde(flatten)]
        place: Place,
        name: String,
        arguments: String,
    },
}

/// What is being worked on: summaries of passages, or of groups of them.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Passages,
    Groups,
}

/// The response as it is now.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ResponseLifecycle)]
pub struct Lifecycle {
    #[schema(value_type = Response)]
    pub response: Value,
}

/// An item that begins or is done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OutputItemChange)]
pub struct ItemEvent {
    pub output_index: usize,
    #[schema(value_type = OutputItem)]
    pub item: Value,
}

/// A part of a message that begins or is done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ContentPartChange)]
pub struct PartEvent {
    #[serde(flatten)]
    pub place: PartPlace,
    #[schema(value_type = OutputPart)]
    pub part: Value,
}

/// The item that an event is about.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = OutputItemPlace)]
pub struct Place {
    /// Where it stands in the output.
    pub output_index: usize,
    pub item_id: String,
}

/// The part of an item that an event is about.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ContentPartPlace)]
pub struct PartPlace {
    #[serde(flatten)]
    pub item: Place,
    /// Where it stands in the content: always 0.
    pub content_index: usize,
}

impl Place {
    /// Its only part.
    pub fn part(self) -> PartPlace {
        PartPlace {
            item: self,
            content_index: 0,
        }
    }
}

impl Event {
    /// The event that ends a response. None says that one was cancelled: it is incomplete, and its status tells why.
    pub fn ended(response: Value) -> Self {
        let status = response["status"].as_str().unwrap_or_default();
        let end = match status {
            "completed" => Event::Completed,
            "failed" => Event::Failed,
            _ => Event::Incomplete,
        };
        end(Lifecycle { response })
    }

    /// The same, without the log-probabilities of a whole text, which its pieces have said and the response says again.
    pub fn without_sums_of_logprobs(mut self) -> Self {
        match &mut self {
            Event::TextDone { logprobs, .. } => logprobs.clear(),
            Event::PartDone(PartEvent { part, .. }) => clear_logprobs(part),
            Event::ItemDone(ItemEvent { item, .. }) => {
                let parts = item["content"].as_array_mut().into_iter().flatten();
                parts.for_each(clear_logprobs);
            }
            _ => {}
        }
        self
    }

    pub fn of_progress(progress: summary::Progress) -> Self {
        Event::Progress {
            stage: match progress.stage {
                summary::Stage::Passages => Stage::Passages,
                summary::Stage::Groups => Stage::Groups,
            },
            done: progress.num_done,
            total: progress.num_total,
        }
    }

    /// Its type.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Created(_) => "response.created",
            Event::Queued(_) => "response.queued",
            Event::InProgress(_) => "response.in_progress",
            Event::Completed(_) => "response.completed",
            Event::Incomplete(_) => "response.incomplete",
            Event::Failed(_) => "response.failed",
            Event::Progress { .. } => "response.inglenook.progress",
            Event::ItemAdded(_) => "response.output_item.added",
            Event::ItemDone(_) => "response.output_item.done",
            Event::SearchInProgress(_) => "response.file_search_call.in_progress",
            Event::Searching(_) => "response.file_search_call.searching",
            Event::SearchCompleted(_) => "response.file_search_call.completed",
            Event::PartAdded(_) => "response.content_part.added",
            Event::PartDone(_) => "response.content_part.done",
            Event::TextDelta { .. } => "response.output_text.delta",
            Event::AnnotationAdded { .. } => "response.output_text.annotation.added",
            Event::TextDone { .. } => "response.output_text.done",
            Event::ReasoningDelta { .. } => "response.reasoning_text.delta",
            Event::ReasoningDone { .. } => "response.reasoning_text.done",
            Event::ArgumentsDelta { .. } => "response.function_call_arguments.delta",
            Event::ArgumentsDone { .. } => "response.function_call_arguments.done",
        }
    }
}

fn clear_logprobs(part: &mut Value) {
    if let Some(logprobs) = part.get_mut("logprobs") {
        *logprobs = json!([]);
    }
}
