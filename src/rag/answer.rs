//! From a question to a cited answer: by the chat model, which writes from a prompt with the passages, or by quoting.
//! Every citation is checked against the stored document.

use std::ops::Range;

use crate::engine::Usage;
use crate::rag::cite::{CitedPiece, MarkerReader, claim_before, supporting_span};
use crate::rag::generate::{
    ChatModel, EndReason, GenerateError, Generation, GenerationEvent, GenerationOptions,
};
use crate::rag::prompt::{
    self, BuiltPrompt, LeftOut, PromptError, PromptParts, Role, Sources, Turn,
};
use crate::rag::quote::{self, Quote};
use crate::rag::retrieve::{Passage, RetrieveError, Retrieved};
use crate::rag::{Workspace, document};
use crate::store::StoreError;

/// What is answered when no passage bears on the question.
pub const NOT_FOUND: &str = "I could not find this in the documents.";

/// A question with everything around it.
#[derive(Debug, Clone)]
pub struct Question {
    pub text: String,
    pub earlier: Vec<Turn>,
    /// The sources of `earlier` that still exist.
    pub known: Vec<Passage>,
    pub instructions: Option<String>,
    pub options: GenerationOptions,
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
    Text(String),
    /// Comes before the text of its marker.
    Citation(Citation),
    Finished {
        reason: EndReason,
        usage: Usage,
    },
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
    /// False when the answer is that nothing was found; then no model runs.
    pub is_found: bool,
    /// How sure a quoted answer is, from 0 to 1.
    pub confidence: Option<f32>,
    generation: Option<Generation>,
    reader: MarkerReader,
    written: String,
    queue: std::collections::VecDeque<AnswerEvent>,
}

impl Answer {
    /// Starts to answer `question` from what was retrieved for it. Dropping the answer cancels it.
    pub fn begin(
        workspace: &Workspace,
        chat: &ChatModel,
        question: Question,
        retrieved: &Retrieved,
    ) -> Result<Self, AnswerError> {
        if !retrieved.is_relevant {
            return Ok(Self::not_found(workspace));
        }
        let (built, options) = Self::prompt(chat, question, retrieved)?;
        let generation = chat.generate(built.tokens, options)?;
        Ok(Self {
            workspace: workspace.clone(),
            reader: MarkerReader::new(built.passages.iter().map(|passage| passage.number)),
            passages: built.passages,
            left_out: built.left_out,
            sources: built.sources,
            numbers: built.numbers,
            is_found: true,
            confidence: None,
            generation: Some(generation),
            written: String::new(),
            queue: Default::default(),
        })
    }

    /// The prompt that `question` is answered from, and how the answer is to be generated.
    pub fn prompt(
        chat: &ChatModel,
        question: Question,
        retrieved: &Retrieved,
    ) -> Result<(BuiltPrompt, GenerationOptions), AnswerError> {
        // What the system said stands for the whole conversation, and is not left out with old turns.
        let (system, earlier): (Vec<Turn>, Vec<Turn>) = question
            .earlier
            .into_iter()
            .partition(|turn| turn.role == Role::System);
        let system = question
            .instructions
            .into_iter()
            .chain(system.into_iter().map(|turn| turn.content));
        let instructions = system.collect::<Vec<_>>().join("\n\n");
        let answer_tokens =
            prompt::answer_tokens(chat.context_length(), question.options.max_tokens);
        let built = prompt::build(
            chat,
            &PromptParts {
                instructions: (!instructions.is_empty()).then_some(instructions.as_str()),
                passages: &retrieved.passages,
                earlier: &earlier,
                known: &question.known,
                question: &question.text,
                answer_tokens,
            },
        )?;
        let options = GenerationOptions {
            max_tokens: Some(answer_tokens),
            num_public_tokens: built.num_public_tokens,
            ..question.options
        };
        Ok((built, options))
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
                AnswerEvent::Text(quoted),
                AnswerEvent::Citation(citation),
                AnswerEvent::Text(marker),
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
            generation: None,
            written: String::new(),
            queue: [
                AnswerEvent::Text(NOT_FOUND.into()),
                finished(Usage::default()),
            ]
            .into(),
        }
    }

    /// The next event; `None` after `Finished` or an error.
    pub async fn next(&mut self) -> Option<Result<AnswerEvent, AnswerError>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(Ok(event));
            }
            let event = match self.generation.as_mut()?.next().await? {
                Ok(event) => event,
                Err(error) => return Some(Err(error.into())),
            };
            let (pieces, last) = match event {
                GenerationEvent::Text { text, .. } => (self.reader.push(&text), None),
                GenerationEvent::Finished { reason, usage } => (
                    self.reader.finish(),
                    Some(AnswerEvent::Finished { reason, usage }),
                ),
            };
            for piece in pieces {
                if let Err(error) = self.take(piece).await {
                    self.generation = None;
                    return Some(Err(error));
                }
            }
            self.queue.extend(last);
        }
    }

    async fn take(&mut self, piece: CitedPiece) -> Result<(), AnswerError> {
        match piece {
            CitedPiece::Text(text) => {
                self.written.push_str(&text);
                self.queue.push_back(AnswerEvent::Text(text));
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

fn finished(usage: Usage) -> AnswerEvent {
    AnswerEvent::Finished {
        reason: EndReason::Stop,
        usage,
    }
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
