//! [`super::dot`] with 512-bit vectors and VNNI: a lane is an output row, an instruction is four products a lane.

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
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn unpack_avx512<'a>(
    format: &Format,
    packed: &'a [u8],
    num_blocks: usize,
    chunk: &'a mut Chunk,
) -> Weights<'a> {
    unpack(format, packed, num_blocks, chunk)
}

/// Rows whose sums fit in registers.
const ROWS: usize = 8;

/// # Safety
/// As `Instructions::dot`; the processor must have AVX-512 F, BW, VL and VNNI.
pub(super) unsafe fn dot(kind: Kind, weights: &Weights, rows: &[RowChunk], output: Output) {
    assert!(weights.numbers.len() >= weights.num_blocks * BLOCK / 4);
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tiles<const KIND: u8>(weights: &Weights, rows: &[RowChunk], output: Output) {
    let mut done = 0;
    while done < rows.len() {
        let rows = &rows[done..];
        let output = output.after(done);
        // SAFETY: the caller's promise, for the rows that are left.
        unsafe {
            done += match rows.len() {
                ROWS.. => tile::<KIND, ROWS>(weights, rows, output),
                4.. => tile::<KIND, 4>(weights, rows, output),
                2.. => tile::<KIND, 2>(weights, rows, output),
                _ => tile::<KIND, 1>(weights, rows, output),
            };
        }
    }
}

/// Multiplies the first `N` rows and returns `N`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<const KIND: u8, const N: usize>(
    weights: &Weights,
    rows: &[RowChunk],
    output: Output,
) -> usize {
    let rows: &[RowChunk; N] = rows.first_chunk().expect("the caller counted them");
    let mut sums = [_mm512_setzero_ps(); N];
    for row in 0..N {
        // SAFETY: the caller's promise.
        sums[row] = unsafe { _mm512_loadu_ps(output.row(row).as_ptr()) };
    }
    for block in 0..weights.num_blocks {
        let mut products = [_mm512_setzero_ps(); N];
        if KIND == NARROW_16 || KIND == MIN_16 {
            for half in [2 * block, 2 * block + 1] {
                let mut integers = [_mm512_setzero_si512(); N];
                if KIND == NARROW_16 {
                    for row in 0..N {
                        integers[row] = _mm512_set1_epi32(rows[row].narrow_halves[half]);
                    }
                }
                add_groups::<N, { BLOCK / 8 }>(weights, half * (BLOCK / 8), rows, &mut integers);
                let scales = load(&weights.scales[half]);
                for row in 0..N {
                    let floats = _mm512_cvtepi32_ps(integers[row]);
                    products[row] = if half % 2 == 0 {
                        _mm512_mul_ps(floats, scales)
                    } else {
                        _mm512_fmadd_ps(floats, scales, products[row])
                    };
                }
            }
        } else {
            let mut integers = [_mm512_setzero_si512(); N];
            for row in 0..N {
                if KIND == WIDE {
                    integers[row] = _mm512_set1_epi32(rows[row].wide[block]);
                }
                if KIND == NARROW_32 {
                    integers[row] = _mm512_set1_epi32(rows[row].narrow[block]);
                }
            }
            add_groups::<N, { BLOCK / 4 }>(weights, block * (BLOCK / 4), rows, &mut integers);
            let scales = load(&weights.scales[block]);
            for row in 0..N {
                products[row] = _mm512_mul_ps(_mm512_cvtepi32_ps(integers[row]), scales);
            }
        }
        for row in 0..N {
            let scale = _mm512_set1_ps(rows[row].scales[block]);
            sums[row] = _mm512_fmadd_ps(products[row], scale, sums[row]);
        }
        if KIND == MIN_32 {
            let mins = load(&weights.mins[block]);
            for row in 0..N {
                let factor = _mm512_set1_ps(rows[row].minimums[block]);
                sums[row] = _mm512_fmadd_ps(mins, factor, sums[row]);
            }
        }
        if KIND == MIN_16 {
            for half in [2 * block, 2 * block + 1] {
                let mins = load(&weights.mins[half]);
                for row in 0..N {
                    let factor = _mm512_set1_ps(rows[row].minimums_halves[half]);
                    sums[row] = _mm512_fmadd_ps(mins, factor, sums[row]);
                }
            }
        }
    }
    for row in 0..N {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(output.row(row).as_mut_ptr(), sums[row]) };
    }
    N
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn add_groups<const N: usize, const GROUPS: usize>(
    weights: &Weights,
    first_group: usize,
    rows: &[RowChunk; N],
    sums: &mut [__m512i; N],
) {
    for group in first_group..first_group + GROUPS {
        // SAFETY: `dot` has seen to it that every block has its groups, and a line has 64 bytes.
        let weights = unsafe {
            let line = weights.numbers.get_unchecked(group);
            _mm512_loadu_si512(line.as_ptr().cast())
        };
        for row in 0..N {
            let four = &rows[row].numbers.as_chunks::<4>().0[group];
            let four = i32::from_le_bytes(four.map(|q| q as u8));
            sums[row] = _mm512_dpbusd_epi32(sums[row], weights, _mm512_set1_epi32(four));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(lanes: &[f32; 16]) -> __m512 {
    // SAFETY: the array has 16 numbers.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}
