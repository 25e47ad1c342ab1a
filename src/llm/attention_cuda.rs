//! Attention by our CUDA kernels, as one of candle's custom operations.

use candle_core::{CpuStorage, CudaStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};

use super::attention::CacheLayout;
use super::rope::{Angles, Pairing};
use super::step::Step;
use super::{KvDtype, LlmError};
use crate::kernels::cuda::attention::{Stored, supports};
use crate::kernels::cuda::cache::{PagedCache, StepRotation, numbers};

#[derive(Debug)]
pub(crate) struct CudaAttention {
    cache: PagedCache,
    /// Numbers of a row of results.
    width: usize,
}

impl CudaAttention {
    /// `None` for heads, and types, that the kernels do not compute.
    pub fn new(
        layout: &CacheLayout,
        device: &Device,
    ) -> std::result::Result<Option<Self>, LlmError> {
        let (Device::Cuda(device), Some(shape)) = (device, layout.layers.first()) else {
            return Ok(None);
        };
        let stored = match layout.dtype {
            KvDtype::F32 => Stored::F32,
            KvDtype::F16 => Stored::F16,
            KvDtype::Bf16 => Stored::Bf16,
            KvDtype::Q8 => return Ok(None),
        };
        if !layout.layers.iter().all(supports) {
            return Ok(None);
        }
        Ok(Some(Self {
            cache: PagedCache::new(device, &layout.layers, layout.num_blocks, stored)?,
            width: shape.num_heads * shape.value_dim,
        }))
    }

    pub fn copy_block(&mut self, from: u32, to: u32) -> std::result::Result<(), LlmError> {
        Ok(self.cache.copy_block(from, to)?)
    }

    /// As [`super::attention::Attention::forward`]; the first layer of a step comes first.
    pub fn forward(
        &mut self,
        layer: usize,
        [query, key, value]: [&Tensor; 3],
        step: &Step,
        angles: Option<&Angles>,
    ) -> std::result::Result<Tensor, LlmError> {
        if layer == 0 {
            let angles: Vec<[&[f32]; 2]> = step
                .angles
                .iter()
                .map(|it| [it.cos.as_slice(), it.sin.as_slice()])
                .collect();
            self.cache.begin(&step.slots, &step.sequences, &angles)?;
        }
        let rotation = angles.and_then(|angles| {
            let index = step.angles.iter().position(|it| std::ptr::eq(it, angles))?;
            Some(StepRotation {
                index,
                num_pairs: angles.num_pairs,
                is_interleaved: angles.pairing == Pairing::Interleaved,
            })
        });
        let attend = Attend {
            attention: self,
            layer,
            rotation,
        };
        let (query, key, value) = (query.contiguous()?, key.contiguous()?, value.contiguous()?);
        Ok(query.apply_op3_no_bwd(&key, &value, &attend)?)
    }
}

struct Attend<'a> {
    attention: &'a CudaAttention,
    layer: usize,
    rotation: Option<StepRotation>,
}

impl CustomOp3 for Attend<'_> {
    fn name(&self) -> &'static str {
        "paged-attention"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("the cache is in a GPU's memory, but the rows are not")
    }

    fn cuda_fwd(
        &self,
        query: &CudaStorage,
        query_layout: &Layout,
        key: &CudaStorage,
        key_layout: &Layout,
        value: &CudaStorage,
        value_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let rows = [
            numbers(query, query_layout)?,
            numbers(key, key_layout)?,
            numbers(value, value_layout)?,
        ];
        let CudaAttention { cache, width } = self.attention;
        let output = cache.attend(self.layer, rows, self.rotation)?;
        let shape = (query_layout.dims()[0], *width);
        let output = CudaStorage::wrap_cuda_slice(output, query.device.clone());
        Ok((output, shape.into()))
    }
}
