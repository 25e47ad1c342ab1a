//! Takes a model's tensors out of a GGUF file. Every tensor that the model needs must be there in the right shape, and
//! every tensor of the file must be one that the decoder computes with: a model is never computed in part.

use std::collections::HashSet;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};

use super::LlmError;
use super::gguf::{GgufFile, TensorEntry};
use super::hyperparameters::Hyperparameters;
use super::linear::{Linear, StoredMatrix, TokenEmbedding};
use super::rope::ROPE_FREQS;

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    pub embedding: TokenEmbedding,
    pub layers: Vec<LayerWeights>,
    pub output_norm: Tensor,
    pub output: Linear,
    /// What `rope_freqs.weight` divides the frequencies by.
    pub rope_divisors: Option<Vec<f32>>,
    pub vocab_size: usize,
    /// Bytes of the file's tensors that are held in memory.
    pub num_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct LayerWeights {
    pub attention_norm: Tensor,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub query_norm: Option<Tensor>,
    pub key_norm: Option<Tensor>,
    pub attention_output: Linear,
    pub feed_forward_norm: Tensor,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

impl Weights {
    pub fn load(
        gguf: &GgufFile,
        model: &Hyperparameters,
        device: &Device,
    ) -> Result<Self, LlmError> {
        let mut loader = Loader {
            gguf,
            device,
            used: HashSet::new(),
            num_bytes: 0,
        };
        let weights = loader.weights(model)?;
        loader.refuse_unused()?;
        Ok(weights)
    }
}

struct Loader<'a> {
    gguf: &'a GgufFile,
    device: &'a Device,
    used: HashSet<&'a str>,
    num_bytes: u64,
}

impl<'a> Loader<'a> {
    fn weights(&mut self, model: &Hyperparameters) -> Result<Weights, LlmError> {
        const EMBEDDING: &str = "token_embd.weight";
        const OUTPUT: &str = "output.weight";
        let hidden = model.hidden_size;
        let vocab_size = match *self.entry(EMBEDDING)?.shape.as_slice() {
            [rows, _] => rows,
            _ => 0,
        };
        let embedding = self.matrix(EMBEDDING, vocab_size, hidden, |table, device| {
            Ok(TokenEmbedding::new(table, device))
        })?;
        let output = if self.gguf.tensor(OUTPUT).is_some() {
            self.linear("output", vocab_size, hidden)?
        } else if self.device.is_cpu() {
            Linear::tied(&embedding)
        } else {
            self.matrix(EMBEDDING, vocab_size, hidden, |table, device| {
                Linear::new(table, None, device)
            })?
        };
        let mut layers = Vec::new();
        for index in 0..model.num_layers {
            layers.push(self.layer(index, model)?);
        }
        Ok(Weights {
            embedding,
            layers,
            output_norm: self.vector("output_norm.weight", hidden)?,
            output,
            rope_divisors: self.rope_divisors(model)?,
            vocab_size,
            num_bytes: self.num_bytes,
        })
    }

