//! Products with weights that are kept in eight bits with one scale for 64 inputs of an output. They are quantized here,
//! from f32, so the form is ours to choose: twice as many numbers a scale as GGUF's Q8_0 has, and panels of two vectors,
//! so that less is left beside the multiplications. Rows are unsigned (128 added), weights signed, as the instruction of
//! VNNI wants them; each panel knows what the 128 add up to.
//!
//! Integer sums are exact, and every path multiplies and adds in f32 in one order, so all of them give the same bits.

use super::rows::round;
use crate::kernels::memory::{Plain, Zeroed};
use crate::kernels::parallel;

/// Output rows that lie side by side.
const PANEL: usize = 32;
/// Numbers that share a scale.
const GROUP: usize = 64;
/// Inputs that one instruction multiplies.
const STEP: usize = 4;

/// Where a panel's results go.
type Output = super::output::Output<PANEL>;

/// One group of a panel.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Group {
    /// `[step, output, input within the step]`
    numbers: [[[i8; STEP]; PANEL]; GROUP / STEP],
    /// -128 times the sum of an output's numbers.
    offsets: [i32; PANEL],
    scales: [f32; PANEL],
}

// SAFETY: it is made of integers and floats, without padding: 2048, 128 and 128 bytes.
unsafe impl Plain for Group {}

/// Weights `[num_outputs, num_inputs]`, quantized to eight bits.
pub struct ByteMatrix {
    /// `[panel, group]`
    groups: Zeroed<Group>,
    num_outputs: usize,
    num_inputs: usize,
}

impl ByteMatrix {
    /// Whether this processor multiplies eight-bit numbers faster than f32, and a matrix of this shape can be kept so.
    pub fn suits(num_outputs: usize, num_inputs: usize) -> bool {
        Instructions::best() != Instructions::Portable
            && num_outputs.is_multiple_of(PANEL)
            && num_inputs.is_multiple_of(GROUP)
    }

    /// Fails when the system gives no memory.
    ///
    /// # Panics
    /// When the outputs are not a multiple of 32, the inputs not one of 64, or `weights` not as many as that makes.
    pub fn quantize(
        weights: &[f32],
        num_outputs: usize,
        num_inputs: usize,
    ) -> std::io::Result<Self> {
        assert!(num_outputs.is_multiple_of(PANEL) && num_inputs.is_multiple_of(GROUP));
        assert_eq!(weights.len(), num_outputs * num_inputs);
        let num_groups = num_inputs / GROUP;
        let mut groups = Zeroed::new(num_outputs / PANEL * num_groups)?;
        let panels = groups.chunks_exact_mut(num_groups.max(1));
        let panels = panels.zip(weights.chunks(PANEL * num_inputs)).collect();
        parallel::for_each(panels, |(to, from)| quantize_panel(from, num_inputs, to));
        Ok(Self {
            groups,
            num_outputs,
            num_inputs,
        })
    }

    pub fn num_outputs(&self) -> usize {
        self.num_outputs
    }

    /// Memory that the weights take.
    pub fn num_bytes(&self) -> usize {
        size_of_val(&*self.groups)
    }

    /// Multiplies `rows`, of `num_inputs` numbers each, and adds `bias`, `[num_outputs]`. The result is `[num_rows,
    /// num_outputs]`; a row's part of it depends on that row alone, to the bit.
    pub fn multiply(&self, rows: &ByteRows, bias: Option<&[f32]>, output: &mut [f32]) {
        self.multiply_with(Instructions::best(), rows, bias, output);
    }

    fn multiply_with(
        &self,
        instructions: Instructions,
        rows: &ByteRows,
        bias: Option<&[f32]>,
        output: &mut [f32],
    ) {
        let num_groups = self.num_inputs / GROUP;
        assert_eq!(rows.num_groups, num_groups);
        assert_eq!(output.len(), rows.num_rows * self.num_outputs);
        assert!(bias.is_none_or(|bias| bias.len() == self.num_outputs));
        for (index, panel) in self.groups.chunks_exact(num_groups).enumerate() {
            let first = index * PANEL;
            let zeros = [0f32; PANEL];
            let bias = bias.map_or(&zeros, |bias| {
                bias[first..].first_chunk().expect("it was counted")
            });
            let output = Output {
                first: output[first..].as_mut_ptr(),
                stride: self.num_outputs,
            };
            // SAFETY: the output has `num_outputs` numbers for every row, and is this call's alone.
            unsafe { instructions.dot(panel, rows, bias, output) };
        }
    }
}

