//! `GET /api/vector_stores/{id}/progress`: how far ingestion is, as events, whichever process does it.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::openai::vector_store_file::VectorStoreFile;
use crate::http::sse::{self, ClientGone, Frame, Frames};
use crate::rag::ingest::{Change, Follower};

/// An event; its name is its `type`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ProgressEvent {
    /// First: all files that are unfinished, the oldest first.
    Snapshot { files: Vec<VectorStoreFile> },
    /// One that is new, further than before, or finished.
    File { file: VectorStoreFile },
    /// One that was taken out before it was finished, as it was last.
    Deleted { file: VectorStoreFile },
    /// Last: nothing is unfinished any more.
    End,
    /// Last, instead: progress cannot be told any longer.
    Error {
        #[serde(flatten)]
        body: ErrorBody,
    },
}

/// Follows the files of a vector store until all are finished
///
/// Estimates and counts are those of `progress` in the files themselves, kept twice a second.
#[utoipa::path(
    get,
    path = "/vector_stores/{id}/progress",
    operation_id = "follow_progress",
    tag = "Browser app",
    params(("id" = String, Path)),
    responses((status = 200, content((ProgressEvent = "text/event-stream"))))
)]
pub async fn follow(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let follower = Follower::begin(context.workspace.store.clone(), &id).await?;
    let keep_alive = context.options.sse_keep_alive;
    Ok(sse::respond(keep_alive, |frames| tell(follower, frames)))
}

async fn tell(mut follower: Follower, frames: Frames) -> Result<(), ClientGone> {
    let files = follower.unfinished().cloned().map(VectorStoreFile::from);
    let files = files.collect();
    frames
        .send(ProgressEvent::Snapshot { files }.frame())
        .await?;
    loop {
        let changes = match follower.next().await {
            Ok(Some(changes)) => changes,
            Ok(None) => return frames.send(ProgressEvent::End.frame()).await,
            Err(error) => {
                let body = ApiError::from(error).error_body();
                return frames.send(ProgressEvent::Error { body }.frame()).await;
            }
        };
        for change in changes {
            let event = match change {
                Change::Document(document) => ProgressEvent::File {
                    file: document.into(),
                },
                Change::Deleted(document) => ProgressEvent::Deleted {
                    file: document.into(),
                },
            };
            frames.send(event.frame()).await?;
        }
    }
}

impl ProgressEvent {
    fn frame(&self) -> Frame {
        let name = match self {
            Self::Snapshot { .. } => "snapshot",
            Self::File { .. } => "file",
            Self::Deleted { .. } => "deleted",
            Self::End => "end",
            Self::Error { .. } => "error",
        };
        Frame::Event(name, serde_json::json!(self))
    }
}
