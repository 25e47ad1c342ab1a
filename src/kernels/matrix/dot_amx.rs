//! [`super::dot`] with the matrix unit (AMX) of newer Intel processors, for sixteen rows at a time: it gives the integer
//! sums of a block, the rest is as in [`super::dot_avx512`]. The unit has no stable intrinsics; its instructions are in
//! "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 2.
//!
//! candle's quantized products on the CPU expect to find the unit as they left it, so they must not run on the threads
//! that this runs on.

#![expect(
    clippy::needless_range_loop,
    reason = "rows are registers, used side by side with others"
)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::dot::Output;
use super::format::{BLOCK, CHUNK_BLOCKS, Kind, MIN_16, MIN_32, NARROW_16, NARROW_32, PANEL, WIDE};
use super::rows::RowChunk;
use super::unpack::Weights;

/// Rows that one tile of the unit holds.
pub(super) const ROWS: usize = 16;

/// Whether processor and system let this process use the unit. Asks the system for it.
pub(super) fn is_available() -> bool {
    const AMX_INT8_AND_TILE: u32 = 1 << 25 | 1 << 24;
    const SAVES_TILES: u64 = 1 << 18 | 1 << 17;
    let has_unit = __cpuid(0).eax >= 7
        && __cpuid_count(7, 0).edx & AMX_INT8_AND_TILE == AMX_INT8_AND_TILE
        && std::arch::is_x86_feature_detected!("xsave");
    // SAFETY: the processor has the instruction.
    has_unit && unsafe { saved_states() } & SAVES_TILES == SAVES_TILES && is_permitted()
}

#[target_feature(enable = "xsave")]
unsafe fn saved_states() -> u64 {
    // SAFETY: register 0 exists wherever the instruction does.
    unsafe { _xgetbv(0) }
}

#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let result: i64;
    // SAFETY: the call asks for a permission of this process and touches no memory.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// The shapes of the tile registers: 0 and 1 are sums, 2 and 3 rows, 4 and 5 weights.
#[repr(C, align(64))]
struct TileShapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl TileShapes {
    /// For sums over `len` numbers.
    fn new(len: usize) -> Self {
        let mut shapes = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        for tile in 0..6 {
            let (rows, row_bytes) = match tile {
                0 | 1 => (ROWS, 4 * PANEL),
                2 | 3 => (ROWS, len),
                _ => (len / 4, 4 * PANEL),
            };
            shapes.rows[tile] = rows as u8;
            shapes.row_bytes[tile] = row_bytes as u16;
        }
        shapes
    }
}

type Sums = [[i32; PANEL]; ROWS];

/// Two tiles of sums in memory, whole cache lines.
#[repr(C, align(64))]
struct Pair([Sums; 2]);

/// Multiplies as many rows as fill whole tiles, and returns how many.
///
/// # Safety
/// As `Instructions::dot`; the unit must be available and the processor have AVX-512 F.
pub(super) unsafe fn dot(
    kind: Kind,
    weights: &Weights,
    rows: &[RowChunk],
    output: Output,
) -> usize {
    let num_tiles = rows.len() / ROWS;
    if num_tiles == 0 {
        return 0;
    }
    let shapes = match kind {
        Kind::Wide | Kind::Narrow32 | Kind::Min32 => TileShapes::new(BLOCK),
        Kind::Narrow16 | Kind::Min16 => TileShapes::new(BLOCK / 2),
    };
    // SAFETY: the unit is available, and the shapes are ones it has. The tiles are given back below, so that nothing
    // else in the process finds them in use.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &shapes, options(nostack, readonly));
        for (tile, rows) in rows.as_chunks::<ROWS>().0.iter().enumerate() {
            let output = output.after(tile * ROWS);
            match kind {
                Kind::Wide => tile_of::<WIDE>(weights, rows, output),
                Kind::Narrow32 => tile_of::<NARROW_32>(weights, rows, output),
                Kind::Narrow16 => tile_of::<NARROW_16>(weights, rows, output),
                Kind::Min32 => tile_of::<MIN_32>(weights, rows, output),
                Kind::Min16 => tile_of::<MIN_16>(weights, rows, output),
            }
        }
        asm!("tilerelease", options(nostack, nomem));
    }
    num_tiles * ROWS
}

