//! The demonstration models that are part of the program, so that it works before anything was pulled. They are
//! unpacked once, since loaders map files.

use std::fs;
use std::path::{Path, PathBuf};

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
        let is_whole = files.iter().all(|(name, file)| {
            let there = fs::metadata(home.join(name));
            there.is_ok_and(|it| it.len() == file.data.len() as u64)
        });
        if !is_whole {
            write_all(dir, &home, &files)?;
            remove_others(dir, self.name, &home);
        }
        let path = match self.kind {
            ModelKind::Embedding => home,
            ModelKind::Chat => match files.first() {
                Some((name, _)) => home.join(name),
                None => home,
            },
        };
        Ok(ResolvedModel {
            name: self.name.into(),
            source: ModelSource::Bundled,
            path,
            catalog: None,
        })
    }
}

/// Written beside and then renamed, so that another process never sees half of it.
fn write_all(
    dir: &Path,
    home: &Path,
    files: &[(String, rust_embed::EmbeddedFile)],
) -> Result<(), HubError> {
    fs::create_dir_all(dir).map_err(HubError::io(dir))?;
    let part = tempfile::Builder::new()
        .prefix(".unpacking-")
        .tempdir_in(dir)
        .map_err(HubError::io(dir))?;
    for (name, file) in files {
        let path = part.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(HubError::io(parent))?;
        }
        fs::write(&path, &file.data).map_err(HubError::io(&path))?;
    }
    if home.exists() {
        // What is there was found to be incomplete.
        fs::remove_dir_all(home).map_err(HubError::io(home))?;
    }
    let part = part.keep();
    fs::rename(&part, home).or_else(|error| {
        let _ = fs::remove_dir_all(&part);
        // Another process was quicker, with the same files.
        if home.exists() {
            Ok(())
        } else {
            Err(HubError::io(home)(error))
        }
    })
}

/// Earlier versions of the program unpacked other files.
fn remove_others(dir: &Path, name: &str, keep: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_ours = path
            .file_name()
            .and_then(|it| it.to_str())
            .and_then(|it| it.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('-'));
        if is_ours && path != keep {
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
        fs::write(&weights, b"cut off").unwrap();
        model.unpack(dir.path()).unwrap();
        assert_eq!(fs::metadata(&weights).unwrap().len(), size);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_built_in_stays_small() {
        let total: u64 = bundled().map(BundledModel::num_bytes).sum();
        assert!(total <= 40_000_000, "{total}");
    }
}
