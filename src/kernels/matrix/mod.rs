//! Matrices of weights on the CPU, packed once for fast products with rows of activations. A row's result depends on
//! that row alone, to the bit: not on the rows beside it, the threads or the path that is taken.
//!
//! Quantized weights are multiplied in integers with rows that are quantized to eight bits, as in the integer scheme
//! of Jacob et al. 2017 (arXiv:1712.05877). Weights of a panel of output rows lie interleaved, so that one vector holds
//! the same inputs of 16 outputs and nothing has to be summed across a vector.

mod bytes;
mod dot;
#[cfg(target_arch = "x86_64")]
mod dot_amx;
#[cfg(target_arch = "x86_64")]
mod dot_avx2;
#[cfg(target_arch = "x86_64")]
mod dot_avx512;
pub(super) mod float;
mod format;
mod output;
mod pack;
mod rows;
#[cfg(test)]
mod tests;
mod unpack;

use std::ops::Range;

use candle_core::quantized::GgmlDType;

pub use self::bytes::{ByteMatrix, ByteRows};
use self::float::FloatType;
pub(super) use self::format::Format;
use self::format::{BLOCK, CHUNK, Kind};
use self::rows::QuantizedRows;
use self::unpack::{Chunk, Weights};
#[cfg(any(test, feature = "cuda"))]
pub(super) use self::{format::Scales, pack::read_block};
use super::memory::Zeroed;
use super::parallel;

/// Weights `[num_outputs, num_inputs]`, packed.
pub struct Matrix {
    form: Form,
    packed: Zeroed<u8>,
    panel_bytes: usize,
    num_outputs: usize,
    num_inputs: usize,
}

#[derive(Clone, Copy)]
enum Form {
    Quantized(Format),
    Float(FloatType),
}

const CACHE_LINE: usize = 64;

/// A matrix to multiply with, and what is added to every result.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    pub matrix: &'a Matrix,
    /// `[num_outputs]`
    pub bias: Option<&'a [f32]>,
}

impl Matrix {
    /// Packs `bytes`, which hold the matrix row by row as GGUF stores `dtype`. Fails when the system gives no memory.
    ///
    /// # Panics
    /// When `bytes` are not of that size, or `dtype` is one that no file keeps weights in.
    pub fn pack(
        dtype: GgmlDType,
        bytes: &[u8],
        num_outputs: usize,
        num_inputs: usize,
    ) -> std::io::Result<Self> {
        let row_bytes = num_inputs / dtype.block_size() * dtype.type_size();
        assert_eq!(bytes.len(), num_outputs * row_bytes, "{dtype:?}");
        let form = match (Format::of(dtype), FloatType::of(dtype)) {
            (Some(format), _) => Form::Quantized(format),
            (_, Some(float)) => Form::Float(float),
            (None, None) => panic!("{dtype:?} is a type for intermediate results"),
        };
        let (panel, panel_bytes) = match form {
            Form::Quantized(format) => {
                let bytes = chunks(num_inputs).map(|(_, blocks)| format.chunk_bytes(blocks));
                (format::PANEL, bytes.sum())
            }
            Form::Float(float) => (float::PANEL, num_inputs * float::PANEL * float.num_bytes()),
        };
        let mut packed = Zeroed::<u8>::new(num_outputs.div_ceil(panel) * panel_bytes)?;
        let panels = packed.chunks_exact_mut(panel_bytes);
        let panels = panels.zip(bytes.chunks(panel * row_bytes)).collect();
        parallel::for_each(panels, |(to, from): (&mut [u8], &[u8])| match form {
            Form::Quantized(format) => pack_panel(dtype, &format, from, num_inputs, to),
            Form::Float(float) => {
                for (lane, row) in from.chunks_exact(row_bytes).enumerate() {
                    float.pack_row(row, lane, to);
                }
            }
        });
        Ok(Self {
            form,
            packed,
            panel_bytes,
            num_outputs,
            num_inputs,
        })
    }

    pub fn num_outputs(&self) -> usize {
        self.num_outputs
    }

    pub fn num_inputs(&self) -> usize {
        self.num_inputs
    }

    /// Memory that the weights take.
    pub fn num_bytes(&self) -> usize {
        self.packed.len()
    }

