//! Matrix products on a GPU: which kernel of `matrix.cuh` computes them, and with what. Weights are packed once, at load. A
//! row's result has the same bits whatever rows are computed beside it.

mod pack;

use candle_core::quantized::GgmlDType;

use super::launch::Argument;
use super::memory::Memory;
use super::rows::HalfRows;
use pack::Packing;

/// Outputs whose weights lie together; as in the kernels.
const PANEL: usize = 16;
/// Numbers of a row that share a scale, in most types.
const BLOCK: usize = 32;
/// Parts that the inputs are cut into; as in the kernels.
const SLICES: usize = 8;
const PRODUCT_THREADS: u32 = 256;
/// Matrices that are multiplied with the same rows in one launch, at most.
const MAX_PARTS: usize = 3;
/// With fewer blocks of threads than this the slices are computed by blocks of their own, or a GPU would be idle in part.
const FEW_BLOCKS: usize = 128;
/// Bytes of packed weights that are in main memory at a time, about.
const PACKED_AT_ONCE: usize = 32 << 20;

/// Weights `[outputs, inputs]`, and what is added to every product.
#[derive(Debug)]
pub struct DeviceMatrix<M: Memory> {
    packing: Packing,
    weights: M::Buffer,
    /// What every output is multiplied by at last, where the weights are plain numbers.
    factors: Option<M::Buffer>,
    bias: Option<M::Buffer>,
    num_outputs: usize,
    num_inputs: usize,
}

impl<M: Memory> DeviceMatrix<M> {
    /// Packs `bytes`, which hold the matrix row by row as GGUF stores `dtype`, part by part. `bias` is `[num_outputs]`.
    ///
    /// # Panics
    /// When `bytes` or `bias` are not of that size, or `dtype` is one that no file keeps weights in.
    pub fn new(
        memory: &M,
        dtype: GgmlDType,
        bytes: &[u8],
        bias: Option<&[f32]>,
        [num_outputs, num_inputs]: [usize; 2],
    ) -> Result<Self, M::Error> {
        let row_bytes = num_inputs / dtype.block_size() * dtype.type_size();
        assert_eq!(bytes.len(), num_outputs * row_bytes, "{dtype:?}");
        assert!(bias.is_none_or(|bias| bias.len() == num_outputs));
        let packing = Packing::of(dtype);
        let panel_bytes = packing.panel_bytes(num_inputs);
        let mut weights = memory.room(num_outputs.div_ceil(PANEL) * panel_bytes)?;
        let mut factors = Vec::new();
        let num_panels = (PACKED_AT_ONCE / panel_bytes).max(1);
        for (index, rows) in bytes.chunks(num_panels * PANEL * row_bytes).enumerate() {
            let mut packed = vec![0u8; (rows.len() / row_bytes).div_ceil(PANEL) * panel_bytes];
            factors.extend(packing.pack(dtype, rows, num_inputs, &mut packed));
            memory.write(&mut weights, index * num_panels * panel_bytes, &packed)?;
        }
        let upload = |numbers: &[f32]| memory.floats(numbers);
        Ok(Self {
            packing,
            weights,
            factors: (!factors.is_empty())
                .then(|| upload(&factors))
                .transpose()?,
            bias: bias.map(upload).transpose()?,
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

    fn num_panels(&self) -> usize {
        self.num_outputs.div_ceil(PANEL)
    }
}

/// How products are computed. Which one it is changes no bit of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// A block of threads for a panel and so many tiles of eight rows; its warps share the inputs.
    Few { tiles: usize },
    /// A block of threads for eight panels; with `is_split` for one slice of the inputs alone.
    Many { tiles: usize, is_split: bool },
}

impl Kernel {
    fn of(num_rows: usize, num_panels: usize) -> Self {
        match num_rows {
            ..=8 => Self::Few { tiles: 1 },
            9..=16 => Self::Few { tiles: 2 },
            _ => {
                let tiles = if num_rows <= 32 { 4 } else { 8 };
                let num_blocks = num_panels.div_ceil(SLICES) * num_rows.div_ceil(8 * tiles);
                let is_split = num_blocks < FEW_BLOCKS;
                Self::Many { tiles, is_split }
            }
        }
    }

    /// Floats that it needs beside.
    fn scratch_len(self, num_rows: usize, num_panels: usize) -> usize {
        match self {
            Self::Many { is_split: true, .. } => SLICES * num_rows * num_panels * PANEL,
            _ => 0,
        }
    }
}

/// A matrix, and where its products go: f32, `[num_rows, num_outputs]`.
#[derive(Debug)]
pub struct Product<'a, M: Memory> {
    pub matrix: &'a DeviceMatrix<M>,
    pub output: u64,
    pub onto: Option<Onto>,
}

impl<'a, M: Memory> Product<'a, M> {
    /// Added to nothing, and going nowhere yet.
    pub fn alone(matrix: &'a DeviceMatrix<M>) -> Self {
        Self {
            matrix,
            output: 0,
            onto: None,
        }
    }
}

/// What products are added to: `rows + scale * product`, where `rows` is the address of f32 numbers, `[num_rows, num_outputs]`, or
/// 0 for nothing.
#[derive(Debug, Clone, Copy)]
pub struct Onto {
    pub rows: u64,
    pub scale: f32,
}

impl<M: Memory> Clone for Product<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Memory> Copy for Product<'_, M> {}

/// Runs of matrices that are multiplied in one launch: those of one type that follow each other, and are added to nothing.
fn runs<'a, 'b, M: Memory>(
    products: &'b [Product<'a, M>],
) -> impl Iterator<Item = &'b [Product<'a, M>]> {
    products
        .chunk_by(|a, b| {
            a.matrix.packing == b.matrix.packing && a.onto.is_none() && b.onto.is_none()
        })
        .flat_map(|run| run.chunks(MAX_PARTS))
}

