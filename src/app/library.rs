//! The models on this machine, as the pool of `rag` asks for them: named by the settings, pulled, or bundled. Never takes
//! a path from a request.

use std::path::Path;

use super::kv_cache;
use super::load::{load_chat, load_embedder, load_reranker};
use super::model_details::DetailsCache;
use super::placement;
use crate::config::Settings;
use crate::device::ComputeDevice;
use crate::hub::{self, ChosenModel, ModelCache, ResolvedModel};
use crate::rag::models::{
    LoadError, LoadedModel, ModelDetails, ModelEntry, ModelKind, ModelLibrary, Room,
};

pub struct Library {
    pub settings: Settings,
    pub device: ComputeDevice,
    pub cache: ModelCache,
    /// What the settings name, or what stands in where they name nothing.
    pub defaults: Vec<(hub::ModelKind, ChosenModel)>,
    pub details: DetailsCache,
}

impl Library {
    /// Every model once, by name: what the settings name goes before a pulled one, and that before a bundled one.
    fn models(&self) -> Vec<(ModelKind, ChosenModel)> {
        let pulled = self.cache.list().into_iter().filter_map(|model| {
            let entry = model.catalog.filter(|entry| entry.unsupported.is_none())?;
            Some((kind(entry.kind), ChosenModel::Found(model)))
        });
        let bundled = hub::bundled()
            .filter(|model| !self.wants_none(kind(model.kind)))
            .map(|model| (kind(model.kind), ChosenModel::Bundled(model)));
        let defaults = self.defaults.iter().cloned();
        let defaults = defaults.map(|(it, model)| (kind(it), model));
        let mut models: Vec<(ModelKind, ChosenModel)> = Vec::new();
        for (kind, model) in defaults.chain(pulled).chain(bundled) {
            if models.iter().all(|(_, other)| other.name() != model.name()) {
                models.push((kind, model));
            }
        }
        models
    }

    /// Who wants no model of a kind need not see the one that comes with the program.
    fn wants_none(&self, kind: ModelKind) -> bool {
        let named = match kind {
            ModelKind::Chat => &self.settings.chat_model,
            ModelKind::Embedding => &self.settings.embedding_model,
            // None comes with the program.
            ModelKind::Rerank => return false,
        };
        named.as_deref() == Some("none")
    }

    /// The model with its files ready to be read.
    fn ready(&self, id: &str) -> Result<(ModelKind, ResolvedModel), LoadError> {
        let mut models = self.models().into_iter();
        let (kind, model) = models
            .find(|(_, model)| model.name() == id)
            .ok_or_else(|| LoadError::Unknown {
                name: id.to_owned(),
                hint: self.hint(id),
            })?;
        let found = model.ready(&self.settings.data_dir).map_err(failed)?;
        Ok((kind, found))
    }
}

impl ModelLibrary for Library {
    fn list(&self) -> Vec<ModelEntry> {
        let max_context = kv_cache::max_context(&self.settings);
        let entry = |(kind, model): (ModelKind, ChosenModel)| {
            let context_length = model.catalog().map(|entry| entry.context_length);
            ModelEntry {
                id: model.name().to_owned(),
                kind,
                context_length: match kind {
                    ModelKind::Chat => context_length.map(|length| length.min(max_context)),
                    ModelKind::Embedding | ModelKind::Rerank => context_length,
                },
                is_demonstration: matches!(model, ChosenModel::Bundled(_)),
            }
        };
        self.models().into_iter().map(entry).collect()
    }

    fn hint(&self, name: &str) -> Option<String> {
        let entry = hub::find(name)?;
        let missing = self.cache.resolve(&entry.name, entry.kind).err()?;
        Some(missing.to_string())
    }

    fn details(&self, id: &str) -> Result<ModelDetails, LoadError> {
        let (_, found) = self.ready(id)?;
        self.details.details(&found.path).map_err(failed)
    }

    fn rooms(&self, id: &str) -> Result<Vec<Room>, LoadError> {
        let (kind, found) = self.ready(id)?;
        let path = &found.path;
        match kind {
            ModelKind::Chat => placement::rooms_of_chat(path, &self.device, &self.settings)
                .map_err(|error| cannot_read(path, &error)),
            ModelKind::Embedding | ModelKind::Rerank => {
                placement::rooms_of_encoder(path, &self.device).map_err(failed)
            }
        }
    }

    fn free_memory(&self) -> Option<u64> {
        Some(self.device.on(None).memory()?.available_bytes)
    }

    fn load(&self, id: &str, room: &Room) -> Result<LoadedModel, LoadError> {
        let (kind, found) = self.ready(id)?;
        let device = &self.device.on(room.processor);
        let loaded = match kind {
            ModelKind::Chat => {
                let loaded = load_chat(&found, device, &self.settings, room.free_bytes);
                loaded.map(LoadedModel::Chat)
            }
            ModelKind::Embedding => {
                load_embedder(&found, device, &self.settings).map(LoadedModel::Embedder)
            }
            ModelKind::Rerank => {
                load_reranker(&found, device, &self.settings).map(LoadedModel::Reranker)
            }
        };
        loaded.map_err(|error| LoadError::Failed {
            reason: format!("{error:#}"),
        })
    }
}

/// The pool's word for a kind of the catalog.
fn kind(kind: hub::ModelKind) -> ModelKind {
    match kind {
        hub::ModelKind::Chat => ModelKind::Chat,
        hub::ModelKind::Embedding => ModelKind::Embedding,
        hub::ModelKind::Rerank => ModelKind::Rerank,
    }
}

/// Bytes of a GGUF file, or of the weights in a folder.
pub fn size_on_disk(path: &Path) -> std::io::Result<u64> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut num_bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "safetensors") {
            num_bytes += std::fs::metadata(&path)?.len();
        }
    }
    Ok(num_bytes)
}

fn cannot_read(path: &Path, error: &dyn std::fmt::Display) -> LoadError {
    LoadError::Failed {
        reason: format!(
            "cannot load the chat model from {}: {error}",
            path.display()
        ),
    }
}

fn failed(error: impl std::fmt::Display) -> LoadError {
    LoadError::Failed {
        reason: error.to_string(),
    }
}
