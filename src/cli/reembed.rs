//! `inglenook reembed`: cuts and embeds documents anew that another embedding model or an earlier version made. They go on
//! answering meanwhile. A server that is running on the same data folder does the work; otherwise this process does.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::app::App;
use crate::config::Settings;
use crate::rag::ingest::reindex_scope;

/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Failures named at most.
const MAX_FAILURES: u32 = 20;

pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let app = App::open_documents(settings).await?;
    let store = app.workspace().store.clone();
    let embedder = app.workspace().embedder.as_ref();
    let scope = reindex_scope(
        None,
        None,
        embedder.expect("documents were opened with one"),
    );
    store.queue_reindex(scope).await?;
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template(
        "re-indexing [{bar:30}] {pos}/{len} documents, {msg}",
    )?);
    let progress = loop {
        let progress = store.reindex_progress().await?;
        bar.set_length(progress.num_documents);
        bar.set_position(progress.num_done + progress.num_failed);
        bar.set_message(format!(
            "{} of {} passages of this one",
            progress.chunks_done, progress.chunks_total
        ));
        if progress.is_finished() {
            break progress;
        }
        tokio::time::sleep(POLL).await;
    };
    bar.finish_and_clear();
    for failure in store.reindex_failures(MAX_FAILURES).await? {
        eprintln!("{}: {}", failure.file_id, failure.message);
    }
    let num_left = store.documents_of_other_embedders().await?;
    println!("{} documents were embedded anew", progress.num_done);
    app.close().await;
    anyhow::ensure!(
        progress.num_failed == 0,
        "{} documents could not be embedded anew and stay as they were",
        progress.num_failed
    );
    anyhow::ensure!(
        num_left == 0,
        "{num_left} documents were embedded by another model; if a server is running on this data folder, it embeds with \
         its own: start it with the same --embedding-model"
    );
    Ok(ExitCode::SUCCESS)
}
