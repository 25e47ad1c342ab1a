//! Summaries that a chat model writes, by map and reduce. Every prompt is measured before it is used: nothing is cut in
//! silence, and each round has fewer notes than the one before, so that it ends.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::prompts::{self, Note};
use super::{Extent, Method, Preparing, Progress, Ready, Stage, Step, num_documents};
use crate::engine::Usage;
use crate::rag::Workspace;
use crate::rag::answer::{AnswerError, add};
use crate::rag::cite::{CitedPiece, MarkerReader};
use crate::rag::conversation::ChatMessage;
use crate::rag::generate::{ChatModel, EndReason, GenerateError, GenerationOptions};
use crate::rag::prompt::{self, PromptError, shorter, tell_of_reader};
use crate::rag::reply::{Rendered, Renderer, ReplyPlan};
use crate::rag::retrieve::Passage;
use crate::rag::sentence::sentences;
use crate::rag::tools::ToolUse;
use crate::store::{PassageSummary, Store};
use crate::tokenizer::TemplateError;

/// Longest summary of a passage, and of a group, in tokens.
const PASSAGE_TOKENS: usize = 96;
const GROUP_TOKENS: usize = 256;
/// Passages or groups that are written at the same time: the engine computes them together, and serves others between.
const AT_ONCE: usize = 4;
/// Steps that may wait for who listens.
const STEPS: usize = 16;

/// What is wanted of a summary.
#[derive(Debug, Clone)]
pub struct Wish {
    pub request: String,
    pub instructions: Option<String>,
    pub reader: Option<String>,
    pub options: GenerationOptions,
}

/// Begins to work on the summary of `passages`.
pub async fn begin(
    workspace: &Workspace,
    chat: &ChatModel,
    passages: Vec<Passage>,
    wish: Wish,
) -> Result<Preparing, AnswerError> {
    let keys = passages.iter().map(|passage| key(chat, passage));
    let keys: Vec<String> = keys.collect();
    let known = workspace.store.passage_summaries(keys.clone()).await?;
    let extent = Extent {
        method: Method::Written,
        num_documents: num_documents(&passages),
        num_passages: passages.len(),
        num_cached: keys.iter().filter(|key| known.contains_key(*key)).count(),
    };
    let (sender, steps) = mpsc::channel(STEPS);
    let writer = Writer {
        store: workspace.store.clone(),
        renderer: Renderer::without_thoughts(chat, ToolUse::default()),
        chat: chat.clone(),
        wish,
        steps: sender.clone(),
    };
    let mut work = JoinSet::new();
    work.spawn(async move {
        let step = Arc::new(writer).ready(passages, keys, known).await;
        // Whoever has left needs no answer.
        let _ = sender.send(step).await;
    });
    Ok(Preparing {
        extent,
        steps,
        _work: work,
    })
}

/// What a summary of a passage depends on.
fn key(chat: &ChatModel, passage: &Passage) -> String {
    let mut hash = Sha256::new();
    for part in [
        &prompts::VERSION.to_string(),
        chat.id(),
        &passage.chunk.filename,
        &passage.chunk.text,
    ] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .map(|it| format!("{it:02x}"))
        .collect()
}

struct Writer {
    store: Store,
    renderer: Renderer,
    chat: ChatModel,
    wish: Wish,
    steps: mpsc::Sender<Result<Step, AnswerError>>,
}

impl Writer {
    /// Documents that are deleted in the meantime are left out, whatever was written of them.
    async fn ready(
        self: Arc<Self>,
        mut passages: Vec<Passage>,
        mut keys: Vec<String>,
        mut summaries: HashMap<String, String>,
    ) -> Result<Step, AnswerError> {
        let mut spent = Usage::default();
        loop {
            self.of_passages(&passages, &keys, &mut summaries, &mut spent)
                .await?;
            let rendered = self.reduced(&passages, &keys, &summaries, &mut spent).await;
            let there = self.still_there(&passages).await?;
            if there.iter().all(|it| *it) {
                return Ok(Step::Ready(Box::new(
                    self.planned(passages, rendered?, spent).await?,
                )));
            }
            let kept = passages.into_iter().zip(keys).zip(there);
            (passages, keys) = kept.filter_map(|(it, there)| there.then_some(it)).unzip();
            if passages.is_empty() {
                return Ok(Step::Gone(spent));
            }
        }
    }

    /// The prompt of the whole summary: notes on passages, grouped until they fit.
    async fn reduced(
        self: &Arc<Self>,
        passages: &[Passage],
        keys: &[String],
        summaries: &HashMap<String, String>,
        spent: &mut Usage,
    ) -> Result<Rendered, AnswerError> {
        let notes = passages.iter().zip(keys).filter_map(|(passage, key)| {
            let text = summaries.get(key).filter(|text| !text.is_empty())?;
            Some(Note {
                numbers: vec![passage.number],
                text: format!("{text} [{}]", passage.number),
            })
        });
        let mut notes: Vec<Note> = notes.collect();
        loop {
            let rendered = self.rendered(self.whole(&notes)).await?;
            if self.fits(&rendered, self.answer_tokens()) {
                return Ok(rendered);
            }
            let groups = self.groups(&notes).await?;
            if groups.len() >= notes.len() {
                return Err(self.too_long(&rendered, self.answer_tokens()).into());
            }
            notes = self.of_groups(groups, spent).await?;
        }
    }

