//! Takes a model's tensors out of its files. Every tensor that the model needs must be there in the right shape, and
//! every tensor there must be one that the decoder computes with: a model is never computed in part.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};

use super::LlmError;
use super::checkpoint::{Checkpoint, StoredTensor};
use super::feed_forward::{Experts, FeedForward, GatedNetwork};
use super::hyperparameters::Hyperparameters;
use super::linear::{Linear, TokenEmbedding};
use super::rope::{ROPE_FREQS, RopeScaling};

/// The divisors of LongRoPE for contexts up to the original one, and for longer ones.
pub(crate) const ROPE_FACTORS: [&str; 2] =
    ["rope_factors_short.weight", "rope_factors_long.weight"];

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
    pub attention_post_norm: Option<Tensor>,
    pub feed_forward_norm: Tensor,
    pub feed_forward: FeedForward,
    pub feed_forward_post_norm: Option<Tensor>,
}

impl Weights {
    /// `context_length` is that of the longest sequence that will be computed.
    pub fn load(
        checkpoint: &dyn Checkpoint,
        model: &Hyperparameters,
        context_length: usize,
        device: &Device,
    ) -> Result<Self, LlmError> {
        let mut loader = Loader {
            checkpoint,
            device,
            used: HashSet::new(),
            num_bytes: 0,
        };
        let weights = loader.weights(model, context_length)?;
        loader.refuse_unused()?;
        Ok(weights)
    }
}

struct Loader<'a> {
    checkpoint: &'a dyn Checkpoint,
    device: &'a Device,
    used: HashSet<String>,
    num_bytes: u64,
}

impl<'a> Loader<'a> {
    fn weights(
        &mut self,
        model: &Hyperparameters,
        context_length: usize,
    ) -> Result<Weights, LlmError> {
        const EMBEDDING: &str = "token_embd.weight";
        const OUTPUT: &str = "output.weight";
        let hidden = model.hidden_size;
        let vocab_size = match *self.stored(EMBEDDING)?.shape {
            [rows, _] => rows,
            _ => 0,
        };
        let embedding = self.matrix(EMBEDDING, &[vocab_size, hidden], &Device::Cpu)?;
        let output = if self.checkpoint.tensor(OUTPUT).is_some() {
            self.linear("output", vocab_size, hidden)?
        } else if self.device.is_cpu() {
            Linear::new(embedding.clone(), None, self.device)?
        } else {
            let table = self.matrix(EMBEDDING, &[vocab_size, hidden], self.device)?;
            Linear::new(table, None, self.device)?
        };
        let mut layers = Vec::new();
        for index in 0..model.layers.len() {
            layers.push(self.layer(index, model)?);
        }
        Ok(Weights {
            embedding: TokenEmbedding::new(embedding, self.device),
            layers,
            output_norm: self.norm("output_norm.weight", hidden, model)?,
            output,
            rope_divisors: self.rope_divisors(model, context_length)?,
            vocab_size,
            num_bytes: self.num_bytes,
        })
    }

