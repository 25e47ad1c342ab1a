//! Products agree with those of the expanded weights, and a row's product has the same bits in any company and on any
//! path.

use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};

use super::*;

const QUANTIZED: [GgmlDType; 10] = [
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];
const FLOAT: [GgmlDType; 3] = [GgmlDType::F32, GgmlDType::F16, GgmlDType::BF16];

pub(super) fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// A seeded matrix: packed, and the same weights as candle expands them.
fn matrix(dtype: GgmlDType, num_outputs: usize, num_inputs: usize) -> (Matrix, Vec<f32>) {
    let weights = noise(num_outputs * num_inputs, num_outputs as u64);
    let weights = Tensor::from_vec(weights, (num_outputs, num_inputs), &Device::Cpu).unwrap();
    let stored = QTensor::quantize(&weights, dtype).unwrap();
    let expanded = stored.dequantize(&Device::Cpu).unwrap();
    let matrix = Matrix::pack(dtype, &stored.data().unwrap(), num_outputs, num_inputs).unwrap();
    let expanded = expanded.flatten_all().unwrap().to_vec1().unwrap();
    (matrix, expanded)
}

/// Inputs of a length that is no whole number of chunks where the type allows it.
fn odd_len(dtype: GgmlDType) -> usize {
    match dtype.block_size() {
        256 => 512,
        32 => 256 + 96,
        _ => 256 + 77,
    }
}

fn product<'a>(matrix: &'a Matrix, bias: &'a [f32]) -> Product<'a> {
    let bias = Some(bias);
    Product { matrix, bias }
}

fn paths() -> Vec<Path> {
    let integers = dot::Instructions::available();
    let mut paths: Vec<Path> = integers
        .into_iter()
        .map(|integers| Path {
            integers,
            floats: float::Instructions::best(),
        })
        .collect();
    paths.extend(
        float::Instructions::available()
            .into_iter()
            .map(|floats| Path {
                integers: dot::Instructions::best(),
                floats,
            }),
    );
    paths
}

/// Rows as the integer products see them.
fn rounded(input: &[f32], len: usize) -> Vec<f32> {
    let rows = QuantizedRows::new(input, len);
    let mut numbers = Vec::with_capacity(input.len());
    for row in 0..input.len() / len {
        for (index, num_blocks) in chunks(len) {
            let chunk = &rows.chunk(index, row..row + 1)[0];
            for at in 0..num_blocks * BLOCK {
                numbers.push(chunk.scales[at / BLOCK] * f32::from(chunk.numbers[at]));
            }
        }
    }
    numbers
}

#[test]
fn expanded_rows_are_those_of_candle() {
    for dtype in QUANTIZED.into_iter().chain(FLOAT) {
        let len = odd_len(dtype);
        let (matrix, expected) = matrix(dtype, 37, len);
        for (index, expected) in expected.chunks_exact(len).enumerate() {
            let mut row = vec![f32::NAN; len];
            matrix.expand(index, &mut row);
            let worst = row
                .iter()
                .zip(expected)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst <= 1e-7, "{dtype:?}, row {index}: {worst}");
        }
    }
}

#[test]
fn products_agree_with_those_of_the_expanded_weights() {
    const NUM_ROWS: usize = 21;
    for dtype in QUANTIZED.into_iter().chain(FLOAT) {
        let len = odd_len(dtype);
        let (matrix, weights) = matrix(dtype, 37, len);
        let bias = noise(37, 5);
        let input = noise(NUM_ROWS * len, 7);
        // What is lost by rounding rows to eight bits is another test's matter.
        let rounded = match dtype.block_size() {
            1 => input.clone(),
            _ => rounded(&input, len),
        };
        for path in paths() {
            let found = &multiply_with(path, &input, &[product(&matrix, &bias)])[0];
            for (row, input) in rounded.chunks_exact(len).enumerate() {
                for (output, weights) in weights.chunks_exact(len).enumerate() {
                    let expected: f64 = weights
                        .iter()
                        .zip(input)
                        .map(|(&w, &x)| f64::from(w) * f64::from(x))
                        .sum();
                    let found = f64::from(found[row * 37 + output] - bias[output]);
                    let difference = (found - expected).abs();
                    assert!(difference < 1e-4, "{dtype:?}: {found}, not {expected}");
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company() {
    for dtype in QUANTIZED.into_iter().chain(FLOAT) {
        assert_same_in_company(Path::best(), dtype, 37, 1..40);
        assert_same_in_company(Path::best(), dtype, 96, [1, 8, 31]);
        for path in paths() {
            assert_same_in_company(path, dtype, 37, [1, 7, 18]);
        }
    }
}

/// The last rows of forty have the bits that they have among all forty.
fn assert_same_in_company(
    path: Path,
    dtype: GgmlDType,
    num_outputs: usize,
    row_counts: impl IntoIterator<Item = usize>,
) {
    let len = odd_len(dtype);
    let (matrix, _) = matrix(dtype, num_outputs, len);
    let bias = noise(num_outputs, 5);
    let input = noise(40 * len, 7);
    let all = &multiply_with(path, &input, &[product(&matrix, &bias)])[0];
    for num_rows in row_counts {
        let some = &input[(40 - num_rows) * len..];
        let some = &multiply_with(path, some, &[product(&matrix, &bias)])[0];
        let same = &all[(40 - num_rows) * num_outputs..];
        assert!(some == same, "{dtype:?}, {num_outputs} x {num_rows}");
    }
}

#[test]
fn all_integer_paths_give_the_same_bits() {
    for dtype in QUANTIZED {
        let len = odd_len(dtype);
        let (matrix, _) = matrix(dtype, 37, len);
        let bias = noise(37, 5);
        let input = noise(9 * len, 7);
        let expected = multiply(&input, &[product(&matrix, &bias)]);
        for integers in dot::Instructions::available() {
            let floats = float::Instructions::best();
            let path = Path { integers, floats };
            let found = multiply_with(path, &input, &[product(&matrix, &bias)]);
            assert!(found == expected, "{dtype:?} on {integers:?}");
        }
    }
}

#[test]
fn matrices_together_give_what_each_gives_alone() {
    let (len, num_rows) = (512, 70);
    let matrices = [
        GgmlDType::Q4K,
        GgmlDType::F16,
        GgmlDType::Q6K,
        GgmlDType::Q8_0,
    ]
    .map(|dtype| matrix(dtype, 300 + dtype.block_size(), len).0);
    let input = noise(num_rows * len, 7);
    let products = matrices
        .each_ref()
        .map(|matrix| Product { matrix, bias: None });
    let together = multiply(&input, &products);
    for (product, together) in products.iter().zip(&together) {
        assert!(&multiply(&input, &[*product])[0] == together);
    }
}

#[test]
fn no_rows_give_no_results() {
    let (matrix, _) = matrix(GgmlDType::Q8_0, 16, 32);
    let product = Product {
        matrix: &matrix,
        bias: None,
    };
    assert_eq!(multiply(&[], &[product]), [Vec::<f32>::new()]);
}
