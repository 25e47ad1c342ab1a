//! A model whose every step is computed in the memory of GPUs by our kernels alone: how its weights get there, and what a step of
//! it is. Models that the kernels do not fit are computed in tensors, see [`super::tensor_model`].

use super::attention::CacheLayout;
use super::checkpoint::Checkpoint;
use super::decoder::{Beside, GPU_PACKING_SHARE, StepSize};
use super::feed_forward::FeedForward;
use super::hyperparameters::{Activation, Hyperparameters};
use super::linear::{StoredMatrix, TokenEmbedding};
use super::rope::{Pairing, RopeSettings};
use super::split::PartBytes;
use super::step::Step;
use super::weights::{LayerWeights, WeightStore, Weights, stored_bytes};
use super::{KvDtype, LlmError, Logits};
use crate::kernels::cuda::attention::{Stored, supports};
use crate::kernels::cuda::decoder::{
    Capacity, DeviceDecoder, Head, Layer, MAX_RECORDED_ROWS, RotationShape, Settings, Sizes,
    StepRows, workspace_bytes,
};
use crate::kernels::cuda::matrix::DeviceMatrix;
use crate::kernels::cuda::memory::{Capture, Floats, Memory};
use crate::kernels::cuda::rows::Gate;
use crate::kernels::paged_attention::AttentionShape;

/// A GPU's memory, and how many of a model's layers it has, one after the other.
#[derive(Debug)]
pub(crate) struct Part<M> {
    pub memory: M,
    pub num_layers: usize,
}

impl<M: Memory> WeightStore for Part<M>
where
    LlmError: From<M::Error>,
{
    type Matrix = DeviceMatrix<M>;
    type Vector = Floats<M>;

    fn matrix(
        &self,
        weight: StoredMatrix,
        bias: Option<Vec<f32>>,
    ) -> Result<DeviceMatrix<M>, LlmError> {
        let shape = [weight.outputs, weight.inputs];
        let bias = bias.as_deref();
        let matrix = DeviceMatrix::new(&self.memory, weight.dtype, weight.bytes, bias, shape)?;
        Ok(matrix)
    }

    fn vector(&self, numbers: Vec<f32>) -> Result<Floats<M>, LlmError> {
        Ok(Floats::new(&self.memory, &numbers)?)
    }

    fn tied(&self, _: &TokenEmbedding) -> Option<DeviceMatrix<M>> {
        None
    }
}

/// A model in the memory of GPUs, but for the vectors of tokens: of them a step needs few, and they need not be there twice.
#[derive(Debug)]
pub(crate) struct DeviceModel<M: Capture> {
    embedding: TokenEmbedding,
    embedding_scale: f32,
    vocab_size: usize,
    decoder: DeviceDecoder<M>,
}

/// Whether the kernels compute all of a model: its networks have no experts, and its heads a size that they know.
pub(crate) fn fits(model: &Hyperparameters, layout: &CacheLayout) -> bool {
    model.experts.is_none() && stored(layout.dtype).is_some() && layout.layers.iter().all(supports)
}

fn stored(dtype: KvDtype) -> Option<Stored> {
    match dtype {
        KvDtype::F32 => Some(Stored::F32),
        KvDtype::F16 => Some(Stored::F16),
        KvDtype::Bf16 => Some(Stored::Bf16),
        KvDtype::Q8 => None,
    }
}

/// Bytes of the workspace for steps of up to this size, on the GPU that computes the logits. Where others share the model, they have
/// one without logits.
pub(crate) fn workspace_num_bytes(
    model: &Hyperparameters,
    layout: &CacheLayout,
    vocab_size: usize,
    step: StepSize,
) -> u64 {
    let num_logit_rows = step.num_logit_rows.max(MAX_RECORDED_ROWS);
    stage_bytes(model, layout, vocab_size, [step.num_rows, num_logit_rows])
}

fn stage_bytes(
    model: &Hyperparameters,
    layout: &CacheLayout,
    vocab_size: usize,
    [num_rows, num_logit_rows]: [usize; 2],
) -> u64 {
    let sizes = Sizes {
        hidden_size: model.hidden_size,
        feed_forward_size: model.feed_forward_size,
        vocab_size,
        attention: layout.layers[0],
        num_pairs: model.ropes.iter().map(|it| it.dimensions / 2).sum(),
        context_length: model.context_length,
    };
    let capacity = Capacity {
        num_rows: num_rows.max(MAX_RECORDED_ROWS),
        num_logit_rows,
    };
    workspace_bytes(&sizes, capacity) as u64
}

/// Bytes of weights, cache and all that is beside them, part by part. On a GPU weights take up to a [`GPU_PACKING_SHARE`]th more
/// than in their file.
pub(crate) fn part_bytes(
    checkpoint: &dyn Checkpoint,
    model: &Hyperparameters,
    layout: &CacheLayout,
    vocab_size: usize,
    beside: Beside,
) -> PartBytes {
    let packed = |stored: u64| stored + stored / GPU_PACKING_SHARE;
    let (layers, head) = stored_bytes(checkpoint, model.layers.len());
    let with_logits = workspace_num_bytes(model, layout, vocab_size, beside.step);
    let without = stage_bytes(model, layout, 0, [beside.step.num_rows, 0]);
    PartBytes {
        layers: layers.into_iter().map(packed).collect(),
        cache: layout.num_bytes().unwrap_or(u64::MAX),
        head: packed(head) + with_logits.saturating_sub(without),
        each: beside.overhead_bytes + without,
    }
}

