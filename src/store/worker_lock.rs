//! The locks that let only one process work on a data folder's jobs, and one watch folders for it. The operating system releases it with the process.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::error::{Result, StoreError};

/// Held until dropped.
#[derive(Debug)]
pub struct WorkerLock {
    _file: File,
}

/// Held until dropped, by the process that watches folders.
#[derive(Debug)]
pub struct WatchLock {
    _file: File,
}

/// `None` when another process (or another part of this one) has it.
pub fn try_worker_lock(data_dir: &Path) -> Result<Option<WorkerLock>> {
    let file = try_lock(data_dir, "worker.lock")?;
    Ok(file.map(|_file| WorkerLock { _file }))
}

/// As [`try_worker_lock`], for watched folders.
pub fn try_watch_lock(data_dir: &Path) -> Result<Option<WatchLock>> {
    let file = try_lock(data_dir, "watch.lock")?;
    Ok(file.map(|_file| WatchLock { _file }))
}

fn try_lock(data_dir: &Path, name: &str) -> Result<Option<File>> {
    let path = data_dir.join(name);
    let failed = |source| StoreError::io(format!("lock {}", path.display()), source);
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
