//! Loads one model from its files, whoever asked for it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::kv_cache;
use super::placement;
use crate::config::Settings;
use crate::device::ComputeDevice;
use crate::embedding::{Embedder, EmbedderOptions, Precision, Reranker, RerankerOptions};
use crate::engine::{Engine, EngineConfig, Speculation};
use crate::hub::{ModelCache, ModelKind, ResolvedModel};
use crate::llm::gguf::GgufFile;
use crate::llm::{Decoder, LanguageModel};
use crate::rag::generate::ChatModel;
use crate::tokenizer::Tokenizer;

/// One chat model by itself, and where it runs.
pub fn load_chat_model(settings: &Settings, name: &str) -> anyhow::Result<(ChatModel, String)> {
    let all = ComputeDevice::select(settings.device.parse()?)?;
    let cache = ModelCache::new(settings.model_cache.clone());
    let chosen = cache.choose(Some(name), ModelKind::Chat)?;
    let chosen = chosen.context("none is no model; name one of: inglenook models")?;
    let found = chosen.ready(&settings.data_dir)?;
    let rooms = placement::rooms_of_chat(&found.path, &all, settings)?;
    let room = placement::first_with_room(&rooms);
    let device = all.on(room.and_then(|room| room.processor));
    Ok((
        load_chat(&found, &device, settings, None)?,
        device.name().to_owned(),
    ))
}

pub(super) fn load_embedder(
    found: &ResolvedModel,
    device: &ComputeDevice,
    settings: &Settings,
) -> anyhow::Result<Embedder> {
    let dir = &found.path;
    let entry = found.catalog;
    let options = EmbedderOptions {
        name: Some(found.name.clone()),
        pooling: entry.and_then(|entry| entry.pooling),
        query_instruction: entry.and_then(|entry| entry.query_instruction.clone()),
        passage_instruction: entry.and_then(|entry| entry.passage_instruction.clone()),
        device: Some(device.candle().clone()),
        precision: precision(settings)?,
    };
    let embedder = Embedder::load(dir, options)
        .with_context(|| format!("cannot load the embedding model from {}", dir.display()))?;
    tracing::info!(
        model = found.name,
        path = full_path(dir),
        weights = gib(embedder.spec().memory_bytes as u64),
        "loaded an embedding model"
    );
    Ok(embedder)
}

fn precision(settings: &Settings) -> anyhow::Result<Precision> {
    let precision = settings.encoder_precision.parse();
    precision.map_err(anyhow::Error::msg)
}

pub(super) fn load_reranker(
    found: &ResolvedModel,
    device: &ComputeDevice,
    settings: &Settings,
) -> anyhow::Result<Reranker> {
    let dir = &found.path;
    let options = RerankerOptions {
        name: Some(found.name.clone()),
        device: Some(device.candle().clone()),
        precision: precision(settings)?,
    };
    let reranker = Reranker::load(dir, options)
        .with_context(|| format!("cannot load the rerank model from {}", dir.display()))?;
    tracing::info!(
        model = found.name,
        path = full_path(dir),
        weights = gib(reranker.spec().memory_bytes as u64),
        "loaded a rerank model"
    );
    Ok(reranker)
}

pub(super) fn load_chat(
    found: &ResolvedModel,
    device: &ComputeDevice,
    settings: &Settings,
    free_bytes: Option<u64>,
) -> anyhow::Result<ChatModel> {
    let path = &found.path;
    let what = || format!("cannot load the chat model from {}", path.display());
    let needs = kv_cache::needs(device, path, settings).with_context(what)?;
    let free_bytes = free_bytes.or_else(|| Some(device.memory()?.available_bytes));
    let mut options = kv_cache::load_options(settings, needs, free_bytes)?;
    if device.devices().len() > 1 {
        let free_bytes = device.free_bytes_of_each();
        options = kv_cache::shared_options(path, options, needs.least_cache_bytes, &free_bytes)?;
    }
    let (tokenizer, decoder) = if path.is_dir() {
        let tokenizer = Tokenizer::from_dir(path).with_context(what)?;
        let decoder = Decoder::open(path, device, &options).with_context(what)?;
        (tokenizer, decoder)
    } else {
        let gguf = GgufFile::open(path).with_context(what)?;
        let tokenizer = Tokenizer::from_gguf(&gguf).with_context(what)?;
        let decoder = Decoder::load(&gguf, device, &options).with_context(what)?;
        (tokenizer, decoder)
    };
    let spec = decoder.spec().clone();
    let speculation = match settings.speculation.parse()? {
        // Whether drafts pay there has not been measured.
        Speculation::WhereFaster if !device.is_cpu() => Speculation::Off,
        chosen => chosen,
    };
    let config = EngineConfig {
        max_waiting: settings.max_waiting,
        speculation,
        ..EngineConfig::default()
    };
    let engine = Engine::start(Box::new(decoder), config);
    let chat = ChatModel::new(found.name.clone(), engine, tokenizer).with_context(what)?;
    tracing::info!(
        model = found.name,
        path = full_path(path),
        architecture = spec.architecture,
        weights = gib(spec.weights_bytes),
        cache = gib(spec.cache_bytes),
        cache_tokens = spec.num_blocks * spec.block_size,
        context = chat.context_length(),
        "loaded a chat model"
    );
    Ok(chat)
}

pub(super) fn full_path(path: &Path) -> String {
    let full: PathBuf = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    full.display().to_string()
}

pub(super) fn gib(bytes: u64) -> String {
    const GIB: f64 = (1u64 << 30) as f64;
    const MIB: f64 = (1u64 << 20) as f64;
    let bytes = bytes as f64;
    if bytes >= GIB {
        format!("{:.1} GiB", bytes / GIB)
    } else {
        format!("{:.1} MiB", bytes / MIB)
    }
}
