//! An encoder layer in eight bits on the CPU: between two attentions everything is done for a block of rows at a time, so
//! that what lies between the matrices stays in a core's cache. Many texts are computed one by one, each on one thread,
//! so that none waits for another; of few, all threads compute a part. A token's result depends on its text alone, to the
//! bit.

use candle_core::Result;

use super::bert::LayerWeights;
use super::config::Architecture;
use super::fused::{self, Activation};
use crate::kernels::matrix::{ByteMatrix, ByteRows};
use crate::kernels::parallel;
use crate::kernels::self_attention::{self, attend, attend_text};

pub(super) struct ByteLayer {
    /// Query, key and value in one: [3 * hidden, hidden].
    qkv: ByteMatrix,
    qkv_bias: Vec<f32>,
    output: ByteMatrix,
    output_norm: Vec<f32>,
    up: ByteMatrix,
    up_bias: Vec<f32>,
    down: ByteMatrix,
    down_norm: Vec<f32>,
    num_heads: usize,
    activation: Activation,
    epsilon: f32,
}

/// Rows of a block, at most: the widest intermediate result of bge-small then takes 600 KB.
const MAX_ROWS: usize = 96;
/// Fewer rows than this are not worth a thread of their own.
const MIN_ROWS: usize = 24;

/// Blocks of one size, and as many of them for each thread.
fn rows_per_block(num_rows: usize, num_threads: usize) -> usize {
    let per_thread = num_rows
        .div_ceil(MAX_ROWS)
        .next_multiple_of(num_threads.max(1));
    num_rows
        .div_ceil(per_thread.max(1))
        .clamp(MIN_ROWS, MAX_ROWS)
}

/// What one thread computes with.
#[derive(Default)]
struct Scratch {
    rows: ByteRows,
    up: Vec<f32>,
}

impl ByteLayer {
    /// Whether layers of this shape can be kept so, and are faster then.
    pub fn suits(architecture: &Architecture) -> bool {
        let (hidden, intermediate) = (architecture.hidden_size, architecture.intermediate_size);
        ByteMatrix::suits(hidden, intermediate) && ByteMatrix::suits(intermediate, hidden)
    }

    pub fn new(weights: &LayerWeights, architecture: &Architecture) -> Result<Self> {
        let (hidden, intermediate) = (architecture.hidden_size, architecture.intermediate_size);
        Ok(Self {
            qkv: ByteMatrix::quantize(&weights.qkv, 3 * hidden, hidden)?,
            qkv_bias: weights.qkv_bias.clone(),
            output: ByteMatrix::quantize(&weights.output, hidden, hidden)?,
            output_norm: weights.output_norm.clone(),
            up: ByteMatrix::quantize(&weights.up, intermediate, hidden)?,
            up_bias: weights.up_bias.clone(),
            down: ByteMatrix::quantize(&weights.down, hidden, intermediate)?,
            down_norm: weights.down_norm.clone(),
            num_heads: architecture.num_heads,
            activation: architecture.activation,
            epsilon: architecture.layer_norm_epsilon,
        })
    }

    pub fn num_bytes(&self) -> usize {
        let matrices = [&self.qkv, &self.output, &self.up, &self.down];
        matrices.map(ByteMatrix::num_bytes).iter().sum()
    }

    /// Query, key and value of `x`, a block of rows.
    fn project(&self, x: &[f32], qkv: &mut [f32], scratch: &mut Scratch) {
        scratch.rows.quantize(x, self.output_norm.len() / 3);
        self.qkv.multiply(&scratch.rows, Some(&self.qkv_bias), qkv);
    }

    /// What follows attention, in place of `x`; `attended` is overwritten.
    fn feed_forward(&self, x: &mut [f32], attended: &mut [f32], scratch: &mut Scratch) {
        let hidden = self.output_norm.len() / 3;
        let Scratch { rows, up } = scratch;
        rows.quantize(attended, hidden);
        self.output.multiply(rows, None, attended);
        fused::add_and_norm_rows(attended, x, &self.output_norm, self.epsilon);

        rows.quantize(attended, hidden);
        up.resize(x.len() / hidden * self.up.num_outputs(), 0.0);
        self.up.multiply(rows, None, up);
        fused::add_bias_activate_rows(up, &self.up_bias, self.activation);
        rows.quantize(up, self.up.num_outputs());
        self.down.multiply(rows, None, x);
        fused::add_and_norm_rows(x, attended, &self.down_norm, self.epsilon);
    }
}

