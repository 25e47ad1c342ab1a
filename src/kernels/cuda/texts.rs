//! Attention of every text to itself on a GPU, for texts of different lengths side by side: on the tensor cores, with
//! queries, keys and weights rounded to sixteen bits. A text's result depends on that text alone.

use super::attention::{TILE_ROWS, TILE_THREADS};
use super::launch::{Argument, Launch};

/// Sizes of heads that there are kernels for.
const DIMS: [usize; 5] = [32, 64, 80, 96, 128];

/// Whether there is a kernel for `num_heads` heads that together have `width` numbers.
pub fn supports(width: usize, num_heads: usize) -> bool {
    width.is_multiple_of(num_heads) && DIMS.contains(&(width / num_heads))
}

/// What the kernel reads of texts that have `lengths` tokens: four numbers for each tile of rows.
pub fn tiles(lengths: &[usize]) -> Vec<u32> {
    let mut tiles = Vec::new();
    let mut text = 0;
    for &length in lengths {
        for first in (0..length).step_by(TILE_ROWS) {
            let count = TILE_ROWS.min(length - first);
            tiles.extend([text + first, count, text, length].map(|it| it as u32));
        }
        text += length;
    }
    tiles
}

/// As [`attend`](crate::kernels::self_attention::attend): `qkv` is `[num_tokens, 3 * width]`, `output` `[num_tokens, width]`,
/// both f32, and `tiles` the numbers of [`tiles`], `num_tiles` times four.
///
/// # Safety
/// Every address must be that of as much memory as its description says, for heads that are supported.
pub unsafe fn attend<L: Launch>(
    launcher: &L,
    [qkv, tiles, output]: [u64; 3],
    num_tiles: usize,
    width: usize,
    num_heads: usize,
) -> Result<(), L::Error> {
    if num_tiles == 0 {
        return Ok(());
    }
    let arguments = [
        Argument::Address(qkv),
        Argument::Address(tiles),
        Argument::Address(output),
        Argument::Int(width as i32),
        // Exponentials are powers of two.
        Argument::Float(std::f32::consts::LOG2_E),
    ];
    let kernel = format!("attend_text_f16_{}", width / num_heads);
    let grid = [num_tiles as u32, num_heads as u32, 1];
    // SAFETY: the caller's promise.
    unsafe { launcher.launch(&kernel, grid, TILE_THREADS, &arguments) }
}

/// The same in a GPU's memory.
#[cfg(feature = "cuda")]
pub fn attend_on(
    device: &candle_core::CudaDevice,
    qkv: &cudarc::driver::CudaView<'_, f32>,
    lengths: &[usize],
    width: usize,
    num_heads: usize,
) -> candle_core::Result<cudarc::driver::CudaSlice<f32>> {
    use cudarc::driver::DevicePtr;

    let num_tokens: usize = lengths.iter().sum();
    if qkv.len() != num_tokens * 3 * width || !supports(width, num_heads) {
        candle_core::bail!("{num_heads} heads of {width} numbers are not computed here");
    }
    let numbers = tiles(lengths);
    let tiles = device.clone_htod(&numbers)?;
    // SAFETY: every number is written before it is read.
    let output = unsafe { device.alloc::<f32>(num_tokens * width)? };
    let stream = device.cuda_stream();
    let (qkv, _qkv) = qkv.device_ptr(&stream);
    let (tiles, _tiles) = tiles.device_ptr(&stream);
    let (address, guard) = output.device_ptr(&stream);
    // SAFETY: the lengths were checked, and the tiles are made of them.
    unsafe {
        attend(
            &super::gpu::Gpu::new(device),
            [qkv, tiles, address],
            numbers.len() / 4,
            width,
            num_heads,
        )?
    };
    drop(guard);
    Ok(output)
}

#[cfg(all(test, unix))]
mod tests {
    use super::super::emulator::Emulator;
    use super::*;
    use crate::kernels::self_attention;

    #[test]
    fn texts_are_attended_to_as_on_the_cpu() {
        let lengths = [1, 70, 64, 17, 130];
        let num_tokens: usize = lengths.iter().sum();
        for dim in DIMS {
            let (num_heads, width) = (3, 3 * dim);
            let qkv: Vec<f32> = (0..num_tokens * 3 * width)
                .map(|i| (i as f32 * 0.739).sin())
                .collect();
            let numbers = tiles(&lengths);
            let found = vec![f32::NAN; num_tokens * width];
            let addresses = [
                qkv.as_ptr() as u64,
                numbers.as_ptr() as u64,
                found.as_ptr() as u64,
            ];
            let num_tiles = numbers.len() / 4;
            let emulator = Emulator::shared();
            // SAFETY: all memory is as long as its shape says.
            let Ok(()) = unsafe { attend(emulator, addresses, num_tiles, width, num_heads) };
            let found = std::hint::black_box(found);
            let expected = self_attention::attend(&qkv, &lengths, width, num_heads);
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 4e-3,
                    "{dim}: {found}, not {expected}"
                );
            }
        }
    }
}
