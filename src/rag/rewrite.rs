//! Questions as a search would be asked them: the chat model turns a sentence into its key words. Searching never waits
//! long for it, and goes on with the question as it is when it fails.

use std::time::Duration;

use crate::rag::constrain::Shape;
use crate::rag::conversation::ChatMessage;
use crate::rag::generate::{ChatModel, EndReason, GenerateError, GenerationOptions};
use crate::rag::reply::{Renderer, ReplyPlan};
use crate::rag::sentence::content_words;
use crate::rag::tools::ToolUse;
use crate::tokenizer::TemplateError;

const INSTRUCTIONS: &str = "Turn what the user writes into a short query for a search engine: the key words only, with \
     every name, number and date, in the user's language. Answer with the query alone, on one line.";

/// Longest query that is written.
const MAX_TOKENS: usize = 48;
const MAX_CHARS: usize = 200;
/// Longest question that is read; a longer one is no question but a text.
const MAX_QUESTION_BYTES: usize = 4 << 10;
pub const MAX_WAIT: Duration = Duration::from_secs(20);
/// Words that a query may have to be taken for key words.
const MAX_KEY_WORDS: usize = 8;

/// What to search for in place of `question`: a line that the model wrote, or the question itself where that is better.
pub async fn rewritten(chat: &ChatModel, question: String) -> String {
    if is_key_words(&question) || question.len() > MAX_QUESTION_BYTES {
        return question;
    }
    let asked = question.clone();
    match one_line(chat, INSTRUCTIONS, asked, MAX_TOKENS, MAX_WAIT).await {
        Ok(query) if !query.is_empty() => query,
        Ok(_) => question,
        Err(error) => {
            tracing::warn!(%error, "a query is searched for as it is: it was not rewritten");
            question
        }
    }
}

/// Whether a search has nothing to gain from other words: there are few, and all of them carry meaning.
fn is_key_words(query: &str) -> bool {
    let num_words = query
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .count();
    !query.contains(['?', '\n'])
        && num_words <= MAX_KEY_WORDS
        && content_words(query).count() == num_words
}

/// One line that the model writes to `text`; empty where it came to no end.
pub(super) async fn one_line(
    chat: &ChatModel,
    instructions: &str,
    text: String,
    max_tokens: usize,
    max_wait: Duration,
) -> Result<String, GenerateError> {
    let messages = [
        ChatMessage::System(instructions.into()),
        ChatMessage::User(text),
    ];
    let renderer = Renderer::without_thoughts(chat, ToolUse::default());
    let rendering = renderer.clone();
    let rendered = tokio::task::spawn_blocking(move || rendering.render(&messages)).await;
    let rendered = rendered.map_err(|_| TemplateError::TooLong)??;
    // The same question is searched for in the same words.
    let options = GenerationOptions::greedy(Some(max_tokens), max_wait);
    let one_line = Shape::Regex(format!(r"[^\r\n]{{1,{MAX_CHARS}}}"));
    let plan = ReplyPlan::rendered(renderer, rendered, Some(one_line), options).await?;
    let replied = plan.start_one()?.collect().await?;
    // A text that fills its room was not ended by the model.
    let is_full = replied.text.chars().count() >= MAX_CHARS;
    let line = match replied.reason {
        Some(EndReason::Stop) if !is_full => {
            replied.text.trim().trim_matches(['"', '\'', '`']).trim()
        }
        _ => "",
    };
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_words_that_all_carry_meaning_are_key_words() {
        for query in [
            "lighthouse keeper",
            "Maren Holt 1998",
            "budget-2024 approval",
        ] {
            assert!(is_key_words(query), "{query}");
        }
        for question in [
            "Who is the keeper of the lighthouse?",
            "keeper?",
            "the keeper of the lighthouse",
            "red blue green black white brown pink grey gold",
            "two\nlines",
        ] {
            assert!(!is_key_words(question), "{question}");
        }
    }
}
