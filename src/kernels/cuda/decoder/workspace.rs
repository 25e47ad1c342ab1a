//! The memory that a step is computed in. It is taken for the largest step so far and never given back, so that a step that fits
//! takes none here, and what it launches has the same addresses as before.

use std::ops::Range;

use crate::kernels::cuda::attention;
use crate::kernels::cuda::matrix;
use crate::kernels::cuda::memory::{Memory, bytes, bytes_mut};
use crate::kernels::cuda::rows::HalfRows;
use crate::kernels::paged_attention::AttentionShape;

const FLOAT_BYTES: usize = size_of::<f32>();

/// Sizes of a model, the same in all layers.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub hidden_size: usize,
    pub feed_forward_size: usize,
    pub vocab_size: usize,
    pub attention: AttentionShape,
    /// Rotated pairs of a head, all rotations together.
    pub num_pairs: usize,
    /// Positions of the longest sequence.
    pub context_length: usize,
}

impl Sizes {
    pub fn queries(&self) -> usize {
        self.attention.num_heads * self.attention.key_dim
    }

    pub fn keys(&self) -> usize {
        self.attention.num_kv_heads * self.attention.key_dim
    }

    pub fn values(&self) -> usize {
        self.attention.num_kv_heads * self.attention.value_dim
    }

    pub fn attended(&self) -> usize {
        self.attention.num_heads * self.attention.value_dim
    }

    /// Numbers that a step reads beside its rows: angles, the plan of attention, and rows that are chosen.
    fn inputs_len(&self, num_rows: usize) -> usize {
        // A sequence has a row at least, and seldom are there more than so many.
        let num_tables = num_rows.min(super::MAX_RECORDED_ROWS);
        let num_blocks = self.context_length.div_ceil(self.attention.block_size);
        num_rows * (2 * self.num_pairs + 6) + num_tables * num_blocks
    }
}

/// How many rows a step may have, and how many of them logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    pub num_rows: usize,
    pub num_logit_rows: usize,
}

impl Capacity {
    /// Steps grow by little, and room is not to be taken anew for each.
    fn rounded(self) -> Self {
        Self {
            num_rows: self.num_rows.next_power_of_two(),
            num_logit_rows: self.num_logit_rows.next_power_of_two(),
        }
    }
}

/// Bytes that the workspace of a model takes on a GPU, at most, for steps of this capacity.
pub fn num_bytes(sizes: &Sizes, capacity: Capacity) -> usize {
    let capacity = capacity.rounded();
    let of_rows = row_bytes(sizes, capacity.num_rows, matrix::MAX_SCRATCH_LEN);
    let of_logits = logit_bytes(sizes, capacity.num_logit_rows);
    let inputs = sizes.inputs_len(capacity.num_rows) * size_of::<u32>();
    let rooms = [of_rows.as_slice(), &of_logits, &[inputs]].concat();
    rooms.iter().sum()
}

fn row_bytes(sizes: &Sizes, num_rows: usize, product_scratch_len: usize) -> [usize; 9] {
    let widest = (sizes.hidden_size)
        .max(sizes.attended())
        .max(sizes.feed_forward_size);
    let floats = [
        sizes.hidden_size,
        sizes.hidden_size,
        sizes.queries() + sizes.keys() + sizes.values(),
        sizes.queries(),
        sizes.attended(),
        2 * sizes.feed_forward_size,
    ]
    .map(|width| num_rows * width * FLOAT_BYTES);
    let [hidden, update, qkv, rotated, attended, gate_up] = floats;
    let attention_scratch =
        attention::max_scratch_len(&sizes.attention, num_rows, sizes.context_length);
    [
        hidden,
        update,
        qkv,
        rotated,
        attended,
        gate_up,
        HalfRows::num_bytes(num_rows, widest),
        product_scratch_len * FLOAT_BYTES,
        attention_scratch * FLOAT_BYTES,
    ]
}

