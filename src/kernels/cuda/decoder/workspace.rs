//! The memory that a step is computed in. It is taken for the largest step so far and never given back, so that a step that fits
//! takes none here, and what it launches has the same addresses as before.

use std::convert::Infallible;
use std::ops::Range;

use crate::kernels::cuda::attention;
use crate::kernels::cuda::matrix;
use crate::kernels::cuda::memory::{Memory, bytes, bytes_mut};
use crate::kernels::cuda::rows::HalfRows;
use crate::kernels::cuda::sampling::{DrawRooms, draw_rooms_bytes, draw_rows};
use crate::kernels::draw::{Draw, Drawn};
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
    let inputs = sizes.inputs_len(capacity.num_rows) * size_of::<u32>();
    let mut sum = inputs
        + draw_rooms_bytes(capacity.num_logit_rows)
            .iter()
            .sum::<usize>();
    row_bytes(sizes, capacity.num_rows, matrix::MAX_SCRATCH_LEN).map(|bytes| sum += bytes);
    logit_bytes(sizes, capacity.num_logit_rows).map(|bytes| sum += bytes);
    sum
}

/// Something of each room whose size follows from the rows of a step: f32 but for `halves`.
#[derive(Debug, Clone, Copy)]
pub struct OfRows<T> {
    /// `[num_rows, hidden_size]`.
    pub hidden: T,
    /// `[num_rows, hidden_size]`: what is normed before it is added.
    pub update: T,
    /// `[num_rows, ..]` of queries, then of keys, then of values.
    pub qkv: T,
    pub rotated: T,
    /// `[num_rows, num_heads * value_dim]`.
    pub attended: T,
    /// `[num_rows, feed_forward_size]` of gates, then the same of ups.
    pub gate_up: T,
    /// Rows that were rounded for a product.
    pub halves: T,
    pub product_scratch: T,
    pub attention_scratch: T,
}

impl<T> OfRows<T> {
    fn try_map<U, E>(&self, mut map: impl FnMut(&T) -> Result<U, E>) -> Result<OfRows<U>, E> {
        Ok(OfRows {
            hidden: map(&self.hidden)?,
            update: map(&self.update)?,
            qkv: map(&self.qkv)?,
            rotated: map(&self.rotated)?,
            attended: map(&self.attended)?,
            gate_up: map(&self.gate_up)?,
            halves: map(&self.halves)?,
            product_scratch: map(&self.product_scratch)?,
            attention_scratch: map(&self.attention_scratch)?,
        })
    }

    fn map<U>(&self, mut map: impl FnMut(&T) -> U) -> OfRows<U> {
        let Ok(mapped) = self.try_map(|it| Ok::<_, Infallible>(map(it)));
        mapped
    }
}

/// Something of each room whose size follows from the rows that have logits.
#[derive(Debug, Clone, Copy)]
pub struct OfLogits<T> {
    /// As `hidden` and `attended` of all rows.
    pub hidden: T,
    pub attended: T,
    /// `[num_logit_rows, vocab_size]`.
    pub logits: T,
}

impl<T> OfLogits<T> {
    fn try_map<U, E>(&self, mut map: impl FnMut(&T) -> Result<U, E>) -> Result<OfLogits<U>, E> {
        Ok(OfLogits {
            hidden: map(&self.hidden)?,
            attended: map(&self.attended)?,
            logits: map(&self.logits)?,
        })
    }

    fn map<U>(&self, mut map: impl FnMut(&T) -> U) -> OfLogits<U> {
        let Ok(mapped) = self.try_map(|it| Ok::<_, Infallible>(map(it)));
        mapped
    }
}

fn row_bytes(sizes: &Sizes, num_rows: usize, product_scratch_len: usize) -> OfRows<usize> {
    let widest = (sizes.hidden_size)
        .max(sizes.attended())
        .max(sizes.feed_forward_size);
    let floats = |width: usize| num_rows * width * FLOAT_BYTES;
    let attention_scratch_len =
        attention::max_scratch_len(&sizes.attention, num_rows, sizes.context_length);
    OfRows {
        hidden: floats(sizes.hidden_size),
        update: floats(sizes.hidden_size),
        qkv: floats(sizes.queries() + sizes.keys() + sizes.values()),
        rotated: floats(sizes.queries()),
        attended: floats(sizes.attended()),
        gate_up: floats(2 * sizes.feed_forward_size),
        halves: HalfRows::num_bytes(num_rows, widest),
        product_scratch: product_scratch_len * FLOAT_BYTES,
        attention_scratch: attention_scratch_len * FLOAT_BYTES,
    }
}

fn logit_bytes(sizes: &Sizes, num_rows: usize) -> OfLogits<usize> {
    let floats = |width: usize| num_rows * width * FLOAT_BYTES;
    OfLogits {
        hidden: floats(sizes.hidden_size),
        attended: floats(sizes.attended()),
        logits: floats(sizes.vocab_size),
    }
}

/// Everything but `inputs` is written by a step before it is read.
#[derive(Debug)]
pub struct Workspace<M: Memory> {
    sizes: Sizes,
    capacity: Capacity,
    of_rows: OfRows<M::Buffer>,
    of_logits: OfLogits<M::Buffer>,
    draw_rooms: DrawRooms<M>,
    inputs: M::Buffer,
    num_inputs: usize,
}

