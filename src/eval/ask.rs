//! Asks one question by the product's own path, and notes what came of it.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::corpus::Documents;
use super::question_set::Question;
use super::text::snippet;
use super::variants::{AnswerMode, FusionMode, Variant};
use crate::engine::SamplingParams;
use crate::rag::Workspace;
use crate::rag::answer::{Answer, AnswerError, AnswerEvent, Citation, Question as Asked};
use crate::rag::generate::{ChatModel, GenerationOptions};
use crate::rag::reply::ReplyEvent;
use crate::rag::retrieve::{
    Fusion, Passage, Ranker, RetrieveError, RetrieveOptions, Retrieved, Weights, retrieve,
};
use crate::rag::tools::ToolUse;
use crate::store::{SearchScope, StoreError};

/// Passages that documents are ranked by: enough for ten different ones, where a document has several.
const DEPTH: usize = 30;

/// What the product did with a question.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// Names of the documents found, best first, each once.
    pub ranking: Vec<String>,
    /// What an answer is made from, best first.
    pub passages: Vec<Found>,
    pub search_ms: f64,
    pub answer: Option<Answered>,
    /// What did not go as it should, though there was a result.
    pub notes: Vec<String>,
}

/// A passage that was found.
#[derive(Debug, Clone)]
pub struct Found {
    pub document: String,
    /// Bytes of the document's text.
    pub span: Range<usize>,
    pub page: u32,
    pub score: f32,
    pub text: String,
}

#[derive(Debug, Clone, Default)]
pub struct Answered {
    pub text: String,
    /// Whether it was said that the documents have no answer.
    pub is_declined: bool,
    pub citations: Vec<Cited>,
    /// From the question to the last word, the search included.
    pub ms: f64,
}

#[derive(Debug, Clone)]
pub struct Cited {
    pub document: String,
    pub quote: String,
    /// Whether the stored document says just that at the place that is cited.
    pub is_exact: bool,
    /// The passage that the quote is part of.
    pub passage: String,
}

impl Found {
    pub fn snippet(&self) -> String {
        snippet(&self.text, 220)
    }
}

/// Why a question could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Retrieve(#[from] RetrieveError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who is asked, and how.
pub struct Asker<'a> {
    /// With the settings of the variant.
    workspace: Workspace,
    variant: &'a Variant,
    documents: &'a Documents,
    /// Who writes, when the variant says so.
    chat: Option<ChatModel>,
    timeout: Duration,
}

impl<'a> Asker<'a> {
    pub fn new(
        workspace: &Workspace,
        variant: &'a Variant,
        documents: &'a Documents,
        chat: Option<ChatModel>,
        timeout: Duration,
    ) -> Self {
        let mut workspace = workspace.clone();
        workspace.top_k = variant.top_k;
        if let Some(value) = variant.min_similarity {
            workspace.min_similarity = value;
        }
        if let Some(value) = variant.min_quote_confidence {
            workspace.min_quote_confidence = value;
        }
        Self {
            workspace,
            variant,
            documents,
            chat,
            timeout,
        }
    }

    pub async fn ask(&self, question: &Question) -> Result<Observation, AskError> {
        let scope = self.scope(question);
        let begun = Instant::now();
        let retrieved = self.search(question, &scope, self.variant.top_k).await?;
        let search_ms = milliseconds(begun);
        let answer = match self.variant.answer {
            AnswerMode::None => None,
            _ => Some(self.answer(question, &retrieved, begun).await?),
        };
        let ranked = match question.relevant.is_empty() {
            true => Vec::new(),
            false => self.search(question, &scope, DEPTH).await?.passages,
        };
        let mut ranking: Vec<String> = Vec::new();
        for passage in &ranked {
            let name = self.name(&passage.chunk.file_id);
            if !ranking.contains(&name) {
                ranking.push(name);
            }
        }
        Ok(Observation {
            ranking,
            passages: retrieved.passages.iter().map(|it| self.found(it)).collect(),
            search_ms,
            answer,
            notes: retrieved.notes,
        })
    }

    async fn search(
        &self,
        question: &Question,
        scope: &SearchScope,
        top_k: usize,
    ) -> Result<Retrieved, RetrieveError> {
        let variant = self.variant;
        let options = RetrieveOptions {
            top_k,
            weights: Weights::from_alpha(variant.alpha),
            fusion: match variant.fusion {
                FusionMode::Weighted => Fusion::Weighted,
                FusionMode::ReciprocalRank => Fusion::ReciprocalRank,
            },
            ranker: match variant.ranker.as_str() {
                "auto" => Ranker::Auto,
                "none" => Ranker::None,
                name => Ranker::Named(name.to_owned()),
            },
            diversity: variant.diversity,
            neighbors: variant.neighbors,
            ..RetrieveOptions::default()
        };
        let queries = std::slice::from_ref(&question.text);
        retrieve(&self.workspace, queries, scope, &options).await
    }

