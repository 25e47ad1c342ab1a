//! Joins the parts: chooses the device, loads models, opens the store, starts ingestion, and ends all of it in order.

mod earlier;
mod imports;
mod kv_cache;
mod library;
mod model_details;
mod pull;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{OcrMode, Settings, Switch, program_on_path};
use crate::device::{ComputeDevice, DeviceChoice};
use crate::embedding::{Embedder, EmbedderOptions, Precision, Reranker, RerankerOptions};
use crate::engine::{Engine, EngineConfig, Speculation};
use crate::http::{self, Context, HttpOptions, NO_CHAT_MODEL, NO_EMBEDDING_MODEL};
use crate::hub::{ChosenModel, ModelCache, ModelKind, ResolvedModel};
use crate::llm::gguf::GgufFile;
use crate::llm::{Decoder, LanguageModel};
use crate::rag::answer_cache::AnswerCache;
use crate::rag::attached::FileReader;
use crate::rag::earlier::EarlierModels;
use crate::rag::expiry::Expiry;
use crate::rag::extract::{ExtractLimits, Recognition, Recognizer};
use crate::rag::generate::ChatModel;
use crate::rag::import::Importer;
use crate::rag::ingest::Ingestion;
use crate::rag::models::{ModelLibrary, ModelStatus, Models, ModelsOptions};
use crate::rag::retrieve::Reranking;
use crate::rag::watch::Watcher;
use crate::rag::{Workspace, confidence, default_min_similarity};
use crate::store::{EmbedderId, Store, VectorStorage, create_private_dir, unix_now};
use crate::tokenizer::Tokenizer;
use earlier::{earlier_models, loadable_name};
pub use imports::import_options;
use imports::{chunking, watch_options};
use library::{Library, size_on_disk};
use model_details::DetailsCache;

/// Age at which uploads of another process are taken for abandoned.
const ABANDONED_AFTER: Duration = Duration::from_secs(2 * 24 * 3600);

/// The running program.
pub struct App {
    settings: Settings,
    device: ComputeDevice,
    workspace: Workspace,
    ingestion: Option<Ingestion>,
    recognition: Recognition,
    /// Where the default models come from, by name.
    sources: Vec<(String, String)>,
    notices: Vec<String>,
    /// What was to be said at start of documents that another model embedded; that changes.
    stale_notices: Vec<String>,
    /// Default models that came with the program.
    demonstrations: Vec<(ModelKind, String)>,
}

/// Which parts a command needs.
#[derive(Clone, Copy)]
struct Parts {
    chat: bool,
    ingestion: bool,
}

impl App {
    /// Everything, to be served.
    pub async fn open(settings: Settings) -> anyhow::Result<Self> {
        Self::with(
            settings,
            Parts {
                chat: true,
                ingestion: true,
            },
        )
        .await
    }

    /// What adding documents needs.
    pub async fn open_documents(settings: Settings) -> anyhow::Result<Self> {
        let app = Self::with(
            settings,
            Parts {
                chat: false,
                ingestion: true,
            },
        )
        .await?;
        anyhow::ensure!(app.workspace.embedder.is_some(), NO_EMBEDDING_MODEL);
        Ok(app)
    }

    /// What answering needs.
    pub async fn open_models(settings: Settings) -> anyhow::Result<Self> {
        Self::with(
            settings,
            Parts {
                chat: true,
                ingestion: false,
            },
        )
        .await
    }

    /// What quoting needs.
    pub async fn open_quoting(settings: Settings) -> anyhow::Result<Self> {
        Self::with(
            settings,
            Parts {
                chat: false,
                ingestion: false,
            },
        )
        .await
    }

