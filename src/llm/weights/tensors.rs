//! Takes single tensors out of a checkpoint, in the shape that the model needs, and keeps count of those that were taken.

use std::collections::HashSet;
use std::ops::Range;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};

use super::WeightStore;
use crate::llm::LlmError;
use crate::llm::checkpoint::{Checkpoint, StoredTensor};
use crate::llm::hyperparameters::Hyperparameters;
use crate::llm::linear::{StoredMatrix, TokenEmbedding};

pub(super) struct Tensors<'a, S> {
    checkpoint: &'a dyn Checkpoint,
    pub store: &'a S,
    taken: HashSet<String>,
    /// Bytes of the tensors taken.
    pub num_bytes: u64,
}

impl<'a, S: WeightStore> Tensors<'a, S> {
    pub fn new(checkpoint: &'a dyn Checkpoint, store: &'a S) -> Self {
        Self {
            checkpoint,
            store,
            taken: HashSet::new(),
            num_bytes: 0,
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.tensor(name).is_some()
    }

    /// The matrix `stem.weight`, and the vector `stem.bias` if there is one.
    pub fn linear(
        &mut self,
        stem: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<S::Matrix, LlmError> {
        let bias = format!("{stem}.bias");
        let bias = match self.has(&bias) {
            true => Some(self.numbers(&bias, outputs)?),
            false => None,
        };
        let weight = self.stored_matrix(&format!("{stem}.weight"), outputs, inputs)?;
        self.take_matrix(weight, bias)
    }

    /// Some rows of a tensor of several matrices, as a matrix of their own.
    pub fn rows(
        &mut self,
        name: &str,
        whole: &[usize],
        rows: Range<usize>,
    ) -> Result<S::Matrix, LlmError> {
        let stored = self.checked(name, whole)?;
        let row_bytes = stored.bytes.len() / (whole.iter().product::<usize>() / last(whole));
        let bytes = &stored.bytes[rows.start * row_bytes..rows.end * row_bytes];
        let weight = StoredMatrix {
            dtype: stored.dtype,
            bytes,
            outputs: rows.len(),
            inputs: last(whole),
        };
        self.take_matrix(weight, None)
    }

    /// The vectors of all tokens.
    pub fn embedding(
        &mut self,
        name: &str,
        vocab_size: usize,
        hidden_size: usize,
    ) -> Result<TokenEmbedding, LlmError> {
        let table = self.stored_matrix(name, vocab_size, hidden_size)?;
        self.take(table, TokenEmbedding::new)
    }

    /// The matrix of this name, which has no bias.
    pub fn matrix(
        &mut self,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<S::Matrix, LlmError> {
        let weight = self.stored_matrix(name, outputs, inputs)?;
        self.take_matrix(weight, None)
    }

    fn stored_matrix(
        &mut self,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<StoredMatrix<'a>, LlmError> {
        let stored = self.checked(name, &[outputs, inputs])?;
        Ok(StoredMatrix {
            dtype: stored.dtype,
            bytes: stored.bytes,
            outputs,
            inputs,
        })
    }

    fn take_matrix(
        &mut self,
        weight: StoredMatrix,
        bias: Option<Vec<f32>>,
    ) -> Result<S::Matrix, LlmError> {
        let store = self.store;
        self.take(weight, |weight| store.matrix(weight, bias))
    }

    /// What `make` makes of a matrix. Its pages are given back afterwards, so that memory never holds both the whole file
    /// and what was made of it.
    fn take<T>(
        &mut self,
        matrix: StoredMatrix,
        make: impl FnOnce(StoredMatrix) -> Result<T, LlmError>,
    ) -> Result<T, LlmError> {
        self.num_bytes += matrix.bytes.len() as u64;
        let made = make(matrix);
        self.checkpoint.release(matrix.bytes);
        made
    }

    /// The weights of a norm, as they are multiplied by.
    pub fn norm(
        &mut self,
        name: &str,
        len: usize,
        model: &Hyperparameters,
    ) -> Result<S::Vector, LlmError> {
        let mut weights = self.numbers(name, len)?;
        weights.iter_mut().for_each(|it| *it += model.norm_offset);
        self.store.vector(weights)
    }

    /// A vector, expanded to f32.
    pub fn numbers(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LlmError> {
        let stored = self.checked(name, &[len])?;
        self.num_bytes += stored.bytes.len() as u64;
        let plain = match stored.dtype {
            GgmlDType::F32 => Some(DType::F32),
            GgmlDType::F16 => Some(DType::F16),
            GgmlDType::BF16 => Some(DType::BF16),
            _ => None,
        };
        let numbers = match plain {
            // They may lie between the addresses that candle reads them at.
            Some(plain) => Tensor::from_raw_buffer(stored.bytes, plain, &[len], &Device::Cpu)?
                .to_dtype(DType::F32)?,
            None => {
                let bytes = stored.bytes.into();
                let storage = QStorage::from_data(bytes, &Device::Cpu, stored.dtype)?;
                QTensor::new(storage, len)?.dequantize(&Device::Cpu)?
            }
        };
        Ok(numbers.to_vec1()?)
    }

    /// A tensor of this shape.
    fn checked(&mut self, name: &str, shape: &[usize]) -> Result<StoredTensor<'a>, LlmError> {
        let stored = self.stored(name)?;
        if stored.shape != shape {
            return Err(LlmError::InvalidTensor {
                tensor: self.checkpoint.name_in_file(name),
                problem: format!(
                    "has the shape {:?}, but the metadata asks for {shape:?}",
                    stored.shape
                ),
            });
        }
        if matches!(stored.dtype, GgmlDType::Q8_1 | GgmlDType::Q8K) {
            return Err(LlmError::InvalidTensor {
                tensor: self.checkpoint.name_in_file(name),
                problem: format!(
                    "is stored as {:?}, a type for intermediate results",
                    stored.dtype
                ),
            });
        }
        Ok(stored)
    }

    /// A tensor that the model cannot do without.
    pub fn stored(&mut self, name: &str) -> Result<StoredTensor<'a>, LlmError> {
        let stored = self
            .checkpoint
            .tensor(name)
            .ok_or_else(|| LlmError::MissingTensor {
                name: self.checkpoint.name_in_file(name),
            })?;
        self.taken.insert(name.to_owned());
        Ok(stored)
    }

    pub fn refuse_unused(&self) -> Result<(), LlmError> {
        let unused = self.checkpoint.names().find(|name| {
            // Old converters wrote the rotation's frequencies, which follow from the metadata.
            let is_implied = name.ends_with("attn_rot_embd.weight");
            !is_implied && !self.taken.contains(*name)
        });
        match unused {
            None => Ok(()),
            Some(name) => Err(LlmError::UnsupportedFeature {
                feature: format!("tensor {:?}", self.checkpoint.name_in_file(name)),
            }),
        }
    }
}

/// The length of a row.
fn last(shape: &[usize]) -> usize {
    shape[shape.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::linear::Linear;
    use crate::llm::rows::Rows;
    use crate::llm::testing::seeded_number;

    const WHOLE: [usize; 3] = [3, 4, 256];

    /// One tensor of several matrices.
    struct Stacked {
        dtype: GgmlDType,
        bytes: Vec<u8>,
    }

    impl Checkpoint for Stacked {
        fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
            (name == "stacked").then_some(StoredTensor {
                shape: &WHOLE,
                dtype: self.dtype,
                bytes: &self.bytes,
            })
        }

        fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
            Box::new(["stacked"].into_iter())
        }

        fn release(&self, _: &[u8]) {}
    }

    fn noise(shape: (usize, usize)) -> Tensor {
        let numbers: Vec<f32> = (0..shape.0 * shape.1)
            .map(|i| seeded_number(5, "noise", i))
            .collect();
        Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn a_part_of_a_quantized_tensor_multiplies_as_in_the_whole() {
        for dtype in [
            GgmlDType::F16,
            GgmlDType::Q8_0,
            GgmlDType::Q4_0,
            GgmlDType::Q6K,
        ] {
            let whole = QTensor::quantize(&noise((12, 256)), dtype).unwrap();
            let stacked = Stacked {
                dtype,
                bytes: whole.data().unwrap().to_vec(),
            };
            let input = noise((2, 256));
            let matrix = StoredMatrix {
                dtype,
                bytes: &stacked.bytes,
                outputs: 12,
                inputs: 256,
            };
            let linear = Linear::new(matrix, None, &Device::Cpu).unwrap();
            let expected = linear.forward(Rows::Plain(&input)).unwrap();
            let mut tensors = Tensors::new(&stacked, &Device::Cpu);
            for (first, len) in [(0, 4), (4, 4), (8, 4), (3, 7)] {
                let part = tensors.rows("stacked", &WHOLE, first..first + len).unwrap();
                let found = part
                    .forward(Rows::Plain(&input))
                    .unwrap()
                    .to_vec2::<f32>()
                    .unwrap();
                let expected = expected.narrow(1, first, len).unwrap();
                let expected = expected.to_vec2::<f32>().unwrap();
                for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                    assert!((found - expected).abs() < 1e-4, "{dtype:?}");
                }
            }
        }
    }
}
