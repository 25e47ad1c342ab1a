//! Consecutive layers of a model on one GPU: its weights, its part of the cache, and the memory that a step is computed in.
//!
//! A step of few rows launches hundreds of small kernels, which takes longer than to run them. So it is padded to one of few
//! sizes, and what a step of that size launches is recorded once and replayed: see [`Bucket`].

use std::collections::HashMap;

use super::launches::{LogitRows, Run};
use super::workspace::{Capacity, Sizes, Workspace};
use super::{Given, Head, Layer, RotationShape, Settings, StepRows};
use crate::kernels::cuda::attention::{Plan, supports};
use crate::kernels::cuda::matrix::{DeviceMatrix, Product, max_scratch_len};
use crate::kernels::cuda::memory::{Capture, Memory};
use crate::kernels::cuda::rows::copy;
use crate::kernels::draw::Draw;
use crate::kernels::paged_attention::AttentionShape;

/// Steps with more rows are launched kernel by kernel.
pub const MAX_RECORDED_ROWS: usize = 64;

#[derive(Debug)]
pub struct Stage<M: Capture> {
    pub(super) memory: M,
    pub(super) settings: Settings,
    pub(super) layers: Vec<Layer<M>>,
    /// Only where the last layers are.
    pub(super) head: Option<Head<M>>,
    /// Keys and values of each layer, `[num_blocks * block_size, num_kv_heads, dim]`.
    pub(super) cache: Vec<[M::Buffer; 2]>,
    pub(super) workspace: Workspace<M>,
    /// At most seven sizes by rows for each size by spans, of which there are as many as the context can be halved.
    graphs: HashMap<Bucket, Recorded<M::Graph>>,
}

#[derive(Debug)]
enum Recorded<G> {
    Graph(G),
    /// It could not be recorded, so many times.
    Failed(u32),
}

/// After as many failures steps of a size are no longer recorded.
const MAX_FAILURES: u32 = 3;

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

