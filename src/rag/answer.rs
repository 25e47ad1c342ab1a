//! From a question to a cited answer: by the chat model, which writes from a prompt with the passages, or by quoting.
//! Every citation is checked against the stored document.

mod plan;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::VecDeque;
use std::ops::Range;

use crate::engine::{GeneratedToken, Usage};
use crate::rag::Workspace;
use crate::rag::answer_cache::{KeptAnswer, Recording};
use crate::rag::cite::{CitedPiece, MarkerReader, claim_before, supporting_span};
use crate::rag::constrain::Shape;
use crate::rag::conversation::ChatMessage;
use crate::rag::generate::{ChatModel, EndReason, GenerateError, GenerationOptions};
use crate::rag::prompt::{LeftOut, PromptError, Sources, Turn};
use crate::rag::quote;
use crate::rag::reply::{Reply, ReplyEvent};
use crate::rag::retrieve::{Passage, RetrieveError, Retrieved};
use crate::rag::summary::{Extent, Extract, Preparing, Progress, Ready, Step};
use crate::rag::tools::ToolUse;
use crate::store::{Store, StoreError};

pub use plan::AnswerPlan;
pub use verify::{still_holds, verified};

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
    /// Who asks, in their own words.
    pub reader: Option<String>,
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

    /// Refuses what was found where it is less sure than asked for: nothing of it is shown to a model.
    pub fn decline(&mut self) {
        self.found = Some(Vec::new());
    }
}

/// A checked citation: the document says `quote` at exactly `start..end` of its extracted text.
#[derive(Debug, Clone)]
pub struct Citation {
    /// The number in the answer, `[number]`.
    pub number: usize,
    /// Where the marker starts in the answer, in characters.
    pub index: usize,
    /// Empty where the source is a text that the reader selected, and no document's.
    pub file_id: String,
    pub filename: String,
    pub page_first: u32,
    pub page_last: u32,
    /// Bytes of the document's extracted text, or of the selection.
    pub start: usize,
    pub end: usize,
    pub quote: String,
}

/// One step of an answer.
#[derive(Debug, Clone)]
pub enum AnswerEvent {
    Reply(ReplyEvent),
    /// Comes before the text of its marker.
    Citation(Citation),
    /// How far the work before the first word is.
    Progress(Progress),
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

/// What is to be known of an answer besides its words.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// False when nothing was found in the documents, or it was declined.
    pub is_found: bool,
    /// Whether something was found, but with less confidence than asked for.
    pub is_declined: bool,
    /// How sure it is that what was found answers the question, from 0 to 1; `None` where nothing was searched.
    pub confidence: Option<f32>,
    pub left_out: LeftOut,
    /// What the prompt gave for the question.
    pub sources: Sources,
    /// The numbers in this conversation of what was retrieved, in its order; none when it has its own.
    pub numbers: Vec<usize>,
    /// Whether it was given before, and is given again.
    pub is_cached: bool,
    /// Whether its end was reached and nothing in it is cited, so that nobody can tell that the documents say it.
    pub is_uncited: bool,
    /// Of a summary.
    pub summary: Option<Extent>,
}