/// Quantizes 32 rows of weights, `[output, num_inputs]`.
fn quantize_panel(weights: &[f32], num_inputs: usize, groups: &mut [Group]) {
    for (lane, row) in weights.chunks_exact(num_inputs).enumerate() {
        for (group, numbers) in groups.iter_mut().zip(row.as_chunks::<GROUP>().0) {
            let (scale, inverse) = scale(numbers);
            let mut sum = 0;
            for (at, x) in numbers.iter().enumerate() {
                let number = (x * inverse).round() as i8;
                sum += i32::from(number);
                group.numbers[at / STEP][lane][at % STEP] = number;
            }
            group.offsets[lane] = -128 * sum;
            group.scales[lane] = scale;
        }
    }
}

/// The scale of a group, and what its numbers are multiplied by.
#[inline(always)]
fn scale(numbers: &[f32; GROUP]) -> (f32, f32) {
    // Magnitudes are ordered as their bits are, and what is no number comes last: it makes the whole group so.
    let mut largest = [0u32; 16];
    for part in numbers.as_chunks::<16>().0 {
        for (largest, x) in largest.iter_mut().zip(part) {
            *largest = (*largest).max(x.abs().to_bits());
        }
    }
    scale_of(f32::from_bits(largest.into_iter().fold(0, u32::max)))
}

/// The same for the largest of its magnitudes.
#[inline(always)]
fn scale_of(largest: f32) -> (f32, f32) {
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    (largest / 127.0, inverse)
}

/// Rows in eight bits.
#[derive(Default)]
pub struct ByteRows {
    /// `[block, group, row of the block]`, so that what is multiplied together lies together.
    numbers: Vec<[u8; GROUP]>,
    scales: Vec<f32>,
    num_rows: usize,
    num_groups: usize,
}

/// Rows that are multiplied at a time: their sums fit in registers.
const BLOCK: usize = 12;

impl ByteRows {
    /// A multiple of as many rows is multiplied fastest.
    pub const BLOCK: usize = BLOCK;

    /// Takes the memory over for other rows: `rows` is `[num_rows, len]`, and `len` a multiple of 64.
    pub fn quantize(&mut self, rows: &[f32], len: usize) {
        assert!(len.is_multiple_of(GROUP) && rows.len().is_multiple_of(len));
        self.num_rows = rows.len() / len;
        self.num_groups = len / GROUP;
        let num_places = self.num_rows.next_multiple_of(BLOCK) * self.num_groups;
        self.numbers.resize(num_places, [0; GROUP]);
        self.scales.resize(num_places, 0.0);
        #[cfg(target_arch = "x86_64")]
        if Instructions::best() == Instructions::Avx512Vnni {
            // SAFETY: the processor has these instructions.
            return unsafe { x86::quantize(rows.as_chunks().0, self) };
        }
        self.quantize_with(rows.as_chunks().0, |group, numbers| {
            let (scale, inverse) = scale(group);
            for (number, x) in numbers.iter_mut().zip(group) {
                *number = (round(x * inverse) + 128) as u8;
            }
            scale
        });
    }

    /// `quantize` returns the scale of a group.
    #[inline(always)]
    fn quantize_with(
        &mut self,
        groups: &[[f32; GROUP]],
        quantize: impl Fn(&[f32; GROUP], &mut [u8; GROUP]) -> f32,
    ) {
        let mut at = 0;
        for row in 0..self.num_rows {
            for group in 0..self.num_groups {
                let place = self.place(row, group);
                self.scales[place] = quantize(&groups[at], &mut self.numbers[place]);
                at += 1;
            }
        }
    }

    #[inline(always)]
    fn place(&self, row: usize, group: usize) -> usize {
        (row / BLOCK * self.num_groups + group) * BLOCK + row % BLOCK
    }

    /// Numbers and scales of the `N` rows from `first` on, all of one block, in one group.
    #[inline(always)]
    fn part<const N: usize>(&self, first: usize, group: usize) -> (&[[u8; GROUP]; N], &[f32; N]) {
        let place = self.place(first, group);
        let numbers = self.numbers[place..].first_chunk();
        numbers
            .zip(self.scales[place..].first_chunk())
            .expect("a block is whole")
    }
}

/// The instructions that products run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
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
                available.push(Self::Avx512Vnni);
            }
        }
        available.push(Self::Portable);
        available
    }

    pub fn best() -> Self {
        static BEST: std::sync::OnceLock<Instructions> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }

    /// Puts the products of a panel with the rows, and `bias`, into `output`.
    ///
    /// # Safety
    /// `output` must have room for all rows, and nobody else may use that room meanwhile.
    unsafe fn dot(self, panel: &[Group], rows: &ByteRows, bias: &[f32; PANEL], output: Output) {
        // SAFETY: the caller's promise; a value of these exists only where the processor has the instructions.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512Vnni => x86::dot(panel, rows, bias, output),
                Self::Portable => dot_portable(panel, rows, bias, output),
            }
        }
    }
}

