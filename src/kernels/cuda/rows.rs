//! Rows of activations on their way into a matrix product: what is done with their numbers is done while they are rounded to half
//! precision, with a power of two for each row. `elementwise.cu` has the kernels. A row's result depends on that row alone.

use super::launch::{Argument, Launch};

/// Threads for each row; as in the kernels.
const ROW_THREADS: u32 = 256;
/// Heads that a block of threads norms, with a warp each; as in the kernel.
const ROW_WARPS: usize = 8;
/// Rounded rows are so many numbers long, or a multiple of it: whole chunks of every type of weights.
const STRIDE: usize = 256;
/// Rows that a product computes together, at most; memory is for whole tiles of them.
const MAX_TILE_ROWS: usize = 64;

/// Where rounded rows are: their numbers, sums and factors, one after the other in one piece of memory.
#[derive(Debug, Clone, Copy)]
pub struct HalfRows {
    address: u64,
    num_rows: usize,
    len: usize,
}

impl HalfRows {
    /// `address` must be a multiple of sixteen and that of [`HalfRows::num_bytes`] bytes.
    pub fn new(address: u64, num_rows: usize, len: usize) -> Self {
        Self {
            address,
            num_rows,
            len,
        }
    }

    /// Bytes that `num_rows` rows of `len` numbers take.
    pub fn num_bytes(num_rows: usize, len: usize) -> usize {
        let rows = Self::new(0, num_rows, len);
        rows.factors() as usize + rows.num_padded() * size_of::<f32>()
    }

    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// Numbers of a row.
    pub fn row_len(&self) -> usize {
        self.len
    }

    /// Numbers from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.len.next_multiple_of(STRIDE)
    }

    fn num_padded(&self) -> usize {
        self.num_rows.next_multiple_of(MAX_TILE_ROWS)
    }

    fn sums(&self) -> u64 {
        self.address + (self.num_padded() * self.stride() * 2) as u64
    }

    fn factors(&self) -> u64 {
        self.sums() + (self.num_padded() * self.stride() / 16 * size_of::<u32>()) as u64
    }

    /// Numbers, sums and factors.
    pub(super) fn addresses(&self) -> [Argument; 3] {
        [self.address, self.sums(), self.factors()].map(Argument::Address)
    }
}

/// Addresses of f32 numbers, `[num_rows, len]`, and what is made of them before they are rounded.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    Plain {
        rows: u64,
    },
    /// Divided by their root mean square and multiplied with `weight`, `[len]`.
    Normed {
        rows: u64,
        weight: u64,
        epsilon: f32,
    },
    /// `gate` through its activation times `up`.
    Gated {
        gate: u64,
        up: u64,
        gate_is: Gate,
    },
}

/// The activations of gated networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    Silu,
    /// With GELU's approximation by a hyperbolic tangent.
    GeluTanh,
}

/// Rounds rows that are made of `source`.
///
/// # Safety
/// All addresses must be those of as much memory as they are for.
pub unsafe fn halve<L: Launch>(
    launcher: &L,
    source: Source,
    rows: &HalfRows,
) -> Result<(), L::Error> {
    use Argument::{Address, Float, Int};
    let (kernel, mut arguments) = match source {
        Source::Plain { rows } => ("halve_rows", vec![Address(rows)]),
        Source::Normed {
            rows,
            weight,
            epsilon,
        } => (
            "halve_normed_rows",
            vec![Address(rows), Address(weight), Float(epsilon)],
        ),
        Source::Gated { gate, up, gate_is } => (
            match gate_is {
                Gate::Silu => "halve_silu_rows",
                Gate::GeluTanh => "halve_gelu_rows",
            },
            vec![Address(gate), Address(up)],
        ),
    };
    arguments.push(Int(rows.len as i32));
    arguments.extend(rows.addresses());
    arguments.push(Int(rows.stride() as i32));
    // SAFETY: the caller's promise.
    unsafe {
        launcher.launch(
            kernel,
            [rows.num_rows as u32, 1, 1],
            ROW_THREADS,
            &arguments,
        )
    }
}

/// Heads of queries and keys, f32, `[num_rows, num_heads, dim]` and `[num_rows, num_kv_heads, dim]`, with the weights, `[dim]`,
/// that they are multiplied with after they were divided by their root mean square.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub query: u64,
    pub key: u64,
    pub query_weight: u64,
    pub key_weight: u64,
    pub num_heads: usize,
    pub num_kv_heads: usize,
    pub dim: usize,
}

