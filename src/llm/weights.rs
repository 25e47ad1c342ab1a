//! Takes a model's tensors out of its files. Every tensor that the model needs must be there in the right shape, and
//! every tensor there must be one that the decoder computes with: a model is never computed in part.

mod tensors;

use super::LlmError;
use super::checkpoint::{Checkpoint, StoredTensor};
use super::feed_forward::{Experts, FeedForward, GatedNetwork};
use super::hyperparameters::Hyperparameters;
use super::linear::{StoredMatrix, TokenEmbedding};
use super::rope::{ROPE_FREQS, RopeScaling};
use tensors::Tensors;

/// The vectors of all tokens.
pub(crate) const EMBEDDING: &str = "token_embd.weight";
/// What logits are computed with, where it is not the table of the tokens' vectors.
const OUTPUT: &str = "output.weight";
/// The divisors of LongRoPE for contexts up to the original one, and for longer ones.
pub(crate) const ROPE_FACTORS: [&str; 2] =
    ["rope_factors_short.weight", "rope_factors_long.weight"];

/// What matrices and vectors become as they are loaded.
pub(crate) trait WeightStore {
    type Matrix;
    type Vector;

    /// Nothing is kept of `weight` itself.
    fn matrix(
        &self,
        weight: StoredMatrix,
        bias: Option<Vec<f32>>,
    ) -> Result<Self::Matrix, LlmError>;

    fn vector(&self, numbers: Vec<f32>) -> Result<Self::Vector, LlmError>;

    /// The product with the embedding's own table; `None` where that table cannot be multiplied with.
    fn tied(&self, embedding: &TokenEmbedding) -> Option<Self::Matrix>;
}

/// Rows of the table of tokens' vectors; 0 of something else.
pub(crate) fn vocab_size(table: &StoredTensor) -> usize {
    match *table.shape {
        [rows, _] => rows,
        _ => 0,
    }
}

/// That of a checkpoint; 0 where it has no table.
#[cfg(any(feature = "cuda", test))]
pub(crate) fn stored_vocab_size(checkpoint: &dyn Checkpoint) -> usize {
    let table = checkpoint.tensor(EMBEDDING);
    table.map_or(0, |table| vocab_size(&table))
}

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Weights<M, V> {
    pub embedding: TokenEmbedding,
    pub layers: Vec<LayerWeights<M, V>>,
    pub output_norm: V,
    pub output: M,
    pub facts: Facts,
}

/// What a model's files say beside its weights.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// What `rope_freqs.weight` divides the frequencies by.
    pub rope_divisors: Option<Vec<f32>>,
    pub vocab_size: usize,
    /// Bytes of the file's tensors that are held in memory.
    pub num_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct LayerWeights<M, V> {
    pub attention_norm: V,
    pub query: M,
    pub key: M,
    pub value: M,
    pub query_norm: Option<V>,
    pub key_norm: Option<V>,
    pub attention_output: M,
    pub attention_post_norm: Option<V>,
    pub feed_forward_norm: V,
    pub feed_forward: FeedForward<M>,
    pub feed_forward_post_norm: Option<V>,
}

/// Bytes of the tensors of each layer, and of those that follow the last one, as they are stored.
#[cfg(any(feature = "cuda", test))]
pub(crate) fn stored_bytes(checkpoint: &dyn Checkpoint, num_layers: usize) -> (Vec<u64>, u64) {
    let mut layers = vec![0; num_layers];
    let bytes = |name: &str| {
        let stored = checkpoint.tensor(name);
        stored.map_or(0, |stored| stored.bytes.len() as u64)
    };
    for name in checkpoint.names() {
        let layer = name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'));
        let layer = layer.and_then(|(index, _)| layers.get_mut(index.parse::<usize>().ok()?));
        if let Some(layer) = layer {
            *layer += bytes(name);
        }
    }
    let mut output = [OUTPUT, EMBEDDING].map(bytes).into_iter();
    (layers, output.find(|bytes| *bytes > 0).unwrap_or(0))
}

impl<M, V> Weights<M, V> {
    /// `context_length` is that of the longest sequence that will be computed. What follows the last layer goes into the same store.
    pub fn load<'a, S: WeightStore<Matrix = M, Vector = V> + 'a>(
        checkpoint: &'a dyn Checkpoint,
        model: &'a Hyperparameters,
        context_length: usize,
        store_of_layer: impl Fn(usize) -> &'a S,
    ) -> Result<Self, LlmError> {
        let last = store_of_layer(model.layers.len() - 1);
        let mut loader = Loader {
            tensors: Tensors::new(checkpoint, last),
            model,
            store_of_layer,
        };
        let weights = loader.weights(context_length)?;
        loader.tensors.refuse_unused()?;
        Ok(weights)
    }
}

struct Loader<'a, S, F> {
    tensors: Tensors<'a, S>,
    model: &'a Hyperparameters,
    store_of_layer: F,
}

