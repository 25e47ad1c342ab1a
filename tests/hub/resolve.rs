//! Finding models without the network: by a name of the catalog, by a path, and by mistake.

use std::path::Path;

use inglenook::embedding::Pooling;
use inglenook::hub::{CatalogEntry, HubError, ModelCache, ModelKind, ModelSource, find};

use crate::COMMIT;

/// Puts an empty file for each of the entry's files into a cache.
fn fake_pull(cache: &Path, entry: &CatalogEntry) {
    let repo = cache.join(format!("models--{}", entry.repo.replace('/', "--")));
    for file in &entry.files {
        let path = repo.join("snapshots").join(COMMIT).join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    std::fs::create_dir_all(repo.join("refs")).unwrap();
    std::fs::write(repo.join("refs/main"), COMMIT).unwrap();
}

#[test]
fn a_name_is_found_in_the_cache_or_answered_with_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let cache = ModelCache::new(Some(dir.path().into()));
    let error = cache.resolve("qwen3-0.6b", ModelKind::Chat).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("inglenook models pull qwen3-0.6b"),
        "{error}"
    );
    assert!(cache.list().is_empty());

    for name in ["qwen3-0.6b", "bge-small-en-v1.5"] {
        fake_pull(dir.path(), find(name).unwrap());
    }
    let chat = cache.resolve("qwen3-0.6b", ModelKind::Chat).unwrap();
    assert!(chat.path.ends_with("Qwen3-0.6B-Q8_0.gguf"));
    let embedder = cache
        .resolve("bge-small-en-v1.5", ModelKind::Embedding)
        .unwrap();
    assert!(embedder.path.join("model.safetensors").exists());
    assert_eq!(embedder.catalog.unwrap().pooling, Some(Pooling::Cls));
    let listed: Vec<String> = cache.list().into_iter().map(|model| model.name).collect();
    assert_eq!(listed, ["qwen3-0.6b", "bge-small-en-v1.5"]);

    std::fs::remove_file(embedder.path.join("tokenizer.json")).unwrap();
    assert!(matches!(
        cache.resolve("bge-small-en-v1.5", ModelKind::Embedding),
        Err(HubError::NotPulled { .. })
    ));
}

#[test]
fn paths_are_taken_and_mistakes_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let cache = ModelCache::new(Some(dir.path().into()));
    let gguf = dir.path().join("mine.gguf");
    std::fs::write(&gguf, "GGUF").unwrap();
    let model = cache
        .resolve(gguf.to_str().unwrap(), ModelKind::Chat)
        .unwrap();
    assert_eq!(
        (model.name.as_str(), model.source),
        ("mine", ModelSource::Path)
    );
    assert_eq!(model.path, gguf);

    let folder = dir.path().join("bert");
    inglenook::embedding::testing::write_tiny_bert({
        std::fs::create_dir(&folder).unwrap();
        &folder
    })
    .unwrap();
    let model = cache
        .resolve(folder.to_str().unwrap(), ModelKind::Embedding)
        .unwrap();
    assert_eq!(model.name, "bert");

    let llama = dir.path().join("Tiny-0.1B");
    std::fs::create_dir(&llama).unwrap();
    for (file, text) in [
        ("config.json", r#"{"architectures":["LlamaForCausalLM"]}"#),
        ("tokenizer.json", "{}"),
        ("model.safetensors.index.json", "{}"),
    ] {
        assert!(
            cache
                .resolve(llama.to_str().unwrap(), ModelKind::Chat)
                .is_err()
        );
        std::fs::write(llama.join(file), text).unwrap();
    }
    let model = cache
        .resolve(llama.to_str().unwrap(), ModelKind::Chat)
        .unwrap();
    assert_eq!((model.name.as_str(), model.path), ("Tiny-0.1B", llama));

    let error = |spec: &str, kind| cache.resolve(spec, kind).unwrap_err().to_string();
    assert!(error(folder.to_str().unwrap(), ModelKind::Chat).contains("not a chat model"));
    assert!(error(gguf.to_str().unwrap(), ModelKind::Embedding).contains("model.safetensors"));
    assert!(error("./absent.gguf", ModelKind::Chat).contains("does not exist"));
    assert!(error("gpt-5", ModelKind::Chat).contains("qwen3-4b"));
    assert!(error("bge-small-en-v1.5", ModelKind::Chat).contains("an embedding model"));
    assert!(error("bge-m3", ModelKind::Embedding).contains("cannot be run"));
    assert!(!error("unknown", ModelKind::Embedding).contains("bge-m3"));
}
