//! The product of an unpacked chunk of weights with rows, added to what is there. Integer sums are exact, and every
//! path multiplies and adds in f32 in this one order, so all of them give the same bits.

use super::format::{BLOCK, Format, Kind, PANEL};
use super::rows::RowChunk;
use super::unpack::{Chunk, Weights, unpack};

/// Where a panel's results go.
pub(super) type Output = super::output::Output<PANEL>;

/// The instructions that products run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    /// AVX-512 with VNNI, and the matrix unit for many rows.
    #[cfg(target_arch = "x86_64")]
    Amx,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Instructions {
    /// All that this processor has, best first.
    pub fn available() -> Vec<Self> {
        let mut available = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni") {
                if super::dot_amx::is_available() {
                    available.push(Self::Amx);
                }
                available.push(Self::Avx512Vnni);
            }
            if has!("avx2") && has!("fma") {
                available.push(Self::Avx2);
            }
        }
        available.push(Self::Portable);
        available
    }

    pub fn best() -> Self {
        static BEST: std::sync::OnceLock<Instructions> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }

    /// Expands a packed chunk.
    pub fn unpack<'a>(
        self,
        format: &Format,
        packed: &'a [u8],
        num_blocks: usize,
        chunk: &'a mut Chunk,
    ) -> Weights<'a> {
        match self {
            // SAFETY: a value of these exists only where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Amx | Self::Avx512Vnni => unsafe {
                super::dot_avx512::unpack_avx512(format, packed, num_blocks, chunk)
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe {
                super::dot_avx2::unpack_avx2(format, packed, num_blocks, chunk)
            },
            Self::Portable => unpack(format, packed, num_blocks, chunk),
        }
    }

    /// Adds the products of `chunk` with `rows` to `output`.
    ///
    /// # Safety
    /// `output` must have room for all rows, and nobody else may use that room meanwhile.
    pub unsafe fn dot(self, kind: Kind, weights: &Weights, rows: &[RowChunk], output: Output) {
        // SAFETY: the caller's promise, and as in `unpack`.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Amx => {
                    let done = super::dot_amx::dot(kind, weights, rows, output);
                    let (rows, output) = (&rows[done..], output.after(done));
                    super::dot_avx512::dot(kind, weights, rows, output);
                }
                #[cfg(target_arch = "x86_64")]
                Self::Avx512Vnni => super::dot_avx512::dot(kind, weights, rows, output),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => super::dot_avx2::dot(kind, weights, rows, output),
                Self::Portable => dot_portable(kind, weights, rows, output),
            }
        }
    }
}

/// # Safety
/// As [`Instructions::dot`].
unsafe fn dot_portable(kind: Kind, weights: &Weights, rows: &[RowChunk], output: Output) {
    for (index, row) in rows.iter().enumerate() {
        // SAFETY: the caller's promise.
        let sums = unsafe { output.row(index) };
        for block in 0..weights.num_blocks {
            let [first, second] = halves(weights, block, row);
            let whole: [i32; PANEL] = std::array::from_fn(|lane| first[lane] + second[lane]);
            let scale = row.scales[block];
            for lane in 0..PANEL {
                let of_block = |correction: i32| {
                    (whole[lane] + correction) as f32 * weights.scales[block][lane]
                };
                let of_halves = |corrections: [i32; 2]| {
                    let (first, second) =
                        (first[lane] + corrections[0], second[lane] + corrections[1]);
                    let product = first as f32 * weights.scales[2 * block][lane];
                    (second as f32).mul_add(weights.scales[2 * block + 1][lane], product)
                };
                let product = match kind {
                    Kind::Wide => of_block(row.wide[block]),
                    Kind::Narrow32 => of_block(row.narrow[block]),
                    Kind::Min32 => of_block(0),
                    Kind::Narrow16 => of_halves([
                        row.narrow_halves[2 * block],
                        row.narrow_halves[2 * block + 1],
                    ]),
                    Kind::Min16 => of_halves([0, 0]),
                };
                let mut sum = product.mul_add(scale, sums[lane]);
                match kind {
                    Kind::Min32 => {
                        sum = weights.mins[block][lane].mul_add(row.minimums[block], sum);
                    }
                    Kind::Min16 => {
                        for half in [2 * block, 2 * block + 1] {
                            sum = weights.mins[half][lane].mul_add(row.minimums_halves[half], sum);
                        }
                    }
                    Kind::Wide | Kind::Narrow32 | Kind::Narrow16 => {}
                }
                sums[lane] = sum;
            }
        }
    }
}

/// The sums of products of both halves of a block.
fn halves(weights: &Weights, block: usize, row: &RowChunk) -> [[i32; PANEL]; 2] {
    const GROUPS: usize = BLOCK / 4;
    let mut halves = [[0i32; PANEL]; 2];
    for group in 0..GROUPS {
        let line = weights.numbers[block * GROUPS + group].as_chunks::<4>().0;
        let numbers = &row.numbers[(block * GROUPS + group) * 4..][..4];
        for (sum, weights) in halves[group * 2 / GROUPS].iter_mut().zip(line) {
            for (&weight, &number) in weights.iter().zip(numbers) {
                *sum += i32::from(weight) * i32::from(number);
            }
        }
    }
    halves
}
