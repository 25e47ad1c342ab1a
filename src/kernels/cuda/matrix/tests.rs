//! Products on the emulator, against those of the weights as candle expands them, and against themselves in other company.

use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};

use super::super::emulator::Emulator;
use super::super::rows::{Source, halve};
use super::*;

const TYPES: [GgmlDType; 13] = [
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
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::F32,
];

fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// A seeded matrix as a file has it, and its numbers.
struct Stored {
    dtype: GgmlDType,
    bytes: Vec<u8>,
    numbers: Vec<f32>,
    shape: [usize; 2],
}

fn stored(dtype: GgmlDType, shape: [usize; 2], seed: u64) -> Stored {
    let [outputs, inputs] = shape;
    let numbers = Tensor::from_vec(
        noise(outputs * inputs, seed),
        (outputs, inputs),
        &Device::Cpu,
    );
    let tensor = QTensor::quantize(&numbers.unwrap(), dtype).unwrap();
    let numbers = tensor.dequantize(&Device::Cpu).unwrap();
    Stored {
        dtype,
        bytes: tensor.data().unwrap().to_vec(),
        numbers: numbers.flatten_all().unwrap().to_vec1().unwrap(),
        shape,
    }
}

impl Stored {
    fn on_device(&self, bias: Option<&[f32]>) -> DeviceMatrix<Emulator> {
        let emulator = Emulator::shared();
        let Ok(matrix) = DeviceMatrix::new(emulator, self.dtype, &self.bytes, bias, self.shape);
        matrix
    }

    /// In double precision.
    fn expected(&self, input: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let [outputs, inputs] = self.shape;
        let mut products = Vec::new();
        for row in input.chunks_exact(inputs) {
            for output in 0..outputs {
                let weights = &self.numbers[output * inputs..][..inputs];
                let terms = row.iter().zip(weights);
                let sum: f64 = terms.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                products.push((sum + bias.map_or(0.0, |bias| f64::from(bias[output]))) as f32);
            }
        }
        products
    }
}

fn bytes_of(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn plain(rows: &<Emulator as Memory>::Buffer) -> Source {
    let rows = Emulator::shared().address(rows);
    Source::Plain { rows }
}

/// Multiplies all matrices with the rows of `input`.
fn multiply_all(matrices: &[&DeviceMatrix<Emulator>], input: &[f32]) -> Vec<Vec<f32>> {
    multiply_onto(matrices, input, None)
}

/// The same, times a number and added to something.
fn multiply_onto(
    matrices: &[&DeviceMatrix<Emulator>],
    input: &[f32],
    onto: Option<(&[f32], f32)>,
) -> Vec<Vec<f32>> {
    let emulator = Emulator::shared();
    let len = matrices[0].num_inputs();
    let num_rows = input.len() / len;
    let Ok(mut given) = emulator.room(input.len() * 4);
    let Ok(()) = emulator.write(&mut given, 0, &bytes_of(input));
    let Ok(room) = emulator.room(HalfRows::num_bytes(num_rows, len));
    let rows = HalfRows::new(emulator.address(&room), num_rows, len);
    let outputs: Vec<Vec<f32>> = matrices
        .iter()
        .map(|matrix| vec![f32::NAN; num_rows * matrix.num_outputs()])
        .collect();
    let products: Vec<Product<Emulator>> = matrices
        .iter()
        .zip(&outputs)
        .map(|(matrix, output)| Product {
            matrix,
            output: output.as_ptr() as u64,
            onto: onto.map(|(rows, scale)| Onto {
                rows: rows.as_ptr() as u64,
                scale,
            }),
        })
        .collect();
    let Ok(scratch) = emulator.room(scratch_len(&products, num_rows) * 4);
    let scratch = emulator.address(&scratch);
    // SAFETY: all memory is as long as its shape says.
    let Ok(()) = unsafe { halve(emulator, plain(&given), &rows) };
    let Ok(()) = unsafe { multiply(emulator, &rows, &products, scratch) };
    std::hint::black_box(outputs)
}

/// The largest difference, as a fraction of the expected numbers' root mean square.
fn relative_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let squares = expected.iter().map(|x| x * x).sum::<f32>();
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let worst = worst.fold(
        0.0,
        |worst: f32, it| {
            if it > worst || it.is_nan() { it } else { worst }
        },
    );
    worst / (squares / expected.len() as f32).sqrt()
}

/// Inputs of a length that is no whole number of chunks where the type allows it.
fn odd_len(dtype: GgmlDType) -> usize {
    match dtype.block_size() {
        256 => 512,
        32 => 256 + 96,
        _ => 256 + 77,
    }
}

