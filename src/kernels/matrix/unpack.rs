//! Expands a chunk of packed weights into bytes and f32 scales that the dot products read. Plain loops over whole
//! lines: the caller's instruction set decides what they become.

use super::format::{BLOCK, CHUNK, CHUNK_BLOCKS, Format, PANEL, Scales};

const LINE: usize = 4 * PANEL;
const GROUPS: usize = BLOCK / 4;

/// A panel's chunk, expanded. See [`super::format::Kind`] for what its numbers stand for.
#[repr(C, align(64))]
pub(super) struct Chunk {
    /// `[group of 4 numbers, lane, 4]`
    pub numbers: [[u8; LINE]; CHUNK / 4],
    /// By blocks or by half blocks.
    pub scales: [[f32; PANEL]; 2 * CHUNK_BLOCKS],
    pub mins: [[f32; PANEL]; 2 * CHUNK_BLOCKS],
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

/// Expands `packed`, which holds `num_blocks` blocks.
#[inline(always)]
pub(super) fn unpack(format: &Format, packed: &[u8], num_blocks: usize, chunk: &mut Chunk) {
    let (low_bytes, high_bytes) = format.plane_bytes();
    let (low, rest) = packed.split_at(num_blocks * low_bytes);
    let (high, scales) = rest.split_at(num_blocks * high_bytes);
    let low = low.as_chunks::<LINE>().0;
    let high = high.as_chunks::<LINE>().0;
    let numbers = &mut chunk.numbers[..num_blocks * GROUPS];
    let blocks = numbers.as_chunks_mut::<GROUPS>().0;
    match (format.low_bits, format.high_bits) {
        (8, 0) => {
            for (line, low) in numbers.iter_mut().zip(low) {
                *line = *low;
            }
        }
        (4, 0) => planes::<4, 0>(blocks, low, high, format.added),
        (4, 1) => planes::<4, 1>(blocks, low, high, format.added),
        (4, 2) => planes::<4, 2>(blocks, low, high, format.added),
        (2, 1) => planes::<2, 1>(blocks, low, high, format.added),
        _ => planes::<2, 0>(blocks, low, high, format.added),
    }
    unpack_scales(format.scales, scales, num_blocks, chunk);
}

/// The lines of `LOW` and `HIGH` bits of all blocks: see `interleave` in [`super::pack`].
#[inline(always)]
fn planes<const LOW: usize, const HIGH: usize>(
    blocks: &mut [[[u8; LINE]; GROUPS]],
    low: &[[u8; LINE]],
    high: &[[u8; LINE]],
    added: u8,
) {
    let low_mask = (1u8 << LOW) - 1;
    let high_mask = ((1u8 << HIGH) - 1) << LOW;
    for (index, block) in blocks.iter_mut().enumerate() {
        let low = &low[index * LOW..][..LOW];
        let high = &high[index * HIGH..][..HIGH];
        for (group, line) in block.iter_mut().enumerate() {
            let source = &low[group % LOW];
            let shift = group / LOW * LOW;
            for (to, from) in line.iter_mut().zip(source) {
                *to = from >> shift & low_mask;
            }
            if HIGH > 0 {
                let source = &high[group % HIGH.max(1)];
                let shift = group / HIGH.max(1) * HIGH;
                for (to, from) in line.iter_mut().zip(source) {
                    let bits = if shift > LOW {
                        from >> (shift - LOW)
                    } else {
                        from << (LOW - shift)
                    };
                    *to |= bits & high_mask;
                }
            }
            for to in line.iter_mut() {
                *to = to.wrapping_add(added);
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
                chunk.mins[index] = floats(addend).map(|addend| -addend);
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
    let halves = halves.as_chunks::<2>().0;
    std::array::from_fn(|lane| half_to_float(u16::from_le_bytes(halves[lane])))
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
