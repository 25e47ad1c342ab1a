//! Which processors a model is loaded onto, and what it takes there.

use std::path::Path;

use super::kv_cache;
use super::library::size_on_disk;
use crate::config::Settings;
use crate::device::ComputeDevice;
use crate::llm::{Decoder, LlmError};

#[derive(Debug)]
pub struct Placement {
    pub device: ComputeDevice,
    /// At least, with the smallest cache.
    pub needed_bytes: u64,
}

impl Placement {
    /// Bytes free there; `None` where the system does not tell.
    pub fn free_bytes(&self) -> Option<u64> {
        Some(self.device.memory()?.available_bytes)
    }
}

/// Of a chat model: the processor with the most free memory, or all GPUs together where it fits into none of them.
pub fn of_chat(
    path: &Path,
    all: &ComputeDevice,
    settings: &Settings,
) -> Result<Placement, LlmError> {
    let one = chat_on(all.for_next_model(), path, settings)?;
    let fits = one.free_bytes().is_none_or(|free| one.needed_bytes <= free);
    let can_share = || Decoder::max_gpus(path, &kv_cache::least_options(settings)?);
    if fits || all.num_gpus() < 2 || can_share()? < 2 {
        return Ok(one);
    }
    chat_on(all.with_all_gpus(), path, settings)
}

fn chat_on(device: ComputeDevice, path: &Path, settings: &Settings) -> Result<Placement, LlmError> {
    let least = kv_cache::least_options(settings)?;
    let weights_bytes = size_on_disk(path).map_err(|source| LlmError::Read {
        path: path.to_owned(),
        source,
    })?;
    let cache_bytes = Decoder::cache_bytes(path, &least)?;
    let beside_bytes = kv_cache::beside(&device, path, &least)?.sum;
    Ok(Placement {
        device,
        needed_bytes: weights_bytes
            .saturating_add(cache_bytes)
            .saturating_add(beside_bytes),
    })
}

/// Of an embedding or rerank model, which is always on one processor.
pub fn of_encoder(path: &Path, all: &ComputeDevice) -> std::io::Result<Placement> {
    let device = all.for_next_model();
    Ok(Placement {
        needed_bytes: size_on_disk(path)? + kv_cache::encoder_workspace_bytes(&device),
        device,
    })
}