#[test]
fn products_agree_with_those_of_the_expanded_weights() {
    for dtype in TYPES {
        let stored = stored(dtype, [37, odd_len(dtype)], 3);
        let bias = noise(37, 5);
        let matrix = stored.on_device(Some(&bias));
        let input = noise(65 * odd_len(dtype), 7);
        let expected = stored.expected(&input, Some(&bias));
        let found = &multiply_all(&[&matrix], &input)[0];
        // Rows are rounded to eleven bits.
        let difference = relative_difference(found, &expected);
        assert!(difference < 2e-3, "{dtype:?}: {difference}");
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company() {
    for dtype in TYPES {
        let len = odd_len(dtype);
        let stored = stored(dtype, [37, len], 3);
        let matrix = stored.on_device(None);
        let input = noise(65 * len, 7);
        let all = &multiply_all(&[&matrix], &input)[0];
        for num_rows in [1, 7, 8, 9, 17] {
            let some = &multiply_all(&[&matrix], &input[..num_rows * len])[0];
            assert!(
                some[..] == all[..num_rows * 37],
                "{dtype:?}, {num_rows} rows"
            );
        }
        // In another place of the tile, and in a tile of its own.
        let last = &multiply_all(&[&matrix], &input[64 * len..])[0];
        assert!(last[..] == all[64 * 37..], "{dtype:?}");
    }
}

#[test]
fn slices_give_the_same_bits_in_one_block_of_threads_and_apart() {
    let len = 9 * 256;
    for dtype in [GgmlDType::Q8_0, GgmlDType::Q4K] {
        let matrix = stored(dtype, [40, len], 3).on_device(None);
        let input = noise(20 * len, 7);
        let (tiles, is_split) = (4, true);
        assert_eq!(Kernel::of(20, 3), Kernel::Many { tiles, is_split });
        let apart = &multiply_all(&[&matrix], &input)[0];

        let emulator = Emulator::shared();
        let Ok(given) = emulator.floats(&input);
        let Ok(room) = emulator.room(HalfRows::num_bytes(20, len));
        let rows = HalfRows::new(emulator.address(&room), 20, len);
        for kernel in [
            Kernel::Many {
                tiles,
                is_split: false,
            },
            Kernel::Few { tiles: 1 },
        ] {
            let output = vec![f32::NAN; 20 * 40];
            let product = Product {
                matrix: &matrix,
                output: output.as_ptr() as u64,
                onto: None,
            };
            // SAFETY: all memory is as long as its shape says.
            let Ok(()) = unsafe { halve(emulator, plain(&given), &rows) };
            let Ok(()) = unsafe { launch_run(emulator, kernel, &rows, &[product], 0) };
            assert!(std::hint::black_box(output) == *apart, "{kernel:?}");
        }
    }
}

#[test]
fn matrices_of_several_types_are_multiplied_with_the_same_rows() {
    let shapes = [
        (GgmlDType::Q4K, 40),
        (GgmlDType::Q4K, 7),
        (GgmlDType::Q6K, 16),
    ];
    let all: Vec<Stored> = shapes
        .iter()
        .map(|&(dtype, outputs)| stored(dtype, [outputs, 256], outputs as u64))
        .collect();
    let matrices: Vec<_> = all.iter().map(|stored| stored.on_device(None)).collect();
    let matrices: Vec<_> = matrices.iter().collect();
    for num_rows in [1, 20] {
        let input = noise(num_rows * 256, 9);
        let found = multiply_all(&matrices, &input);
        for ((found, stored), matrix) in found.iter().zip(&all).zip(&matrices) {
            let difference = relative_difference(found, &stored.expected(&input, None));
            assert!(difference < 2e-3, "{difference}");
            // Beside the others as alone.
            assert!(multiply_all(&[matrix], &input)[0] == *found);
        }
    }
}

#[test]
fn products_are_added_to_what_is_there() {
    let matrix = stored(GgmlDType::Q8_0, [21, 96], 3).on_device(Some(&noise(21, 4)));
    for num_rows in [1, 20] {
        let input = noise(num_rows * 96, 9);
        let there = noise(num_rows * 21, 11);
        let products = &multiply_all(&[&matrix], &input)[0];
        let found = &multiply_onto(&[&matrix], &input, Some((&there, 0.22)))[0];
        let pairs = products.iter().zip(&there);
        let expected: Vec<f32> = pairs.map(|(x, there)| x.mul_add(0.22, *there)).collect();
        assert_eq!(*found, expected);
    }
}

#[test]
fn rows_of_any_magnitude_keep_their_precision() {
    let stored = stored(GgmlDType::Q5K, [16, 256], 3);
    let matrix = stored.on_device(None);
    for magnitude in [1e-30, 1e-6, 1.0, 3e5, 1e30] {
        let input: Vec<f32> = noise(3 * 256, 7).iter().map(|x| x * magnitude).collect();
        let found = &multiply_all(&[&matrix], &input)[0];
        let difference = relative_difference(
            &found.iter().map(|x| x / magnitude).collect::<Vec<_>>(),
            &stored
                .expected(&input, None)
                .iter()
                .map(|x| x / magnitude)
                .collect::<Vec<_>>(),
        );
        assert!(difference < 2e-3, "{magnitude}: {difference}");
    }
    let zeros = multiply_all(&[&matrix], &[0.0; 256]);
    assert_eq!(zeros[0], [0.0; 16]);
}

#[test]
fn a_row_that_is_not_finite_spoils_no_other() {
    let stored = stored(GgmlDType::Q4_1, [16, 128], 3);
    let matrix = stored.on_device(None);
    let mut input = noise(9 * 128, 7);
    let alone = &multiply_all(&[&matrix], &input[128..256])[0];
    input[5] = f32::NAN;
    input[2 * 128 + 7] = f32::INFINITY;
    let found = &multiply_all(&[&matrix], &input)[0];
    assert!(found[16..32] == alone[..]);
    assert!(
        found[..16]
            .iter()
            .chain(&found[32..48])
            .all(|x| !x.is_finite())
    );
}
