//! `inglenook reembed`: gives documents new vectors after the embedding model was changed.

use std::process::ExitCode;
use std::time::Duration;

use crate::app::App;
use crate::config::Settings;

/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(200);

pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let app = App::open_documents(settings).await?;
    let store = app.workspace().store.clone();
    let num_queued = store.requeue_documents_of_other_embedders().await?;
    while store.num_unfinished_jobs().await? > 0 {
        tokio::time::sleep(POLL).await;
    }
    println!("{num_queued} documents were embedded anew");
    app.close().await;
    Ok(ExitCode::SUCCESS)
}
