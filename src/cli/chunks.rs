//! `inglenook chunks FILE`: shows how a document would be cut, without adding it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::ingest::parsed_password;
use crate::app::App;
use crate::config::Settings;
use crate::rag::extract::{ExtractLimits, Original, extract};
use crate::rag::ingest::{allowed_chunking, cut};
use crate::store::{Chunking, Password};

#[derive(Debug, Args)]
pub struct ChunksArgs {
    /// The document
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Tokens of a passage, at most [default: as the settings say]
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u32>,
    /// Tokens that a passage may repeat of the one before [default: as the settings say]
    #[arg(long, value_name = "TOKENS")]
    overlap: Option<u32>,
    /// Opens a PDF that is encrypted, or those in an archive
    #[arg(long, value_name = "PASSWORD", value_parser = parsed_password)]
    password: Option<Password>,
}

pub async fn run(settings: Settings, args: ChunksArgs) -> anyhow::Result<ExitCode> {
    let wanted = Chunking {
        max_tokens: args.max_tokens.unwrap_or(settings.chunk_tokens),
        overlap_tokens: args.overlap.unwrap_or(settings.chunk_overlap),
    };
    anyhow::ensure!(wanted.max_tokens > 0, "--max-tokens must be at least 1");
    let what = || format!("cannot read {}", args.file.display());
    let bytes = std::fs::read(&args.file).with_context(what)?;
    let filename = args.file.file_name().unwrap_or_default().to_string_lossy();
    let limits = ExtractLimits::new(std::env::current_exe()?);
    let original = Original {
        password: args.password.as_ref().map(Password::expose),
        ..Original::new(bytes, &filename)
    };
    let document = Arc::new(extract(original, &limits).await?);
    let embedder = App::load_documents_embedder(&settings)?;
    let chunking = allowed_chunking(wanted, &embedder);
    let chunks = cut(&document, chunking, &embedder).await?;
    for (at, chunk) in chunks.iter().enumerate() {
        let pages = match chunk.page_first == chunk.page_last {
            true => format!("page {}", chunk.page_first),
            false => format!("pages {} to {}", chunk.page_first, chunk.page_last),
        };
        println!(
            "--- {}: bytes {} to {}, {pages}, {} tokens",
            at + 1,
            chunk.span.start,
            chunk.span.end,
            chunk.num_tokens
        );
        for line in chunk.context.lines() {
            println!("  > {line}");
        }
        println!("{}", &document.text[chunk.span.clone()]);
    }
    let num_tokens: usize = chunks.iter().map(|chunk| chunk.num_tokens).sum();
    println!(
        "=== {} passages of {} tokens on average, at most {} with {} repeated",
        chunks.len(),
        num_tokens / chunks.len().max(1),
        chunking.max_tokens,
        chunking.overlap_tokens
    );
    Ok(ExitCode::SUCCESS)
}
