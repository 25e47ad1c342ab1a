//! Every setting, from flags, environment, `inglenook.toml` and defaults, in that order of precedence. The only reader
//! of the environment; checked once, at start.

mod byte_size;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

pub use byte_size::ByteSize;

/// The prefix of environment variables: `INGLENOOK_PORT` sets `port`.
const ENV_PREFIX: &str = "INGLENOOK_";
/// The settings file that is read from the current folder when no other is named.
const DEFAULT_FILE: &str = "inglenook.toml";

/// Settings whose value is text, whatever it looks like: a key of digits is no number.
const TEXT_KEYS: &[&str] = &[
    "host",
    "data_dir",
    "chat_model",
    "embedding_model",
    "rerank_model",
    "api_key",
    "device",
    "kv_cache_memory",
    "kv_cache_type",
    "speculation",
    "encoder_precision",
    "vector_storage",
    "hub_endpoint",
    "hub_token",
    "model_cache",
    "ocr",
    "ocr_languages",
    "web_import",
    "arxiv_endpoint",
    "log",
];

/// The settings of every command. One field is one flag, one variable and one key of the file, of the same name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Folder that holds everything that Inglenook remembers.
    pub data_dir: PathBuf,
    /// A GGUF file, a folder with safetensors, a name from the catalog or `none`; without it the first chat model that was
    /// pulled, else the bundled one.
    pub chat_model: Option<String>,
    /// A folder with safetensors, a name from the catalog or `none`; without it the first embedding model that was pulled,
    /// else the bundled one.
    pub embedding_model: Option<String>,
    /// Other names of models, as clients that know only some names ask for them: `"gpt-4o" = "qwen3-1.7b"`.
    pub aliases: BTreeMap<String, String>,
    /// Seconds that a model which was loaded on demand stays without requests; -1 keeps it while there is room.
    pub keep_alive: i64,
    /// Models that may be loaded at the same time, besides the one that embeds the documents; without it as many as fit.
    pub max_loaded_models: Option<usize>,
    /// Key that every request must carry; required off loopback.
    pub api_key: Option<String>,
    /// `auto`, `cpu`, `cuda` (every GPU) or `cuda:N`.
    pub device: String,
    /// Threads for model computation; 0 takes one a core.
    pub threads: usize,
    /// Largest upload, in MiB.
    pub max_upload_mb: u64,
    /// Tokens that the KV cache holds in all; without it, enough for four sequences of full length up to 32,768.
    pub kv_cache_tokens: Option<usize>,
    /// Memory of each chat model's KV cache, such as `2GiB` or a number of bytes; without it a share of what is free.
    pub kv_cache_memory: Option<ByteSize>,
    /// Type of the KV cache: `f16`, `bf16`, `f32`, or `q8`, which takes about half of f16.
    pub kv_cache_type: String,
    /// Whether tokens are guessed from the prompt and checked several at a time: `where-faster`, `always` or `off`. The
    /// output is the same.
    pub speculation: String,
    /// Longest context that a sequence may use, in tokens; without it the model's own, up to 32,768.
    pub max_context: Option<usize>,
    /// Requests that may wait for the chat model; one more is answered 429.
    pub max_waiting: usize,
    /// Seconds that one generation may take.
    pub generation_timeout: u64,
    /// Seconds of silence after which a streamed answer that has not begun yet says that it lives; 0 never does.
    pub sse_keep_alive: u64,
    /// Seconds that running answers may take to finish after Ctrl-C or SIGTERM.
    pub shutdown_grace: u64,
    /// What passages are embedded and pairs reranked with: `int8`, which is about twice as fast where the processor has
    /// AVX-512 VNNI and f32 elsewhere, or `f32`.
    pub encoder_precision: String,
    /// What the vector index keeps of each vector: `i8`, `f16` or `f32`. Scores are the same; the database has them in full.
    pub vector_storage: String,
    /// Passages given to the chat model for one question.
    pub top_k: usize,
    /// The rerank model that reads the first passages of every search again, by its name; without it none does, unless a
    /// request names one.
    pub rerank_model: Option<String>,
    /// Passages that a rerank model reads for one search.
    pub rerank_candidates: usize,
    /// Seconds that a search waits for a rerank model; after that the passages keep the order that they had without.
    pub rerank_timeout: u64,
    /// Cosine similarity below which nothing counts as relevant; without it a value that fits the embedding model.
    pub min_similarity: Option<f32>,
    /// Tokens of a passage, as the embedding model counts them, where neither a file nor its collection says otherwise.
    pub chunk_tokens: u32,
    /// Tokens at the end of a passage that the next one may repeat.
    pub chunk_overlap: u32,
    /// Confidence from 0 to 1 below which quoting says that nothing was found; docs/answers.md has its curve.
    pub min_quote_confidence: Option<f32>,
    /// The same for answers that a chat model writes; docs/answers.md has the curve.
    pub min_confidence: Option<f32>,
    /// Seconds that an answer is kept for the same question; 0 keeps none.
    pub answer_cache: u64,
    /// Passages that one summary may have, up to 999.
    pub max_summary_passages: usize,
    /// Whether the words of scanned pages and images are recognised with tesseract.
    pub ocr: OcrMode,
    /// The languages to recognise, as tesseract names them: `eng+deu`.
    pub ocr_languages: String,
    /// Origins that browsers may call from, besides localhost.
    pub cors_origins: Vec<String>,
    /// Whether clients may have models of the catalog downloaded, by `POST /api/pull`; without it nothing leaves this
    /// machine at a client's wish.
    pub api_pull: bool,
    /// Whether clients may have documents imported from the web, by `POST /api/imports`: `off` or `on`; without it nothing
    /// leaves this machine at a client's wish.
    pub web_import: Switch,
    /// Hosts that imports may read although their addresses are private or their ports unusual: `wiki.internal`,
    /// `wiki.internal:8080` or `*.internal`.
    pub web_import_hosts: Vec<String>,
    /// Seconds between two requests of imports to a host; hosts that `web_import_hosts` does not name have at least one.
    pub web_import_delay: f64,
    /// Seconds that one document may take to come.
    pub web_import_timeout: u64,
    /// Where papers of arXiv come from.
    pub arxiv_endpoint: String,
    /// Folders whose files are documents, and stay in step with them.
    pub watch: Vec<WatchedFolder>,
    /// Seconds between two looks at the watched folders.
    pub watch_interval: u64,
    /// Where `models pull` downloads from.
    pub hub_endpoint: String,
    /// Access token for gated models.
    pub hub_token: Option<String>,
    /// Folder of downloaded models, in the Hugging Face cache layout.
    pub model_cache: Option<PathBuf>,
    /// What to log: a level (`info`) or filter directives (`info,inglenook=debug`).
    pub log: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 8321,
            data_dir: PathBuf::new(),
            chat_model: None,
            embedding_model: None,
            aliases: BTreeMap::new(),
            keep_alive: 300,
            max_loaded_models: None,
            api_key: None,
            device: "auto".into(),
            threads: 0,
            max_upload_mb: 512,
            kv_cache_tokens: None,
            kv_cache_memory: None,
            kv_cache_type: "f16".into(),
            speculation: "where-faster".into(),
            max_context: None,
            max_waiting: 64,
            generation_timeout: 120,
            sse_keep_alive: 10,
            shutdown_grace: 20,
            encoder_precision: "int8".into(),
            vector_storage: "i8".into(),
            top_k: 6,
            chunk_tokens: 256,
            chunk_overlap: 64,
            rerank_model: None,
            rerank_candidates: 30,
            rerank_timeout: 20,
            min_similarity: None,
            min_quote_confidence: None,
            min_confidence: None,
            answer_cache: 3600,
            max_summary_passages: 200,
            ocr: OcrMode::Auto,
            ocr_languages: "eng".into(),
            cors_origins: Vec::new(),
            api_pull: false,
            web_import: Switch::Off,
            web_import_hosts: Vec::new(),
            web_import_delay: 1.0,
            web_import_timeout: 60,
            arxiv_endpoint: "https://export.arxiv.org".into(),
            watch: Vec::new(),
            watch_interval: 30,
            hub_endpoint: "https://huggingface.co".into(),
            hub_token: None,
            model_cache: None,
            log: "info".into(),
        }
    }
}