    /// Expands the weights of one output into `row`, `[num_inputs]`.
    pub fn expand(&self, output: usize, row: &mut [f32]) {
        assert!(output < self.num_outputs && row.len() == self.num_inputs);
        match self.form {
            Form::Quantized(format) => {
                let (panel, lane) = (output / format::PANEL, output % format::PANEL);
                let mut chunk = Chunk::new();
                let instructions = dot::Instructions::best();
                let packed = packed_chunks(&format, self.panel(panel), self.num_inputs);
                for ((_, packed, num_blocks), row) in packed.zip(row.chunks_mut(CHUNK)) {
                    let weights = instructions.unpack(&format, packed, num_blocks, &mut chunk);
                    for (at, x) in row.iter_mut().enumerate() {
                        *x = weights.number(format.kind, at, lane);
                    }
                }
            }
            Form::Float(float) => {
                let (panel, lane) = (output / float::PANEL, output % float::PANEL);
                let line_bytes = float::PANEL * float.num_bytes();
                let mut line = [[0f32; float::PANEL]];
                let lines = self.panel(panel).chunks_exact(line_bytes);
                for (x, packed) in row.iter_mut().zip(lines) {
                    float::Instructions::best().unpack(float, packed, &mut line);
                    *x = line[0][lane];
                }
            }
        }
    }

    fn panel(&self, index: usize) -> &[u8] {
        &self.packed[index * self.panel_bytes..][..self.panel_bytes]
    }

    /// Output rows of one panel.
    fn panel_width(&self) -> usize {
        match self.form {
            Form::Quantized(_) => format::PANEL,
            Form::Float(_) => float::PANEL,
        }
    }

    fn num_panels(&self) -> usize {
        self.num_outputs.div_ceil(self.panel_width())
    }
}

/// Multiplies rows `[num_rows, num_inputs]` with each of the matrices, which all have that many inputs. The results are
/// `[num_rows, num_outputs]`.
pub fn multiply(input: &[f32], products: &[Product]) -> Vec<Vec<f32>> {
    multiply_with(Path::best(), input, products)
}

/// The instructions that a product runs on.
#[derive(Clone, Copy)]
struct Path {
    integers: dot::Instructions,
    floats: float::Instructions,
}

impl Path {
    fn best() -> Self {
        Self {
            integers: dot::Instructions::best(),
            floats: float::Instructions::best(),
        }
    }
}

fn multiply_with(path: Path, input: &[f32], products: &[Product]) -> Vec<Vec<f32>> {
    let Some(first) = products.first() else {
        return Vec::new();
    };
    let num_inputs = first.matrix.num_inputs;
    assert!(products.iter().all(|p| p.matrix.num_inputs == num_inputs));
    assert!(input.len().is_multiple_of(num_inputs));
    let num_rows = input.len() / num_inputs;
    let is_quantized = |p: &Product| matches!(p.matrix.form, Form::Quantized(_));
    let quantized = products
        .iter()
        .any(is_quantized)
        .then(|| QuantizedRows::new(input, num_inputs));

    let mut outputs: Vec<Vec<f32>> = products
        .iter()
        .map(|p| vec![0f32; num_rows * p.matrix.num_outputs])
        .collect();
    let targets: Vec<Target> = products
        .iter()
        .zip(&mut outputs)
        .map(|(&product, output)| Target {
            product,
            output: output.as_mut_ptr(),
            num_rows,
        })
        .collect();
    let num_panels: usize = targets.iter().map(|t| t.product.matrix.num_panels()).sum();
    let number_bytes = match quantized {
        Some(_) => size_of::<rows::RowChunk>() / CHUNK,
        None => size_of::<f32>(),
    };
    let rows_per_tile = rows_per_tile(num_rows, num_inputs * number_bytes);
    let num_tiles = num_rows.div_ceil(rows_per_tile);
    let work = |items: Range<usize>| {
        let mut scratch = Scratch::new();
        for item in items {
            let first_row = item / num_panels * rows_per_tile;
            let rows = first_row..num_rows.min(first_row + rows_per_tile);
            let mut panel = item % num_panels;
            for target in &targets {
                let num_panels = target.product.matrix.num_panels();
                if panel < num_panels {
                    // SAFETY: every item is another panel or other rows, so no two threads write the same results,
                    // and nobody reads the outputs before all items are done.
                    unsafe {
                        target.compute(path, panel, rows, input, quantized.as_ref(), &mut scratch);
                    }
                    break;
                }
                panel -= num_panels;
            }
        }
    };
    let num_outputs: usize = products.iter().map(|p| p.matrix.num_outputs).sum();
    if num_rows * num_inputs * num_outputs < SMALL {
        work(0..num_tiles * num_panels);
    } else {
        parallel::for_each_range(num_tiles * num_panels, work);
    }
    outputs
}

