//! A loaded model: checks its options, plans its memory, and chooses once what computes it. Keeps no state but the paged
//! cache: what a row gives depends on its own sequence alone.

use std::path::Path;
use std::str::FromStr;

use candle_core::Device;
use half::f16;

use super::attention::{Attention, CacheLayout};
use super::checkpoint::Checkpoint;
#[cfg(any(feature = "cuda", test))]
use super::device_model;
use super::folder::ModelFolder;
use super::gguf::GgufFile;
use super::hyperparameters::{Hyperparameters, LayerSettings};
use super::rope::Rope;
use super::split::PartBytes;
#[cfg(feature = "cuda")]
use super::split::split;
use super::step::Step;
use super::tensor_model::TensorModel;
#[cfg(any(feature = "cuda", test))]
use super::weights::stored_vocab_size;
use super::weights::{Facts, Weights};
use super::{Batch, LanguageModel, LlmError, Logits, ModelSpec};
use crate::device::ComputeDevice;
#[cfg(feature = "cuda")]
use crate::kernels::cuda::gpu::Gpu;
use crate::kernels::paged_attention::{AttentionShape, SCALE_GROUP};

/// Choices made when a model is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Positions in one block of the KV cache.
    pub block_size: usize,
    pub cache_size: CacheSize,
    pub kv_dtype: KvDtype,
    /// Shortens the context that the model was made for.
    pub max_context: Option<usize>,
    /// What to leave room for on each of the GPUs that share a model.
    pub beside: Beside,
}

/// What is on a GPU beside weights and cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside {
    /// Libraries, kernels and recorded steps.
    pub overhead_bytes: u64,
    /// The largest step.
    pub step: StepSize,
}

/// Weights take up to this share more on a GPU than in their file: scales of six bits have whole bytes there (Q3_K 3.6%, Q4_K
/// 2.8%), and outputs come in sixteens.
pub const GPU_PACKING_SHARE: u64 = 25;

/// Rows of a step.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepSize {
    pub num_rows: usize,
    /// Those that have logits.
    pub num_logit_rows: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            block_size: 16,
            cache_size: CacheSize::Tokens(8192),
            kv_dtype: KvDtype::F16,
            max_context: None,
            beside: Beside::default(),
        }
    }
}

/// How much the KV cache holds, over all sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSize {
    /// At least this many positions.
    Tokens(usize),
    /// As many whole blocks as fit in this many bytes.
    Bytes(u64),
    /// This many sequences as long as the context, or fewer positions when they take more than this many bytes.
    Within { sequences: usize, bytes: u64 },
}

/// The type that keys and values are kept in. They are computed with in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvDtype {
    F32,
    #[default]
    F16,
    Bf16,
    /// 8 bits with a scale for every 32 numbers: about half of F16.
    Q8,
}

impl FromStr for KvDtype {
    type Err = LlmError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            "q8" => Ok(Self::Q8),
            other => Err(LlmError::InvalidOptions {
                problem: format!(
                    "the KV cache cannot be of the type {other:?}, only f16, bf16, f32 or q8"
                ),
            }),
        }
    }
}

impl KvDtype {
    /// Bytes of this many numbers.
    pub fn num_bytes(self, num_values: usize) -> usize {
        match self {
            Self::F32 => 4 * num_values,
            Self::F16 | Self::Bf16 => 2 * num_values,
            Self::Q8 => num_values + num_values / SCALE_GROUP * size_of::<f16>(),
        }
    }
}

/// A loaded model with its KV cache.
#[derive(Debug)]
pub struct Decoder {
    spec: ModelSpec,
    ropes: Vec<Rope>,
    computation: Computation,
}

/// What computes a model. Chosen once, when it is loaded.
#[derive(Debug)]
enum Computation {
    /// Everything on the CPU; on a GPU, models with experts, and heads that our kernels do not compute.
    InTensors(Box<TensorModel>),
    /// All other models on a GPU.
    #[cfg(feature = "cuda")]
    OnDevice(Box<device_model::DeviceModel<Gpu>>),
}

