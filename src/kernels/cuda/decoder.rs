//! The decoder-only transformer on GPUs, from tokens' vectors to logits: nothing of a step leaves their memory but logits, or the
//! tokens drawn from them, and the rows that pass from one GPU to the next; a step that fits into the memory of one before takes
//! none. What a row gives has the same bits in any company, and on however many GPUs.

mod launches;
mod stage;
mod workspace;

use super::attention::Stored;
use super::matrix::DeviceMatrix;
use super::memory::{Capture, Floats, Memory};
use super::rows::Gate;
use crate::kernels::draw::{Draw, Drawn};
use crate::kernels::paged_attention::{AttentionShape, SequenceRows};
pub use stage::MAX_RECORDED_ROWS;
use stage::Stage;
pub use workspace::{Capacity, Sizes, num_bytes as workspace_bytes};

/// Weights of one layer.
#[derive(Debug)]
pub struct Layer<M: Memory> {
    /// Layers differ in their windows alone.
    pub shape: AttentionShape,
    /// Which of the model's rotations.
    pub rotation: Option<usize>,
    pub attention_norm: Floats<M>,
    pub query: DeviceMatrix<M>,
    pub key: DeviceMatrix<M>,
    pub value: DeviceMatrix<M>,
    /// Of heads of queries, and of keys.
    pub head_norms: Option<[Floats<M>; 2]>,
    pub attention_output: DeviceMatrix<M>,
    pub attention_post_norm: Option<Floats<M>>,
    pub feed_forward_norm: Floats<M>,
    pub gate: DeviceMatrix<M>,
    pub up: DeviceMatrix<M>,
    pub down: DeviceMatrix<M>,
    pub feed_forward_post_norm: Option<Floats<M>>,
}

/// What all layers share.
#[derive(Debug, Clone)]
pub struct Settings {
    pub norm_epsilon: f32,
    /// What a layer's attention and feed-forward are multiplied by before they are added.
    pub residual_scale: f32,
    /// What logits are multiplied by.
    pub logit_scale: f32,
    pub gate_is: Gate,
    pub stored: Stored,
    pub num_blocks: usize,
    /// Positions of the longest sequence.
    pub context_length: usize,
    pub rotations: Vec<RotationShape>,
}

/// How heads are rotated, but for the angles.
#[derive(Debug, Clone, Copy)]
pub struct RotationShape {
    pub num_pairs: usize,
    /// Neighbours are pairs, else the first half and the second.
    pub is_interleaved: bool,
}

/// Rows of a step.
#[derive(Debug)]
pub struct StepRows<'a> {
    /// Block of the cache and slot in it of every token.
    pub slots: &'a [(u32, usize)],
    pub sequences: &'a [SequenceRows<'a>],
    /// Rows whose logits were asked for, ascending.
    pub logit_rows: &'a [u32],
    /// For each of them, what a token may be drawn by instead.
    pub draws: &'a [Option<Draw>],
    /// Cosines and sines of every rotation, `[num_tokens, num_pairs]` each.
    pub angles: Vec<[&'a [f32]; 2]>,
}

/// What a step gives for each row whose logits were asked for.
#[derive(Debug)]
pub struct Given {
    /// The token that was drawn, where one could be.
    pub drawn: Vec<Option<Drawn>>,
    /// `[rows without a draw, vocab_size]`.
    pub values: Vec<f32>,
}

/// What follows the last layer.
#[derive(Debug)]
pub struct Head<M: Memory> {
    pub norm: Floats<M>,
    pub output: DeviceMatrix<M>,
}

/// A model in the memory of one GPU, or of several, each of which has some of its layers, one after the other.
#[derive(Debug)]
pub struct DeviceDecoder<M: Capture> {
    /// The last one has the head.
    stages: Vec<Stage<M>>,
}

impl<M: Capture> DeviceDecoder<M> {
    /// `parts` are the layers of each GPU; the head is in the memory of the last. Takes the memory of the cache, and that of a
    /// workspace for the largest step that is replayed.
    ///
    /// # Panics
    /// When there are no layers somewhere, or the shapes of weights do not fit each other or heads that are supported.
    pub fn new(
        settings: &Settings,
        parts: Vec<(M, Vec<Layer<M>>)>,
        head: Head<M>,
    ) -> Result<Self, M::Error> {
        let mut heads: Vec<Option<Head<M>>> = parts.iter().skip(1).map(|_| None).collect();
        heads.push(Some(head));
        let stages = (parts.into_iter().zip(heads))
            .map(|((memory, layers), head)| Stage::new(memory, settings.clone(), layers, head));
        Ok(Self {
            stages: stages.collect::<Result<_, _>>()?,
        })
    }

    /// Makes block `to` of all layers hold what block `from` holds.
    ///
    /// # Panics
    /// When either is not in the cache.
    pub fn copy_block(&self, from: u32, to: u32) -> Result<(), M::Error> {
        let mut stages = self.stages.iter();
        stages.try_for_each(|stage| stage.copy_block(from, to))
    }

    /// Writes keys and values of every row into the cache, and gives what comes of the logits asked for. `hidden` are the tokens'
    /// vectors, `[num_tokens, hidden_size]`.
    ///
    /// # Panics
    /// When the rows are not as they are described, or lie outside the cache.
    pub fn forward(&mut self, step: &StepRows, mut hidden: Vec<f32>) -> Result<Given, M::Error> {
        let num_tokens = step.slots.len();
        let (last, others) = self.stages.split_last_mut().expect("there is a stage");
        if num_tokens > 0 {
            for stage in others {
                stage.compute(step, hidden)?;
                hidden = stage.read_hidden(num_tokens)?;
            }
            last.compute(step, hidden)?;
        }
        last.given(step.draws)
    }
}
