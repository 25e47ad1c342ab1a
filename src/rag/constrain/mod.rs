//! From what an answer must look like to a constraint that the engine holds: JSON schemas, regular expressions, grammars
//! and calls of functions. Compiling is bounded in size, time and number, since anybody may ask for it.

mod grammar;
mod schema;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::engine::Constraint;
use crate::tokenizer::Tokenizer;

pub use grammar::Wanted;

/// Grammars that are compiled at one time.
const MAX_COMPILING: usize = 2;
/// How long a request waits for its turn to compile, and then for the compiler.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Characters of the library's own messages.
const MAX_MESSAGE: usize = 400;

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// JSON that fits the schema. Strictly: a schema that cannot be held in full is refused.
    Json {
        schema: Value,
        is_strict: bool,
    },
    Regex(String),
    /// A grammar in Lark's notation.
    Lark(String),
    /// One of these texts.
    Choice(Vec<String>),
}

/// Why an answer cannot be held to what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstrainError {
    #[error("{message}")]
    Schema { message: String },
    #[error("{message}; make it smaller")]
    TooLarge { message: String },
    #[error("the grammar or schema takes too long to compile; make it smaller")]
    TooSlow,
    #[error("other grammars are being compiled; try again later")]
    Busy,
    #[error("answers cannot be held to a grammar: {message}")]
    Unavailable { message: String },
}

/// Compiles the grammars of one model. Clones share what was prepared.
#[derive(Clone)]
pub struct Constrainer {
    shared: Arc<Shared>,
}

struct Shared {
    tokenizer: Tokenizer,
    /// Made when the first grammar comes: most models never see one.
    factory: OnceLock<Result<ParserFactory, ConstrainError>>,
    places: Arc<Semaphore>,
}

impl Constrainer {
    pub fn new(tokenizer: Tokenizer) -> Self {
        Self {
            shared: Arc::new(Shared {
                tokenizer,
                factory: OnceLock::new(),
                places: Arc::new(Semaphore::new(MAX_COMPILING)),
            }),
        }
    }

    /// Compiles on a thread that may block. A grammar that never gets ready keeps its place, so that a few of them
    /// cannot take the machine.
    pub async fn compile(&self, wanted: Wanted) -> Result<Constraint, ConstrainError> {
        let places = Arc::clone(&self.shared.places);
        let Ok(Ok(place)) = timeout(MAX_WAIT, places.acquire_owned()).await else {
            return Err(ConstrainError::Busy);
        };
        let constrainer = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            constrainer.compile_now(&wanted)
        });
        match timeout(MAX_WAIT, work).await {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) => Err(ConstrainError::Schema {
                message: "the grammar or schema cannot be compiled".into(),
            }),
            Err(_) => Err(ConstrainError::TooSlow),
        }
    }

    fn compile_now(&self, wanted: &Wanted) -> Result<Constraint, ConstrainError> {
        let tokenizer = &self.shared.tokenizer;
        let control_token = |mark: &str| tokenizer.control_token(mark);
        // The request's own mistakes first: they need no vocabulary.
        let grammar = grammar::write(wanted, &control_token)?;
        let factory = self.shared.factory.get_or_init(|| factory(tokenizer));
        let factory = factory.as_ref().map_err(Clone::clone)?;
        let parser = factory.create_parser(grammar);
        let parser = parser.map_err(|error| ConstrainError::Schema {
            message: explained(&error.to_string()),
        })?;
        Ok(Constraint::new(Matcher::new(Ok(parser))))
    }
}

fn factory(tokenizer: &Tokenizer) -> Result<ParserFactory, ConstrainError> {
    let environment = vocabulary::environment(tokenizer)?;
    let mut factory = ParserFactory::new(
        &environment,
        InferenceCapabilities::default(),
        &llguidance::earley::SlicedBiasComputer::general_slices(),
    )
    .map_err(|error| ConstrainError::Unavailable {
        message: error.to_string(),
    })?;
    factory.quiet();
    let limits = factory.limits_mut();
    // A state has one to two kilobytes, so that one answer has a hundred megabytes at the very most.
    limits.max_lexer_states = 50_000;
    limits.max_grammar_size = 200_000;
    limits.verbose_errors = false;
    Ok(factory)
}

/// The library's message with the keyword it is about, in our words.
fn explained(message: &str) -> String {
    let message = message.replace("<non-verbose/>", "");
    let line = message.lines().next().unwrap_or_default();
    if let Some((_, keys)) = line.split_once("Unimplemented keys: ") {
        let keys = keys.trim_matches(['[', ']']).replace('"', "'");
        return format!(
            "the schema uses {keys}, which cannot be held while the answer is written; leave it out"
        );
    }
    if line.contains("oneOf constraints are not supported") {
        return "the schema uses 'oneOf' with options that overlap, which cannot be held; use 'anyOf'".into();
    }
    if let Some((_, format)) = line.split_once("Unknown format: ") {
        return format!(
            "the schema uses the 'format' \"{format}\", which is not known; leave it out"
        );
    }
    let words: Vec<&str> = message.split_whitespace().collect();
    let short: String = words.join(" ").chars().take(MAX_MESSAGE).collect();
    format!("the grammar or schema cannot be used: {short}")
}
