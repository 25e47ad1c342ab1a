//! Turns the rows of a matrix, as a GGUF file has them, into what `weights.cuh` reads: chunks of inputs of 16 outputs, in which
//! what the lanes of a warp load at once lies together. Quantized weights lose nothing.

use candle_core::quantized::GgmlDType;
use half::{bf16, f16};

use super::{BLOCK, PANEL};
use crate::kernels::matrix::{Format, Scales, read_block};
use crate::kernels::parallel;

const LANES: usize = 32;
const WORD_BYTES: usize = size_of::<u32>();
/// Every lane has an output of either half of a panel; four lanes share them.
const OUTPUTS_OF_LANE: usize = 2;
const LANES_OF_OUTPUT: usize = 4;

/// How the weights of a matrix are packed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Packing {
    Quantized {
        dtype: GgmlDType,
        format: Format,
    },
    /// As half-precision numbers, so many for each weight, whose sum it is.
    Halves {
        planes: usize,
    },
}

impl Packing {
    /// # Panics
    /// For types that no file keeps weights in.
    pub fn of(dtype: GgmlDType) -> Self {
        match (dtype, Format::of(dtype)) {
            (_, Some(format)) => Self::Quantized { dtype, format },
            (GgmlDType::F16 | GgmlDType::BF16, _) => Self::Halves { planes: 1 },
            (GgmlDType::F32, _) => Self::Halves { planes: 2 },
            _ => panic!("{dtype:?} is a type for intermediate results"),
        }
    }

