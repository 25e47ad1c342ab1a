//! The BERT encoder (Devlin et al. 2018; RoBERTa differs in its first position only) in f32. The tokens of all texts lie
//! side by side, [num_tokens, hidden], without padding; only attention works text by text. So a text's vector cannot
//! depend on the others, and no work is done for padding.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::{Device, Tensor};

use super::byte_layer::{self, ByteLayer, TextScratch};
use super::config::Architecture;
use super::fused::{self, Activation};
use super::linear::{Linear, numbers};
use super::weights::Weights;
use super::worker::BATCH_TOKENS;
use super::{EmbeddingError, EmbeddingModel, Placement, Pooling, Precision, Priority, Stop};
use crate::kernels::parallel;
use crate::kernels::self_attention::attend;

/// Passages that wait for nobody are taken so many at a time, for each thread: at the end of a batch threads are idle until
/// the last one is done with its text.
const BACKGROUND_TOKENS_PER_THREAD: usize = 2048;
/// Enough to keep a large GPU busy between two launches.
const GPU_BATCH_TOKENS: usize = 8 * 1024;

/// The encoder with what makes one vector of a text.
pub(super) struct BertModel {
    encoder: BertEncoder,
    pooling: Pooling,
    normalize: bool,
}

pub(super) struct BertEncoder {
    /// [vocabulary, hidden]
    words: Tensor,
    /// [types * positions, hidden]: position embeddings with the embedding of token type 0 added, then, where two texts
    /// are told apart, the same with type 1.
    positions: Tensor,
    /// [3, hidden]: zeros, scale and shift, as [`fused::add_and_norm`] takes them.
    norm: Tensor,
    layers: Vec<Layer>,
    /// The same in eight bits, where that was asked for and suits.
    byte_layers: Option<Vec<ByteLayer>>,
    vocab_size: usize,
    first_position: usize,
    max_tokens: usize,
    /// Rows of `positions` for one token type.
    num_positions: usize,
    num_types: usize,
    epsilon: f32,
    device: Device,
}

/// The tokens of one text, or of two that are read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tokens {
    pub ids: Vec<u32>,
    /// Tokens from this one on are of type 1.
    pub num_first: usize,
}

impl Tokens {
    fn single(ids: &[u32]) -> Tokens {
        Tokens {
            ids: ids.to_vec(),
            num_first: ids.len(),
        }
    }
}

/// The numbers of a layer, as [`Layer`] describes them.
pub(super) struct LayerWeights {
    pub qkv: Vec<f32>,
    pub qkv_bias: Vec<f32>,
    pub output: Vec<f32>,
    pub output_norm: Vec<f32>,
    pub up: Vec<f32>,
    pub up_bias: Vec<f32>,
    pub down: Vec<f32>,
    pub down_norm: Vec<f32>,
}

struct Layer {
    /// Query, key and value in one: [3 * hidden, hidden]. The query's part is divided by the square root of the head's
    /// size, which attention would otherwise do to every score.
    qkv: Linear,
    output: Linear,
    /// [3, hidden]: the output's bias, the norm's scale and shift.
    output_norm: Tensor,
    up: Linear,
    up_bias: Tensor,
    down: Linear,
    /// [3, hidden]: the down projection's bias, the norm's scale and shift.
    down_norm: Tensor,
    num_heads: usize,
    activation: Activation,
    epsilon: f32,
    /// Computed in f16, on a GPU.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code))]
    is_half: bool,
}

impl BertModel {
    pub(super) fn load(
        weights: &Weights<'_>,
        architecture: &Architecture,
        pooling: Pooling,
        normalize: bool,
        placement: &Placement,
    ) -> Result<BertModel, EmbeddingError> {
        let encoder = BertEncoder::load(weights, architecture, 1, placement)?;
        placement.wait_for_weights()?;
        Ok(BertModel {
            encoder,
            pooling,
            normalize,
        })
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.encoder.num_bytes()
    }

    /// One vector of one text's rows.
    fn pool_text(&self, rows: &[f32], hidden: usize) -> Vec<f32> {
        match self.pooling {
            Pooling::Cls => rows[..hidden].to_vec(),
            Pooling::Mean => {
                let mut mean = vec![0.0; hidden];
                for row in rows.chunks_exact(hidden) {
                    mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                }
                let num_rows = (rows.len() / hidden) as f32;
                mean.iter_mut().for_each(|x| *x /= num_rows);
                mean
            }
        }
    }

