//! [`super::dot`] with 256-bit vectors: a panel is two vectors of eight output rows.

#![expect(
    clippy::needless_range_loop,
    reason = "rows are registers, used side by side with others"
)]

use std::arch::x86_64::*;

use super::dot::Output;
use super::format::{BLOCK, Format, Kind, MIN_16, MIN_32, NARROW_16, NARROW_32, WIDE};
use super::rows::RowChunk;
use super::unpack::{Chunk, Weights, unpack};

/// As [`unpack`].
#[target_feature(enable = "avx2,fma")]
pub(super) fn unpack_avx2<'a>(
    format: &Format,
    packed: &'a [u8],
    num_blocks: usize,
    chunk: &'a mut Chunk,
) -> Weights<'a> {
    unpack(format, packed, num_blocks, chunk)
}

/// Rows whose sums fit in registers.
const ROWS: usize = 4;

/// # Safety
/// As `Instructions::dot`; the processor must have AVX2 and FMA.
pub(super) unsafe fn dot(kind: Kind, weights: &Weights, rows: &[RowChunk], output: Output) {
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            Kind::Wide => tiles::<WIDE>(weights, rows, output),
            Kind::Narrow32 => tiles::<NARROW_32>(weights, rows, output),
            Kind::Narrow16 => tiles::<NARROW_16>(weights, rows, output),
            Kind::Min32 => tiles::<MIN_32>(weights, rows, output),
            Kind::Min16 => tiles::<MIN_16>(weights, rows, output),
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tiles<const KIND: u8>(weights: &Weights, rows: &[RowChunk], output: Output) {
    let mut done = 0;
    while done < rows.len() {
        let rows = &rows[done..];
        let output = output.after(done);
        // SAFETY: the caller's promise, for the rows that are left.
        unsafe {
            done += match rows.len() {
                ROWS.. => tile::<KIND, ROWS>(weights, rows, output),
                2.. => tile::<KIND, 2>(weights, rows, output),
                _ => tile::<KIND, 1>(weights, rows, output),
            };
        }
    }
}

/// Multiplies the first `N` rows and returns `N`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const KIND: u8, const N: usize>(
    weights: &Weights,
    rows: &[RowChunk],
    output: Output,
) -> usize {
    let rows: &[RowChunk; N] = rows.first_chunk().expect("the caller counted them");
    for side in 0..2 {
        let mut sums = [_mm256_setzero_ps(); N];
        for row in 0..N {
            // SAFETY: the caller's promise.
            sums[row] = load(unsafe { output.row(row) }, side);
        }
        for block in 0..weights.num_blocks {
            let mut products = [_mm256_setzero_ps(); N];
            if KIND == NARROW_16 || KIND == MIN_16 {
                for half in [2 * block, 2 * block + 1] {
                    let mut integers = [_mm256_setzero_si256(); N];
                    if KIND == NARROW_16 {
                        for row in 0..N {
                            integers[row] = _mm256_set1_epi32(rows[row].narrow_halves[half]);
                        }
                    }
                    add_groups::<KIND, N, { BLOCK / 8 }>(
                        weights,
                        half * (BLOCK / 8),
                        side,
                        rows,
                        &mut integers,
                    );
                    let scales = load(&weights.scales[half], side);
                    for row in 0..N {
                        let floats = _mm256_cvtepi32_ps(integers[row]);
                        products[row] = if half % 2 == 0 {
                            _mm256_mul_ps(floats, scales)
                        } else {
                            _mm256_fmadd_ps(floats, scales, products[row])
                        };
                    }
                }
            } else {
                let mut integers = [_mm256_setzero_si256(); N];
                if KIND == NARROW_32 {
                    for row in 0..N {
                        integers[row] = _mm256_set1_epi32(rows[row].narrow[block]);
                    }
                }
                add_groups::<KIND, N, { BLOCK / 4 }>(
                    weights,
                    block * (BLOCK / 4),
                    side,
                    rows,
                    &mut integers,
                );
                let scales = load(&weights.scales[block], side);
                for row in 0..N {
                    products[row] = _mm256_mul_ps(_mm256_cvtepi32_ps(integers[row]), scales);
                }
            }
            for row in 0..N {
                let scale = _mm256_set1_ps(rows[row].scales[block]);
                sums[row] = _mm256_fmadd_ps(products[row], scale, sums[row]);
            }
            if KIND == MIN_32 {
                let mins = load(&weights.mins[block], side);
                for row in 0..N {
                    let factor = _mm256_set1_ps(rows[row].minimums[block]);
                    sums[row] = _mm256_fmadd_ps(mins, factor, sums[row]);
                }
            }
            if KIND == MIN_16 {
                for half in [2 * block, 2 * block + 1] {
                    let mins = load(&weights.mins[half], side);
                    for row in 0..N {
                        let factor = _mm256_set1_ps(rows[row].minimums_halves[half]);
                        sums[row] = _mm256_fmadd_ps(mins, factor, sums[row]);
                    }
                }
            }
        }
        for row in 0..N {
            // SAFETY: the caller's promise; half a row is eight numbers.
            unsafe { _mm256_storeu_ps(output.row(row).as_mut_ptr().add(side * 8), sums[row]) };
        }
    }
    N
}

/// The instruction multiplies unsigned with signed numbers and adds two products in 16 bits. Weights below 64 cannot
/// overflow that. Wide ones are taken as signed, and their sign is given to the row's numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn add_groups<const KIND: u8, const N: usize, const GROUPS: usize>(
    weights: &Weights,
    first_group: usize,
    side: usize,
    rows: &[RowChunk; N],
    sums: &mut [__m256i; N],
) {
    let ones = _mm256_set1_epi16(1);
    for group in first_group..first_group + GROUPS {
        let line = &weights.numbers[group].as_chunks::<32>().0[side];
        // SAFETY: half a line has 32 bytes.
        let weights = unsafe { _mm256_loadu_si256(line.as_ptr().cast()) };
        let signed = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
        let magnitudes = _mm256_abs_epi8(signed);
        for row in 0..N {
            let four = &rows[row].numbers.as_chunks::<4>().0[group];
            let four = _mm256_set1_epi32(i32::from_le_bytes(four.map(|q| q as u8)));
            let pairs = if KIND == WIDE {
                _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(four, signed))
            } else {
                _mm256_maddubs_epi16(weights, four)
            };
            sums[row] = _mm256_add_epi32(sums[row], _mm256_madd_epi16(pairs, ones));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(lanes: &[f32; 16], side: usize) -> __m256 {
    // SAFETY: the array has 16 numbers, and the side is 0 or 1.
    unsafe { _mm256_loadu_ps(lanes.as_ptr().add(side * 8)) }
}
