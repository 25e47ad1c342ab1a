//! `inglenook reembed`: gives documents new vectors after the embedding model was changed.

use std::process::ExitCode;
use std::time::Duration;

use crate::app::App;
use crate::config::Settings;
use crate::store::try_worker_lock;

/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(200);

pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    // A server would do the work, with the model that it has.
    let is_free = !settings.data_dir.exists() || try_worker_lock(&settings.data_dir)?.is_some();
    anyhow::ensure!(
        is_free,
        "another inglenook is running on {}; stop it first",
        settings.data_dir.display()
    );
    let app = App::open_documents(settings).await?;
    let store = app.workspace().store.clone();
    let num_queued = store.requeue_documents_of_other_embedders().await?;
    while store.num_unfinished_jobs().await? > 0 {
        tokio::time::sleep(POLL).await;
    }
    let num_left = store.documents_of_other_embedders().await?;
    anyhow::ensure!(
        num_left == 0,
        "{num_left} documents could not be embedded anew; try again"
    );
    println!("{num_queued} documents were embedded anew");
    app.close().await;
    Ok(ExitCode::SUCCESS)
}
