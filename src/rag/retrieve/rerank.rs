//! Reads the first passages again, each together with the question, by a cross-encoder. When that fails or takes too long
//! the order stays as it was, and it is said.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Ranker;
use crate::embedding::{Priority, RerankPair, TooLong};
use crate::rag::Workspace;
use crate::store::ChunkRecord;

/// Which passages are read again by which model, unless a request says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Reranking {
    /// What `auto` stands for; `None` reranks only where a request names a model.
    pub model: Option<String>,
    /// Passages that are read again.
    pub num_candidates: usize,
    /// How long a search waits for the model, loading it included.
    pub max_wait: Duration,
}

impl Reranking {
    /// The model that `ranker` stands for.
    pub fn model<'a>(&'a self, ranker: &'a Ranker) -> Option<&'a str> {
        match ranker {
            Ranker::Auto => self.model.as_deref(),
            Ranker::None => None,
            Ranker::Named(name) => Some(name),
        }
    }
}

/// How well each of `chunks` answers the best of `queries`, from 0 to 1; or why that is not known.
pub(super) async fn relevances(
    workspace: &Workspace,
    model: &str,
    queries: &[String],
    chunks: &[&ChunkRecord],
) -> Result<Vec<f32>, String> {
    let max_wait = workspace.reranking.max_wait;
    let scored = scored(workspace, model, queries, chunks);
    match timeout(max_wait, scored).await {
        Ok(Ok(relevances)) => Ok(relevances),
        Ok(Err(error)) => Err(format!(
            "the passages are not reranked: {model} failed ({error})"
        )),
        Err(_) => Err(format!(
            "the passages are not reranked: {model} took more than {} seconds; give it more (rerank_timeout) or fewer \
             passages (rerank_candidates)",
            max_wait.as_secs_f32()
        )),
    }
}

async fn scored(
    workspace: &Workspace,
    model: &str,
    queries: &[String],
    chunks: &[&ChunkRecord],
) -> Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>> {
    let reranker = workspace.models.reranker(model).await?;
    let documents: Vec<String> = chunks.iter().map(|chunk| readable(chunk)).collect();
    let mut best = vec![0.0_f32; documents.len()];
    for query in queries {
        let query: Arc<str> = query.as_str().into();
        let pair = |document: &String| RerankPair {
            query: Arc::clone(&query),
            document: document.clone(),
            too_long: TooLong::Cut,
        };
        let pairs = documents.iter().map(pair).collect();
        let scores = reranker.score(pairs, Priority::Interactive).await?;
        for (best, score) in best.iter_mut().zip(&scores) {
            *best = best.max(score.relevance());
        }
    }
    Ok(best)
}

/// The text under its headings, without which it may not say what it is about.
fn readable(chunk: &ChunkRecord) -> String {
    match chunk.heading_path.is_empty() {
        true => chunk.text.clone(),
        false => format!("{}\n{}", chunk.heading_path.join(" > "), chunk.text),
    }
}