/// An answer that is being written.
pub struct Answer {
    store: Store,
    pub about: About,
    passages: Vec<Passage>,
    /// What comes before the reply.
    preparing: Option<Preparing>,
    reply: Option<Reply>,
    reader: MarkerReader,
    written: String,
    num_chars: usize,
    /// Blanks before a marker whose citation did not hold: the next marker may need them, a text does not.
    blanks: String,
    /// Tokens whose text the reader still holds.
    unsaid: Vec<GeneratedToken>,
    /// What was spent before the reply began.
    spent_before: Usage,
    queue: VecDeque<AnswerEvent>,
    /// Of what was given so far.
    has_text: bool,
    has_citations: bool,
    recording: Option<Recording>,
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
        let mut answer = Self::empty(&workspace.store);
        answer.about = About {
            is_found: plan.is_found,
            left_out: plan.left_out,
            sources: plan.sources,
            numbers: plan.numbers,
            ..About::default()
        };
        answer.reply = Some(plan.reply.start_one()?);
        answer.passages = plan.passages;
        answer.reader = plan.reader;
        Ok(answer)
    }

    /// Answers with the sentence or two of what was retrieved that answer `question`, or says that there are none, or none
    /// that is at least so sure.
    pub async fn quote(
        workspace: &Workspace,
        question: &str,
        retrieved: &Retrieved,
        min_confidence: f32,
    ) -> Result<Self, AnswerError> {
        let mut answer = Self::not_found(workspace);
        let Some(quote) = quote::choose(workspace, question, retrieved).await? else {
            return Ok(answer);
        };
        answer.about.confidence = Some(quote.confidence);
        if quote.confidence < min_confidence {
            answer.about.is_declined = true;
            return Ok(answer);
        }
        let passage = &retrieved.passages[quote.passage];
        let text = quoted(&passage.chunk.text[quote.span.clone()]);
        let usage = quote_usage(workspace, question, &text).await;
        // A document that went away in the meantime is not quoted any more.
        let excerpts = [(passage.clone(), quote.span)];
        if let Some(queue) = quotes(&workspace.store, "", &excerpts, usage).await? {
            answer.about.is_found = true;
            answer.queue = queue;
        }
        Ok(answer)
    }

    /// A summary in the documents' own sentences, in their order.
    pub async fn extracted(
        workspace: &Workspace,
        extract: Extract,
        intro: &str,
    ) -> Result<Self, AnswerError> {
        let mut answer = Self::not_found(workspace);
        answer.about.summary = Some(extract.extent);
        let usage = extract.usage;
        let queue = quotes(&workspace.store, intro, &extract.excerpts, usage);
        if let Some(queue) = queue.await? {
            answer.about.is_found = true;
            answer.queue = queue;
        }
        Ok(answer)
    }

    /// A reply that is written when `preparing` has come to its end.
    pub fn prepared(workspace: &Workspace, preparing: Preparing) -> Self {
        let mut answer = Self::empty(&workspace.store);
        answer.about.is_found = true;
        answer.about.summary = Some(preparing.extent);
        answer.preparing = Some(preparing);
        answer
    }

    /// What was answered before. Its citations must have been checked again.
    pub fn again(store: &Store, kept: &KeptAnswer) -> Self {
        let mut answer = Self::empty(store);
        answer.about = About {
            is_cached: true,
            ..kept.about.clone()
        };
        answer.queue = kept.events.iter().cloned().collect();
        answer
    }

    /// Nothing was found.
    pub fn not_found(workspace: &Workspace) -> Self {
        let mut answer = Self::empty(&workspace.store);
        answer.queue = [text(NOT_FOUND.into()), finished(Usage::default())].into();
        answer
    }

    fn empty(store: &Store) -> Self {
        Self {
            store: store.clone(),
            about: About::default(),
            passages: Vec::new(),
            preparing: None,
            reply: None,
            reader: MarkerReader::new([]),
            written: String::new(),
            num_chars: 0,
            blanks: String::new(),
            unsaid: Vec::new(),
            spent_before: Usage::default(),
            queue: VecDeque::new(),
            has_text: false,
            has_citations: false,
            recording: None,
        }
    }

    /// Keeps what is answered, once all of it was given.
    pub fn record(&mut self, recording: Recording) {
        self.recording = Some(recording);
    }

    /// The next event; `None` after `Finished` or an error.
    pub async fn next(&mut self) -> Option<Result<AnswerEvent, AnswerError>> {
        let event = self.made().await?;
        match &event {
            Ok(AnswerEvent::Citation(_)) => self.has_citations = true,
            Ok(AnswerEvent::Reply(ReplyEvent::Text { text, .. })) => {
                self.has_text |= !text.trim().is_empty();
            }
            Ok(AnswerEvent::Reply(ReplyEvent::Finished { .. })) => {
                self.about.is_uncited = self.about.is_found && self.has_text && !self.has_citations;
            }
            _ => {}
        }
        if let (Some(recording), Ok(event)) = (&mut self.recording, &event) {
            recording.add(event, &self.about);
        }
        Some(event)
    }

    async fn made(&mut self) -> Option<Result<AnswerEvent, AnswerError>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(Ok(event));
            }
            if let Some(preparing) = &mut self.preparing {
                match preparing.next().await {
                    Ok(Step::Progress(progress)) => {
                        return Some(Ok(AnswerEvent::Progress(progress)));
                    }
                    Ok(Step::Ready(ready)) => {
                        self.preparing = None;
                        if let Err(error) = self.go_on_with(*ready) {
                            return Some(Err(error));
                        }
                    }
                    Ok(Step::Gone(spent)) => {
                        self.preparing = None;
                        self.about.is_found = false;
                        self.queue = [text(NOT_FOUND.into()), finished(spent)].into();
                    }
                    Err(error) => {
                        self.preparing = None;
                        return Some(Err(error));
                    }
                }
                continue;
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

    fn go_on_with(&mut self, ready: Ready) -> Result<(), AnswerError> {
        self.reader = MarkerReader::new(ready.passages.iter().map(|passage| passage.number));
        self.passages = ready.passages;
        self.spent_before = ready.spent;
        self.reply = Some(ready.plan.start_one()?);
        Ok(())
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
        if let Some(mut other) = other {
            // Text after a call or a thought is a message of its own.
            self.reader = self.reader.afresh();
            self.written.clear();
            self.num_chars = 0;
            self.blanks.clear();
            self.unsaid.clear();
            if let ReplyEvent::Finished { usage, .. } = &mut other {
                add(usage, &self.spent_before);
            }
            self.queue.push_back(AnswerEvent::Reply(other));
        }
        Ok(())
    }

    async fn take(&mut self, piece: CitedPiece) -> Result<(), AnswerError> {
        match piece {
            CitedPiece::Text(text) => {
                self.blanks.clear();
                self.say(text);
            }
            CitedPiece::Marker(marker) => {
                self.blanks.push_str(&marker.blanks);
                let cited = |passage: &&Passage| passage.number == marker.number;
                let Some(passage) = self.passages.iter().find(cited) else {
                    return Ok(());
                };
                let index = self.num_chars + self.blanks.chars().count();
                let span = supporting_span(&passage.chunk.text, claim_before(&self.written));
                // Without its citation the marker does not reach the reader.
                if let Some(citation) = verified(&self.store, passage, span, index).await? {
                    self.queue.push_back(AnswerEvent::Citation(citation));
                    let text = std::mem::take(&mut self.blanks) + &marker.text;
                    if !text.is_empty() {
                        self.say(text);
                    }
                }
            }
        }
        Ok(())
    }

    fn say(&mut self, text: String) {
        self.written.push_str(&text);
        self.num_chars += text.chars().count();
        let tokens = std::mem::take(&mut self.unsaid);
        let event = ReplyEvent::Text { text, tokens };
        self.queue.push_back(AnswerEvent::Reply(event));
    }
}