    async fn planned(
        &self,
        passages: Vec<Passage>,
        rendered: Rendered,
        spent: Usage,
    ) -> Result<Ready, AnswerError> {
        let options = GenerationOptions {
            max_tokens: Some(self.answer_tokens()),
            ..self.wish.options.clone()
        };
        let plan = ReplyPlan::rendered(self.renderer.clone(), rendered, None, options).await?;
        Ok(Ready {
            passages,
            plan,
            spent,
        })
    }

    fn answer_tokens(&self) -> usize {
        prompt::answer_tokens(self.chat.context_length(), self.wish.options.max_tokens)
    }

    /// Which of these passages are of files that were not deleted. What a reader selected is of none.
    async fn still_there(&self, passages: &[Passage]) -> Result<Vec<bool>, AnswerError> {
        let mut ids: Vec<String> = passages.iter().map(|it| it.chunk.file_id.clone()).collect();
        ids.dedup();
        let live = self.store.live_files(ids).await?;
        let is_there =
            |it: &Passage| it.chunk.file_id.is_empty() || live.contains(&it.chunk.file_id);
        Ok(passages.iter().map(is_there).collect())
    }

    fn whole(&self, notes: &[Note]) -> Vec<ChatMessage> {
        let Wish {
            request,
            instructions,
            reader,
            ..
        } = &self.wish;
        let mut messages = prompts::of_whole(notes, request, instructions.as_deref());
        if let Some(reader) = reader {
            tell_of_reader(&mut messages, reader);
        }
        messages
    }

    /// A summary of each passage, by its key: what is kept of it, or what is written now, and kept.
    async fn of_passages(
        self: &Arc<Self>,
        passages: &[Passage],
        keys: &[String],
        summaries: &mut HashMap<String, String>,
        spent: &mut Usage,
    ) -> Result<(), AnswerError> {
        let mut missing: Vec<(Passage, String)> = Vec::new();
        for (passage, key) in passages.iter().zip(keys) {
            if !summaries.contains_key(key) && missing.iter().all(|(_, other)| other != key) {
                missing.push((passage.clone(), key.clone()));
            }
        }
        let num_total = passages.len();
        let mut num_done = num_total - missing.len();
        self.tell(Stage::Passages, num_done, num_total).await;
        let work = missing.into_iter().map(|(passage, key)| {
            let this = Arc::clone(self);
            async move {
                if this.still_there(std::slice::from_ref(&passage)).await? != [true] {
                    return Ok(None);
                }
                let (text, usage) = this.of_passage(&passage).await?;
                this.keep(&passage, &key, &text).await?;
                Ok::<_, AnswerError>(Some((key, text, usage)))
            }
        });
        let mut work = stream::iter(work).buffer_unordered(AT_ONCE);
        while let Some(one) = work.next().await {
            num_done += 1;
            let Some((key, text, usage)) = one? else {
                continue;
            };
            summaries.insert(key, text);
            add(spent, &usage);
            self.tell(Stage::Passages, num_done, num_total).await;
        }
        Ok(())
    }

    async fn of_passage(&self, passage: &Passage) -> Result<(String, Usage), AnswerError> {
        let mut text = passage.chunk.text.as_str();
        let rendered = loop {
            let rendered = self.rendered(prompts::of_passage(passage, text)).await?;
            if self.fits(&rendered, PASSAGE_TOKENS) {
                break rendered;
            }
            let over = rendered.tokens.len() + PASSAGE_TOKENS - self.chat.context_length();
            match shorter(text, over, rendered.tokens.len()) {
                Some(end) => text = &text[..end],
                None => return Err(self.too_long(&rendered, PASSAGE_TOKENS).into()),
            }
        };
        let (text, usage) = self.written(rendered, PASSAGE_TOKENS).await?;
        // Numbers in it would be taken for those of passages.
        let (text, _) = cleaned(&text, &[]);
        Ok((text, usage))
    }

    async fn keep(&self, passage: &Passage, key: &str, text: &str) -> Result<(), AnswerError> {
        // What a reader selected is not kept.
        if passage.chunk.id != 0 {
            let summary = PassageSummary {
                chunk_id: passage.chunk.id,
                key: key.to_owned(),
                text: text.to_owned(),
            };
            self.store.save_passage_summary(summary).await?;
        }
        Ok(())
    }

    /// Neighbouring notes that fit into a prompt together. One that fits with no other stays alone.
    async fn groups(&self, notes: &[Note]) -> Result<Vec<Vec<Note>>, AnswerError> {
        let mut groups: Vec<Vec<Note>> = Vec::new();
        for note in notes {
            if let Some(last) = groups.last_mut() {
                last.push(note.clone());
                let rendered = self.rendered(prompts::of_group(last)).await?;
                if self.fits(&rendered, self.group_tokens()) {
                    continue;
                }
                last.pop();
            }
            groups.push(vec![note.clone()]);
        }
        Ok(groups)
    }

