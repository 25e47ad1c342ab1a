//! Expands a chunk of packed weights into bytes and f32 scales that the dot products read. Plain loops over whole
//! lines: the caller's instruction set decides what they become.

use super::format::{BLOCK, CHUNK, CHUNK_BLOCKS, Format, PANEL, Scales};

const LINE: usize = 4 * PANEL;
const GROUPS: usize = BLOCK / 4;

/// Four numbers of every row of a panel.
pub(super) type Line = [u8; LINE];

/// Room for what a chunk expands to.
#[repr(C, align(64))]
pub(super) struct Chunk {
    numbers: [Line; CHUNK / 4],
    scales: [[f32; PANEL]; 2 * CHUNK_BLOCKS],
    mins: [[f32; PANEL]; 2 * CHUNK_BLOCKS],
}

/// A panel's chunk, expanded. See [`super::format::Kind`] for what its numbers stand for.
pub(super) struct Weights<'a> {
    /// `[group of 4 numbers, lane, 4]`, as many as the chunk has blocks for.
    pub numbers: &'a [Line],
    pub num_blocks: usize,
    /// By blocks or by half blocks.
    pub scales: &'a [[f32; PANEL]; 2 * CHUNK_BLOCKS],
    pub mins: &'a [[f32; PANEL]; 2 * CHUNK_BLOCKS],
}

impl Chunk {
    pub fn new() -> Self {
        Self {
            numbers: [[0; LINE]; CHUNK / 4],
            scales: [[0.0; PANEL]; 2 * CHUNK_BLOCKS],
            mins: [[0.0; PANEL]; 2 * CHUNK_BLOCKS],
        }
    }
}

/// Expands `packed`, which holds `num_blocks` blocks. Whole bytes are left where they are.
#[inline(always)]
pub(super) fn unpack<'a>(
    format: &Format,
    packed: &'a [u8],
    num_blocks: usize,
    chunk: &'a mut Chunk,
) -> Weights<'a> {
    let (low_bytes, high_bytes) = format.plane_bytes();
    let (low, rest) = packed.split_at(num_blocks * low_bytes);
    let (high, scales) = rest.split_at(num_blocks * high_bytes);
    let low = low.as_chunks::<LINE>().0;
    let high = high.as_chunks::<LINE>().0;
    let numbers = &mut chunk.numbers[..num_blocks * GROUPS];
    let blocks = numbers.as_chunks_mut::<GROUPS>().0;
    let added = format.added;
    match (format.low_bits, format.high_bits) {
        (8, _) => {}
        (4, 0) => planes::<4, 0>(blocks, low, high, added),
        (4, 1) => planes::<4, 1>(blocks, low, high, added),
        (4, _) => planes::<4, 2>(blocks, low, high, added),
        (_, 1) => planes::<2, 1>(blocks, low, high, added),
        (_, _) => planes::<2, 0>(blocks, low, high, added),
    }
    unpack_scales(format.scales, scales, num_blocks, chunk);
    Weights {
        numbers: match format.low_bits {
            8 => low,
            _ => &chunk.numbers[..num_blocks * GROUPS],
        },
        num_blocks,
        scales: &chunk.scales,
        mins: &chunk.mins,
    }
}

/// The lines of `LOW` and `HIGH` bits of all blocks: see `interleave` in [`super::pack`]. Works on eight bytes at a
/// time, which vectors can shift; no sum leaves its byte.
#[inline(always)]
fn planes<const LOW: usize, const HIGH: usize>(
    blocks: &mut [[Line; GROUPS]],
    low: &[Line],
    high: &[Line],
    added: u8,
) {
    let low_mask = u64::from_ne_bytes([(1 << LOW) - 1; 8]);
    let high_mask = u64::from_ne_bytes([((1 << HIGH) - 1) << LOW; 8]);
    let added = u64::from_ne_bytes([added; 8]);
    for (index, block) in blocks.iter_mut().enumerate() {
        let low = &low[index * LOW..][..LOW];
        let high = &high[index * HIGH..][..HIGH];
        for (group, line) in block.iter_mut().enumerate() {
            let low = &low[group % LOW].as_chunks::<8>().0;
            let low_shift = group / LOW * LOW;
            for (at, to) in line.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let mut bytes = u64::from_ne_bytes(low[at]) >> low_shift & low_mask;
                if HIGH > 0 {
                    let high = &high[group % HIGH.max(1)].as_chunks::<8>().0;
                    let high_shift = group / HIGH.max(1) * HIGH;
                    let (left, right) = match LOW.checked_sub(high_shift) {
                        Some(left) => (left, 0),
                        None => (0, high_shift - LOW),
                    };
                    bytes |= (u64::from_ne_bytes(high[at]) << left >> right) & high_mask;
                }
                *to = (bytes + added).to_ne_bytes();
            }
        }
    }
}

