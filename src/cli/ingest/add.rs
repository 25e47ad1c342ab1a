//! Puts found files into the collection, one after the other, while those before them are read already.

use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::find::{Found, Missed, find, shown};
use crate::rag::extract::{ExtractError, Format, format_of, known_advice};
use crate::store::{
    Attached, Attributes, Chunking, Content, Document, DocumentStatus, IfExists, NewDocument,
    NewFile, NewSource, Origin, Password, Store,
};

/// What came of a file.
pub enum Added {
    Queued {
        name: String,
        document: Box<Document>,
    },
    /// The same content of this file is there.
    Unchanged {
        name: String,
    },
    /// Something in a folder that is no document, and why.
    LeftOut {
        name: String,
        reason: String,
    },
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
    bytes: Vec<u8>,
    sha256: String,
    /// Why it is no document, where it is none.
    unfit: Option<String>,
}

impl Adding {
    /// Adds all that was typed, and tells of each; ends when nobody listens.
    pub async fn run(self, typed: Vec<String>, told: mpsc::Sender<Added>) {
        let found = tokio::task::spawn_blocking(move || find(&typed)).await;
        for found in found.unwrap_or_default() {
            let added = match found {
                Ok(found) => self.add(&found).await.unwrap_or_else(|error| {
                    let name = shown(&found.path.to_string_lossy());
                    Added::Failed { name, error }
                }),
                Err(Missed::LeadsOut(path)) => Added::LeftOut {
                    name: shown(&path.to_string_lossy()),
                    reason: "it is a link that leads out of the folder".into(),
                },
                Err(Missed::Failed { name, error }) => Added::Failed { name, error },
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
        let name = shown(&found.path.to_string_lossy());
        // What was typed itself is kept with the reason why it cannot be read, unless there is nothing to keep.
        if let Some(reason) = seen.unfit.clone().filter(|_| !found.is_named) {
            return Ok(Added::LeftOut { name, reason });
        }
        anyhow::ensure!(!seen.bytes.is_empty(), "is empty");
        let attached = self.attached(found, seen).await?;
        Ok(queued_or_unchanged(name, attached))
    }

    /// The document of a file, told by its path; other files of the same name are left alone.
    async fn attached(&self, found: &Found, seen: Seen) -> anyhow::Result<Attached> {
        let address = address(&found.path)?;
        let (store, collection) = (&self.store, &self.collection);
        let known = store
            .source(collection, &Origin::Ingested, &address)
            .await?
            .filter(|known| known.sha256 == seen.sha256);
        let failed = [DocumentStatus::Failed, DocumentStatus::Cancelled];
        if let Some(known) = known
            && let Some(file_id) = known.file_id
            && known.status.is_some_and(|it| failed.contains(&it))
        {
            // What failed once is tried again, perhaps with another password.
            let new = NewDocument {
                file_id,
                attributes: Attributes::new(),
                chunking: self.chunking,
                has_own_chunking: false,
                if_exists: IfExists::Keep,
                password: self.password.clone(),
            };
            return Ok(store.attach_new(collection, new).await?);
        }
        let new = NewSource {
            origin: Origin::Ingested,
            address,
            // Its bytes are compared.
            version: String::new(),
            file: NewFile {
                filename: found.name.clone(),
                purpose: "assistants".into(),
                media_type: mime_guess::from_path(&found.path)
                    .first_or_octet_stream()
                    .to_string(),
                expires_after_seconds: None,
            },
            content: Content::Bytes(seen.bytes),
            attributes: Attributes::new(),
            chunking: self.chunking,
            password: self.password.clone(),
        };
        let kept = store.keep_source(collection, new).await?;
        Ok(Attached {
            document: store.document(collection, &kept.file_id).await?,
            is_unchanged: kept.is_unchanged,
        })
    }
}

/// What a file is known by: its full path, behind links. One that is not UTF-8 is escaped.
fn address(path: &Path) -> anyhow::Result<String> {
    let full = std::fs::canonicalize(path).context("cannot be read")?;
    let bytes = full.as_os_str().as_encoded_bytes();
    Ok(match full.to_str() {
        Some(text) => text.to_owned(),
        None => bytes.escape_ascii().to_string(),
    })
}

fn queued_or_unchanged(name: String, attached: Attached) -> Added {
    let document = attached.document;
    match attached.is_unchanged && document.status != DocumentStatus::InProgress {
        true => Added::Unchanged { name },
        // A short one may have come to its end by now.
        false => Added::Queued {
            name,
            document: Box::new(document),
        },
    }
}

fn see(path: &Path, filename: &str, recognises: bool) -> anyhow::Result<Seen> {
    let bytes = std::fs::read(path).map_err(|error| anyhow::anyhow!("cannot be read: {error}"))?;
    let unfit = match format_of(&bytes, filename) {
        _ if bytes.is_empty() => Some("it is empty".to_owned()),
        Ok(Format::Image) if !recognises => {
            Some("it is an image, and reading these needs tesseract and the setting ocr".to_owned())
        }
        Err(ExtractError::UnsupportedFormat { found, .. }) => {
            let advice = known_advice(&found).map(|advice| format!("; {advice}"));
            let advice = advice.unwrap_or_default();
            Some(format!("it is {found}, which is not supported{advice}"))
        }
        _ => None,
    };
    let digest = Sha256::digest(&bytes);
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Seen {
        bytes,
        sha256,
        unfit,
    })
}
