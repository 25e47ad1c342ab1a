//! `POST /api/chunks/preview`: how a text is cut now and how it would be cut otherwise, before anything is changed.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::embedding::Embedder;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::chunking::{ChunkingChoice, ChunkingStrategy};
use crate::rag::extract::ExtractedText;
use crate::rag::ingest;
use crate::store::Chunking;

/// Chunks shown of either, unless a request says otherwise; and the most.
const SHOWN: usize = 50;
const MAX_SHOWN: usize = 1000;
/// The longest text of a request, in bytes.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// Either a file or a text.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PreviewChunks)]
pub struct PreviewRequest {
    /// A stored file, read as it would be added.
    file_id: Option<String>,
    /// A text instead, read as Markdown.
    text: Option<String>,
    /// Whose chunking is that of now, where `current` does not say.
    vector_store_id: Option<String>,
    /// How the text is cut now; the collection's or the server's own by default.
    #[schema(value_type = Option<ChunkingChoice>)]
    current: Option<ChunkingStrategy>,
    /// How it would be cut; without it only `before` is there.
    #[schema(value_type = Option<ChunkingChoice>)]
    proposed: Option<ChunkingStrategy>,
    /// The most chunks shown of either, 50 by default.
    #[schema(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// How a text is cut, before and after.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChunksPreview {
    num_bytes: usize,
    before: ChunksOfText,
    #[schema(required)]
    after: Option<ChunksOfText>,
}

/// The chunks of a text.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChunksOfText {
    /// The sizes that the embedding model allows.
    #[schema(value_type = ChunkingChoice)]
    chunking_strategy: ChunkingStrategy,
    num_chunks: usize,
    /// Of all chunks, in the embedding model's tokens.
    num_tokens: usize,
    min_tokens: usize,
    max_tokens: usize,
    /// From the first on, as many as were asked for.
    chunks: Vec<PreviewedChunk>,
    has_more: bool,
}

/// A chunk that would be.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewedChunk {
    /// Its first byte in the text.
    start: usize,
    /// The byte after its last.
    end: usize,
    page_first: u32,
    page_last: u32,
    /// Of its text alone.
    num_tokens: usize,
    heading_path: Vec<String>,
    /// What is embedded before it and never cited: title, headings, the head of its table.
    context: String,
    text: String,
}

/// Shows how a text is cut
///
/// Nothing is stored or embedded.
#[utoipa::path(
    post,
    path = "/chunks/preview",
    operation_id = "preview_chunks",
    tag = "Browser app",
    request_body = PreviewRequest,
    responses((status = 200, body = ChunksPreview))
)]
pub async fn preview(
    context: web::Data<Context>,
    body: JsonBody<PreviewRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    let embedder = context.documents_embedder()?;
    let limit = request.limit.unwrap_or(SHOWN);
    if !(1..=MAX_SHOWN).contains(&limit) {
        let message = format!("limit is {limit}, but must be between 1 and {MAX_SHOWN}");
        return Err(ApiError::invalid("limit", message));
    }
    let default = context.workspace.chunking;
    let own = match &request.vector_store_id {
        Some(id) => context.workspace.store.chunking_of(id).await?,
        None => None,
    };
    let now = match &request.current {
        Some(strategy) => strategy.sizes_of("current")?,
        None => own,
    };
    let then = request.proposed.as_ref();
    let then = then.map(|it| it.sizes_of("proposed")).transpose()?;
    let document = Arc::new(document(&context, request.file_id, request.text).await?);
    let before = cut(&document, now.unwrap_or(default), embedder, limit).await?;
    let after = match then {
        Some(chunking) => Some(cut(&document, chunking.unwrap_or(default), embedder, limit).await?),
        None => None,
    };
    Ok(HttpResponse::Ok().json(ChunksPreview {
        num_bytes: document.text.len(),
        before,
        after,
    }))
}

async fn document(
    context: &Context,
    file_id: Option<String>,
    text: Option<String>,
) -> Result<ExtractedText, ApiError> {
    match (file_id, text) {
        (Some(file_id), None) => {
            let store = &context.workspace.store;
            Ok(context.files.stored_document(store, &file_id).await?)
        }
        (None, Some(text)) if text.len() > MAX_TEXT_BYTES => {
            let num_bytes = text.len();
            let message = format!(
                "text has {num_bytes} bytes, but may have {MAX_TEXT_BYTES}; upload it as a file"
            );
            Err(ApiError::invalid("text", message))
        }
        (None, Some(text)) if text.trim().is_empty() => {
            let message = "text is empty, but must have at least one word";
            Err(ApiError::invalid("text", message))
        }
        (None, Some(text)) => Ok(context.files.document(text.into_bytes(), "text.md").await?),
        (Some(_), Some(_)) => {
            let message = "a preview is of either 'file_id' or 'text'; leave one of them out";
            Err(ApiError::invalid("text", message))
        }
        (None, None) => {
            let message = "missing required parameter: 'file_id' or 'text'";
            Err(ApiError::invalid("file_id", message))
        }
    }
}

async fn cut(
    document: &Arc<ExtractedText>,
    chunking: Chunking,
    embedder: &Embedder,
    limit: usize,
) -> Result<ChunksOfText, ApiError> {
    let chunking = ingest::allowed_chunking(chunking, embedder);
    let chunks = ingest::cut(document, chunking, embedder).await;
    let chunks = chunks.map_err(|error| ApiError::internal(error.to_string()))?;
    let sizes = || chunks.iter().map(|chunk| chunk.num_tokens);
    let shown = chunks.iter().take(limit).map(|chunk| PreviewedChunk {
        start: chunk.span.start,
        end: chunk.span.end,
        page_first: chunk.page_first,
        page_last: chunk.page_last,
        num_tokens: chunk.num_tokens,
        heading_path: chunk.heading_path.clone(),
        context: chunk.context.clone(),
        text: document.text[chunk.span.clone()].to_owned(),
    });
    Ok(ChunksOfText {
        chunking_strategy: chunking.into(),
        num_chunks: chunks.len(),
        num_tokens: sizes().sum(),
        min_tokens: sizes().min().unwrap_or(0),
        max_tokens: sizes().max().unwrap_or(0),
        chunks: shown.collect(),
        has_more: chunks.len() > limit,
    })
}
