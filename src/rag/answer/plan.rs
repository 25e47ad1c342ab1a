//! The prompt of a question about documents, ready to be answered.

use super::{AnswerError, Question};
use crate::rag::cite::MarkerReader;
use crate::rag::conversation::ChatMessage;
use crate::rag::generate::{ChatModel, GenerateError, GenerationOptions};
use crate::rag::prompt::{self, BuiltPrompt, LeftOut, PromptError, PromptParts, Sources};
use crate::rag::reply::{Renderer, ReplyPlan, thinking_aloud};
use crate::rag::retrieve::Passage;
use crate::tokenizer::TemplateError;

/// An answer that can be generated, and what its prompt shows.
pub struct AnswerPlan {
    pub reply: ReplyPlan,
    pub(super) passages: Vec<Passage>,
    pub(super) left_out: LeftOut,
    pub(super) sources: Sources,
    pub(super) numbers: Vec<usize>,
    pub(super) reader: MarkerReader,
    pub(super) is_found: bool,
}

impl AnswerPlan {
    /// Builds the prompt that `question` is answered from, and compiles what the answer is held to.
    pub async fn new(chat: &ChatModel, question: Question) -> Result<Self, AnswerError> {
        // The sources are at hand: thinking aloud about them delays the answer, so nobody does it unasked.
        let renderer = match question.is_thinking {
            true => Renderer::new(chat, question.tools.clone(), thinking_aloud()),
            false => Renderer::without_thoughts(chat, question.tools.clone()),
        };
        let is_found = question.is_found();
        let (shape, options) = (question.shape.clone(), question.options.clone());
        let is_thinking = question.is_thinking;
        let (builder, model) = (renderer.clone(), chat.clone());
        let answer_tokens = prompt::answer_tokens(chat.context_length(), options.max_tokens);
        let build = move || built(&model, &builder, question, answer_tokens);
        let built = tokio::task::spawn_blocking(build).await;
        let built = built.map_err(|_| GenerateError::from(TemplateError::TooLong))??;
        let numbers = built.passages.iter().map(|passage| passage.number);
        let reader = match shape {
            Some(_) => MarkerReader::of_json(numbers),
            None => MarkerReader::new(numbers),
        };
        let options = GenerationOptions {
            // Nobody knows how long thoughts are.
            max_tokens: (options.max_tokens.is_some() || !is_thinking).then_some(answer_tokens),
            num_public_tokens: built.num_public_tokens,
            ..options
        };
        Ok(Self {
            reply: ReplyPlan::rendered(renderer, built.rendered, shape, options).await?,
            passages: built.passages,
            left_out: built.left_out,
            sources: built.sources,
            numbers: built.numbers,
            reader,
            is_found,
        })
    }
}

fn built(
    chat: &ChatModel,
    renderer: &Renderer,
    question: Question,
    answer_tokens: usize,
) -> Result<BuiltPrompt, PromptError> {
    // What the system said stands for the whole conversation, and is not left out with old turns.
    let mut instructions: Vec<String> = question.instructions.into_iter().collect();
    let mut is_kept = |message: &ChatMessage| match message {
        ChatMessage::System(content) => {
            instructions.push(content.clone());
            false
        }
        _ => true,
    };
    let mut earlier = question.earlier;
    earlier.retain(|turn| is_kept(&turn.message));
    let mut following = question.following;
    following.retain(is_kept);
    let instructions = instructions.join("\n\n");
    let parts = PromptParts {
        instructions: (!instructions.is_empty()).then_some(instructions.as_str()),
        reader: question.reader.as_deref(),
        passages: question.found.as_deref(),
        earlier: &earlier,
        known: &question.known,
        question: &question.text,
        following: &following,
        has_functions: question.tools.is_wanted(),
        answer_tokens,
    };
    prompt::build(chat, renderer, &parts)
}
