//! A cross-encoder (Nogueira and Cho 2019): query and document are read together, and the first token's vector becomes one
//! number. It sees what an embedder cannot, how the words of both bear on each other, at the price of a pass a pair.

use candle_core::Tensor;

use super::bert::{BertEncoder, Tokens};
use super::config::{Architecture, ScoreHead};
use super::weights::Weights;
use super::{EmbeddingError, Placement, Precision, Priority};

pub(super) struct CrossEncoder {
    encoder: BertEncoder,
    /// [hidden, hidden] and [hidden], followed by tanh.
    dense: Tensor,
    dense_bias: Tensor,
    /// [1, hidden] and [1].
    score: Tensor,
    score_bias: Tensor,
}

impl CrossEncoder {
    pub(super) fn num_bytes(&self) -> usize {
        self.encoder.num_bytes() + self.dense.elem_count() * size_of::<f32>()
    }

    pub(super) fn batch_tokens(&self) -> usize {
        self.encoder.batch_tokens(Priority::Interactive)
    }

    pub(super) fn load(
        weights: &Weights<'_>,
        architecture: &Architecture,
        head: ScoreHead,
        placement: &Placement,
    ) -> Result<CrossEncoder, EmbeddingError> {
        let device = &placement.device;
        let hidden = architecture.hidden_size;
        let (num_types, dense, score) = match head {
            ScoreHead::Pooler => {
                let dense = (
                    weights.values("pooler.dense.weight", &[hidden, hidden])?,
                    weights.values("pooler.dense.bias", &[hidden])?,
                );
                (architecture.num_token_types.min(2), dense, "classifier")
            }
            // This family was trained without types, whatever its tokenizer gives.
            ScoreHead::DenseAndProjection => {
                let dense = (
                    weights.head_values("classifier.dense.weight", &[hidden, hidden])?,
                    weights.head_values("classifier.dense.bias", &[hidden])?,
                );
                (1, dense, "classifier.out_proj")
            }
        };
        let score_weight = weights.head_values(&format!("{score}.weight"), &[1, hidden])?;
        let score_bias = weights.head_values(&format!("{score}.bias"), &[1])?;
        let model = CrossEncoder {
            encoder: BertEncoder::load(weights, architecture, num_types, placement)?,
            dense: Tensor::from_vec(dense.0, (hidden, hidden), device)?,
            dense_bias: Tensor::from_vec(dense.1, hidden, device)?,
            score: Tensor::from_vec(score_weight, (1, hidden), device)?,
            score_bias: Tensor::from_vec(score_bias, 1, device)?,
        };
        placement.wait_for_weights()?;
        Ok(model)
    }

    /// One number a pair, higher for documents that answer the query; its sigmoid is a probability.
    pub(super) fn score(&self, pairs: &[Tokens]) -> Result<Vec<f32>, EmbeddingError> {
        let (x, lengths) = self.encoder.encode(pairs, Precision::Int8)?;
        let first = self.encoder.first_tokens(&x, &lengths)?;
        let dense = first.matmul(&self.dense.t()?)?;
        let dense = dense.broadcast_add(&self.dense_bias)?.tanh()?;
        let scores = dense.matmul(&self.score.t()?)?;
        let scores = scores.broadcast_add(&self.score_bias)?;
        let scores: Vec<f32> = scores.flatten_all()?.to_vec1()?;
        match scores.iter().all(|score| score.is_finite()) {
            true => Ok(scores),
            false => Err(EmbeddingError::NotFinite),
        }
    }
}
