//! The encoder's matrix products: our own kernel in main memory, candle's on other devices.

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Result, Storage, Tensor};

use super::Placement;
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
        placement: &Placement,
    ) -> Result<Self> {
        let device = &placement.device;
        if device.is_cpu() {
            let bytes: Vec<u8> = weight.into_iter().flat_map(f32::to_le_bytes).collect();
            let weight = Matrix::pack(GgmlDType::F32, &bytes, outputs, inputs)?;
            return Ok(Self::Packed { weight, bias });
        }
        let bias = bias.map(|bias| Tensor::from_vec(bias, outputs, device));
        let dtype = if placement.is_half() {
            DType::F16
        } else {
            DType::F32
        };
        Ok(Self::OnDevice {
            weight: Tensor::from_vec(weight, (outputs, inputs), device)?.to_dtype(dtype)?,
            bias: bias.transpose()?,
        })
    }

    /// Memory that the weights take.
    pub fn num_bytes(&self) -> usize {
        match self {
            Self::Packed { weight, .. } => weight.num_bytes(),
            Self::OnDevice { weight, .. } => weight.elem_count() * weight.dtype().size_in_bytes(),
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
                let input = input.to_dtype(weight.dtype())?;
                let output = input.matmul(&weight.t()?)?.to_dtype(DType::F32)?;
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

#[cfg(test)]
mod tests {
    use super::super::Precision;
    use super::*;

    #[test]
    fn weights_in_sixteen_bits_give_nearly_what_those_in_f32_give() {
        let noise =
            |len: usize| -> Vec<f32> { (0..len).map(|i| (i as f32 * 0.739).sin()).collect() };
        let (outputs, inputs, rows) = (48, 64, 5);
        let weight = noise(outputs * inputs);
        let bias = noise(outputs);
        let placement = Placement {
            device: Device::Cpu,
            precision: Precision::F32,
        };
        let packed = Linear::new(
            weight.clone(),
            [outputs, inputs],
            Some(bias.clone()),
            &placement,
        );
        // As on a GPU, but with candle's operations on the CPU.
        let tensor = Tensor::from_vec(weight, (outputs, inputs), &Device::Cpu).unwrap();
        let half = Linear::OnDevice {
            weight: tensor.to_dtype(DType::F16).unwrap(),
            bias: Some(Tensor::from_vec(bias, outputs, &Device::Cpu).unwrap()),
        };
        assert_eq!(half.num_bytes(), 2 * outputs * inputs);
        let input = Tensor::from_vec(noise(rows * inputs), (rows, inputs), &Device::Cpu).unwrap();
        let expected = packed.unwrap().forward(&input).unwrap();
        let found = half.forward(&input).unwrap();
        assert_eq!(found.dtype(), DType::F32);
        let difference = (found - expected).unwrap().abs().unwrap();
        let worst = difference.flatten_all().unwrap().max(0).unwrap();
        assert!(worst.to_scalar::<f32>().unwrap() < 2e-2);
    }
}
