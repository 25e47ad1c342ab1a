//! How documents are cut, as the API writes it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::store::Chunking;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChunkingStrategy {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "static", skip_serializing_if = "Option::is_none")]
    fixed: Option<StaticChunking>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StaticChunking {
    #[schema(minimum = 100, maximum = 4096)]
    max_chunk_size_tokens: u32,
    /// At most half of the size.
    #[schema(maximum = 2048)]
    chunk_overlap_tokens: u32,
}

/// How documents are cut, in the embedding model's tokens. `auto` is as the server's settings say, 256 and 64 by default.
/// What the model cannot read at once is cut smaller, and a chunk repeats at most a quarter.
#[derive(ToSchema)]
#[schema(as = ChunkingStrategy)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ChunkingChoice {
    Auto,
    Static {
        #[schema(rename = "static")]
        fixed: StaticChunking,
    },
}

impl ChunkingStrategy {
    /// Checked sizes; `None` for `auto`. The embedder's window bounds them further.
    pub fn sizes(&self) -> Result<Option<Chunking>, ApiError> {
        self.sizes_of("chunking_strategy")
    }

    /// As [`sizes`](Self::sizes), for a parameter of another name.
    pub fn sizes_of(&self, param: &str) -> Result<Option<Chunking>, ApiError> {
        match (self.kind.as_str(), &self.fixed) {
            ("auto", _) => Ok(None),
            ("static", Some(fixed)) => {
                let (max, overlap) = (fixed.max_chunk_size_tokens, fixed.chunk_overlap_tokens);
                if !(100..=4096).contains(&max) {
                    let message =
                        format!("max_chunk_size_tokens is {max}, but must be between 100 and 4096");
                    return Err(ApiError::invalid(
                        format!("{param}.static.max_chunk_size_tokens"),
                        message,
                    ));
                }
                if overlap > max / 2 {
                    let message = format!(
                        "chunk_overlap_tokens is {overlap}, but may be at most half of {max}"
                    );
                    return Err(ApiError::invalid(
                        format!("{param}.static.chunk_overlap_tokens"),
                        message,
                    ));
                }
                Ok(Some(Chunking {
                    max_tokens: max,
                    overlap_tokens: overlap,
                }))
            }
            ("static", None) => Err(ApiError::invalid(
                format!("{param}.static"),
                format!("missing required parameter: '{param}.static'"),
            )),
            (other, _) => Err(ApiError::invalid(
                format!("{param}.type"),
                format!("{param}.type is '{other}', but must be 'auto' or 'static'"),
            )),
        }
    }
}

/// What a collection has; `auto` where it has nothing of its own.
impl From<Option<Chunking>> for ChunkingStrategy {
    fn from(chunking: Option<Chunking>) -> Self {
        match chunking {
            Some(chunking) => chunking.into(),
            None => Self {
                kind: "auto".into(),
                fixed: None,
            },
        }
    }
}

/// The sizes that are used, whoever chose them.
impl From<Chunking> for ChunkingStrategy {
    fn from(chunking: Chunking) -> Self {
        Self {
            kind: "static".into(),
            fixed: Some(StaticChunking {
                max_chunk_size_tokens: chunking.max_tokens,
                chunk_overlap_tokens: chunking.overlap_tokens,
            }),
        }
    }
}
