//! Matrix products by our CUDA kernels, as one of candle's custom operations.

use candle_core::{CpuStorage, CudaStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};

use super::LlmError;
use super::linear::StoredMatrix;
use crate::kernels::cuda::cache::numbers;
use crate::kernels::cuda::gpu::Gpu;
use crate::kernels::cuda::matrix::DeviceMatrix;
use crate::kernels::cuda::products::multiply_on;

/// A matrix in a GPU's memory, with its bias.
#[derive(Debug)]
pub(crate) struct GpuLinear {
    gpu: Gpu,
    matrix: DeviceMatrix<Gpu>,
}

impl GpuLinear {
    pub fn new(
        weight: StoredMatrix,
        bias: Option<Tensor>,
        device: &Device,
    ) -> std::result::Result<Self, LlmError> {
        let gpu = Gpu::new(device.as_cuda_device()?);
        let bias = bias.map(|bias| bias.to_vec1::<f32>()).transpose()?;
        let shape = [weight.outputs, weight.inputs];
        let matrix = DeviceMatrix::new(&gpu, weight.dtype, weight.bytes, bias.as_deref(), shape)?;
        Ok(Self { gpu, matrix })
    }

    /// What each of `linears` gives for the rows of `input`.
    pub fn forward_all(linears: &[&Self], input: &Tensor) -> Result<Vec<Tensor>> {
        let num_rows = input.dim(0)?;
        let outputs = input
            .contiguous()?
            .apply_op1_no_bwd(&Multiply { linears })?;
        let mut first = 0;
        let of_linear = |linear: &&Self| {
            let num_outputs = linear.matrix.num_outputs();
            let numbers = outputs.narrow(0, first, num_rows * num_outputs)?;
            first += num_rows * num_outputs;
            numbers.reshape((num_rows, num_outputs))
        };
        linears.iter().map(of_linear).collect()
    }
}

struct Multiply<'a> {
    linears: &'a [&'a GpuLinear],
}

impl CustomOp1 for Multiply<'_> {
    fn name(&self) -> &'static str {
        "products"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("the weights are in a GPU's memory, but the rows are not")
    }

    fn cuda_fwd(&self, input: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let rows = numbers(input, layout)?;
        let num_rows = layout.dims()[0];
        let matrices: Vec<&DeviceMatrix<Gpu>> = self.linears.iter().map(|it| &it.matrix).collect();
        let num_outputs: usize = matrices.iter().map(|matrix| matrix.num_outputs()).sum();
        let Some(linear) = self.linears.first() else {
            candle_core::bail!("there is nothing to multiply with");
        };
        let output = multiply_on(&linear.gpu, &rows, num_rows, &matrices)?;
        let output = CudaStorage::wrap_cuda_slice(output, input.device.clone());
        Ok((output, (num_rows * num_outputs).into()))
    }
}