    /// As the kernels are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Halves { planes: 1 } => "F16",
            Self::Halves { .. } => "F32",
            Self::Quantized { dtype, .. } => match dtype {
                GgmlDType::Q4_0 => "Q4_0",
                GgmlDType::Q4_1 => "Q4_1",
                GgmlDType::Q5_0 => "Q5_0",
                GgmlDType::Q5_1 => "Q5_1",
                GgmlDType::Q8_0 => "Q8_0",
                GgmlDType::Q2K => "Q2_K",
                GgmlDType::Q3K => "Q3_K",
                GgmlDType::Q4K => "Q4_K",
                GgmlDType::Q5K => "Q5_K",
                _ => "Q6_K",
            },
        }
    }

    /// What all products are multiplied by at last: integers are multiplied as so many times 2^-24.
    pub fn factor(self) -> f32 {
        match self {
            Self::Quantized { .. } => (1 << 24) as f32,
            Self::Halves { .. } => 1.0,
        }
    }

    /// Blocks of 32 inputs in a chunk.
    fn num_blocks(self) -> usize {
        match self {
            Self::Quantized { format, .. } if format.file_block.0 == BLOCK => 4,
            Self::Quantized { .. } => 8,
            Self::Halves { planes } => 2 / planes,
        }
    }

    /// Words of a lane's weights in a chunk.
    fn num_words(self) -> usize {
        match self {
            Self::Quantized { format, .. } => bits(&format) * self.num_blocks() / 2,
            Self::Halves { planes } => planes * self.num_blocks() * 8,
        }
    }

    fn chunk_bytes(self) -> usize {
        let scales = match self {
            Self::Quantized { format, .. } => match format.scales {
                Scales::Half => 128,
                Scales::HalfAndAddend => 256,
                Scales::ScaleAndMin32 => 128 + 64 + 128,
                Scales::Scale16 => 256 + 32,
                Scales::ScaleAndMin16 => 256 + 64,
            },
            Self::Halves { .. } => 0,
        };
        LANES * WORD_BYTES * self.num_words() + scales
    }

    pub fn num_chunks(self, num_inputs: usize) -> usize {
        num_inputs.div_ceil(self.num_blocks() * BLOCK)
    }

    /// Bytes of 16 outputs.
    pub fn panel_bytes(self, num_inputs: usize) -> usize {
        self.num_chunks(num_inputs) * self.chunk_bytes()
    }

    /// Packs rows of a file of the type `dtype` into `packed`, which is all zeros. Returns what every output is to be multiplied
    /// by, where that is not 1 for all.
    pub fn pack(
        self,
        dtype: GgmlDType,
        rows: &[u8],
        num_inputs: usize,
        packed: &mut [u8],
    ) -> Vec<f32> {
        let row_bytes = num_inputs / dtype.block_size() * dtype.type_size();
        let num_outputs = rows.len() / row_bytes;
        let has_factors = !matches!(self, Self::Quantized { .. }) && dtype != GgmlDType::F16;
        let mut factors = vec![1f32; if has_factors { num_outputs } else { 0 }];
        let mut of_panels: Vec<&mut [f32]> = factors.chunks_mut(PANEL).collect();
        of_panels.resize_with(num_outputs.div_ceil(PANEL), Default::default);
        let panels = packed.chunks_exact_mut(self.panel_bytes(num_inputs));
        let panels = panels.zip(rows.chunks(PANEL * row_bytes)).zip(of_panels);
        parallel::for_each(panels.collect(), |((to, rows), factors)| {
            for (output, row) in rows.chunks_exact(row_bytes).enumerate() {
                match self {
                    Self::Quantized { dtype, format } => {
                        self.pack_quantized_row(dtype, &format, row, output, to);
                    }
                    Self::Halves { planes } => {
                        let mut numbers = floats(dtype, row);
                        if let Some(factor) = factors.get_mut(output) {
                            *factor = bring_to_half(&mut numbers);
                        }
                        self.pack_halves_row(planes, &numbers, output, to);
                    }
                }
            }
        });
        factors
    }

    fn pack_quantized_row(
        self,
        dtype: GgmlDType,
        format: &Format,
        row: &[u8],
        output: usize,
        panel: &mut [u8],
    ) {
        let (block_len, block_bytes) = format.file_block;
        let chunk_len = self.num_blocks() * BLOCK;
        let row_chunks = row.chunks(chunk_len / block_len * block_bytes);
        let mut numbers = vec![0u8; chunk_len];
        let mut scales = Vec::new();
        for (row, chunk) in row_chunks.zip(panel.chunks_exact_mut(self.chunk_bytes())) {
            scales.clear();
            let blocks = row.chunks_exact(block_bytes);
            let num_numbers = blocks.len() * block_len;
            for (block, numbers) in blocks.zip(numbers.chunks_exact_mut(block_len)) {
                numbers.fill(0);
                read_block(dtype, block, numbers, &mut scales);
            }
            let (words, packed_scales) = chunk.split_at_mut(LANES * WORD_BYTES * self.num_words());
            for (at, &number) in numbers[..num_numbers].iter().enumerate() {
                let place = Place::of(at, output);
                self.put_number(bits(format), place, number.into(), words);
            }
            put_scales(format.scales, &scales, output, packed_scales);
        }
    }

    /// The pairs of two blocks take as many words as a number has bits. A half of a word has as many whole numbers as fit; the
    /// bits that are left make up the last pairs.
    fn put_number(self, bits: usize, place: Place, number: u32, words: &mut [u8]) {
        let Place { block, lane, .. } = place;
        let pair = block % 2 * 8 + place.pair;
        let first = block / 2 * bits;
        let whole = 16 / bits;
        let mut put = |word: usize, shift: usize, number: u32| {
            let to = word_of(words, self.num_words(), first + word, lane);
            let all = u32::from_le_bytes(*to) | number << (shift + 16 * place.half);
            *to = all.to_le_bytes();
        };
        match pair.checked_sub(bits * whole) {
            None => put(pair / whole, pair % whole * bits, number),
            Some(last) if bits == 6 => {
                put(last, 12, number & 15);
                put(4 + last / 2, 12 + last % 2 * 2, number >> 4);
            }
            Some(_) => {
                for bit in 0..bits {
                    put(bit, 15, number >> bit & 1);
                }
            }
        }
    }

    fn pack_halves_row(self, planes: usize, row: &[f32], output: usize, panel: &mut [u8]) {
        let num_blocks = self.num_blocks();
        let chunks = panel.chunks_exact_mut(self.chunk_bytes());
        for (row, words) in row.chunks(num_blocks * BLOCK).zip(chunks) {
            for (at, &number) in row.iter().enumerate() {
                let Place {
                    block,
                    lane,
                    pair,
                    half,
                } = Place::of(at, output);
                let mut rest = number;
                for plane in 0..planes {
                    let rounded = f16::from_f32(rest);
                    rest -= rounded.to_f32();
                    let word = (plane * num_blocks + block) * 8 + pair;
                    let to = word_of(words, self.num_words(), word, lane);
                    to[2 * half..][..2].copy_from_slice(&rounded.to_le_bytes());
                }
            }
        }
    }
}

fn bits(format: &Format) -> usize {
    format.low_bits + format.high_bits
}

/// Where the tensor cores want a number: which lane's, which half of which of its eight pairs of a block.
#[derive(Debug, Clone, Copy)]
struct Place {
    block: usize,
    lane: usize,
    pair: usize,
    half: usize,
}

