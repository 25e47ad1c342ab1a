//! Turns a panel of rows, as a GGUF file has them, into the packed form of [`super::format`], without loss.

use candle_core::quantized::GgmlDType;

use super::format::{BLOCK, CHUNK, Format, PANEL, Scales};

/// One row's numbers of a chunk, before they are interleaved with the other rows of the panel.
struct RowChunk {
    /// Unsigned, as the type has them.
    numbers: [u8; CHUNK],
    scales: Vec<u8>,
}

/// Packs the chunk of `num_blocks` blocks of up to 16 rows. `rows` are the file's bytes of the chunk, row by row.
pub(super) fn pack_chunk(
    dtype: GgmlDType,
    format: &Format,
    rows: &[&[u8]],
    num_blocks: usize,
    packed: &mut [u8],
) {
    let (low_bytes, high_bytes) = format.plane_bytes();
    let (low, rest) = packed.split_at_mut(num_blocks * low_bytes);
    let (high, scales) = rest.split_at_mut(num_blocks * high_bytes);
    for (lane, row) in rows.iter().enumerate() {
        let mut chunk = RowChunk {
            numbers: [0; CHUNK],
            scales: Vec::with_capacity(64),
        };
        let file_blocks = row.chunks_exact(format.file_block.1);
        for (block, numbers) in file_blocks.zip(chunk.numbers.chunks_mut(format.file_block.0)) {
            read_block(dtype, block, numbers, &mut chunk.scales);
        }
        let numbers = &chunk.numbers[..num_blocks * BLOCK];
        for (block, numbers) in numbers.chunks_exact(BLOCK).enumerate() {
            let low = &mut low[block * low_bytes..][..low_bytes];
            interleave(numbers, lane, format.low_bits, 0, low);
            let high = &mut high[block * high_bytes..][..high_bytes];
            interleave(numbers, lane, format.high_bits, format.low_bits, high);
        }
        interleave_scales(format.scales, &chunk.scales, lane, scales);
    }
}

/// Puts `bits` bits of every number, above the lowest `skipped`, into a plane.
///
/// Four numbers of a row that follow each other, a group, are bytes beside each other, `[group, lane, 4]`. When
/// numbers take less than a byte, the groups of a block are spread over the bits of the bytes: byte line `i` of `n`
/// lines has groups `i`, `i + n`, `i + 2n` and so on from its lowest bits up.
fn interleave(numbers: &[u8], lane: usize, bits: usize, skipped: usize, plane: &mut [u8]) {
    if bits == 0 {
        return;
    }
    let mask = (((1u16 << bits) - 1) as u8) << skipped;
    let num_lines = bits;
    for (group, four) in numbers.as_chunks::<4>().0.iter().enumerate() {
        let (line, shift) = (group % num_lines, group / num_lines * bits);
        let to = &mut plane[line * 4 * PANEL + lane * 4..][..4];
        for (to, number) in to.iter_mut().zip(four) {
            *to |= ((number & mask) >> skipped) << shift;
        }
    }
}

/// Puts one row's scales, which are in the packed order, into those of its panel, `[scale, lane]`.
fn interleave_scales(scales: Scales, row: &[u8], lane: usize, panel: &mut [u8]) {
    // How many of the first scales take two bytes.
    let num_halves = match scales {
        Scales::Half | Scales::HalfAndAddend => row.len() / 2,
        Scales::ScaleAndMin32 | Scales::ScaleAndMin16 => 2,
        Scales::Scale16 => 1,
    };
    let (halves, bytes) = row.split_at(2 * num_halves);
    let (panel_halves, panel_bytes) = panel.split_at_mut(2 * num_halves * PANEL);
    for (half, to) in halves
        .chunks_exact(2)
        .zip(panel_halves.chunks_exact_mut(2 * PANEL))
    {
        to[2 * lane..][..2].copy_from_slice(half);
    }
    for (byte, to) in bytes.iter().zip(panel_bytes.chunks_exact_mut(PANEL)) {
        to[lane] = *byte;
    }
}

