//! Follows the unfinished documents of a vector store, whichever process works on them, by looking again and again. Who
//! stops asking costs nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::store::{Document, LastLook, Look, Stage, Store, StoreError};

/// How often is looked.
const PERIOD: Duration = Duration::from_millis(250);

/// What has happened to a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is new, further than before, or finished.
    Document(Document),
    /// As it was last.
    Deleted(Document),
}

/// Who follows, and what was seen last.
pub struct Follower {
    store: Store,
    vector_store_id: String,
    unfinished: BTreeMap<i64, Document>,
}

impl Follower {
    /// With the first look.
    pub async fn begin(store: Store, vector_store_id: &str) -> Result<Self, StoreError> {
        let look = store
            .look_at_unfinished(vector_store_id, LastLook::default())
            .await?;
        let documents = look.documents.into_iter();
        Ok(Self {
            store,
            vector_store_id: vector_store_id.to_owned(),
            unfinished: documents.map(|document| (document.id, document)).collect(),
        })
    }

    /// The documents that were unfinished at the last look, by their age.
    pub fn unfinished(&self) -> impl Iterator<Item = &Document> {
        self.unfinished.values()
    }

    /// Waits for the next changes; `None` when nothing is unfinished any more.
    pub async fn next(&mut self) -> Result<Option<Vec<Change>>, StoreError> {
        while !self.unfinished.is_empty() {
            tokio::time::sleep(PERIOD).await;
            let is_queued = |it: &&Document| it.stage == Some(Stage::Queued);
            let last = LastLook {
                unfinished: self.unfinished.keys().copied().collect(),
                queued: self
                    .unfinished()
                    .filter(is_queued)
                    .map(|it| it.id)
                    .collect(),
            };
            let look = self.store.look_at_unfinished(&self.vector_store_id, last);
            let changes = match look.await {
                Ok(look) => self.changes(look),
                // The vector store has been deleted, and all it had with it.
                Err(StoreError::NotFound { .. }) => {
                    let gone = std::mem::take(&mut self.unfinished);
                    gone.into_values().map(Change::Deleted).collect()
                }
                Err(other) => return Err(other),
            };
            if !changes.is_empty() {
                return Ok(Some(changes));
            }
        }
        Ok(None)
    }

    fn changes(&mut self, look: Look) -> Vec<Change> {
        let mut changes = Vec::new();
        for id in look.deleted {
            changes.extend(self.unfinished.remove(&id).map(Change::Deleted));
        }
        for document in look.documents {
            let before = match document.stage {
                Some(_) => self.unfinished.insert(document.id, document.clone()),
                None => self.unfinished.remove(&document.id),
            };
            if before.as_ref() != Some(&document) {
                changes.push(Change::Document(document));
            }
        }
        changes
    }
}