/// Where everything is.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    pub of_rows: OfRows<u64>,
    pub of_logits: OfLogits<u64>,
    /// Numbers of 32 bits.
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
        let room = |num_bytes: &usize| memory.room(*num_bytes);
        Ok(Self {
            sizes,
            capacity,
            of_rows: row_bytes(&sizes, capacity.num_rows, scratch_len).try_map(room)?,
            of_logits: logit_bytes(&sizes, capacity.num_logit_rows).try_map(room)?,
            draw_rooms: DrawRooms::new(memory, capacity.num_logit_rows)?,
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
        // What was there goes first, so that there is never more than was planned.
        let nothing = || memory.room(0);
        let room = |num_bytes: &usize| memory.room(*num_bytes);
        let mut has_moved = false;
        let mut planned_inputs = self.num_inputs;
        if needed.num_rows > self.capacity.num_rows {
            let scratch_len = product_scratch_len(needed.num_rows);
            let bytes = row_bytes(&self.sizes, needed.num_rows, scratch_len);
            self.capacity.num_rows = 0;
            self.of_rows = bytes.try_map(|_| nothing())?;
            self.of_rows = bytes.try_map(room)?;
            self.capacity.num_rows = needed.num_rows;
            planned_inputs = planned_inputs.max(self.sizes.inputs_len(needed.num_rows));
            has_moved = true;
        }
        if needed.num_logit_rows > self.capacity.num_logit_rows {
            let bytes = logit_bytes(&self.sizes, needed.num_logit_rows);
            self.capacity.num_logit_rows = 0;
            self.of_logits = bytes.try_map(|_| nothing())?;
            self.draw_rooms = DrawRooms::new(memory, needed.num_logit_rows)?;
            self.of_logits = bytes.try_map(room)?;
            self.capacity.num_logit_rows = needed.num_logit_rows;
            has_moved = true;
        }
        let num_inputs = num_inputs.max(planned_inputs);
        if num_inputs > self.num_inputs {
            self.num_inputs = 0;
            self.inputs = nothing()?;
            self.inputs = memory.room(num_inputs * size_of::<u32>())?;
            self.num_inputs = num_inputs;
            has_moved = true;
        }
        Ok(has_moved)
    }

    /// Writes the step's rows and its other numbers. They must fit.
    pub fn write(&mut self, memory: &M, hidden: &[f32], inputs: &[u32]) -> Result<(), M::Error> {
        memory.write(&mut self.of_rows.hidden, 0, bytes(hidden))?;
        memory.write(&mut self.inputs, 0, bytes(inputs))
    }

    /// The first `num_rows` rows as they are by now, `[num_rows, hidden_size]`.
    pub fn read_hidden(&self, memory: &M, num_rows: usize) -> Result<Vec<f32>, M::Error> {
        let mut numbers = vec![0f32; num_rows * self.sizes.hidden_size];
        memory.read(&self.of_rows.hidden, 0, bytes_mut(&mut numbers))?;
        Ok(numbers)
    }

    /// These rows of logits.
    pub fn read_logits(&self, memory: &M, rows: Range<usize>) -> Result<Vec<f32>, M::Error> {
        let vocab_size = self.sizes.vocab_size;
        let mut numbers = vec![0f32; rows.len() * vocab_size];
        let first = rows.start * vocab_size * FLOAT_BYTES;
        memory.read(&self.of_logits.logits, first, bytes_mut(&mut numbers))?;
        Ok(numbers)
    }

    /// Draws a token from each row of logits that has a draw.
    ///
    /// # Panics
    /// When there are more draws than rows of logits.
    pub fn draw(
        &mut self,
        memory: &M,
        draws: &[Option<Draw>],
    ) -> Result<Vec<Option<Drawn>>, M::Error> {
        assert!(draws.len() <= self.capacity.num_logit_rows);
        let logits = memory.address(&self.of_logits.logits);
        let vocab_size = self.sizes.vocab_size;
        // SAFETY: there is a row of logits for each draw.
        unsafe { draw_rows(memory, &mut self.draw_rooms, logits, vocab_size, draws) }
    }

    pub fn places(&self, memory: &M) -> Places {
        let place = |room: &M::Buffer| memory.address(room);
        Places {
            of_rows: self.of_rows.map(place),
            of_logits: self.of_logits.map(place),
            inputs: memory.address(&self.inputs),
        }
    }
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
    fn what_has_grown_is_what_is_planned_for_its_size() {
        let gpu = EmulatedGpu::default();
        let [small, large] = [[1, 1], [300, 70]].map(|[num_rows, num_logit_rows]| Capacity {
            num_rows,
            num_logit_rows,
        });
        let scratch_len = |_| matrix::MAX_SCRATCH_LEN;
        let Ok(mut workspace) = Workspace::new(&gpu, sizes(), small, scratch_len);
        let taken_before = gpu.num_room_bytes();
        let Ok(has_moved) = workspace.reserve(&gpu, large, 0, scratch_len);
        assert!(has_moved);
        let taken = gpu.num_room_bytes() - taken_before;
        assert_eq!(taken, num_bytes(&sizes(), large));
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
        // Many tables of blocks, which no plan counts with.
        assert!(has_moved(1, 1, 10_001));
    }
}
