//! Matrix products by our CUDA kernels, with tensors in a GPU's memory.

use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Device, Result, Storage, Tensor};

use super::LlmError;
use super::hyperparameters::Activation;
use super::linear::StoredMatrix;
use super::rows::{Onto, Rows};
use crate::kernels::cuda::cache::numbers;
use crate::kernels::cuda::gpu::Gpu;
use crate::kernels::cuda::matrix::DeviceMatrix;
use crate::kernels::cuda::products::{RowsOn, multiply_on};
use crate::kernels::cuda::rows::Gate;

/// A matrix in a GPU's memory, with its bias.
#[derive(Debug)]
pub(crate) struct GpuLinear {
    gpu: Gpu,
    matrix: DeviceMatrix<Gpu>,
}

impl GpuLinear {
    pub fn new(
        weight: StoredMatrix,
        bias: Option<Vec<f32>>,
        device: &Device,
    ) -> std::result::Result<Self, LlmError> {
        let gpu = Gpu::new(device.as_cuda_device()?);
        let shape = [weight.outputs, weight.inputs];
        let matrix = DeviceMatrix::new(&gpu, weight.dtype, weight.bytes, bias.as_deref(), shape)?;
        Ok(Self { gpu, matrix })
    }

    /// What each of `linears` gives for the same rows.
    pub fn forward_all(
        linears: &[&Self],
        rows: Rows,
    ) -> std::result::Result<Vec<Tensor>, LlmError> {
        let num_rows = rows.num_rows()?;
        let outputs = multiply(linears, rows, num_rows, None)?;
        let mut first = 0;
        let of_linear = |linear: &&Self| {
            let num_outputs = linear.matrix.num_outputs();
            let numbers = outputs.narrow(0, first, num_rows * num_outputs)?;
            first += num_rows * num_outputs;
            Ok(numbers.reshape((num_rows, num_outputs))?)
        };
        linears.iter().map(of_linear).collect()
    }

    /// What it gives, added to what is there.
    pub fn forward_onto(&self, rows: Rows, onto: Onto) -> std::result::Result<Tensor, LlmError> {
        let sums = multiply(&[self], rows, rows.num_rows()?, Some(onto))?;
        Ok(sums.reshape(onto.rows.shape())?)
    }
}

/// The products of one matrix after the other, in one tensor.
fn multiply(
    linears: &[&GpuLinear],
    rows: Rows,
    num_rows: usize,
    onto: Option<Onto>,
) -> Result<Tensor> {
    let Some(linear) = linears.first() else {
        candle_core::bail!("there is nothing to multiply with");
    };
    let matrices: Vec<&DeviceMatrix<Gpu>> = linears.iter().map(|it| &it.matrix).collect();
    let (first, second) = match rows {
        Rows::Plain(rows) => (rows, None),
        Rows::Normed { rows, weight, .. } => (rows, Some(weight)),
        Rows::Gated { gate, up, .. } => (gate, Some(up)),
    };
    let (first, second) = (
        first.contiguous()?,
        second.map(Tensor::contiguous).transpose()?,
    );
    // Held until all is launched.
    let (first_storage, first_layout) = first.storage_and_layout();
    let second = second.as_ref().map(Tensor::storage_and_layout);
    let first = numbers(on_gpu(&first_storage)?, first_layout)?;
    let second = match &second {
        Some((storage, layout)) => Some(numbers(on_gpu(storage)?, layout)?),
        None => None,
    };
    let there = onto.map(|onto| onto.rows.contiguous()).transpose()?;
    let there = there.as_ref().map(Tensor::storage_and_layout);
    let there = match &there {
        Some((storage, layout)) => Some(numbers(on_gpu(storage)?, layout)?),
        None => None,
    };
    let scale = onto.map_or(1.0, |onto| onto.scale);
    let onto = there.as_ref().map(|there| (there, scale));
    let input = match (rows, second) {
        (Rows::Normed { epsilon, .. }, Some(weight)) => RowsOn::Normed {
            rows: first,
            weight,
            epsilon,
        },
        (Rows::Gated { activation, .. }, Some(up)) => RowsOn::Gated {
            gate: first,
            up,
            gate_is: match activation {
                Activation::Silu => Gate::Silu,
                Activation::GeluTanh => Gate::GeluTanh,
            },
        },
        _ => RowsOn::Plain(first),
    };
    let num_outputs: usize = matrices.iter().map(|matrix| matrix.num_outputs()).sum();
    let output = multiply_on(&linear.gpu, &input, num_rows, &matrices, onto)?;
    let output = CudaStorage::wrap_cuda_slice(output, linear.gpu.device().clone());
    let shape = num_rows * num_outputs;
    Ok(Tensor::from_storage(
        Storage::Cuda(output),
        shape,
        BackpropOp::none(),
        false,
    ))
}

fn on_gpu(storage: &Storage) -> Result<&CudaStorage> {
    match storage {
        Storage::Cuda(storage) => Ok(storage),
        _ => candle_core::bail!("the weights are in a GPU's memory, but the rows are not"),
    }
}