    /// One vector a text, from the encoder's output.
    fn pool(&self, x: &Tensor, lengths: &[usize]) -> candle_core::Result<Vec<Vec<f32>>> {
        match self.pooling {
            Pooling::Cls => self.encoder.first_tokens(x, lengths)?.to_vec2(),
            Pooling::Mean => {
                let starts = starts(lengths);
                let hidden = x.dim(1)?;
                let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
                let mean = |(start, length): (&usize, &usize)| {
                    self.pool_text(&values[start * hidden..][..length * hidden], hidden)
                };
                Ok(starts.iter().zip(lengths).map(mean).collect())
            }
        }
    }
}

impl BertEncoder {
    /// Reads the weights; `num_types` kinds of tokens are told apart, 1 or 2.
    pub(super) fn load(
        weights: &Weights<'_>,
        architecture: &Architecture,
        num_types: usize,
        placement: &Placement,
    ) -> Result<BertEncoder, EmbeddingError> {
        let device = &placement.device;
        let Architecture {
            vocab_size,
            hidden_size,
            num_positions,
            num_token_types,
            ..
        } = *architecture;
        let words = weights.tensor(
            "embeddings.word_embeddings.weight",
            &[vocab_size, hidden_size],
            device,
        )?;
        let plain = weights.values(
            "embeddings.position_embeddings.weight",
            &[num_positions, hidden_size],
        )?;
        let types = weights.values(
            "embeddings.token_type_embeddings.weight",
            &[num_token_types, hidden_size],
        )?;
        let mut positions = Vec::with_capacity(num_types * plain.len());
        for of_type in types.chunks_exact(hidden_size).take(num_types) {
            for row in plain.chunks_exact(hidden_size) {
                positions.extend(row.iter().zip(of_type).map(|(p, t)| p + t));
            }
        }
        let mut norm = vec![0.0; hidden_size];
        norm.extend(weights.values("embeddings.LayerNorm.weight", &[hidden_size])?);
        norm.extend(weights.values("embeddings.LayerNorm.bias", &[hidden_size])?);
        let in_bytes = device.is_cpu()
            && placement.precision == Precision::Int8
            && ByteLayer::suits(architecture);
        let mut byte_layers = in_bytes.then(Vec::new);
        let mut layers = Vec::with_capacity(architecture.num_layers);
        for index in 0..architecture.num_layers {
            let weights = LayerWeights::load(weights, index, architecture)?;
            if let Some(byte_layers) = &mut byte_layers {
                byte_layers.push(ByteLayer::new(&weights, architecture)?);
            }
            layers.push(Layer::new(weights, architecture, placement)?);
        }
        let num_rows = num_types * num_positions;
        Ok(BertEncoder {
            words,
            positions: Tensor::from_vec(positions, (num_rows, hidden_size), device)?,
            norm: Tensor::from_vec(norm, (3, hidden_size), device)?,
            layers,
            byte_layers,
            vocab_size,
            first_position: architecture.first_position,
            max_tokens: num_positions - architecture.first_position,
            num_positions,
            num_types,
            epsilon: architecture.layer_norm_epsilon,
            device: device.clone(),
        })
    }

    /// Memory that the weights take, but for those of a few hundred numbers.
    pub(super) fn num_bytes(&self) -> usize {
        let tables = self.words.elem_count() + self.positions.elem_count();
        let layers = self.layers.iter().map(Layer::num_bytes).sum::<usize>();
        let byte_layers = self.byte_layers.iter().flatten();
        let layers = layers + byte_layers.map(ByteLayer::num_bytes).sum::<usize>();
        tables * size_of::<f32>() + layers
    }

    fn check(&self, texts: &[Tokens]) -> Result<(), EmbeddingError> {
        for (index, Tokens { ids, .. }) in texts.iter().enumerate() {
            if ids.len() > self.max_tokens {
                return Err(EmbeddingError::InputTooLong {
                    index,
                    num_tokens: ids.len(),
                    num_max_tokens: self.max_tokens,
                });
            }
            if ids.is_empty() {
                return Err(EmbeddingError::Compute {
                    reason: format!("text {index} has no tokens"),
                });
            }
            if let Some(&id) = ids.iter().find(|id| **id as usize >= self.vocab_size) {
                return Err(EmbeddingError::UnknownToken {
                    id,
                    vocab_size: self.vocab_size,
                });
            }
        }
        Ok(())
    }

