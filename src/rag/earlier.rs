//! The embedding models that made the vectors of documents before the one of now. Until those are embedded anew, questions
//! are embedded by each model whose vectors are searched; scores of different models are never compared as they are.

use std::sync::{Arc, PoisonError, RwLock};

use crate::embedding::Embedder;
use crate::rag::default_min_similarity;
use crate::store::{OtherEmbedder, Store, StoreError};

/// All of them. Cheap to clone.
#[derive(Clone, Default)]
pub struct EarlierModels {
    models: Arc<RwLock<Vec<EarlierModel>>>,
}

/// One of them, and how what it made is searched.
#[derive(Clone)]
pub struct EarlierModel {
    pub embedder_hash: String,
    /// What it was loaded by, where that is known.
    pub name: Option<String>,
    /// `None` when it cannot be loaded: its documents are found by their words only.
    pub embedder: Option<Embedder>,
    /// Finds what it made the vectors of.
    pub store: Store,
}

impl EarlierModel {
    pub fn new(store: &Store, other: &OtherEmbedder, embedder: Option<Embedder>) -> Self {
        Self {
            embedder_hash: other.id.hash.clone(),
            name: other.name.clone(),
            embedder,
            store: store.of_embedder(other.id.clone()),
        }
    }

    /// Its cosine similarity as that of a model with this floor: the similarity of unrelated texts stays that, and 1
    /// stays 1.
    pub fn rescaled(&self, similarity: f32, min_similarity: f32) -> f32 {
        let own = self.embedder.as_ref();
        let own = own.map_or(0.0, |it| default_min_similarity(it.spec().pooling));
        rescaled(similarity, own, min_similarity)
    }
}

fn rescaled(similarity: f32, from: f32, to: f32) -> f32 {
    1.0 - (1.0 - similarity) * (1.0 - to) / (1.0 - from).max(f32::MIN_POSITIVE)
}

impl EarlierModels {
    pub fn new(models: Vec<EarlierModel>) -> Self {
        Self {
            models: Arc::new(RwLock::new(models)),
        }
    }

    /// Those of which documents are left. The others end, and so does their memory.
    pub async fn in_use(&self, store: &Store) -> Result<Vec<EarlierModel>, StoreError> {
        if self.all().is_empty() {
            return Ok(Vec::new());
        }
        let left = store.other_embedders().await?;
        let is_left = |model: &EarlierModel| {
            left.iter()
                .any(|other| other.id.hash == model.embedder_hash)
        };
        let (in_use, ended): (Vec<_>, Vec<_>) = self.all().into_iter().partition(is_left);
        if !ended.is_empty() {
            *self.models.write().unwrap_or_else(PoisonError::into_inner) = in_use.clone();
        }
        for model in ended {
            model.store.delete_vector_index_file().await?;
        }
        Ok(in_use)
    }

    /// Saves what makes the next start fast. Nothing is lost without it.
    pub async fn flush(&self) -> Result<(), StoreError> {
        for model in self.all() {
            model.store.save_vector_index().await?;
        }
        Ok(())
    }

    /// What a reader should know of documents whose vectors another model made.
    pub async fn notices(&self, store: &Store) -> Result<Vec<String>, StoreError> {
        let left = store.other_embedders().await?;
        let models = self.all();
        let notice = |other: &OtherEmbedder| {
            let known = models.iter().find(|it| it.embedder_hash == other.id.hash);
            let (count, name) = (
                other.num_documents,
                other.name.as_deref().unwrap_or("another model"),
            );
            match known.is_some_and(|it| it.embedder.is_some()) {
                true => format!(
                    "{count} documents were embedded by {name}, which is loaded beside the embedding model to search them; \
                     embed them anew with: inglenook reembed"
                ),
                false => format!(
                    "{count} documents were embedded by {name}, which cannot be loaded, and are found by their words only; \
                     embed them anew with: inglenook reembed"
                ),
            }
        };
        Ok(left.iter().map(notice).collect())
    }

    fn all(&self) -> Vec<EarlierModel> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::rescaled;

    #[test]
    fn a_rescaled_similarity_keeps_its_floor_and_its_most() {
        for (from, to) in [(0.5, 0.2), (0.2, 0.5), (0.2, 0.2)] {
            assert!((rescaled(from, from, to) - to).abs() < 1e-6);
            assert!((rescaled(1.0, from, to) - 1.0).abs() < 1e-6);
        }
        assert!((rescaled(0.75, 0.5, 0.2) - 0.6).abs() < 1e-6);
    }
}