fn logit_bytes(sizes: &Sizes, num_rows: usize) -> [usize; 3] {
    [sizes.hidden_size, sizes.attended(), sizes.vocab_size]
        .map(|width| num_rows * width * FLOAT_BYTES)
}

/// Everything but `inputs` is written by a step before it is read.
#[derive(Debug)]
pub struct Workspace<M: Memory> {
    sizes: Sizes,
    capacity: Capacity,
    of_rows: [M::Buffer; 9],
    of_logits: [M::Buffer; 3],
    inputs: M::Buffer,
    num_inputs: usize,
}

/// Where everything is. f32 but for `halves`, and `inputs`, which are numbers of 32 bits.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// `[num_rows, hidden_size]`.
    pub hidden: u64,
    /// `[num_rows, hidden_size]`: what is normed before it is added.
    pub update: u64,
    /// `[num_rows, ..]` of queries, then of keys, then of values.
    pub qkv: u64,
    pub rotated: u64,
    /// `[num_rows, num_heads * value_dim]`.
    pub attended: u64,
    /// `[num_rows, feed_forward_size]` of gates, then the same of ups.
    pub gate_up: u64,
    /// Rows that were rounded for a product.
    pub halves: u64,
    pub product_scratch: u64,
    pub attention_scratch: u64,
    /// As `hidden` and `attended`, of the rows that have logits.
    pub chosen_hidden: u64,
    pub chosen_attended: u64,
    /// `[num_logit_rows, vocab_size]`.
    pub logits: u64,
    pub inputs: u64,
}

impl<M: Memory> Workspace<M> {
    /// `product_scratch_len` says how many floats products of up to so many rows need beside.
    pub fn new(
        memory: &M,
        sizes: Sizes,
        capacity: Capacity,
        product_scratch_len: impl Fn(usize) -> usize,
    ) -> Result<Self, M::Error> {
        let capacity = capacity.rounded();
        let num_inputs = sizes.inputs_len(capacity.num_rows);
        let scratch_len = product_scratch_len(capacity.num_rows);
        Ok(Self {
            sizes,
            capacity,
            of_rows: rooms(memory, row_bytes(&sizes, capacity.num_rows, scratch_len))?,
            of_logits: rooms(memory, logit_bytes(&sizes, capacity.num_logit_rows))?,
            inputs: memory.room(num_inputs * size_of::<u32>())?,
            num_inputs,
        })
    }

    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Takes more room where a step needs it. Whether something has another address now.
    pub fn reserve(
        &mut self,
        memory: &M,
        needed: Capacity,
        num_inputs: usize,
        product_scratch_len: impl Fn(usize) -> usize,
    ) -> Result<bool, M::Error> {
        let needed = needed.rounded();
        let mut has_moved = false;
        if needed.num_rows > self.capacity.num_rows {
            let bytes = row_bytes(
                &self.sizes,
                needed.num_rows,
                product_scratch_len(needed.num_rows),
            );
            // What was there goes first, so that there is never more than was planned.
            self.capacity.num_rows = 0;
            self.of_rows = rooms(memory, [0; 9])?;
            self.of_rows = rooms(memory, bytes)?;
            self.capacity.num_rows = needed.num_rows;
            has_moved = true;
        }
        if needed.num_logit_rows > self.capacity.num_logit_rows {
            self.capacity.num_logit_rows = 0;
            self.of_logits = rooms(memory, [0; 3])?;
            self.of_logits = rooms(memory, logit_bytes(&self.sizes, needed.num_logit_rows))?;
            self.capacity.num_logit_rows = needed.num_logit_rows;
            has_moved = true;
        }
        if num_inputs > self.num_inputs {
            let num_inputs = num_inputs.next_power_of_two();
            self.inputs = memory.room(num_inputs * size_of::<u32>())?;
            self.num_inputs = num_inputs;
            has_moved = true;
        }
        Ok(has_moved)
    }

