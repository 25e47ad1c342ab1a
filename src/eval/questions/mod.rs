//! Makes a question set from stored documents: questions whose answer is a span of a passage, and some that the documents
//! do not answer. Written by the owner's chat model where there is one, else found by rules. The same seed gives the same
//! set. A person is to read and mend it.

mod rules;
mod unanswerable;
mod written;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::Duration;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::corpus::{Documents, listed};
use super::metrics::contains_gold;
use super::text::{normalized, snippet};
use crate::rag::Workspace;
use crate::rag::generate::{ChatModel, GenerateError};
use crate::rag::sentence::content_words;
use crate::store::{ChunkRecord, DocumentStatus, StoreError};

/// Passages of fewer characters have nothing to ask about.
const MIN_PASSAGE: usize = 60;
/// Passages that a chat model is asked about for each question that is wanted, at most.
const MAX_TRIES: usize = 4;

#[derive(Debug, Clone, Copy)]
pub struct MakeOptions {
    /// Questions that the documents answer.
    pub num_answerable: usize,
    pub num_unanswerable: usize,
    pub seed: u64,
    /// Longest time that a chat model may take for one.
    pub timeout: Duration,
}

/// A question as it is written to a file, to be read by [`QuestionSet::read`](super::QuestionSet::read).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MadeQuestion {
    #[serde(rename = "_id")]
    pub id: String,
    pub text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<MadeAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    pub is_answerable: bool,
    /// How it was made.
    pub kind: &'static str,
    /// What stands around the answer, for whoever checks the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MadeAnswer {
    pub text: String,
    /// Where it begins in the document's text, in characters.
    pub start: usize,
}

/// A question about a passage.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Draft {
    text: String,
    /// Bytes of the passage.
    answer: Range<usize>,
    kind: &'static str,
}

#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the chat model could not write questions: {0}")]
    Generate(#[from] GenerateError),
    #[error("there are no documents to ask about; add some with: inglenook ingest FILE")]
    NoDocuments,
    #[error(
        "no question could be made of these documents; the rules know English prose only, so name a chat model"
    )]
    NothingToAsk,
}

/// Passages of one document, in the order in which they are asked about.
struct Source {
    filename: String,
    file_id: String,
    passages: Vec<ChunkRecord>,
}

/// Makes questions about `documents`, spread evenly over them. `chat` must not be a demonstration model.
pub async fn make(
    workspace: &Workspace,
    documents: &Documents,
    chat: Option<&ChatModel>,
    options: MakeOptions,
    mut progress: impl FnMut(usize),
) -> Result<Vec<MadeQuestion>, MakeError> {
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut sources = sources(workspace, documents, &options, &mut random).await?;
    if sources.is_empty() {
        return Err(MakeError::NoDocuments);
    }
    let unanswerable = unanswerable::drafts(workspace, &sources, &options, &mut random).await?;
    let mut chosen: Vec<(usize, ChunkRecord, Draft)> = Vec::new();
    let mut asked: HashSet<String> = HashSet::new();
    let mut left: Vec<(usize, ChunkRecord)> = Vec::new();
    let mut num_tries = 0;
    while chosen.len() < options.num_answerable {
        let mut is_exhausted = true;
        for (at, source) in sources.iter_mut().enumerate() {
            let Some(passage) = source.passages.pop() else {
                continue;
            };
            if chosen.len() >= options.num_answerable {
                break;
            }
            is_exhausted = false;
            let drafts = match chat {
                Some(chat) if num_tries < options.num_answerable * MAX_TRIES => {
                    num_tries += 1;
                    let draft = written::draft(chat, &passage.text, options.timeout).await?;
                    draft.into_iter().collect()
                }
                Some(_) => Vec::new(),
                None => {
                    let mut drafts = rules::drafts(&passage.text);
                    drafts.shuffle(&mut random);
                    drafts
                }
            };
            let fits = |draft: &Draft| {
                is_sound(draft, &passage.text) && !asked.contains(&normalized(&draft.text))
            };
            match drafts.into_iter().find(fits) {
                Some(draft) => {
                    asked.insert(normalized(&draft.text));
                    chosen.push((at, passage, draft));
                    progress(chosen.len());
                }
                None => left.push((at, passage)),
            }
        }
        if is_exhausted {
            break;
        }
    }
    // Headings ask less well, so they only fill up.
    for (at, passage) in left {
        if chosen.len() >= options.num_answerable || chat.is_some() {
            break;
        }
        let draft = rules::from_heading(&passage.heading_path, &passage.text);
        let sound = draft.filter(|draft| is_sound(draft, &passage.text));
        if let Some(draft) = sound.filter(|draft| asked.insert(normalized(&draft.text))) {
            chosen.push((at, passage, draft));
            progress(chosen.len());
        }
    }
    if chosen.is_empty() {
        return Err(MakeError::NothingToAsk);
    }
    let mut made = answerable(workspace, &sources, chosen).await?;
    made.extend(unanswerable.into_iter().map(|text| MadeQuestion {
        id: String::new(),
        text,
        answers: Vec::new(),
        file: None,
        page: None,
        is_answerable: false,
        kind: "unanswerable",
        context: None,
    }));
    for (at, question) in made.iter_mut().enumerate() {
        question.id = format!("q{}", at + 1);
    }
    Ok(made)
}

