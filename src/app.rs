//! Joins the parts: chooses the device, loads models, opens the store, starts ingestion, and ends all of it in order.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Settings;
use crate::device::{ComputeDevice, DeviceChoice};
use crate::embedding::{Embedder, EmbedderOptions};
use crate::engine::{Engine, EngineConfig};
use crate::http::{self, Context, HttpOptions, NO_CHAT_MODEL, NO_EMBEDDING_MODEL};
use crate::hub::{ModelCache, ModelKind, ModelSource, ResolvedModel};
use crate::llm::gguf::GgufFile;
use crate::llm::{CacheSize, Decoder, LanguageModel, LoadOptions};
use crate::rag::extract::ExtractLimits;
use crate::rag::generate::ChatModel;
use crate::rag::ingest::Ingestion;
use crate::rag::{Answerer, Workspace, default_min_similarity, quote};
use crate::store::{EmbedderId, Store, create_private_dir, unix_now};
use crate::tokenizer::Tokenizer;

/// Longest context by default: longer ones cost memory that few questions need.
const DEFAULT_MAX_CONTEXT: usize = 32_768;
/// Sequences of full length that the cache holds at most by default.
const DEFAULT_FULL_SEQUENCES: usize = 4;
/// Share of the free memory that the cache takes at most by default.
const CACHE_SHARE: u64 = 4;

/// Age at which uploads of another process are taken for abandoned.
const ABANDONED_AFTER: Duration = Duration::from_secs(2 * 24 * 3600);

/// The running program.
pub struct App {
    settings: Settings,
    device: ComputeDevice,
    workspace: Workspace,
    ingestion: Option<Ingestion>,
    loaded: Vec<LoadedModel>,
    notices: Vec<String>,
    /// Loaded models that came with the program.
    demonstrations: Vec<(ModelKind, String)>,
}

/// What the banner says of a model.
struct LoadedModel {
    kind: &'static str,
    id: String,
    source: String,
    details: String,
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
        let mut loaded = Vec::new();
        let mut notices = Vec::new();

        let mut demonstrations = Vec::new();

        create_private_dir(&settings.data_dir)?;
        let named = settings.embedding_model.as_deref();
        let embedder = match cache.choose(named, ModelKind::Embedding)? {
            Some(chosen) => {
                let found = chosen.ready(&settings.data_dir)?;
                let (embedder, model) = load_embedder(&found, &device)?;
                if found.source == ModelSource::Bundled {
                    demonstrations.push((ModelKind::Embedding, model.id.clone()));
                }
                loaded.push(model);
                Some(embedder)
            }
            None => {
                notices.push(NO_EMBEDDING_MODEL.to_string());
                None
            }
        };
        let mut default_answerer = Answerer::Quote;
        let named = settings.chat_model.as_deref();
        let chosen = match parts.chat {
            true => cache.choose(named, ModelKind::Chat)?,
            false => None,
        };
        let chat = match chosen {
            Some(chosen) => {
                let found = chosen.ready(&settings.data_dir)?;
                let (chat, model) = load_chat(&found, &device, &settings)?;
                match found.source {
                    ModelSource::Bundled => {
                        demonstrations.push((ModelKind::Chat, model.id.clone()))
                    }
                    // A model that somebody chose is to write the answers.
                    ModelSource::Path | ModelSource::Cache => {
                        default_answerer = Answerer::Chat(chat.clone())
                    }
                }
                loaded.push(model);
                Some(chat)
            }
            // Whoever wants none need not be told.
            None if !parts.chat || named == Some("none") => None,
            None => {
                notices.push(NO_CHAT_MODEL.to_string());
                None
            }
        };
        notices.extend(demonstration_notice(&demonstrations));
        let store = Store::open(&settings.data_dir, embedder_id(embedder.as_ref())).await?;
        if embedder.is_some() {
            let stale = store.documents_of_other_embedders().await?;
            if stale > 0 {
                notices.push(format!(
                    "{stale} documents were embedded by another model and are not searched; embed them anew with: \
                     inglenook reembed"
                ));
            }
        }
        let ingestion = match (&embedder, parts.ingestion) {
            (Some(embedder), true) => Some(Ingestion::start(
                store.clone(),
                embedder.clone(),
                ExtractLimits::new(std::env::current_exe()?),
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
            chat,
            default_answerer,
            min_similarity,
            min_quote_confidence: settings
                .min_quote_confidence
                .unwrap_or(quote::DEFAULT_MIN_CONFIDENCE),
            top_k: settings.top_k,
        };
        Ok(Self {
            settings,
            device,
            workspace,
            ingestion,
            loaded,
            notices,
            demonstrations,
        })
    }

    pub fn workspace(&self) -> &Workspace {
        &self.workspace
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
            shutdown_grace: Duration::from_secs(settings.shutdown_grace),
            cors_origins: settings.cors_origins.clone(),
        }
    }

