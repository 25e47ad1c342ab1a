//! Attention over the paged cache on a GPU: which kernel of `attention.cu` runs on which rows, and with what.

use super::launch::{Argument, Launch};
use crate::kernels::paged_attention::{AttentionShape, SequenceRows};

/// The type that keys and values are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    F32,
    F16,
    Bf16,
}

impl Stored {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of a number.
    pub fn num_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Positions that one block of threads attends to for a few rows; as in the kernel.
const SPAN: usize = 256;
const SPAN_THREADS: u32 = 128;
/// Query heads that a block of threads computes together; as in the kernel.
const SPAN_HEADS: usize = 4;
/// Rows of a sequence that one block of threads attends for on the tensor cores; as in the kernel.
pub(super) const TILE_ROWS: usize = 64;
pub(super) const TILE_THREADS: u32 = 128;
/// Fewer rows of a sequence are attended for one by one.
const MIN_TILE_ROWS: usize = 16;
/// Sizes of heads that there are kernels for tiles of.
const TILE_DIMS: [usize; 5] = [64, 80, 96, 128, 256];
/// Numbers of results that are merged, at most, for more than one row: 64 MiB.
const MAX_SCRATCH: usize = 16 << 20;
const ROTATE_THREADS: u32 = 256;
const MERGE_THREADS: u32 = 128;
/// The most blocks in a grid's second and third dimension.
const MAX_GRID: usize = 65_535;

/// Whether the kernels can compute heads of this shape.
pub fn supports(shape: &AttentionShape) -> bool {
    [shape.key_dim, shape.value_dim]
        .iter()
        .all(|dim| (8..=256).contains(dim) && dim.is_multiple_of(8))
}

fn has_tiles(shape: &AttentionShape, stored: Stored) -> bool {
    stored != Stored::F32 && shape.key_dim == shape.value_dim && TILE_DIMS.contains(&shape.key_dim)
}

/// In place of a slot: the row is nobody's, and stored nowhere. As in the kernel.
const NO_SLOT: u32 = u32::MAX;
/// In place of a position: the row is nobody's, and attends to nothing. As in the kernel.
const NO_POSITION: u32 = u32::MAX;

/// Which rows of a batch are computed how. The same for all layers, which differ in their windows alone.
#[derive(Debug, Default)]
pub struct Plan {
    /// Where each token is stored.
    slots: Vec<u32>,
    /// Rows that are computed one by one: which, where their tables begin, and their positions.
    rows: Vec<u32>,
    row_tables: Vec<u32>,
    row_positions: Vec<u32>,
    /// Four numbers for each tile: first row, number of rows, first position, where its table begins.
    tiles: Vec<u32>,
    /// Block tables of all sequences, one after the other.
    tables: Vec<u32>,
    /// Spans of the longest row that is computed by itself.
    num_spans: usize,
    /// Numbers that the results of a span of a row take.
    results_len: usize,
}

impl Plan {
    /// `slots` are block and slot of every token.
    pub fn new(
        slots: &[(u32, usize)],
        sequences: &[SequenceRows],
        shape: &AttentionShape,
        stored: Stored,
    ) -> Self {
        let mut plan = Self {
            slots: slots
                .iter()
                .map(|&(block, slot)| block * shape.block_size as u32 + slot as u32)
                .collect(),
            results_len: results_len(shape),
            ..Self::default()
        };
        for sequence in sequences {
            let SequenceRows {
                first_row,
                num_rows,
                start,
                block_table,
            } = *sequence;
            let table = plan.tables.len() as u32;
            plan.tables.extend_from_slice(block_table);
            if has_tiles(shape, stored) && num_rows >= MIN_TILE_ROWS {
                for first in (0..num_rows).step_by(TILE_ROWS) {
                    let count = TILE_ROWS.min(num_rows - first);
                    let tile = [first_row + first, count, start + first];
                    plan.tiles.extend(tile.map(|it| it as u32));
                    plan.tiles.push(table);
                }
            } else {
                let positions = start..start + num_rows;
                plan.rows
                    .extend((first_row..first_row + num_rows).map(|row| row as u32));
                plan.row_positions.extend(positions.map(|it| it as u32));
                plan.row_tables.resize(plan.rows.len(), table);
                plan.num_spans = plan.num_spans.max((start + num_rows).div_ceil(SPAN));
            }
        }
        plan
    }