/// Norms the heads of `num_rows` rows in place.
///
/// # Safety
/// All addresses must be those of as much memory as they are for.
pub unsafe fn norm_heads<L: Launch>(
    launcher: &L,
    heads: &Heads,
    num_rows: usize,
    epsilon: f32,
) -> Result<(), L::Error> {
    use Argument::{Address, Float, Int};
    let mut arguments = [heads.query, heads.key, heads.query_weight, heads.key_weight]
        .map(Address)
        .to_vec();
    arguments.push(Float(epsilon));
    arguments.extend([heads.num_heads, heads.num_kv_heads, heads.dim].map(|it| Int(it as i32)));
    let num_heads = heads.num_heads + heads.num_kv_heads;
    let grid = [num_rows as u32, num_heads.div_ceil(ROW_WARPS) as u32, 1];
    // SAFETY: the caller's promise.
    unsafe { launcher.launch("norm_heads", grid, ROW_THREADS, &arguments) }
}

/// What is added to rows: `scale` times `update`, `[num_rows, len]`, which is divided by its root mean square and multiplied with
/// `weight`, `[len]`.
#[derive(Debug, Clone, Copy)]
pub struct NormedUpdate {
    pub update: u64,
    pub weight: u64,
    pub epsilon: f32,
    pub scale: f32,
}

/// Adds to `rows`, `[num_rows, len]`.
///
/// # Safety
/// All addresses must be those of as much memory as they are for.
pub unsafe fn add_normed<L: Launch>(
    launcher: &L,
    rows: u64,
    update: &NormedUpdate,
    [num_rows, len]: [usize; 2],
) -> Result<(), L::Error> {
    use Argument::{Address, Float, Int};
    let arguments = [
        Address(rows),
        Address(update.update),
        Address(update.weight),
        Float(update.epsilon),
        Float(update.scale),
        Int(len as i32),
    ];
    let grid = [num_rows as u32, 1, 1];
    // SAFETY: the caller's promise.
    unsafe { launcher.launch("add_normed_rows", grid, ROW_THREADS, &arguments) }
}

/// Makes row `i` of `output`, `[num_chosen, len]`, what row `chosen[i]` of `rows` is. `chosen` is the address of `num_chosen` u32.
///
/// # Safety
/// All addresses must be those of as much memory as they are for, and `rows` have the rows that are chosen.
pub unsafe fn gather<L: Launch>(
    launcher: &L,
    [rows, chosen, output]: [u64; 3],
    [num_chosen, len]: [usize; 2],
) -> Result<(), L::Error> {
    let arguments = [
        Argument::Address(rows),
        Argument::Address(chosen),
        Argument::Address(output),
        Argument::Int(len as i32),
    ];
    let grid = [num_chosen as u32, 1, 1];
    // SAFETY: the caller's promise.
    unsafe { launcher.launch("gather_rows", grid, ROW_THREADS, &arguments) }
}

/// Copies `num_bytes` bytes, a multiple of sixteen.
///
/// # Safety
/// Both addresses must be multiples of sixteen and those of so many bytes, which must not overlap.
pub unsafe fn copy<L: Launch>(
    launcher: &L,
    from: u64,
    to: u64,
    num_bytes: usize,
) -> Result<(), L::Error> {
    const PIECE_BYTES: usize = 16;
    assert!(num_bytes.is_multiple_of(PIECE_BYTES));
    let num_pieces = num_bytes / PIECE_BYTES;
    let arguments = [
        Argument::Address(from),
        Argument::Address(to),
        Argument::Int(num_pieces as i32),
    ];
    let grid = [num_pieces.div_ceil(ROW_THREADS as usize) as u32, 1, 1];
    // SAFETY: the caller's promise.
    unsafe { launcher.launch("copy_pieces", grid, ROW_THREADS, &arguments) }
}

#[cfg(all(test, unix))]
mod tests {
    use half::f16;

    use super::super::emulator::Emulator;
    use super::super::memory::Memory;
    use super::*;
    use crate::kernels::activation::{geglu, swiglu};
    use crate::kernels::norm::rms_norm;

