//! The tool `file_search`: which documents to answer from.

use serde::Deserialize;
use serde_json::Value;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::from_value;
use crate::http::openai::filters;
use crate::http::openai::ranking::{RankingOptions, checked_results};
use crate::rag::Workspace;
use crate::rag::retrieve::{RetrieveOptions, Retrieved, retrieve};
use crate::store::SearchScope;

/// Vector stores and files that one search may name.
const MAX_STORES: usize = 256;
const MAX_FILES: usize = 2000;

/// Documents to answer from.
#[derive(Debug, Clone)]
pub struct FileSearch {
    pub scope: SearchScope,
    pub options: RetrieveOptions,
    pub score_threshold: f32,
}

impl FileSearch {
    /// All vector stores.
    pub async fn everything(context: &Context) -> Result<Self, ApiError> {
        let vector_store_ids = context.workspace.store.vector_store_ids().await?;
        Ok(Self {
            scope: SearchScope {
                vector_store_ids,
                file_ids: None,
                filter: None,
            },
            options: RetrieveOptions {
                top_k: context.workspace.top_k,
                ..RetrieveOptions::default()
            },
            score_threshold: 0.0,
        })
    }

    /// No documents, where a text that was selected is all there is.
    pub fn nothing(context: &Context) -> Self {
        Self {
            scope: SearchScope::default(),
            options: RetrieveOptions {
                top_k: context.workspace.top_k,
                ..RetrieveOptions::default()
            },
            score_threshold: 0.0,
        }
    }

    /// The passages for `queries`, without those below the threshold.
    pub async fn run(
        &self,
        workspace: &Workspace,
        queries: &[String],
    ) -> Result<Retrieved, ApiError> {
        let mut retrieved = retrieve(workspace, queries, &self.scope, &self.options).await?;
        let passages = &mut retrieved.passages;
        passages.retain(|passage| passage.score >= self.score_threshold);
        retrieved.is_relevant &= !passages.is_empty();
        Ok(retrieved)
    }
}

/// The search among the tools, if there is one.
pub async fn file_search(
    context: &Context,
    tools: &[Value],
) -> Result<Option<FileSearch>, ApiError> {
    let mut found = None;
    for (at, tool) in tools.iter().enumerate() {
        let param = format!("tools[{at}]");
        match tool["type"].as_str() {
            Some("file_search") if found.is_none() => {
                found = Some(read_file_search(context, tool, &param).await?)
            }
            Some("file_search") => {
                let message =
                    format!("{param} is a second file_search tool; name all stores in one");
                return Err(ApiError::invalid(param, message));
            }
            Some("function") => {}
            Some(other) => {
                let message = format!(
                    "{param} is of type '{other}', which is not served yet; served are 'file_search' and 'function'"
                );
                return Err(ApiError::unsupported(param, message));
            }
            None => {
                let message = format!("{param} must be an object with a 'type'");
                return Err(ApiError::invalid(param, message));
            }
        }
    }
    Ok(found)
}

/// The tool's fields; `file_ids`, which searches only these files, and `explain` are extensions.
#[derive(Debug, Deserialize)]
struct FileSearchTool {
    vector_store_ids: Vec<String>,
    max_num_results: Option<usize>,
    filters: Option<Value>,
    ranking_options: Option<RankingOptions>,
    file_ids: Option<Vec<String>>,
    explain: Option<bool>,
}

async fn read_file_search(
    context: &Context,
    tool: &Value,
    param: &str,
) -> Result<FileSearch, ApiError> {
    let tool: FileSearchTool = from_value(tool.clone())
        .map_err(|error| ApiError::invalid(param, format!("{param} cannot be read: {error}")))?;
    if tool.vector_store_ids.is_empty() {
        let param = format!("{param}.vector_store_ids");
        let message = format!("{param} is empty, but must name at least one vector store");
        return Err(ApiError::invalid(param, message));
    }
    let num_files = tool.file_ids.as_ref().map_or(0, Vec::len);
    for (name, num_ids, most) in [
        ("vector_store_ids", tool.vector_store_ids.len(), MAX_STORES),
        ("file_ids", num_files, MAX_FILES),
    ] {
        if num_ids > most {
            let param = format!("{param}.{name}");
            let message = format!("{param} has {num_ids} ids, but may have {most}");
            return Err(ApiError::invalid(param, message));
        }
    }
    let store = &context.workspace.store;
    store.use_vector_stores(&tool.vector_store_ids).await?;
    let ranking = tool.ranking_options.unwrap_or_default();
    let ranking_param = format!("{param}.ranking_options");
    let (score_threshold, options) = ranking.checked(context, &ranking_param).await?;
    let max = tool.max_num_results.unwrap_or(context.workspace.top_k);
    Ok(FileSearch {
        scope: SearchScope {
            vector_store_ids: tool.vector_store_ids,
            file_ids: tool.file_ids,
            filter: tool
                .filters
                .as_ref()
                .filter(|value| !value.is_null())
                .map(filters::parse)
                .transpose()?,
        },
        options: RetrieveOptions {
            top_k: checked_results(&format!("{param}.max_num_results"), max)?,
            explains: tool.explain.unwrap_or(false),
            ..options
        },
        score_threshold,
    })
}