/// # Safety
/// As [`Instructions::dot`].
unsafe fn dot_portable(panel: &[Group], rows: &ByteRows, bias: &[f32; PANEL], output: Output) {
    for row in 0..rows.num_rows {
        // SAFETY: the caller's promise.
        let output = unsafe { output.row(row) };
        *output = *bias;
        for (index, group) in panel.iter().enumerate() {
            let ([numbers], [scale]) = rows.part::<1>(row, index);
            let mut sums = group.offsets;
            for (weights, numbers) in group.numbers.iter().zip(numbers.as_chunks::<STEP>().0) {
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    for (&weight, &number) in weights.iter().zip(numbers) {
                        *sum += i32::from(weight) * i32::from(number);
                    }
                }
            }
            for ((output, sum), of_weights) in output.iter_mut().zip(sums).zip(group.scales) {
                *output = (sum as f32).mul_add(of_weights * scale, *output);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, ByteRows, GROUP, Group, Output, PANEL, STEP};

    /// As [`ByteRows::quantize`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub fn quantize(groups: &[[f32; GROUP]], rows: &mut ByteRows) {
        rows.quantize_with(groups, |group, numbers| quantize_group(group, numbers));
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn quantize_group(group: &[f32; GROUP], numbers: &mut [u8; GROUP]) -> f32 {
        let mut parts = [_mm512_setzero_ps(); GROUP / 16];
        let mut largest = _mm512_setzero_si512();
        for (part, x) in parts.iter_mut().zip(group.as_chunks::<16>().0) {
            // SAFETY: there are 16 numbers.
            *part = unsafe { _mm512_loadu_ps(x.as_ptr()) };
            let magnitudes = _mm512_castps_si512(_mm512_abs_ps(*part));
            largest = _mm512_max_epu32(largest, magnitudes);
        }
        let (scale, inverse) = super::scale_of(f32::from_bits(_mm512_reduce_max_epu32(largest)));
        let inverse = _mm512_set1_ps(inverse);
        for (part, to) in parts.into_iter().zip(numbers.as_chunks_mut::<16>().0) {
            let rounded = _mm512_cvtps_epi32(_mm512_mul_ps(part, inverse));
            let rounded = _mm512_max_epi32(rounded, _mm512_set1_epi32(-127));
            let number = _mm512_add_epi32(rounded, _mm512_set1_epi32(128));
            // SAFETY: there are 16 bytes.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtusepi32_epi8(number)) };
        }
        scale
    }

    /// # Safety
    /// As `Instructions::dot`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub unsafe fn dot(panel: &[Group], rows: &ByteRows, bias: &[f32; PANEL], output: Output) {
        // Weights are read once for all rows: the next panel comes from memory while this one is computed with, a part of
        // it with every tile.
        let num_ahead = size_of_val(panel).div_ceil(rows.num_rows.div_ceil(BLOCK).max(1));
        let mut ahead = panel.as_ptr_range().end.cast::<i8>();
        let mut next = 0;
        while next < rows.num_rows {
            for line in (0..num_ahead).step_by(64) {
                // It is only a hint, which may point anywhere.
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line));
            }
            ahead = ahead.wrapping_add(num_ahead);
            let output = output.after(next);
            // SAFETY: the caller's promise, for the rows that are left.
            next += unsafe {
                match rows.num_rows - next {
                    BLOCK.. => tile::<BLOCK>(panel, rows, next, bias, output),
                    8.. => tile::<8>(panel, rows, next, bias, output),
                    4.. => tile::<4>(panel, rows, next, bias, output),
                    2.. => tile::<2>(panel, rows, next, bias, output),
                    _ => tile::<1>(panel, rows, next, bias, output),
                }
            };
        }
    }

    /// Multiplies `N` rows of one block and returns `N`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn tile<const N: usize>(
        panel: &[Group],
        rows: &ByteRows,
        first: usize,
        bias: &[f32; PANEL],
        output: Output,
    ) -> usize {
        for row in 0..N {
            // SAFETY: the output has `N` rows by the caller's promise.
            unsafe { *output.row(row) = *bias };
        }
        for (index, group) in panel.iter().enumerate() {
            let (numbers, scales) = rows.part::<N>(first, index);
            // SAFETY: offsets and scales are 32 numbers, a step of weights has 128 bytes, a row's group 16 steps, and
            // the output `N` rows of 32 numbers by the caller's promise.
            unsafe {
                let offsets = group.offsets.as_ptr();
                let offsets = [
                    _mm512_loadu_si512(offsets.cast()),
                    _mm512_loadu_si512(offsets.add(16).cast()),
                ];
                let mut sums = [offsets; N];
                for step in 0..GROUP / STEP {
                    let weights = group.numbers[step].as_ptr();
                    let weights = [
                        _mm512_loadu_si512(weights.cast()),
                        _mm512_loadu_si512(weights.add(16).cast()),
                    ];
                    for row in 0..N {
                        let four: *const i32 = numbers[row].as_ptr().cast();
                        let four = _mm512_set1_epi32(four.add(step).read_unaligned());
                        for side in 0..2 {
                            sums[row][side] =
                                _mm512_dpbusd_epi32(sums[row][side], four, weights[side]);
                        }
                    }
                }
                let of_weights = group.scales.as_ptr();
                let of_weights = [
                    _mm512_loadu_ps(of_weights),
                    _mm512_loadu_ps(of_weights.add(16)),
                ];
                for row in 0..N {
                    let output = output.row(row).as_mut_ptr();
                    let scale = _mm512_set1_ps(scales[row]);
                    for side in 0..2 {
                        let output = output.add(side * 16);
                        let scale = _mm512_mul_ps(of_weights[side], scale);
                        let sum = _mm512_cvtepi32_ps(sums[row][side]);
                        let sum = _mm512_fmadd_ps(sum, scale, _mm512_loadu_ps(output));
                        _mm512_storeu_ps(output, sum);
                    }
                }
            }
        }
        N
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::*;

    const NUM_OUTPUTS: usize = 3 * PANEL;
    const NUM_INPUTS: usize = 5 * GROUP;

    fn matrix() -> (ByteMatrix, Vec<f32>) {
        let weights = noise(NUM_OUTPUTS * NUM_INPUTS, 3);
        let matrix = ByteMatrix::quantize(&weights, NUM_OUTPUTS, NUM_INPUTS).unwrap();
        (matrix, weights)
    }

    /// A row as it is after rounding to eight bits: at most half a step off.
    fn rounded(row: &[f32]) -> Vec<f64> {
        let round = |group: &[f32; GROUP]| {
            let largest = group.iter().fold(0f32, |a, b| a.max(b.abs()));
            let step = f64::from(largest / 127.0);
            group.map(|x| (f64::from(x) / step).round() * step)
        };
        row.as_chunks().0.iter().flat_map(round).collect()
    }

    fn multiply(
        matrix: &ByteMatrix,
        path: Instructions,
        input: &[f32],
        bias: Option<&[f32]>,
    ) -> Vec<f32> {
        let mut rows = ByteRows::default();
        rows.quantize(input, NUM_INPUTS);
        let mut output = vec![f32::NAN; rows.num_rows * NUM_OUTPUTS];
        matrix.multiply_with(path, &rows, bias, &mut output);
        output
    }

    #[test]
    fn products_are_those_of_numbers_rounded_to_eight_bits() {
        let (matrix, weights) = matrix();
        let bias = noise(NUM_OUTPUTS, 5);
        let input = noise(29 * NUM_INPUTS, 7);
        for instructions in Instructions::available() {
            let found = multiply(&matrix, instructions, &input, Some(&bias));
            for (row, found) in input.chunks(NUM_INPUTS).zip(found.chunks(NUM_OUTPUTS)) {
                let row = rounded(row);
                for ((weights, bias), found) in weights.chunks(NUM_INPUTS).zip(&bias).zip(found) {
                    let products = rounded(weights).into_iter().zip(&row).map(|(w, x)| w * x);
                    let expected = products.sum::<f64>() + f64::from(*bias);
                    // A number that lies between two steps may go to either side.
                    assert!(
                        (f64::from(*found) - expected).abs() < 2e-2,
                        "{found}, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_any_company_and_on_any_path() {
        let (matrix, _) = matrix();
        let input = noise(61 * NUM_INPUTS, 11);
        let all = multiply(&matrix, Instructions::best(), &input, None);
        for instructions in Instructions::available() {
            for num_rows in [1, 2, 3, 13, 23, 61] {
                let some = multiply(&matrix, instructions, &input[..num_rows * NUM_INPUTS], None);
                assert!(some == all[..some.len()], "{instructions:?}, {num_rows}");
            }
        }
    }

    #[test]
    fn zeros_stay_zeros_and_what_is_no_number_stays_none() {
        let (matrix, _) = matrix();
        let mut input = vec![0f32; 2 * NUM_INPUTS];
        input[NUM_INPUTS + 70] = f32::NAN;
        let output = multiply(&matrix, Instructions::best(), &input, None);
        assert!(output[..NUM_OUTPUTS].iter().all(|x| *x == 0.0));
        assert!(output[NUM_OUTPUTS..].iter().all(|x| x.is_nan()));
    }
}