    /// The last layer's output [num_tokens, hidden], texts side by side, and the length of each. Without layers in eight
    /// bits it is computed in f32 whatever `precision` says.
    pub(super) fn encode(
        &self,
        texts: &[Tokens],
        precision: Precision,
    ) -> Result<(Tensor, Vec<usize>), EmbeddingError> {
        self.check(texts)?;
        let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
        Ok((self.forward(texts, &lengths, precision)?, lengths))
    }

    fn forward(
        &self,
        texts: &[Tokens],
        lengths: &[usize],
        precision: Precision,
    ) -> candle_core::Result<Tensor> {
        let ids: Vec<u32> = texts.iter().flat_map(|text| &text.ids).copied().collect();
        let ids = Tensor::new(ids, &self.device)?;
        let positions: Vec<u32> = texts
            .iter()
            .flat_map(|text| (0..text.ids.len()).map(|i| self.position(text, i) as u32))
            .collect();
        let words = self.words.index_select(&ids, 0)?;
        let positions = self
            .positions
            .index_select(&Tensor::new(positions, &self.device)?, 0)?;
        let mut x = fused::add_and_norm(words, &positions, &self.norm, self.epsilon)?;
        if let (Precision::Int8, Some(layers)) = (precision, &self.byte_layers) {
            let shape = x.dims2()?;
            let mut values = x.flatten_all()?.to_vec1()?;
            byte_layer::forward(layers, &mut values, lengths);
            return Tensor::from_vec(values, shape, &self.device);
        }
        for layer in &self.layers {
            x = layer.forward(x, lengths)?;
        }
        Ok(x)
    }

    /// The row of `positions` for token `i` of a text.
    fn position(&self, text: &Tokens, i: usize) -> usize {
        let kind = usize::from(i >= text.num_first).min(self.num_types - 1);
        kind * self.num_positions + self.first_position + i
    }

    /// How many tokens are best computed at a time.
    pub(super) fn batch_tokens(&self, priority: Priority) -> usize {
        if !self.device.is_cpu() {
            return GPU_BATCH_TOKENS;
        }
        match priority {
            Priority::Background if self.byte_layers.is_some() => {
                parallel::num_threads() * BACKGROUND_TOKENS_PER_THREAD
            }
            _ => BATCH_TOKENS,
        }
    }

    /// Whether so many texts are better computed one by one, each on one thread.
    fn suits_one_by_one(&self, num_texts: usize) -> bool {
        let num_threads = parallel::num_threads();
        self.byte_layers.is_some() && (num_threads == 1 || num_texts >= 3 * num_threads)
    }

    /// What `pool` makes of the last layer's output `[num_tokens, hidden]` of each text, computed in eight bits and one by
    /// one, until `stop` says so; of the first text always.
    fn encode_one_by_one(
        &self,
        texts: &[Tokens],
        stop: Stop<'_>,
        pool: impl Fn(&[f32]) -> Vec<f32> + Sync,
    ) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        self.check(texts)?;
        let layers = self.byte_layers.as_deref().unwrap_or_default();
        let unused: Mutex<Vec<TextScratch>> = Mutex::default();
        let vectors: Vec<OnceLock<candle_core::Result<Vec<f32>>>> =
            texts.iter().map(|_| OnceLock::new()).collect();
        let num_done = parallel::for_each_until(texts.len(), stop, |index| {
            let last = lock(&unused).pop();
            let mut scratch = last.unwrap_or_default();
            let computed = self.embed_tokens(&texts[index], &mut scratch).map(|()| {
                byte_layer::forward_text(layers, &mut scratch);
                pool(&scratch.x)
            });
            vectors[index].get_or_init(|| computed);
            lock(&unused).push(scratch);
        });
        let done = vectors.into_iter().take(num_done);
        Ok(done
            .filter_map(OnceLock::into_inner)
            .collect::<candle_core::Result<_>>()?)
    }

    /// What goes into the first layer for one text, on this thread.
    fn embed_tokens(&self, text: &Tokens, scratch: &mut TextScratch) -> candle_core::Result<()> {
        let hidden = self.norm.dim(1)?;
        let TextScratch { x, attended, .. } = scratch;
        let copy = |rows: &Tensor, indices: &mut dyn Iterator<Item = usize>, to: &mut Vec<f32>| {
            numbers(rows, |rows| {
                to.clear();
                indices.for_each(|index| to.extend_from_slice(&rows[index * hidden..][..hidden]));
            })
        };
        copy(&self.words, &mut text.ids.iter().map(|id| *id as usize), x)?;
        let mut positions = (0..text.ids.len()).map(|i| self.position(text, i));
        copy(&self.positions, &mut positions, attended)?;
        numbers(&self.norm, |norm| {
            fused::add_and_norm_rows(x, attended, norm, self.epsilon);
        })
    }

    /// The rows of each text's first token: [num_texts, hidden].
    pub(super) fn first_tokens(
        &self,
        x: &Tensor,
        lengths: &[usize],
    ) -> candle_core::Result<Tensor> {
        let first: Vec<u32> = starts(lengths).iter().map(|start| *start as u32).collect();
        x.index_select(&Tensor::new(first, &self.device)?, 0)
    }
}