impl Place {
    /// Number `at` of a chunk, of this output of its panel.
    fn of(at: usize, output: usize) -> Self {
        let (block, at) = (at / BLOCK, at % BLOCK);
        let (half_block, at) = (at / (BLOCK / 2), at % (BLOCK / 2));
        let per_lane = BLOCK / 2 / LANES_OF_OUTPUT;
        let (lane, at) = (at / per_lane, at % per_lane);
        let (of_lane, group) = (output / 8, output % 8);
        Self {
            block,
            lane: group * LANES_OF_OUTPUT + lane,
            pair: of_lane * 4 + half_block * 2 + at / 2,
            half: at % 2,
        }
    }
}

/// A word of a lane: four of each lane lie together, then the last two.
fn word_of(words: &mut [u8], num_words: usize, word: usize, lane: usize) -> &mut [u8; WORD_BYTES] {
    let fours = num_words / 4 * 4;
    let at = if word < fours {
        (word / 4 * LANES + lane) * 4 + word % 4
    } else {
        fours * LANES + lane * (num_words - fours) + word - fours
    };
    &mut words.as_chunks_mut().0[at]
}

/// Puts the scales of one row's chunk, as `read_block` gives them, into those of its panel.
fn put_scales(scales: Scales, row: &[u8], output: usize, packed: &mut [u8]) {
    let (of_lane, group) = (output / 8, output % 8);
    let lanes = (0..LANES_OF_OUTPUT).map(|lane| (lane, group * LANES_OF_OUTPUT + lane));
    match scales {
        Scales::Half => packed[group * 16 + of_lane * 8..][..row.len()].copy_from_slice(row),
        Scales::HalfAndAddend => {
            let (scales, addends) = packed.split_at_mut(128);
            let to = &mut scales[group * 16 + of_lane * 8..][..8];
            for ((block, lane), both) in lanes.zip(row.chunks_exact(4)) {
                to[2 * block..][..2].copy_from_slice(&both[..2]);
                addends[lane * WORD_BYTES + of_lane * 2..][..2].copy_from_slice(&both[2..]);
            }
        }
        Scales::ScaleAndMin32 => {
            let (scales, rest) = packed.split_at_mut(128);
            let (whole, mins) = rest.split_at_mut(64);
            let (halves, bytes) = row.split_at(4);
            whole[group * 8 + of_lane * 4..][..4].copy_from_slice(halves);
            let pairs = bytes.as_chunks::<2>().0;
            for (block, [scale, _]) in pairs.iter().enumerate() {
                scales[group * 16 + of_lane * 8 + block] = *scale;
            }
            for (first, lane) in lanes {
                let to = &mut mins[lane * WORD_BYTES + of_lane * OUTPUTS_OF_LANE..][..2];
                [to[0], to[1]] = [pairs[first][1], pairs[first + 4][1]];
            }
        }
        Scales::Scale16 => {
            let (scales, whole) = packed.split_at_mut(256);
            let (half, bytes) = row.split_at(2);
            whole[group * 4 + of_lane * 2..][..2].copy_from_slice(half);
            let to = &mut scales[(of_lane * 8 + group) * 16..][..16];
            for (to, byte) in to.iter_mut().zip(bytes) {
                *to = byte ^ 0x80;
            }
        }
        Scales::ScaleAndMin16 => {
            let (scales, whole) = packed.split_at_mut(256);
            let (halves, bytes) = row.split_at(4);
            whole[group * 8 + of_lane * 4..][..4].copy_from_slice(halves);
            scales[(of_lane * 8 + group) * 16..][..16].copy_from_slice(bytes);
        }
    }
}

fn floats(dtype: GgmlDType, row: &[u8]) -> Vec<f32> {
    let halves = row.as_chunks().0.iter();
    match dtype {
        GgmlDType::F16 => halves.map(|x| f16::from_le_bytes(*x).to_f32()).collect(),
        GgmlDType::BF16 => halves.map(|x| bf16::from_le_bytes(*x).to_f32()).collect(),
        _ => {
            let words = row.as_chunks().0.iter();
            words.map(|x| f32::from_le_bytes(*x)).collect()
        }
    }
}

/// Multiplies a row by the power of two that makes its largest number 2^14 to 2^15, and returns what takes it back. What half
/// precision then cannot tell from zero is less than 2^-38 of the largest.
fn bring_to_half(row: &mut [f32]) -> f32 {
    let magnitudes = row.iter().map(|x| x.abs()).filter(|x| x.is_finite());
    let largest = magnitudes.fold(0f32, f32::max);
    let exponent = (largest.to_bits() >> 23) as i32 - 127;
    let shift = (14 - exponent).clamp(-126, 126);
    let power_of_two = |exponent: i32| f32::from_bits(((exponent + 127) as u32) << 23);
    for x in row {
        *x *= power_of_two(shift);
    }
    power_of_two(-shift)
}
