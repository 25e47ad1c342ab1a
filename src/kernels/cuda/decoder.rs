//! The decoder-only transformer on a GPU, from tokens' vectors to logits: nothing of a step leaves its memory but logits, or the
//! tokens drawn from them, and a step that fits into the memory of one before takes none but for its draws. What a row gives has the same bits in any company.
//!
//! A step of few rows launches hundreds of small kernels, which takes longer than to run them. So it is padded to one of few
//! sizes, and what a step of that size launches is recorded once and replayed: see [`Bucket`].

mod launches;
mod workspace;

use std::collections::HashMap;

use super::attention::{Plan, Stored, supports};
use super::matrix::{DeviceMatrix, Product, max_scratch_len};
use super::memory::{Capture, Floats, Memory};
use super::rows::{Gate, copy};
use super::sampling::draw_rows;
use crate::kernels::draw::{Draw, InvalidLogits};
use crate::kernels::paged_attention::{AttentionShape, SequenceRows};
use launches::{LogitRows, Run};
use workspace::Workspace;
pub use workspace::{Capacity, Sizes, num_bytes as workspace_bytes};

/// Steps with more rows are launched kernel by kernel.
pub const MAX_RECORDED_ROWS: usize = 64;

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

/// Rows of a step, checked: every slot and block lies within the cache, and every table has its sequence's positions.
#[derive(Debug)]
pub struct StepRows<'a> {
    /// The tokens' vectors, `[num_tokens, hidden_size]`.
    pub hidden: Vec<f32>,
    /// Block and slot of every token.
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
    pub drawn: Vec<Option<Result<u32, InvalidLogits>>>,
    /// `[rows without a draw, vocab_size]`.
    pub values: Vec<f32>,
}

/// The weights, the cache and the workspace of a model in a GPU's memory.
#[derive(Debug)]
pub struct DeviceDecoder<M: Capture> {
    memory: M,
    settings: Settings,
    layers: Vec<Layer<M>>,
    output_norm: Floats<M>,
    output: DeviceMatrix<M>,
    /// Keys and values of each layer, `[num_blocks * block_size, num_kv_heads, dim]`.
    cache: Vec<[M::Buffer; 2]>,
    workspace: Workspace<M>,
    /// At most seven sizes by rows for each size by spans, of which there are as many as the context can be halved.
    graphs: HashMap<Bucket, M::Graph>,
}

/// Steps of one size launch the same kernels with the same arguments, whatever their numbers are: both are powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Bucket {
    num_rows: usize,
    num_spans: usize,
}

impl Bucket {
    /// That of a step whose rows are all attended for one by one, and all have logits: of decodes and of drafts.
    fn of(plan: &Plan, num_logit_rows: usize) -> Option<Self> {
        let num_rows = plan.num_tokens();
        let is_recorded =
            num_rows <= MAX_RECORDED_ROWS && num_logit_rows == num_rows && !plan.has_tiles();
        is_recorded.then(|| Self {
            num_rows: num_rows.next_power_of_two(),
            num_spans: plan.num_spans().next_power_of_two(),
        })
    }
}

impl<M: Capture> DeviceDecoder<M> {
    /// Takes the memory of the cache, and that of a workspace for the largest step that is replayed.
    ///
    /// # Panics
    /// When there are no layers, or the shapes of weights do not fit each other or heads that are supported.
    pub fn new(
        memory: M,
        settings: Settings,
        layers: Vec<Layer<M>>,
        output_norm: Floats<M>,
        output: DeviceMatrix<M>,
    ) -> Result<Self, M::Error> {
        let shape = layers.first().expect("a model has layers").shape;
        let sizes = Sizes {
            hidden_size: output.num_inputs(),
            feed_forward_size: layers[0].gate.num_outputs(),
            vocab_size: output.num_outputs(),
            attention: shape,
            num_pairs: settings.rotations.iter().map(|it| it.num_pairs).sum(),
            context_length: settings.context_length,
        };
        assert_eq!(output_norm.len(), sizes.hidden_size);
        for layer in &layers {
            check_layer(layer, &sizes, &settings);
        }
        let num_positions = settings.num_blocks * shape.block_size;
        let cache = |len: usize| memory.room(num_positions * len * settings.stored.num_bytes());
        let cache = (layers.iter())
            .map(|_| Ok([cache(sizes.keys())?, cache(sizes.values())?]))
            .collect::<Result<_, M::Error>>()?;
        let capacity = Capacity {
            num_rows: MAX_RECORDED_ROWS,
            num_logit_rows: MAX_RECORDED_ROWS,
        };
        let scratch_len = |num_rows| product_scratch_len(&layers, &output, num_rows);
        let workspace = Workspace::new(&memory, sizes, capacity, scratch_len)?;
        Ok(Self {
            memory,
            settings,
            layers,
            output_norm,
            output,
            cache,
            workspace,
            graphs: HashMap::new(),
        })
    }

