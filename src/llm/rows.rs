//! What a layer's matrices are multiplied with: rows, and what is done with their numbers first. On a GPU that is a part of the
//! product, elsewhere an operation of its own. What a row gives depends on that row alone.

use candle_core::{Device, Tensor};
use candle_nn::ops::silu;

use super::LlmError;
use super::attention::numbers;
use super::hyperparameters::Activation;
use crate::kernels::activation::{geglu, swiglu};
use crate::kernels::norm::rms_norm;

/// Rows `[num_rows, inputs]` of f32.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rows<'a> {
    Plain(&'a Tensor),
    /// Divided by their root mean square and multiplied with `weight`, `[inputs]`.
    Normed {
        rows: &'a Tensor,
        weight: &'a Tensor,
        epsilon: f32,
    },
    /// `activation(gate) * up`.
    Gated {
        gate: &'a Tensor,
        up: &'a Tensor,
        activation: Activation,
    },
}

/// What an update is added to: `rows + scale * update`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Onto<'a> {
    pub rows: &'a Tensor,
    pub scale: f32,
}

impl Onto<'_> {
    pub fn add(&self, update: Tensor) -> Result<Tensor, LlmError> {
        Ok((self.rows + scaled(update, self.scale)?)?)
    }
}

impl Rows<'_> {
    /// As a tensor of their own.
    pub fn compute(&self) -> Result<Tensor, LlmError> {
        match *self {
            Self::Plain(rows) => Ok(rows.clone()),
            Self::Normed {
                rows,
                weight,
                epsilon,
            } => normed(rows, weight, epsilon),
            Self::Gated {
                gate,
                up,
                activation,
            } => gated(gate, up, activation),
        }
    }

    /// How many there are.
    #[cfg(feature = "cuda")]
    pub fn num_rows(&self) -> Result<usize, LlmError> {
        let (Self::Plain(rows) | Self::Normed { rows, .. } | Self::Gated { gate: rows, .. }) = self;
        Ok(rows.dim(0)?)
    }
}

/// Most models multiply by 1, which costs nothing.
pub(crate) fn scaled(tensor: Tensor, factor: f32) -> Result<Tensor, LlmError> {
    if factor == 1.0 {
        return Ok(tensor);
    }
    Ok((tensor * f64::from(factor))?)
}

/// Root mean square normalisation of the last dimension.
pub(crate) fn normed(rows: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor, LlmError> {
    if !rows.device().is_cpu() {
        return Ok(candle_nn::ops::rms_norm(rows, weight, epsilon)?);
    }
    let normed = numbers(rows, |rows| {
        numbers(weight, |weight| rms_norm(rows, weight, epsilon))
    })??;
    Ok(Tensor::from_vec(normed, rows.shape(), &Device::Cpu)?)
}

fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor, LlmError> {
    if gate.device().is_cpu() {
        let kernel = match activation {
            Activation::Silu => swiglu,
            Activation::GeluTanh => geglu,
        };
        let values = numbers(gate, |gate| numbers(up, |up| kernel(gate, up)))??;
        return Ok(Tensor::from_vec(values, gate.shape(), &Device::Cpu)?);
    }
    gated_by_operations(gate, up, activation)
}

fn gated_by_operations(
    gate: &Tensor,
    up: &Tensor,
    activation: Activation,
) -> Result<Tensor, LlmError> {
    let activated = match activation {
        Activation::Silu => silu(gate)?,
        // candle's `gelu` is the approximation.
        Activation::GeluTanh => gate.gelu()?,
    };
    Ok((activated * up)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candle_operations_give_what_the_kernels_give() {
        let numbers: Vec<f32> = (-300..300).map(|i| i as f32 / 40.0).collect();
        let gate = Tensor::new(numbers.as_slice(), &Device::Cpu).unwrap();
        let up = gate.cos().unwrap();
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let kernel = gated(&gate, &up, activation).unwrap();
            let operations = gated_by_operations(&gate, &up, activation).unwrap();
            let difference = (kernel - operations).unwrap().abs().unwrap();
            let largest = difference.max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(largest < 1e-5, "{activation:?}: {largest}");
        }
    }
}