/// Documents by chance, more of them than will be needed, each with its passages by chance.
async fn sources(
    workspace: &Workspace,
    documents: &Documents,
    options: &MakeOptions,
    random: &mut ChaCha8Rng,
) -> Result<Vec<Source>, MakeError> {
    let store = &workspace.store;
    let mut all = Vec::new();
    for vector_store in &documents.vector_store_ids {
        for document in listed(store, vector_store).await? {
            if document.status == DocumentStatus::Completed {
                all.push((vector_store.clone(), document.file_id));
            }
        }
    }
    all.shuffle(random);
    all.truncate((options.num_answerable * 2).max(20));
    let mut sources = Vec::new();
    for (vector_store, file_id) in all {
        let mut passages = store
            .neighbours(&vector_store, &file_id, 0..u32::MAX)
            .await?;
        passages.retain(|it| it.text.chars().count() >= MIN_PASSAGE);
        passages.shuffle(random);
        if let Some(first) = passages.first() {
            sources.push(Source {
                filename: first.filename.clone(),
                file_id,
                passages,
            });
        }
    }
    Ok(sources)
}

/// Whether the answer stands in the passage, and the question does not give it away and says what it is about.
fn is_sound(draft: &Draft, passage: &str) -> bool {
    let Some(answer) = passage.get(draft.answer.clone()) else {
        return false;
    };
    let answer = answer.to_owned();
    !normalized(&answer).is_empty()
        && !contains_gold(&draft.text, &[answer])
        && draft.text.ends_with('?')
        && content_words(&draft.text).count() >= 2
}

async fn answerable(
    workspace: &Workspace,
    sources: &[Source],
    chosen: Vec<(usize, ChunkRecord, Draft)>,
) -> Result<Vec<MadeQuestion>, MakeError> {
    let mut texts: HashMap<usize, String> = HashMap::new();
    let mut made = Vec::new();
    for (at, passage, draft) in chosen {
        let source = &sources[at];
        if let Entry::Vacant(unread) = texts.entry(at) {
            let stored = workspace.store.extraction(&source.file_id).await?;
            unread.insert(stored.map_or_else(String::new, |it| it.text));
        }
        let begin = passage.span.start + draft.answer.start;
        // A document that was read anew in between.
        let Some(before) = texts[&at].get(..begin) else {
            continue;
        };
        let pages = crate::rag::document::pages_of_span(
            &workspace.store,
            &source.file_id,
            begin..begin + draft.answer.len(),
        );
        made.push(MadeQuestion {
            id: String::new(),
            text: draft.text.clone(),
            answers: vec![MadeAnswer {
                text: passage.text[draft.answer.clone()].to_owned(),
                start: before.chars().count(),
            }],
            file: Some(source.filename.clone()),
            page: Some(pages.await?.0),
            is_answerable: true,
            kind: draft.kind,
            context: Some(around(&passage.text, &draft.answer)),
        });
    }
    Ok(made)
}

/// The answer with what stands before and after it.
fn around(text: &str, answer: &Range<usize>) -> String {
    const AROUND: usize = 100;
    let before: String = text[..answer.start].chars().rev().take(AROUND).collect();
    let before: String = before.chars().rev().collect();
    let after: String = text[answer.end..].chars().take(AROUND).collect();
    snippet(&format!("{before}{}{after}", &text[answer.clone()]), 600)
}

#[cfg(test)]
mod tests;