/// Multiplications that one thread has done before others have woken up.
const SMALL: usize = 256 * 1024;

/// Rows that stay in the second-level cache while all panels pass by.
fn rows_per_tile(num_rows: usize, row_bytes: usize) -> usize {
    const CACHE_BYTES: usize = 768 * 1024;
    let most = CACHE_BYTES / row_bytes.max(1);
    let num_tiles = num_rows.div_ceil(most.max(32)).max(1);
    num_rows.div_ceil(num_tiles).next_multiple_of(16).max(16)
}

/// So few rows that the weights' way from memory is what takes the time.
const FEW_ROWS: usize = 8;

/// Lets as many bytes as these, and after them, come from memory while these are computed with.
fn prefetch_after(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes.len()).step_by(CACHE_LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let next = bytes.as_ptr().wrapping_add(bytes.len() + line);
        // SAFETY: it is only a hint, which may point anywhere.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(next.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// What one thread expands weights into.
struct Scratch {
    chunk: Chunk,
    lines: [float::Line; float::CHUNK],
    /// Results of a panel that has fewer outputs than lanes.
    narrow: Vec<f32>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            chunk: Chunk::new(),
            lines: [[0.0; float::PANEL]; float::CHUNK],
            narrow: Vec::new(),
        }
    }
}

/// A product and where its results go.
struct Target<'a> {
    product: Product<'a>,
    /// `[num_rows, num_outputs]`
    output: *mut f32,
    num_rows: usize,
}

// SAFETY: the pointer is only used in `compute`, whose callers keep their writes apart.
unsafe impl Sync for Target<'_> {}

impl Target<'_> {
    /// Computes the results of one panel for some rows.
    ///
    /// # Safety
    /// No other thread may use these results meanwhile.
    unsafe fn compute(
        &self,
        path: Path,
        panel: usize,
        rows: Range<usize>,
        input: &[f32],
        quantized: Option<&QuantizedRows>,
        scratch: &mut Scratch,
    ) {
        let matrix = self.product.matrix;
        let width = matrix.panel_width();
        let first_output = panel * width;
        let num_outputs = width.min(matrix.num_outputs - first_output);
        assert!(rows.end <= self.num_rows);
        let is_narrow = num_outputs < width;
        let (first, stride) = if is_narrow {
            scratch.narrow.clear();
            scratch.narrow.resize(rows.len() * width, 0.0);
            (scratch.narrow.as_mut_ptr(), width)
        } else {
            let offset = rows.start * matrix.num_outputs + first_output;
            (self.output.wrapping_add(offset), matrix.num_outputs)
        };
        // SAFETY: the rows and the panel's outputs lie inside the output, or in the scratch made for them, and are
        // written by this thread only.
        unsafe {
            if let (false, Some(bias)) = (is_narrow, self.product.bias) {
                for row in 0..rows.len() {
                    let to = std::slice::from_raw_parts_mut(first.add(row * stride), width);
                    to.copy_from_slice(&bias[first_output..][..width]);
                }
            }
            match (matrix.form, quantized) {
                (Form::Quantized(format), Some(quantized)) => {
                    let output = dot::Output { first, stride };
                    let packed = matrix.panel(panel);
                    for (index, packed, num_blocks) in
                        packed_chunks(&format, packed, matrix.num_inputs)
                    {
                        let chunk = &mut scratch.chunk;
                        if rows.len() <= FEW_ROWS {
                            prefetch_after(packed);
                        }
                        let weights = path.integers.unpack(&format, packed, num_blocks, chunk);
                        let rows = quantized.chunk(index, rows.clone());
                        path.integers.dot(format.kind, &weights, rows, output);
                    }
                }
                (Form::Float(float), _) => {
                    let output = float::Output { first, stride };
                    let packed = matrix.panel(panel);
                    let chunk_bytes = float::CHUNK * float::PANEL * float.num_bytes();
                    for (index, packed) in packed.chunks(chunk_bytes).enumerate() {
                        let num_lines = packed.len() / (float::PANEL * float.num_bytes());
                        let lines = &mut scratch.lines[..num_lines];
                        path.floats.unpack(float, packed, lines);
                        let rows = float::Rows {
                            numbers: &input
                                [rows.start * matrix.num_inputs..rows.end * matrix.num_inputs],
                            len: matrix.num_inputs,
                            first: index * float::CHUNK,
                        };
                        path.floats.dot(lines, rows, output);
                    }
                }
                (Form::Quantized(_), None) => unreachable!("its rows were quantized"),
            }
            if is_narrow {
                for (row, from) in rows.zip(scratch.narrow.chunks_exact(width)) {
                    let offset = row * matrix.num_outputs + first_output;
                    let to = std::slice::from_raw_parts_mut(self.output.add(offset), num_outputs);
                    to.copy_from_slice(&from[..num_outputs]);
                    if let Some(bias) = self.product.bias {
                        for (x, bias) in to.iter_mut().zip(&bias[first_output..]) {
                            *x += bias;
                        }
                    }
                }
            }
        }
    }
}

