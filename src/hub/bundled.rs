//! The demonstration models that are part of the program, so that it works before anything was pulled. They are
//! unpacked once, since loaders map files.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

use super::{HubError, ModelKind, ModelSource, ResolvedModel};

#[derive(RustEmbed)]
#[folder = "models/bundled"]
#[include = "embedder/*"]
#[include = "chat/*"]
struct Files;

/// A model that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundledModel {
    pub name: &'static str,
    pub kind: ModelKind,
    /// Where its files are among those that were built in.
    folder: &'static str,
}

/// Age at which half an unpacked model is taken for abandoned.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

const MODELS: [BundledModel; 2] = [
    BundledModel {
        name: "inglenook-demo-embedder",
        kind: ModelKind::Embedding,
        folder: "embedder/",
    },
    BundledModel {
        name: "inglenook-demo-chat",
        kind: ModelKind::Chat,
        folder: "chat/",
    },
];

/// The models that this build has.
pub fn bundled() -> impl Iterator<Item = &'static BundledModel> {
    MODELS.iter().filter(|model| model.paths().next().is_some())
}

impl BundledModel {
    fn paths(&self) -> impl Iterator<Item = String> + '_ {
        Files::iter()
            .map(|path| path.into_owned())
            .filter(|path| path.starts_with(self.folder))
    }

    /// Size of all its files.
    pub fn num_bytes(&self) -> u64 {
        let sizes = self.paths().filter_map(|path| Files::get(&path));
        sizes.map(|file| file.data.len() as u64).sum()
    }

    /// The model as a loader takes it, from a folder inside `dir`, which is made if it is not there yet.
    pub fn unpack(&'static self, dir: &Path) -> Result<ResolvedModel, HubError> {
        let files: Vec<(String, rust_embed::EmbeddedFile)> = self
            .paths()
            .filter_map(|path| {
                let file = Files::get(&path)?;
                Some((path[self.folder.len()..].to_string(), file))
            })
            .collect();
        let mut hash = Sha256::new();
        for (name, file) in &files {
            hash.update(name);
            hash.update(file.metadata.sha256_hash());
        }
        let version = hash.finalize()[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        let home = dir.join(format!("{}-{version}", self.name));
        if !is_whole(&home, &files) {
            write_all(dir, &home, &files)?;
            remove_others(dir, self.name, &home);
        }
        let path = match self.kind {
            ModelKind::Embedding | ModelKind::Rerank => home,
            ModelKind::Chat => {
                let gguf = files.iter().find(|(name, _)| name.ends_with(".gguf"));
                home.join(gguf.map_or("", |(name, _)| name))
            }
        };
        Ok(ResolvedModel {
            name: self.name.into(),
            source: ModelSource::Bundled,
            path,
            catalog: None,
        })
    }
}

/// Whether every file is there as it was built in: a power cut may leave files of full length without their content.
fn is_whole(home: &Path, files: &[(String, rust_embed::EmbeddedFile)]) -> bool {
    files.iter().all(|(name, file)| {
        let there = fs::read(home.join(name));
        there.is_ok_and(|bytes| bytes == *file.data)
    })
}

/// Written beside and then renamed, so that another process never sees half of it.
fn write_all(
    dir: &Path,
    home: &Path,
    files: &[(String, rust_embed::EmbeddedFile)],
) -> Result<(), HubError> {
    fs::create_dir_all(dir).map_err(HubError::io(dir))?;
    // One process at a time: what another has just finished must not be taken for damaged.
    let lock_path = dir.join(".lock");
    let lock = fs::File::create(&lock_path).map_err(HubError::io(&lock_path))?;
    lock.lock().map_err(HubError::io(&lock_path))?;
    if is_whole(home, files) {
        return Ok(());
    }
    let part = tempfile::Builder::new()
        .prefix(".unpacking-")
        .tempdir_in(dir)
        .map_err(HubError::io(dir))?;
    for (name, file) in files {
        let path = part.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(HubError::io(parent))?;
        }
        write_synced(&path, &file.data).map_err(HubError::io(&path))?;
    }
    if home.exists() {
        fs::remove_dir_all(home).map_err(HubError::io(home))?;
    }
    fs::rename(part.keep(), home).map_err(HubError::io(home))
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes what earlier versions of the program unpacked, and what a process left that was killed while it did.
fn remove_others(dir: &Path, name: &str, keep: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let other = path.file_name().and_then(|it| it.to_str()).unwrap_or("");
        let is_version = other
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('-'));
        let is_old = || {
            let changed = fs::metadata(&path).and_then(|it| it.modified());
            let age = changed.ok().and_then(|it| it.elapsed().ok());
            age.is_some_and(|age| age > ABANDONED_AFTER)
        };
        if (is_version && path != keep) || (other.starts_with(".unpacking-") && is_old()) {
            // A server that still runs keeps what it has mapped.
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// The folder that bundled models are unpacked to, inside the data folder.
pub fn unpack_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("bundled-models")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_unpacked_once_and_mended_when_damaged() {
        let model = bundled()
            .find(|model| model.kind == ModelKind::Embedding)
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let stale = dir.path().join(format!("{}-000000", model.name));
        fs::create_dir_all(&stale).unwrap();
        let found = model.unpack(dir.path()).unwrap();
        let weights = found.path.join("model.safetensors");
        let size = fs::metadata(&weights).unwrap().len();
        assert!(size > 1_000_000);
        assert!(!stale.exists());
        let made = fs::metadata(&weights).unwrap().modified().unwrap();
        assert_eq!(model.unpack(dir.path()).unwrap().path, found.path);
        assert_eq!(fs::metadata(&weights).unwrap().modified().unwrap(), made);
        for damaged in [b"cut off".to_vec(), vec![0; size as usize]] {
            fs::write(&weights, &damaged).unwrap();
            model.unpack(dir.path()).unwrap();
            assert_ne!(fs::read(&weights).unwrap(), damaged);
        }
        let left = fs::read_dir(dir.path()).unwrap().flatten();
        let models = left.filter(|entry| entry.path().is_dir()).count();
        assert_eq!(models, 1);
    }

    #[test]
    fn processes_that_unpack_at_once_do_not_harm_each_other() {
        let model = bundled()
            .find(|model| model.kind == ModelKind::Embedding)
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let found = model.unpack(dir.path()).unwrap();
                    // As a loader reads it, while the others are still at it.
                    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
                        assert!(!fs::read(found.path.join(name)).unwrap().is_empty());
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_built_in_stays_small() {
        let total: u64 = bundled().map(BundledModel::num_bytes).sum();
        assert!(total <= 40_000_000, "{total}");
    }
}
