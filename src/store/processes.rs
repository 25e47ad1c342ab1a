//! Which process works on something, and whether it still runs. Each has a file of its own that it keeps locked; the
//! operating system releases the lock with the process, however it ends.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::error::{Result, StoreError};
use super::{Store, new_id};

const FOLDER: &str = "processes";

/// The mark of this process, made when it is first needed.
pub(super) struct ProcessMark {
    folder: PathBuf,
    made: Mutex<Option<(String, File)>>,
}

impl ProcessMark {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self {
            folder: data_dir.join(FOLDER),
            made: Mutex::new(None),
        }
    }

    fn id(&self) -> Result<String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, _)) = &*made {
            return Ok(id.clone());
        }
        let id = new_id("process_");
        let path = self.folder.join(&id);
        let failed = |source| StoreError::io(format!("lock {}", path.display()), source);
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        let file = File::create(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        *made = Some((id.clone(), file));
        Ok(id)
    }

    fn is_running(&self, id: &str) -> Result<bool> {
        let path = self.folder.join(id);
        let failed = |source| StoreError::io(format!("look at {}", path.display()), source);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(failed(source)),
            Ok(()) => {
                // Nobody will ask for its lock again.
                let _ = std::fs::remove_file(&path);
                Ok(false)
            }
        }
    }
}

impl Drop for ProcessMark {
    fn drop(&mut self) {
        let made = self.made.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, _)) = made.take() {
            let _ = std::fs::remove_file(self.folder.join(id));
        }
    }
}

impl Store {
    /// What this process is known by in [`StoredResponse::owner`](super::StoredResponse).
    pub fn process_id(&self) -> Result<String> {
        self.parts.process.id()
    }

    /// Whether the process of this id still has the data folder open.
    pub fn is_process_running(&self, id: &str) -> Result<bool> {
        self.parts.process.is_running(id)
    }
}
