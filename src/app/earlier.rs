//! Loads the embedding models of earlier, so that what they made the vectors of can be searched until it is embedded anew.

use anyhow::Context as _;

use super::load::{full_path, load_embedder};
use crate::config::Settings;
use crate::device::ComputeDevice;
use crate::embedding::Embedder;
use crate::hub::{ChosenModel, ModelCache, ModelKind};
use crate::rag::earlier::EarlierModel;
use crate::store::Store;

/// What this embedding model can be chosen by again, whatever the settings say then.
pub(super) fn loadable_name(model: &ChosenModel) -> String {
    match model {
        // A catalog name stays right when the cache moves.
        ChosenModel::Found(found) if found.catalog.is_some() => found.name.clone(),
        ChosenModel::Found(found) => full_path(&found.path),
        ChosenModel::Bundled(model) => model.name.to_owned(),
    }
}

/// The models that other documents have their vectors from, loaded where they can be. One that is not what it was then is
/// another model.
pub(super) async fn earlier_models(
    store: &Store,
    settings: &Settings,
    device: &ComputeDevice,
) -> anyhow::Result<Vec<EarlierModel>> {
    let mut models = Vec::new();
    for other in store.other_embedders().await? {
        let (name, wanted) = (other.name.clone(), other.id.hash.clone());
        let (settings, device) = (settings.clone(), device.clone());
        let load = move || -> anyhow::Result<Embedder> {
            let name = name.context("an earlier version did not note its name")?;
            let cache = ModelCache::new(settings.model_cache.clone());
            let chosen = cache.choose(Some(name.as_str()), ModelKind::Embedding)?;
            let found = chosen.context("it is none")?.ready(&settings.data_dir)?;
            let embedder = load_embedder(&found, &device.for_next_model(), &settings)?;
            anyhow::ensure!(embedder.spec().model_hash == wanted, "{name} was changed");
            Ok(embedder)
        };
        let loaded = tokio::task::spawn_blocking(load).await?;
        let embedder = loaded.inspect_err(|error| {
            tracing::warn!(%error, "the embedding model of {} documents cannot be loaded", other.num_documents);
        });
        models.push(EarlierModel::new(store, &other, embedder.ok()));
    }
    Ok(models)
}