/// When scanned pages are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OcrMode {
    /// Where tesseract is installed.
    Auto,
    Off,
    /// Always: without tesseract nothing starts.
    On,
}

/// A program as the shell finds it.
pub fn program_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(name));
    candidates.into_iter().find(|it| it.is_file())
}

/// `off` or `on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    Off,
    On,
}

/// A folder whose files are documents: its path, or a table that says which vector store they belong in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FolderSetting")]
pub struct WatchedFolder {
    pub path: PathBuf,
    /// The name of a vector store, which is made when there is none; without it the default one.
    pub vector_store: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum FolderSetting {
    Path(PathBuf),
    Table(FolderTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FolderTable {
    path: PathBuf,
    vector_store: Option<String>,
}

impl From<FolderSetting> for WatchedFolder {
    fn from(setting: FolderSetting) -> Self {
        match setting {
            FolderSetting::Path(path) => Self {
                path,
                vector_store: None,
            },
            FolderSetting::Table(FolderTable { path, vector_store }) => Self { path, vector_store },
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("settings file {path} does not exist; create it or leave out --config")]
    NoFile { path: PathBuf },
    #[error("bad setting: {0}")]
    Invalid(Box<figment::Error>),
    #[error("{name} is {value}, but must be {must}")]
    OutOfRange {
        name: &'static str,
        value: String,
        must: &'static str,
    },
    #[error(
        "{first} and {second} are both set, but they say the same in two ways; keep one of them"
    )]
    Contradiction {
        first: &'static str,
        second: &'static str,
    },
    #[error(
        "refusing to listen on {host} without authentication: anyone who reaches this address could read your \
         documents; set --api-key (or INGLENOOK_API_KEY), or listen on 127.0.0.1"
    )]
    OpenAddress { host: IpAddr },
    #[error(
        "cannot tell where to keep data: neither XDG_DATA_HOME nor HOME is set; pass --data-dir"
    )]
    NoDataDir,
}