impl Decoder {
    /// Loads the model in a GGUF file, or in a folder with `config.json` and safetensors.
    pub fn open(
        path: &Path,
        device: &ComputeDevice,
        options: &LoadOptions,
    ) -> Result<Self, LlmError> {
        if path.is_dir() {
            let folder = ModelFolder::open(path)?;
            let model = folder.hyperparameters.clone();
            return Self::build(model, &folder, device, options, Attention::new);
        }
        Self::load(&GgufFile::open(path)?, device, options)
    }

    /// Loads the model of a GGUF file that is open already, and allocates its cache.
    pub fn load(
        gguf: &GgufFile,
        device: &ComputeDevice,
        options: &LoadOptions,
    ) -> Result<Self, LlmError> {
        let model = Hyperparameters::from_gguf(gguf.metadata())?;
        Self::build(model, gguf, device, options, Attention::new)
    }

    /// Memory that the cache of the model at `path` would take, in bytes.
    pub fn cache_bytes(path: &Path, options: &LoadOptions) -> Result<u64, LlmError> {
        with_model(path, |model, _| {
            let layout = cache_layout(model, options)?;
            Ok(layout.num_bytes().unwrap_or(u64::MAX))
        })
    }

    /// Memory that a step takes on a GPU beside weights and cache, in bytes.
    pub fn workspace_bytes(path: &Path, step: StepSize) -> Result<u64, LlmError> {
        with_model(path, |model, files| workspace_bytes(model, files, step))
    }

    /// What the parts of the model at `path` take on GPUs that share it, in bytes; `None` where it must be on one.
    pub fn part_bytes(path: &Path, options: &LoadOptions) -> Result<Option<PartBytes>, LlmError> {
        with_model(path, |model, files| part_bytes(model, files, options))
    }

    fn build(
        model: Hyperparameters,
        checkpoint: &dyn Checkpoint,
        device: &ComputeDevice,
        options: &LoadOptions,
        attention: impl FnOnce(CacheLayout, &Device) -> Result<Attention, LlmError>,
    ) -> Result<Self, LlmError> {
        let context_length = context_length(&model, options);
        let layout = cache_layout(&model, options)?;
        let num_blocks = layout.num_blocks;
        let (facts, cache_bytes, computation) = match device.candle() {
            #[cfg(feature = "cuda")]
            Device::Cuda(_) if device_model::fits(&model, &layout) => {
                let bytes = part_bytes(&model, checkpoint, options)?;
                let parts = parts(device, &bytes.expect("the model fits"))?;
                let weights =
                    device_model::load_weights(checkpoint, &model, context_length, &parts)?;
                let facts = weights.facts.clone();
                let cache_bytes = checked_cache_bytes(&layout, device)?;
                let loaded = device_model::Loaded {
                    model: &model,
                    weights,
                    layout: &layout,
                    context_length,
                };
                let model = Box::new(device_model::DeviceModel::new(parts, loaded)?);
                (facts, cache_bytes, Computation::OnDevice(model))
            }
            candle => {
                let weights = Weights::load(checkpoint, &model, context_length, |_| candle)?;
                let facts = weights.facts.clone();
                let cache_bytes = checked_cache_bytes(&layout, device)?;
                let attention = attention(layout, candle)?;
                // candle has a stream for each thread, and nothing else would make that of the thread that computes wait.
                candle.synchronize()?;
                let model = TensorModel::new(model.clone(), weights, attention, candle);
                (facts, cache_bytes, Computation::InTensors(Box::new(model)))
            }
        };
        Ok(Self {
            spec: ModelSpec {
                architecture: model.architecture.name.to_owned(),
                vocab_size: facts.vocab_size,
                context_length,
                block_size: options.block_size,
                num_blocks,
                weights_bytes: facts.num_bytes,
                cache_bytes,
            },
            ropes: ropes(&model, &facts),
            computation,
        })
    }
}

