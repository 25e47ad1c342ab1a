//! From a question to a cited answer: by the chat model, which writes from a prompt with the passages, or by quoting.
//! Every citation is checked against the stored document.

use std::collections::VecDeque;
use std::ops::Range;

use crate::engine::{GeneratedToken, Usage};
use crate::rag::cite::{CitedPiece, MarkerReader, claim_before, supporting_span};
use crate::rag::constrain::Shape;
use crate::rag::conversation::ChatMessage;
use crate::rag::generate::{ChatModel, EndReason, GenerateError, GenerationOptions};
use crate::rag::prompt::{self, BuiltPrompt, LeftOut, PromptError, PromptParts, Sources, Turn};
use crate::rag::quote::{self, Quote};
use crate::rag::reply::{Renderer, Reply, ReplyEvent, ReplyPlan, thinking_aloud};
use crate::rag::retrieve::{Passage, RetrieveError, Retrieved};
use crate::rag::tools::ToolUse;
use crate::rag::{Workspace, document};
use crate::store::StoreError;
use crate::tokenizer::TemplateError;

/// What is answered when no passage bears on the question.
pub const NOT_FOUND: &str = "I could not find this in the documents.";

/// A question with everything around it.
#[derive(Debug, Clone)]
pub struct Question {
    pub text: String,
    /// The passages that bear on it; `None` where nothing was searched.
    pub found: Option<Vec<Passage>>,
    pub earlier: Vec<Turn>,
    /// Calls that were made for it, and what they returned.
    pub following: Vec<ChatMessage>,
    /// The sources of `earlier`, and its own where it has been asked before, that still exist.
    pub known: Vec<Passage>,
    pub instructions: Option<String>,
    pub tools: ToolUse,
    /// The shape of the answer, which is JSON.
    pub shape: Option<Shape>,
    pub is_thinking: bool,
    pub options: GenerationOptions,
}

impl Question {
    pub fn is_found(&self) -> bool {
        self.found.as_ref().is_none_or(|found| !found.is_empty())
    }

    /// Whether a model has to answer it. Where nothing was found that need not be.
    pub fn needs_model(&self) -> bool {
        let is_more_than_asked =
            self.tools.is_wanted() || self.shape.is_some() || !self.following.is_empty();
        self.is_found() || is_more_than_asked
    }
}

/// A checked citation: the document says `quote` at exactly `start..end` of its extracted text.
#[derive(Debug, Clone)]
pub struct Citation {
    /// The number in the answer, `[number]`.
    pub number: usize,
    /// Where the marker starts in the answer, in characters.
    pub index: usize,
    pub file_id: String,
    pub filename: String,
    pub page_first: u32,
    pub page_last: u32,
    /// Bytes of the document's extracted text.
    pub start: usize,
    pub end: usize,
    pub quote: String,
}

/// One step of an answer.
#[derive(Debug)]
pub enum AnswerEvent {
    Reply(ReplyEvent),
    /// Comes before the text of its marker.
    Citation(Citation),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Retrieve(#[from] RetrieveError),
}

/// An answer that is being written.
pub struct Answer {
    workspace: Workspace,
    passages: Vec<Passage>,
    pub left_out: LeftOut,
    /// What the prompt gave for the question.
    pub sources: Sources,
    /// The numbers in this conversation of what was retrieved, in its order; none when it has its own.
    pub numbers: Vec<usize>,
    /// False when nothing was found in the documents.
    pub is_found: bool,
    /// How sure a quoted answer is, from 0 to 1.
    pub confidence: Option<f32>,
    reply: Option<Reply>,
    reader: MarkerReader,
    written: String,
    /// Tokens whose text the reader still holds.
    unsaid: Vec<GeneratedToken>,
    queue: VecDeque<AnswerEvent>,
}

/// An answer that can be generated, and what its prompt shows.
pub struct AnswerPlan {
    pub reply: ReplyPlan,
    passages: Vec<Passage>,
    left_out: LeftOut,
    sources: Sources,
    numbers: Vec<usize>,
    reader: MarkerReader,
    is_found: bool,
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

impl Answer {
    /// Starts to answer `question`. Dropping the answer cancels it.
    pub async fn begin(
        workspace: &Workspace,
        chat: &ChatModel,
        question: Question,
    ) -> Result<Self, AnswerError> {
        if !question.needs_model() {
            return Ok(Self::not_found(workspace));
        }
        let plan = AnswerPlan::new(chat, question).await?;
        Ok(Self {
            workspace: workspace.clone(),
            reply: Some(plan.reply.start_one()?),
            passages: plan.passages,
            left_out: plan.left_out,
            sources: plan.sources,
            numbers: plan.numbers,
            is_found: plan.is_found,
            confidence: None,
            reader: plan.reader,
            written: String::new(),
            unsaid: Vec::new(),
            queue: VecDeque::new(),
        })
    }

