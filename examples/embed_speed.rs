//! Measures how fast an embedding model's folder is computed with, and prints JSON; benches/peers compares it with
//! ONNX Runtime: `cargo run --release --example embed_speed -- FOLDER [THREADS [f32|int8]]`.

use std::path::Path;
use std::time::Instant;

use inglenook::embedding::{Embedder, EmbedderOptions, InputKind, Precision, Priority};
use inglenook::kernels::threads;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TEXTS: usize = 32;
/// Of 128 tokens two are special.
const WORDS: usize = 126;
const REPEATS: usize = 6;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(folder) = args.next() else {
        eprintln!("usage: embed_speed FOLDER [THREADS [f32|int8]]");
        std::process::exit(2);
    };
    threads::limit(args.next().map_or(Ok(2), |threads| threads.parse())?);
    let start = Instant::now();
    let options = EmbedderOptions {
        precision: args.next().map_or(Ok(Precision::F32), |it| it.parse())?,
        ..EmbedderOptions::default()
    };
    let embedder = Embedder::load(Path::new(&folder), options)?;
    let load = start.elapsed().as_secs_f64();
    // Words of the vocabulary that make_embedder.py writes.
    let text = |index: usize| {
        let words = (0..WORDS).map(|word| format!("w{}", (index * WORDS + word) * 7919 % 30_000));
        words.collect::<Vec<_>>().join(" ")
    };
    let texts: Vec<String> = (0..TEXTS).map(text).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut fastest = f64::INFINITY;
    let mut num_tokens = 0;
    for _ in 0..REPEATS {
        let texts = texts.clone();
        let start = Instant::now();
        let embeddings =
            runtime.block_on(embedder.embed(texts, InputKind::Passage, Priority::Interactive))?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
        num_tokens = embeddings.num_tokens.iter().sum();
    }
    let expected = TEXTS * (WORDS + 2);
    if num_tokens != expected {
        return Err(format!(
            "the texts have {num_tokens} tokens instead of {expected}: make the folder with make_embedder.py"
        )
        .into());
    }
    let figures = serde_json::json!({
        "tokens_per_s": num_tokens as f64 / fastest,
        "load_s": load,
    });
    println!("{figures}");
    Ok(())
}
