//! `inglenook ingest FILE...`: adds documents and waits until they can be searched. A server that is running on the
//! same data folder does the work; otherwise this process does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::app::App;
use crate::config::Settings;
use crate::rag::ingest::allowed_chunking;
use crate::store::{Attributes, Chunking, Content, Document, DocumentStatus, NewFile, Store};

/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub struct IngestArgs {
    /// Documents: PDF, Office, OpenDocument, EPUB, e-mail, HTML, Markdown, CSV, JSON, any text, or ZIP files of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub async fn run(settings: Settings, args: IngestArgs) -> anyhow::Result<ExitCode> {
    let app = App::open_documents(settings).await?;
    let store = app.workspace().store.clone();
    let default = store.default_vector_store().await?;
    let chunking = default.chunking.unwrap_or(app.workspace().chunking);
    let embedder = app.workspace().embedder.as_ref();
    let chunking = allowed_chunking(chunking, embedder.expect("documents were opened with one"));
    let collection = default.id;
    let mut num_failed = 0;
    let mut queued = Vec::new();
    for path in &args.files {
        match add(&store, &collection, path, chunking).await {
            Ok(file_id) => queued.push((path, file_id)),
            Err(error) => {
                num_failed += 1;
                eprintln!("{}: {error:#}", path.display());
            }
        }
    }
    for (path, file_id) in queued {
        let document = wait(&store, &collection, &file_id, path).await?;
        if let Some(error) = &document.last_error {
            num_failed += 1;
            eprintln!("{}: {}", path.display(), error.message);
            continue;
        }
        println!(
            "{}: {} passages ({file_id})",
            path.display(),
            document.num_chunks
        );
        for warning in &document.page_warnings {
            eprintln!(
                "{}: page {}: {}",
                path.display(),
                warning.page,
                warning.error
            );
        }
    }
    app.close().await;
    Ok(if num_failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn add(
    store: &Store,
    collection: &str,
    path: &Path,
    chunking: Chunking,
) -> anyhow::Result<String> {
    let size = std::fs::metadata(path).context("cannot be read")?.len();
    anyhow::ensure!(path.is_file(), "is not a file");
    anyhow::ensure!(size > 0, "is empty");
    let filename = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let media_type = mime_guess::from_path(path)
        .first_or_octet_stream()
        .to_string();
    let new = NewFile {
        filename,
        purpose: "assistants".into(),
        media_type,
        expires_after_seconds: None,
    };
    let file = store
        .create_file(new, Content::Path(path.to_path_buf()))
        .await?;
    store
        .attach(collection, &file.id, Attributes::new(), chunking)
        .await?;
    Ok(file.id)
}

async fn wait(
    store: &Store,
    collection: &str,
    file_id: &str,
    path: &Path,
) -> anyhow::Result<Document> {
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template(
        "{msg} [{bar:30}] {pos}/{len} passages",
    )?);
    bar.set_message(path.display().to_string());
    loop {
        let document = store.document(collection, file_id).await?;
        bar.set_length(document.progress.chunks_total.into());
        bar.set_position(document.progress.chunks_done.into());
        if document.status != DocumentStatus::InProgress {
            bar.finish_and_clear();
            return Ok(document);
        }
        tokio::time::sleep(POLL).await;
    }
}