impl EmbeddingModel for BertModel {
    fn embed(&mut self, token_ids: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        self.embed_in(Precision::F32, token_ids, &|| false)
    }

    fn embed_passages(
        &mut self,
        token_ids: &[Vec<u32>],
        stop: Stop<'_>,
    ) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        self.embed_in(Precision::Int8, token_ids, stop)
    }

    fn batch_tokens(&self, priority: Priority) -> usize {
        self.encoder.batch_tokens(priority)
    }
}

impl BertModel {
    fn embed_in(
        &self,
        precision: Precision,
        token_ids: &[Vec<u32>],
        stop: Stop<'_>,
    ) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        if token_ids.is_empty() {
            return Ok(Vec::new());
        }
        let texts: Vec<Tokens> = token_ids.iter().map(|ids| Tokens::single(ids)).collect();
        let mut vectors =
            if precision == Precision::Int8 && self.encoder.suits_one_by_one(texts.len()) {
                let hidden = self.encoder.norm.dim(1)?;
                let pool = |rows: &[f32]| self.pool_text(rows, hidden);
                self.encoder.encode_one_by_one(&texts, stop, pool)?
            } else {
                let (x, lengths) = self.encoder.encode(&texts, precision)?;
                self.pool(&x, &lengths)?
            };
        for vector in &mut vectors {
            let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            if !norm.is_finite() {
                return Err(EmbeddingError::NotFinite);
            }
            if self.normalize && norm > 0.0 {
                vector.iter_mut().for_each(|x| *x /= norm);
            }
        }
        Ok(vectors)
    }
}

impl LayerWeights {
    fn load(
        weights: &Weights<'_>,
        index: usize,
        architecture: &Architecture,
    ) -> Result<LayerWeights, EmbeddingError> {
        let hidden = architecture.hidden_size;
        let intermediate = architecture.intermediate_size;
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let scale = 1.0 / ((hidden / architecture.num_heads) as f32).sqrt();
        let mut qkv = Vec::with_capacity(3 * hidden * hidden);
        let mut qkv_bias = Vec::with_capacity(3 * hidden);
        for (part, scale) in [("query", scale), ("key", 1.0), ("value", 1.0)] {
            let weight = name(&format!("attention.self.{part}.weight"));
            let bias = name(&format!("attention.self.{part}.bias"));
            qkv.extend(
                weights
                    .values(&weight, &[hidden, hidden])?
                    .iter()
                    .map(|w| w * scale),
            );
            qkv_bias.extend(weights.values(&bias, &[hidden])?.iter().map(|b| b * scale));
        }
        let bias_and_norm = |part: &str| -> Result<Vec<f32>, EmbeddingError> {
            let mut values = weights.values(&name(&format!("{part}.dense.bias")), &[hidden])?;
            for parameter in ["weight", "bias"] {
                let norm = name(&format!("{part}.LayerNorm.{parameter}"));
                values.extend(weights.values(&norm, &[hidden])?);
            }
            Ok(values)
        };
        let matrix = |part: &str, shape: [usize; 2]| weights.values(&name(part), &shape);
        Ok(LayerWeights {
            qkv,
            qkv_bias,
            output: matrix("attention.output.dense.weight", [hidden, hidden])?,
            output_norm: bias_and_norm("attention.output")?,
            up: matrix("intermediate.dense.weight", [intermediate, hidden])?,
            up_bias: weights.values(&name("intermediate.dense.bias"), &[intermediate])?,
            down: matrix("output.dense.weight", [hidden, intermediate])?,
            down_norm: bias_and_norm("output")?,
        })
    }
}

