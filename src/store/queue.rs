//! What jobs and reindexes have in common: rows of a table whose `state` says whether they wait or are worked on.

use rusqlite::Transaction;

use super::Store;
use super::error::Result;

/// Starts without anything stored before the work is given up. Many, because a program that is killed from outside looks
/// the same as one that a file has killed; few enough that such a file does not stop the others for long.
pub(super) const MAX_ATTEMPTS: u32 = 30;

/// A table of work.
#[derive(Debug, Clone, Copy)]
pub(super) enum Queue {
    Jobs,
    Reindexes,
}

impl Queue {
    fn table(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Reindexes => "reindexes",
        }
    }
}

impl Store {
    /// Takes what `claim` finds, which is asked only when something waits: workers look often, and looking keeps no writer
    /// waiting. A claim that goes with the power goes with the process that made it.
    pub(super) async fn claim_queued<T: Send + 'static>(
        &self,
        queue: Queue,
        claim: impl FnOnce(&Transaction) -> Result<Option<T>> + Send + 'static,
    ) -> Result<Option<T>> {
        let table = queue.table();
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE state = 'queued')");
        let look = move |tx: &Transaction| {
            let mut statement = tx.prepare_cached(&sql)?;
            Ok(statement.query_row([], |row| row.get(0))?)
        };
        let is_any_queued: bool = self.database().read(look).await?;
        match is_any_queued {
            true => self.database().write_lazily(claim).await,
            false => Ok(None),
        }
    }

    /// Queues again what was worked on when its process ended, and says how much that is. Only the holder of the worker
    /// lock may call this, before it claims any.
    pub(super) async fn requeue_running(&self, queue: Queue) -> Result<u64> {
        let table = queue.table();
        let sql = format!("UPDATE {table} SET state = 'queued' WHERE state = 'running'");
        let requeue = move |tx: &Transaction| Ok(tx.execute(&sql, [])? as u64);
        self.database().write(requeue).await
    }
}