    fn noise(len: usize, seed: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i + 7919 * seed) as f32 * 0.739).sin() * 3.0)
            .collect()
    }

    /// What is made of three rows, as products see it.
    fn halved(source: Source, len: usize) -> Vec<f32> {
        const NUM_ROWS: usize = 3;
        let emulator = Emulator::shared();
        let Ok(room) = emulator.room(HalfRows::num_bytes(NUM_ROWS, len));
        let rows = HalfRows::new(emulator.address(&room), NUM_ROWS, len);
        // SAFETY: all memory is as long as its shape says.
        let Ok(()) = unsafe { halve(emulator, source, &rows) };
        let bytes: Vec<u8> = std::hint::black_box(room)
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let number = |at: usize| f16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]).to_f32();
        let float = |at: usize| f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut numbers = Vec::new();
        for row in 0..NUM_ROWS {
            let factor = float(rows.factors() as usize - rows.address as usize + 4 * row);
            let first = row * rows.stride();
            for at in 0..rows.stride() {
                // Piece t of a block has numbers 4t to 4t + 3 of both halves.
                let (block, half, piece, i) = (at / 32, at / 16 % 2, at % 16 / 4, at % 4);
                let x = number(first + block * 32 + piece * 8 + half * 4 + i);
                assert!(x.abs() <= 2048.0);
                match at < len {
                    true => numbers.push(x * factor),
                    false => assert_eq!(x, 0.0),
                }
            }
            for half_block in 0..rows.stride() / 16 {
                let (block, half) = (half_block / 2, half_block % 2);
                let of_half = (0..16).map(|i| first + block * 32 + i / 4 * 8 + half * 4 + i % 4);
                let expected: f32 = of_half.map(number).sum();
                let sums = (rows.sums() - rows.address) as usize / 2;
                let at = sums + (row * rows.stride() / 16 + half_block) * 2;
                let found = number(at) + number(at + 1);
                assert!((found - expected).abs() <= 1e-6 * expected.abs());
            }
        }
        numbers
    }

    /// Half precision has eleven bits.
    fn check(found: &[f32], expected: &[f32]) {
        check_within(6e-4, found, expected);
    }

    fn check_within(tolerance: f32, found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < tolerance * expected.abs().max(1e-3),
                "{found}, not {expected}"
            );
        }
    }

    #[test]
    fn rows_are_rounded_to_eleven_bits_and_padded_with_zeros() {
        for len in [77, 256, 352] {
            let input = noise(3 * len, 1);
            let rows = input.as_ptr() as u64;
            check(&halved(Source::Plain { rows }, len), &input);
        }
    }

    #[test]
    fn rows_are_normed_as_on_the_cpu() {
        let len = 352;
        let (input, weight) = (noise(3 * len, 1), noise(len, 2));
        let source = Source::Normed {
            rows: input.as_ptr() as u64,
            weight: weight.as_ptr() as u64,
            epsilon: 1e-5,
        };
        check(&halved(source, len), &rms_norm(&input, &weight, 1e-5));
    }

    #[test]
    fn gates_are_those_of_the_cpu() {
        let len = 300;
        let (gate, up) = (noise(3 * len, 1), noise(3 * len, 2));
        for (gate_is, expected) in [
            (Gate::Silu, swiglu(&gate, &up)),
            (Gate::GeluTanh, geglu(&gate, &up)),
        ] {
            let source = Source::Gated {
                gate: gate.as_ptr() as u64,
                up: up.as_ptr() as u64,
                gate_is,
            };
            check(&halved(source, len), &expected);
        }
    }

    #[test]
    fn heads_of_queries_and_keys_are_normed_as_on_the_cpu() {
        const NUM_ROWS: usize = 3;
        for (num_heads, num_kv_heads, dim) in [(4, 2, 24), (7, 3, 128), (9, 1, 40)] {
            let query = noise(NUM_ROWS * num_heads * dim, 1);
            let key = noise(NUM_ROWS * num_kv_heads * dim, 2);
            let (query_weight, key_weight) = (noise(dim, 3), noise(dim, 4));
            let expected = [
                rms_norm(&query, &query_weight, 1e-5),
                rms_norm(&key, &key_weight, 1e-5),
            ];
            let mut found = [query, key];
            let heads = Heads {
                query: found[0].as_mut_ptr() as u64,
                key: found[1].as_mut_ptr() as u64,
                query_weight: query_weight.as_ptr() as u64,
                key_weight: key_weight.as_ptr() as u64,
                num_heads,
                num_kv_heads,
                dim,
            };
            // SAFETY: all memory is as long as its shape says.
            let Ok(()) = unsafe { norm_heads(Emulator::shared(), &heads, NUM_ROWS, 1e-5) };
            for (found, expected) in std::hint::black_box(found).iter().zip(&expected) {
                check_within(1e-5, found, expected);
            }
        }
    }

    #[test]
    fn normed_updates_are_added_times_their_scale() {
        const LEN: usize = 352;
        let (mut rows, update, weight) = (noise(3 * LEN, 1), noise(3 * LEN, 2), noise(LEN, 3));
        let normed = rms_norm(&update, &weight, 1e-5);
        let sums = rows.iter().zip(&normed).map(|(row, it)| row + 0.75 * it);
        let expected: Vec<f32> = sums.collect();
        let normed = NormedUpdate {
            update: update.as_ptr() as u64,
            weight: weight.as_ptr() as u64,
            epsilon: 1e-5,
            scale: 0.75,
        };
        let address = rows.as_mut_ptr() as u64;
        // SAFETY: all memory is as long as its shape says.
        let Ok(()) = unsafe { add_normed(Emulator::shared(), address, &normed, [3, LEN]) };
        for (found, expected) in std::hint::black_box(rows).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
        }
    }
}