    fn layer(&mut self, index: usize, model: &Hyperparameters) -> Result<LayerWeights, LlmError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let hidden = model.hidden_size;
        let architecture = model.architecture;
        if architecture.has_attention_bias {
            for part in ["attn_q.bias", "attn_k.bias", "attn_v.bias"] {
                self.stored(&name(part))?;
            }
        }
        let [query, key, value] = self.attention_inputs(index, model)?;
        let mut norm_if = |is_there: bool, part: &str, len| match is_there {
            true => self.norm(&name(part), len, model).map(Some),
            false => Ok(None),
        };
        let has_head_norm = architecture.has_head_norm;
        let has_post_norm = architecture.has_post_norm;
        Ok(LayerWeights {
            query_norm: norm_if(has_head_norm, "attn_q_norm.weight", model.key_dim)?,
            key_norm: norm_if(has_head_norm, "attn_k_norm.weight", model.key_dim)?,
            attention_post_norm: norm_if(has_post_norm, "post_attention_norm.weight", hidden)?,
            feed_forward_post_norm: norm_if(has_post_norm, "post_ffw_norm.weight", hidden)?,
            attention_norm: self.norm(&name("attn_norm.weight"), hidden, model)?,
            feed_forward_norm: self.norm(&name("ffn_norm.weight"), hidden, model)?,
            query,
            key,
            value,
            attention_output: self.linear(
                &name("attn_output"),
                hidden,
                model.num_heads * model.value_dim,
            )?,
            feed_forward: self.feed_forward(index, model)?,
        })
    }

    /// The matrices of queries, keys and values.
    fn attention_inputs(
        &mut self,
        index: usize,
        model: &Hyperparameters,
    ) -> Result<[Linear; 3], LlmError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let hidden = model.hidden_size;
        let queries = model.num_heads * model.key_dim;
        let keys = model.num_kv_heads * model.key_dim;
        let values = model.num_kv_heads * model.value_dim;
        if !model.architecture.has_fused_matrices {
            return Ok([
                self.linear(&name("attn_q"), queries, hidden)?,
                self.linear(&name("attn_k"), keys, hidden)?,
                self.linear(&name("attn_v"), values, hidden)?,
            ]);
        }
        let fused = name("attn_qkv.weight");
        let whole = [queries + keys + values, hidden];
        Ok([
            self.rows(&fused, &whole, 0..queries)?,
            self.rows(&fused, &whole, queries..queries + keys)?,
            self.rows(&fused, &whole, queries + keys..whole[0])?,
        ])
    }

    fn feed_forward(
        &mut self,
        index: usize,
        model: &Hyperparameters,
    ) -> Result<FeedForward, LlmError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (hidden, inner) = (model.hidden_size, model.feed_forward_size);
        if let Some(experts) = model.experts {
            let mut networks = Vec::new();
            for expert in 0..experts.count {
                networks.push(GatedNetwork {
                    gate: self.expert(&name("ffn_gate"), expert, [experts.count, inner, hidden])?,
                    up: self.expert(&name("ffn_up"), expert, [experts.count, inner, hidden])?,
                    down: self.expert(&name("ffn_down"), expert, [experts.count, hidden, inner])?,
                });
            }
            return Ok(FeedForward::Experts(Experts {
                router: self.linear(&name("ffn_gate_inp"), experts.count, hidden)?,
                networks,
                num_used: experts.num_used,
            }));
        }
        let down = self.linear(&name("ffn_down"), hidden, inner)?;
        let (gate, up) = if model.architecture.has_fused_matrices {
            let (fused, whole) = (name("ffn_up.weight"), [2 * inner, hidden]);
            let gate = self.rows(&fused, &whole, 0..inner)?;
            (gate, self.rows(&fused, &whole, inner..2 * inner)?)
        } else {
            let gate = self.linear(&name("ffn_gate"), inner, hidden)?;
            (gate, self.linear(&name("ffn_up"), inner, hidden)?)
        };
        Ok(FeedForward::Dense(GatedNetwork { gate, up, down }))
    }

    /// One expert's matrix, out of the tensor of all experts (`stem_exps`) or from a tensor of its own.
    fn expert(&mut self, stem: &str, expert: usize, whole: [usize; 3]) -> Result<Linear, LlmError> {
        let [_, outputs, inputs] = whole;
        let own = format!("{stem}.{expert}");
        if self.checkpoint.tensor(&format!("{own}.weight")).is_some() {
            return self.linear(&own, outputs, inputs);
        }
        let first = expert * outputs;
        self.rows(
            &format!("{stem}_exps.weight"),
            &whole,
            first..first + outputs,
        )
    }

    fn rope_divisors(
        &mut self,
        model: &Hyperparameters,
        context_length: usize,
    ) -> Result<Option<Vec<f32>>, LlmError> {
        let rope = &model.ropes[0];
        let len = rope.dimensions / 2;
        if let RopeScaling::LongRope {
            original_context_length,
        } = rope.scaling
        {
            // A sequence's cache must not change its rotation as it grows: the longest one decides for all.
            let [short, long] = ROPE_FACTORS;
            let (short, long) = (self.divisors(short, len)?, self.divisors(long, len)?);
            let is_long = context_length > original_context_length;
            return Ok(Some(if is_long { long } else { short }));
        }
        match self.checkpoint.tensor(ROPE_FREQS) {
            Some(_) => self.divisors(ROPE_FREQS, len).map(Some),
            None => Ok(None),
        }
    }

    fn divisors(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LlmError> {
        let divisors: Vec<f32> = self.vector(name, len)?.to_device(&Device::Cpu)?.to_vec1()?;
        match divisors.iter().find(|d| !d.is_finite() || **d <= 0.0) {
            None => Ok(divisors),
            Some(bad) => Err(LlmError::InvalidTensor {
                tensor: name.to_owned(),
                problem: format!("has the divisor {bad}, but all must be positive"),
            }),
        }
    }

    /// The matrix `stem.weight`, and the vector `stem.bias` if there is one.
    fn linear(&mut self, stem: &str, outputs: usize, inputs: usize) -> Result<Linear, LlmError> {
        let weight = self.matrix(&format!("{stem}.weight"), &[outputs, inputs], self.device)?;
        let bias = format!("{stem}.bias");
        let bias = match self.checkpoint.tensor(&bias) {
            Some(_) => Some(self.vector(&bias, outputs)?),
            None => None,
        };
        Linear::new(weight, bias, self.device)
    }

    /// Some rows of a tensor of several matrices, as a matrix of their own.
    fn rows(
        &mut self,
        name: &str,
        whole: &[usize],
        rows: Range<usize>,
    ) -> Result<Linear, LlmError> {
        let stored = self.checked(name, whole)?;
        let row_bytes = stored.bytes.len() / (whole.iter().product::<usize>() / last(whole));
        let bytes = &stored.bytes[rows.start * row_bytes..rows.end * row_bytes];
        let shape = [rows.len(), last(whole)];
        let weight = self.held(
            StoredTensor {
                bytes,
                shape: &shape,
                ..stored
            },
            self.device,
        )?;
        Linear::new(weight, None, self.device)
    }

    /// The weights of a norm, as they are multiplied by.
    fn norm(
        &mut self,
        name: &str,
        len: usize,
        model: &Hyperparameters,
    ) -> Result<Tensor, LlmError> {
        let weights = self.vector(name, len)?;
        match model.norm_offset {
            0.0 => Ok(weights),
            offset => Ok((weights + f64::from(offset))?),
        }
    }

    /// A vector, expanded to f32.
    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor, LlmError> {
        let tensor = self.matrix(name, &[len], &Device::Cpu)?;
        Ok(tensor.dequantize(self.device)?)
    }

    fn matrix(
        &mut self,
        name: &str,
        shape: &[usize],
        device: &Device,
    ) -> Result<Arc<QTensor>, LlmError> {
        let stored = self.checked(name, shape)?;
        self.held(stored, device)
    }

    /// A tensor of this shape.
    fn checked(&mut self, name: &str, shape: &[usize]) -> Result<StoredTensor<'a>, LlmError> {
        let stored = self.stored(name)?;
        if stored.shape != shape {
            return Err(LlmError::InvalidTensor {
                tensor: name.to_owned(),
                problem: format!(
                    "has the shape {:?}, but the metadata asks for {shape:?}",
                    stored.shape
                ),
            });
        }
        if matches!(stored.dtype, GgmlDType::Q8_1 | GgmlDType::Q8K) {
            return Err(LlmError::InvalidTensor {
                tensor: name.to_owned(),
                problem: format!(
                    "is stored as {:?}, a type for intermediate results",
                    stored.dtype
                ),
            });
        }
        Ok(stored)
    }

    /// Copies a tensor out of its file.
    fn held(&mut self, stored: StoredTensor, device: &Device) -> Result<Arc<QTensor>, LlmError> {
        let StoredTensor {
            shape,
            dtype,
            bytes,
        } = stored;
        self.num_bytes += bytes.len() as u64;
        let plain = match dtype {
            GgmlDType::F32 => Some(DType::F32),
            GgmlDType::F16 => Some(DType::F16),
            GgmlDType::BF16 => Some(DType::BF16),
            _ => None,
        };
        if let Some(plain) = plain
            && !bytes.as_ptr().addr().is_multiple_of(plain.size_in_bytes())
        {
            // Numbers between the addresses that they are read at. This loses nothing: the type stays the same.
            let tensor = Tensor::from_raw_buffer(bytes, plain, shape, device)?;
            return Ok(Arc::new(QTensor::quantize(&tensor, dtype)?));
        }
        let storage = QStorage::from_data(bytes.into(), device, dtype)?;
        Ok(Arc::new(QTensor::new(storage, shape)?))
    }

    /// A tensor that the model cannot do without.
    fn stored(&mut self, name: &str) -> Result<StoredTensor<'a>, LlmError> {
        let stored = self
            .checkpoint
            .tensor(name)
            .ok_or_else(|| LlmError::MissingTensor {
                name: name.to_owned(),
            })?;
        self.used.insert(name.to_owned());
        Ok(stored)
    }

    fn refuse_unused(&self) -> Result<(), LlmError> {
        let unused = self.checkpoint.names().find(|name| {
            // Old converters wrote the rotation's frequencies, which follow from the metadata.
            let is_implied = name.ends_with("attn_rot_embd.weight");
            !is_implied && !self.used.contains(*name)
        });
        match unused {
            None => Ok(()),
            Some(name) => Err(LlmError::UnsupportedFeature {
                feature: format!("tensor {name:?}"),
            }),
        }
    }
}

/// The length of a row.
fn last(shape: &[usize]) -> usize {
    shape[shape.len() - 1]
}