/// # Safety
/// As [`dot`], with the tiles shaped for `KIND`.
#[target_feature(enable = "avx512f")]
unsafe fn tile_of<const KIND: u8>(weights: &Weights, rows: &[RowChunk; ROWS], output: Output) {
    let num_blocks = weights.num_blocks;
    assert!(num_blocks <= CHUNK_BLOCKS && weights.numbers.len() == num_blocks * BLOCK / 4);
    let is_halved = KIND == NARROW_16 || KIND == MIN_16;
    let mut sums = [_mm512_setzero_ps(); ROWS];
    for row in 0..ROWS {
        // SAFETY: the caller's promise.
        sums[row] = unsafe { _mm512_loadu_ps(output.row(row).as_ptr()) };
    }
    let mut pair = Pair([[[0; PANEL]; ROWS]; 2]);
    // Two blocks at a time, or two halves of one.
    let num_parts = if is_halved {
        2 * num_blocks
    } else {
        num_blocks
    };
    let part_len = if is_halved { BLOCK / 2 } else { BLOCK };
    for first_part in (0..num_parts).step_by(2) {
        let has_second = first_part + 1 < num_parts;
        let second_part = if has_second {
            first_part + 1
        } else {
            first_part
        };
        // SAFETY: the parts lie inside rows and chunk, the pair has room for both tiles, and the tiles have the shape
        // of the parts.
        unsafe {
            let row_bytes = |part: usize| rows[0].numbers.as_ptr().add(part * part_len);
            let lines = |part: usize| weights.numbers.as_ptr().add(part * part_len / 4);
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tileloadd tmm2, [{rows_0} + {row_stride}*1]",
                "tileloadd tmm4, [{weights_0} + {line}*1]",
                "tileloadd tmm3, [{rows_1} + {row_stride}*1]",
                "tileloadd tmm5, [{weights_1} + {line}*1]",
                "tdpbsud tmm0, tmm2, tmm4",
                "tdpbsud tmm1, tmm3, tmm5",
                "tilestored [{sums_0} + {line}*1], tmm0",
                "tilestored [{sums_1} + {line}*1], tmm1",
                rows_0 = in(reg) row_bytes(first_part),
                rows_1 = in(reg) row_bytes(second_part),
                weights_0 = in(reg) lines(first_part),
                weights_1 = in(reg) lines(second_part),
                sums_0 = in(reg) &mut pair.0[0],
                sums_1 = in(reg) &mut pair.0[1],
                row_stride = in(reg) size_of::<RowChunk>(),
                line = in(reg) 4 * PANEL,
                out("tmm0") _, out("tmm1") _, out("tmm2") _,
                out("tmm3") _, out("tmm4") _, out("tmm5") _,
                options(nostack),
            );
        }
        if is_halved {
            let block = first_part / 2;
            let scales = [
                load(&weights.scales[first_part]),
                load(&weights.scales[first_part + 1]),
            ];
            for row in 0..ROWS {
                let mut integers = [
                    load_integers(&pair.0[0][row]),
                    load_integers(&pair.0[1][row]),
                ];
                if KIND == NARROW_16 {
                    for half in 0..2 {
                        let correction = rows[row].narrow_halves[first_part + half];
                        integers[half] =
                            _mm512_add_epi32(integers[half], _mm512_set1_epi32(correction));
                    }
                }
                let product = _mm512_mul_ps(_mm512_cvtepi32_ps(integers[0]), scales[0]);
                let product = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integers[1]), scales[1], product);
                let scale = _mm512_set1_ps(rows[row].scales[block]);
                sums[row] = _mm512_fmadd_ps(product, scale, sums[row]);
            }
            if KIND == MIN_16 {
                for half in [first_part, first_part + 1] {
                    let mins = load(&weights.mins[half]);
                    for row in 0..ROWS {
                        let factor = _mm512_set1_ps(rows[row].minimums_halves[half]);
                        sums[row] = _mm512_fmadd_ps(mins, factor, sums[row]);
                    }
                }
            }
        } else {
            let blocks = if has_second { 2 } else { 1 };
            for index in 0..blocks {
                let block = first_part + index;
                let scales = load(&weights.scales[block]);
                for row in 0..ROWS {
                    let mut integers = load_integers(&pair.0[index][row]);
                    if KIND == WIDE {
                        let correction = _mm512_set1_epi32(rows[row].wide[block]);
                        integers = _mm512_add_epi32(integers, correction);
                    }
                    if KIND == NARROW_32 {
                        let correction = _mm512_set1_epi32(rows[row].narrow[block]);
                        integers = _mm512_add_epi32(integers, correction);
                    }
                    let product = _mm512_mul_ps(_mm512_cvtepi32_ps(integers), scales);
                    let scale = _mm512_set1_ps(rows[row].scales[block]);
                    sums[row] = _mm512_fmadd_ps(product, scale, sums[row]);
                }
                if KIND == MIN_32 {
                    let mins = load(&weights.mins[block]);
                    for row in 0..ROWS {
                        let factor = _mm512_set1_ps(rows[row].minimums[block]);
                        sums[row] = _mm512_fmadd_ps(mins, factor, sums[row]);
                    }
                }
            }
        }
    }
    for row in 0..ROWS {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(output.row(row).as_mut_ptr(), sums[row]) };
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(lanes: &[f32; PANEL]) -> __m512 {
    // SAFETY: the array has 16 numbers.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_integers(lanes: &[i32; PANEL]) -> __m512i {
    // SAFETY: as above.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}
