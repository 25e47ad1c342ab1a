//! Matrix products with rows in a GPU's memory.

use candle_core::{Result, bail};
use cudarc::driver::{CudaSlice, CudaView, DevicePtr};

use super::gpu::Gpu;
use super::matrix::{DeviceMatrix, HalfRows, Product, halve, multiply, scratch_len};
use super::memory::Memory;

/// What all of `matrices` give for `num_rows` rows, `[num_rows, inputs]`: `[num_rows, outputs]` of one matrix after the other.
pub fn multiply_on(
    gpu: &Gpu,
    input: &CudaView<'_, f32>,
    num_rows: usize,
    matrices: &[&DeviceMatrix<Gpu>],
) -> Result<CudaSlice<f32>> {
    let len = matrices.first().map_or(0, |matrix| matrix.num_inputs());
    let is_fitting = |matrix: &&DeviceMatrix<Gpu>| matrix.num_inputs() == len;
    if num_rows == 0 || input.len() != num_rows * len || !matrices.iter().all(is_fitting) {
        bail!("{num_rows} rows of {len} numbers were expected");
    }
    let num_outputs: usize = matrices.iter().map(|matrix| matrix.num_outputs()).sum();
    let stream = gpu.device().cuda_stream();
    // SAFETY: every number is written before it is read.
    let output = unsafe { gpu.device().alloc::<f32>(num_rows * num_outputs)? };
    let room = gpu.room(HalfRows::num_bytes(num_rows, len))?;
    let rows = HalfRows::new(gpu.address(&room), num_rows, len);
    // All of it is used on the one stream, in order; the guards are for programs with several.
    let (input, _input) = input.device_ptr(&stream);
    let (first, guard) = output.device_ptr(&stream);
    let mut next = first;
    let products: Vec<Product<Gpu>> = matrices
        .iter()
        .map(|matrix| {
            let output = next;
            next += (num_rows * matrix.num_outputs() * size_of::<f32>()) as u64;
            Product { matrix, output }
        })
        .collect();
    let scratch = gpu.room(scratch_len(&products, num_rows) * size_of::<f32>())?;
    // SAFETY: all lengths were checked here or follow from the matrices.
    unsafe {
        halve(gpu, input, &rows)?;
        multiply(gpu, &rows, &products, gpu.address(&scratch))?;
    }
    drop(guard);
    Ok(output)
}
