//! The decoder-only transformer of llama and its kin in candle's tensors, with our kernels for products and attention. Knows no
//! family by name: they differ in the hyperparameters.

use candle_core::{Device, Tensor};

use super::attention::Attention;
use super::hyperparameters::Hyperparameters;
use super::linear::Linear;
use super::rows::{Onto, Rows, normed, scaled};
use super::step::Step;
use super::weights::Weights;
use super::{LlmError, Logits};

#[derive(Debug)]
pub(crate) struct TensorModel {
    model: Hyperparameters,
    weights: Weights<Linear, Tensor>,
    attention: Attention,
    device: Device,
}

impl TensorModel {
    pub fn new(
        model: Hyperparameters,
        weights: Weights<Linear, Tensor>,
        attention: Attention,
        device: &Device,
    ) -> Self {
        Self {
            model,
            weights,
            attention,
            device: device.clone(),
        }
    }

    /// Memory that the intermediate results of a step of `num_rows` rows take on a GPU, in bytes: those of a layer, with room for
    /// as many again that are not yet freed.
    pub fn workspace_bytes(model: &Hyperparameters, num_rows: usize) -> u64 {
        let heads = model.num_heads + model.num_kv_heads;
        let attention = 2 * heads * (model.key_dim + model.value_dim);
        let networks = model.experts.map_or(1, |experts| experts.num_used);
        let feed_forward = 3 * networks * (model.feed_forward_size + model.hidden_size);
        // With what is rounded to half precision for a product.
        let halves = model.feed_forward_size.max(model.hidden_size);
        let row = 4 * model.hidden_size + attention + feed_forward + halves;
        2 * (num_rows * row * size_of::<f32>()) as u64
    }

    /// Copies blocks of the cache, then computes the step. The logits asked for, or what was drawn from them.
    pub fn forward(&mut self, step: &Step, copies: &[(u32, u32)]) -> Result<Logits, LlmError> {
        self.attention.copy_blocks(copies)?;
        let vocab_size = self.weights.facts.vocab_size;
        if step.tokens.is_empty() {
            return Ok(Logits::new(Vec::new(), vocab_size));
        }
        let embedded = self.weights.embedding.expand(&step.tokens);
        let shape = (step.tokens.len(), self.model.hidden_size);
        let embedded = Tensor::from_vec(embedded, shape, &self.device)?;
        let mut hidden = scaled(embedded, self.model.embedding_scale)?;
        let num_layers = self.weights.layers.len();
        for index in 0..num_layers {
            let mut attended = self.attend(index, &hidden, step)?;
            if index + 1 == num_layers {
                // Nothing reads the other rows any more.
                if step.logit_rows.is_empty() {
                    return Ok(Logits::new(Vec::new(), vocab_size));
                }
                let rows = Tensor::new(step.logit_rows.as_slice(), &self.device)?;
                attended = attended.index_select(&rows, 0)?;
                hidden = hidden.index_select(&rows, 0)?;
            }
            let layer = &self.weights.layers[index];
            let scale = self.model.residual_scale;
            let onto = Onto {
                rows: &hidden,
                scale,
            };
            let rows = Rows::Plain(&attended);
            hidden = match &layer.attention_post_norm {
                None => layer.attention_output.forward_onto(rows, onto)?,
                Some(norm) => self.add_normed(onto, layer.attention_output.forward(rows)?, norm)?,
            };
            let rows = self.normed(&hidden, &layer.feed_forward_norm);
            let activation = self.model.architecture.activation;
            let onto = Onto {
                rows: &hidden,
                scale,
            };
            hidden = match &layer.feed_forward_post_norm {
                None => layer.feed_forward.forward_onto(rows, activation, onto)?,
                Some(norm) => {
                    let update = layer.feed_forward.forward(rows, activation)?;
                    self.add_normed(onto, update, norm)?
                }
            };
        }
        let rows = self.normed(&hidden, &self.weights.output_norm);
        let logits = self.weights.output.forward(rows)?;
        let logits = scaled(logits, 1.0 / self.model.logit_divisor)?;
        #[cfg(feature = "cuda")]
        if self.device.is_cuda() {
            return super::drawing_cuda::read(&logits, &step.draws);
        }
        let values = logits.flatten_all()?.to_vec1()?;
        Ok(Logits::new(values, vocab_size))
    }

    /// Rows that are normed on their way into a product.
    fn normed<'a>(&self, rows: &'a Tensor, weight: &'a Tensor) -> Rows<'a> {
        Rows::Normed {
            rows,
            weight,
            epsilon: self.model.norm_epsilon,
        }
    }

    /// Attention of one layer, before its output matrix.
    fn attend(&mut self, index: usize, input: &Tensor, step: &Step) -> Result<Tensor, LlmError> {
        let layer = &self.weights.layers[index];
        let rows = self.normed(input, &layer.attention_norm);
        let [query, key, value] =
            Linear::forward_all([&layer.query, &layer.key, &layer.value], rows)?;
        let query = self.norm_heads(query, layer.query_norm.as_ref())?;
        let key = self.norm_heads(key, layer.key_norm.as_ref())?;
        let rope = self.model.layers[index].rope;
        let angles = rope.map(|rope| &step.angles[rope]);
        self.attention
            .forward(index, [&query, &key, &value], step, angles)
    }

    fn norm_heads(&self, heads: Tensor, weight: Option<&Tensor>) -> Result<Tensor, LlmError> {
        let Some(weight) = weight else {
            return Ok(heads);
        };
        let (num_tokens, width) = heads.dims2()?;
        let head_dim = self.model.key_dim;
        let heads = heads.reshape((num_tokens * (width / head_dim), head_dim))?;
        let normed = normed(&heads, weight, self.model.norm_epsilon)?;
        Ok(normed.reshape((num_tokens, width))?)
    }

    /// Adds what a layer's attention or feed-forward gave, normed.
    fn add_normed(&self, onto: Onto, update: Tensor, weight: &Tensor) -> Result<Tensor, LlmError> {
        onto.add(normed(&update, weight, self.model.norm_epsilon)?)
    }
}