    /// Writes the step's rows and its other numbers. They must fit.
    pub fn write(&mut self, memory: &M, hidden: &[f32], inputs: &[u32]) -> Result<(), M::Error> {
        memory.write(&mut self.of_rows[0], 0, bytes(hidden))?;
        memory.write(&mut self.inputs, 0, bytes(inputs))
    }

    /// These rows of logits.
    pub fn read_logits(&self, memory: &M, rows: Range<usize>) -> Result<Vec<f32>, M::Error> {
        let [_, _, logits] = &self.of_logits;
        let vocab_size = self.sizes.vocab_size;
        let mut numbers = vec![0f32; rows.len() * vocab_size];
        let first = rows.start * vocab_size * FLOAT_BYTES;
        memory.read(logits, first, bytes_mut(&mut numbers))?;
        Ok(numbers)
    }

    pub fn places(&self, memory: &M) -> Places {
        let [
            hidden,
            update,
            qkv,
            rotated,
            attended,
            gate_up,
            halves,
            product_scratch,
            attention_scratch,
        ] = self.of_rows.each_ref().map(|room| memory.address(room));
        let [chosen_hidden, chosen_attended, logits] =
            self.of_logits.each_ref().map(|room| memory.address(room));
        Places {
            hidden,
            update,
            qkv,
            rotated,
            attended,
            gate_up,
            halves,
            product_scratch,
            attention_scratch,
            chosen_hidden,
            chosen_attended,
            logits,
            inputs: memory.address(&self.inputs),
        }
    }
}

fn rooms<M: Memory, const N: usize>(
    memory: &M,
    num_bytes: [usize; N],
) -> Result<[M::Buffer; N], M::Error> {
    let rooms: Vec<M::Buffer> = num_bytes
        .iter()
        .map(|num_bytes| memory.room(*num_bytes))
        .collect::<Result<_, _>>()?;
    Ok(rooms.try_into().expect("there is a room for each size"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::kernels::cuda::emulator::gpu::EmulatedGpu;

    fn sizes() -> Sizes {
        Sizes {
            hidden_size: 64,
            feed_forward_size: 96,
            vocab_size: 160,
            attention: AttentionShape {
                num_heads: 4,
                num_kv_heads: 2,
                key_dim: 16,
                value_dim: 24,
                block_size: 16,
                window: None,
                score_scale: 0.25,
            },
            num_pairs: 8,
            context_length: 1000,
        }
    }

    #[test]
    fn what_is_planned_is_what_is_taken() {
        for [num_rows, num_logit_rows] in [[64, 64], [100, 64], [512, 3]] {
            let gpu = EmulatedGpu::default();
            let capacity = Capacity {
                num_rows,
                num_logit_rows,
            };
            let Ok(_workspace) =
                Workspace::new(&gpu, sizes(), capacity, |_| matrix::MAX_SCRATCH_LEN);
            assert_eq!(gpu.num_room_bytes(), num_bytes(&sizes(), capacity));
        }
    }

    #[test]
    fn a_step_that_fits_moves_nothing() {
        let gpu = EmulatedGpu::default();
        let capacity = |num_rows, num_logit_rows| Capacity {
            num_rows,
            num_logit_rows,
        };
        let Ok(mut workspace) = Workspace::new(&gpu, sizes(), capacity(8, 8), |_| 0);
        let mut has_moved = |num_rows, num_logit_rows, num_inputs| {
            let needed = capacity(num_rows, num_logit_rows);
            let Ok(has_moved) = workspace.reserve(&gpu, needed, num_inputs, |_| 0);
            has_moved
        };
        assert!(!has_moved(8, 1, 100));
        assert!(has_moved(9, 1, 100));
        assert!(!has_moved(16, 8, 100));
        assert!(has_moved(1, 9, 100));
        assert!(has_moved(1, 1, 10_000));
        assert!(!has_moved(16, 16, 10_000));
    }
}
