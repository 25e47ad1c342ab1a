//! The object `inglenook` of a response: what is to be known of an answer from documents besides its words.

use serde::Serialize;
use utoipa::ToSchema;

use super::wishes::Mode;
use crate::rag::answer::About;
use crate::rag::prompt::LeftOut;
use crate::rag::summary::{Extent, Method};

/// Extensions of this server.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(as = InglenookAnswer)]
pub struct Extension {
    /// How the answer from documents was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    pub outcome: Option<Outcome>,
    /// How sure it is, from 0 to 1, that what was found answers the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Below it the answer is declined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_confidence: Option<f64>,
    /// Whether the answer was given before and is given again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
    /// What was searched for, where that is not the question as it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_query: Option<String>,
    /// What did not fit into the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOutOfPrompt>,
    /// Of a summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<SummaryExtent>,
    /// How many of the oldest items the model did not read, where `truncation` is `auto` and the context was full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_items: Option<usize>,
}

/// How the search for an answer went.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Answered,
    NotFound,
    /// Something was found, but with less confidence than `min_confidence`.
    Declined,
    /// The model has written something and cited nothing, so nothing of it was checked. Said at the end.
    Uncited,
}

/// What did not fit into the prompt.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LeftOutOfPrompt {
    /// Earlier messages.
    turns: usize,
    passages: usize,
    /// Bytes at the end of the only passage that is left.
    bytes: usize,
}

/// What a summary is made of.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SummaryExtent {
    #[schema(inline)]
    method: SummaryMethod,
    documents: usize,
    passages: usize,
    /// Passages whose summaries were kept from an earlier time.
    cached_passages: usize,
}

/// How a summary is made.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum SummaryMethod {
    /// By the chat model, from summaries of all passages.
    Written,
    /// Of the documents' own sentences.
    Extractive,
}

impl Extension {
    /// Takes over what is known of an answer that was made this way.
    pub fn describe(&mut self, mode: Mode, about: &About) {
        self.mode = Some(mode);
        self.conclude(about);
        self.confidence = about.confidence.map(rounded);
        self.cached = Some(about.is_cached);
        self.left_out = (about.left_out != LeftOut::default()).then_some(LeftOutOfPrompt {
            turns: about.left_out.num_turns,
            passages: about.left_out.num_passages,
            bytes: about.left_out.num_bytes_shortened,
        });
        self.summary = about.summary.map(SummaryExtent::from);
    }

    /// What came of it, as far as it is known; `Answered` until the end says otherwise.
    pub fn conclude(&mut self, about: &About) {
        self.outcome = Some(match about.is_found {
            true if about.is_uncited => Outcome::Uncited,
            true => Outcome::Answered,
            false if about.is_declined => Outcome::Declined,
            false => Outcome::NotFound,
        });
    }

    pub fn is_empty(&self) -> bool {
        self.mode.is_none() && self.dropped_items.is_none()
    }
}

/// To three digits: more would say more than is known.
pub fn rounded(share: f32) -> f64 {
    (f64::from(share) * 1000.0).round() / 1000.0
}

impl From<Extent> for SummaryExtent {
    fn from(extent: Extent) -> Self {
        Self {
            method: match extent.method {
                Method::Written => SummaryMethod::Written,
                Method::Extractive => SummaryMethod::Extractive,
            },
            documents: extent.num_documents,
            passages: extent.num_passages,
            cached_passages: extent.num_cached,
        }
    }
}
