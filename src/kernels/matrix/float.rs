//! Products with weights that are floating-point numbers, in f32. A result's sum runs over the inputs in their order,
//! chunk by chunk, whatever the number of rows.

use candle_core::quantized::GgmlDType;

use super::unpack::half_to_float;

/// Output rows that lie side by side, number by number.
pub(in crate::kernels) const PANEL: usize = 32;
/// Inputs that are multiplied at a time.
pub(in crate::kernels) const CHUNK: usize = 128;

/// The number types of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloatType {
    F32,
    F16,
    Bf16,
}

/// One number of all rows of a panel.
pub type Line = [f32; PANEL];

impl FloatType {
    pub fn of(dtype: GgmlDType) -> Option<Self> {
        match dtype {
            GgmlDType::F32 => Some(Self::F32),
            GgmlDType::F16 => Some(Self::F16),
            GgmlDType::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    pub fn num_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Puts the file's bytes of one row between those of the other rows of its panel, `[input, lane]`.
    pub fn pack_row(self, row: &[u8], lane: usize, panel: &mut [u8]) {
        let size = self.num_bytes();
        let numbers = row.chunks_exact(size);
        for (number, line) in numbers.zip(panel.chunks_exact_mut(PANEL * size)) {
            line[lane * size..][..size].copy_from_slice(number);
        }
    }

    /// Expands as many lines as `packed` has.
    #[inline(always)]
    fn unpack(self, packed: &[u8], lines: &mut [Line], instructions: Instructions) {
        match self {
            Self::F32 => {
                for (line, bytes) in lines.iter_mut().zip(packed.chunks_exact(PANEL * 4)) {
                    for (number, bytes) in line.iter_mut().zip(bytes.as_chunks::<4>().0) {
                        *number = f32::from_le_bytes(*bytes);
                    }
                }
            }
            Self::F16 => {
                for (line, bytes) in lines.iter_mut().zip(packed.chunks_exact(PANEL * 2)) {
                    let (halves, _) = bytes.as_chunks::<2>();
                    let (numbers, _) = line.as_chunks_mut::<16>();
                    for (numbers, halves) in numbers.iter_mut().zip(halves.as_chunks().0) {
                        *numbers = instructions.widen(&halves.map(u16::from_le_bytes));
                    }
                }
            }
            Self::Bf16 => {
                for (line, bytes) in lines.iter_mut().zip(packed.chunks_exact(PANEL * 2)) {
                    for (number, bytes) in line.iter_mut().zip(bytes.as_chunks::<2>().0) {
                        *number = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                    }
                }
            }
        }
    }
}

/// The inputs `first..first + lines.len()` of rows that are `len` numbers long.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub numbers: &'a [f32],
    pub len: usize,
    pub first: usize,
}

impl Rows<'_> {
    fn count(&self) -> usize {
        self.numbers.len() / self.len
    }

    fn after(self, num_rows: usize) -> Self {
        Self {
            numbers: &self.numbers[num_rows * self.len..],
            ..self
        }
    }

    #[inline(always)]
    fn row(&self, index: usize, num_inputs: usize) -> &[f32] {
        &self.numbers[index * self.len + self.first..][..num_inputs]
    }
}

/// Where a panel's results go.
pub type Output = super::output::Output<PANEL>;

/// The instructions that products run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512,
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
            if has!("avx512f") && has!("avx512bw") && has!("avx512vl") {
                available.push(Self::Avx512);
            }
            if has!("avx2") && has!("fma") && has!("f16c") {
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

    pub fn unpack(self, float: FloatType, packed: &[u8], lines: &mut [Line]) {
        match self {
            // SAFETY: a value of these exists only where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::unpack_avx512(float, packed, lines) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::unpack_avx2(float, packed, lines) },
            Self::Portable => float.unpack(packed, lines, self),
        }
    }

    /// Half-precision numbers as f32. Fast in functions that are compiled for these instructions.
    #[inline(always)]
    pub fn widen(self, halves: &[u16; 16]) -> [f32; 16] {
        match self {
            // SAFETY: as in `unpack`.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::widen_avx512(halves) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::widen_avx2(halves) },
            Self::Portable => halves.map(half_to_float),
        }
    }

    /// Adds the products of `lines` with `rows` to `output`.
    ///
    /// # Safety
    /// `output` must have room for all rows, and nobody else may use that room meanwhile.
    pub unsafe fn dot(self, lines: &[Line], rows: Rows, output: Output) {
        // SAFETY: the caller's promise, and as in `unpack`.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => x86::dot_avx512(lines, rows, output),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => x86::dot_avx2(lines, rows, output),
                Self::Portable => dot_portable(lines, rows, output),
            }
        }
    }
}

