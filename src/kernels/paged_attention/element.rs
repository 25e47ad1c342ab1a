//! The types that keys and values are kept in.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::kernels::matrix::float::Instructions;
use crate::kernels::memory::Plain;

/// Numbers that share a scale, in types that have scales.
pub const SCALE_GROUP: usize = 32;

/// Numbers that are read at a time.
pub(super) const LANES: usize = 16;

/// What keys and values may be stored in.
pub trait CacheElement: Plain + Default + Send + Sync {
    /// Whether a stored number stands for its product with the scale of its group; a head's dimensions must then be a
    /// multiple of [`SCALE_GROUP`].
    const IS_SCALED: bool = false;

    /// `scales` has a place for every group, none if there are no scales. What is stored is finite: a row reads numbers
    /// that it does not see, and nothing but an infinity or NaN would be left of them when their weight is zero.
    fn store(from: &[f32], to: &mut [Self], scales: &mut [f16]);

    /// The numbers as f32, without their scales. Must run in a function that is compiled for `instructions`.
    fn read(from: &[Self; LANES], instructions: Instructions) -> [f32; LANES];
}

impl CacheElement for f32 {
    fn store(from: &[f32], to: &mut [Self], _: &mut [f16]) {
        for (from, to) in from.iter().zip(to) {
            *to = within(*from, f32::MAX);
        }
    }

    #[inline(always)]
    fn read(from: &[Self; LANES], _: Instructions) -> [f32; LANES] {
        *from
    }
}

impl CacheElement for f16 {
    fn store(from: &[f32], to: &mut [Self], _: &mut [f16]) {
        let max = f16::MAX.to_f32_const();
        let (from, from_rest) = from.as_chunks::<LANES>();
        let (to, to_rest) = to.as_chunks_mut::<LANES>();
        for (from, to) in from.iter().zip(to) {
            to.convert_from_f32_slice(&from.map(|number| within(number, max)));
        }
        for (from, to) in from_rest.iter().zip(to_rest) {
            *to = f16::from_f32(within(*from, max));
        }
    }

    #[inline(always)]
    fn read(from: &[Self; LANES], instructions: Instructions) -> [f32; LANES] {
        instructions.widen(&from.map(f16::to_bits))
    }
}

impl CacheElement for bf16 {
    fn store(from: &[f32], to: &mut [Self], _: &mut [f16]) {
        for (from, to) in from.iter().zip(to) {
            *to = bf16::from_f32(within(*from, bf16::MAX.to_f32_const()));
        }
    }

    #[inline(always)]
    fn read(from: &[Self; LANES], _: Instructions) -> [f32; LANES] {
        from.map(|number| f32::from_bits(u32::from(number.to_bits()) << 16))
    }
}

/// The number, or the end of the range that it is beyond; NaN is beyond the lower.
#[inline(always)]
fn within(number: f32, max: f32) -> f32 {
    number.max(-max).min(max)
}

/// As in the type Q8_0 of GGUF.
impl CacheElement for i8 {
    const IS_SCALED: bool = true;

    fn store(from: &[f32], to: &mut [Self], scales: &mut [f16]) {
        let (from, _) = from.as_chunks::<SCALE_GROUP>();
        let (to, _) = to.as_chunks_mut::<SCALE_GROUP>();
        for ((numbers, to), stored_scale) in from.iter().zip(to).zip(scales) {
            let largest = numbers
                .iter()
                .fold(0f32, |max, number| max.max(number.abs()));
            *stored_scale = f16::from_f32((largest / 127.0).min(f16::MAX.to_f32_const()));
            // By the scale as it is stored: what is read is then as near as it can be.
            let scale = stored_scale.to_f32();
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            for (number, to) in numbers.iter().zip(to) {
                // The cast saturates.
                *to = (number * inverse).round() as i8;
            }
        }
    }

    #[inline(always)]
    fn read(from: &[Self; LANES], _: Instructions) -> [f32; LANES] {
        from.map(f32::from)
    }
}
