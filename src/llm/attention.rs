//! Rotation, cache and attention of all layers: our kernels on the CPU and on NVIDIA GPUs, candle's operations where those
//! do not fit. The choice is made once, at load; all give the same numbers, but for rounding.

use candle_core::{DType, Device, Storage, Tensor};
use half::{bf16, f16};

use super::attention_ops::TensorCache;
use super::rope::Angles;
use super::step::Step;
use super::{KvDtype, LlmError};
use crate::kernels::paged_attention::{AttentionShape, CacheElement, LayerCache};

/// The KV cache of all layers, with the way to attend over it.
#[derive(Debug)]
pub(crate) enum Attention {
    F32(Vec<LayerCache<f32>>),
    F16(Vec<LayerCache<f16>>),
    Bf16(Vec<LayerCache<bf16>>),
    Q8(Vec<LayerCache<i8>>),
    #[cfg(feature = "cuda")]
    Cuda(Box<super::attention_cuda::CudaAttention>),
    Tensors(Vec<TensorCache>),
}

/// What the cache holds.
#[derive(Debug, Clone)]
pub(crate) struct CacheLayout {
    /// One shape a layer; they differ in their windows alone.
    pub layers: Vec<AttentionShape>,
    pub num_blocks: usize,
    pub dtype: KvDtype,
}

impl CacheLayout {
    /// Bytes of the whole cache, `None` when they cannot be counted in 64 bits.
    pub fn num_bytes(&self) -> Option<u64> {
        let layer_bytes = |shape: &AttentionShape| {
            let per_head =
                self.dtype.num_bytes(shape.key_dim) + self.dtype.num_bytes(shape.value_dim);
            let per_position = shape.num_kv_heads * per_head;
            [shape.block_size, self.num_blocks]
                .into_iter()
                .try_fold(per_position as u64, |bytes, n| bytes.checked_mul(n as u64))
        };
        self.layers
            .iter()
            .try_fold(0u64, |bytes, shape| bytes.checked_add(layer_bytes(shape)?))
    }
}

impl Attention {
    pub fn new(layout: CacheLayout, device: &Device) -> Result<Self, LlmError> {
        if device.is_cpu() {
            return Self::with_kernel(&layout).map_err(LlmError::NoMemory);
        }
        #[cfg(feature = "cuda")]
        if let Some(attention) = super::attention_cuda::CudaAttention::new(&layout, device)? {
            return Ok(Self::Cuda(Box::new(attention)));
        }
        Self::with_tensors(layout, device)
    }

    fn with_kernel(layout: &CacheLayout) -> std::io::Result<Self> {
        fn layers<E: CacheElement>(layout: &CacheLayout) -> std::io::Result<Vec<LayerCache<E>>> {
            layout
                .layers
                .iter()
                .map(|&shape| LayerCache::new(shape, layout.num_blocks))
                .collect()
        }
        Ok(match layout.dtype {
            KvDtype::F32 => Self::F32(layers(layout)?),
            KvDtype::F16 => Self::F16(layers(layout)?),
            KvDtype::Bf16 => Self::Bf16(layers(layout)?),
            KvDtype::Q8 => Self::Q8(layers(layout)?),
        })
    }

    pub fn with_tensors(layout: CacheLayout, device: &Device) -> Result<Self, LlmError> {
        let dtype = match layout.dtype {
            KvDtype::F32 => DType::F32,
            KvDtype::F16 => DType::F16,
            KvDtype::Bf16 => DType::BF16,
            KvDtype::Q8 => {
                return Err(LlmError::InvalidOptions {
                    problem: "a q8 cache can only be on the CPU, use f16".to_owned(),
                });
            }
        };
        let layers = layout
            .layers
            .iter()
            .map(|&shape| TensorCache::new(shape, layout.num_blocks, dtype, device))
            .collect::<Result<_, _>>()?;
        Ok(Self::Tensors(layers))
    }

    /// Copies blocks of all layers, from and to, one after the other.
    pub fn copy_blocks(&mut self, copies: &[(u32, u32)]) -> Result<(), LlmError> {
        fn copy<E: CacheElement>(layers: &mut [LayerCache<E>], copies: &[(u32, u32)]) {
            for layer in layers {
                for &(from, to) in copies {
                    layer.copy_block(from as usize, to as usize);
                }
            }
        }
        match self {
            Self::F32(layers) => copy(layers, copies),
            Self::F16(layers) => copy(layers, copies),
            Self::Bf16(layers) => copy(layers, copies),
            Self::Q8(layers) => copy(layers, copies),
            #[cfg(feature = "cuda")]
            Self::Cuda(cache) => {
                for &(from, to) in copies {
                    cache.copy_block(from, to)?;
                }
            }
            Self::Tensors(layers) => {
                for layer in layers {
                    for &(from, to) in copies {
                        layer.copy_block(from, to)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Rotates queries and keys, unless there are no angles, writes keys and values into the cache, and attends.
    ///
    /// `query` is `[num_tokens, num_heads * key_dim]`, `key` and `value` are `[num_tokens, num_kv_heads * dim]`, the
    /// result is `[num_tokens, num_heads * value_dim]`; all of them f32.
    pub fn forward(
        &mut self,
        layer: usize,
        rows: [&Tensor; 3],
        step: &Step,
        angles: Option<&Angles>,
    ) -> Result<Tensor, LlmError> {
        match self {
            Self::F32(layers) => with_kernel(&mut layers[layer], rows, step, angles),
            Self::F16(layers) => with_kernel(&mut layers[layer], rows, step, angles),
            Self::Bf16(layers) => with_kernel(&mut layers[layer], rows, step, angles),
            Self::Q8(layers) => with_kernel(&mut layers[layer], rows, step, angles),
            #[cfg(feature = "cuda")]
            Self::Cuda(cache) => cache.forward(layer, rows, step, angles),
            Self::Tensors(layers) => layers[layer].forward(rows, step, angles),
        }
    }
}

fn with_kernel<E: CacheElement>(
    cache: &mut LayerCache<E>,
    [query, key, value]: [&Tensor; 3],
    step: &Step,
    angles: Option<&Angles>,
) -> Result<Tensor, LlmError> {
    let shape = cache.shape();
    let mut query = numbers(query, <[f32]>::to_vec)?;
    let mut key = numbers(key, <[f32]>::to_vec)?;
    if let Some(angles) = angles {
        angles.rotate(&mut query, shape.key_dim);
        angles.rotate(&mut key, shape.key_dim);
    }
    numbers(value, |value| {
        let keys = key.chunks_exact(shape.num_kv_heads * shape.key_dim);
        let values = value.chunks_exact(shape.num_kv_heads * shape.value_dim);
        for (&(block, slot), (key, value)) in step.slots.iter().zip(keys.zip(values)) {
            cache.write(block as usize, slot, key, value);
        }
    })?;
    let num_tokens = step.tokens.len();
    let width = shape.num_heads * shape.value_dim;
    let mut output = vec![0f32; num_tokens * width];
    cache.attend(&query, &step.sequences, &mut output);
    Ok(Tensor::from_vec(output, (num_tokens, width), &Device::Cpu)?)
}

/// Shows the numbers of a contiguous f32 tensor on the CPU.
pub(crate) fn numbers<R>(tensor: &Tensor, show: impl FnOnce(&[f32]) -> R) -> Result<R, LlmError> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(candle_core::Error::Msg("the tensor is not on the CPU".to_owned()).into());
    };
    let first = layout.start_offset();
    let numbers = &storage.as_slice::<f32>()?[first..first + layout.shape().elem_count()];
    Ok(show(numbers))
}
