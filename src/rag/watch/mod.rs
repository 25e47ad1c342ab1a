//! Keeps documents in step with watched folders: looks at each now and then, takes what is new or different, removes
//! what is gone. It looks instead of waiting to be told, so that network shares work. A folder that cannot be read, or
//! is suddenly empty, is a notice and never a reason to delete.

mod changes;
mod scan;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::store::{
    AttributeValue, Attributes, Chunking, Content, DocumentStatus, NewFile, NewSource,
    NewVectorStore, Origin, Source, Store, StoreError, WatchLock, try_watch_lock, unix_now,
};
use changes::Memory;
use scan::{Scan, Version, scan};

/// Problems of single files that are shown of a folder.
const MAX_ERRORS: usize = 100;
/// How often the lock of another process is tried.
const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct WatchOptions {
    pub folders: Vec<Folder>,
    pub interval: Duration,
    /// Larger files are not taken.
    pub max_file_bytes: u64,
    /// How documents are cut where their collection does not say otherwise.
    pub chunking: Chunking,
    pub data_dir: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Folder {
    pub path: PathBuf,
    /// The name of a vector store, which is made when there is none; without it the default one.
    pub vector_store: Option<String>,
}

/// How a watched folder was at the last look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FolderStatus {
    pub path: PathBuf,
    /// `None` before the first look.
    pub vector_store_id: Option<String>,
    /// Seconds since 1970; `None` before the first look.
    pub last_scan_at: Option<i64>,
    /// Why the folder as a whole was left alone.
    pub notice: Option<String>,
    pub num_files: usize,
    /// Files whose documents answer.
    pub num_searchable: usize,
    /// Files that are being read.
    pub num_in_progress: usize,
    pub num_failed: usize,
    /// Files that have not stood still yet.
    pub num_waiting: usize,
    /// Files that were taken and removed since the program started.
    pub num_taken: u64,
    pub num_removed: u64,
    /// Paths below the folder, and what is wrong with each; the first hundred.
    pub errors: Vec<(String, String)>,
}

/// The running watch of this process.
pub struct Watcher {
    status: watch::Receiver<Vec<FolderStatus>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts to look. While another process watches for the same data folder, this one waits to take over.
    pub fn start(store: Store, options: WatchOptions) -> Self {
        let (stop, stopped) = watch::channel(false);
        let first = options.folders.iter().map(|folder| FolderStatus {
            path: folder.path.clone(),
            ..FolderStatus::default()
        });
        let (sender, status) = watch::channel(first.collect());
        let task = tokio::spawn(run(store, options, sender, stopped));
        Self { status, stop, task }
    }

    /// How the folders are, as it changes.
    pub fn status(&self) -> watch::Receiver<Vec<FolderStatus>> {
        self.status.clone()
    }