    /// Makes what is launched the same for all steps of up to `num_rows` rows whose longest row has as many spans, to the next
    /// power of two: rows are added that are nobody's. Numbers of one step may then take the place of another's.
    ///
    /// # Panics
    /// When there are more rows already, or tiles of them.
    pub fn pad(&mut self, num_rows: usize) {
        assert!(self.tiles.is_empty() && self.rows.len() <= num_rows);
        self.slots.resize(num_rows, NO_SLOT);
        self.rows.extend(self.rows.len() as u32..num_rows as u32);
        self.row_tables.resize(num_rows, 0);
        self.row_positions.resize(num_rows, NO_POSITION);
        self.num_spans = self.num_spans.next_power_of_two();
    }

    pub fn num_tokens(&self) -> usize {
        self.slots.len()
    }

    pub fn has_tiles(&self) -> bool {
        !self.tiles.is_empty()
    }

    pub fn num_spans(&self) -> usize {
        self.num_spans
    }

    /// What is to be copied into the GPU's memory: tables come last, whose number changes from step to step.
    pub fn numbers(&self) -> Vec<u32> {
        [
            self.slots.as_slice(),
            &self.rows,
            &self.row_tables,
            &self.row_positions,
            &self.tiles,
            &self.tables,
        ]
        .concat()
    }

    /// Floats that the kernels need beside.
    pub fn scratch_len(&self) -> usize {
        self.rows_at_once() * self.results_len * self.num_spans
    }

    /// Rows, of those that are computed one by one, that are computed at a time.
    fn rows_at_once(&self) -> usize {
        let per_row = self.results_len * self.num_spans;
        let fitting = (MAX_SCRATCH / per_row.max(1)).clamp(1, MAX_GRID);
        fitting.min(self.rows.len())
    }
}

/// Numbers that the results of a span of a row take: sums of values, the largest score and the sum of the weights.
fn results_len(shape: &AttentionShape) -> usize {
    shape.num_heads * (shape.value_dim + 2)
}

/// At least the [`Plan::scratch_len`] of every step with up to `num_rows` rows at positions below `context_length`.
pub fn max_scratch_len(shape: &AttentionShape, num_rows: usize, context_length: usize) -> usize {
    let per_row = results_len(shape) * context_length.div_ceil(SPAN).next_power_of_two();
    (num_rows * per_row).min(MAX_SCRATCH.max(per_row))
}

/// Addresses in the GPU's memory.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// f32, `[num_tokens, num_heads * key_dim]`, and `[num_tokens, num_kv_heads * dim]`.
    pub query: u64,
    pub key: u64,
    pub value: u64,
    /// Room for the rotated query.
    pub rotated: u64,
    /// The layer's cache, `[num_positions, num_kv_heads, dim]` each.
    pub keys: u64,
    pub values: u64,
    /// [`Plan::numbers`].
    pub plan: u64,
    /// Room for [`Plan::scratch_len`] floats.
    pub scratch: u64,
    /// f32, `[num_tokens, num_heads * value_dim]`.
    pub output: u64,
}

/// How queries and keys are rotated.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// f32, `[num_tokens, num_pairs]` each.
    pub cosines: u64,
    pub sines: u64,
    pub num_pairs: usize,
    /// Neighbours are pairs, else the first half and the second.
    pub is_interleaved: bool,
}

