//! An encoder's attention by our CUDA kernel, as one of candle's custom operations.

use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::kernels::cuda::cache::numbers;
use crate::kernels::cuda::texts;

/// Attention of each text to itself, [num_tokens, 3 * hidden] to [num_tokens, hidden]; `None` for heads that the kernel does
/// not compute, and tensors that are not on a GPU.
pub(super) fn attend(qkv: &Tensor, lengths: &[usize], num_heads: usize) -> Result<Option<Tensor>> {
    let width = qkv.dim(1)? / 3;
    if !qkv.device().is_cuda() || !texts::supports(width, num_heads) {
        return Ok(None);
    }
    let attend = Attend {
        lengths,
        width,
        num_heads,
    };
    qkv.contiguous()?.apply_op1_no_bwd(&attend).map(Some)
}

struct Attend<'a> {
    lengths: &'a [usize],
    width: usize,
    num_heads: usize,
}

impl CustomOp1 for Attend<'_> {
    fn name(&self) -> &'static str {
        "text-attention"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("this attention is for GPUs")
    }

    fn cuda_fwd(&self, qkv: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let rows = numbers(qkv, layout)?;
        let (width, num_heads) = (self.width, self.num_heads);
        let output = texts::attend_on(&qkv.device, &rows, self.lengths, width, num_heads)?;
        let shape = (layout.dims()[0], width);
        Ok((
            CudaStorage::wrap_cuda_slice(output, qkv.device.clone()),
            shape.into(),
        ))
    }
}
