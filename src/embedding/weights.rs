//! Named tensors of a safetensors file as f32, each checked against the shape that the model's configuration promises.
//! A damaged or foreign file is a named error, never a panic.

use std::cell::Cell;
use std::path::Path;

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::EmbeddingError;

pub(super) struct Weights<'a> {
    file: SafeTensors<'a>,
    path: &'a Path,
    /// Put before every name: some checkpoints keep the encoder under the name of its architecture.
    prefix: &'static str,
    num_parameters: Cell<usize>,
}

impl<'a> Weights<'a> {
    /// `bytes` are the contents of `path`.
    pub(super) fn new(bytes: &'a [u8], path: &'a Path) -> Result<Weights<'a>, EmbeddingError> {
        let file =
            SafeTensors::deserialize(bytes).map_err(|error| EmbeddingError::InvalidFile {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        let prefix = ["", "bert.", "roberta."]
            .into_iter()
            .find(|prefix| {
                file.tensor(&format!("{prefix}embeddings.word_embeddings.weight"))
                    .is_ok()
            })
            .unwrap_or("");
        Ok(Weights {
            file,
            path,
            prefix,
            num_parameters: Cell::new(0),
        })
    }

    /// The values of a tensor in row-major order.
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EmbeddingError> {
        self.read(&format!("{}{name}", self.prefix), shape)
    }

    /// The same of a tensor beside the encoder, whose name has no prefix.
    pub(super) fn head_values(
        &self,
        name: &str,
        shape: &[usize],
    ) -> Result<Vec<f32>, EmbeddingError> {
        self.read(name, shape)
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EmbeddingError> {
        let invalid = |reason: String| EmbeddingError::InvalidFile {
            path: self.path.to_owned(),
            reason,
        };
        let tensor = self
            .file
            .tensor(name)
            .map_err(|_| invalid(format!("tensor {name:?} is missing")))?;
        if tensor.shape() != shape {
            return Err(invalid(format!(
                "tensor {name:?} has shape {:?}, but config.json asks for {shape:?}",
                tensor.shape()
            )));
        }
        let bytes = tensor.data();
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => words(bytes).map(f32::from_le_bytes).collect(),
            Dtype::F16 => words(bytes)
                .map(|b| f16::from_le_bytes(b).to_f32())
                .collect(),
            Dtype::BF16 => words(bytes)
                .map(|b| bf16::from_le_bytes(b).to_f32())
                .collect(),
            other => {
                return Err(invalid(format!(
                    "tensor {name:?} is of type {other:?}; only F32, F16 and BF16 can be read"
                )));
            }
        };
        if values.len() != shape.iter().product::<usize>() {
            return Err(invalid(format!(
                "tensor {name:?} has {} values for shape {shape:?}",
                values.len()
            )));
        }
        self.num_parameters
            .set(self.num_parameters.get() + values.len());
        Ok(values)
    }

    pub(super) fn tensor(
        &self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<Tensor, EmbeddingError> {
        Ok(Tensor::from_vec(self.values(name, shape)?, shape, device)?)
    }

    /// Values read so far.
    pub(super) fn num_parameters(&self) -> usize {
        self.num_parameters.get()
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}