impl Layer {
    fn new(
        weights: LayerWeights,
        architecture: &Architecture,
        placement: &Placement,
    ) -> candle_core::Result<Layer> {
        let device = &placement.device;
        let hidden = architecture.hidden_size;
        let intermediate = architecture.intermediate_size;
        let linear = |weight, shape| Linear::new(weight, shape, None, placement);
        Ok(Layer {
            qkv: Linear::new(
                weights.qkv,
                [3 * hidden, hidden],
                Some(weights.qkv_bias),
                placement,
            )?,
            output: linear(weights.output, [hidden, hidden])?,
            output_norm: Tensor::from_vec(weights.output_norm, (3, hidden), device)?,
            up: linear(weights.up, [intermediate, hidden])?,
            up_bias: Tensor::from_vec(weights.up_bias, intermediate, device)?,
            down: linear(weights.down, [hidden, intermediate])?,
            down_norm: Tensor::from_vec(weights.down_norm, (3, hidden), device)?,
            num_heads: architecture.num_heads,
            activation: architecture.activation,
            epsilon: architecture.layer_norm_epsilon,
            is_half: placement.is_half(),
        })
    }

    fn num_bytes(&self) -> usize {
        let matrices = [&self.qkv, &self.output, &self.up, &self.down];
        matrices.map(Linear::num_bytes).iter().sum()
    }

    /// [num_tokens, hidden] to the same.
    fn forward(&self, x: Tensor, lengths: &[usize]) -> candle_core::Result<Tensor> {
        let qkv = self.qkv.forward(&x)?;
        let attended = self.output.forward(&self.attend(&qkv, lengths)?)?;
        let x = fused::add_and_norm(attended, &x, &self.output_norm, self.epsilon)?;
        let up = self.up.forward(&x)?;
        let up = fused::add_bias_activate(up, &self.up_bias, self.activation)?;
        let down = self.down.forward(&up)?;
        fused::add_and_norm(down, &x, &self.down_norm, self.epsilon)
    }

    /// Attention of each text to itself: [num_tokens, 3 * hidden] to [num_tokens, hidden].
    fn attend(&self, qkv: &Tensor, lengths: &[usize]) -> candle_core::Result<Tensor> {
        let (num_tokens, width) = qkv.dims2()?;
        let hidden = width / 3;
        if qkv.device().is_cpu() {
            let attended = numbers(qkv, |qkv| attend(qkv, lengths, hidden, self.num_heads))?;
            return Tensor::from_vec(attended, (num_tokens, hidden), qkv.device());
        }
        #[cfg(feature = "cuda")]
        if self.is_half
            && let Some(attended) = super::attention_cuda::attend(qkv, lengths, self.num_heads)?
        {
            return Ok(attended);
        }
        let attended = starts(lengths)
            .iter()
            .zip(lengths)
            .map(|(start, length)| self.attend_one(&qkv.narrow(0, *start, *length)?))
            .collect::<candle_core::Result<Vec<_>>>()?;
        Tensor::cat(&attended, 0)
    }

    /// The same for one text in candle's operations, [length, 3 * hidden] to [length, hidden].
    fn attend_one(&self, qkv: &Tensor) -> candle_core::Result<Tensor> {
        let (length, width) = qkv.dims2()?;
        let hidden = width / 3;
        let parts = qkv
            .reshape((length, 3, self.num_heads, hidden / self.num_heads))?
            .permute((1, 2, 0, 3))?
            .contiguous()?;
        let (query, key, value) = (parts.get(0)?, parts.get(1)?, parts.get(2)?);
        let weights = candle_nn::ops::softmax_last_dim(&query.matmul(&key.t()?)?)?;
        weights
            .matmul(&value)?
            .transpose(0, 1)?
            .contiguous()?
            .reshape((length, hidden))
    }
}

/// Where each text begins among all tokens.
fn starts(lengths: &[usize]) -> Vec<usize> {
    lengths
        .iter()
        .scan(0, |next, length| {
            let start = *next;
            *next += length;
            Some(start)
        })
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