impl Settings {
    /// Joins `flags` (only those that were given) over environment, file and defaults.
    pub fn load(file: Option<&Path>, flags: &impl Serialize) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Settings::default()));
        let named = variable("INGLENOOK_CONFIG").map(PathBuf::from);
        match file.or(named.as_deref()) {
            Some(path) if !path.is_file() => return Err(ConfigError::NoFile { path: path.into() }),
            Some(path) => figment = figment.merge(Toml::file_exact(path)),
            None if Path::new(DEFAULT_FILE).is_file() => {
                figment = figment.merge(Toml::file_exact(DEFAULT_FILE))
            }
            None => {}
        }
        let known = known_keys();
        let not_text: Vec<&str> = known
            .iter()
            .map(String::as_str)
            .filter(|key| !TEXT_KEYS.contains(key))
            .collect();
        let mut settings: Settings = figment
            .merge(Env::prefixed(ENV_PREFIX).only(&not_text))
            .merge(Serialized::globals(text_from_environment()))
            .merge(Serialized::globals(flags))
            .extract()
            .map_err(|error| ConfigError::Invalid(Box::new(error)))?;
        if settings.data_dir.as_os_str().is_empty() {
            settings.data_dir = default_data_dir().ok_or(ConfigError::NoDataDir)?;
        }
        settings.model_cache = settings.model_cache.or_else(hub_cache_from_environment);
        settings.hub_token = settings.hub_token.or_else(|| variable("HF_TOKEN"));
        settings.api_key = settings.api_key.filter(|key| !key.is_empty());
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let out_of_range =
            |name, value: String, must| Err(ConfigError::OutOfRange { name, value, must });
        if self.max_upload_mb == 0 {
            return out_of_range("max_upload_mb", "0".into(), "at least 1");
        }
        if self.max_waiting == 0 {
            return out_of_range("max_waiting", "0".into(), "at least 1");
        }
        if self.max_loaded_models == Some(0) {
            return out_of_range("max_loaded_models", "0".into(), "at least 1");
        }
        if self.keep_alive < -1 {
            let must = "a number of seconds, or -1 for no limit";
            return out_of_range("keep_alive", self.keep_alive.to_string(), must);
        }
        if self.kv_cache_tokens.is_some() && self.kv_cache_memory.is_some() {
            return Err(ConfigError::Contradiction {
                first: "kv_cache_tokens",
                second: "kv_cache_memory",
            });
        }
        let is_language = |it: &str| {
            !it.is_empty() && it.chars().all(|c| c.is_alphanumeric() || "_/".contains(c))
        };
        if !self.ocr_languages.split('+').all(is_language) {
            let must = "languages of tesseract joined by '+', such as eng+deu";
            return out_of_range("ocr_languages", self.ocr_languages.clone(), must);
        }
        if !(0.0..=3600.0).contains(&self.web_import_delay) {
            let value = self.web_import_delay.to_string();
            return out_of_range("web_import_delay", value, "between 0 and 3600 seconds");
        }
        for (name, value) in [
            ("web_import_timeout", self.web_import_timeout),
            ("watch_interval", self.watch_interval),
        ] {
            if value == 0 {
                return out_of_range(name, "0".into(), "at least 1 second");
            }
        }
        if !(1..=50).contains(&self.top_k) {
            return out_of_range("top_k", self.top_k.to_string(), "between 1 and 50");
        }
        if !(32..=4096).contains(&self.chunk_tokens) {
            let must = "between 32 and 4096";
            return out_of_range("chunk_tokens", self.chunk_tokens.to_string(), must);
        }
        if self.chunk_overlap > self.chunk_tokens / 2 {
            let must = "at most half of chunk_tokens";
            return out_of_range("chunk_overlap", self.chunk_overlap.to_string(), must);
        }
        if !(1..=200).contains(&self.rerank_candidates) {
            let value = self.rerank_candidates.to_string();
            return out_of_range("rerank_candidates", value, "between 1 and 200");
        }
        if !matches!(self.encoder_precision.as_str(), "int8" | "f32") {
            let value = self.encoder_precision.clone();
            return out_of_range("encoder_precision", value, "int8 or f32");
        }
        if !matches!(self.vector_storage.as_str(), "i8" | "f16" | "f32") {
            let must = "i8, f16 or f32";
            return out_of_range("vector_storage", self.vector_storage.clone(), must);
        }
        if let Some(value) = self.min_similarity
            && !(-1.0..=1.0).contains(&value)
        {
            return out_of_range("min_similarity", value.to_string(), "between -1 and 1");
        }
        for (name, value) in [
            ("min_quote_confidence", self.min_quote_confidence),
            ("min_confidence", self.min_confidence),
        ] {
            if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
                return out_of_range(name, value.to_string(), "between 0 and 1");
            }
        }
        if !(1..=999).contains(&self.max_summary_passages) {
            let value = self.max_summary_passages.to_string();
            return out_of_range("max_summary_passages", value, "between 1 and 999");
        }
        Ok(())
    }

    /// Refuses to serve strangers: an address that others can reach needs a key.
    pub fn check_exposure(&self) -> Result<(), ConfigError> {
        if self.host.is_loopback() || self.api_key.is_some() {
            return Ok(());
        }
        Err(ConfigError::OpenAddress { host: self.host })
    }
}