impl<'a, S: WeightStore, F: Fn(usize) -> &'a S> Loader<'a, S, F> {
    fn weights(
        &mut self,
        context_length: usize,
    ) -> Result<Weights<S::Matrix, S::Vector>, LlmError> {
        let (tensors, model) = (&mut self.tensors, self.model);
        let hidden = model.hidden_size;
        let vocab_size = vocab_size(&tensors.stored(EMBEDDING)?);
        let embedding = tensors.embedding(EMBEDDING, vocab_size, hidden)?;
        let output = if tensors.has(OUTPUT) {
            tensors.linear("output", vocab_size, hidden)?
        } else if let Some(tied) = tensors.store.tied(&embedding) {
            tied
        } else {
            tensors.matrix(EMBEDDING, vocab_size, hidden)?
        };
        let output_norm = tensors.norm("output_norm.weight", hidden, model)?;
        let mut layers = Vec::new();
        for index in 0..model.layers.len() {
            layers.push(self.layer(index)?);
        }
        Ok(Weights {
            embedding,
            layers,
            output_norm,
            output,
            facts: Facts {
                rope_divisors: self.rope_divisors(context_length)?,
                vocab_size,
                num_bytes: self.tensors.num_bytes,
            },
        })
    }

    fn layer(&mut self, index: usize) -> Result<LayerWeights<S::Matrix, S::Vector>, LlmError> {
        self.tensors.store = (self.store_of_layer)(index);
        let model = self.model;
        let name = |part: &str| format!("blk.{index}.{part}");
        let hidden = model.hidden_size;
        let architecture = model.architecture;
        if architecture.has_attention_bias {
            for part in ["attn_q.bias", "attn_k.bias", "attn_v.bias"] {
                self.tensors.stored(&name(part))?;
            }
        }
        let [query, key, value] = self.attention_inputs(index)?;
        let mut norm_if = |is_there: bool, part: &str, len| match is_there {
            true => self.tensors.norm(&name(part), len, model).map(Some),
            false => Ok(None),
        };
        let has_head_norm = architecture.has_head_norm;
        let has_post_norm = architecture.has_post_norm;
        Ok(LayerWeights {
            query_norm: norm_if(has_head_norm, "attn_q_norm.weight", model.key_dim)?,
            key_norm: norm_if(has_head_norm, "attn_k_norm.weight", model.key_dim)?,
            attention_post_norm: norm_if(has_post_norm, "post_attention_norm.weight", hidden)?,
            feed_forward_post_norm: norm_if(has_post_norm, "post_ffw_norm.weight", hidden)?,
            attention_norm: self
                .tensors
                .norm(&name("attn_norm.weight"), hidden, model)?,
            feed_forward_norm: self.tensors.norm(&name("ffn_norm.weight"), hidden, model)?,
            query,
            key,
            value,
            attention_output: self.tensors.linear(
                &name("attn_output"),
                hidden,
                model.num_heads * model.value_dim,
            )?,
            feed_forward: self.feed_forward(index)?,
        })
    }

    /// The matrices of queries, keys and values.
    fn attention_inputs(&mut self, index: usize) -> Result<[S::Matrix; 3], LlmError> {
        let (tensors, model) = (&mut self.tensors, self.model);
        let name = |part: &str| format!("blk.{index}.{part}");
        let hidden = model.hidden_size;
        let queries = model.num_heads * model.key_dim;
        let keys = model.num_kv_heads * model.key_dim;
        let values = model.num_kv_heads * model.value_dim;
        if !model.architecture.has_fused_matrices {
            return Ok([
                tensors.linear(&name("attn_q"), queries, hidden)?,
                tensors.linear(&name("attn_k"), keys, hidden)?,
                tensors.linear(&name("attn_v"), values, hidden)?,
            ]);
        }
        let fused = name("attn_qkv.weight");
        let whole = [queries + keys + values, hidden];
        Ok([
            tensors.rows(&fused, &whole, 0..queries)?,
            tensors.rows(&fused, &whole, queries..queries + keys)?,
            tensors.rows(&fused, &whole, queries + keys..whole[0])?,
        ])
    }

    fn feed_forward(&mut self, index: usize) -> Result<FeedForward<S::Matrix>, LlmError> {
        let model = self.model;
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
                router: self
                    .tensors
                    .linear(&name("ffn_gate_inp"), experts.count, hidden)?,
                networks,
                num_used: experts.num_used,
            }));
        }
        let down = self.tensors.linear(&name("ffn_down"), hidden, inner)?;
        let (gate, up) = if model.architecture.has_fused_matrices {
            let (fused, whole) = (name("ffn_up.weight"), [2 * inner, hidden]);
            let gate = self.tensors.rows(&fused, &whole, 0..inner)?;
            (gate, self.tensors.rows(&fused, &whole, inner..2 * inner)?)
        } else {
            let gate = self.tensors.linear(&name("ffn_gate"), inner, hidden)?;
            (gate, self.tensors.linear(&name("ffn_up"), inner, hidden)?)
        };
        Ok(FeedForward::Dense(GatedNetwork { gate, up, down }))
    }

    /// One expert's matrix, out of the tensor of all experts (`stem_exps`) or from a tensor of its own.
    fn expert(
        &mut self,
        stem: &str,
        expert: usize,
        whole: [usize; 3],
    ) -> Result<S::Matrix, LlmError> {
        let [_, outputs, inputs] = whole;
        let stacked = format!("{stem}_exps.weight");
        if !self.tensors.has(&stacked) {
            let own = format!("{stem}.{expert}");
            return self.tensors.linear(&own, outputs, inputs);
        }
        let first = expert * outputs;
        self.tensors.rows(&stacked, &whole, first..first + outputs)
    }

    fn rope_divisors(&mut self, context_length: usize) -> Result<Option<Vec<f32>>, LlmError> {
        let rope = &self.model.ropes[0];
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
        match self.tensors.has(ROPE_FREQS) {
            true => self.divisors(ROPE_FREQS, len).map(Some),
            false => Ok(None),
        }
    }

    fn divisors(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LlmError> {
        let divisors = self.tensors.numbers(name, len)?;
        match divisors.iter().find(|d| !d.is_finite() || **d <= 0.0) {
            None => Ok(divisors),
            Some(bad) => Err(LlmError::InvalidTensor {
                tensor: name.to_owned(),
                problem: format!("has the divisor {bad}, but all must be positive"),
            }),
        }
    }
}
