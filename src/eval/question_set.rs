//! Questions with what is known of their answers, and the documents that they are asked of, read from a folder or a file
//! and checked. Nothing is guessed: what does not fit is an error, or a note with a count.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::beir;
use super::metrics::Gains;

/// Questions, and the documents that they are asked of.
#[derive(Debug)]
pub struct QuestionSet {
    pub name: String,
    pub questions: Vec<Question>,
    /// `None` when the questions are asked of documents that are stored already.
    pub corpus: Option<Vec<CorpusDocument>>,
    /// What a reader of the results should know of the set.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    pub id: String,
    pub text: String,
    /// The documents that bear on it, by name.
    pub relevant: Gains,
    /// Texts that say the answer, any of them.
    pub answers: Vec<String>,
    /// Where the answer stands.
    pub gold: Vec<GoldText>,
    /// Whether the documents answer it; `None` when nobody said.
    pub is_answerable: Option<bool>,
    /// Documents that it is asked without.
    pub without: Vec<String>,
}

/// A text of a document that answers a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldText {
    pub document: String,
    pub text: String,
    /// Where it begins in the document's text, in characters.
    pub start: Option<usize>,
}

/// A document of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorpusDocument {
    /// As judgments name it.
    pub name: String,
    pub filename: String,
    pub content: CorpusContent,
    /// Characters of its title and the blanks behind it, which stand before its text.
    pub text_start: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorpusContent {
    Text(String),
    File(PathBuf),
}

/// What to make of questions without judgments, answers or a word on whether they can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Unjudged {
    /// Leave them out: most collections have questions that only other splits judge
    Skip,
    /// The documents do not answer them, so they must be declined
    Decline,
}

/// Why a question set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}, line {line}: {reason}", path = path.display())]
    BadLine {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    #[error(
        "{path} has no questions: give a file of questions, or a folder with queries.jsonl or questions.jsonl (either may \
         end in .gz)",
        path = path.display()
    )]
    NoQuestions { path: PathBuf },
    #[error(
        "{path} has a corpus but no judgments: put them in qrels/test.tsv or qrels.tsv (query-id, corpus-id and score, \
         separated by tabs)",
        path = path.display()
    )]
    NoJudgments { path: PathBuf },
    #[error("{path} has no judgments named {split}; there are: {}", found.join(", "), path = path.display())]
    NoSplit {
        path: PathBuf,
        split: String,
        found: Vec<String>,
    },
    #[error(
        "none of the {num} judged questions is in the file of questions (the first one is {first:?}); do judgments and \
         questions belong together?"
    )]
    ForeignQuestions { num: usize, first: String },
    #[error(
        "none of the {num} documents that judgments name is in the corpus (the first one is {first:?}); do they belong \
         together?"
    )]
    ForeignDocuments { num: usize, first: String },
    #[error(
        "no question can be judged: none has judgments, an answer, a document or is_answerable; see docs/evaluation.md"
    )]
    NothingToJudge,
}

impl QuestionSet {
    /// Reads a folder in the layout of BEIR (corpus, queries, qrels), a folder of questions over files (questions.jsonl
    /// and corpora/), or questions alone.
    pub fn read(path: &Path, split: Option<&str>, unjudged: Unjudged) -> Result<Self, SetError> {
        let mut set = beir::read(path, split)?;
        set.check(unjudged)?;
        Ok(set)
    }

