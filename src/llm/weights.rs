//! Takes a model's tensors out of a GGUF file. Every tensor that the model needs must be there in the right shape, and
//! every tensor of the file must be one that the decoder computes with: a model is never computed in part.

use std::collections::HashSet;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Tensor};

use super::LlmError;
use super::gguf::{GgufFile, TensorEntry};
use super::hyperparameters::Hyperparameters;
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

/// A matrix product with an optional bias.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

impl Linear {
    /// `[num_tokens, inputs]` to `[num_tokens, outputs]`.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor, LlmError> {
        let output = self.weight.forward(input)?;
        match &self.bias {
            Some(bias) => Ok(output.broadcast_add(bias)?),
            None => Ok(output),
        }
    }
}

/// The vectors of all tokens, kept as the file has them, in main memory.
#[derive(Debug)]
pub(crate) struct TokenEmbedding {
    table: Arc<QTensor>,
    device: Device,
}

impl TokenEmbedding {
    /// `[num_tokens, hidden_size]`; only the rows of these tokens are expanded.
    pub fn forward(&self, tokens: &[u32]) -> Result<Tensor, LlmError> {
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        Ok(self.table.embedding(&ids)?.to_device(&self.device)?)
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
        let embedding = self.quantized(EMBEDDING, &[vocab_size, hidden], &Device::Cpu)?;
        let output = if self.gguf.tensor(OUTPUT).is_some() {
            self.linear("output", vocab_size, hidden)?
        } else if self.device.is_cpu() {
            Linear {
                weight: multiplier(embedding.clone(), self.device)?,
                bias: None,
            }
        } else {
            let table = self.quantized(EMBEDDING, &[vocab_size, hidden], self.device)?;
            Linear {
                weight: multiplier(table, self.device)?,
                bias: None,
            }
        };
        let mut layers = Vec::new();
        for index in 0..model.num_layers {
            layers.push(self.layer(index, model)?);
        }
        Ok(Weights {
            embedding: TokenEmbedding {
                table: embedding,
                device: self.device.clone(),
            },
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
        let weight = self.quantized(&format!("{stem}.weight"), &[outputs, inputs], self.device)?;
        let bias = format!("{stem}.bias");
        let bias = match self.gguf.tensor(&bias) {
            Some(_) => Some(self.vector(&bias, outputs)?),
            None => None,
        };
        Ok(Linear {
            weight: multiplier(weight, self.device)?,
            bias,
        })
    }

    /// A vector, expanded to f32.
    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor, LlmError> {
        let tensor = self.quantized(name, &[len], &Device::Cpu)?;
        Ok(tensor.dequantize(self.device)?)
    }

    fn quantized(
        &mut self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<Arc<QTensor>, LlmError> {
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
        let bytes = self.gguf.tensor_bytes(entry);
        let storage = QStorage::from_data(bytes.into(), device, entry.dtype)?;
        self.num_bytes += bytes.len() as u64;
        Ok(Arc::new(QTensor::new(storage, shape)?))
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

fn multiplier(weight: Arc<QTensor>, device: &Device) -> Result<QMatMul, LlmError> {
    if device.is_cpu() {
        // Computes F32, F16 and BF16 where they lie; `from_arc` would expand them to F32 first.
        Ok(QMatMul::QTensor(weight))
    } else {
        Ok(QMatMul::from_arc(weight)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::testing::seeded_number;

    fn noise(name: &str, rows: usize, columns: usize) -> Tensor {
        let numbers: Vec<f32> = (0..rows * columns)
            .map(|i| seeded_number(1, name, i))
            .collect();
        Tensor::from_vec(numbers, (rows, columns), &Device::Cpu).unwrap()
    }

    /// The largest difference, as a fraction of the expected numbers' root mean square.
    fn relative_difference(found: &Tensor, expected: &Tensor) -> f32 {
        let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        let difference = largest(&(found - expected).unwrap());
        let mean_square = expected.sqr().unwrap().mean_all().unwrap();
        difference.to_scalar::<f32>().unwrap() / mean_square.to_scalar::<f32>().unwrap().sqrt()
    }

    #[derive(serde::Deserialize)]
    struct Goldens {
        quantized: Vec<Quantized>,
    }

    #[derive(serde::Deserialize)]
    struct Quantized {
        r#type: String,
        bytes: String,
        numbers: Vec<f32>,
    }

    fn dtype(name: &str) -> GgmlDType {
        match name {
            "Q4_0" => GgmlDType::Q4_0,
            "Q4_1" => GgmlDType::Q4_1,
            "Q5_0" => GgmlDType::Q5_0,
            "Q5_1" => GgmlDType::Q5_1,
            "Q8_0" => GgmlDType::Q8_0,
            "Q2_K" => GgmlDType::Q2K,
            "Q3_K" => GgmlDType::Q3K,
            "Q4_K" => GgmlDType::Q4K,
            "Q5_K" => GgmlDType::Q5K,
            "Q6_K" => GgmlDType::Q6K,
            other => panic!("unknown type {other}"),
        }
    }

    #[test]
    fn every_quantization_is_read_and_multiplied_as_gguf_py_expands_it() {
        let text = include_str!("../../tests/goldens/llm_goldens.json");
        let goldens: Goldens = serde_json::from_str(text).unwrap();
        assert_eq!(goldens.quantized.len(), 10);
        // 32 equal rows, so that the products for many rows are taken too.
        const ROWS: usize = 32;
        for golden in goldens.quantized {
            let name = golden.r#type;
            let row: Vec<u8> = (0..golden.bytes.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&golden.bytes[i..i + 2], 16).unwrap())
                .collect();
            let storage =
                QStorage::from_data(row.repeat(ROWS).into(), &Device::Cpu, dtype(&name)).unwrap();
            let table = Arc::new(QTensor::new(storage, (ROWS, 256)).unwrap());
            let expected = Tensor::from_vec(golden.numbers, (1, 256), &Device::Cpu).unwrap();

            let embedding = TokenEmbedding {
                table: table.clone(),
                device: Device::Cpu,
            };
            let found = embedding.forward(&[17]).unwrap();
            assert!(relative_difference(&found, &expected) < 1e-5, "{name}");

            let linear = Linear {
                weight: multiplier(table, &Device::Cpu).unwrap(),
                bias: None,
            };
            let all_rows = expected.broadcast_as((ROWS, 256)).unwrap();
            for num_tokens in [1, 3, 40] {
                let input = noise("input", num_tokens, 256);
                let found = linear.forward(&input).unwrap();
                let expected = input.matmul(&all_rows.t().unwrap()).unwrap();
                let difference = relative_difference(&found, &expected);
                // The input is quantized to 8 bits for the product.
                assert!(
                    difference < 5e-2,
                    "{name}, {num_tokens} tokens: {difference}"
                );
            }
        }
    }

    /// Up to rounding: on x86-64 with AVX2, candle multiplies a single row by Q6_K in another order than several.
    #[test]
    fn a_row_of_a_product_does_not_depend_on_the_rows_beside_it() {
        for dtype in [
            GgmlDType::F32,
            GgmlDType::F16,
            GgmlDType::BF16,
            GgmlDType::Q4_0,
            GgmlDType::Q4_1,
            GgmlDType::Q5_0,
            GgmlDType::Q5_1,
            GgmlDType::Q8_0,
            GgmlDType::Q2K,
            GgmlDType::Q3K,
            GgmlDType::Q4K,
            GgmlDType::Q5K,
            GgmlDType::Q6K,
        ] {
            let weight = QTensor::quantize(&noise("weight", 64, 512), dtype).unwrap();
            let weight = multiplier(Arc::new(weight), &Device::Cpu).unwrap();
            let input = noise("input", 40, 512);
            let all = weight.forward(&input).unwrap();
            for num_rows in [1, 2, 8, 31, 33] {
                let some = weight.forward(&input.narrow(0, 0, num_rows).unwrap());
                let difference =
                    relative_difference(&some.unwrap(), &all.narrow(0, 0, num_rows).unwrap());
                assert!(
                    difference < 2e-6,
                    "{dtype:?}, {num_rows} rows: {difference}"
                );
            }
        }
    }
}
