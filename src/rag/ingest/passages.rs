//! A document's text to passages, and passages to vectors.

use std::sync::Arc;

use super::allowed_chunking;
use crate::embedding::{Embedder, EmbeddingError, InputKind, Priority};
use crate::rag::chunk::{Chunk, ChunkOptions, chunk};
use crate::rag::extract::ExtractedText;
use crate::store::{Chunking, NewChunk};

/// Passages embedded and stored at a time: what a kill can cost at most.
pub(super) const BATCH: usize = 16;

/// The chunker panicked on a text.
#[derive(Debug, thiserror::Error)]
#[error("the chunker failed: {0}")]
pub struct ChunkerFailed(String);

/// The document's chunks, of as many tokens as are wanted and the embedder reads.
pub async fn cut(
    document: &Arc<ExtractedText>,
    chunking: Chunking,
    embedder: &Embedder,
) -> Result<Vec<Chunk>, ChunkerFailed> {
    let chunking = allowed_chunking(chunking, embedder);
    let options = ChunkOptions {
        max_tokens: chunking.max_tokens as usize,
        overlap_tokens: chunking.overlap_tokens as usize,
    };
    let (document, embedder) = (Arc::clone(document), embedder.clone());
    let cut = move || {
        chunk(&document, &options, &|text: &str| {
            embedder.count_tokens(text)
        })
    };
    let chunks = tokio::task::spawn_blocking(cut).await;
    chunks.map_err(|error| ChunkerFailed(error.to_string()))
}

/// Chunks of which the first has the ordinal `first`, with their vectors, as they are stored.
pub(super) async fn embedded(
    document: &ExtractedText,
    chunks: &[Chunk],
    first: usize,
    embedder: &Embedder,
) -> Result<Vec<NewChunk>, EmbeddingError> {
    let texts = chunks
        .iter()
        .map(|chunk| chunk.embedded_text(document))
        .collect();
    let embedded = embedder
        .embed(texts, InputKind::Passage, Priority::Background)
        .await?;
    let pairs = chunks.iter().zip(embedded.vectors).enumerate();
    let new = pairs.map(|(at, (chunk, vector))| NewChunk {
        ordinal: (first + at) as u32,
        span: chunk.span.clone(),
        page_first: chunk.page_first,
        page_last: chunk.page_last,
        heading_path: chunk.heading_path.clone(),
        text: document.text[chunk.span.clone()].to_string(),
        num_tokens: chunk.num_tokens as u32,
        vector,
    });
    Ok(new.collect())
}