/// # Safety
/// As [`Instructions::dot`].
unsafe fn dot_portable(lines: &[Line], rows: Rows, output: Output) {
    for index in 0..rows.count() {
        let mut sums = [0f32; PANEL];
        for (line, x) in lines.iter().zip(rows.row(index, lines.len())) {
            for (sum, weight) in sums.iter_mut().zip(line) {
                *sum += weight * x;
            }
        }
        // SAFETY: the caller's promise.
        let output = unsafe { output.row(index) };
        for (output, sum) in output.iter_mut().zip(sums) {
            *output += sum;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::needless_range_loop,
    reason = "rows are registers, used side by side with others"
)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{FloatType, Instructions, Line, Output, Rows};

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub fn unpack_avx512(float: FloatType, packed: &[u8], lines: &mut [Line]) {
        float.unpack(packed, lines, Instructions::Avx512);
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn unpack_avx2(float: FloatType, packed: &[u8], lines: &mut [Line]) {
        float.unpack(packed, lines, Instructions::Avx2);
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn widen_avx512(halves: &[u16; 16]) -> [f32; 16] {
        let mut numbers = [0f32; 16];
        // SAFETY: both arrays have 16 numbers.
        unsafe {
            let halves = _mm256_loadu_si256(halves.as_ptr().cast());
            _mm512_storeu_ps(numbers.as_mut_ptr(), _mm512_cvtph_ps(halves));
        }
        numbers
    }

    #[inline]
    #[target_feature(enable = "avx,f16c")]
    pub fn widen_avx2(halves: &[u16; 16]) -> [f32; 16] {
        let mut numbers = [0f32; 16];
        for first in [0, 8] {
            // SAFETY: both arrays have 16 numbers.
            unsafe {
                let halves = _mm_loadu_si128(halves.as_ptr().add(first).cast());
                _mm256_storeu_ps(numbers.as_mut_ptr().add(first), _mm256_cvtph_ps(halves));
            }
        }
        numbers
    }

    /// # Safety
    /// As `Instructions::dot`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub unsafe fn dot_avx512(lines: &[Line], mut rows: Rows, mut output: Output) {
        while rows.count() > 0 {
            // SAFETY: the caller's promise, for the rows that are left.
            let done = unsafe {
                match rows.count() {
                    12.. => tile_avx512::<12>(lines, rows, output),
                    8.. => tile_avx512::<8>(lines, rows, output),
                    7 => tile_avx512::<7>(lines, rows, output),
                    6 => tile_avx512::<6>(lines, rows, output),
                    5 => tile_avx512::<5>(lines, rows, output),
                    4 => tile_avx512::<4>(lines, rows, output),
                    3 => tile_avx512::<3>(lines, rows, output),
                    2 => tile_avx512::<2>(lines, rows, output),
                    _ => tile_avx512::<1>(lines, rows, output),
                }
            };
            (rows, output) = (rows.after(done), output.after(done));
        }
    }

    /// Multiplies the first `N` rows and returns `N`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn tile_avx512<const N: usize>(lines: &[Line], rows: Rows, output: Output) -> usize {
        let inputs: [&[f32]; N] = std::array::from_fn(|row| rows.row(row, lines.len()));
        let mut sums = [[_mm512_setzero_ps(); 2]; N];
        for (index, line) in lines.iter().enumerate() {
            // SAFETY: a line has 32 numbers, and every row as many as there are lines.
            unsafe {
                let weights = [0, 16].map(|first| _mm512_loadu_ps(line.as_ptr().add(first)));
                for row in 0..N {
                    let x = _mm512_set1_ps(*inputs[row].get_unchecked(index));
                    for side in 0..2 {
                        sums[row][side] = _mm512_fmadd_ps(weights[side], x, sums[row][side]);
                    }
                }
            }
        }
        for row in 0..N {
            // SAFETY: the caller's promise.
            unsafe {
                let output = output.row(row).as_mut_ptr();
                for side in 0..2 {
                    let output = output.add(side * 16);
                    let sum = _mm512_add_ps(_mm512_loadu_ps(output), sums[row][side]);
                    _mm512_storeu_ps(output, sum);
                }
            }
        }
        N
    }

    /// # Safety
    /// As `Instructions::dot`.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn dot_avx2(lines: &[Line], mut rows: Rows, mut output: Output) {
        while rows.count() > 0 {
            // SAFETY: the caller's promise, for the rows that are left.
            let done = unsafe {
                match rows.count() {
                    6.. => tile_avx2::<6>(lines, rows, output),
                    2.. => tile_avx2::<2>(lines, rows, output),
                    _ => tile_avx2::<1>(lines, rows, output),
                }
            };
            (rows, output) = (rows.after(done), output.after(done));
        }
    }

    /// Multiplies the first `N` rows, 16 outputs at a time, and returns `N`.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile_avx2<const N: usize>(lines: &[Line], rows: Rows, output: Output) -> usize {
        let inputs: [&[f32]; N] = std::array::from_fn(|row| rows.row(row, lines.len()));
        for half in [0, 16] {
            let mut sums = [[_mm256_setzero_ps(); 2]; N];
            for (index, line) in lines.iter().enumerate() {
                // SAFETY: a line has 32 numbers, and every row as many as there are lines.
                unsafe {
                    let weights =
                        [half, half + 8].map(|first| _mm256_loadu_ps(line.as_ptr().add(first)));
                    for row in 0..N {
                        let x = _mm256_set1_ps(*inputs[row].get_unchecked(index));
                        for side in 0..2 {
                            sums[row][side] = _mm256_fmadd_ps(weights[side], x, sums[row][side]);
                        }
                    }
                }
            }
            for row in 0..N {
                // SAFETY: the caller's promise.
                unsafe {
                    let output = output.row(row).as_mut_ptr();
                    for side in 0..2 {
                        let output = output.add(half + side * 8);
                        let sum = _mm256_add_ps(_mm256_loadu_ps(output), sums[row][side]);
                        _mm256_storeu_ps(output, sum);
                    }
                }
            }
        }
        N
    }
}