    /// Makes block `to` of all layers hold what block `from` holds.
    ///
    /// # Panics
    /// When either is not in the cache.
    pub fn copy_block(&self, from: u32, to: u32) -> Result<(), M::Error> {
        let (from, to) = (from as usize, to as usize);
        assert!(from.max(to) < self.settings.num_blocks);
        if from == to {
            return Ok(());
        }
        let sizes = self.workspace.sizes();
        let position_bytes =
            [sizes.keys(), sizes.values()].map(|len| len * self.settings.stored.num_bytes());
        for layer in &self.cache {
            for (cache, position_bytes) in layer.iter().zip(position_bytes) {
                let len = sizes.attention.block_size * position_bytes;
                let at = |block: usize| self.memory.address(cache) + (block * len) as u64;
                // SAFETY: both blocks lie within the cache, and heads of whole eights have whole pieces.
                unsafe { copy(&self.memory, at(from), at(to), len)? };
            }
        }
        Ok(())
    }

    /// Numbers of a row of logits.
    pub fn vocab_size(&self) -> usize {
        self.output.num_outputs()
    }

    /// Writes keys and values of every row into the cache, and gives what comes of the logits asked for.
    ///
    /// # Panics
    /// When the rows are not as they are described.
    pub fn forward(&mut self, step: StepRows) -> Result<Given, M::Error> {
        let draws = step.draws;
        self.compute(step)?;
        let logits = self.workspace.places(&self.memory).logits;
        let vocab_size = self.vocab_size();
        // SAFETY: the workspace has a row of logits for each draw.
        let drawn = unsafe { draw_rows(&self.memory, logits, vocab_size, draws)? };
        let mut values = Vec::new();
        // Rows that lie together are read together.
        let rows: Vec<usize> = (0..draws.len())
            .filter(|row| draws[*row].is_none())
            .collect();
        for run in rows.chunk_by(|row, next| row + 1 == *next) {
            let rows = run[0]..run[0] + run.len();
            values.extend(self.workspace.read_logits(&self.memory, rows)?);
        }
        Ok(Given { drawn, values })
    }

    /// Leaves the logits in the workspace.
    fn compute(&mut self, step: StepRows) -> Result<(), M::Error> {
        let num_tokens = step.slots.len();
        check_step(&step, self.workspace.sizes(), &self.settings);
        if num_tokens == 0 {
            return Ok(());
        }
        let mut plan = Plan::new(
            step.slots,
            step.sequences,
            &self.workspace.sizes().attention,
            self.settings.stored,
        );
        let bucket = Bucket::of(&plan, step.logit_rows.len());
        if let Some(bucket) = bucket {
            plan.pad(bucket.num_rows);
        }
        let num_rows = plan.num_tokens();
        let logits = match step.logit_rows.len() == num_tokens {
            true => LogitRows::All,
            false => LogitRows::Chosen(step.logit_rows.len()),
        };
        let inputs = inputs(&step, &plan, logits, &self.settings.rotations);
        let needed = Capacity {
            num_rows,
            num_logit_rows: logits.count(num_rows),
        };
        let scratch_len = |rows| product_scratch_len(&self.layers, &self.output, rows);
        let has_moved = (self.workspace).reserve(&self.memory, needed, inputs.len(), scratch_len);
        // They would read and write where the workspace was. It may have moved in part before an error.
        if !matches!(has_moved, Ok(false)) {
            self.graphs.clear();
        }
        has_moved?;
        let mut hidden = step.hidden;
        hidden.resize(num_rows * self.workspace.sizes().hidden_size, 0.0);
        self.workspace.write(&self.memory, &hidden, &inputs)?;
        let run = Run {
            places: self.workspace.places(&self.memory),
            plan,
            num_rows,
            logits,
        };
        self.run(&run, bucket)
    }

