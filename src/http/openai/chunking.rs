//! How documents are cut, as the API writes it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::rag::ingest::default_chunking;
use crate::store::Chunking;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChunkingStrategy {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "static")]
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

/// How a document is cut, in the embedding model's tokens. `auto` is 800 and 400, where the model's window has the room.
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
    /// Checked sizes. The embedder's window bounds them further.
    pub fn chunking(strategy: Option<&Self>) -> Result<Chunking, ApiError> {
        let auto = default_chunking();
        let Some(strategy) = strategy else {
            return Ok(auto);
        };
        match (strategy.kind.as_str(), &strategy.fixed) {
            ("auto", _) => Ok(auto),
            ("static", Some(fixed)) => {
                let (max, overlap) = (fixed.max_chunk_size_tokens, fixed.chunk_overlap_tokens);
                if !(100..=4096).contains(&max) {
                    let message =
                        format!("max_chunk_size_tokens is {max}, but must be between 100 and 4096");
                    return Err(ApiError::invalid(
                        "chunking_strategy.static.max_chunk_size_tokens",
                        message,
                    ));
                }
                if overlap > max / 2 {
                    let message = format!(
                        "chunk_overlap_tokens is {overlap}, but may be at most half of {max}"
                    );
                    return Err(ApiError::invalid(
                        "chunking_strategy.static.chunk_overlap_tokens",
                        message,
                    ));
                }
                Ok(Chunking {
                    max_tokens: max,
                    overlap_tokens: overlap,
                })
            }
            ("static", None) => Err(ApiError::invalid(
                "chunking_strategy.static",
                "missing required parameter: 'chunking_strategy.static'",
            )),
            (other, _) => Err(ApiError::invalid(
                "chunking_strategy.type",
                format!("chunking_strategy.type is '{other}', but must be 'auto' or 'static'"),
            )),
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
