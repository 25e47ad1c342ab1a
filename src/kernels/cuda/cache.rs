//! The paged key-value cache of all layers in a GPU's memory.

use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, CudaStorage, Layout, Result};
use cudarc::driver::{CudaSlice, CudaView, DevicePtr};

use super::attention::{self, Addresses, Plan, Rotation, Stored};
use super::gpu::Gpu;
use crate::kernels::paged_attention::{AttentionShape, SequenceRows};

/// The numbers of a contiguous f32 tensor.
pub fn numbers<'a>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, f32>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(storage.as_cuda_slice::<f32>()?.slice(start..end)),
        None => candle_core::bail!("the rows do not lie together"),
    }
}

/// Keys and values of all layers, with what the kernels need for a step.
#[derive(Debug)]
pub struct PagedCache {
    gpu: Gpu,
    stored: Stored,
    layers: Vec<Layer>,
    step: Option<Step>,
}

#[derive(Debug)]
struct Layer {
    shape: AttentionShape,
    /// `[num_blocks * block_size, num_kv_heads, dim]` each.
    keys: CudaSlice<u8>,
    values: CudaSlice<u8>,
}

/// What all layers share.
#[derive(Debug)]
struct Step {
    plan: Plan,
    numbers: CudaSlice<u32>,
    scratch: CudaSlice<f32>,
    /// Cosines and sines of each rotation.
    angles: Vec<[CudaSlice<f32>; 2]>,
}

/// One of the step's rotations.
#[derive(Debug, Clone, Copy)]
pub struct StepRotation {
    pub index: usize,
    pub num_pairs: usize,
    pub is_interleaved: bool,
}

impl PagedCache {
    /// `shapes` must be supported; see [`attention::supports`].
    pub fn new(
        device: &CudaDevice,
        shapes: &[AttentionShape],
        num_blocks: usize,
        stored: Stored,
    ) -> Result<Self> {
        let layer = |shape: &AttentionShape| {
            let zeros = |dim: usize| {
                let num_positions = num_blocks * shape.block_size;
                let num_bytes = num_positions * shape.num_kv_heads * dim * stored.num_bytes();
                device.alloc_zeros::<u8>(num_bytes)
            };
            Ok(Layer {
                shape: *shape,
                keys: zeros(shape.key_dim)?,
                values: zeros(shape.value_dim)?,
            })
        };
        Ok(Self {
            gpu: Gpu::new(device),
            stored,
            layers: shapes.iter().map(layer).collect::<Result<_>>()?,
            step: None,
        })
    }

    /// Makes block `to` of all layers hold what block `from` holds.
    pub fn copy_block(&mut self, from: u32, to: u32) -> Result<()> {
        let stream = self.gpu.device().cuda_stream();
        for Layer {
            shape,
            keys,
            values,
        } in &mut self.layers
        {
            for (cache, dim) in [(keys, shape.key_dim), (values, shape.value_dim)] {
                let len = shape.block_size * shape.num_kv_heads * dim * self.stored.num_bytes();
                let range = |block: u32| block as usize * len..(block as usize + 1) * len;
                let block = stream.clone_dtod(&cache.slice(range(from))).w()?;
                let mut room = cache.slice_mut(range(to));
                stream.memcpy_dtod(&block, &mut room).w()?;
            }
        }
        Ok(())
    }

    /// Prepares a step: block and slot of every token, its sequences, and cosines and sines of each rotation, all of them
    /// checked to lie within the cache.
    pub fn begin(
        &mut self,
        slots: &[(u32, usize)],
        sequences: &[SequenceRows],
        angles: &[[&[f32]; 2]],
    ) -> Result<()> {
        let Some(layer) = self.layers.first() else {
            return Ok(());
        };
        let plan = Plan::new(slots, sequences, &layer.shape, self.stored);
        let device = self.gpu.device();
        let upload = |numbers: &&[f32]| device.clone_htod(*numbers);
        let angles = angles
            .iter()
            .map(|[cosines, sines]| Ok([upload(cosines)?, upload(sines)?]));
        self.step = Some(Step {
            numbers: device.clone_htod(&plan.numbers())?,
            // SAFETY: the kernels write before they read.
            scratch: unsafe { device.alloc(plan.scratch_len().max(1))? },
            angles: angles.collect::<Result<_>>()?,
            plan,
        });
        Ok(())
    }

    /// Rotates queries and keys, writes keys and values, and attends, for the step that was begun. `query` is `[num_tokens,
    /// num_heads * key_dim]`, `key` and `value` are `[num_tokens, num_kv_heads * dim]`, the result is `[num_tokens,
    /// num_heads * value_dim]`.
    pub fn attend(
        &self,
        layer: usize,
        [query, key, value]: [CudaView<'_, f32>; 3],
        rotation: Option<StepRotation>,
    ) -> Result<CudaSlice<f32>> {
        let Layer {
            shape,
            keys,
            values,
        } = &self.layers[layer];
        let Some(step) = &self.step else {
            candle_core::bail!("no step was begun");
        };
        let num_tokens = step.plan.num_tokens();
        let lens = [
            shape.num_heads * shape.key_dim,
            shape.num_kv_heads * shape.key_dim,
            shape.num_kv_heads * shape.value_dim,
        ];
        for (rows, len) in [&query, &key, &value].iter().zip(lens) {
            if cudarc::driver::DeviceSlice::len(*rows) != num_tokens * len {
                candle_core::bail!("rows of {len} numbers were expected for {num_tokens} tokens");
            }
        }
        let device = self.gpu.device();
        // SAFETY: every number of both is written before it is read.
        let (rotated, output) = unsafe {
            (
                device.alloc::<f32>(num_tokens * lens[0])?,
                device.alloc::<f32>(num_tokens * shape.num_heads * shape.value_dim)?,
            )
        };
        let stream = self.gpu.device().cuda_stream();
        // All of it is used on the one stream, in order; the guards are for programs with several.
        let (query, _query) = query.device_ptr(&stream);
        let (key, _key) = key.device_ptr(&stream);
        let (value, _value) = value.device_ptr(&stream);
        let (rotated, _rotated) = rotated.device_ptr(&stream);
        let (keys, _keys) = keys.device_ptr(&stream);
        let (values, _values) = values.device_ptr(&stream);
        let (plan, _plan) = step.numbers.device_ptr(&stream);
        let (scratch, _scratch) = step.scratch.device_ptr(&stream);
        let (output_address, output_guard) = output.device_ptr(&stream);
        let at = Addresses {
            query,
            key,
            value,
            rotated,
            keys,
            values,
            plan,
            scratch,
            output: output_address,
        };
        let angles = rotation.and_then(|it| Some((it, step.angles.get(it.index)?)));
        let angles = angles.map(|(rotation, [cosines, sines])| {
            let (cosines, cosines_guard) = cosines.device_ptr(&stream);
            let (sines, sines_guard) = sines.device_ptr(&stream);
            let rotation = Rotation {
                cosines,
                sines,
                num_pairs: rotation.num_pairs,
                is_interleaved: rotation.is_interleaved,
            };
            (rotation, [cosines_guard, sines_guard])
        });
        let rotation = angles.as_ref().map(|(rotation, _)| *rotation);
        // SAFETY: all lengths were checked here or chosen by the same shape; the caller of `begin` has checked the step.
        unsafe { attention::attend(&self.gpu, shape, self.stored, &step.plan, rotation, &at)? };
        drop(output_guard);
        Ok(output)
    }
}