    async fn with(settings: Settings, parts: Parts) -> anyhow::Result<Self> {
        let choice: DeviceChoice = settings.device.parse()?;
        let device = ComputeDevice::select(choice)?;

        let cache = ModelCache::new(settings.model_cache.clone());
        let mut notices = Vec::new();
        create_private_dir(&settings.data_dir)?;
        let embedding = cache.choose(settings.embedding_model.as_deref(), ModelKind::Embedding)?;
        let embedder_source = embedding.as_ref().map(loadable_name);
        if embedding.is_none() {
            notices.push(NO_EMBEDDING_MODEL.to_string());
        }
        let named = settings.chat_model.as_deref();
        let chat = match parts.chat {
            true => cache.choose(named, ModelKind::Chat)?,
            false => None,
        };
        // Whoever wants none need not be told.
        if parts.chat && chat.is_none() && named != Some("none") {
            notices.push(NO_CHAT_MODEL.to_string());
        }
        // A model that somebody chose is to write the answers.
        let writes_answers = matches!(chat, Some(ChosenModel::Found(_)));
        let defaults = [(ModelKind::Embedding, embedding), (ModelKind::Chat, chat)];
        let defaults = defaults
            .into_iter()
            .filter_map(|(kind, it)| Some((kind, it?)));
        let defaults: Vec<(ModelKind, ChosenModel)> = defaults.collect();
        if let [(_, one), (_, other)] = &defaults[..]
            && one.name() == other.name()
        {
            bail!(
                "the embedding model and the chat model are both named '{}'; rename the folder or file of one of them",
                one.name()
            );
        }
        let name_of = |wanted: ModelKind| {
            let model = defaults.iter().find(|(kind, _)| *kind == wanted)?;
            Some(model.1.name().to_owned())
        };
        let options = ModelsOptions {
            aliases: settings.aliases.clone(),
            keep_alive: u64::try_from(settings.keep_alive)
                .ok()
                .map(Duration::from_secs),
            max_loaded: settings.max_loaded_models,
            default_chat: name_of(ModelKind::Chat),
            documents_embedder: name_of(ModelKind::Embedding),
        };
        let bundled = defaults.iter().filter_map(|(kind, model)| match model {
            ChosenModel::Bundled(model) => Some((*kind, model.name.to_owned())),
            ChosenModel::Found(_) => None,
        });
        let demonstrations: Vec<(ModelKind, String)> = bundled.collect();
        let sources = defaults
            .iter()
            .map(|(_, model)| (model.name().to_owned(), source(model)));
        let sources = sources.collect();
        let library: Arc<dyn ModelLibrary> = Arc::new(Library {
            settings: settings.clone(),
            device: device.clone(),
            cache,
            defaults,
            details: DetailsCache::default(),
        });
        let models = Models::start(library, options.clone());
        // Loaded before anything is served, so that a mistake in the settings is known at once.
        let embedder = match &options.documents_embedder {
            Some(name) => Some(Embedder::clone(&*models.embedder(name).await?)),
            None => None,
        };
        if let Some(name) = &options.default_chat {
            models.chat(name).await?;
        }
        notices.extend(demonstration_notice(&demonstrations));
        let embedder_id = embedder_id(embedder.as_ref());
        let storage = settings
            .vector_storage
            .parse::<VectorStorage>()
            .map_err(anyhow::Error::msg)?;
        let store = Store::open_with(&settings.data_dir, embedder_id, storage).await?;
        let mut earlier = EarlierModels::default();
        let mut stale_notices = Vec::new();
        if let Some(name) = embedder_source {
            store.remember_embedder(&name).await?;
            earlier = EarlierModels::new(earlier_models(&store, &settings, &device).await?);
            stale_notices = earlier.notices(&store).await?;
        }
        let recognition = match parts.ingestion {
            true => recognition(&settings, &mut notices)?,
            false => Recognition::switched_off(),
        };
        let ingestion = match (&embedder, parts.ingestion) {
            (Some(embedder), true) => Some(Ingestion::start(
                store.clone(),
                embedder.clone(),
                ExtractLimits {
                    recognition: recognition.clone(),
                    ..ExtractLimits::new(std::env::current_exe()?)
                },
                settings.data_dir.clone(),
            )),
            _ => None,
        };
        let min_similarity = settings.min_similarity.unwrap_or_else(|| {
            embedder.as_ref().map_or(0.0, |embedder| {
                default_min_similarity(embedder.spec().pooling)
            })
        });
        let workspace = Workspace {
            store,
            embedder,
            models,
            writes_answers,
            min_similarity,
            min_quote_confidence: settings
                .min_quote_confidence
                .unwrap_or(confidence::DEFAULT_MIN_OF_QUOTES),
            min_confidence: settings.min_confidence.unwrap_or(confidence::DEFAULT_MIN),
            answers: AnswerCache::new(Duration::from_secs(settings.answer_cache)),
            max_summary_passages: settings.max_summary_passages,
            top_k: settings.top_k,
            chunking: chunking(&settings),
            earlier,
            reranking: Reranking {
                model: settings.rerank_model.clone(),
                num_candidates: settings.rerank_candidates,
                max_wait: Duration::from_secs(settings.rerank_timeout),
            },
        };
        Ok(Self {
            settings,
            device,
            workspace,
            ingestion,
            recognition,
            sources,
            notices,
            stale_notices,
            demonstrations,
        })
    }

