//! The decoder against other implementations, against itself in other company, and against hostile files.

#[cfg(unix)]
mod device;
mod folders;
mod goldens;
#[cfg(feature = "cuda")]
mod gpu;
mod hostile_files;
mod invariance;
mod models;
mod stories;

use super::*;
use crate::device::DeviceChoice;
use crate::llm::testing::{TinyModel, write_tiny_gguf};
use crate::llm::{LogitsFor, SequenceInput};

fn cpu() -> ComputeDevice {
    ComputeDevice::select(DeviceChoice::Cpu).unwrap()
}

/// Room for a few thousand positions, kept in f32.
fn exact() -> LoadOptions {
    LoadOptions {
        cache_size: CacheSize::Tokens(2560),
        kv_dtype: KvDtype::F32,
        ..LoadOptions::default()
    }
}

fn gguf(model: &TinyModel) -> GgufFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    write_tiny_gguf(&path, model).unwrap();
    GgufFile::open(&path).unwrap()
}

fn load(model: &TinyModel) -> Decoder {
    Decoder::load(&gguf(model), &cpu(), &exact()).unwrap()
}

/// As on a device without our kernel.
fn load_with_tensor_attention(model: &TinyModel, options: &LoadOptions) -> Decoder {
    let gguf = gguf(model);
    let sizes = Hyperparameters::from_gguf(gguf.metadata()).unwrap();
    Decoder::build(sizes, &gguf, &cpu(), options, Attention::with_tensors).unwrap()
}

fn batch(sequences: impl IntoIterator<Item = SequenceInput>) -> Batch {
    Batch {
        copies: Vec::new(),
        sequences: sequences.into_iter().collect(),
    }
}

/// A slice of a sequence whose blocks are the first ones of the cache.
fn slice_of(tokens: &[u32], start: usize, logits: LogitsFor) -> SequenceInput {
    SequenceInput {
        tokens: tokens.to_vec(),
        start,
        block_table: (0..(start + tokens.len()).div_ceil(16) as u32).collect(),
        logits,
        draw: None,
    }
}

/// Logits of every position of a prompt, read whole.
fn all_logits(decoder: &mut impl LanguageModel, tokens: &[u32]) -> Vec<Vec<f32>> {
    let logits = decoder
        .forward(&batch([slice_of(tokens, 0, LogitsFor::All)]))
        .unwrap();
    (0..logits.num_rows())
        .map(|row| logits.row(row).to_vec())
        .collect()
}

/// NaN when either has one.
fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |max, (a, b)| {
        let difference = (a - b).abs();
        if difference > max || difference.is_nan() {
            difference
        } else {
            max
        }
    })
}
