//! Rows of f32 numbers as the quantized products take them: eight-bit numbers in blocks of 32 with a scale each, and
//! sums for the offsets and minimums of the weights. A row's form depends on that row alone.

use super::format::{BLOCK, CHUNK, CHUNK_BLOCKS};
use crate::kernels::parallel;

/// A chunk of one row.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct RowChunk {
    /// Never -128, so that no product of two of them with a number of the weights overflows 16 bits.
    pub numbers: [i8; CHUNK],
    pub scales: [f32; CHUNK_BLOCKS],
    /// What weights of [`super::format::Kind::Wide`] add up too much, by block.
    pub wide: [i32; CHUNK_BLOCKS],
    /// The same for `Narrow32`.
    pub narrow: [i32; CHUNK_BLOCKS],
    /// The same for `Narrow16`, by half block.
    pub narrow_halves: [i32; 2 * CHUNK_BLOCKS],
    /// Minus the sums of the numbers, times the scale: what minimums of weights are multiplied by.
    pub minimums: [f32; CHUNK_BLOCKS],
    pub minimums_halves: [f32; 2 * CHUNK_BLOCKS],
}

const EMPTY: RowChunk = RowChunk {
    numbers: [0; CHUNK],
    scales: [0.0; CHUNK_BLOCKS],
    wide: [0; CHUNK_BLOCKS],
    narrow: [0; CHUNK_BLOCKS],
    narrow_halves: [0; 2 * CHUNK_BLOCKS],
    minimums: [0.0; CHUNK_BLOCKS],
    minimums_halves: [0.0; 2 * CHUNK_BLOCKS],
};

/// Rows of one length, `[chunk, row]`.
pub(super) struct QuantizedRows {
    chunks: Vec<RowChunk>,
    num_rows: usize,
}

impl QuantizedRows {
    /// `rows` is `[num_rows, len]`; `len` is a multiple of 32.
    pub fn new(rows: &[f32], len: usize) -> Self {
        let num_rows = rows.len() / len;
        let num_chunks = len.div_ceil(CHUNK);
        let mut chunks = vec![EMPTY; num_chunks * num_rows];
        let per_item = (ROWS_PER_ITEM * CHUNK / len).max(1);
        let mut items = Vec::new();
        for (chunk, to) in chunks.chunks_mut(num_rows.max(1)).enumerate() {
            for (index, to) in to.chunks_mut(per_item).enumerate() {
                items.push((chunk, index * per_item, to));
            }
        }
        let quantize = quantizer();
        let work = |(chunk, first_row, to): (usize, usize, &mut [RowChunk])| {
            for (index, to) in to.iter_mut().enumerate() {
                let row = &rows[(first_row + index) * len..][..len];
                let end = len.min((chunk + 1) * CHUNK);
                quantize(&row[chunk * CHUNK..end], to);
            }
        };
        if rows.len() < SMALL {
            items.into_iter().for_each(work);
        } else {
            parallel::for_each(items, work);
        }
        Self { chunks, num_rows }
    }

    /// Some rows' chunks of one index.
    pub fn chunk(&self, index: usize, rows: std::ops::Range<usize>) -> &[RowChunk] {
        &self.chunks[index * self.num_rows..][rows]
    }
}

/// Enough for a thread to take at a time.
const ROWS_PER_ITEM: usize = 64;

/// Numbers that one thread has quantized before others have woken up.
const SMALL: usize = 32 * 1024;

fn quantizer() -> fn(&[f32], &mut RowChunk) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vl")
        {
            #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
            fn quantize_avx512(row: &[f32], to: &mut RowChunk) {
                quantize(row, to);
            }
            // SAFETY: the processor has these instructions; it was asked.
            return |row, to| unsafe { quantize_avx512(row, to) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            #[target_feature(enable = "avx2")]
            fn quantize_avx2(row: &[f32], to: &mut RowChunk) {
                quantize(row, to);
            }
            // SAFETY: as above.
            return |row, to| unsafe { quantize_avx2(row, to) };
        }
    }
    |row, to| quantize(row, to)
}