    /// Answers with the sentence or two of what was retrieved that answer `question`, or says that there are none.
    pub async fn quote(
        workspace: &Workspace,
        question: &str,
        retrieved: &Retrieved,
    ) -> Result<Self, AnswerError> {
        let mut answer = Self::not_found(workspace);
        let Some(quote) = quote::choose(workspace, question, retrieved).await? else {
            return Ok(answer);
        };
        answer.confidence = Some(quote.confidence);
        if quote.confidence < workspace.min_quote_confidence {
            return Ok(answer);
        }
        let Quote { passage, span, .. } = quote;
        let passage = &retrieved.passages[passage];
        let words: Vec<&str> = passage.chunk.text[span.clone()]
            .split_whitespace()
            .collect();
        let quoted = format!("\u{201c}{}\u{201d} ", words.join(" "));
        let index = quoted.chars().count();
        // A document that went away in the meantime is not quoted any more.
        if let Some(citation) = answer.verified(passage, span, index).await? {
            let marker = format!("[{}]", citation.number);
            let usage = quote_usage(workspace, question, &quoted).await;
            answer.is_found = true;
            answer.queue = [
                text(quoted),
                AnswerEvent::Citation(citation),
                text(marker),
                finished(usage),
            ]
            .into();
        }
        Ok(answer)
    }

    fn not_found(workspace: &Workspace) -> Self {
        Self {
            workspace: workspace.clone(),
            reader: MarkerReader::new([]),
            passages: Vec::new(),
            left_out: LeftOut::default(),
            sources: Sources::default(),
            numbers: Vec::new(),
            is_found: false,
            confidence: None,
            reply: None,
            written: String::new(),
            unsaid: Vec::new(),
            queue: [text(NOT_FOUND.into()), finished(Usage::default())].into(),
        }
    }

    /// The next event; `None` after `Finished` or an error.
    pub async fn next(&mut self) -> Option<Result<AnswerEvent, AnswerError>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(Ok(event));
            }
            let event = match self.reply.as_mut()?.next().await? {
                Ok(event) => event,
                Err(error) => return Some(Err(error.into())),
            };
            if let Err(error) = self.read(event).await {
                self.reply = None;
                return Some(Err(error));
            }
        }
    }

    async fn read(&mut self, event: ReplyEvent) -> Result<(), AnswerError> {
        let (pieces, other) = match event {
            ReplyEvent::Text { text, tokens } => {
                self.unsaid.extend(tokens);
                (self.reader.push(&text), None)
            }
            other => (self.reader.finish(), Some(other)),
        };
        for piece in pieces {
            self.take(piece).await?;
        }
        if let Some(other) = other {
            // Text after a call or a thought is a message of its own.
            self.reader = self.reader.afresh();
            self.written.clear();
            self.unsaid.clear();
            self.queue.push_back(AnswerEvent::Reply(other));
        }
        Ok(())
    }

    async fn take(&mut self, piece: CitedPiece) -> Result<(), AnswerError> {
        match piece {
            CitedPiece::Text(text) => {
                self.written.push_str(&text);
                let tokens = std::mem::take(&mut self.unsaid);
                let event = ReplyEvent::Text { text, tokens };
                self.queue.push_back(AnswerEvent::Reply(event));
            }
            CitedPiece::Marker(marker) => {
                let cited = |passage: &&Passage| passage.number == marker.number;
                let Some(passage) = self.passages.iter().find(cited) else {
                    return Ok(());
                };
                let span = supporting_span(&passage.chunk.text, claim_before(&self.written));
                if let Some(citation) = self.verified(passage, span, marker.index).await? {
                    self.queue.push_back(AnswerEvent::Citation(citation));
                }
            }
        }
        Ok(())
    }

    /// The citation of `span` of a passage's text, with its quote as the stored document has it. `None` when the
    /// document went away in the meantime.
    async fn verified(
        &self,
        passage: &Passage,
        span: Range<usize>,
        index: usize,
    ) -> Result<Option<Citation>, AnswerError> {
        let chunk = &passage.chunk;
        let (start, end) = (chunk.span.start + span.start, chunk.span.start + span.end);
        let stored = match self
            .workspace
            .store
            .text_span(&chunk.file_id, start, end)
            .await
        {
            Ok(stored) => stored,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if stored != chunk.text[span] {
            tracing::warn!(
                file = chunk.file_id,
                start,
                end,
                "a passage no longer matches its document, citation dropped"
            );
            return Ok(None);
        }
        let (page_first, page_last) = if chunk.page_first == chunk.page_last {
            (chunk.page_first, chunk.page_last)
        } else {
            document::pages_of_span(&self.workspace.store, &chunk.file_id, start..end).await?
        };
        Ok(Some(Citation {
            number: passage.number,
            index,
            file_id: chunk.file_id.clone(),
            filename: chunk.filename.clone(),
            page_first,
            page_last,
            start,
            end,
            quote: stored,
        }))
    }
}

fn text(text: String) -> AnswerEvent {
    let tokens = Vec::new();
    AnswerEvent::Reply(ReplyEvent::Text { text, tokens })
}

fn finished(usage: Usage) -> AnswerEvent {
    AnswerEvent::Reply(ReplyEvent::Finished {
        reason: EndReason::Stop,
        usage,
        num_reasoning_tokens: 0,
    })
}

/// What quoting took, in tokens of the embedding model: there is no other. Counts away from the threads that serve.
async fn quote_usage(workspace: &Workspace, question: &str, quoted: &str) -> Usage {
    let Some(embedder) = workspace.embedder.clone() else {
        return Usage::default();
    };
    let (question, quoted) = (question.to_string(), quoted.to_string());
    let count = move || Usage {
        num_prompt_tokens: embedder.count_tokens(&question),
        num_completion_tokens: embedder.count_tokens(&quoted),
        ..Usage::default()
    };
    let counted = tokio::task::spawn_blocking(count).await;
    counted.unwrap_or_default()
}
