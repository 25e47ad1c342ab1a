//! One file from the hub to its place among the blobs: resumed where it broke off, checked, and moved there in one step.
//! A blob that exists is complete and correct; nothing else ever gets a blob's name.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::StatusCode;

use super::HubError;
use super::pull::Progress;
use super::remote::{Checksum, Hub, RemoteFile, RequestError, text};

/// Failures without a new byte between them that end a download.
const MAX_FAILURES: u32 = 5;
const MAX_DELAY: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 256 * 1024;

/// Counts failures in a row and waits longer after each.
pub(super) struct Patience {
    num_failures: u32,
    first_delay: Duration,
}

impl Patience {
    pub(super) fn new(first_delay: Duration) -> Patience {
        Patience {
            num_failures: 0,
            first_delay,
        }
    }

    /// Waits before the next attempt, or gives up.
    pub(super) fn after_failure(&mut self, url: &str, reason: &str) -> Result<(), HubError> {
        self.num_failures += 1;
        if self.num_failures >= MAX_FAILURES {
            return Err(HubError::Connection {
                url: url.into(),
                num_attempts: self.num_failures,
                reason: reason.into(),
            });
        }
        let delay = self.first_delay * 2u32.pow(self.num_failures - 1);
        std::thread::sleep(delay.min(MAX_DELAY));
        Ok(())
    }

    fn after_progress(&mut self) {
        self.num_failures = 0;
    }
}

/// What is to be fetched, and where to.
pub(super) struct Download<'a> {
    pub hub: &'a Hub,
    pub repo: &'a str,
    pub url: String,
    /// The file's name in the repository.
    pub file: &'a str,
    pub remote: &'a RemoteFile,
    pub blob: &'a Path,
    pub first_delay: Duration,
}

/// Where a blob grows until it is complete.
pub(super) fn incomplete_path(blob: &Path) -> PathBuf {
    with_suffix(blob, ".incomplete")
}

/// The path with something added to its last part.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Download<'_> {
    /// Makes the blob exist. The caller holds the repository's lock.
    pub(super) fn run(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), HubError> {
        let path = incomplete_path(self.blob);
        let mut local = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(HubError::io(&path))?;
        progress(Progress::Started {
            file: self.file,
            num_bytes: self.remote.size,
            num_present: self.resume_at(&local, &path)?,
        });
        let mut patience = Patience::new(self.first_delay);
        let mut furthest = 0;
        while let Err(error) = self.attempt(&mut local, &path, progress) {
            let reason = match error {
                RequestError::Final(error) => return Err(error),
                RequestError::Passing(reason) => reason,
            };
            let length = length(&local, &path)?;
            // A server that cannot resume begins anew each time: only bytes never seen before are progress.
            if length > furthest {
                furthest = length;
                patience.after_progress();
            }
            progress(Progress::Retrying {
                file: self.file,
                reason: &reason,
            });
            patience.after_failure(&self.url, &reason)?;
        }
        local.sync_all().map_err(HubError::io(&path))?;
        progress(Progress::Verifying { file: self.file });
        self.verify(&mut local, &path)?;
        std::fs::rename(&path, self.blob).map_err(HubError::io(self.blob))?;
        sync_folder(self.blob)?;
        progress(Progress::Finished { file: self.file });
        Ok(())
    }

    /// The byte to go on from. Only contents with a strong checksum are continued: what joins two downloads is then
    /// proved by it. (`If-Range` would not help: a redirect's storage has etags of its own.)
    fn resume_at(&self, local: &File, path: &Path) -> Result<u64, HubError> {
        let length = length(local, path)?;
        let is_proved = matches!(self.remote.checksum, Checksum::Sha256(_));
        let fits = self.remote.size.is_none_or(|size| length <= size);
        Ok(if is_proved && fits { length } else { 0 })
    }

    /// Requests what is missing and writes it until the end or the first problem.
    fn attempt(
        &self,
        local: &mut File,
        path: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), RequestError> {
        let io = |error| RequestError::Final(HubError::io(path)(error));
        let resume_at = self.resume_at(local, path).map_err(RequestError::Final)?;
        if resume_at > 0 && Some(resume_at) == self.remote.size {
            return Ok(());
        }
        let response = self.hub.get(self.repo, &self.url, resume_at)?;
        let mut position = match response.status() {
            StatusCode::PARTIAL_CONTENT
                if continues_at(text(&response, "content-range"), resume_at) =>
            {
                resume_at
            }
            StatusCode::OK => 0,
            status => {
                local.set_len(0).map_err(io)?;
                return Err(RequestError::Passing(format!(
                    "the server does not continue at byte {resume_at} (status {status})"
                )));
            }
        };
        local.set_len(position).map_err(io)?;
        local.seek(SeekFrom::Start(position)).map_err(io)?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(RequestError::Passing(error.to_string())),
            };
            position += read as u64;
            if self.remote.size.is_some_and(|size| position > size) {
                local.set_len(0).map_err(io)?;
                return Err(RequestError::Passing(
                    "the server sent more than it announced".into(),
                ));
            }
            local.write_all(&buffer[..read]).map_err(io)?;
            progress(Progress::Advanced {
                file: self.file,
                num_present: position,
            });
        }
        match self.remote.size {
            Some(size) if position < size => Err(RequestError::Passing(format!(
                "the connection ended after {position} of {size} bytes"
            ))),
            _ => Ok(()),
        }
    }

    /// Deletes the file unless it is what the hub announced.
    fn verify(&self, local: &mut File, path: &Path) -> Result<(), HubError> {
        let length = length(local, path)?;
        local.seek(SeekFrom::Start(0)).map_err(HubError::io(path))?;
        let (expected, actual) = match &self.remote.checksum {
            Checksum::Sha256(expected) => (expected.clone(), hash(Sha256::new(), local, path)?),
            Checksum::GitBlob(expected) => {
                let hasher = Sha1::new_with_prefix(format!("blob {length}\0"));
                (expected.clone(), hash(hasher, local, path)?)
            }
            // Proves nothing, but a size that differs proves damage.
            Checksum::Opaque(_) => match self.remote.size {
                Some(size) => (format!("of {size} bytes"), format!("of {length} bytes")),
                None => return Ok(()),
            },
        };
        if actual != expected {
            std::fs::remove_file(path).map_err(HubError::io(path))?;
            return Err(HubError::WrongChecksum {
                file: self.file.into(),
                expected,
                actual,
            });
        }
        Ok(())
    }
}

/// Whether `Content-Range: bytes 100-199/200` begins at `offset`.
fn continues_at(content_range: Option<&str>, offset: u64) -> bool {
    content_range
        .and_then(|range| range.strip_prefix("bytes "))
        .and_then(|range| range.split('-').next())
        .is_some_and(|start| start.trim() == offset.to_string())
}

fn length(file: &File, path: &Path) -> Result<u64, HubError> {
    Ok(file.metadata().map_err(HubError::io(path))?.len())
}

fn hash<H: Digest>(mut hasher: H, file: &mut File, path: &Path) -> Result<String, HubError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(HubError::io(path)(error)),
        }
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Makes a rename in `path`'s folder survive a power failure, where the system lets folders be synced.
fn sync_folder(path: &Path) -> Result<(), HubError> {
    if cfg!(unix)
        && let Some(folder) = path.parent()
    {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(HubError::io(folder))?;
    }
    Ok(())
}
