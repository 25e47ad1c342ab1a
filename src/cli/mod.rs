//! The command line: one file a command. Parses, runs, and says in plain words what went wrong.

mod ask;
mod bench;
mod chunks;
mod eval;
mod import;
mod ingest;
mod loaded_models;
mod models;
mod reembed;
mod search;
mod serve;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::config::{ByteSize, Settings};

/// Private answers from your team's documents, with citations that can be checked, and an OpenAI-compatible API.
#[derive(Debug, Parser)]
#[command(name = "inglenook", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the browser app and the API (what happens without a command)
    Serve,
    /// Add documents, and wait until they can be searched
    Ingest(ingest::IngestArgs),
    /// Add documents from the web: a page, a site or a paper of arXiv
    Import(import::ImportArgs),
    /// Ask a question about the documents
    Ask(ask::AskArgs),
    /// Find passages in the documents, with their scores
    Search(search::SearchArgs),
    /// Cut and embed documents anew that another embedding model or an earlier version made
    Reembed,
    /// Show how a document would be cut into passages, without adding it
    Chunks(chunks::ChunksArgs),
    /// List models, download one, or see which are loaded
    Models(models::ModelsArgs),
    /// Measure how fast a chat model reads and writes on this machine
    Bench(bench::BenchArgs),
    /// Measure how well questions are answered from documents, or make such questions
    Eval(eval::EvalArgs),
    /// Read one PDF from standard input (used by Inglenook itself)
    #[command(hide = true)]
    ExtractWorker,
    /// Become another program with limits (used by Inglenook itself)
    #[command(hide = true)]
    RunLimited {
        memory_bytes: u64,
        cpu_seconds: u64,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// Settings that a flag can give; each is also `INGLENOOK_<NAME>` and a key of inglenook.toml.
#[derive(Debug, Args, Serialize)]
struct Flags {
    /// Settings file [default: inglenook.toml in the current folder, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<IpAddr>,
    /// Port to listen on; 0 takes a free one [default: 8321]
    #[arg(long, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// Folder that holds everything Inglenook remembers [default: ~/.local/share/inglenook]
    #[arg(long, global = true, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// Chat model: a GGUF file, a folder with safetensors, a catalog name or none [default: the first that was pulled, else the bundled one]
    #[arg(long, global = true, value_name = "MODEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_model: Option<String>,
    /// Embedding model: a folder with safetensors, a catalog name or none [default: the first that was pulled, else
    /// the bundled one]
    #[arg(long, global = true, value_name = "MODEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_model: Option<String>,
    /// Seconds that a model loaded on demand stays without requests; -1 keeps it while there is room [default: 300]
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive: Option<i64>,
    /// Models loaded at the same time, besides the one that embeds the documents [default: as many as fit]
    #[arg(long, global = true, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_loaded_models: Option<usize>,
    /// Memory of each chat model's KV cache, such as 2GiB, or bytes [default: a share of what is free]
    #[arg(long, global = true, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_cache_memory: Option<ByteSize>,
    /// Key that every request must carry; needed to listen on other than loopback addresses
    #[arg(long, global = true, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    /// Tokens of a passage, at most, where neither a file nor its collection says otherwise [default: 256]
    #[arg(long, global = true, value_name = "TOKENS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_tokens: Option<u32>,
    /// Tokens that a passage may repeat of the one before [default: 64]
    #[arg(long, global = true, value_name = "TOKENS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_overlap: Option<u32>,
    /// auto, cpu, cuda or cuda:N [default: auto]
    #[arg(long, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// Threads for model computation; 0 takes one a core [default: 0]
    #[arg(long, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<usize>,
    /// What to log: a level or filter directives [default: info]
    #[arg(long, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
}

/// Runs the command that was typed.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::ExtractWorker) = cli.command {
        return crate::rag::extract::worker::run(std::io::stdin(), std::io::stdout());
    }
    if let Some(Command::RunLimited {
        memory_bytes,
        cpu_seconds,
        command,
    }) = &cli.command
    {
        return crate::rag::extract::ocr::run_limited(*memory_bytes, *cpu_seconds, command);
    }
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let mut settings = Settings::load(cli.flags.config.as_deref(), &cli.flags)?;
    let is_server = matches!(cli.command, None | Some(Command::Serve));
    // Commands print their result; what the parts log is only wanted when something is off.
    if !is_server && cli.flags.log.is_none() && settings.log == Settings::default().log {
        settings.log = "warn".into();
    }
    crate::kernels::threads::limit(settings.threads);
    crate::kernels::memory::return_unused();
    crate::telemetry::start(&settings.log)?;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => block_on(serve::run(settings)),
        Command::Ingest(args) => block_on(ingest::run(settings, args)),
        Command::Import(args) => block_on(import::run(settings, args)),
        Command::Ask(args) => block_on(ask::run(settings, args)),
        Command::Search(args) => block_on(search::run(settings, args)),
        Command::Reembed => block_on(reembed::run(settings)),
        Command::Chunks(args) => block_on(chunks::run(settings, args)),
        Command::Bench(args) => block_on(bench::run(settings, args)),
        Command::Eval(args) => block_on(eval::run(settings, args)),
        Command::Models(args) => models::run(&settings, &args),
        Command::ExtractWorker | Command::RunLimited { .. } => {
            unreachable!("handled before the settings are read")
        }
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    crate::http::runtime().block_on(command)
}