fn known_keys() -> Vec<String> {
    let defaults = serde_json::to_value(Settings::default()).expect("settings are plain data");
    let keys = defaults.as_object().expect("settings are a struct").keys();
    keys.cloned().collect()
}

fn text_from_environment() -> BTreeMap<&'static str, String> {
    let value = |key: &&'static str| {
        let name = format!("{ENV_PREFIX}{}", key.to_uppercase());
        Some((*key, variable(&name)?))
    };
    TEXT_KEYS.iter().filter_map(value).collect()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn default_data_dir() -> Option<PathBuf> {
    let base = variable("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".local/share")))?;
    Some(base.join("inglenook"))
}

/// The cache that other Hugging Face tools use on this machine, so that nothing is downloaded twice.
fn hub_cache_from_environment() -> Option<PathBuf> {
    if let Some(dir) = variable("HF_HUB_CACHE") {
        return Some(PathBuf::from(dir));
    }
    if let Some(dir) = variable("HF_HOME") {
        return Some(PathBuf::from(dir).join("hub"));
    }
    Some(PathBuf::from(variable("HOME")?).join(".cache/huggingface/hub"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn load(flags: serde_json::Value) -> Result<Settings, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("inglenook.toml");
        std::fs::write(&file, "port = 9000\ntop_k = 4\ndata_dir = \"kept\"\n").unwrap();
        Settings::load(Some(&file), &flags)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let settings = load(json!({ "port": 9100 })).unwrap();
        assert_eq!((settings.port, settings.top_k), (9100, 4));
        assert_eq!(settings.data_dir, PathBuf::from("kept"));
        assert_eq!(settings.device, "auto");
    }

    #[test]
    fn models_have_other_names_and_caches_a_size_in_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("inglenook.toml");
        let text = "data_dir = \"kept\"\nkv_cache_memory = \"1.5 GiB\"\n[aliases]\n\"gpt-4o\" = \"qwen3-1.7b\"\n";
        std::fs::write(&file, text).unwrap();
        let settings = Settings::load(Some(&file), &json!({})).unwrap();
        assert_eq!(settings.aliases["gpt-4o"], "qwen3-1.7b");
        assert_eq!(settings.kv_cache_memory, Some(ByteSize(3 << 29)));
        let settings = Settings::load(Some(&file), &json!({ "kv_cache_memory": "2048" })).unwrap();
        assert_eq!(settings.kv_cache_memory, Some(ByteSize(2048)));
        let both = json!({ "kv_cache_tokens": 4096 });
        let error = Settings::load(Some(&file), &both).unwrap_err().to_string();
        assert!(
            error.contains("kv_cache_tokens and kv_cache_memory"),
            "{error}"
        );
    }

    #[test]
    fn a_watched_folder_is_a_path_or_a_table() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("inglenook.toml");
        let text = "data_dir = \"kept\"\nweb_import = \"on\"\n\
            watch = [\"/srv/docs\", { path = \"/srv/hr\", vector_store = \"HR\" }]\n";
        std::fs::write(&file, text).unwrap();
        let settings = Settings::load(Some(&file), &json!({})).unwrap();
        assert_eq!(settings.web_import, Switch::On);
        let folder = |path: &str, store: Option<&str>| WatchedFolder {
            path: path.into(),
            vector_store: store.map(str::to_owned),
        };
        let expected = [folder("/srv/docs", None), folder("/srv/hr", Some("HR"))];
        assert_eq!(settings.watch, expected);
        std::fs::write(&file, "web_import = \"yes\"\n").unwrap();
        let error = Settings::load(Some(&file), &json!({}))
            .unwrap_err()
            .to_string();
        assert!(error.contains("web_import"), "{error}");
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("inglenook.toml");
        std::fs::write(&file, "prot = 9000\n").unwrap();
        let error = Settings::load(Some(&file), &json!({}))
            .unwrap_err()
            .to_string();
        assert!(error.contains("prot"), "{error}");
    }

    #[test]
    fn an_address_that_others_reach_needs_a_key() {
        let mut settings = load(json!({ "host": "0.0.0.0" })).unwrap();
        let error = settings.check_exposure().unwrap_err().to_string();
        assert!(error.contains("--api-key"), "{error}");
        settings.api_key = Some("secret".into());
        settings.check_exposure().unwrap();
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_its_range() {
        let error = load(json!({ "top_k": 0 })).unwrap_err().to_string();
        assert_eq!(error, "top_k is 0, but must be between 1 and 50");
        let error = load(json!({ "chunk_tokens": 100, "chunk_overlap": 51 }));
        let error = error.unwrap_err().to_string();
        assert_eq!(
            error,
            "chunk_overlap is 51, but must be at most half of chunk_tokens"
        );
        let error = load(json!({ "vector_storage": "f8" }))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "vector_storage is f8, but must be i8, f16 or f32");
        let error = load(json!({ "encoder_precision": "i4" }));
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "encoder_precision is i4, but must be int8 or f32");
    }
}