    /// Tells whether the watch has died.
    pub fn watch(&self) -> AbortHandle {
        self.task.abort_handle()
    }

    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

async fn run(
    store: Store,
    options: WatchOptions,
    status: watch::Sender<Vec<FolderStatus>>,
    mut stopped: watch::Receiver<bool>,
) {
    let work = async {
        let _lock = wait_for_lock(&options.data_dir).await;
        let mut memories: Vec<Memory> = options.folders.iter().map(|_| Memory::default()).collect();
        loop {
            for (at, folder) in options.folders.iter().enumerate() {
                let before = status.borrow()[at].clone();
                let watched = Watched {
                    store: &store,
                    folder,
                    max_file_bytes: options.max_file_bytes,
                    chunking: options.chunking,
                };
                let after = watched.look(&mut memories[at], before).await;
                status.send_modify(|all| all[at] = after);
            }
            tokio::time::sleep(options.interval).await;
        }
    };
    tokio::select! {
        () = work => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

async fn wait_for_lock(data_dir: &Path) -> WatchLock {
    loop {
        match try_watch_lock(data_dir) {
            Ok(Some(lock)) => return lock,
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the lock for watched folders cannot be taken"),
        }
        tokio::time::sleep(POLL).await;
    }
}

struct Watched<'a> {
    store: &'a Store,
    folder: &'a Folder,
    max_file_bytes: u64,
    chunking: Chunking,
}

impl Watched<'_> {
    /// One look, and what follows from it.
    async fn look(&self, memory: &mut Memory, before: FolderStatus) -> FolderStatus {
        let known_notice = before.notice.clone();
        let mut status = FolderStatus {
            last_scan_at: Some(unix_now()),
            notice: None,
            errors: Vec::new(),
            num_waiting: 0,
            ..before
        };
        if let Err(error) = self.step(memory, &mut status).await {
            status.notice = Some(format!("{}: {error}", self.folder.path.display()));
        }
        // Said once, and not at every look.
        if let Some(notice) = status
            .notice
            .as_ref()
            .filter(|it| known_notice.as_ref() != Some(*it))
        {
            tracing::warn!("{notice}");
        }
        status.errors.truncate(MAX_ERRORS);
        status
    }

    async fn step(&self, memory: &mut Memory, status: &mut FolderStatus) -> Result<(), StoreError> {
        let store_id = self.vector_store().await?;
        status.vector_store_id = Some(store_id.clone());
        let origin = Origin::Folder(self.folder.path.to_string_lossy().into_owned());
        let known = self.store.sources(&store_id, &origin).await?;
        let path = self.folder.path.clone();
        let scanned = tokio::task::spawn_blocking(move || scan(&path)).await;
        let scanned = scanned.unwrap_or_else(|error| Err(error.to_string()));
        let scan = match scanned {
            Err(reason) => {
                status.notice = Some(format!(
                    "{} cannot be read ({reason}); its documents stay as they are until it can",
                    self.folder.path.display()
                ));
                None
            }
            // As an unmounted share looks.
            Ok(scan)
                if scan.files.is_empty() && scan.unreadable.is_empty() && !known.is_empty() =>
            {
                status.notice = Some(format!(
                    "{} is empty, but {} documents came from it; they stay until a file is there again, or delete them",
                    self.folder.path.display(),
                    known.len()
                ));
                None
            }
            Ok(scan) => Some(scan),
        };
        match scan {
            Some(scan) => {
                self.follow(&store_id, &origin, &known, scan, memory, status)
                    .await?
            }
            None => memory.forget_missing(),
        }
        count(&self.store.sources(&store_id, &origin).await?, status);
        Ok(())
    }

    async fn follow(
        &self,
        store_id: &str,
        origin: &Origin,
        known: &[Source],
        scan: Scan,
        memory: &mut Memory,
        status: &mut FolderStatus,
    ) -> Result<(), StoreError> {
        let versions: BTreeMap<String, String> = known
            .iter()
            .map(|source| (source.address.clone(), source.version.clone()))
            .collect();
        let changes = memory.compare(&scan, &versions);
        status.num_files = scan.files.len();
        status.num_waiting = changes.num_waiting;
        status.errors.extend(scan.unreadable);
        for (path, version) in changes.take {
            match self.take(store_id, origin, &path, version).await? {
                Ok(is_new) => status.num_taken += u64::from(is_new),
                Err(reason) => status.errors.push((path, reason)),
            }
        }
        for path in changes.remove {
            self.store.remove_source(store_id, origin, &path).await?;
            status.num_removed += 1;
        }
        Ok(())
    }

    /// Makes a document of a file, and says whether it is another than before; or why it cannot be one.
    async fn take(
        &self,
        store_id: &str,
        origin: &Origin,
        path: &str,
        version: Version,
    ) -> Result<Result<bool, String>, StoreError> {
        if version.num_bytes > self.max_file_bytes {
            let max = self.max_file_bytes;
            return Ok(Err(format!(
                "it has {} bytes, more than {max} (max_upload_mb)",
                version.num_bytes
            )));
        }
        let full = self.folder.path.join(path);
        // Read before it is kept: a file that changes meanwhile must not be half of each.
        let read = tokio::task::spawn_blocking(move || std::fs::read(full)).await;
        let bytes = match read.map_err(|error| StoreError::Panicked(error.to_string()))? {
            Ok(bytes) if bytes.len() as u64 == version.num_bytes => bytes,
            Ok(_) => return Ok(Err("it changed while it was read; it is tried again".into())),
            Err(error) => return Ok(Err(format!("it cannot be read: {error}"))),
        };
        let name = path.rsplit('/').next().unwrap_or(path);
        let mut attributes = Attributes::new();
        attributes.insert(
            "source_path".into(),
            AttributeValue::String(path.to_owned()),
        );
        let new = NewSource {
            origin: origin.clone(),
            address: path.to_owned(),
            version: version.text(),
            file: NewFile {
                filename: name.to_owned(),
                purpose: "assistants".into(),
                media_type: mime_guess::from_path(name)
                    .first_or_octet_stream()
                    .to_string(),
                expires_after_seconds: None,
            },
            content: Content::Bytes(bytes),
            attributes,
            chunking: self.chunking,
            password: None,
        };
        let kept = self.store.keep_source(store_id, new).await?;
        Ok(Ok(!kept.is_unchanged))
    }

    /// The vector store of the folder, made if need be.
    async fn vector_store(&self) -> Result<String, StoreError> {
        let Some(name) = &self.folder.vector_store else {
            return Ok(self.store.default_vector_store().await?.id);
        };
        if let Some(id) = self.store.vector_store_named(name).await? {
            return Ok(id);
        }
        let new = NewVectorStore {
            name: name.clone(),
            ..NewVectorStore::default()
        };
        Ok(self.store.create_vector_store(new).await?.id)
    }
}

fn count(sources: &[Source], status: &mut FolderStatus) {
    let with = |wanted| sources.iter().filter(move |it| it.status == Some(wanted));
    status.num_searchable = sources.iter().filter(|it| it.is_searchable).count();
    status.num_in_progress = with(DocumentStatus::InProgress).count();
    status.num_failed = with(DocumentStatus::Failed).count();
    let failed = with(DocumentStatus::Failed).map(|source| {
        let reason = source.error.clone().unwrap_or_default();
        (source.address.clone(), reason)
    });
    status.errors.extend(failed);
}
