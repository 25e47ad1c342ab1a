//! How each GGUF type is kept once packed: which bit planes its numbers are cut into, which scales stand beside them.
//! The block layouts are ggml's (<https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>).

use candle_core::quantized::GgmlDType;

/// Output rows that lie side by side, number by number: one vector of 16 lanes.
pub(super) const PANEL: usize = 16;
/// Numbers of a row that share one scale of the other factor.
pub(super) const BLOCK: usize = 32;
/// Blocks that are unpacked at a time.
pub(super) const CHUNK_BLOCKS: usize = 8;
/// Numbers of a row that are unpacked at a time.
pub(super) const CHUNK: usize = BLOCK * CHUNK_BLOCKS;

/// What an unpacked number `u`, unsigned, stands for, and how many numbers share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernels) enum Kind {
    /// `scale * (u - 128)`, 32 numbers a scale.
    Wide,
    /// `scale * (u - 32)`, 32 numbers a scale. `u` is below 64, as in all that follow.
    Narrow32,
    /// `scale * (u - 32)`, 16 numbers a scale.
    Narrow16,
    /// `scale * u - min`, 32 numbers a scale.
    Min32,
    /// `scale * u - min`, 16 numbers a scale.
    Min16,
}

// Kinds as parameters of types.
pub(super) const WIDE: u8 = Kind::Wide as u8;
pub(super) const NARROW_32: u8 = Kind::Narrow32 as u8;
pub(super) const NARROW_16: u8 = Kind::Narrow16 as u8;
pub(super) const MIN_32: u8 = Kind::Min32 as u8;
pub(super) const MIN_16: u8 = Kind::Min16 as u8;

/// How the scales of a chunk are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernels) enum Scales {
    /// A half-precision scale a block.
    Half,
    /// A half-precision scale and a half-precision addend a block.
    HalfAndAddend,
    /// Half-precision scale and minimum a chunk; integer scale and minimum a block.
    ScaleAndMin32,
    /// Half-precision scale a chunk; signed integer scale a half block.
    Scale16,
    /// Half-precision scale and minimum a chunk; four bits each of scale and minimum a half block.
    ScaleAndMin16,
}

/// The packed form of one GGUF type. A number is `low + (high << low_bits) + added`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernels) struct Format {
    pub low_bits: usize,
    pub high_bits: usize,
    /// Brings the type's own offset to the one of its kind.
    pub added: u8,
    pub kind: Kind,
    pub scales: Scales,
    /// Numbers and bytes of the file's blocks.
    pub file_block: (usize, usize),
}

impl Format {
    /// `None` for the types that are no quantization of weights.
    pub fn of(dtype: GgmlDType) -> Option<Self> {
        let format = |low_bits, high_bits, added, kind, scales| Self {
            low_bits,
            high_bits,
            added,
            kind,
            scales,
            file_block: (dtype.block_size(), dtype.type_size()),
        };
        Some(match dtype {
            GgmlDType::Q4_0 => format(4, 0, 24, Kind::Narrow32, Scales::Half),
            GgmlDType::Q4_1 => format(4, 0, 0, Kind::Min32, Scales::HalfAndAddend),
            GgmlDType::Q5_0 => format(4, 1, 16, Kind::Narrow32, Scales::Half),
            GgmlDType::Q5_1 => format(4, 1, 0, Kind::Min32, Scales::HalfAndAddend),
            GgmlDType::Q8_0 => format(8, 0, 0, Kind::Wide, Scales::Half),
            GgmlDType::Q2K => format(2, 0, 0, Kind::Min16, Scales::ScaleAndMin16),
            GgmlDType::Q3K => format(2, 1, 28, Kind::Narrow16, Scales::Scale16),
            GgmlDType::Q4K => format(4, 0, 0, Kind::Min32, Scales::ScaleAndMin32),
            GgmlDType::Q5K => format(4, 1, 0, Kind::Min32, Scales::ScaleAndMin32),
            GgmlDType::Q6K => format(4, 2, 0, Kind::Narrow16, Scales::Scale16),
            _ => return None,
        })
    }

    /// Bytes of the low and the high plane of one block of all rows of a panel.
    pub fn plane_bytes(&self) -> (usize, usize) {
        let numbers = PANEL * BLOCK;
        (numbers * self.low_bits / 8, numbers * self.high_bits / 8)
    }

    /// Bytes of the scales of a panel's chunk of `num_blocks` blocks.
    pub fn scale_bytes(&self, num_blocks: usize) -> usize {
        PANEL
            * match self.scales {
                Scales::Half => 2 * num_blocks,
                Scales::HalfAndAddend => 4 * num_blocks,
                Scales::ScaleAndMin32 => 4 + 2 * num_blocks,
                Scales::Scale16 => 2 + 2 * num_blocks,
                Scales::ScaleAndMin16 => 4 + 2 * num_blocks,
            }
    }

    /// Bytes of a panel's chunk: low planes, high planes, scales; whole cache lines.
    pub fn chunk_bytes(&self, num_blocks: usize) -> usize {
        let (low, high) = self.plane_bytes();
        (num_blocks * (low + high) + self.scale_bytes(num_blocks)).next_multiple_of(64)
    }
}
