//! Models on this machine: which names can be pulled, which are already here, and the download itself. Only
//! [`pull`] ever touches the network; finding a model never does.

mod bundled;
mod catalog;
mod download;
mod pull;
mod remote;

use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

use bundled::unpack_dir;
pub use bundled::{BundledModel, bundled};
pub use catalog::{CatalogEntry, ModelKind, catalog, find};
pub use pull::{HubOptions, Progress, pull};

/// The folder that keeps pulled models, in the layout of the Hugging Face cache, so that models pulled by other programs
/// are found and ours are found by them.
#[derive(Clone, Debug)]
pub struct ModelCache {
    cache: Cache,
}

/// A model whose files are all here.
#[derive(Clone, Debug)]
pub struct ResolvedModel {
    /// What users call it: the catalog's name, else the name of the file or folder.
    pub name: String,
    pub source: ModelSource,
    /// What a loader takes: the GGUF file or the folder of a chat model, the folder of an embedding or rerank model.
    pub path: PathBuf,
    pub catalog: Option<&'static CatalogEntry>,
}

/// What is to be loaded.
#[derive(Clone, Debug)]
pub enum ChosenModel {
    Found(ResolvedModel),
    Bundled(&'static BundledModel),
}

impl ChosenModel {
    pub fn name(&self) -> &str {
        match self {
            ChosenModel::Found(model) => &model.name,
            ChosenModel::Bundled(model) => model.name,
        }
    }

    pub fn catalog(&self) -> Option<&'static CatalogEntry> {
        match self {
            ChosenModel::Found(model) => model.catalog,
            ChosenModel::Bundled(_) => None,
        }
    }

    /// The model as a loader takes it; a bundled one is unpacked into `data_dir` first.
    pub fn ready(self, data_dir: &Path) -> Result<ResolvedModel, HubError> {
        match self {
            ChosenModel::Found(model) => Ok(model),
            ChosenModel::Bundled(model) => model.unpack(&unpack_dir(data_dir)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// The user named a file or folder.
    Path,
    Cache,
    /// A demonstration model of the program's own.
    Bundled,
}

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("there is no {kind} model {name:?}; give a path or one of: {}", known.join(", "))]
    UnknownModel {
        name: String,
        kind: ModelKind,
        known: Vec<&'static str>,
    },
    #[error("model {name:?} is not on this machine; get it with: inglenook models pull {name}")]
    NotPulled { name: &'static str },
    #[error("{name:?} is {actual} model, but {wanted} model is needed", actual = article(*actual), wanted = article(*wanted))]
    WrongKind {
        name: String,
        actual: ModelKind,
        wanted: ModelKind,
    },
    #[error("model {name:?} cannot be run: {reason}")]
    Unsupported {
        name: &'static str,
        reason: &'static str,
    },
    #[error("{path} does not exist", path = path.display())]
    PathNotFound { path: PathBuf },
    #[error("{path} is not {wanted} model: {reason}", path = path.display(), wanted = article(*wanted))]
    NotAModel {
        path: PathBuf,
        wanted: ModelKind,
        reason: &'static str,
    },
    #[error("{url} does not exist (status 404)")]
    NotFound { url: String },
    #[error(
        "{url} may not be read (status {status}): accept the licence at {page} and give a token that may read it, or \
         check that the repository exists"
    )]
    AccessDenied {
        url: String,
        status: u16,
        page: String,
    },
    #[error("{url} answered with status {status}")]
    Status { url: String, status: u16 },
    #[error("{url} did not answer as a model hub does: {reason}")]
    BadResponse { url: String, reason: String },
    #[error(
        "downloading {url} failed {num_attempts} times without progress: {reason}; run the command again to go on"
    )]
    Connection {
        url: String,
        num_attempts: u32,
        reason: String,
    },
    #[error(
        "{file} arrived damaged and was deleted: its checksum is {actual}, not {expected}; pull the model again"
    )]
    WrongChecksum {
        file: String,
        expected: String,
        actual: String,
    },
    #[error("{dir} has {num_free_bytes} bytes free, but {num_needed_bytes} are needed", dir = dir.display())]
    DiskFull {
        dir: PathBuf,
        num_needed_bytes: u64,
        num_free_bytes: u64,
    },
    #[error("{repo} is being downloaded by another process")]
    Busy { repo: String },
    #[error("cannot use {path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl HubError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> HubError {
        move |source| HubError::Io {
            path: path.to_owned(),
            source,
        }
    }
}

fn article(kind: ModelKind) -> &'static str {
    match kind {
        ModelKind::Chat => "a chat",
        ModelKind::Embedding => "an embedding",
        ModelKind::Rerank => "a rerank",
    }
}

impl ModelCache {
    /// `dir` holds the `models--…` folders; by default the user's Hugging Face cache.
    pub fn new(dir: Option<PathBuf>) -> ModelCache {
        let cache = match (dir, std::env::home_dir()) {
            (Some(dir), _) => Cache::new(dir),
            (None, Some(home)) => Cache::new(home.join(".cache/huggingface/hub")),
            // A service without a home keeps models where it runs.
            (None, None) => Cache::new(".cache/huggingface/hub".into()),
        };
        ModelCache { cache }
    }

