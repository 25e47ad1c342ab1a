//! The models that can be pulled by name, from `models/catalog.toml`. The catalog is part of the program: it is never
//! fetched and never guessed at.

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;

use super::HubError;
use crate::embedding::Pooling;

static CATALOG: LazyLock<Vec<CatalogEntry>> = LazyLock::new(|| {
    parse(include_str!("../../models/catalog.toml")).expect("a test reads the built-in catalog")
});

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    Chat,
    Embedding,
    Rerank,
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModelKind::Chat => "chat",
            ModelKind::Embedding => "embedding",
            ModelKind::Rerank => "rerank",
        })
    }
}

/// One model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogEntry {
    pub name: String,
    pub kind: ModelKind,
    /// `owner/name` on the hub.
    pub repo: String,
    #[serde(default = "main_revision")]
    pub revision: String,
    /// What the model needs: the GGUF file of a chat model, the files of an embedding or rerank model.
    pub files: Vec<String>,
    /// Pulled where they exist.
    #[serde(default)]
    pub optional_files: Vec<String>,
    /// As an SPDX identifier where there is one.
    pub license: String,
    /// Of all files together, in units of 10^6 bytes.
    pub approximate_size_mb: Option<u64>,
    /// The longest context or input in tokens that the model was made for.
    pub context_length: usize,
    /// What a reader of the list should know.
    #[serde(default)]
    pub note: String,
    /// Embedding models: how the tokens' vectors become one.
    pub pooling: Option<Pooling>,
    #[serde(default)]
    pub query_instruction: Option<String>,
    #[serde(default)]
    pub passage_instruction: Option<String>,
    /// Why the model cannot be run, where it cannot; listed so that its name gets an answer.
    #[serde(default)]
    pub unsupported: Option<String>,
}

impl CatalogEntry {
    pub(super) fn check_supported(&'static self) -> Result<(), HubError> {
        match &self.unsupported {
            Some(reason) => Err(HubError::Unsupported {
                name: &self.name,
                reason,
            }),
            None => Ok(()),
        }
    }
}

/// All models, in the order in which to show them.
pub fn catalog() -> &'static [CatalogEntry] {
    &CATALOG
}

pub fn find(name: &str) -> Option<&'static CatalogEntry> {
    catalog().iter().find(|entry| entry.name == name)
}

fn main_revision() -> String {
    "main".into()
}

fn parse(text: &str) -> Result<Vec<CatalogEntry>, String> {
    #[derive(Deserialize)]
    struct File {
        model: Vec<CatalogEntry>,
    }
    let entries = toml::from_str::<File>(text)
        .map_err(|error| error.to_string())?
        .model;
    let mut names = HashSet::new();
    for entry in &entries {
        check(entry).map_err(|problem| format!("{}: {problem}", entry.name))?;
        if !names.insert(&entry.name) {
            return Err(format!("{}: named twice", entry.name));
        }
    }
    Ok(entries)
}

fn check(entry: &CatalogEntry) -> Result<(), &'static str> {
    // A name goes into commands and URLs as it is.
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !name.starts_with('.')
    };
    if !is_name(&entry.name) {
        return Err("not a plain name");
    }
    match entry.repo.split_once('/') {
        Some((owner, name)) if is_name(owner) && is_name(name) => {}
        _ => return Err("repo is not owner/name"),
    }
    if !is_name(&entry.revision) {
        return Err("not a plain revision");
    }
    let mut files = entry.files.iter().chain(&entry.optional_files);
    if entry.files.is_empty() || !files.all(|file| file.split('/').all(is_name)) {
        return Err("files are missing or outside the repository");
    }
    if entry.license.is_empty() || entry.context_length == 0 {
        return Err("license or context_length is missing");
    }
    let has = |name: &str| entry.files.iter().any(|file| file == name);
    match entry.kind {
        ModelKind::Chat if entry.files.len() != 1 || !entry.files[0].ends_with(".gguf") => {
            Err("a chat model is one GGUF file")
        }
        ModelKind::Chat | ModelKind::Rerank if entry.pooling.is_some() => {
            Err("pooling is for embedding models")
        }
        ModelKind::Embedding if entry.unsupported.is_some() => Ok(()),
        ModelKind::Embedding if entry.pooling.is_none() => Err("pooling is missing"),
        // The first file decides which folder is the model's.
        ModelKind::Embedding | ModelKind::Rerank if entry.files[0] != "config.json" => {
            Err("config.json must be the first file")
        }
        ModelKind::Embedding | ModelKind::Rerank
            if !has("tokenizer.json") || !has("model.safetensors") =>
        {
            Err("an embedding or rerank model needs tokenizer.json and model.safetensors")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalog_is_valid() {
        let entries = parse(include_str!("../../models/catalog.toml")).unwrap();
        for kind in [ModelKind::Chat, ModelKind::Embedding, ModelKind::Rerank] {
            assert!(
                entries
                    .iter()
                    .any(|entry| entry.kind == kind && entry.unsupported.is_none())
            );
        }
        assert_eq!(
            find("bge-small-en-v1.5").unwrap().pooling,
            Some(Pooling::Cls)
        );
        assert_eq!(catalog().len(), entries.len());
    }

    #[test]
    fn a_catalog_with_a_mistake_is_refused() {
        let good = "[[model]]\nname = \"a\"\nkind = \"chat\"\nrepo = \"o/r\"\nfiles = [\"a.gguf\"]\nlicense = \"MIT\"\ncontext_length = 1\n";
        assert!(parse(good).is_ok());
        assert!(parse(&good.repeat(2)).unwrap_err().contains("twice"));
        for (from, to) in [
            ("o/r", "o"),
            ("o/r", "o/../r"),
            ("\"a.gguf\"", "\"../a.gguf\""),
            ("\"a.gguf\"", "\"/a.gguf\""),
            ("\"a.gguf\"", "\"a.bin\""),
            ("\"a.gguf\"", ""),
            ("name = \"a\"", "name = \"a b\""),
            ("MIT", ""),
            ("\"chat\"", "\"embedding\""),
            ("\"chat\"", "\"rerank\""),
            ("\"chat\"", "\"speech\""),
            ("license", "licence"),
        ] {
            assert!(good.contains(from));
            assert!(parse(&good.replace(from, to)).is_err(), "{from} -> {to}");
        }
    }
}