/// What a model is made of, and how large it may get.
pub(crate) struct Loaded<'a, M: Memory> {
    pub model: &'a Hyperparameters,
    pub weights: Weights<DeviceMatrix<M>, Floats<M>>,
    pub layout: &'a CacheLayout,
    /// Positions of the longest sequence.
    pub context_length: usize,
}

/// The weights of a model that [`fits`], in `parts` that have all of its layers.
pub(crate) fn load_weights<M: Memory>(
    checkpoint: &dyn Checkpoint,
    model: &Hyperparameters,
    context_length: usize,
    parts: &[Part<M>],
) -> Result<Weights<DeviceMatrix<M>, Floats<M>>, LlmError>
where
    LlmError: From<M::Error>,
{
    let of_layers: Vec<&Part<M>> = (parts.iter())
        .flat_map(|part| std::iter::repeat_n(part, part.num_layers))
        .collect();
    Weights::load(checkpoint, model, context_length, |layer| of_layers[layer])
}

impl<M: Capture> DeviceModel<M> {
    /// Takes the memory of cache and workspace. The weights are in `parts`.
    ///
    /// # Panics
    /// When the model does not fit, see [`fits`], or a part has none of its layers.
    pub fn new(parts: Vec<Part<M>>, loaded: Loaded<M>) -> Result<Self, M::Error> {
        let Loaded {
            model,
            weights,
            layout,
            context_length,
        } = loaded;
        let rotation = |it: &RopeSettings| RotationShape {
            num_pairs: it.dimensions / 2,
            is_interleaved: it.pairing == Pairing::Interleaved,
        };
        let settings = Settings {
            norm_epsilon: model.norm_epsilon,
            residual_scale: model.residual_scale,
            logit_scale: 1.0 / model.logit_divisor,
            gate_is: match model.architecture.activation {
                Activation::Silu => Gate::Silu,
                Activation::GeluTanh => Gate::GeluTanh,
            },
            stored: stored(layout.dtype).expect("the model fits"),
            num_blocks: layout.num_blocks,
            context_length,
            rotations: model.ropes.iter().map(rotation).collect(),
        };
        let shapes = layout.layers.iter().zip(&model.layers);
        let mut layers = (weights.layers.into_iter().zip(shapes))
            .map(|(weights, (shape, settings))| layer(weights, *shape, settings.rope));
        let parts = (parts.into_iter())
            .map(|part| (part.memory, layers.by_ref().take(part.num_layers).collect()))
            .collect();
        let head = Head {
            norm: weights.output_norm,
            output: weights.output,
        };
        Ok(Self {
            embedding: weights.embedding,
            embedding_scale: model.embedding_scale,
            vocab_size: weights.facts.vocab_size,
            decoder: DeviceDecoder::new(&settings, parts, head)?,
        })
    }

    /// Copies blocks of the cache, then computes the step. The logits asked for, or what was drawn from them.
    pub fn forward(&mut self, step: &Step, copies: &[(u32, u32)]) -> Result<Logits, M::Error> {
        for &(from, to) in copies {
            self.decoder.copy_block(from, to)?;
        }
        let mut hidden = self.embedding.expand(&step.tokens);
        if self.embedding_scale != 1.0 {
            hidden.iter_mut().for_each(|it| *it *= self.embedding_scale);
        }
        let rows = StepRows {
            slots: &step.slots,
            sequences: &step.sequences,
            logit_rows: &step.logit_rows,
            draws: &step.draws,
            angles: (step.angles.iter())
                .map(|it| [it.cos.as_slice(), it.sin.as_slice()])
                .collect(),
        };
        let given = self.decoder.forward(&rows, hidden)?;
        Ok(Logits::with_drawn(
            given.values,
            self.vocab_size,
            given.drawn,
        ))
    }
}

fn layer<M: Memory>(
    weights: LayerWeights<DeviceMatrix<M>, Floats<M>>,
    shape: AttentionShape,
    rotation: Option<usize>,
) -> Layer<M> {
    let FeedForward::Dense(network) = weights.feed_forward else {
        panic!("the model has experts, which do not fit");
    };
    Layer {
        shape,
        rotation,
        attention_norm: weights.attention_norm,
        query: weights.query,
        key: weights.key,
        value: weights.value,
        head_norms: weights.query_norm.zip(weights.key_norm).map(Into::into),
        attention_output: weights.attention_output,
        attention_post_norm: weights.attention_post_norm,
        feed_forward_norm: weights.feed_forward_norm,
        gate: network.gate,
        up: network.up,
        down: network.down,
        feed_forward_post_norm: weights.feed_forward_post_norm,
    }
}