    /// Says what is served, where it runs, what it takes, and which address to open.
    pub fn print_banner(&self, out: &mut impl Write, address: SocketAddr) -> std::io::Result<()> {
        writeln!(out, "Inglenook {}", env!("CARGO_PKG_VERSION"))?;
        for model in &self.loaded {
            writeln!(out, "  {}: {} ({})", model.kind, model.id, model.details)?;
            writeln!(out, "    from {}", model.source)?;
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
        for notice in &self.notices {
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
        let context = Context {
            workspace: self.workspace.clone(),
            options,
            started_at: unix_now(),
            device: self.device.name().to_string(),
            ingestion: self.ingestion.as_ref().map(Ingestion::watch),
            notices: self.notices.clone(),
            demonstrations: self
                .demonstrations
                .iter()
                .map(|(_, name)| name.clone())
                .collect(),
        };
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
        self.close().await;
        let _ = std::fs::remove_dir_all(upload_dir);
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }

    /// Ends the parts from the top down. Unfinished ingestion goes on at the next start.
    pub async fn close(self) {
        if let Some(ingestion) = self.ingestion {
            ingestion.stop().await;
        }
        if let Some(chat) = &self.workspace.chat {
            chat.engine().shutdown(Duration::ZERO).await;
        }
        if let Some(embedder) = &self.workspace.embedder {
            embedder.shutdown().await;
        }
        if let Err(error) = self.workspace.store.flush().await {
            tracing::warn!(%error, "the vector index could not be saved; it is rebuilt at the next start");
        }
    }
}

/// What to say of models that only show what the program does.
fn demonstration_notice(models: &[(ModelKind, String)]) -> Option<String> {
    let names: Vec<&str> = models.iter().map(|(_, name)| name.as_str()).collect();
    let pulls = models.iter().map(|(kind, _)| match kind {
        ModelKind::Embedding => "inglenook models pull bge-small-en-v1.5 (finds passages)",
        ModelKind::Chat => "inglenook models pull qwen3-1.7b (writes answers)",
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
) -> anyhow::Result<(Embedder, LoadedModel)> {
    let dir = &found.path;
    let entry = found.catalog;
    let options = EmbedderOptions {
        name: Some(found.name.clone()),
        pooling: entry.and_then(|entry| entry.pooling),
        query_instruction: entry.and_then(|entry| entry.query_instruction.clone()),
        passage_instruction: entry.and_then(|entry| entry.passage_instruction.clone()),
        device: Some(device.candle().clone()),
    };
    let embedder = Embedder::load(dir, options)
        .with_context(|| format!("cannot load the embedding model from {}", dir.display()))?;
    let spec = embedder.spec();
    let details = format!(
        "{} dimensions, {} tokens, {}",
        spec.dimensions,
        spec.max_tokens,
        gib(spec.memory_bytes as u64)
    );
    let model = LoadedModel {
        kind: "embedding model",
        id: spec.name.clone(),
        source: source(dir),
        details,
    };
    Ok((embedder, model))
}

fn load_chat(
    found: &ResolvedModel,
    device: &ComputeDevice,
    settings: &Settings,
) -> anyhow::Result<(ChatModel, LoadedModel)> {
    let path = &found.path;
    let what = || format!("cannot load the chat model from {}", path.display());
    let max_context = settings.max_context.unwrap_or(DEFAULT_MAX_CONTEXT);
    let options = LoadOptions {
        cache_size: cache_size(settings),
        kv_dtype: settings.kv_cache_type.parse()?,
        max_context: Some(max_context),
        ..LoadOptions::default()
    };
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
    let config = EngineConfig {
        max_waiting: settings.max_waiting,
        speculation: settings.speculation.parse()?,
        ..EngineConfig::default()
    };
    let engine = Engine::start(Box::new(decoder), config);
    let chat = ChatModel::new(found.name.clone(), engine, tokenizer).with_context(what)?;
    let details = format!(
        "{}, {} weights, {} cache for {} tokens, context {}",
        spec.architecture,
        gib(spec.weights_bytes),
        gib(spec.cache_bytes),
        spec.num_blocks * spec.block_size,
        chat.context_length(),
    );
    let model = LoadedModel {
        kind: "chat model",
        id: chat.id().to_string(),
        source: source(path),
        details,
    };
    Ok((chat, model))
}

fn cache_size(settings: &Settings) -> CacheSize {
    if let Some(tokens) = settings.kv_cache_tokens {
        return CacheSize::Tokens(tokens);
    }
    let free = crate::device::machine_memory().map(|memory| memory.available_bytes / CACHE_SHARE);
    CacheSize::Within {
        sequences: DEFAULT_FULL_SEQUENCES,
        bytes: free.unwrap_or(1 << 30),
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

fn source(path: &Path) -> String {
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
