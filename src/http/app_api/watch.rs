//! `GET /api/watch`: the folders whose files are documents, and how each was at the last look.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::watch::FolderStatus;

#[derive(Debug, Serialize, ToSchema)]
pub struct Watch {
    /// Seconds between two looks.
    interval_seconds: u64,
    folders: Vec<WatchedFolder>,
}

#[derive(Debug, Serialize, ToSchema)]
struct WatchedFolder {
    path: String,
    /// Null before the first look.
    #[schema(required)]
    vector_store_id: Option<String>,
    /// Seconds since 1970; null before the first look.
    #[schema(required)]
    last_scan_at: Option<i64>,
    /// Why the folder as a whole was left alone, such as that it is not mounted.
    #[schema(required)]
    notice: Option<String>,
    /// In the folder, but for hidden and temporary ones.
    num_files: usize,
    /// Documents from it that are searched.
    num_searchable: usize,
    num_in_progress: usize,
    num_failed: usize,
    /// Files that have not stood still yet.
    num_waiting: usize,
    /// New or changed files since the program started.
    num_taken: u64,
    num_removed: u64,
    /// The first hundred.
    errors: Vec<FileProblem>,
}

/// What is wrong with a file or folder.
#[derive(Debug, Serialize, ToSchema)]
struct FileProblem {
    /// Below the watched folder.
    path: String,
    error: String,
}

impl From<&FolderStatus> for WatchedFolder {
    fn from(status: &FolderStatus) -> Self {
        let errors = status.errors.iter().map(|(path, error)| FileProblem {
            path: path.clone(),
            error: error.clone(),
        });
        Self {
            path: status.path.to_string_lossy().into_owned(),
            vector_store_id: status.vector_store_id.clone(),
            last_scan_at: status.last_scan_at,
            notice: status.notice.clone(),
            num_files: status.num_files,
            num_searchable: status.num_searchable,
            num_in_progress: status.num_in_progress,
            num_failed: status.num_failed,
            num_waiting: status.num_waiting,
            num_taken: status.num_taken,
            num_removed: status.num_removed,
            errors: errors.collect(),
        }
    }
}

/// Tells how the watched folders are
#[utoipa::path(
    get,
    path = "/watch",
    operation_id = "get_watch",
    tag = "Browser app",
    responses((status = 200, body = Watch))
)]
pub async fn get(context: web::Data<Context>) -> Result<HttpResponse, ApiError> {
    let status = context
        .watched
        .as_ref()
        .map(|watched| watched.borrow().clone());
    let folders = status.iter().flatten().map(WatchedFolder::from);
    Ok(HttpResponse::Ok().json(Watch {
        interval_seconds: context.options.watch_interval.as_secs(),
        folders: folders.collect(),
    }))
}
