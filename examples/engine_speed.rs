//! Measures how fast a GGUF file is computed with, and prints JSON; benches/peers compares it with llama.cpp:
//! `cargo run --release --example engine_speed -- FILE [THREADS [DEVICE [PROMPT [SEQUENCES]]]]`.

use std::path::Path;
use std::time::Instant;

use inglenook::device::{ComputeDevice, DeviceChoice};
use inglenook::kernels::threads;
use inglenook::llm::{
    Batch, CacheSize, Decoder, Draw, LanguageModel, LoadOptions, LogitsFor, SequenceInput,
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Rows of a step of a prompt, at most, as in the engine.
const MAX_ROWS: usize = 512;
const DECODED: usize = 64;
const SHORT_PROMPT: usize = 64;
const REPEATS: usize = 2;
const CONTEXT: usize = 8192;

struct Model {
    decoder: Decoder,
    num_sequences: usize,
}

impl Model {
    /// Runs the tokens of one sequence from a position on, and returns the seconds it took.
    fn step(&mut self, inputs: impl IntoIterator<Item = (usize, usize, usize)>) -> Result<f64> {
        let spec = self.decoder.spec();
        let blocks_per_sequence = spec.num_blocks / self.num_sequences;
        let sequences = inputs.into_iter().map(|(sequence, start, len)| {
            let tokens = (start..start + len).map(|i| ((i * 7919 + 13) % spec.vocab_size) as u32);
            let first_block = sequence * blocks_per_sequence;
            let num_blocks = (start + len).div_ceil(spec.block_size);
            SequenceInput {
                tokens: tokens.collect(),
                start,
                block_table: (first_block..first_block + num_blocks)
                    .map(|block| block as u32)
                    .collect(),
                logits: LogitsFor::Last,
                // Where the model can draw tokens itself, it does.
                draw: Some(Draw::GREEDY),
            }
        });
        let sequences = sequences.collect();
        let start = Instant::now();
        self.decoder.forward(&Batch {
            copies: Vec::new(),
            sequences,
        })?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Reads a prompt, and returns the seconds it took.
    fn prefill(&mut self, sequence: usize, len: usize) -> Result<f64> {
        let starts = (0..len).step_by(MAX_ROWS);
        let steps = starts.map(|start| self.step([(sequence, start, MAX_ROWS.min(len - start))]));
        steps.sum()
    }
}

fn resident_mib(key: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("no such line")?.parse::<f64>()? / 1024.0)
}

/// What a step takes while nothing else wants the processor.
fn fastest(seconds: Vec<f64>) -> f64 {
    seconds.into_iter().fold(f64::INFINITY, f64::min)
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(file) = args.next() else {
        eprintln!("usage: engine_speed FILE [THREADS [DEVICE [PROMPT [SEQUENCES]]]]");
        std::process::exit(2);
    };
    threads::limit(args.next().map_or(Ok(2), |threads| threads.parse())?);
    let choice = args
        .next()
        .map_or(Ok(DeviceChoice::Cpu), |device| device.parse())?;
    let device = ComputeDevice::select(choice)?;
    let prompt_len = args.next().map_or(Ok(512), |tokens| tokens.parse())?;
    let num_sequences = args.next().map_or(Ok(8), |sequences| sequences.parse())?;
    let before = resident_mib("VmRSS:")?;
    let start = Instant::now();
    let options = LoadOptions {
        cache_size: CacheSize::Tokens(CONTEXT),
        ..LoadOptions::default()
    };
    let decoder = Decoder::open(Path::new(&file), &device, &options)?;
    let load = start.elapsed().as_secs_f64();
    let mut model = Model {
        decoder,
        num_sequences,
    };
    let (mut prefill, mut decode, mut together) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        prefill.push(model.prefill(0, prompt_len)?);
        for i in 0..DECODED {
            decode.push(model.step([(0, prompt_len + i, 1)])?);
        }
        for sequence in 0..num_sequences {
            model.prefill(sequence, SHORT_PROMPT)?;
        }
        for i in 0..DECODED {
            together.push(model.step((0..num_sequences).map(|s| (s, SHORT_PROMPT + i, 1)))?);
        }
    }
    let figures = serde_json::json!({
        "prefill_tokens_per_s": prompt_len as f64 / fastest(prefill),
        "decode_tokens_per_s": 1.0 / fastest(decode),
        "together_tokens_per_s": num_sequences as f64 / fastest(together),
        "resident_mib": resident_mib("VmRSS:")? - before,
        "peak_mib": resident_mib("VmHWM:")? - before,
        "load_s": load,
    });
    println!("{figures}");
    Ok(())
}