    /// The model that embeds documents, by itself.
    pub fn load_documents_embedder(settings: &Settings) -> anyhow::Result<Embedder> {
        let device = ComputeDevice::select(settings.device.parse()?)?;
        let cache = ModelCache::new(settings.model_cache.clone());
        let chosen = cache.choose(settings.embedding_model.as_deref(), ModelKind::Embedding)?;
        let found = chosen
            .context(NO_EMBEDDING_MODEL)?
            .ready(&settings.data_dir)?;
        load_embedder(&found, &device, settings)
    }

    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Whether images are read too.
    pub fn recognises(&self) -> bool {
        matches!(self.recognition, Recognition::With(_))
    }

    /// What models compute on.
    pub fn device(&self) -> &str {
        self.device.name()
    }

    /// What to say when models that came with the program are at work.
    pub fn demonstration_notice(&self) -> Option<String> {
        demonstration_notice(&self.demonstrations)
    }

    pub fn http_options(settings: &Settings) -> HttpOptions {
        HttpOptions {
            host: settings.host,
            port: settings.port,
            api_key: settings.api_key.clone(),
            max_upload_bytes: settings.max_upload_mb << 20,
            upload_dir: settings
                .data_dir
                .join("uploads")
                .join(std::process::id().to_string()),
            generation_timeout: Duration::from_secs(settings.generation_timeout),
            sse_keep_alive: (settings.sse_keep_alive > 0)
                .then(|| Duration::from_secs(settings.sse_keep_alive)),
            shutdown_grace: Duration::from_secs(settings.shutdown_grace),
            cors_origins: settings.cors_origins.clone(),
            watch_interval: Duration::from_secs(settings.watch_interval),
        }
    }

    /// Says what is served, where it runs, what it takes, and which address to open.
    pub fn print_banner(&self, out: &mut impl Write, address: SocketAddr) -> std::io::Result<()> {
        writeln!(out, "Inglenook {}", env!("CARGO_PKG_VERSION"))?;
        for model in self.workspace.models.loaded() {
            let (kind, details) = (model.kind.name(), details(&model));
            writeln!(out, "  {kind} model: {} ({details})", model.id)?;
            let source = self.sources.iter().find(|(name, _)| *name == model.id);
            if let Some((_, source)) = source {
                writeln!(out, "    {source}")?;
            }
        }
        writeln!(out, "  device: {}", self.device.description())?;
        if let Some(memory) = crate::device::machine_memory() {
            let (available, total) = (gib(memory.available_bytes), gib(memory.total_bytes));
            writeln!(out, "  memory: {available} of {total} free")?;
        }
        writeln!(out, "  data: {}", self.settings.data_dir.display())?;
        if !http::ui::is_built() {
            writeln!(
                out,
                "  note: the browser app is missing, because this was built without Node"
            )?;
        }
        for notice in self.notices.iter().chain(&self.stale_notices) {
            writeln!(out, "  note: {notice}")?;
        }
        writeln!(out, "Open http://{address}")
    }

