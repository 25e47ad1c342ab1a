//! Deletes, from time to time, what has expired. What is read never waits for it: the store does not show expired things.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::store::Store;

/// How long expired things may take up room.
const PERIOD: Duration = Duration::from_secs(10);

/// The running deletion; dropping it ends it between two deletions.
pub struct Expiry {
    task: JoinHandle<()>,
}

impl Expiry {
    /// Begins with what expired while nothing ran.
    pub fn start(store: Store) -> Self {
        let task = tokio::spawn(async move {
            loop {
                match store.delete_expired().await {
                    Ok(0) => {}
                    Ok(num_deleted) => tracing::info!(num_deleted, "deleted what had expired"),
                    Err(error) => tracing::error!(%error, "what has expired cannot be deleted"),
                }
                tokio::time::sleep(PERIOD).await;
            }
        });
        Self { task }
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.task.abort();
    }
}