#[inline(always)]
fn unpack_scales(scales: Scales, packed: &[u8], num_blocks: usize, chunk: &mut Chunk) {
    const HALVES: usize = 2 * PANEL;
    match scales {
        Scales::Half => {
            let halves = packed.as_chunks::<HALVES>().0;
            for (to, from) in chunk.scales[..num_blocks].iter_mut().zip(halves) {
                *to = floats(from);
            }
        }
        Scales::HalfAndAddend => {
            let halves = packed.as_chunks::<HALVES>().0;
            let pairs = halves.as_chunks::<2>().0;
            for (index, [scale, addend]) in pairs[..num_blocks].iter().enumerate() {
                chunk.scales[index] = floats(scale);
                chunk.mins[index] = floats(addend);
                for min in &mut chunk.mins[index] {
                    *min = -*min;
                }
            }
        }
        Scales::ScaleAndMin32 => {
            let (halves, bytes) = packed.split_at(2 * HALVES);
            let halves = halves.as_chunks::<HALVES>().0;
            let (scale, min) = (floats(&halves[0]), floats(&halves[1]));
            let pairs = bytes.as_chunks::<PANEL>().0.as_chunks::<2>().0;
            for (index, [scales, mins]) in pairs[..num_blocks].iter().enumerate() {
                for lane in 0..PANEL {
                    chunk.scales[index][lane] = scale[lane] * f32::from(scales[lane]);
                    chunk.mins[index][lane] = min[lane] * f32::from(mins[lane]);
                }
            }
        }
        Scales::Scale16 => {
            let (halves, bytes) = packed.split_at(HALVES);
            let scale = floats(&halves.as_chunks::<HALVES>().0[0]);
            let lines = bytes.as_chunks::<PANEL>().0;
            for (to, from) in chunk.scales[..2 * num_blocks].iter_mut().zip(lines) {
                for lane in 0..PANEL {
                    to[lane] = scale[lane] * f32::from(from[lane] as i8);
                }
            }
        }
        Scales::ScaleAndMin16 => {
            let (halves, bytes) = packed.split_at(2 * HALVES);
            let halves = halves.as_chunks::<HALVES>().0;
            let (scale, min) = (floats(&halves[0]), floats(&halves[1]));
            let lines = bytes.as_chunks::<PANEL>().0;
            for (index, from) in lines[..2 * num_blocks].iter().enumerate() {
                for lane in 0..PANEL {
                    chunk.scales[index][lane] = scale[lane] * f32::from(from[lane] & 15);
                    chunk.mins[index][lane] = min[lane] * f32::from(from[lane] >> 4);
                }
            }
        }
    }
}

/// Little-endian half-precision numbers as f32.
#[inline(always)]
fn floats(halves: &[u8; 2 * PANEL]) -> [f32; PANEL] {
    let mut floats = [0f32; PANEL];
    for (float, half) in floats.iter_mut().zip(halves.as_chunks::<2>().0) {
        *float = half_to_float(u16::from_le_bytes(*half));
    }
    floats
}

/// In operations that every vector unit has, so that all of them give the same number. Also for numbers below the
/// normal range, which the scales of six-bit weights often are.
#[inline(always)]
pub(super) fn half_to_float(half: u16) -> f32 {
    const BIAS: u32 = 112 << 23;
    let bits = u32::from(half & 0x7fff) << 13;
    let exponent = half & 0x7c00;
    let subnormal = f32::from_bits(bits + BIAS + (1 << 23)) - f32::from_bits(BIAS + (1 << 23));
    let normal = bits + BIAS;
    let not_finite = normal + BIAS;
    let magnitude = match exponent {
        0 => subnormal.to_bits(),
        0x7c00 => not_finite,
        _ => normal,
    };
    f32::from_bits(magnitude | u32::from(half & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_half_precision_number_is_read() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits).to_f32();
            let found = half_to_float(bits);
            assert!(found == expected || (found.is_nan() && expected.is_nan()));
        }
    }
}