/// From the first layer's attention to the next one's, for a block of rows: the rest of the layer, in place of `x`, and the
/// next one's queries, keys and values, where there is a next one.
fn go_on(
    layers: &[ByteLayer],
    x: &mut [f32],
    attended: &mut [f32],
    qkv: &mut [f32],
    scratch: &mut Scratch,
) {
    layers[0].feed_forward(x, attended, scratch);
    if let Some(next) = layers.get(1) {
        next.project(x, qkv, scratch);
    }
}

/// What one thread computes texts with, one after the other.
#[derive(Default)]
pub(super) struct TextScratch {
    /// `[num_tokens, hidden]`: what goes into the first layer, then what the last one gives.
    pub x: Vec<f32>,
    /// What attention gives; before the first layer, whatever is of the same shape.
    pub attended: Vec<f32>,
    qkv: Vec<f32>,
    attention: self_attention::Scratch,
    rows: Scratch,
}

/// All layers for the text in `scratch.x`, on this thread.
pub(super) fn forward_text(layers: &[ByteLayer], scratch: &mut TextScratch) {
    let TextScratch {
        x,
        qkv,
        attended,
        attention,
        rows,
    } = scratch;
    let Some(first) = layers.first() else {
        return;
    };
    let hidden = first.output_norm.len() / 3;
    let block = rows_per_block(x.len() / hidden, 1).next_multiple_of(ByteRows::BLOCK) * hidden;
    qkv.resize(3 * x.len(), 0.0);
    attended.resize(x.len(), 0.0);
    for (x, qkv) in x.chunks(block).zip(qkv.chunks_mut(3 * block)) {
        first.project(x, qkv, rows);
    }
    for (index, layer) in layers.iter().enumerate() {
        attend_text(qkv, hidden, layer.num_heads, attended, attention);
        let blocks = x.chunks_mut(block).zip(attended.chunks_mut(block));
        for ((x, attended), qkv) in blocks.zip(qkv.chunks_mut(3 * block)) {
            go_on(&layers[index..], x, attended, qkv, rows);
        }
    }
}

/// All layers, on all threads: `x` is [num_tokens, hidden], the texts' tokens side by side, `lengths` of each text. The
/// result is in place of `x`.
pub(super) fn forward(layers: &[ByteLayer], x: &mut [f32], lengths: &[usize]) {
    let Some(first) = layers.first() else {
        return;
    };
    let hidden = first.output_norm.len() / 3;
    let block = rows_per_block(x.len() / hidden, parallel::num_threads()) * hidden;
    let mut qkv = vec![0f32; 3 * x.len()];
    let blocks = x.chunks(block).zip(qkv.chunks_mut(3 * block));
    parallel::for_each(blocks.collect(), |(x, qkv)| {
        first.project(x, qkv, &mut Scratch::default());
    });
    for (index, layer) in layers.iter().enumerate() {
        let mut attended = attend(&qkv, lengths, hidden, layer.num_heads);
        let x = x.chunks_mut(block);
        let attended = attended.chunks_mut(block);
        let blocks = x.zip(attended).zip(qkv.chunks_mut(3 * block));
        parallel::for_each(blocks.collect(), |((x, attended), qkv)| {
            let mut scratch = Scratch::default();
            go_on(&layers[index..], x, attended, qkv, &mut scratch);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_of_one_size_and_as_many_for_each_thread() {
        for num_threads in [1, 2, 3, 8] {
            for num_rows in [300, 508, 4000] {
                let rows = rows_per_block(num_rows, num_threads);
                let num_blocks = num_rows.div_ceil(rows);
                assert!((MIN_ROWS..=MAX_ROWS).contains(&rows));
                assert!(
                    num_blocks.is_multiple_of(num_threads),
                    "{num_rows}: {num_blocks}"
                );
            }
        }
        assert_eq!(rows_per_block(5, 2), MIN_ROWS);
    }
}