#[inline(always)]
fn quantize(row: &[f32], to: &mut RowChunk) {
    let blocks = row.as_chunks::<BLOCK>().0;
    let numbers = to.numbers.as_chunks_mut::<BLOCK>().0;
    for (index, (block, numbers)) in blocks.iter().zip(numbers).enumerate() {
        // Magnitudes are ordered as their bits are, and what is no number comes last: it makes the whole block so.
        let mut largest = [0u32; 16];
        for half in block.as_chunks::<16>().0 {
            for (largest, x) in largest.iter_mut().zip(half) {
                *largest = (*largest).max(x.abs().to_bits());
            }
        }
        let largest = f32::from_bits(largest.into_iter().fold(0, u32::max));
        let scale = largest / 127.0;
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let mut sums = [0i32; 2];
        for (half, (block, numbers)) in block
            .as_chunks::<16>()
            .0
            .iter()
            .zip(numbers.as_chunks_mut::<16>().0)
            .enumerate()
        {
            let mut sum = [0i32; 16];
            for lane in 0..16 {
                let rounded = round(block[lane] * inverse);
                numbers[lane] = rounded as i8;
                sum[lane] = rounded;
            }
            sums[half] = sum.iter().sum();
        }
        let sum = sums[0] + sums[1];
        to.scales[index] = scale;
        to.wide[index] = -128 * sum;
        to.narrow[index] = -32 * sum;
        to.minimums[index] = -scale * sum as f32;
        for (half, sum) in sums.into_iter().enumerate() {
            to.narrow_halves[2 * index + half] = -32 * sum;
            to.minimums_halves[2 * index + half] = -scale * sum as f32;
        }
    }
}

/// To the nearest integer, for numbers within 127; anything for others, but within 127.
#[inline(always)]
pub(super) fn round(x: f32) -> i32 {
    // Adding this rounds to an integer, which then stands in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let bits = (x + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
    bits.clamp(-127, 127)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_times_scale_are_the_row_within_half_a_step() {
        let len = CHUNK + 3 * BLOCK;
        let row: Vec<f32> = (0..len)
            .map(|i| (i as f32 * 1.7).sin() * i as f32)
            .collect();
        let quantized = QuantizedRows::new(&row, len);
        for (index, block) in row.chunks(BLOCK).enumerate() {
            let chunk = quantized.chunk(index / CHUNK_BLOCKS, 0..1)[0];
            let within = index % CHUNK_BLOCKS;
            let numbers = &chunk.numbers[within * BLOCK..][..BLOCK];
            let scale = chunk.scales[within];
            for (x, &q) in block.iter().zip(numbers) {
                assert!((x - scale * f32::from(q)).abs() <= 0.501 * scale);
            }
            let sum: i32 = numbers.iter().map(|&q| i32::from(q)).sum();
            assert_eq!(chunk.wide[within], -128 * sum);
            let halves = &chunk.narrow_halves[2 * within..][..2];
            assert_eq!(halves.iter().sum::<i32>(), -32 * sum);
        }
    }

    #[test]
    fn zeros_have_no_scale_and_no_sum() {
        let quantized = QuantizedRows::new(&[0.0; BLOCK], BLOCK);
        let chunk = quantized.chunk(0, 0..1)[0];
        assert_eq!((chunk.scales[0], chunk.wide[0]), (0.0, 0));
        assert!(chunk.numbers.iter().all(|&q| q == 0));
    }

    #[test]
    fn a_number_that_is_not_one_is_seen_in_the_scale() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut row = [1.0; BLOCK];
            row[20] = bad;
            let chunk = QuantizedRows::new(&row, BLOCK).chunk(0, 0..1)[0];
            assert!(!chunk.scales[0].is_finite());
        }
    }
}
