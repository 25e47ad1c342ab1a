//! The encoder's matrix products: our own kernel in main memory, candle's on other devices.

use candle_core::quantized::GgmlDType;
use candle_core::{Device, Result, Storage, Tensor};

use crate::kernels::matrix::{self, Matrix, Product};

/// A product with a matrix `[outputs, inputs]`, and an optional bias.
pub(super) enum Linear {
    Packed {
        weight: Matrix,
        bias: Option<Vec<f32>>,
    },
    OnDevice {
        weight: Tensor,
        bias: Option<Tensor>,
    },
}

impl Linear {
    /// `weight` is `[outputs, inputs]`, `bias` `[outputs]`.
    pub fn new(
        weight: Vec<f32>,
        [outputs, inputs]: [usize; 2],
        bias: Option<Vec<f32>>,
        device: &Device,
    ) -> Result<Self> {
        if device.is_cpu() {
            let bytes: Vec<u8> = weight.into_iter().flat_map(f32::to_le_bytes).collect();
            let weight = Matrix::pack(GgmlDType::F32, &bytes, outputs, inputs)?;
            return Ok(Self::Packed { weight, bias });
        }
        let bias = bias.map(|bias| Tensor::from_vec(bias, outputs, device));
        Ok(Self::OnDevice {
            weight: Tensor::from_vec(weight, (outputs, inputs), device)?,
            bias: bias.transpose()?,
        })
    }

    /// Memory that the weights take.
    pub fn num_bytes(&self) -> usize {
        match self {
            Self::Packed { weight, .. } => weight.num_bytes(),
            Self::OnDevice { weight, .. } => weight.elem_count() * size_of::<f32>(),
        }
    }

    /// `[num_tokens, inputs]` to `[num_tokens, outputs]`, which is the only owner of its memory.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        match self {
            Self::Packed { weight, bias } => {
                let product = Product {
                    matrix: weight,
                    bias: bias.as_deref(),
                };
                let output = numbers(input, |input| matrix::multiply(input, &[product]))?;
                let shape = (input.dim(0)?, weight.num_outputs());
                let output = output.into_iter().next().unwrap_or_default();
                Tensor::from_vec(output, shape, &Device::Cpu)
            }
            Self::OnDevice { weight, bias } => {
                let output = input.matmul(&weight.t()?)?;
                match bias {
                    Some(bias) => output.broadcast_add(bias),
                    None => Ok(output),
                }
            }
        }
    }
}

/// Shows the numbers of a contiguous f32 tensor in main memory.
pub(super) fn numbers<R>(tensor: &Tensor, show: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("the tensor is not in main memory");
    };
    let first = layout.start_offset();
    let numbers = &storage.as_slice::<f32>()?[first..first + layout.shape().elem_count()];
    Ok(show(numbers))
}
