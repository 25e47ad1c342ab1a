//! How large a chat model's KV cache is to be: as the settings say, else by what is free.

use std::path::Path;

use super::library::size_on_disk;
use crate::config::Settings;
use crate::device::ComputeDevice;
use crate::engine::{EngineConfig, MAX_DRAFT, Speculation};
use crate::llm::{
    Beside, CacheSize, Decoder, GPU_PACKING_SHARE, LlmError, LoadOptions, StepSize,
    with_cache_that_fits,
};

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

/// Memory that a chat model needs on one processor.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// For the least cache that is worth loading it for.
    pub least_cache_bytes: u64,
    /// For weights and all else.
    pub other_bytes: u64,
}

/// Of the chat model at `path`. What it needs beside weights and cache is too little on the CPU to be planned.
pub fn needs(device: &ComputeDevice, path: &Path, settings: &Settings) -> Result<Needs, LlmError> {
    let weights_bytes = size_on_disk(path).map_err(|source| LlmError::Read {
        path: path.to_owned(),
        source,
    })?;
    let beside_bytes = if device.is_cpu() {
        0
    } else {
        let workspace_bytes = Decoder::workspace_bytes(path, largest_step(settings))?;
        GPU_OVERHEAD_BYTES + weights_bytes / GPU_PACKING_SHARE + workspace_bytes
    };
    Ok(Needs {
        least_cache_bytes: Decoder::cache_bytes(path, &least_options(settings)?)?,
        other_bytes: weights_bytes.saturating_add(beside_bytes),
    })
}

/// Of an engine with its default settings. Only who asks for drafts gets them on a GPU.
fn largest_step(settings: &Settings) -> StepSize {
    let engine = EngineConfig::default();
    let num_drafted = match settings.speculation.parse() {
        Ok(Speculation::Always) => MAX_DRAFT,
        _ => 0,
    };
    StepSize {
        num_rows: engine.max_batch_tokens,
        num_logit_rows: engine.max_running * (1 + num_drafted),
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

/// With the cache that a model is to get, where `free_bytes` may be taken in all; `None` where the system does not tell.
pub fn load_options(
    settings: &Settings,
    needs: Needs,
    free_bytes: Option<u64>,
) -> Result<LoadOptions, LlmError> {
    let size = fixed_size(settings).unwrap_or_else(|| {
        let free = free_bytes.unwrap_or(1 << 30);
        let share = (free / CACHE_SHARE).min(free.saturating_sub(needs.other_bytes));
        CacheSize::Within {
            sequences: DEFAULT_FULL_SEQUENCES,
            bytes: share.max(needs.least_cache_bytes),
        }
    });
    options(settings, size)
}

/// The same with a cache that GPUs which share the model have room for, with so many bytes free on each.
pub fn shared_options(
    path: &Path,
    options: LoadOptions,
    least_bytes: u64,
    free_bytes: &[u64],
) -> Result<LoadOptions, LlmError> {
    let CacheSize::Within { sequences, .. } = options.cache_size else {
        return Ok(options);
    };
    let parts = Decoder::part_bytes(path, &options)?;
    let fitting = parts.and_then(|parts| with_cache_that_fits(parts, least_bytes, free_bytes));
    let Some(fitting) = fitting else {
        return Ok(options);
    };
    Ok(LoadOptions {
        cache_size: CacheSize::Within {
            sequences,
            bytes: fitting.cache,
        },
        ..options
    })
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
        beside: Beside {
            overhead_bytes: GPU_OVERHEAD_BYTES,
            step: largest_step(settings),
        },
        ..LoadOptions::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_takes_a_share_of_what_it_may_and_at_least_what_a_question_needs() {
        let settings = Settings::default();
        let bytes = |other_bytes, least_cache_bytes, free| {
            let needs = Needs {
                least_cache_bytes,
                other_bytes,
            };
            let options = load_options(&settings, needs, Some(free)).unwrap();
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