impl LanguageModel for Decoder {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn forward(&mut self, batch: &Batch) -> Result<Logits, LlmError> {
        let step = Step::new(batch, &self.spec, &self.ropes)?;
        match &mut self.computation {
            Computation::InTensors(model) => model.forward(&step, &batch.copies),
            #[cfg(feature = "cuda")]
            Computation::OnDevice(model) => Ok(model.forward(&step, &batch.copies)?),
        }
    }
}

/// The GPUs that get a model, each with a stream of its own, and how many layers each of them has.
#[cfg(feature = "cuda")]
fn parts(
    device: &ComputeDevice,
    bytes: &PartBytes,
) -> Result<Vec<device_model::Part<Gpu>>, LlmError> {
    let free_bytes = device.free_bytes_of_each();
    let counts = match free_bytes.len() {
        0 | 1 => vec![bytes.layers.len()],
        _ => {
            let counts = split(bytes, &free_bytes).ok_or_else(|| too_large(bytes, free_bytes))?;
            tracing::info!(layers = ?counts, "the GPUs share the model's layers");
            counts
        }
    };
    let shares = device.devices().iter().zip(counts);
    let mut parts = Vec::new();
    for (device, num_layers) in shares.filter(|(_, num_layers)| *num_layers > 0) {
        parts.push(device_model::Part {
            memory: Gpu::with_own_stream(device.as_cuda_device()?)?,
            num_layers,
        });
    }
    Ok(parts)
}

#[cfg(feature = "cuda")]
fn too_large(bytes: &PartBytes, free_bytes: Vec<u64>) -> LlmError {
    LlmError::SplitTooLarge {
        num_layers: bytes.layers.len(),
        layer_bytes: bytes.largest_layer(),
        head_bytes: bytes.head,
        each_bytes: bytes.each,
        free_bytes,
    }
}

#[cfg(any(feature = "cuda", test))]
fn part_bytes(
    model: &Hyperparameters,
    checkpoint: &dyn Checkpoint,
    options: &LoadOptions,
) -> Result<Option<PartBytes>, LlmError> {
    let layout = cache_layout(model, options)?;
    let vocab_size = stored_vocab_size(checkpoint);
    Ok(device_model::fits(model, &layout)
        .then(|| device_model::part_bytes(checkpoint, model, &layout, vocab_size, options.beside)))
}

/// Without GPUs none are shared.
#[cfg(not(any(feature = "cuda", test)))]
fn part_bytes(
    _: &Hyperparameters,
    _: &dyn Checkpoint,
    _: &LoadOptions,
) -> Result<Option<PartBytes>, LlmError> {
    Ok(None)
}

/// As [`Decoder::workspace_bytes`], with the longest context that the model allows.
#[cfg(any(feature = "cuda", test))]
fn workspace_bytes(
    model: &Hyperparameters,
    checkpoint: &dyn Checkpoint,
    step: StepSize,
) -> Result<u64, LlmError> {
    let layout = cache_layout(model, &LoadOptions::default())?;
    if !device_model::fits(model, &layout) {
        return Ok(TensorModel::workspace_bytes(model, step.num_rows));
    }
    let vocab_size = stored_vocab_size(checkpoint);
    Ok(device_model::workspace_num_bytes(
        model, &layout, vocab_size, step,
    ))
}

/// Without GPUs nothing is planned for them.
#[cfg(not(any(feature = "cuda", test)))]
fn workspace_bytes(
    model: &Hyperparameters,
    _: &dyn Checkpoint,
    step: StepSize,
) -> Result<u64, LlmError> {
    Ok(TensorModel::workspace_bytes(model, step.num_rows))
}

