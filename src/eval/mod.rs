//! Measures how well questions are answered from documents, by the product's own path: what is found, what is cited, what
//! is declined, and how long it takes. A *question set* is questions with what is known of their answers; a *variant* is
//! one choice of settings; an *observation* is what the product did with one question. Never changes documents that are
//! not its own.

pub mod ask;
pub mod corpus;
pub mod metrics;
pub mod question_set;
pub mod questions;
pub mod report;
pub mod score;
pub mod statistics;
pub mod variants;

mod beir;
mod text;

pub use question_set::{QuestionSet, SetError};
pub use variants::Variant;
