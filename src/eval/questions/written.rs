//! A question about a passage, written by a chat model.

use std::time::Duration;

use super::Draft;
use crate::eval::ask::generation;
use crate::rag::constrain::Shape;
use crate::rag::conversation::ChatMessage;
use crate::rag::generate::{ChatModel, GenerateError};
use crate::rag::reply::{Renderer, ReplyPlan};
use crate::rag::tools::ToolUse;
use crate::tokenizer::TemplateError;

const INSTRUCTIONS: &str = "You write test questions about a passage. Write one question that the passage answers and that \
     can be understood without seeing it: name what it is about, and do not say \"the passage\". Then copy the answer, a few \
     words, exactly as it stands in the passage. The question must not contain the answer. Write two lines and nothing \
     else:\nQuestion: ...\nAnswer: ...";

const MAX_TOKENS: usize = 160;
/// What a model's context must leave beside the passage is far more than this.
const MAX_PASSAGE_CHARS: usize = 6_000;
const QUESTION: &str = "Question:";
const ANSWER: &str = "Answer:";

/// `None` when what was written is no question, or its answer does not stand in the passage.
pub(super) async fn draft(
    chat: &ChatModel,
    passage: &str,
    timeout: Duration,
) -> Result<Option<Draft>, GenerateError> {
    let shown: String = passage.chars().take(MAX_PASSAGE_CHARS).collect();
    let messages = [
        ChatMessage::System(INSTRUCTIONS.into()),
        ChatMessage::User(format!("Passage:\n{shown}")),
    ];
    let renderer = Renderer::without_thoughts(chat, ToolUse::default());
    let rendering = renderer.clone();
    let rendered = tokio::task::spawn_blocking(move || rendering.render(&messages)).await;
    let rendered = rendered.map_err(|_| TemplateError::TooLong)??;
    let two_lines = Shape::Regex(format!(
        r"{QUESTION} [^\r\n]{{8,240}}\?\n{ANSWER} [^\r\n]{{1,240}}"
    ));
    let options = generation(Some(MAX_TOKENS), timeout);
    let plan = ReplyPlan::rendered(renderer, rendered, Some(two_lines), options).await?;
    let replied = plan.start_one()?.collect().await?;
    Ok(read(&replied.text, passage))
}

fn read(written: &str, passage: &str) -> Option<Draft> {
    let (question, answer) = written.split_once('\n')?;
    let question = question.trim().strip_prefix(QUESTION)?.trim();
    let answer = answer.trim().strip_prefix(ANSWER)?.trim();
    let bare = answer.trim_matches(['"', '\u{201c}', '\u{201d}', '.', ' ']);
    let found = [answer, bare]
        .into_iter()
        .filter(|it| !it.is_empty())
        .find_map(|it| Some((passage.find(it)?, it.len())));
    let (start, len) = found?;
    Some(Draft {
        text: question.to_owned(),
        answer: start..start + len,
        kind: "written",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_in_the_passage_is_an_answer() {
        let passage = "The keeper of the lighthouse is Maren Holt.";
        let draft = read("Question: Who keeps it?\nAnswer: \"Maren Holt.\"", passage).unwrap();
        assert_eq!(draft.text, "Who keeps it?");
        assert_eq!(&passage[draft.answer], "Maren Holt");
        assert_eq!(
            read("Question: Who keeps it?\nAnswer: Bruno", passage),
            None
        );
        assert_eq!(read("Who keeps it? Maren Holt", passage), None);
    }
}