    /// Several texts of this length fit into one prompt.
    fn group_tokens(&self) -> usize {
        GROUP_TOKENS.min(self.chat.context_length() / 8).max(1)
    }

    async fn of_groups(
        self: &Arc<Self>,
        groups: Vec<Vec<Note>>,
        spent: &mut Usage,
    ) -> Result<Vec<Note>, AnswerError> {
        let num_total = groups.len();
        self.tell(Stage::Groups, 0, num_total).await;
        let work = groups.into_iter().map(|group| {
            let this = Arc::clone(self);
            async move { this.of_group(group).await }
        });
        // In their order.
        let mut work = stream::iter(work).buffered(AT_ONCE);
        let mut notes = Vec::with_capacity(num_total);
        while let Some(one) = work.next().await {
            let (note, usage) = one?;
            add(spent, &usage);
            notes.push(note);
            self.tell(Stage::Groups, notes.len(), num_total).await;
        }
        Ok(notes)
    }

    async fn of_group(&self, mut group: Vec<Note>) -> Result<(Note, Usage), AnswerError> {
        if group.len() == 1 {
            return Ok((group.remove(0), Usage::default()));
        }
        let rendered = self.rendered(prompts::of_group(&group)).await?;
        let (text, usage) = self.written(rendered, self.group_tokens()).await?;
        let numbers: Vec<usize> = group.iter().flat_map(|note| note.numbers.clone()).collect();
        let (mut text, cited) = cleaned(&text, &numbers);
        let numbers = match cited.is_empty() {
            false => cited,
            // The model forgot them: what it says comes from these all the same.
            true => {
                let first: Vec<usize> = group
                    .iter()
                    .filter_map(|note| note.numbers.first().copied())
                    .take(3)
                    .collect();
                let markers = first.iter().map(|number| format!("[{number}]"));
                text = format!("{text} {}", markers.collect::<String>());
                first
            }
        };
        Ok((Note { numbers, text }, usage))
    }

    /// What the model writes, to the end of its last whole sentence.
    async fn written(
        &self,
        rendered: Rendered,
        max_tokens: usize,
    ) -> Result<(String, Usage), AnswerError> {
        let options = GenerationOptions {
            user: self.wish.options.user.clone(),
            ..GenerationOptions::greedy(Some(max_tokens), self.wish.options.timeout)
        };
        let plan = ReplyPlan::rendered(self.renderer.clone(), rendered, None, options).await?;
        let replied = plan.start_one()?.collect().await?;
        let mut text = replied.text.trim();
        if replied.reason == Some(EndReason::Length)
            && let [.., before, _] = sentences(text).as_slice()
        {
            text = &text[..before.end];
        }
        Ok((text.to_owned(), replied.usage))
    }

    async fn rendered(&self, messages: Vec<ChatMessage>) -> Result<Rendered, GenerateError> {
        let renderer = self.renderer.clone();
        let rendered = tokio::task::spawn_blocking(move || renderer.render(&messages)).await;
        Ok(rendered.map_err(|_| TemplateError::TooLong)??)
    }

    fn fits(&self, rendered: &Rendered, answer_tokens: usize) -> bool {
        rendered.tokens.len() + answer_tokens <= self.chat.context_length()
    }

    fn too_long(&self, rendered: &Rendered, answer_tokens: usize) -> PromptError {
        let context_length = self.chat.context_length();
        PromptError::TooLong {
            num_tokens: rendered.tokens.len(),
            answer_tokens,
            context_length,
            budget: context_length.saturating_sub(answer_tokens),
        }
    }

    async fn tell(&self, stage: Stage, num_done: usize, num_total: usize) {
        let progress = Progress {
            stage,
            num_done,
            num_total,
        };
        // Whoever has left ends this work by dropping it.
        let _ = self.steps.send(Ok(Step::Progress(progress))).await;
    }
}

/// The text without markers of other numbers than these, and the numbers that it has.
fn cleaned(text: &str, numbers: &[usize]) -> (String, Vec<usize>) {
    let mut reader = MarkerReader::new(numbers.iter().copied());
    let mut pieces = reader.push(text);
    pieces.extend(reader.finish());
    let mut kept = String::new();
    let mut cited = Vec::new();
    for piece in pieces {
        match piece {
            CitedPiece::Text(text) => kept.push_str(&text),
            CitedPiece::Marker(marker) => {
                kept.push_str(&marker.blanks);
                kept.push_str(&marker.text);
                if !cited.contains(&marker.number) {
                    cited.push(marker.number);
                }
            }
        }
    }
    (kept.trim().to_owned(), cited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_numbers_are_taken_out_and_the_others_are_known() {
        let (text, cited) = cleaned("One [3]. Two [3, 9]. Three [8].", &[3, 4]);
        assert_eq!(text, "One [3]. Two [3]. Three.");
        assert_eq!(cited, [3]);
        assert_eq!(cleaned("One [1].", &[]), ("One.".into(), vec![]));
    }
}
