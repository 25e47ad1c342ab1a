//! Measures how fast an embedding model's folder is computed with, and prints JSON; benches/peers compares it with
//! ONNX Runtime: `cargo run --release --example embed_speed -- FOLDER [THREADS [f32|int8 [DEVICE [TOKENS]]]]`.

use std::path::Path;
use std::time::Instant;

use inglenook::device::{ComputeDevice, DeviceChoice};
use inglenook::embedding::{Embedder, EmbedderOptions, InputKind, Precision, Priority};
use inglenook::kernels::threads;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TEXTS: usize = 32;
/// `[CLS]` and `[SEP]`.
const SPECIAL: usize = 2;
const REPEATS: usize = 6;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(folder) = args.next() else {
        eprintln!("usage: embed_speed FOLDER [THREADS [f32|int8 [DEVICE [TOKENS]]]]");
        std::process::exit(2);
    };
    threads::limit(args.next().map_or(Ok(2), |threads| threads.parse())?);
    let start = Instant::now();
    let precision = args.next().map_or(Ok(Precision::F32), |it| it.parse())?;
    let choice = args
        .next()
        .map_or(Ok(DeviceChoice::Cpu), |device| device.parse())?;
    let device = ComputeDevice::select(choice)?;
    let num_tokens_each: usize = args.next().map_or(Ok(128), |tokens| tokens.parse())?;
    let num_words = num_tokens_each.saturating_sub(SPECIAL);
    let options = EmbedderOptions {
        precision,
        device: Some(device.candle().clone()),
        ..EmbedderOptions::default()
    };
    let embedder = Embedder::load(Path::new(&folder), options)?;
    let load = start.elapsed().as_secs_f64();
    // Words of the vocabulary that make_embedder.py writes.
    let text = |index: usize| {
        let word = |word| format!("w{}", (index * num_words + word) * 7919 % 30_000);
        let words = (0..num_words).map(word);
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
    let expected = TEXTS * num_tokens_each;
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
