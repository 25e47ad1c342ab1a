//! A model of the catalog from the hub into the cache. Interrupted at any moment, it leaves a cache that is valid and goes
//! on from there the next time; a model is found only when all of its files are complete.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::catalog::CatalogEntry;
use super::download::{Download, Patience, incomplete_path, with_suffix};
use super::remote::{Hub, RemoteFile, RequestError};
use super::{HubError, ModelCache, ResolvedModel, repo};

/// Where to pull from and to.
#[derive(Clone, Debug)]
pub struct HubOptions {
    pub endpoint: String,
    /// Sent to the endpoint's host only.
    pub token: Option<String>,
    /// As for [`ModelCache::new`].
    pub cache_dir: Option<PathBuf>,
    /// The wait after a first failure; it doubles with each further one.
    pub first_delay: Duration,
}

impl Default for HubOptions {
    fn default() -> HubOptions {
        HubOptions {
            endpoint: "https://huggingface.co".into(),
            token: None,
            cache_dir: None,
            first_delay: Duration::from_secs(1),
        }
    }
}

/// What happens to a file, as it happens. Files are named as in the repository.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress<'a> {
    AlreadyHere {
        file: &'a str,
    },
    Started {
        file: &'a str,
        /// The whole file's size where the hub gives it.
        num_bytes: Option<u64>,
        /// What an earlier attempt left.
        num_present: u64,
    },
    Advanced {
        file: &'a str,
        num_present: u64,
    },
    Retrying {
        file: &'a str,
        reason: &'a str,
    },
    Verifying {
        file: &'a str,
    },
    Finished {
        file: &'a str,
    },
}

/// A file to be had, and its place.
struct Item<'a> {
    file: &'a str,
    remote: RemoteFile,
    blob: PathBuf,
}

/// Downloads what is missing of a model. Blocks until done.
///
/// # Errors
/// Every error leaves what has arrived in place for the next attempt, but for a file with a wrong checksum.
pub fn pull(
    entry: &'static CatalogEntry,
    options: &HubOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<ResolvedModel, HubError> {
    entry.check_supported()?;
    let cache = ModelCache::new(options.cache_dir.clone());
    let folder = cache.dir().join(repo(entry).folder_name());
    let blobs = folder.join("blobs");
    create_folder(&blobs)?;
    let _lock = lock(&folder, entry)?;

    let hub = Hub::new(&options.endpoint, options.token.clone());
    let items = describe(&hub, entry, &blobs, options, progress)?;
    check_space(&folder, &items)?;
    for item in &items {
        if is_here(item) {
            progress(Progress::AlreadyHere { file: item.file });
            continue;
        }
        let download = Download {
            hub: &hub,
            repo: &entry.repo,
            url: hub.url(&entry.repo, &item.remote.commit, item.file),
            file: item.file,
            remote: &item.remote,
            blob: &item.blob,
            first_delay: options.first_delay,
        };
        download.run(progress)?;
    }
    for item in &items {
        let snapshot = folder.join("snapshots").join(&item.remote.commit);
        link(&item.blob, &snapshot, item.file)?;
    }
    // Last, because it is what makes the model findable.
    if let Some(item) = items.first() {
        write_reference(&folder, &entry.revision, &item.remote.commit)?;
    }
    cache
        .find_entry(entry)
        .ok_or(HubError::NotPulled { name: &entry.name })
}

/// Asks the hub about every file, all at the commit at which it has the first.
fn describe<'a>(
    hub: &Hub,
    entry: &'a CatalogEntry,
    blobs: &Path,
    options: &HubOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<Item<'a>>, HubError> {
    let mut items: Vec<Item<'a>> = Vec::new();
    let required = entry.files.iter().map(|file| (file, true));
    let optional = entry.optional_files.iter().map(|file| (file, false));
    for (file, is_required) in required.chain(optional) {
        let revision = items
            .first()
            .map_or(&entry.revision, |item| &item.remote.commit);
        let url = hub.url(&entry.repo, revision, file);
        let mut patience = Patience::new(options.first_delay);
        let remote = loop {
            match hub.describe(&entry.repo, &url) {
                Ok(remote) => break Some(remote),
                Err(RequestError::Final(error)) => {
                    if !is_required && matches!(error, HubError::NotFound { .. }) {
                        break None;
                    }
                    return Err(error);
                }
                Err(RequestError::Passing(reason)) => {
                    progress(Progress::Retrying {
                        file,
                        reason: &reason,
                    });
                    patience.after_failure(&url, &reason)?;
                }
            }
        };
        if let Some(remote) = remote {
            items.push(Item {
                file,
                blob: blobs.join(remote.checksum.as_str()),
                remote,
            });
        }
    }
    Ok(items)
}

