//! Causal attention over a paged KV cache on the CPU, for a flat batch of sequences of different lengths, with or without
//! a sliding window. A row's result depends on its own sequence alone: not on the other rows, the cut into tiles or what
//! else is in the cache.
//!
//! The method is online softmax, a span of positions at a time (Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al.
//! 2022, arXiv:2205.14135). Everything is accumulated in f32.

use half::f16;

pub use element::{CacheElement, SCALE_GROUP};

use super::matrix::float::Instructions;
use super::memory::Zeroed;
use super::parallel;
use tile::Tile;

mod element;
mod tile;

/// The sizes that a layer's attention has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    pub num_heads: usize,
    /// Divides `num_heads`; query head `h` reads key head `h / (num_heads / num_kv_heads)`.
    pub num_kv_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
    /// Positions in one block of the cache.
    pub block_size: usize,
    /// How many positions a row attends to, its own and those right before it; `None` for all. At least 1.
    pub window: Option<usize>,
    /// What products of queries and keys are multiplied by, such as `1 / sqrt(key_dim)`.
    pub score_scale: f32,
}

impl AttentionShape {
    /// The first position that a row attends to.
    pub fn first_visible(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// The rows of a flat batch that belong to one sequence.
#[derive(Debug, Clone)]
pub struct SequenceRows<'a> {
    pub first_row: usize,
    pub num_rows: usize,
    /// Position of the first row; the others follow it.
    pub start: usize,
    /// Position `p` is kept in block `block_table[p / block_size]`, slot `p % block_size`.
    pub block_table: &'a [u32],
}

/// Keys and values of one layer. A head's block has the keys as `[key_dim, block_size]`, so that one number of many
/// positions lies together, and the values as `[block_size, value_dim]`.
#[derive(Debug)]
pub struct LayerCache<E> {
    shape: AttentionShape,
    keys: Stored<E>,
    values: Stored<E>,
    /// Room for one head's key on its way to its places, which lie apart.
    key: (Vec<E>, Vec<f16>),
}

/// `[num_blocks, num_kv_heads]` of what a head's block holds.
#[derive(Debug)]
struct Stored<E> {
    numbers: Zeroed<E>,
    /// One for every [`SCALE_GROUP`] numbers of a position, placed as the numbers are; none if `E` has no scales.
    scales: Zeroed<f16>,
}

impl<E: CacheElement> Stored<E> {
    fn new(num_positions: usize, dim: usize) -> std::io::Result<Self> {
        Ok(Self {
            numbers: Zeroed::new(num_positions * dim)?,
            scales: Zeroed::new(num_positions * num_scales::<E>(dim))?,
        })
    }

    fn copy_block(&mut self, from: usize, to: usize, num_positions: usize, dim: usize) {
        let len = num_positions * dim;
        self.numbers
            .copy_within(from * len..(from + 1) * len, to * len);
        let len = num_positions * num_scales::<E>(dim);
        self.scales
            .copy_within(from * len..(from + 1) * len, to * len);
    }
}

/// Puts the numbers at `first` and every `stride` places after it.
fn scatter<T: Copy>(from: &[T], to: &mut [T], first: usize, stride: usize) {
    for (from, to) in from.iter().zip(to.iter_mut().skip(first).step_by(stride)) {
        *to = *from;
    }
}

/// How many scales the numbers of a head's position have.
fn num_scales<E: CacheElement>(dim: usize) -> usize {
    if E::IS_SCALED { dim / SCALE_GROUP } else { 0 }
}

impl<E: CacheElement> LayerCache<E> {
    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    /// Fails when the system gives no memory.
    pub fn new(shape: AttentionShape, num_blocks: usize) -> std::io::Result<Self> {
        let num_positions = num_blocks * shape.num_kv_heads * shape.block_size;
        Ok(Self {
            shape,
            keys: Stored::new(num_positions, shape.key_dim)?,
            values: Stored::new(num_positions, shape.value_dim)?,
            key: (
                vec![E::default(); shape.key_dim],
                vec![f16::ZERO; num_scales::<E>(shape.key_dim)],
            ),
        })
    }