impl Weights<'_> {
    /// What one number of the chunk stands for.
    fn number(&self, kind: Kind, at: usize, lane: usize) -> f32 {
        let number = i32::from(self.numbers[at / 4][lane * 4 + at % 4]);
        let (block, half) = (at / BLOCK, at / (BLOCK / 2));
        let scale = match kind {
            Kind::Wide | Kind::Narrow32 | Kind::Min32 => self.scales[block][lane],
            Kind::Narrow16 | Kind::Min16 => self.scales[half][lane],
        };
        match kind {
            Kind::Wide => scale * (number - 128) as f32,
            Kind::Narrow32 | Kind::Narrow16 => scale * (number - 32) as f32,
            Kind::Min32 => scale * number as f32 - self.mins[block][lane],
            Kind::Min16 => scale * number as f32 - self.mins[half][lane],
        }
    }
}

/// Index and number of blocks of every chunk of a row.
fn chunks(num_inputs: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..num_inputs.div_ceil(CHUNK))
        .map(move |index| (index, (num_inputs - index * CHUNK).min(CHUNK) / BLOCK))
}

/// Every chunk of a panel: its index, its bytes and how many blocks it has.
fn packed_chunks<'a>(
    format: &Format,
    panel: &'a [u8],
    num_inputs: usize,
) -> impl Iterator<Item = (usize, &'a [u8], usize)> {
    let format = *format;
    // All chunks but the last are whole.
    let whole = format.chunk_bytes(format::CHUNK_BLOCKS);
    chunks(num_inputs).map(move |(index, num_blocks)| {
        let packed = &panel[index * whole..][..format.chunk_bytes(num_blocks)];
        (index, packed, num_blocks)
    })
}

/// Packs up to 16 rows of the file, `rows`, into one panel.
fn pack_panel(dtype: GgmlDType, format: &Format, rows: &[u8], num_inputs: usize, to: &mut [u8]) {
    let row_bytes = num_inputs / format.file_block.0 * format.file_block.1;
    let whole = format.chunk_bytes(format::CHUNK_BLOCKS);
    let file_whole = CHUNK / format.file_block.0 * format.file_block.1;
    for (index, num_blocks) in chunks(num_inputs) {
        let file_bytes = num_blocks * BLOCK / format.file_block.0 * format.file_block.1;
        let parts: Vec<&[u8]> = rows
            .chunks_exact(row_bytes)
            .map(|row| &row[index * file_whole..][..file_bytes])
            .collect();
        let to = &mut to[index * whole..][..format.chunk_bytes(num_blocks)];
        pack::pack_chunk(dtype, format, &parts, num_blocks, to);
    }
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Matrix({} x {})", self.num_outputs, self.num_inputs)
    }
}