    fn run(&mut self, run: &Run, bucket: Option<Bucket>) -> Result<(), M::Error> {
        let Some(bucket) = bucket else {
            return self.launch(run);
        };
        if let Some(graph) = self.graphs.get(&bucket) {
            // SAFETY: it was recorded from a run of this size, and dropped if anything has moved since.
            return unsafe { self.memory.replay(graph) };
        }
        // The first time loads the kernels, which cannot be done while they are recorded.
        self.launch(run)?;
        let graph = self.memory.capture(|| self.launch(run))?;
        self.graphs.insert(bucket, graph);
        Ok(())
    }
}

/// The numbers that a step uploads beside its rows: cosines and sines of each rotation, the rows that are chosen, and the plan, the
/// length of whose tables alone differs between steps of one size.
fn inputs(
    step: &StepRows,
    plan: &Plan,
    logits: LogitRows,
    rotations: &[RotationShape],
) -> Vec<u32> {
    let mut inputs = Vec::new();
    for (angles, rotation) in step.angles.iter().zip(rotations) {
        for numbers in angles {
            let end = inputs.len() + plan.num_tokens() * rotation.num_pairs;
            inputs.extend(numbers.iter().map(|number| number.to_bits()));
            inputs.resize(end, 0);
        }
    }
    if logits != LogitRows::All {
        inputs.extend(step.logit_rows);
    }
    inputs.extend(plan.numbers());
    inputs
}

/// Floats that products of up to `num_rows` rows need beside.
fn product_scratch_len<M: Memory>(
    layers: &[Layer<M>],
    output: &DeviceMatrix<M>,
    num_rows: usize,
) -> usize {
    let scratch_len = |matrices: &[&DeviceMatrix<M>]| {
        let products: Vec<Product<M>> = (matrices.iter().copied()).map(Product::alone).collect();
        max_scratch_len(&products, num_rows)
    };
    let of_layer = |layer: &Layer<M>| {
        [
            scratch_len(&[&layer.query, &layer.key, &layer.value]),
            scratch_len(&[&layer.attention_output]),
            scratch_len(&[&layer.gate, &layer.up]),
            scratch_len(&[&layer.down]),
        ]
    };
    let lens = layers.iter().flat_map(of_layer);
    lens.chain([scratch_len(&[output])]).max().unwrap_or(0)
}

fn check_layer<M: Memory>(layer: &Layer<M>, sizes: &Sizes, settings: &Settings) {
    let shape = AttentionShape {
        window: layer.shape.window,
        ..sizes.attention
    };
    assert!(supports(&shape) && layer.shape == shape);
    let rotation = layer.rotation.map(|it| settings.rotations[it]);
    assert!(rotation.is_none_or(|it| 2 * it.num_pairs <= shape.key_dim));
    let hidden = sizes.hidden_size;
    for (matrix, outputs, inputs) in [
        (&layer.query, sizes.queries(), hidden),
        (&layer.key, sizes.keys(), hidden),
        (&layer.value, sizes.values(), hidden),
        (&layer.attention_output, hidden, sizes.attended()),
        (&layer.gate, sizes.feed_forward_size, hidden),
        (&layer.up, sizes.feed_forward_size, hidden),
        (&layer.down, hidden, sizes.feed_forward_size),
    ] {
        let found = [matrix.num_outputs(), matrix.num_inputs()];
        assert_eq!(found, [outputs, inputs]);
    }
    let optional = [
        (layer.attention_post_norm.as_ref(), hidden),
        (layer.feed_forward_post_norm.as_ref(), hidden),
        (
            layer.head_norms.as_ref().map(|[query, _]| query),
            shape.key_dim,
        ),
        (layer.head_norms.as_ref().map(|[_, key]| key), shape.key_dim),
        (Some(&layer.attention_norm), hidden),
        (Some(&layer.feed_forward_norm), hidden),
    ];
    for (norm, len) in optional {
        assert!(norm.is_none_or(|norm| norm.len() == len));
    }
}

/// The slots and tables were checked by whoever made the step, as they are many.
fn check_step(step: &StepRows, sizes: &Sizes, settings: &Settings) {
    let num_tokens = step.slots.len();
    assert_eq!(step.hidden.len(), num_tokens * sizes.hidden_size);
    assert!(
        step.logit_rows
            .iter()
            .all(|row| (*row as usize) < num_tokens)
    );
    assert_eq!(step.draws.len(), step.logit_rows.len());
    assert_eq!(step.angles.len(), settings.rotations.len());
    for (angles, rotation) in step.angles.iter().zip(&settings.rotations) {
        let len = num_tokens * rotation.num_pairs;
        assert!(angles.iter().all(|numbers| numbers.len() == len));
    }
}