    /// Serves until a signal; running answers have the grace time to finish. A second signal ends at once.
    pub async fn serve(
        self,
        options: HttpOptions,
        listener: TcpListener,
    ) -> anyhow::Result<ExitCode> {
        let grace = options.shutdown_grace;
        prepare_uploads(&options.upload_dir)?;
        let upload_dir = options.upload_dir.clone();
        let importer = match self.settings.web_import {
            Switch::On => Some(Importer::start(
                self.workspace.store.clone(),
                import_options(&self.settings)?,
            )),
            Switch::Off => None,
        };
        let watch_options = watch_options(&self.settings)?;
        let watcher = match watch_options.folders.is_empty() {
            true => None,
            false => Some(Watcher::start(self.workspace.store.clone(), watch_options)),
        };
        let tasks = [
            importer
                .as_ref()
                .map(|importer| ("imports", importer.watch())),
            watcher
                .as_ref()
                .map(|watcher| ("watched folders", watcher.watch())),
        ];
        let context = Context {
            workspace: self.workspace.clone(),
            options,
            started_at: unix_now(),
            device: self.device.name().to_string(),
            ingestion: self.ingestion.as_ref().map(Ingestion::watch),
            files: FileReader::new(std::env::current_exe()?, self.recognition.clone()),
            background: Default::default(),
            notices: self.notices.clone(),
            pull_model: self
                .settings
                .api_pull
                .then(|| pull::for_clients(&self.settings)),
            imports: importer.as_ref().map(Importer::imports),
            watched: watcher.as_ref().map(Watcher::status),
            tasks: tasks.into_iter().flatten().collect(),
        };
        let expiry = Expiry::start(self.workspace.store.clone());
        let server = http::serve(context, listener)?;
        let handle = server.handle();
        let mut running = std::pin::pin!(server);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = &mut running => {
                ended.context("the HTTP server ended")?;
                anyhow::bail!("the HTTP server ended unexpectedly");
            }
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!(
            grace_s = grace.as_secs(),
            "stopping; running answers may finish"
        );
        tokio::select! {
            _ = futures_util::future::join(handle.stop(true), &mut running) => {}
            _ = interrupt.recv() => return Ok(ExitCode::FAILURE),
            _ = terminate.recv() => return Ok(ExitCode::FAILURE),
        }
        drop(expiry);
        if let Some(watcher) = watcher {
            watcher.stop().await;
        }
        if let Some(importer) = importer {
            importer.stop().await;
        }
        // A model that is being loaded, say, may take minutes.
        tokio::select! {
            _ = self.close() => {}
            _ = interrupt.recv() => return Ok(ExitCode::FAILURE),
            _ = terminate.recv() => return Ok(ExitCode::FAILURE),
        }
        let _ = std::fs::remove_dir_all(upload_dir);
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }

    /// Ends the parts from the top down. Unfinished ingestion goes on at the next start.
    pub async fn close(self) {
        if let Some(ingestion) = self.ingestion {
            ingestion.stop().await;
        }
        self.workspace.models.close().await;
        if let Err(error) = self.workspace.earlier.flush().await {
            tracing::warn!(%error, "the vector index of an earlier model could not be saved");
        }
        if let Err(error) = self.workspace.store.flush().await {
            tracing::warn!(%error, "the vector index could not be saved; it is rebuilt at the next start");
        }
    }
}

/// One chat model by itself, and where it runs.
pub fn load_chat_model(settings: &Settings, name: &str) -> anyhow::Result<(ChatModel, String)> {
    let device = ComputeDevice::select(settings.device.parse()?)?;
    let cache = ModelCache::new(settings.model_cache.clone());
    let chosen = cache.choose(Some(name), ModelKind::Chat)?;
    let chosen = chosen.context("none is no model; name one of: inglenook models")?;
    let found = chosen.ready(&settings.data_dir)?;
    Ok((
        load_chat(&found, &device, settings, None)?,
        device.name().to_owned(),
    ))
}

/// How scanned pages are recognised here. What is missing where it was asked for is an error; where it was not, scanned
/// pages say so themselves.
fn recognition(settings: &Settings, notices: &mut Vec<String>) -> anyhow::Result<Recognition> {
    if settings.ocr == OcrMode::Off {
        return Ok(Recognition::switched_off());
    }
    let is_needed = settings.ocr == OcrMode::On;
    let Some(tesseract) = program_on_path("tesseract") else {
        anyhow::ensure!(
            !is_needed,
            "the setting ocr is 'on', but tesseract is not on the PATH; install it (Debian: apt install tesseract-ocr) \
             or set ocr to 'auto'"
        );
        return Ok(Recognition::not_installed());
    };
    let pdftoppm = program_on_path("pdftoppm");
    match Recognizer::new(tesseract, pdftoppm, &settings.ocr_languages) {
        Ok(recognizer) => Ok(Recognition::With(recognizer)),
        Err(reason) if is_needed => bail!("the setting ocr is 'on', but {reason}"),
        Err(reason) => {
            notices.push(format!("scanned pages are not recognised: {reason}"));
            Ok(Recognition::Unavailable(reason))
        }
    }
}