fn num_panels<M: Memory>(run: &[Product<'_, M>]) -> usize {
    run.iter().map(|product| product.matrix.num_panels()).sum()
}

/// Floats that [`multiply`] needs beside, for so many rows.
pub fn scratch_len<M: Memory>(products: &[Product<'_, M>], num_rows: usize) -> usize {
    let lens = runs(products).map(|run| {
        let num_panels = num_panels(run);
        Kernel::of(num_rows, num_panels).scratch_len(num_rows, num_panels)
    });
    lens.max().unwrap_or(0)
}

/// At least the [`scratch_len`] of any products of any number of rows.
pub const MAX_SCRATCH_LEN: usize = SLICES * 64 * (FEW_BLOCKS - 1) * SLICES * PANEL;

/// The largest [`scratch_len`] of up to `num_rows` rows.
pub fn max_scratch_len<M: Memory>(products: &[Product<'_, M>], num_rows: usize) -> usize {
    let lens = runs(products).map(|run| {
        let num_panels = num_panels(run);
        // More rows than so many give enough blocks, and are not split.
        let most_rows = 64 * ((FEW_BLOCKS - 1) / num_panels.div_ceil(SLICES));
        SLICES * num_rows.min(most_rows) * num_panels * PANEL
    });
    lens.max().unwrap_or(0)
}

/// Multiplies the same rows with all matrices of `products`.
///
/// # Panics
/// When a matrix is not for rows of this length.
///
/// # Safety
/// Every address must be that of as much memory as its description says: `scratch` that of [`scratch_len`] floats.
pub unsafe fn multiply<M: Memory>(
    memory: &M,
    rows: &HalfRows,
    products: &[Product<'_, M>],
    scratch: u64,
) -> Result<(), M::Error> {
    for run in runs(products) {
        let kernel = Kernel::of(rows.num_rows(), num_panels(run));
        // SAFETY: the caller's promise.
        unsafe { launch_run(memory, kernel, rows, run, scratch)? };
    }
    Ok(())
}

/// # Safety
/// As for [`multiply`].
unsafe fn launch_run<M: Memory>(
    memory: &M,
    kernel: Kernel,
    rows: &HalfRows,
    run: &[Product<'_, M>],
    scratch: u64,
) -> Result<(), M::Error> {
    use Argument::{Address, Float, Int};
    let int = |number: usize| Int(number as i32);
    let mut shared = rows.addresses().to_vec();
    shared.extend([int(rows.num_rows()), int(rows.stride())]);
    let onto = run[0].onto.unwrap_or(Onto {
        rows: 0,
        scale: 1.0,
    });
    shared.extend([Address(onto.rows), Float(onto.scale)]);
    for part in 0..MAX_PARTS {
        let Some(Product { matrix, output, .. }) = run.get(part) else {
            shared.extend([Address(0), Address(0), Address(0), Address(0), Int(0)]);
            continue;
        };
        assert_eq!(
            matrix.num_inputs,
            rows.row_len(),
            "the rows are of another length"
        );
        let optional = |buffer: &Option<M::Buffer>| {
            Address(buffer.as_ref().map_or(0, |buffer| memory.address(buffer)))
        };
        shared.push(Address(memory.address(&matrix.weights)));
        shared.extend([optional(&matrix.factors), optional(&matrix.bias)]);
        shared.extend([Address(*output), int(matrix.num_outputs)]);
    }
    let packing = run[0].matrix.packing;
    let num_panels = num_panels(run);
    let launch = |kernel: &str, grid: [usize; 3], own: &[Argument]| {
        let grid = grid.map(|it| it as u32);
        let arguments = [&shared, own].concat();
        // SAFETY: the caller's promise.
        unsafe { memory.launch(kernel, grid, PRODUCT_THREADS, &arguments) }
    };
    let name = packing.name();
    let num_chunks = int(packing.num_chunks(rows.row_len()));
    match kernel {
        Kernel::Few { tiles } => launch(
            &format!("multiply_few_{name}_{tiles}"),
            [num_panels, rows.num_rows().div_ceil(8 * tiles), 1],
            &[num_chunks],
        ),
        Kernel::Many { tiles, is_split } => {
            let [num_slices, scratch] = if is_split {
                [SLICES as u64, scratch]
            } else {
                [1, 0]
            };
            let num_tiles = rows.num_rows().div_ceil(8 * tiles);
            launch(
                &format!("multiply_many_{name}_{tiles}"),
                [num_panels.div_ceil(SLICES), num_tiles, num_slices as usize],
                &[num_chunks, Address(scratch)],
            )?;
            if !is_split {
                return Ok(());
            }
            let panels_at_once = PRODUCT_THREADS as usize / PANEL;
            launch(
                "add_slices",
                [num_panels.div_ceil(panels_at_once), rows.num_rows(), 1],
                &[Address(scratch), Float(packing.factor())],
            )
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
