//! Questions of a conversation as they would be asked alone: "When was it built?" says nothing to a search. The chat model
//! writes them anew where there is one; otherwise the words of the earlier question go along. A question that stands alone
//! stays as it is. A search never waits long for this.

use std::time::Duration;

use tokio::time::timeout;

use crate::rag::conversation::ChatMessage;
use crate::rag::generate::{ChatModel, GenerateError};
use crate::rag::prompt::Turn;
use crate::rag::rewrite::one_line;
use crate::rag::sentence::content_words;

/// Longest time that the chat model may take.
const MAX_WAIT: Duration = Duration::from_secs(5);
const MAX_TOKENS: usize = 64;
/// Earlier questions that are read, and bytes of each message.
const MAX_QUESTIONS: usize = 3;
const MAX_MESSAGE_BYTES: usize = 600;
/// Longest question that is looked at: a longer one is a text that says enough.
const MAX_QUESTION_BYTES: usize = 1000;
/// Content words from which on a question without referring words stands alone.
const MIN_WORDS: usize = 2;

const INSTRUCTIONS: &str = "The user shows a conversation and the question that comes next. Write that question so that \
     it can be understood without the conversation: put names in the place of words like \"it\" or \"she\". Keep its \
     language. Do not answer it. Write the question alone, on one line.";

/// English words that stand for something said before, wherever they are in a question.
const REFERRING: &[&str] = &[
    "he", "her", "hers", "him", "his", "it", "its", "she", "their", "theirs", "them", "these",
    "they", "this", "those",
];
/// Those that do so at its end.
const REFERRING_AT_END: &[&str] = &["one", "ones", "same", "that", "then", "there", "too"];
/// How questions begin that go on with the one before.
const GOING_ON: &[&str] = &["and ", "but ", "or ", "so ", "what about ", "how about "];

/// The question as it can be searched for. `earlier` are the turns before it.
pub async fn standalone(chat: Option<&ChatModel>, question: &str, earlier: &[Turn]) -> String {
    let questions = questions(earlier);
    if questions.is_empty() || stands_alone(question) {
        return question.to_owned();
    }
    if let Some(chat) = chat {
        match timeout(MAX_WAIT, written(chat, question, earlier)).await {
            Ok(Ok(line)) if !line.is_empty() => return line,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "a question is not written anew: words of the one before go along");
            }
            Err(_) => tracing::warn!("the chat model took too long to write a question anew"),
        }
    }
    carried_over(question, &questions)
}

/// What was asked before, the last one first.
fn questions(earlier: &[Turn]) -> Vec<&str> {
    let asked = earlier.iter().rev().filter_map(|turn| match &turn.message {
        ChatMessage::User(question) => Some(question.as_str()),
        _ => None,
    });
    asked.take(MAX_QUESTIONS).collect()
}

/// Whether a question says all that a search needs.
fn stands_alone(question: &str) -> bool {
    if question.len() > MAX_QUESTION_BYTES {
        return true;
    }
    let lower = question.trim().to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let refers = words.iter().any(|word| REFERRING.contains(word))
        || words
            .last()
            .is_some_and(|word| REFERRING_AT_END.contains(word))
        || GOING_ON.iter().any(|start| lower.starts_with(start));
    !refers && content_words(question).count() >= MIN_WORDS
}

/// The question with the content words of the ones before that it goes on with, back to one that stands alone.
fn carried_over(question: &str, earlier: &[&str]) -> String {
    let mut text = question.trim().to_owned();
    let mut has: Vec<String> = content_words(question).collect();
    for before in earlier {
        for word in content_words(before) {
            if !has.contains(&word) {
                text.push(' ');
                text.push_str(&word);
                has.push(word);
            }
        }
        if stands_alone(before) {
            break;
        }
    }
    text
}

/// Empty where the model came to no end.
async fn written(
    chat: &ChatModel,
    question: &str,
    earlier: &[Turn],
) -> Result<String, GenerateError> {
    let mut said = Vec::new();
    let mut num_questions = 0;
    for turn in earlier.iter().rev() {
        match &turn.message {
            ChatMessage::User(text) => {
                said.push(format!("User: {}", beginning(text)));
                num_questions += 1;
            }
            ChatMessage::Assistant { content, .. } if !content.is_empty() => {
                said.push(format!("Assistant: {}", beginning(content)));
            }
            _ => {}
        }
        if num_questions == MAX_QUESTIONS {
            break;
        }
    }
    said.reverse();
    let said = said.join("\n");
    let text = format!("Conversation:\n{said}\n\nNext question: {question}");
    one_line(chat, INSTRUCTIONS, text, MAX_TOKENS, MAX_WAIT).await
}

fn beginning(text: &str) -> &str {
    let mut end = text.len().min(MAX_MESSAGE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_that_refer_to_something_do_not_stand_alone() {
        for question in [
            "When was it built?",
            "And in 1998?",
            "Why?",
            "What about the keeper of the lighthouse?",
            "Who lived there?",
            "How high is his tower?",
        ] {
            assert!(!stands_alone(question), "{question}");
        }
        for question in [
            "Who is the keeper of the lighthouse?",
            "What is the name of the law that was passed in 1998?",
            "How many people live in Warsaw?",
        ] {
            assert!(stands_alone(question), "{question}");
        }
    }

    #[test]
    fn the_words_of_the_last_question_that_stands_alone_go_along() {
        let earlier = [
            "And when was she born?",
            "Who is Maren Holt of Lindesnes?",
            "How high is the tower?",
        ];
        assert_eq!(
            carried_over("Where did she go to school?", &earlier),
            "Where did she go to school? born maren holt lindesnes"
        );
        assert_eq!(
            carried_over("Is Maren old?", &earlier[1..]),
            "Is Maren old? holt lindesnes"
        );
    }
}
