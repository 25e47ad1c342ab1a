//! Joins the parts: chooses the device, loads models, opens the store, starts ingestion, and ends all of it in order.

mod banner;
mod earlier;
mod imports;
mod kv_cache;
mod library;
mod load;
mod model_details;
mod placement;
mod pull;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::config::{OcrMode, Settings, program_on_path};
use crate::device::{ComputeDevice, DeviceChoice};
use crate::embedding::Embedder;
use crate::http::{NO_CHAT_MODEL, NO_EMBEDDING_MODEL};
use crate::hub::{ChosenModel, ModelCache, ModelKind};
use crate::rag::answer_cache::AnswerCache;
use crate::rag::earlier::EarlierModels;
use crate::rag::extract::{ExtractLimits, Recognition, Recognizer};
use crate::rag::ingest::Ingestion;
use crate::rag::models::{ModelLibrary, Models, ModelsOptions};
use crate::rag::retrieve::Reranking;
use crate::rag::{Workspace, confidence, default_min_similarity};
use crate::store::{EmbedderId, Store, VectorStorage, create_private_dir};
use banner::{demonstration_notice, source};
use earlier::{earlier_models, loadable_name};
use imports::chunking;
pub use imports::import_options;
use library::Library;
pub use load::load_chat_model;
use load::load_embedder;
use model_details::DetailsCache;

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
