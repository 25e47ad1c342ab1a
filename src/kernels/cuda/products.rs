//! Matrix products with rows in a GPU's memory.

use candle_core::{Result, bail};
use cudarc::driver::{CudaSlice, CudaStream, CudaView, DevicePtr};

use super::gpu::Gpu;
use super::matrix::{DeviceMatrix, Onto, Product, multiply, scratch_len};
use super::memory::Memory;
use super::rows::{Gate, HalfRows, Source, halve};

/// f32 rows in a GPU's memory, and what is made of them first; see [`Source`].
#[derive(Debug)]
pub enum RowsOn<'a> {
    Plain(CudaView<'a, f32>),
    Normed {
        rows: CudaView<'a, f32>,
        weight: CudaView<'a, f32>,
        epsilon: f32,
    },
    Gated {
        gate: CudaView<'a, f32>,
        up: CudaView<'a, f32>,
        gate_is: Gate,
    },
}

impl RowsOn<'_> {
    fn has_shape(&self, num_rows: usize, len: usize) -> bool {
        let is_whole = |rows: &CudaView<'_, f32>| rows.len() == num_rows * len;
        match self {
            Self::Plain(rows) => is_whole(rows),
            Self::Normed { rows, weight, .. } => is_whole(rows) && weight.len() == len,
            Self::Gated { gate, up, .. } => is_whole(gate) && is_whole(up),
        }
    }

    fn source(&self, stream: &CudaStream) -> Source {
        // All of it is used on the one stream, in order; the guards are for programs with several.
        let address = |rows: &CudaView<'_, f32>| rows.device_ptr(stream).0;
        match self {
            Self::Plain(rows) => Source::Plain {
                rows: address(rows),
            },
            Self::Normed {
                rows,
                weight,
                epsilon,
            } => Source::Normed {
                rows: address(rows),
                weight: address(weight),
                epsilon: *epsilon,
            },
            Self::Gated { gate, up, gate_is } => Source::Gated {
                gate: address(gate),
                up: address(up),
                gate_is: *gate_is,
            },
        }
    }
}

/// What all of `matrices` give for `num_rows` rows, `[num_rows, inputs]`: `[num_rows, outputs]` of one matrix after the other.
/// With `onto`, `[num_rows, outputs]` and a scale, the products of the only matrix are multiplied by the scale and added to it.
pub fn multiply_on(
    gpu: &Gpu,
    input: &RowsOn,
    num_rows: usize,
    matrices: &[&DeviceMatrix<Gpu>],
    onto: Option<(&CudaView<'_, f32>, f32)>,
) -> Result<CudaSlice<f32>> {
    let len = matrices.first().map_or(0, |matrix| matrix.num_inputs());
    let is_fitting = |matrix: &&DeviceMatrix<Gpu>| matrix.num_inputs() == len;
    if num_rows == 0 || !input.has_shape(num_rows, len) || !matrices.iter().all(is_fitting) {
        bail!("{num_rows} rows of {len} numbers were expected");
    }
    let is_fitting = |(rows, _): (&CudaView<'_, f32>, f32)| matches!(matrices, [only] if rows.len() == num_rows * only.num_outputs());
    if !onto.is_none_or(is_fitting) {
        bail!("products can only be added to rows of their own shape");
    }
    let num_outputs: usize = matrices.iter().map(|matrix| matrix.num_outputs()).sum();
    let stream = gpu.device().cuda_stream();
    // SAFETY: every number is written before it is read.
    let output = unsafe { gpu.device().alloc::<f32>(num_rows * num_outputs)? };
    let room = gpu.room(HalfRows::num_bytes(num_rows, len))?;
    let rows = HalfRows::new(gpu.address(&room), num_rows, len);
    let (first, guard) = output.device_ptr(&stream);
    let mut next = first;
    let products: Vec<Product<Gpu>> = matrices
        .iter()
        .map(|matrix| {
            let output = next;
            next += (num_rows * matrix.num_outputs() * size_of::<f32>()) as u64;
            let onto = onto.map(|(rows, scale)| Onto {
                rows: rows.device_ptr(&stream).0,
                scale,
            });
            Product {
                matrix,
                output,
                onto,
            }
        })
        .collect();
    let scratch = gpu.room(scratch_len(&products, num_rows) * size_of::<f32>())?;
    // SAFETY: all lengths were checked here or follow from the matrices.
    unsafe {
        halve(gpu, input.source(&stream), &rows)?;
        multiply(gpu, &rows, &products, gpu.address(&scratch))?;
    }
    drop(guard);
    Ok(output)
}