impl<M: Capture> Stage<M> {
    /// Takes the memory of the cache, and that of a workspace for the largest step that is replayed.
    ///
    /// # Panics
    /// When there are no layers, or the shapes of weights do not fit each other or heads that are supported.
    pub fn new(
        memory: M,
        settings: Settings,
        layers: Vec<Layer<M>>,
        head: Option<Head<M>>,
    ) -> Result<Self, M::Error> {
        let first = layers.first().expect("there are layers");
        let shape = first.shape;
        let sizes = Sizes {
            hidden_size: first.down.num_outputs(),
            feed_forward_size: first.gate.num_outputs(),
            vocab_size: head.as_ref().map_or(0, |head| head.output.num_outputs()),
            attention: shape,
            num_pairs: settings.rotations.iter().map(|it| it.num_pairs).sum(),
            context_length: settings.context_length,
        };
        if let Some(Head { norm, output }) = &head {
            assert_eq!([norm.len(), output.num_inputs()], [sizes.hidden_size; 2]);
        }
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
            num_logit_rows: head.as_ref().map_or(0, |_| MAX_RECORDED_ROWS),
        };
        let scratch_len = |num_rows| product_scratch_len(&layers, head.as_ref(), num_rows);
        let workspace = Workspace::new(&memory, sizes, capacity, scratch_len)?;
        Ok(Self {
            memory,
            settings,
            layers,
            head,
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

    /// Computes the layers, and the logits where the head is. `hidden` is `[num_tokens, hidden_size]`, with a token at least.
    ///
    /// # Panics
    /// When the rows are not as they are described, or lie outside the cache.
    pub fn compute(&mut self, step: &StepRows, mut hidden: Vec<f32>) -> Result<(), M::Error> {
        let num_tokens = step.slots.len();
        check_step(
            step,
            self.workspace.sizes().attention.block_size,
            &self.settings,
        );
        assert_eq!(
            hidden.len(),
            num_tokens * self.workspace.sizes().hidden_size
        );
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
        let logits = match (&self.head, step.logit_rows.len()) {
            (None, _) => LogitRows::None,
            (Some(_), count) if count == num_tokens => LogitRows::All,
            (Some(_), count) => LogitRows::Chosen(count),
        };
        let inputs = inputs(step, &plan, logits, &self.settings.rotations);
        let needed = Capacity {
            num_rows,
            num_logit_rows: logits.count(num_rows),
        };
        let scratch_len = |rows| product_scratch_len(&self.layers, self.head.as_ref(), rows);
        let has_moved = (self.workspace).reserve(&self.memory, needed, inputs.len(), scratch_len);
        // They would read and write where the workspace was. It may have moved in part before an error.
        if !matches!(has_moved, Ok(false)) {
            self.graphs.clear();
        }
        has_moved?;
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
        let num_failures = match self.graphs.get(&bucket) {
            // SAFETY: it was recorded from a run of this size, and dropped if anything has moved since.
            Some(Recorded::Graph(graph)) => return unsafe { self.memory.replay(graph) },
            Some(Recorded::Failed(times)) => *times,
            None => 0,
        };
        // The first time loads the kernels, which cannot be done while they are recorded.
        self.launch(run)?;
        if num_failures == MAX_FAILURES {
            return Ok(());
        }
        let recorded = match self.memory.capture(|| self.launch(run)) {
            Ok(graph) => Recorded::Graph(graph),
            Err(reason) => {
                let num_rows = bucket.num_rows;
                tracing::warn!(
                    num_rows,
                    reason,
                    "a step could not be recorded, which is slower"
                );
                Recorded::Failed(num_failures + 1)
            }
        };
        self.graphs.insert(bucket, recorded);
        Ok(())
    }

    /// The rows of the last step as the layers left them, `[num_tokens, hidden_size]`.
    pub fn read_hidden(&self, num_tokens: usize) -> Result<Vec<f32>, M::Error> {
        self.workspace.read_hidden(&self.memory, num_tokens)
    }

    /// What comes of the logits of the last step, one row for each of `draws`.
    pub fn given(&mut self, draws: &[Option<Draw>]) -> Result<Given, M::Error> {
        let drawn = self.workspace.draw(&self.memory, draws)?;
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
    if let LogitRows::Chosen(_) = logits {
        inputs.extend(step.logit_rows);
    }
    inputs.extend(plan.numbers());
    inputs
}

/// Floats that products of up to `num_rows` rows need beside.
fn product_scratch_len<M: Memory>(
    layers: &[Layer<M>],
    head: Option<&Head<M>>,
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
    let of_head = head.map(|head| scratch_len(&[&head.output]));
    lens.chain(of_head).max().unwrap_or(0)
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

/// Kernels read and write where a step says.
fn check_step(step: &StepRows, block_size: usize, settings: &Settings) {
    let num_tokens = step.slots.len();
    let is_in_cache = |block: &u32| (*block as usize) < settings.num_blocks;
    let mut slots = step.slots.iter();
    assert!(slots.all(|(block, slot)| is_in_cache(block) && *slot < block_size));
    let mut num_rows = 0;
    for sequence in step.sequences {
        assert_eq!(sequence.first_row, num_rows);
        num_rows += sequence.num_rows;
        let end = sequence.start + sequence.num_rows;
        assert!(end <= settings.context_length);
        let blocks = &sequence.block_table[..end.div_ceil(block_size)];
        assert!(blocks.iter().all(is_in_cache));
    }
    assert_eq!(num_rows, num_tokens);
    let mut logit_rows = step.logit_rows.iter();
    assert!(logit_rows.all(|row| (*row as usize) < num_tokens));
    assert_eq!(step.draws.len(), step.logit_rows.len());
    assert_eq!(step.angles.len(), settings.rotations.len());
    for (angles, rotation) in step.angles.iter().zip(&settings.rotations) {
        let len = num_tokens * rotation.num_pairs;
        assert!(angles.iter().all(|numbers| numbers.len() == len));
    }
}