/// The model's rotations, with what its file divides the first one's frequencies by.
fn ropes(model: &Hyperparameters, facts: &Facts) -> Vec<Rope> {
    let mut divisors = facts.rope_divisors.as_deref();
    model
        .ropes
        .iter()
        .map(|settings| Rope::new(settings, divisors.take()))
        .collect()
}

/// Reads what the files at `path` say of their model, whatever they are.
fn with_model<T>(
    path: &Path,
    read: impl FnOnce(&Hyperparameters, &dyn Checkpoint) -> Result<T, LlmError>,
) -> Result<T, LlmError> {
    if path.is_dir() {
        let folder = ModelFolder::open(path)?;
        return read(&folder.hyperparameters, &folder);
    }
    let gguf = GgufFile::open(path)?;
    read(&Hyperparameters::from_gguf(gguf.metadata())?, &gguf)
}

/// Longest sequence, in positions: the model's own limit, or the caller's.
fn context_length(model: &Hyperparameters, options: &LoadOptions) -> usize {
    model
        .context_length
        .min(options.max_context.unwrap_or(model.context_length))
}

fn cache_layout(model: &Hyperparameters, options: &LoadOptions) -> Result<CacheLayout, LlmError> {
    let invalid = |problem: &str| LlmError::InvalidOptions {
        problem: problem.to_owned(),
    };
    if options.block_size == 0 {
        return Err(invalid("the cache's block size must not be 0"));
    }
    if options.max_context == Some(0) {
        return Err(invalid("the context must not be 0 tokens"));
    }
    let fits_q8 = |dim: usize| dim.is_multiple_of(SCALE_GROUP);
    if options.kv_dtype == KvDtype::Q8 && !(fits_q8(model.key_dim) && fits_q8(model.value_dim)) {
        return Err(invalid(
            "a q8 cache needs heads of a multiple of 32 numbers, which this model has not; use f16",
        ));
    }
    let shape = AttentionShape {
        num_heads: model.num_heads,
        num_kv_heads: model.num_kv_heads,
        key_dim: model.key_dim,
        value_dim: model.value_dim,
        block_size: options.block_size,
        window: None,
        score_scale: model.score_scale,
    };
    let mut layout = CacheLayout {
        layers: model
            .layers
            .iter()
            .map(|&LayerSettings { window, .. }| AttentionShape { window, ..shape })
            .collect(),
        num_blocks: 1,
        dtype: options.kv_dtype,
    };
    let too_large = || invalid("the cache's blocks are too large or too many to be counted");
    let block_bytes = layout.num_bytes().ok_or_else(too_large)?;
    layout.num_blocks = match options.cache_size {
        CacheSize::Tokens(tokens) => tokens.div_ceil(options.block_size),
        CacheSize::Bytes(bytes) => (bytes / block_bytes) as usize,
        CacheSize::Within { sequences, bytes } => sequences
            .saturating_mul(context_length(model, options))
            .div_ceil(options.block_size)
            .min((bytes / block_bytes) as usize),
    };
    if layout.num_blocks == 0 {
        return Err(LlmError::InvalidOptions {
            problem: format!("the cache is smaller than one block of {block_bytes} bytes"),
        });
    }
    // Positions in the cache are numbered in 32 bits.
    match layout.num_blocks.checked_mul(options.block_size) {
        Some(positions) if u32::try_from(positions).is_ok() => Ok(layout),
        _ => Err(too_large()),
    }
}

/// The size of the cache, when there is room for it.
fn checked_cache_bytes(layout: &CacheLayout, device: &ComputeDevice) -> Result<u64, LlmError> {
    let needed = layout.num_bytes().unwrap_or(u64::MAX);
    if let Some(memory) = device.memory()
        && needed > memory.available_bytes
    {
        return Err(LlmError::CacheTooLarge {
            needed_bytes: needed,
            available_bytes: memory.available_bytes,
        });
    }
    Ok(needed)
}

#[cfg(test)]
mod tests;
