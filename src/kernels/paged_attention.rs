//! Causal attention over a paged KV cache on the CPU, for a flat batch of sequences of different lengths, with or without
//! a sliding window. A row's result depends on its own sequence alone: not on the other rows, the cut into tiles or what
//! else is in the cache.
//!
//! The method is online softmax, one cache block at a time (Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al.
//! 2022, arXiv:2205.14135). Everything is accumulated in f32.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::parallel;
use super::vector::{add_scaled, dot, exp, scale};

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

/// What keys and values may be stored in.
pub trait CacheElement: Copy + Default + Send + Sync {
    /// Numbers that an element holds; a head's dimensions must be a multiple of it.
    const NUM_VALUES: usize = 1;

    fn store(from: &[f32], to: &mut [Self]);

    /// `from` as f32, in `scratch` unless it is f32 already. Both hold the same number of values.
    fn load<'a>(from: &'a [Self], scratch: &'a mut [f32]) -> &'a [f32];
}

impl CacheElement for f32 {
    fn store(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }

    #[inline(always)]
    fn load<'a>(from: &'a [Self], _: &'a mut [f32]) -> &'a [f32] {
        from
    }
}

impl CacheElement for f16 {
    fn store(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }

    #[inline(always)]
    fn load<'a>(from: &'a [Self], scratch: &'a mut [f32]) -> &'a [f32] {
        from.convert_to_f32_slice(scratch);
        scratch
    }
}

impl CacheElement for bf16 {
    fn store(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }

    #[inline(always)]
    fn load<'a>(from: &'a [Self], scratch: &'a mut [f32]) -> &'a [f32] {
        from.convert_to_f32_slice(scratch);
        scratch
    }
}

/// 32 numbers in 8 bits each with a scale, as in the type Q8_0 of GGUF.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Q8Block {
    scale: f16,
    values: [i8; 32],
}

impl CacheElement for Q8Block {
    const NUM_VALUES: usize = 32;

    fn store(from: &[f32], to: &mut [Self]) {
        let (blocks, _) = from.as_chunks::<32>();
        for (numbers, block) in blocks.iter().zip(to) {
            let largest = numbers
                .iter()
                .fold(0f32, |max, number| max.max(number.abs()));
            block.scale = f16::from_f32(largest / 127.0);
            // By the scale as it is stored: what is read is then as near as it can be.
            let scale = block.scale.to_f32();
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            for (number, value) in numbers.iter().zip(&mut block.values) {
                // The cast saturates.
                *value = (number * inverse).round() as i8;
            }
        }
    }

    #[inline(always)]
    fn load<'a>(from: &'a [Self], scratch: &'a mut [f32]) -> &'a [f32] {
        let (blocks, _) = scratch.as_chunks_mut::<32>();
        for (block, numbers) in from.iter().zip(blocks) {
            let scale = block.scale.to_f32();
            for (value, number) in block.values.iter().zip(numbers) {
                *number = f32::from(*value) * scale;
            }
        }
        scratch
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

/// Keys and values of one layer: `[num_blocks, num_kv_heads, block_size, dim]` each.
#[derive(Debug)]
pub struct LayerCache<E> {
    shape: AttentionShape,
    keys: Vec<E>,
    values: Vec<E>,
}

impl<E: CacheElement> LayerCache<E> {
    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    pub fn new(shape: AttentionShape, num_blocks: usize) -> Self {
        let positions = num_blocks * shape.num_kv_heads * shape.block_size;
        Self {
            shape,
            keys: vec![E::default(); positions * elements::<E>(shape.key_dim)],
            values: vec![E::default(); positions * elements::<E>(shape.value_dim)],
        }
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
        let (key_elements, value_elements) = (elements::<E>(key_dim), elements::<E>(value_dim));
        for head in 0..num_kv_heads {
            let position = (block * num_kv_heads + head) * block_size + slot;
            E::store(
                &keys[head * key_dim..][..key_dim],
                &mut self.keys[position * key_elements..][..key_elements],
            );
            E::store(
                &values[head * value_dim..][..value_dim],
                &mut self.values[position * value_elements..][..value_elements],
            );
        }
    }

    /// Makes block `to` hold what block `from` holds.
    pub fn copy_block(&mut self, from: usize, to: usize) {
        let per_position =
            |dim| self.shape.num_kv_heads * self.shape.block_size * elements::<E>(dim);
        let (keys, values) = (
            per_position(self.shape.key_dim),
            per_position(self.shape.value_dim),
        );
        self.keys
            .copy_within(from * keys..(from + 1) * keys, to * keys);
        self.values
            .copy_within(from * values..(from + 1) * values, to * values);
    }

    /// Attends from every row to the positions up to its own, as far as the window reaches. They must have been written;
    /// blocks before them are not touched.
    ///
    /// `queries` is `[num_rows, num_heads, key_dim]`, `output` `[num_rows, num_heads, value_dim]`.
    pub fn attend(&self, queries: &[f32], sequences: &[SequenceRows], output: &mut [f32]) {
        let tiles = self.tiles(queries, sequences, output);
        let num_scores: usize = sequences
            .iter()
            .map(|rows| {
                let end = rows.start + rows.num_rows;
                let num_positions = end - self.shape.first_visible(rows.start);
                rows.num_rows * num_positions * self.shape.num_heads
            })
            .sum();
        let fma = has_fma();
        let attend = |tile| {
            #[cfg(target_arch = "x86_64")]
            if fma {
                // SAFETY: the processor has these instructions; it was asked.
                return unsafe { attend_tile_fma(self, tile) };
            }
            let _ = fma;
            attend_tile::<E, false>(self, tile);
        };
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

    /// All positions of a head's block, as f32.
    #[inline(always)]
    fn block<'a>(
        &self,
        from: &'a [E],
        block: u32,
        head: usize,
        dim: usize,
        scratch: &'a mut [f32],
    ) -> &'a [f32] {
        let len = self.shape.block_size * elements::<E>(dim);
        let first = (block as usize * self.shape.num_kv_heads + head) * len;
        E::load(&from[first..][..len], scratch)
    }
}

/// Elements that hold a head's numbers.
fn elements<E: CacheElement>(dim: usize) -> usize {
    dim / E::NUM_VALUES
}

/// Enough to share the reading of a cache block, few enough that their sums stay in the first-level cache.
const QUERIES_PER_TILE: usize = 32;

/// Multiplications that one thread has done before others have woken up.
const SMALL: usize = 64 * 1024;

/// Consecutive rows of one sequence under one key head.
struct Tile<'a> {
    kv_head: usize,
    /// Position of the first row.
    start: usize,
    block_table: &'a [u32],
    /// A row's query heads that read this key head, `[group, key_dim]`.
    queries: Vec<&'a [f32]>,
    /// Where their results go, `[group, value_dim]`.
    outputs: Vec<&'a mut [f32]>,
}

