//! Causal attention over a paged KV cache on the CPU, for a flat batch of sequences of different lengths. A row's
//! result depends on its own sequence alone: not on the other rows, the cut into tiles or what else is in the cache.
//!
//! The method is online softmax, one cache block at a time (Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al.
//! 2022, arXiv:2205.14135). Everything is accumulated in f32.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::parallel;
use super::vector::{add_scaled, dot, exp, scale};

/// The sizes that a layer's attention has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    pub num_heads: usize,
    /// Divides `num_heads`; query head `h` reads key head `h / (num_heads / num_kv_heads)`.
    pub num_kv_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
    /// Positions in one block of the cache.
    pub block_size: usize,
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

    /// Attends from every row to the positions up to its own, which must have been written.
    ///
    /// `queries` is `[num_rows, num_heads, key_dim]`, `output` `[num_rows, num_heads, value_dim]`.
    pub fn attend(&self, queries: &[f32], sequences: &[SequenceRows], output: &mut [f32]) {
        let tiles = self.tiles(queries, sequences, output);
        let num_scores: usize = sequences
            .iter()
            .map(|rows| rows.num_rows * (rows.start + rows.num_rows) * self.shape.num_heads)
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
        tiles.sort_by_key(|tile| std::cmp::Reverse(tile.start));
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
    } = cache.shape;
    let group = num_heads / num_kv_heads;
    let score_scale = 1.0 / (key_dim as f32).sqrt();
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
    for index in 0..num_positions.div_ceil(block_size) {
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
            let visible = (tile.start + row + 1)
                .saturating_sub(first_position)
                .min(block_size);
            if visible == 0 {
                continue;
            }
            for head in 0..group {
                let query = &query[head * key_dim..][..key_dim];
                let output = &mut output[head * value_dim..][..value_dim];
                let softmax = &mut softmax[row * group + head];
                let scores = &mut scores[..visible];
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
mod tests {
    use super::*;

    const SHAPE: AttentionShape = AttentionShape {
        num_heads: 6,
        num_kv_heads: 2,
        key_dim: 20,
        value_dim: 12,
        block_size: 4,
    };

    fn noise(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next() * 3.0).collect()
    }

    /// Keys, values and queries of a sequence of `len` positions.
    struct Sequence {
        keys: Vec<f32>,
        values: Vec<f32>,
        queries: Vec<f32>,
        len: usize,
    }

    impl Sequence {
        fn new(len: usize, seed: u64) -> Self {
            let AttentionShape {
                num_heads,
                num_kv_heads,
                key_dim,
                value_dim,
                ..
            } = SHAPE;
            Self {
                keys: noise(len * num_kv_heads * key_dim, seed),
                values: noise(len * num_kv_heads * value_dim, seed + 1),
                queries: noise(len * num_heads * key_dim, seed + 2),
                len,
            }
        }

        fn write<E: CacheElement>(&self, cache: &mut LayerCache<E>, block_table: &[u32]) {
            let (k, v) = (self.keys.len() / self.len, self.values.len() / self.len);
            for position in 0..self.len {
                let block = block_table[position / SHAPE.block_size] as usize;
                cache.write(
                    block,
                    position % SHAPE.block_size,
                    &self.keys[position * k..][..k],
                    &self.values[position * v..][..v],
                );
            }
        }

        /// The textbook formula in f64, straight from the definition.
        fn expected(&self) -> Vec<f32> {
            let group = SHAPE.num_heads / SHAPE.num_kv_heads;
            let mut output = Vec::new();
            for row in 0..self.len {
                for head in 0..SHAPE.num_heads {
                    let query = &self.queries[(row * SHAPE.num_heads + head) * SHAPE.key_dim..]
                        [..SHAPE.key_dim];
                    let at = |position: usize| position * SHAPE.num_kv_heads + head / group;
                    let weights: Vec<f64> = (0..=row)
                        .map(|p| {
                            let key = &self.keys[at(p) * SHAPE.key_dim..][..SHAPE.key_dim];
                            let dot: f64 = query
                                .iter()
                                .zip(key)
                                .map(|(&q, &k)| f64::from(q) * f64::from(k))
                                .sum();
                            (dot / (SHAPE.key_dim as f64).sqrt()).exp()
                        })
                        .collect();
                    let sum: f64 = weights.iter().sum();
                    for d in 0..SHAPE.value_dim {
                        let mixed: f64 = weights
                            .iter()
                            .enumerate()
                            .map(|(p, w)| w * f64::from(self.values[at(p) * SHAPE.value_dim + d]))
                            .sum();
                        output.push((mixed / sum) as f32);
                    }
                }
            }
            output
        }
    }

    fn max_difference(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).fold(0.0, |max, (a, b)| {
            let difference = (a - b).abs();
            if difference.is_nan() {
                f32::NAN
            } else {
                max.max(difference)
            }
        })
    }

    fn attend_alone<E: CacheElement>(sequence: &Sequence) -> Vec<f32> {
        let num_blocks = sequence.len.div_ceil(SHAPE.block_size);
        let mut cache = LayerCache::<E>::new(SHAPE, num_blocks);
        let block_table: Vec<u32> = (0..num_blocks as u32).rev().collect();
        sequence.write(&mut cache, &block_table);
        let mut output = vec![f32::NAN; sequence.len * SHAPE.num_heads * SHAPE.value_dim];
        let rows = SequenceRows {
            first_row: 0,
            num_rows: sequence.len,
            start: 0,
            block_table: &block_table,
        };
        cache.attend(&sequence.queries, &[rows], &mut output);
        output
    }

    #[test]
    fn attention_agrees_with_the_textbook_formula() {
        let sequence = Sequence::new(51, 1);
        let expected = sequence.expected();
        assert!(max_difference(&attend_alone::<f32>(&sequence), &expected) < 1e-5);
        assert!(max_difference(&attend_alone::<f16>(&sequence), &expected) < 1e-2);
        assert!(max_difference(&attend_alone::<bf16>(&sequence), &expected) < 1e-1);
    }

    #[test]
    fn eight_bits_come_back_within_half_a_step_of_their_scale() {
        let mut numbers = noise(128, 7);
        numbers[32..64].fill(0.0);
        numbers[64] = 1000.0;
        let mut blocks = [Q8Block::default(); 4];
        Q8Block::store(&numbers, &mut blocks);
        let mut found = [f32::NAN; 128];
        Q8Block::load(&blocks, &mut found);
        for (numbers, found) in numbers.chunks(32).zip(found.chunks(32)) {
            let largest = numbers.iter().fold(0f32, |max, n| max.max(n.abs()));
            // Half a step, and what rounding the scale to 16 bits adds at the largest number.
            let allowed = largest / 127.0 * 0.5 + largest / 2048.0;
            assert!(max_difference(numbers, found) <= allowed);
        }
    }

    #[test]
    fn eight_bit_attention_is_near_that_in_full_precision() {
        const SHAPE: AttentionShape = AttentionShape {
            num_heads: 4,
            num_kv_heads: 2,
            key_dim: 64,
            value_dim: 32,
            block_size: 4,
        };
        const LEN: usize = 30;
        let (keys, values) = (noise(LEN * 2 * 64, 1), noise(LEN * 2 * 32, 2));
        let queries: Vec<f32> = noise(LEN * 4 * 64, 3).iter().map(|q| q / 20.0).collect();
        let block_table: Vec<u32> = (0..8).rev().collect();
        let rows = SequenceRows {
            first_row: 0,
            num_rows: LEN,
            start: 0,
            block_table: &block_table,
        };
        fn attend<E: CacheElement>(
            [keys, values, queries]: [&[f32]; 3],
            rows: SequenceRows,
            copied: bool,
        ) -> Vec<f32> {
            let mut cache = LayerCache::<E>::new(SHAPE, 16);
            for position in 0..LEN {
                cache.write(
                    rows.block_table[position / 4] as usize,
                    position % 4,
                    &keys[position * 128..][..128],
                    &values[position * 64..][..64],
                );
            }
            let moved: Vec<u32> = rows.block_table.iter().map(|block| block + 8).collect();
            let mut block_table = rows.block_table;
            if copied {
                for (&from, &to) in block_table.iter().zip(&moved) {
                    cache.copy_block(from as usize, to as usize);
                }
                block_table = &moved;
            }
            let rows = SequenceRows {
                block_table,
                ..rows
            };
            let mut output = vec![f32::NAN; LEN * 4 * 32];
            cache.attend(queries, &[rows], &mut output);
            output
        }
        let inputs = [&keys[..], &values, &queries];
        let expected = attend::<f32>(inputs, rows.clone(), false);
        let found = attend::<Q8Block>(inputs, rows.clone(), false);
        let difference = max_difference(&found, &expected);
        assert!(0.0 < difference && difference < 3e-2, "{difference}");
        assert_eq!(attend::<Q8Block>(inputs, rows.clone(), true), found);
        assert_eq!(attend::<f32>(inputs, rows, true), expected);
    }

    #[test]
    fn company_chunks_and_dirty_blocks_do_not_change_a_single_bit() {
        let sequences = [
            Sequence::new(9, 10),
            Sequence::new(30, 20),
            Sequence::new(1, 30),
        ];
        let alone: Vec<Vec<f32>> = sequences.iter().map(attend_alone::<f32>).collect();
        let tables: [&[u32]; 3] = [&[4, 0, 11], &[1, 2, 3, 5, 6, 7, 8, 9], &[10]];

        let mut cache = LayerCache::<f32>::new(SHAPE, 12);
        cache.keys.fill(f32::NAN);
        cache.values.fill(f32::NAN);
        for (sequence, table) in sequences.iter().zip(tables) {
            sequence.write(&mut cache, table);
        }
        // The last rows of each sequence, as if the ones before had come in an earlier chunk.
        let starts = [4, 23, 0];
        let (query_len, output_len) = (
            SHAPE.num_heads * SHAPE.key_dim,
            SHAPE.num_heads * SHAPE.value_dim,
        );
        let mut queries = Vec::new();
        let mut expected: Vec<f32> = Vec::new();
        let mut rows = Vec::new();
        for (((sequence, alone), start), block_table) in
            sequences.iter().zip(&alone).zip(starts).zip(tables)
        {
            rows.push(SequenceRows {
                first_row: queries.len() / query_len,
                num_rows: sequence.len - start,
                start,
                block_table,
            });
            queries.extend(&sequence.queries[start * query_len..]);
            expected.extend(&alone[start * output_len..]);
        }
        let mut output = vec![f32::NAN; expected.len()];
        cache.attend(&queries, &rows, &mut output);
        assert_eq!(output, expected);
    }
}