    fn check(&mut self, unjudged: Unjudged) -> Result<(), SetError> {
        self.check_documents()?;
        let is_judged = |question: &Question| {
            question.is_answerable.is_some()
                || !question.answers.is_empty()
                || question.relevant.values().any(|gain| *gain > 0)
        };
        let num_unjudged = self.questions.iter().filter(|it| !is_judged(it)).count();
        match unjudged {
            Unjudged::Skip => {
                self.questions.retain(is_judged);
                if num_unjudged > 0 {
                    self.notes.push(format!(
                        "{num_unjudged} questions without judgments were left out; if they have no answer in these \
                         documents, use --unjudged decline"
                    ));
                }
            }
            Unjudged::Decline => {
                for question in &mut self.questions {
                    if !is_judged(question) {
                        question.is_answerable = Some(false);
                    }
                }
            }
        }
        // What has an answer can be answered.
        for question in &mut self.questions {
            let has_answer = !question.answers.is_empty() || !question.relevant.is_empty();
            question.is_answerable = question.is_answerable.or(has_answer.then_some(true));
        }
        match self.questions.is_empty() {
            true => Err(SetError::NothingToJudge),
            false => Ok(()),
        }
    }

    /// Documents that are named but are not there count as not found, and are told.
    fn check_documents(&mut self) -> Result<(), SetError> {
        let Some(corpus) = &self.corpus else {
            return Ok(());
        };
        let known: HashSet<&str> = corpus.iter().map(|it| it.name.as_str()).collect();
        let named: Vec<&String> = self
            .questions
            .iter()
            .flat_map(|question| question.relevant.keys())
            .collect();
        let unknown: HashSet<&str> = named
            .iter()
            .map(|name| name.as_str())
            .filter(|name| !known.contains(name))
            .collect();
        if let Some(first) = named.first()
            && named.iter().all(|name| unknown.contains(name.as_str()))
        {
            return Err(SetError::ForeignDocuments {
                num: unknown.len(),
                first: first.to_string(),
            });
        }
        if !unknown.is_empty() {
            self.notes.push(format!(
                "{} judged documents are not in the corpus and count as not found",
                unknown.len()
            ));
        }
        Ok(())
    }

    /// Every `nth` answerable question once more without its documents, so that it must be declined.
    pub fn also_without_documents(&mut self, nth: usize) {
        let can_be_asked =
            |it: &&Question| it.is_answerable == Some(true) && !it.relevant.is_empty();
        let again: Vec<Question> = self
            .questions
            .iter()
            .filter(can_be_asked)
            .step_by(nth.max(1))
            .map(|question| Question {
                id: format!("{} without its documents", question.id),
                text: question.text.clone(),
                relevant: Gains::new(),
                answers: Vec::new(),
                gold: Vec::new(),
                is_answerable: Some(false),
                without: question.relevant.keys().cloned().collect(),
            })
            .collect();
        self.notes.push(format!(
            "{} questions are asked again without their documents, and must be declined then",
            again.len()
        ));
        self.questions.extend(again);
    }

    /// Only `limit` of the questions, spread evenly.
    pub fn keep(&mut self, limit: usize) {
        let num = self.questions.len();
        if limit >= num {
            return;
        }
        let kept: HashSet<usize> = (0..limit).map(|part| part * num / limit).collect();
        let mut places = 0..;
        self.questions
            .retain(|_| places.next().is_some_and(|place| kept.contains(&place)));
        self.notes.push(format!(
            "{} of {num} questions were asked",
            self.questions.len()
        ));
    }
}

/// Judgments of each question.
pub type Judgments = BTreeMap<String, Gains>;

/// Gives each question its judgments; tells how many name no question.
pub(super) fn judge(
    questions: &mut [Question],
    judgments: Judgments,
    notes: &mut Vec<String>,
) -> Result<(), SetError> {
    let mut by_id: HashMap<String, Gains> = judgments.into_iter().collect();
    let num_judged = by_id.len();
    for question in questions.iter_mut() {
        if let Some(gains) = by_id.remove(&question.id) {
            question.relevant.extend(gains);
        }
    }
    let mut unknown: Vec<String> = by_id.into_keys().collect();
    unknown.sort();
    match unknown.first() {
        None => {}
        Some(first) if unknown.len() == num_judged => {
            return Err(SetError::ForeignQuestions {
                num: num_judged,
                first: first.clone(),
            });
        }
        Some(first) => notes.push(format!(
            "{} judged questions are not in the file of questions, the first one is {first:?}",
            unknown.len()
        )),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
