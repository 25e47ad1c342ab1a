//! Summaries of one or many documents. A chat model writes them: of each passage first, which is kept, then of groups of
//! these, until all that is left fits into one prompt. Without a chat model they are made of the documents' own sentences.
//! How much work it is, is known before it begins.

mod extract;
mod prompts;
mod write;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::engine::Usage;
use crate::rag::Workspace;
use crate::rag::answer::AnswerError;
use crate::rag::reply::ReplyPlan;
use crate::rag::retrieve::Passage;
use crate::store::{SearchScope, StoreError};

pub use extract::{Extract, extract};
pub use write::{Wish, begin};

/// Passages that one summary may ever have: as many as markers have numbers.
pub const MAX_PASSAGES: usize = 999;

/// What stands before a summary that no model wrote.
pub const EXTRACTIVE: &str = "Sentences of the documents, in their order:\n\n";

/// How a summary is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By the chat model.
    Written,
    /// Of the documents' own sentences.
    Extractive,
}

/// What a summary is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub method: Method,
    pub num_documents: usize,
    pub num_passages: usize,
    /// Those whose summaries were kept from an earlier time.
    pub num_cached: usize,
}

/// How far the work before the first word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub stage: Stage,
    pub num_done: usize,
    pub num_total: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Passages are summarised.
    Passages,
    /// Groups of summaries are.
    Groups,
}

/// Why there is no summary.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    #[error(
        "the {num_documents} documents to be summarised have {num_passages} passages, but max_summary_passages allows \
         {max}; name fewer documents by file_ids or filters, or raise max_summary_passages"
    )]
    TooLarge {
        num_documents: usize,
        num_passages: usize,
        max: usize,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All passages within `scope`, in the order of their documents, if there are no more of them than allowed.
pub async fn passages(
    workspace: &Workspace,
    scope: &SearchScope,
) -> Result<Vec<Passage>, SummaryError> {
    let max = workspace.max_summary_passages;
    let within = workspace.store.chunks_in_order(scope, max).await?;
    if within.num_chunks > max {
        return Err(SummaryError::TooLarge {
            num_documents: within.num_documents,
            num_passages: within.num_chunks,
            max,
        });
    }
    let chunks = within.chunks.into_iter().enumerate();
    Ok(chunks.map(|(at, it)| Passage::shown(at + 1, it)).collect())
}

fn num_documents(passages: &[Passage]) -> usize {
    let ids = passages.iter().map(|passage| &passage.chunk.file_id);
    ids.collect::<std::collections::HashSet<_>>().len()
}

/// The work that comes before a summary is written. Dropping it ends the work.
pub struct Preparing {
    pub extent: Extent,
    steps: mpsc::Receiver<Result<Step, AnswerError>>,
    _work: JoinSet<()>,
}

/// A step of that work.
pub enum Step {
    Progress(Progress),
    /// The last one.
    Ready(Box<Ready>),
    /// Or this: everything that was to be summarised was deleted in the meantime. With what the work has taken.
    Gone(Usage),
}

/// A summary that can be written.
pub struct Ready {
    pub passages: Vec<Passage>,
    pub plan: ReplyPlan,
    /// What the work has taken.
    pub spent: Usage,
}

impl Preparing {
    pub async fn next(&mut self) -> Result<Step, AnswerError> {
        let ended_early = || StoreError::Panicked("the work on a summary".into());
        self.steps.recv().await.ok_or_else(ended_early)?
    }
}