/// Reads one block of the file: its numbers in their order, and its scales in the packed order.
pub(in crate::kernels) fn read_block(
    dtype: GgmlDType,
    block: &[u8],
    numbers: &mut [u8],
    scales: &mut Vec<u8>,
) {
    match dtype {
        GgmlDType::Q8_0 => {
            scales.extend(&block[..2]);
            for (number, q) in numbers.iter_mut().zip(&block[2..]) {
                *number = q ^ 0x80;
            }
        }
        GgmlDType::Q4_0 => {
            scales.extend(&block[..2]);
            nibbles(&block[2..], numbers);
        }
        GgmlDType::Q4_1 => {
            scales.extend(&block[..4]);
            nibbles(&block[4..], numbers);
        }
        GgmlDType::Q5_0 => {
            scales.extend(&block[..2]);
            nibbles(&block[6..], numbers);
            fifth_bits(&block[2..6], numbers);
        }
        GgmlDType::Q5_1 => {
            scales.extend(&block[..4]);
            nibbles(&block[8..], numbers);
            fifth_bits(&block[4..8], numbers);
        }
        GgmlDType::Q2K => {
            scales.extend(&block[80..84]);
            scales.extend(&block[..16]);
            crumbs(&block[16..80], numbers);
        }
        GgmlDType::Q3K => {
            scales.extend(&block[108..110]);
            scales.extend(six_bit_scales(&block[96..108]));
            crumbs(&block[32..96], numbers);
            for (i, number) in numbers.iter_mut().enumerate() {
                *number |= (block[i % 32] >> (i / 32) & 1) << 2;
            }
        }
        GgmlDType::Q4K | GgmlDType::Q5K => {
            scales.extend(&block[..4]);
            for index in 0..8 {
                scales.extend(scale_and_min(&block[4..16], index));
            }
            let (high, low) = block[16..].split_at(block.len() - 16 - 128);
            for (low, numbers) in low.chunks_exact(32).zip(numbers.chunks_exact_mut(64)) {
                nibbles(low, numbers);
            }
            if dtype == GgmlDType::Q5K {
                for (i, number) in numbers.iter_mut().enumerate() {
                    *number |= (high[i % 32] >> (i / 32) & 1) << 4;
                }
            }
        }
        GgmlDType::Q6K => {
            scales.extend(&block[208..210]);
            scales.extend(&block[192..208]);
            let halves = numbers.chunks_exact_mut(128);
            let bits = block[..128].chunks_exact(64);
            for ((numbers, low), high) in halves.zip(bits).zip(block[128..192].chunks_exact(32)) {
                nibbles(low, numbers);
                for (i, number) in numbers.iter_mut().enumerate() {
                    *number |= (high[i % 32] >> (i / 32 * 2) & 3) << 4;
                }
            }
        }
        _ => unreachable!("no format has this type"),
    }
}

/// All low halves of the bytes, then all high halves.
fn nibbles(bytes: &[u8], numbers: &mut [u8]) {
    let (low, high) = numbers.split_at_mut(bytes.len());
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = byte & 15;
        *high = byte >> 4;
    }
}

/// Two bits a number: four runs of 32 in each 32 bytes.
fn crumbs(bytes: &[u8], numbers: &mut [u8]) {
    for (bytes, numbers) in bytes.chunks_exact(32).zip(numbers.chunks_exact_mut(128)) {
        for (i, number) in numbers.iter_mut().enumerate() {
            *number = bytes[i % 32] >> (i / 32 * 2) & 3;
        }
    }
}

fn fifth_bits(bytes: &[u8], numbers: &mut [u8]) {
    for (i, number) in numbers.iter_mut().enumerate() {
        *number |= (bytes[i / 8] >> (i % 8) & 1) << 4;
    }
}

/// Scale and minimum of Q4_K's and Q5_K's block `index`, six bits each.
fn scale_and_min(bytes: &[u8], index: usize) -> [u8; 2] {
    if index < 4 {
        return [bytes[index] & 63, bytes[index + 4] & 63];
    }
    let low = bytes[index + 4];
    [
        low & 15 | bytes[index - 4] >> 6 << 4,
        low >> 4 | bytes[index] >> 6 << 4,
    ]
}

/// Q3_K's 16 scales, signed.
fn six_bit_scales(bytes: &[u8]) -> impl Iterator<Item = u8> {
    (0..16).map(|i| {
        let low = bytes[i % 8] >> (i / 8 * 4) & 15;
        let high = bytes[8 + i % 4] >> (i / 4 * 2) & 3;
        (low | high << 4).wrapping_sub(32)
    })
}
