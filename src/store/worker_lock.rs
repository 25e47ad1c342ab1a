//! The lock that lets only one process work on a data folder's jobs. The operating system releases it with the process.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::error::{Result, StoreError};

/// Held until dropped.
#[derive(Debug)]
pub struct WorkerLock {
    _file: File,
}

/// `None` when another process (or another part of this one) has it.
pub fn try_worker_lock(data_dir: &Path) -> Result<Option<WorkerLock>> {
    let path = data_dir.join("worker.lock");
    let failed = |source| StoreError::io(format!("lock {}", path.display()), source);
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(WorkerLock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