    fn scope(&self, question: &Question) -> SearchScope {
        let others = || {
            let names = self.documents.names.iter();
            let others = names.filter(|(_, name)| !question.without.contains(name));
            others.map(|(file, _)| file.clone()).collect()
        };
        SearchScope {
            vector_store_ids: self.documents.vector_store_ids.clone(),
            file_ids: (!question.without.is_empty()).then(others),
            filter: None,
        }
    }

    async fn answer(
        &self,
        question: &Question,
        retrieved: &Retrieved,
        begun: Instant,
    ) -> Result<Answered, AskError> {
        let mut answer = match &self.chat {
            Some(chat) => {
                let asked = self.asked(question, retrieved);
                Answer::begin(&self.workspace, chat, asked).await?
            }
            None => {
                let min_confidence = self.workspace.min_quote_confidence;
                Answer::quote(&self.workspace, &question.text, retrieved, min_confidence).await?
            }
        };
        let mut answered = Answered {
            is_declined: !answer.about.is_found,
            ..Answered::default()
        };
        let mut citations: Vec<Citation> = Vec::new();
        while let Some(event) = answer.next().await {
            match event? {
                AnswerEvent::Reply(ReplyEvent::Text { text, .. }) => answered.text += &text,
                AnswerEvent::Citation(citation) => citations.push(citation),
                AnswerEvent::Reply(_) | AnswerEvent::Progress(_) => {}
            }
        }
        answered.ms = milliseconds(begun);
        // A model that was given passages may still say that they have no answer; it cites none then.
        answered.is_declined |= citations.is_empty() && says_not_found(&answered.text);
        for citation in citations {
            answered
                .citations
                .push(self.cited(citation, retrieved).await?);
        }
        Ok(answered)
    }

    fn asked(&self, question: &Question, retrieved: &Retrieved) -> Asked {
        Asked {
            text: question.text.clone(),
            found: Some(retrieved.relevant().to_vec()),
            earlier: Vec::new(),
            following: Vec::new(),
            known: Vec::new(),
            instructions: None,
            reader: None,
            tools: ToolUse::default(),
            shape: None,
            is_thinking: false,
            options: generation(None, self.timeout),
        }
    }

    /// Compares the quote with the stored document once more: who measures does not take the answer's word.
    async fn cited(&self, citation: Citation, retrieved: &Retrieved) -> Result<Cited, AskError> {
        let Citation {
            file_id,
            start,
            end,
            quote,
            ..
        } = citation;
        let stored = self.workspace.store.text_span(&file_id, start, end).await;
        let has_cited = |passage: &&Passage| {
            let chunk = &passage.chunk;
            chunk.file_id == file_id && chunk.span.start < end && start < chunk.span.end
        };
        let passage = retrieved.passages.iter().find(has_cited);
        Ok(Cited {
            document: self.name(&file_id),
            is_exact: stored.is_ok_and(|stored| stored == quote),
            passage: passage.map_or_else(|| quote.clone(), |it| it.chunk.text.clone()),
            quote,
        })
    }

    fn found(&self, passage: &Passage) -> Found {
        let chunk = &passage.chunk;
        Found {
            document: self.name(&chunk.file_id),
            span: chunk.span.clone(),
            page: chunk.page_first,
            score: passage.score,
            text: chunk.text.clone(),
        }
    }

    fn name(&self, file_id: &str) -> String {
        let name = self.documents.names.get(file_id);
        name.map_or(file_id, String::as_str).to_owned()
    }
}

/// The same question gets the same answer.
pub fn generation(max_tokens: Option<usize>, timeout: Duration) -> GenerationOptions {
    GenerationOptions {
        max_tokens,
        sampling: SamplingParams {
            temperature: 0.0,
            ..SamplingParams::default()
        },
        stops: Vec::new(),
        logprobs: None,
        constraint: None,
        shown: Vec::new(),
        user: None,
        num_public_tokens: 0,
        trims_start: true,
        timeout,
    }
}

/// How models say that they do not know, in the words that the instructions give them or in their own.
fn says_not_found(text: &str) -> bool {
    let text = text.to_lowercase().replace('\u{2019}', "'");
    [
        "could not find",
        "couldn't find",
        "cannot find",
        "not found in the",
        "do not contain",
        "does not contain",
        "don't contain",
        "doesn't contain",
        "do not say",
        "does not say",
        "do not mention",
        "does not mention",
        "don't know",
        "do not know",
        "not mentioned",
        "no information",
    ]
    .iter()
    .any(|phrase| text.contains(phrase))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_says_it_knows_nothing_is_told_from_one_that_does() {
        assert!(says_not_found(crate::rag::answer::NOT_FOUND));
        assert!(says_not_found("The sources don\u{2019}t contain the year."));
        assert!(!says_not_found("The keeper found it in 1998."));
    }
}