/// Running softmax of one query head.
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    sum: f32,
}

fn has_fma() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn attend_tile_fma<E: CacheElement>(cache: &LayerCache<E>, tile: Tile) {
    attend_tile::<E, true>(cache, tile);
}

#[inline(always)]
fn attend_tile<E: CacheElement, const FMA: bool>(cache: &LayerCache<E>, mut tile: Tile) {
    let AttentionShape {
        num_heads,
        num_kv_heads,
        key_dim,
        value_dim,
        block_size,
        score_scale,
        ..
    } = cache.shape;
    let group = num_heads / num_kv_heads;
    let mut key_scratch = vec![0f32; block_size * key_dim];
    let mut value_scratch = vec![0f32; block_size * value_dim];
    let mut scores = vec![0f32; block_size];
    let empty = Softmax {
        max: f32::NEG_INFINITY,
        sum: 0.0,
    };
    let mut softmax = vec![empty; tile.queries.len() * group];
    for output in &mut tile.outputs {
        output.fill(0.0);
    }

    let num_positions = tile.start + tile.queries.len();
    let first_block = cache.shape.first_visible(tile.start) / block_size;
    for index in first_block..num_positions.div_ceil(block_size) {
        let block = tile.block_table[index];
        let first_position = index * block_size;
        let keys = cache.block(&cache.keys, block, tile.kv_head, key_dim, &mut key_scratch);
        let values = cache.block(
            &cache.values,
            block,
            tile.kv_head,
            value_dim,
            &mut value_scratch,
        );
        let rows = tile.queries.iter().zip(&mut tile.outputs).enumerate();
        for (row, (query, output)) in rows {
            // Slots after the row's own position may hold anything, NaN too: they are never read.
            let position = tile.start + row;
            let end = (position + 1)
                .saturating_sub(first_position)
                .min(block_size);
            let begin = cache
                .shape
                .first_visible(position)
                .saturating_sub(first_position);
            if begin >= end {
                continue;
            }
            let (keys, values) = (&keys[begin * key_dim..], &values[begin * value_dim..]);
            for head in 0..group {
                let query = &query[head * key_dim..][..key_dim];
                let output = &mut output[head * value_dim..][..value_dim];
                let softmax = &mut softmax[row * group + head];
                let scores = &mut scores[..end - begin];
                let mut max = softmax.max;
                for (score, key) in scores.iter_mut().zip(keys.chunks_exact(key_dim)) {
                    *score = dot::<FMA>(query, key) * score_scale;
                    max = max.max(*score);
                }
                if max > softmax.max {
                    let correction = exp::<FMA>(softmax.max - max);
                    softmax.sum *= correction;
                    scale(output, correction);
                    softmax.max = max;
                }
                for (score, value) in scores.iter().zip(values.chunks_exact(value_dim)) {
                    let weight = exp::<FMA>(score - max);
                    softmax.sum += weight;
                    add_scaled::<FMA>(output, weight, value);
                }
            }
        }
    }
    for (row, output) in tile.outputs.iter_mut().enumerate() {
        for (head, output) in output.chunks_exact_mut(value_dim).enumerate() {
            scale(output, 1.0 / softmax[row * group + head].sum);
        }
    }
}

#[cfg(test)]
mod tests;
