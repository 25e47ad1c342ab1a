//! How much of the embedder's speed is left when documents are ingested: the same passages, once through ingestion and once
//! through the embedder alone. Ignored, as it measures: run it alone and optimised, with INGLENOOK_TEST_EMBEDDER naming the
//! folder of a model (the bundled one by default).

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use inglenook::embedding::{Embedder, EmbedderOptions, InputKind, Priority};
use inglenook::rag::extract::ExtractLimits;
use inglenook::rag::ingest::{Ingestion, allowed_chunking};
use inglenook::store::{Attributes, Chunking, Content, EmbedderId, NewFile, Store};
use inglenook::test_data;
use serde_json::Value;

const CHUNKING: Chunking = Chunking {
    max_tokens: 256,
    overlap_tokens: 64,
};

/// Short documents, many of which are a single passage.
fn abstracts(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut text = String::new();
    let file = std::fs::File::open(dir.join("corpus.jsonl.gz")).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    let document = |(at, line): (usize, &str)| {
        let document: Value = serde_json::from_str(line).unwrap();
        let text = format!("{}\n\n{}", document["title"], document["text"]);
        (format!("{at}.txt"), text.into_bytes())
    };
    text.lines().enumerate().take(600).map(document).collect()
}

/// Files of many kinds and sizes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    let content = std::fs::read(&path).unwrap();
                    if content.len() < 2 << 20 {
                        found.push((name, content));
                    }
                }
            }
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures"]
async fn ingestion_beside_the_embedder_alone() {
    let model = std::env::var_os("INGLENOOK_TEST_EMBEDDER").map(PathBuf::from);
    let model = model
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("models/bundled/embedder"));
    let embedder = Embedder::load(&model, EmbedderOptions::default()).unwrap();
    let (Some(scifact), Some(docs)) = (
        test_data::require("retrieval/scifact"),
        test_data::require("docs/pdf"),
    ) else {
        return;
    };
    for (what, files) in [("abstracts", abstracts(&scifact)), ("PDFs", files(&docs))] {
        let (num_tokens, num_pages, ingested, texts) = ingest(&embedder, files).await;
        let begun = Instant::now();
        let requests = texts
            .chunks(16)
            .map(|texts| embedder.embed(texts.to_vec(), InputKind::Passage, Priority::Background));
        let mut requests = stream::iter(requests).buffer_unordered(16);
        while let Some(done) = requests.next().await {
            done.unwrap();
        }
        let alone = begun.elapsed();
        let rate = |time: Duration| num_tokens as f64 / time.as_secs_f64();
        println!(
            "{what}: {num_tokens} tokens, {num_pages} pages; ingested in {ingested:.1?} ({:.0} tokens/s, {:.1} pages/s), \
             embedded alone in {alone:.1?} ({:.0} tokens/s): {:.2}",
            rate(ingested),
            num_pages as f64 / ingested.as_secs_f64(),
            rate(alone),
            alone.as_secs_f64() / ingested.as_secs_f64()
        );
    }
}

/// Tokens, pages, the time it took and the passages.
async fn ingest(
    embedder: &Embedder,
    files: Vec<(String, Vec<u8>)>,
) -> (usize, u32, Duration, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let id = EmbedderId {
        hash: embedder.spec().model_hash.clone(),
        dimensions: embedder.spec().dimensions,
    };
    let store = Store::open(dir.path(), id).await.unwrap();
    let collection = store.default_vector_store().await.unwrap().id;
    let mut ids = Vec::new();
    for (filename, content) in files {
        let new = NewFile {
            filename,
            purpose: "assistants".into(),
            media_type: "text/plain".into(),
            expires_after_seconds: None,
        };
        let file = store
            .create_file(new, Content::Bytes(content))
            .await
            .unwrap();
        let chunking = allowed_chunking(CHUNKING, embedder);
        store
            .attach(&collection, &file.id, Attributes::new(), chunking)
            .await
            .unwrap();
        ids.push(file.id);
    }
    let begun = Instant::now();
    let limits = ExtractLimits::new(env!("CARGO_BIN_EXE_inglenook").into());
    let ingestion = Ingestion::start(
        store.clone(),
        embedder.clone(),
        limits,
        dir.path().to_owned(),
    );
    while store.num_unfinished_jobs().await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let elapsed = begun.elapsed();
    ingestion.stop().await;
    let (mut texts, mut num_tokens, mut num_pages) = (Vec::new(), 0, 0);
    for id in ids {
        num_pages += store
            .document(&collection, &id)
            .await
            .unwrap()
            .progress
            .pages_read;
        for chunk in store
            .neighbours(&collection, &id, 0..u32::MAX)
            .await
            .unwrap()
        {
            num_tokens += chunk.num_tokens as usize;
            texts.push(chunk.text);
        }
    }
    (num_tokens, num_pages, elapsed, texts)
}