/// Rotates queries and keys, stores keys and values in the cache, and attends.
///
/// # Safety
/// Every address must be that of as much memory as its description says, and the plan's slots and tables lie within the
/// cache.
pub unsafe fn attend<L: Launch>(
    launcher: &L,
    shape: &AttentionShape,
    stored: Stored,
    plan: &Plan,
    rotation: Option<Rotation>,
    at: &Addresses,
) -> Result<(), L::Error> {
    use Argument::{Address, Float, Int};
    let int = |number: usize| Int(number as i32);
    let sizes = [
        int(shape.num_heads),
        int(shape.num_kv_heads),
        int(shape.key_dim),
        int(shape.value_dim),
        int(shape.block_size),
        int(shape.window.unwrap_or(0)),
    ];
    // Exponentials are powers of two.
    let scale = Float(shape.score_scale * std::f32::consts::LOG2_E);
    let part = |first: usize| at.plan + (first * size_of::<u32>()) as u64;
    let num_rows = plan.rows.len();
    let rows = plan.slots.len();
    let tiles = rows + 3 * num_rows;
    let tables = tiles + plan.tiles.len();
    let type_name = stored.name();

    let rotation = rotation.unwrap_or(Rotation {
        cosines: 0,
        sines: 0,
        num_pairs: 0,
        is_interleaved: false,
    });
    let mut arguments = [at.query, at.key, at.value, rotation.cosines, rotation.sines]
        .map(Address)
        .to_vec();
    arguments.extend([part(0), at.rotated, at.keys, at.values].map(Address));
    arguments.extend(sizes);
    arguments.extend([int(rotation.num_pairs), Int(rotation.is_interleaved.into())]);
    let kernel = format!("rotate_and_store_{type_name}");
    // SAFETY: the caller's promise, here and below.
    unsafe {
        launcher.launch(
            &kernel,
            [plan.slots.len() as u32, 1, 1],
            ROTATE_THREADS,
            &arguments,
        )?;
    }

    if plan.has_tiles() {
        let mut arguments = vec![Address(at.rotated), Address(at.keys), Address(at.values)];
        arguments.extend([part(tables), part(tiles), at.output].map(Address));
        arguments.extend(sizes);
        arguments.push(scale);
        let kernel = format!("attend_tile_{type_name}_{}", shape.key_dim);
        let grid = [plan.tiles.len() as u32 / 4, shape.num_heads as u32, 1];
        unsafe { launcher.launch(&kernel, grid, TILE_THREADS, &arguments)? };
    }

    let group = shape.num_heads / shape.num_kv_heads;
    let num_head_tiles = shape.num_kv_heads * group.div_ceil(SPAN_HEADS);
    let kernel = format!("attend_span_{type_name}_{}", shape.key_dim.div_ceil(64));
    let rows_at_once = plan.rows_at_once().max(1);
    for first in (0..num_rows).step_by(rows_at_once) {
        let count = rows_at_once.min(num_rows - first);
        let num_results = count * shape.num_heads * plan.num_spans;
        let scratch = |first: usize| Address(at.scratch + (first * size_of::<f32>()) as u64);
        let results = [
            scratch(0),
            scratch(num_results * shape.value_dim),
            scratch(num_results * (shape.value_dim + 1)),
        ];
        let of_rows = |which: usize| Address(part(rows + which * num_rows + first));
        let mut arguments = [at.rotated, at.keys, at.values, part(tables)]
            .map(Address)
            .to_vec();
        arguments.extend([of_rows(0), of_rows(1), of_rows(2)]);
        arguments.extend(results);
        arguments.extend(sizes);
        arguments.extend([scale, int(plan.num_spans)]);
        let grid = [plan.num_spans, num_head_tiles, count].map(|it| it as u32);
        unsafe { launcher.launch(&kernel, grid, SPAN_THREADS, &arguments)? };

        let mut arguments = results.to_vec();
        arguments.extend([of_rows(0), of_rows(2), Address(at.output)]);
        arguments.extend(sizes);
        arguments.push(int(plan.num_spans));
        let grid = [shape.num_heads as u32, count as u32, 1];
        unsafe { launcher.launch("merge_spans", grid, MERGE_THREADS, &arguments)? };
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests;