    fn layer(&mut self, index: usize, model: &Hyperparameters) -> Result<LayerWeights, LlmError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let hidden = model.hidden_size;
        let feed_forward = model.feed_forward_size;
        let queries = model.num_heads * model.key_dim;
        let keys = model.num_kv_heads * model.key_dim;
        let values = model.num_kv_heads * model.value_dim;
        if model.architecture.has_attention_bias() {
            for part in ["attn_q.bias", "attn_k.bias", "attn_v.bias"] {
                self.entry(&name(part))?;
            }
        }
        let (query_norm, key_norm) = if model.architecture.has_head_norm() {
            (
                Some(self.vector(&name("attn_q_norm.weight"), model.key_dim)?),
                Some(self.vector(&name("attn_k_norm.weight"), model.key_dim)?),
            )
        } else {
            (None, None)
        };
        Ok(LayerWeights {
            attention_norm: self.vector(&name("attn_norm.weight"), hidden)?,
            query: self.linear(&name("attn_q"), queries, hidden)?,
            key: self.linear(&name("attn_k"), keys, hidden)?,
            value: self.linear(&name("attn_v"), values, hidden)?,
            query_norm,
            key_norm,
            attention_output: self.linear(
                &name("attn_output"),
                hidden,
                model.num_heads * model.value_dim,
            )?,
            feed_forward_norm: self.vector(&name("ffn_norm.weight"), hidden)?,
            gate: self.linear(&name("ffn_gate"), feed_forward, hidden)?,
            up: self.linear(&name("ffn_up"), feed_forward, hidden)?,
            down: self.linear(&name("ffn_down"), hidden, feed_forward)?,
        })
    }

    fn rope_divisors(&mut self, model: &Hyperparameters) -> Result<Option<Vec<f32>>, LlmError> {
        if self.gguf.tensor(ROPE_FREQS).is_none() {
            return Ok(None);
        }
        let divisors = self.vector(ROPE_FREQS, model.rope.dimensions / 2)?;
        Ok(Some(divisors.to_device(&Device::Cpu)?.to_vec1()?))
    }

    /// The matrix `stem.weight`, and the vector `stem.bias` if the file has one.
    fn linear(&mut self, stem: &str, outputs: usize, inputs: usize) -> Result<Linear, LlmError> {
        let bias = format!("{stem}.bias");
        let bias = match self.gguf.tensor(&bias) {
            Some(_) => Some(self.vector(&bias, outputs)?),
            None => None,
        };
        let weight = format!("{stem}.weight");
        self.matrix(&weight, outputs, inputs, |weight, device| {
            Linear::new(weight, bias, device)
        })
    }

    /// A vector, expanded to f32.
    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor, LlmError> {
        let entry = self.checked(name, &[len])?;
        let bytes = self.gguf.tensor_bytes(entry);
        let storage = QStorage::from_data(bytes.into(), &Device::Cpu, entry.dtype)?;
        let tensor = QTensor::new(storage, len)?.dequantize(&Device::Cpu)?;
        Ok(tensor.to_device(self.device)?)
    }

    /// What `take` makes of a matrix of the file. Its pages are given back afterwards, so that memory never holds both
    /// the whole file and what was made of it.
    fn matrix<T>(
        &mut self,
        name: &str,
        outputs: usize,
        inputs: usize,
        take: impl FnOnce(StoredMatrix, &Device) -> Result<T, LlmError>,
    ) -> Result<T, LlmError> {
        let entry = self.checked(name, &[outputs, inputs])?;
        let stored = StoredMatrix {
            dtype: entry.dtype,
            bytes: self.gguf.tensor_bytes(entry),
            outputs,
            inputs,
        };
        let taken = take(stored, self.device);
        self.gguf.release(entry);
        taken
    }

    /// The table entry of a tensor that the model cannot do without, with a shape and type that can be computed with.
    fn checked(&mut self, name: &str, shape: &[usize]) -> Result<&'a TensorEntry, LlmError> {
        let entry = self.entry(name)?;
        if entry.shape != shape {
            return Err(LlmError::InvalidTensor {
                tensor: name.to_owned(),
                problem: format!(
                    "has the shape {:?}, but the metadata asks for {shape:?}",
                    entry.shape
                ),
            });
        }
        if matches!(entry.dtype, GgmlDType::Q8_1 | GgmlDType::Q8K) {
            return Err(LlmError::InvalidTensor {
                tensor: name.to_owned(),
                problem: format!(
                    "is stored as {:?}, a type for intermediate results",
                    entry.dtype
                ),
            });
        }
        self.num_bytes += entry.num_bytes() as u64;
        Ok(entry)
    }

    /// The table entry of a tensor that the model cannot do without.
    fn entry(&mut self, name: &str) -> Result<&'a TensorEntry, LlmError> {
        let entry = self
            .gguf
            .tensor(name)
            .ok_or_else(|| LlmError::MissingTensor {
                name: name.to_owned(),
            })?;
        self.used.insert(&entry.name);
        Ok(entry)
    }

    fn refuse_unused(&self) -> Result<(), LlmError> {
        let unused = self.gguf.tensors().find(|tensor| {
            // Old converters wrote the rotation's frequencies, which follow from the metadata.
            let is_implied = tensor.name.ends_with("attn_rot_embd.weight");
            !is_implied && !self.used.contains(tensor.name.as_str())
        });
        match unused {
            None => Ok(()),
            Some(tensor) => Err(LlmError::UnsupportedFeature {
                feature: format!("tensor {:?}", tensor.name),
            }),
        }
    }
}
