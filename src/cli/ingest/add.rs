//! Puts found files into the collection, one after the other, while those before them are read already.

use std::path::Path;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::find::{Found, find};
use crate::rag::extract::{ExtractError, Format, format_of};
use crate::store::{
    Attributes, Chunking, Content, Document, DocumentStatus, IfExists, NewDocument, NewFile,
    Password, Store,
};

/// What came of a file.
pub enum Added {
    Queued {
        name: String,
        document: Box<Document>,
    },
    /// The same content is there under this name.
    Unchanged {
        name: String,
    },
    /// Something in a folder that is no document.
    LeftOut,
    Failed {
        name: String,
        error: anyhow::Error,
    },
}

pub struct Adding {
    pub store: Store,
    pub collection: String,
    pub chunking: Chunking,
    /// For those of the documents that are encrypted.
    pub password: Option<Password>,
    /// Images are read too.
    pub recognises: bool,
}

/// A file as it is on disk.
struct Seen {
    sha256: String,
    is_document: bool,
}

impl Adding {
    /// Adds all that was typed, and tells of each; ends when nobody listens.
    pub async fn run(self, typed: Vec<String>, told: mpsc::Sender<Added>) {
        let found = tokio::task::spawn_blocking(move || find(&typed)).await;
        for found in found.unwrap_or_default() {
            let added = match found {
                Ok(found) => self.add(&found).await.unwrap_or_else(|error| {
                    let name = found.path.display().to_string();
                    Added::Failed { name, error }
                }),
                Err((name, error)) => Added::Failed { name, error },
            };
            if told.send(added).await.is_err() {
                return;
            }
        }
    }

    async fn add(&self, found: &Found) -> anyhow::Result<Added> {
        let (path, filename) = (found.path.clone(), found.name.clone());
        let recognises = self.recognises;
        let see = move || see(&path, &filename, recognises);
        let seen = tokio::task::spawn_blocking(see).await??;
        let name = found.path.display().to_string();
        let Some(seen) = seen else {
            anyhow::ensure!(!found.is_named, "is empty");
            return Ok(Added::LeftOut);
        };
        // What was typed itself is told why it cannot be read.
        if !seen.is_document && !found.is_named {
            return Ok(Added::LeftOut);
        }
        let same = self
            .store
            .same_document(&self.collection, &found.name, &seen.sha256)
            .await?;
        if let Some(document) = same {
            return Ok(queued_or_unchanged(name, document));
        }
        let new = NewFile {
            filename: found.name.clone(),
            purpose: "assistants".into(),
            media_type: mime_guess::from_path(&found.path)
                .first_or_octet_stream()
                .to_string(),
            expires_after_seconds: None,
        };
        let content = Content::Path(found.path.clone());
        let file = self.store.create_file(new, content).await?;
        let new = NewDocument {
            file_id: file.id.clone(),
            attributes: Attributes::new(),
            chunking: self.chunking,
            if_exists: IfExists::Replace,
            password: self.password.clone(),
        };
        let attached = self.store.attach_new(&self.collection, new).await?;
        if attached.is_unchanged {
            // Somebody else was quicker.
            self.store.delete_file(&file.id).await?;
        }
        Ok(queued_or_unchanged(name, attached.document))
    }
}

fn queued_or_unchanged(name: String, document: Document) -> Added {
    match document.status {
        DocumentStatus::InProgress => Added::Queued {
            name,
            document: Box::new(document),
        },
        _ => Added::Unchanged { name },
    }
}

/// `None` of an empty file.
fn see(path: &Path, filename: &str, recognises: bool) -> anyhow::Result<Option<Seen>> {
    let bytes = std::fs::read(path).map_err(|error| anyhow::anyhow!("cannot be read: {error}"))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let is_document = match format_of(&bytes, filename) {
        Ok(Format::Image) => recognises,
        Err(ExtractError::UnsupportedFormat { .. }) => false,
        _ => true,
    };
    let digest = Sha256::digest(&bytes);
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(Seen {
        sha256,
        is_document,
    }))
}