/// What to say of models that only show what the program does.
fn demonstration_notice(models: &[(ModelKind, String)]) -> Option<String> {
    let names: Vec<&str> = models.iter().map(|(_, name)| name.as_str()).collect();
    let pulls = models.iter().map(|(kind, _)| match kind {
        ModelKind::Embedding => "inglenook models pull bge-small-en-v1.5 (finds passages)",
        ModelKind::Chat => "inglenook models pull qwen3-1.7b (writes answers)",
        ModelKind::Rerank => "inglenook models pull bge-reranker-base (orders passages)",
    });
    let pulls = pulls.collect::<Vec<_>>().join(" and: ");
    let names = names.join(" and ");
    match models.len() {
        0 => None,
        1 => Some(format!(
            "{names} is a small demonstration model; replace it with: {pulls}, then restart"
        )),
        _ => Some(format!(
            "{names} are small demonstration models; replace them with: {pulls}, then restart"
        )),
    }
}

/// A folder of this process for uploads. What servers left there that were killed days ago is of no use to anyone; a
/// younger one may be at work beside this one.
fn prepare_uploads(dir: &Path) -> anyhow::Result<()> {
    let what = || format!("cannot prepare {}", dir.display());
    let parent = dir.parent().expect("the folder is named inside another");
    std::fs::create_dir_all(dir).with_context(what)?;
    for entry in std::fs::read_dir(parent).with_context(what)?.flatten() {
        let age = entry
            .metadata()
            .and_then(|it| it.modified())
            .ok()
            .and_then(|it| it.elapsed().ok());
        if age.is_some_and(|age| age > ABANDONED_AFTER) {
            // Another server may have been quicker.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

fn load_embedder(
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
    settings
        .encoder_precision
        .parse()
        .map_err(anyhow::Error::msg)
}

fn load_reranker(
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

fn load_chat(
    found: &ResolvedModel,
    device: &ComputeDevice,
    settings: &Settings,
    free_bytes: Option<u64>,
) -> anyhow::Result<ChatModel> {
    let path = &found.path;
    let what = || format!("cannot load the chat model from {}", path.display());
    let weights_bytes = size_on_disk(path).with_context(what)?;
    let least = kv_cache::least_options(settings)?;
    let least_bytes = Decoder::cache_bytes(path, &least).with_context(what)?;
    let options = kv_cache::load_options(settings, weights_bytes, least_bytes, free_bytes)?;
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
        // candle multiplies one row and several by different kernels there, so that drafts could change the output.
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

/// What the banner says of a loaded model.
fn details(model: &ModelStatus) -> String {
    let weights = gib(model.weights_bytes);
    let context = model.context_length;
    match model.cache_tokens {
        Some(tokens) => {
            let cache = gib(model.cache_bytes);
            format!("{weights} weights, {cache} cache for {tokens} tokens, context {context}")
        }
        None => format!("{weights} weights, reads {context} tokens"),
    }
}

/// Names the model that made the vectors. Without one, nothing can be searched, and nothing stored is touched.
fn embedder_id(embedder: Option<&Embedder>) -> EmbedderId {
    match embedder {
        Some(embedder) => EmbedderId {
            hash: embedder.spec().model_hash.clone(),
            dimensions: embedder.spec().dimensions,
        },
        None => EmbedderId {
            hash: "none".into(),
            dimensions: 1,
        },
    }
}

fn source(model: &ChosenModel) -> String {
    match model {
        ChosenModel::Found(found) => format!("from {}", full_path(&found.path)),
        ChosenModel::Bundled(_) => "comes with the program".into(),
    }
}

fn full_path(path: &Path) -> String {
    let full: PathBuf = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    full.display().to_string()
}

fn gib(bytes: u64) -> String {
    const GIB: f64 = (1u64 << 30) as f64;
    const MIB: f64 = (1u64 << 20) as f64;
    let bytes = bytes as f64;
    if bytes >= GIB {
        format!("{:.1} GiB", bytes / GIB)
    } else {
        format!("{:.1} MiB", bytes / MIB)
    }
}