    /// Writes the keys `[num_kv_heads, key_dim]` and values `[num_kv_heads, value_dim]` of one position.
    pub fn write(&mut self, block: usize, slot: usize, keys: &[f32], values: &[f32]) {
        let AttentionShape {
            num_kv_heads,
            key_dim,
            value_dim,
            block_size,
            ..
        } = self.shape;
        let (numbers, scales) = &mut self.key;
        for head in 0..num_kv_heads {
            let first = (block * num_kv_heads + head) * block_size;
            E::store(&keys[head * key_dim..][..key_dim], numbers, scales);
            let place = first * key_dim + slot;
            scatter(numbers, &mut self.keys.numbers, place, block_size);
            let place = first * scales.len() + slot;
            scatter(scales, &mut self.keys.scales, place, block_size);

            let num_scales = num_scales::<E>(value_dim);
            E::store(
                &values[head * value_dim..][..value_dim],
                &mut self.values.numbers[(first + slot) * value_dim..][..value_dim],
                &mut self.values.scales[(first + slot) * num_scales..][..num_scales],
            );
        }
    }

    /// Makes block `to` hold what block `from` holds.
    pub fn copy_block(&mut self, from: usize, to: usize) {
        let num_positions = self.shape.num_kv_heads * self.shape.block_size;
        self.keys
            .copy_block(from, to, num_positions, self.shape.key_dim);
        self.values
            .copy_block(from, to, num_positions, self.shape.value_dim);
    }

    /// Attends from every row to the positions up to its own, as far as the window reaches. They must have been written;
    /// blocks before them are not touched.
    ///
    /// `queries` is `[num_rows, num_heads, key_dim]`, `output` `[num_rows, num_heads, value_dim]`.
    pub fn attend(&self, queries: &[f32], sequences: &[SequenceRows], output: &mut [f32]) {
        self.attend_on(Instructions::best(), queries, sequences, output);
    }

    fn attend_on(
        &self,
        instructions: Instructions,
        queries: &[f32],
        sequences: &[SequenceRows],
        output: &mut [f32],
    ) {
        let tiles = self.tiles(queries, sequences, output);
        let num_scores: usize = sequences
            .iter()
            .map(|rows| {
                let end = rows.start + rows.num_rows;
                let num_positions = end - self.shape.first_visible(rows.start);
                rows.num_rows * num_positions * self.shape.num_heads
            })
            .sum();
        let attend = |tile: Tile| tile.attend(self, instructions);
        if num_scores * self.shape.key_dim < SMALL {
            tiles.into_iter().for_each(attend);
        } else {
            parallel::for_each(tiles, attend);
        }
    }

    /// Cuts the work so that the rows of a tile share the reading of their keys and values.
    fn tiles<'a>(
        &self,
        queries: &'a [f32],
        sequences: &[SequenceRows<'a>],
        output: &'a mut [f32],
    ) -> Vec<Tile<'a>> {
        let AttentionShape {
            num_heads,
            num_kv_heads,
            key_dim,
            value_dim,
            ..
        } = self.shape;
        let group = num_heads / num_kv_heads;
        let rows_per_tile = (QUERIES_PER_TILE / group).max(1);
        let mut output = output.chunks_exact_mut(group * value_dim);
        let mut tiles = Vec::new();
        for sequence in sequences {
            for first in (0..sequence.num_rows).step_by(rows_per_tile) {
                let num_rows = rows_per_tile.min(sequence.num_rows - first);
                let first_tile = tiles.len();
                tiles.extend((0..num_kv_heads).map(|kv_head| Tile {
                    kv_head,
                    start: sequence.start + first,
                    block_table: sequence.block_table,
                    queries: Vec::with_capacity(num_rows),
                    outputs: Vec::with_capacity(num_rows),
                }));
                for row in 0..num_rows {
                    let row = sequence.first_row + first + row;
                    for (kv_head, tile) in tiles[first_tile..].iter_mut().enumerate() {
                        let head = row * num_heads + kv_head * group;
                        tile.queries
                            .push(&queries[head * key_dim..][..group * key_dim]);
                        tile.outputs.extend(output.next());
                    }
                }
            }
        }
        // The longest first, so that no thread starts on a long one when the others have ended.
        tiles.sort_by_key(|tile| {
            std::cmp::Reverse(tile.start - self.shape.first_visible(tile.start))
        });
        tiles
    }
}

/// Enough to share the reading of keys and values, few enough that their sums stay in the first-level cache.
const QUERIES_PER_TILE: usize = 48;

/// Multiplications that one thread has done before others have woken up.
const SMALL: usize = 64 * 1024;

#[cfg(test)]
mod tests;
