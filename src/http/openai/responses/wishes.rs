//! The object `inglenook` of a request: what this server does beyond OpenAI's API. All of it is checked here, and what is
//! not known is refused by name.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::{from_value, number};
use crate::rag::selection::{Selection, SelectionError};

/// Characters of what a reader says of themselves, and of a text that they select.
const MAX_READER: usize = 2000;
const MAX_SELECTED: usize = 32_768;

/// How an answer from documents is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AnswerMode)]
pub enum Mode {
    /// The chat model writes it, and cites what it read.
    Answer,
    /// The documents' own sentence or two, whatever the model.
    Quote,
    /// A summary of all documents in scope; without a chat model, their most central sentences.
    Summary,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Answer => "answer",
            Mode::Quote => "quote",
            Mode::Summary => "summary",
        }
    }
}

/// Extensions of this server. `null` is the same as absent; keys that are not known are refused.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InglenookOptions)]
pub struct Given {
    /// By default whatever the model does.
    mode: Option<Mode>,
    /// The only source of the answer, in place of a search; at most 32,768 characters.
    selected_text: Option<String>,
    /// The file that it comes from: citations are spans of that document then.
    selected_file_id: Option<String>,
    /// Who asks, so that words can suit them; at most 2,000 characters.
    reader: Option<String>,
    /// An answer that is less sure is declined. By default the server's own setting.
    #[serde(default, deserialize_with = "number")]
    #[schema(minimum = 0, maximum = 1)]
    min_confidence: Option<f32>,
    /// Whether an answer that was given before may be given again, and this one is kept. By default only where the model
    /// has no choice of words: at temperature 0, with a seed, or where documents are quoted.
    cache: Option<bool>,
}

/// What was asked for, checked.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    pub mode: Option<Mode>,
    pub selection: Option<Selection>,
    pub reader: Option<String>,
    pub min_confidence: Option<f32>,
    pub cache: Option<bool>,
}

impl Wishes {
    pub async fn checked(context: &Context, given: Option<Value>) -> Result<Self, ApiError> {
        let given = read(given)?;
        let reader = given.reader.filter(|reader| !reader.trim().is_empty());
        let num_chars = reader.as_deref().map_or(0, |it| it.chars().count());
        if num_chars > MAX_READER {
            let message = format!(
                "inglenook.reader has {num_chars} characters, but may have at most {MAX_READER}"
            );
            return Err(ApiError::invalid("inglenook.reader", message));
        }
        let min_confidence = checked_confidence(given.min_confidence)?;
        let selection = selection(context, given.selected_text, given.selected_file_id).await?;
        Ok(Self {
            mode: given.mode,
            selection,
            reader,
            min_confidence,
            cache: given.cache,
        })
    }

    /// The first wish that only an answer from documents can fulfil.
    pub fn about_documents(&self) -> Option<&'static str> {
        let wished = [
            (
                "inglenook.mode",
                self.mode.is_some_and(|mode| mode != Mode::Quote),
            ),
            ("inglenook.reader", self.reader.is_some()),
            ("inglenook.min_confidence", self.min_confidence.is_some()),
            ("inglenook.cache", self.cache == Some(true)),
        ];
        let wished = wished.into_iter().find(|(_, is_wished)| *is_wished);
        wished.map(|(param, _)| param)
    }
}

/// What chat completions can fulfil.
#[derive(Debug, Default)]
pub struct ChatWishes {
    pub is_quoting: bool,
    pub min_confidence: Option<f32>,
}

impl ChatWishes {
    /// Chat completions know no documents but all of them, and no answer from these but a quote.
    pub fn checked(given: Option<Value>) -> Result<Self, ApiError> {
        let given = read(given)?;
        let others = [
            (
                "inglenook.mode",
                given.mode.is_some_and(|mode| mode != Mode::Quote),
            ),
            ("inglenook.selected_text", given.selected_text.is_some()),
            (
                "inglenook.selected_file_id",
                given.selected_file_id.is_some(),
            ),
            ("inglenook.reader", given.reader.is_some()),
            ("inglenook.cache", given.cache.is_some()),
        ];
        if let Some((param, _)) = others.iter().find(|(_, is_wished)| *is_wished) {
            let message =
                format!("{param} is served by /v1/responses; here documents are only quoted");
            return Err(ApiError::unsupported(*param, message));
        }
        Ok(Self {
            is_quoting: given.mode == Some(Mode::Quote),
            min_confidence: checked_confidence(given.min_confidence)?,
        })
    }
}

fn checked_confidence(given: Option<f32>) -> Result<Option<f32>, ApiError> {
    match given {
        Some(value) if !(0.0..=1.0).contains(&value) => {
            let message =
                format!("inglenook.min_confidence is {value}, but must be between 0 and 1");
            Err(ApiError::invalid("inglenook.min_confidence", message))
        }
        given => Ok(given),
    }
}

/// The object as it was sent.
fn read(given: Option<Value>) -> Result<Given, ApiError> {
    let Some(given) = given.filter(|given| !given.is_null()) else {
        return Ok(Given::default());
    };
    from_value(given).map_err(|error| {
        ApiError::invalid("inglenook", format!("inglenook cannot be read: {error}"))
    })
}

async fn selection(
    context: &Context,
    text: Option<String>,
    file_id: Option<String>,
) -> Result<Option<Selection>, ApiError> {
    const TEXT: &str = "inglenook.selected_text";
    const FILE: &str = "inglenook.selected_file_id";
    let Some(text) = text else {
        if file_id.is_some() {
            let message = format!("{FILE} says where {TEXT} comes from, which is missing");
            return Err(ApiError::invalid(FILE, message));
        }
        return Ok(None);
    };
    let num_chars = text.chars().count();
    if num_chars > MAX_SELECTED {
        let message =
            format!("{TEXT} has {num_chars} characters, but may have at most {MAX_SELECTED}");
        return Err(ApiError::invalid(TEXT, message));
    }
    if text.trim().is_empty() {
        return Err(ApiError::invalid(TEXT, format!("{TEXT} is empty")));
    }
    let Some(file_id) = file_id else {
        return Ok(Some(Selection::alone(text)));
    };
    let found = Selection::of_document(&context.workspace.store, &file_id, &text).await;
    match found {
        Ok(selection) => Ok(Some(selection)),
        Err(error @ SelectionError::NotThere { .. }) => {
            Err(ApiError::invalid(TEXT, error.to_string()))
        }
        Err(SelectionError::Store(error)) => Err(ApiError::from(error).about(FILE)),
    }
}