    pub fn dir(&self) -> &Path {
        self.cache.path()
    }

    /// Finds the model that `spec` names: a name of the catalog whose files are in the cache, a GGUF file (chat), or a
    /// folder with safetensors (any kind). A name of the catalog goes before a file of that name here; write `./name`.
    pub fn resolve(&self, spec: &str, kind: ModelKind) -> Result<ResolvedModel, HubError> {
        let Some(entry) = find(spec) else {
            return resolve_path(spec, kind);
        };
        if entry.kind != kind {
            return Err(HubError::WrongKind {
                name: spec.into(),
                actual: entry.kind,
                wanted: kind,
            });
        }
        entry.check_supported()?;
        self.find_entry(entry)
            .ok_or(HubError::NotPulled { name: &entry.name })
    }

    /// The model that was named, else the first of its kind that was pulled, else the one that comes with the program.
    /// The name `none` stands for no model. Nothing is written.
    pub fn choose(
        &self,
        named: Option<&str>,
        kind: ModelKind,
    ) -> Result<Option<ChosenModel>, HubError> {
        let is_kind = |model: &ResolvedModel| model.catalog.is_some_and(|entry| entry.kind == kind);
        match named {
            Some("none") => Ok(None),
            Some(name) => match bundled().find(|it| it.name == name) {
                Some(model) if model.kind != kind => Err(HubError::WrongKind {
                    name: name.into(),
                    actual: model.kind,
                    wanted: kind,
                }),
                Some(model) => Ok(Some(ChosenModel::Bundled(model))),
                None => Ok(Some(ChosenModel::Found(self.resolve(name, kind)?))),
            },
            None => Ok(match self.list().into_iter().find(is_kind) {
                Some(pulled) => Some(ChosenModel::Found(pulled)),
                None => bundled()
                    .find(|it| it.kind == kind)
                    .map(ChosenModel::Bundled),
            }),
        }
    }

    /// The models of the catalog that are here.
    pub fn list(&self) -> Vec<ResolvedModel> {
        catalog()
            .iter()
            .filter_map(|entry| self.find_entry(entry))
            .collect()
    }

    fn find_entry(&self, entry: &'static CatalogEntry) -> Option<ResolvedModel> {
        let repo = self.cache.repo(repo(entry));
        let files = entry
            .files
            .iter()
            .map(|file| repo.get(file))
            .collect::<Option<Vec<_>>>()?;
        let first = files.into_iter().next()?;
        let path = match entry.kind {
            ModelKind::Chat => first,
            ModelKind::Embedding | ModelKind::Rerank => first.parent()?.to_owned(),
        };
        Some(ResolvedModel {
            name: entry.name.clone(),
            source: ModelSource::Cache,
            path,
            catalog: Some(entry),
        })
    }
}

fn repo(entry: &CatalogEntry) -> Repo {
    Repo::with_revision(entry.repo.clone(), RepoType::Model, entry.revision.clone())
}

fn resolve_path(spec: &str, kind: ModelKind) -> Result<ResolvedModel, HubError> {
    let path = PathBuf::from(spec);
    if !path.exists() {
        let looks_like_a_path = spec.contains(['/', '\\']) || spec.ends_with(".gguf");
        return Err(match looks_like_a_path {
            true => HubError::PathNotFound { path },
            false => HubError::UnknownModel {
                name: spec.into(),
                kind,
                known: names(kind),
            },
        });
    }
    let reason = match kind {
        ModelKind::Chat if !path.is_file() && !is_chat_folder(&path) => Some(
            "it is neither a GGUF file nor a folder with a causal language model as config.json, tokenizer.json and \
             safetensors",
        ),
        ModelKind::Embedding | ModelKind::Rerank if !path.join("model.safetensors").is_file() => {
            Some("it is not a folder with model.safetensors, config.json and tokenizer.json")
        }
        _ => None,
    };
    if let Some(reason) = reason {
        return Err(HubError::NotAModel {
            path,
            wanted: kind,
            reason,
        });
    }
    let full = path.canonicalize().map_err(HubError::io(&path))?;
    let name = match full.is_file() {
        true => full.file_stem(),
        false => full.file_name(),
    };
    Ok(ResolvedModel {
        name: name.map_or_else(|| spec.into(), |name| name.to_string_lossy().into_owned()),
        source: ModelSource::Path,
        path,
        catalog: None,
    })
}

/// Whether a causal language model is there in Hugging Face's layout. Whether it can be computed, its loader sees.
fn is_chat_folder(path: &Path) -> bool {
    let has = |file: &str| path.join(file).is_file();
    let has_weights = has("model.safetensors") || has("model.safetensors.index.json");
    if !has("config.json") || !has("tokenizer.json") || !has_weights {
        return false;
    }
    let config = std::fs::read(path.join("config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
    let mut architectures = config["architectures"].as_array().into_iter().flatten();
    architectures.any(|name| name.as_str().is_some_and(|it| it.ends_with("ForCausalLM")))
}

/// The names of the catalog that may be used.
fn names(kind: ModelKind) -> Vec<&'static str> {
    catalog()
        .iter()
        .filter(|entry| entry.kind == kind && entry.check_supported().is_ok())
        .map(|entry| entry.name.as_str())
        .collect()
}