/// The events of an answer that quotes these spans of passages, after `intro`. `None` where no document says any of them.
async fn quotes(
    store: &Store,
    intro: &str,
    excerpts: &[(Passage, Range<usize>)],
    usage: Usage,
) -> Result<Option<VecDeque<AnswerEvent>>, AnswerError> {
    let mut queue = VecDeque::new();
    let mut num_chars = intro.chars().count();
    for (passage, span) in excerpts {
        let blank = if queue.is_empty() { "" } else { "\n\n" };
        let said = format!("{blank}{} ", quoted(&passage.chunk.text[span.clone()]));
        let index = num_chars + said.chars().count();
        if let Some(citation) = verified(store, passage, span.clone(), index).await? {
            let marker = format!("[{}]", citation.number);
            num_chars = index + marker.chars().count();
            queue.extend([text(said), AnswerEvent::Citation(citation), text(marker)]);
        }
    }
    if queue.is_empty() {
        return Ok(None);
    }
    if !intro.is_empty() {
        queue.push_front(text(intro.to_owned()));
    }
    queue.push_back(finished(usage));
    Ok(Some(queue))
}

/// A sentence of a document on one line, in quotation marks.
fn quoted(sentence: &str) -> String {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    format!("\u{201c}{}\u{201d}", words.join(" "))
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

/// Adds what one generation took to a sum.
pub fn add(sum: &mut Usage, one: &Usage) {
    sum.num_prompt_tokens += one.num_prompt_tokens;
    sum.num_cached_tokens += one.num_cached_tokens;
    sum.num_completion_tokens += one.num_completion_tokens;
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
