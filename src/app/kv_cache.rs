//! How large a chat model's KV cache is to be: as the settings say, else by what is free.

use std::path::Path;

use super::library::size_on_disk;
use crate::config::Settings;
use crate::device::ComputeDevice;
use crate::engine::{EngineConfig, MAX_DRAFT};
use crate::llm::{CacheSize, Decoder, GPU_PACKING_SHARE, LlmError, LoadOptions, StepSize};

/// Longest context by default: longer ones cost memory that few questions need.
const DEFAULT_MAX_CONTEXT: usize = 32_768;
/// Sequences of full length that the cache holds at most by default.
const DEFAULT_FULL_SEQUENCES: usize = 4;
/// Share of the free memory that the cache takes at most by default.
const CACHE_SHARE: u64 = 4;
/// Tokens that the cache holds at least by default: a question with its sources and an answer.
const LEAST_TOKENS: usize = 4096;

/// What a GPU's libraries, kernels and recorded steps take by themselves; for models that are computed in tensors also the logits and
/// what attention merges.
const GPU_OVERHEAD_BYTES: u64 = 512 << 20;

/// Memory that an encoder needs beside its weights: on a GPU for 8192 tokens through the widest of its layers.
pub fn encoder_workspace_bytes(device: &ComputeDevice) -> u64 {
    if device.is_cpu() { 0 } else { 1 << 30 }
}

/// Memory that a chat model needs beside the size of its file and its cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside {
    /// On each GPU that has some of it.
    pub each: u64,
    /// In all.
    pub sum: u64,
}

/// What the chat model at `path` needs on these processors. On the CPU it is too little to be planned.
pub fn beside(
    device: &ComputeDevice,
    path: &Path,
    options: &LoadOptions,
) -> Result<Beside, LlmError> {
    if device.is_cpu() {
        return Ok(Beside::default());
    }
    let weights_bytes = size_on_disk(path).map_err(|source| LlmError::Read {
        path: path.to_owned(),
        source,
    })?;
    let each = GPU_OVERHEAD_BYTES + Decoder::workspace_bytes(path, largest_step())?;
    let num_gpus = device.devices().len() as u64;
    let rounding = match num_gpus {
        1 => 0,
        // A GPU may have room for a part of a layer that nothing fits into.
        _ => num_gpus * weights_bytes / Decoder::max_gpus(path, options)? as u64,
    };
    let sum = num_gpus * each + rounding + weights_bytes / GPU_PACKING_SHARE;
    Ok(Beside { each, sum })
}

/// Of an engine with its default settings.
fn largest_step() -> StepSize {
    let engine = EngineConfig::default();
    StepSize {
        num_rows: engine.max_batch_tokens,
        num_logit_rows: engine.max_running * (1 + MAX_DRAFT),
    }
}

/// Longest sequence that is served, in tokens, whatever the model.
pub fn max_context(settings: &Settings) -> usize {
    settings.max_context.unwrap_or(DEFAULT_MAX_CONTEXT)
}

/// With the least cache that is worth loading a model for.
pub fn least_options(settings: &Settings) -> Result<LoadOptions, LlmError> {
    let least = CacheSize::Tokens(LEAST_TOKENS.min(max_context(settings)));
    options(settings, fixed_size(settings).unwrap_or(least))
}

/// With the cache that a model is to get whose weights and workspace take `other_bytes`, and whose least cache
/// takes `least_bytes`, where `free_bytes` may be taken in all; `None` where the system does not tell.
pub fn load_options(
    settings: &Settings,
    other_bytes: u64,
    least_bytes: u64,
    free_bytes: Option<u64>,
) -> Result<LoadOptions, LlmError> {
    let size = fixed_size(settings).unwrap_or_else(|| {
        let free = free_bytes.unwrap_or(1 << 30);
        let share = (free / CACHE_SHARE).min(free.saturating_sub(other_bytes));
        CacheSize::Within {
            sequences: DEFAULT_FULL_SEQUENCES,
            bytes: share.max(least_bytes),
        }
    });
    options(settings, size)
}

fn fixed_size(settings: &Settings) -> Option<CacheSize> {
    let tokens = settings.kv_cache_tokens.map(CacheSize::Tokens);
    let bytes = settings.kv_cache_memory;
    tokens.or(bytes.map(|bytes| CacheSize::Bytes(bytes.0)))
}

fn options(settings: &Settings, cache_size: CacheSize) -> Result<LoadOptions, LlmError> {
    Ok(LoadOptions {
        cache_size,
        kv_dtype: settings.kv_cache_type.parse()?,
        max_context: Some(max_context(settings)),
        ..LoadOptions::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_takes_a_share_of_what_it_may_and_at_least_what_a_question_needs() {
        let settings = Settings::default();
        let bytes = |other, least, free| {
            let options = load_options(&settings, other, least, Some(free)).unwrap();
            match options.cache_size {
                CacheSize::Within { bytes, .. } => bytes,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(bytes(100, 10, 4000), 1000);
        // Weights and workspace leave less than the share.
        assert_eq!(bytes(3900, 10, 4000), 100);
        assert_eq!(bytes(3995, 10, 4000), 10);
        assert_eq!(bytes(5000, 10, 4000), 10);
    }
}