fn is_here(item: &Item<'_>) -> bool {
    let Ok(metadata) = std::fs::metadata(&item.blob) else {
        return false;
    };
    item.remote.size.is_none_or(|size| size == metadata.len())
}

/// Held for as long as the file lives; the system lets go of it however the process ends.
fn lock(folder: &Path, entry: &CatalogEntry) -> Result<File, HubError> {
    let path = folder.join(".lock");
    let file = File::create(&path).map_err(HubError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(HubError::Busy {
            repo: entry.repo.clone(),
        }),
        Err(TryLockError::Error(error)) => Err(HubError::io(&path)(error)),
    }
}

/// Refuses to begin what cannot fit.
fn check_space(folder: &Path, items: &[Item<'_>]) -> Result<(), HubError> {
    let missing = items.iter().filter(|item| !is_here(item)).map(|item| {
        let present = std::fs::metadata(incomplete_path(&item.blob)).map_or(0, |file| file.len());
        item.remote.size.unwrap_or(0).saturating_sub(present)
    });
    let num_needed_bytes = missing.sum();
    match num_free_bytes(folder) {
        Some(num_free_bytes) if num_free_bytes < num_needed_bytes => Err(HubError::DiskFull {
            dir: folder.to_owned(),
            num_needed_bytes,
            num_free_bytes,
        }),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn num_free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(not(unix))]
fn num_free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Shows a blob in a snapshot under its name.
fn link(blob: &Path, snapshot: &Path, file: &str) -> Result<(), HubError> {
    let path = snapshot.join(file);
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    match (path.canonicalize(), blob.canonicalize()) {
        (Ok(there), Ok(blob)) if there == blob => return Ok(()),
        _ => {}
    }
    // A link to nowhere, or a file of another program.
    if path.symlink_metadata().is_ok() {
        std::fs::remove_file(&path).map_err(HubError::io(&path))?;
    }
    let up = "../".repeat(file.split('/').count() + 1);
    let name = blob.file_name().unwrap_or_default().to_string_lossy();
    symlink(&format!("{up}blobs/{name}"), &path)
        .or_else(|_| std::fs::hard_link(blob, &path))
        .or_else(|_| copy(blob, &path))
        .map_err(HubError::io(&path))
}

#[cfg(unix)]
fn symlink(target: &str, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn symlink(target: &str, path: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, path)
}

/// A copy that is there completely or not at all.
fn copy(blob: &Path, path: &Path) -> std::io::Result<()> {
    let part = with_suffix(path, ".part");
    std::fs::copy(blob, &part)?;
    std::fs::rename(part, path)
}

fn write_reference(folder: &Path, revision: &str, commit: &str) -> Result<(), HubError> {
    let references = folder.join("refs");
    create_folder(&references)?;
    let path = references.join(revision);
    let part = references.join(format!(".{revision}.part"));
    std::fs::write(&part, commit)
        .and_then(|()| std::fs::rename(&part, &path))
        .map_err(HubError::io(&path))
}

fn create_folder(path: &Path) -> Result<(), HubError> {
    std::fs::create_dir_all(path).map_err(HubError::io(path))
}
