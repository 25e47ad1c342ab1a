//! Measures what ingestion spends its time on, stage by stage, one file after the other, and prints JSON;
//! benches/ingest compares the whole with a pipeline in Python:
//! `cargo run --release --example ingest_stages -- PROGRAM MODEL THREADS FILE...`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use inglenook::embedding::{Embedder, EmbedderOptions, InputKind, Precision, Priority};
use inglenook::kernels::threads;
use inglenook::rag::chunk::{ChunkOptions, chunk};
use inglenook::rag::extract::{ExtractLimits, Original, extract};
use inglenook::rag::ingest::kept_text;
use inglenook::store::{Attributes, Chunking, Content, EmbedderId, NewChunk, NewFile, Store};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Passages embedded and stored at a time, as in ingestion.
const BATCH: usize = 16;

#[derive(Default)]
struct Stages {
    extraction: f64,
    chunking: f64,
    embedding: f64,
    storing: f64,
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(program), Some(model), Some(num_threads)) = (args.next(), args.next(), args.next())
    else {
        eprintln!("usage: ingest_stages PROGRAM MODEL THREADS FILE...");
        std::process::exit(2);
    };
    threads::limit(num_threads.parse()?);
    let files: Vec<PathBuf> = args.map(PathBuf::from).collect();
    let embedder = Embedder::load(
        Path::new(&model),
        EmbedderOptions {
            precision: Precision::Int8,
            ..Default::default()
        },
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let figures = runtime.block_on(measure(embedder, PathBuf::from(program), &files))?;
    println!("{figures}");
    Ok(())
}

async fn measure(
    embedder: Embedder,
    program: PathBuf,
    files: &[PathBuf],
) -> Result<serde_json::Value> {
    let dir = tempfile::tempdir()?;
    let id = EmbedderId {
        hash: embedder.spec().model_hash.clone(),
        dimensions: embedder.spec().dimensions,
    };
    let store = Store::open(dir.path(), id).await?;
    let collection = store.default_vector_store().await?.id;
    let limits = ExtractLimits::new(program);
    let defaults = ChunkOptions::default();
    let options = ChunkOptions {
        max_tokens: defaults.max_tokens.min(embedder.max_passage_tokens()),
        ..defaults
    };
    let mut stages = Stages::default();
    let (mut num_pages, mut num_passages, mut num_tokens) = (0, 0, 0);
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let content = std::fs::read(path)?;

        let start = Instant::now();
        let document = extract(Original::new(content.clone(), &name), &limits).await?;
        stages.extraction += start.elapsed().as_secs_f64();

        let start = Instant::now();
        let document = Arc::new(document);
        let (cut, counter) = (document.clone(), embedder.clone());
        let chunks = tokio::task::spawn_blocking(move || {
            chunk(&cut, &options, &|text: &str| counter.count_tokens(text))
        });
        let chunks = chunks.await?;
        stages.chunking += start.elapsed().as_secs_f64();

        let start = Instant::now();
        let new = NewFile {
            filename: name.into_owned(),
            purpose: "assistants".into(),
            media_type: "application/pdf".into(),
            expires_after_seconds: None,
        };
        let file = store.create_file(new, Content::Bytes(content)).await?;
        let chunking = Chunking {
            max_tokens: options.max_tokens as u32,
            overlap_tokens: options.overlap_tokens as u32,
        };
        store
            .attach(&collection, &file.id, Attributes::new(), chunking)
            .await?;
        let job = store.claim_next_job().await?.ok_or("no job was queued")?;
        kept_text(&store, &file.id, (*document).clone()).await?;
        stages.storing += start.elapsed().as_secs_f64();

        for (batch, chunks) in chunks.chunks(BATCH).enumerate() {
            let texts = chunks
                .iter()
                .map(|it| document.text[it.span.clone()].to_string());
            let texts: Vec<String> = texts.collect();
            let embedded_texts = chunks.iter().map(|it| it.embedded_text(&document));
            let start = Instant::now();
            let embedded = embedder
                .embed(
                    embedded_texts.collect(),
                    InputKind::Passage,
                    Priority::Background,
                )
                .await?;
            stages.embedding += start.elapsed().as_secs_f64();
            let start = Instant::now();
            let new = chunks.iter().zip(texts).zip(embedded.vectors);
            let new = new
                .enumerate()
                .map(|(at, ((chunk, text), vector))| NewChunk {
                    ordinal: (batch * BATCH + at) as u32,
                    span: chunk.span.clone(),
                    page_first: chunk.page_first,
                    page_last: chunk.page_last,
                    heading_path: chunk.heading_path.clone(),
                    text,
                    num_tokens: chunk.num_tokens as u32,
                    vector,
                });
            store.append_chunks(&job, new.collect()).await?;
            stages.storing += start.elapsed().as_secs_f64();
        }
        let start = Instant::now();
        store
            .complete_job(&job, chunks.len() as u32, Vec::new())
            .await?;
        stages.storing += start.elapsed().as_secs_f64();
        num_pages += document.pages.len();
        num_passages += chunks.len();
        num_tokens += chunks.iter().map(|it| it.num_tokens).sum::<usize>();
    }
    Ok(serde_json::json!({
        "pages": num_pages,
        "passages": num_passages,
        "tokens": num_tokens,
        "stages": {
            "extraction": stages.extraction,
            "chunking": stages.chunking,
            "embedding": stages.embedding,
            "storing": stages.storing,
        },
    }))
}
