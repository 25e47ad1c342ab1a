//! `POST /api/pull`: has a model of the catalog downloaded, where the owner allows it. The download goes on when the
//! client leaves, and what was downloaded is not lost when the program ends.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::dialect::Dialect;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::sse::{self, Frame};

/// Downloads the model of that name; blocks, and tells what happens.
pub type PullModel =
    Arc<dyn Fn(&str, &mut dyn FnMut(PullStep<'_>)) -> Result<(), PullError> + Send + Sync>;

/// What happens to a file of the model.
#[derive(Debug, Clone, Copy)]
pub enum PullStep<'a> {
    Began {
        file: &'a str,
        num_bytes: Option<u64>,
        num_present: u64,
    },
    Advanced {
        file: &'a str,
        num_present: u64,
    },
    Checking {
        file: &'a str,
    },
    /// It failed, and is tried again.
    Waiting {
        file: &'a str,
        reason: &'a str,
    },
}

/// Why a model was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("model '{name}' not found in the catalog; it has: {known}")]
    Unknown { name: String, known: String },
    #[error("{0}")]
    Failed(String),
}

impl From<PullError> for ApiError {
    fn from(error: PullError) -> Self {
        let message = error.to_string();
        match error {
            PullError::Unknown { .. } => Self::model_not_found(message),
            PullError::Failed(_) => Self::not_available(message),
        }
    }
}

/// Lines on their way to the client. A slow one misses steps, and never holds up the download.
const MAX_LINES: usize = 64;

/// One of both names is needed.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaPull)]
pub struct PullRequest {
    model: Option<String>,
    /// As older clients say it.
    name: Option<String>,
    /// True when absent.
    stream: Option<bool>,
}

/// How far a download is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaPullStatus)]
pub struct PullStatus {
    /// `success` at the end.
    status: String,
    /// The file that is downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// Bytes that are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<u64>,
    /// Bytes of the whole file, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

impl PullStatus {
    fn said(status: impl Into<String>) -> Self {
        Self {
            status: status.into(),
            digest: None,
            completed: None,
            total: None,
        }
    }
}

/// Downloads a model of the catalog
///
/// Only where the owner set `api_pull`. Streamed unless asked otherwise: every line is one object.
#[utoipa::path(
    post,
    path = "/pull",
    operation_id = "ollama_pull",
    tag = "Ollama",
    request_body = PullRequest,
    responses((
        status = 200,
        content((PullStatus = "application/json"), (PullStatus = "application/x-ndjson"))
    ))
)]
pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<PullRequest>,
) -> Result<HttpResponse, ApiError> {
    let PullRequest {
        model,
        name,
        stream,
    } = body.0;
    let Some(pull) = context.pull_model.clone() else {
        return Err(ApiError::forbidden(
            "pulling over the API is switched off, so that nothing leaves this machine unasked; on the server, run: \
             inglenook models pull NAME, or set api_pull = true (INGLENOOK_API_PULL=true)",
        ));
    };
    let name = model.or(name).unwrap_or_default();
    let name = super::plain(&context, &name).to_owned();
    let mut lines = start(pull, name)?;
    if stream.unwrap_or(true) {
        return Ok(sse::respond_lines(move |frames| async move {
            while let Some(line) = lines.recv().await {
                let line = match line {
                    Ok(status) => json!(status),
                    Err(error) => Dialect::Ollama.body(&error.into()),
                };
                frames.send(Frame::Line(line)).await?;
            }
            Ok(())
        }));
    }
    let mut last = None;
    while let Some(line) = lines.recv().await {
        last = Some(line?);
    }
    let last = last.ok_or_else(ApiError::ended_early)?;
    Ok(HttpResponse::Ok().json(last))
}

/// On a thread of its own, which ends with the download, or with the program.
fn start(
    pull: PullModel,
    name: String,
) -> Result<mpsc::Receiver<Result<PullStatus, PullError>>, ApiError> {
    let (sender, lines) = mpsc::channel(MAX_LINES);
    let work = move || {
        let mut sizes: HashMap<String, u64> = HashMap::new();
        let _ = sender.try_send(Ok(PullStatus::said("pulling manifest")));
        let pulled = pull(&name, &mut |step| {
            let _ = sender.try_send(Ok(line(step, &mut sizes)));
        });
        // Waits for room; a client that left has closed the channel.
        let _ = sender.blocking_send(pulled.map(|()| PullStatus::said("success")));
    };
    let started = std::thread::Builder::new().name("pull".into()).spawn(work);
    started
        .map_err(|error| ApiError::not_available(format!("cannot start a download: {error}")))?;
    Ok(lines)
}

fn line(step: PullStep<'_>, sizes: &mut HashMap<String, u64>) -> PullStatus {
    let pulling = |file: &str, total: Option<u64>, completed: u64| PullStatus {
        digest: Some(file.to_owned()),
        completed: Some(completed),
        total,
        ..PullStatus::said(format!("pulling {file}"))
    };
    match step {
        PullStep::Began {
            file,
            num_bytes,
            num_present,
        } => {
            sizes.extend(num_bytes.map(|num_bytes| (file.to_owned(), num_bytes)));
            pulling(file, num_bytes, num_present)
        }
        PullStep::Advanced { file, num_present } => {
            pulling(file, sizes.get(file).copied(), num_present)
        }
        PullStep::Checking { file } => PullStatus::said(format!("verifying {file}")),
        PullStep::Waiting { file, reason } => {
            PullStatus::said(format!("{file}: {reason}; trying again"))
        }
    }
}
