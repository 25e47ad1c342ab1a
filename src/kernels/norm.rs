//! Root mean square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467) on the CPU. A row's result depends on
//! that row alone.

use super::parallel;
use super::vector::dot;

/// Divides every row of `input`, `[num_rows, weight.len()]`, by its root mean square, `epsilon` added under the root,
/// and multiplies it with `weight`.
pub fn rms_norm(input: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let len = weight.len();
    assert!(input.len().is_multiple_of(len));
    let mut output = vec![0f32; input.len()];
    let rows_per_item = CHUNK.div_ceil(len) * len;
    let rows = output.chunks_mut(rows_per_item);
    let items: Vec<_> = rows.zip(input.chunks(rows_per_item)).collect();
    parallel::for_each(items, |(output, input)| {
        for (output, input) in output.chunks_exact_mut(len).zip(input.chunks_exact(len)) {
            let mean_square = dot(input, input) / len as f32;
            let factor = 1.0 / (mean_square + epsilon).sqrt();
            for ((output, &x), weight) in output.iter_mut().zip(input).zip(weight) {
                *output = x * factor * weight;
            }
        }
    });
    output
}

/// Large enough that handing it to a thread costs nothing beside it.
const CHUNK: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_normalised_as_defined() {
        const LEN: usize = 300;
        let input: Vec<f32> = (0..70 * LEN)
            .map(|i| (i as f32 * 0.37).sin() * 5.0)
            .collect();
        let weight: Vec<f32> = (0..LEN).map(|i| i as f32 / 100.0 - 1.0).collect();
        let output = rms_norm(&input, &weight, 1e-5);
        for (output, input) in output.chunks(LEN).zip(input.chunks(LEN)) {
            let squares = input.iter().map(|&x| f64::from(x) * f64::from(x));
            let root = (squares.sum::<f64>() / LEN as f64 + 1e-5).sqrt();
            for ((&y, &x), &w) in output.iter().zip(input).zip(&weight) {
                let expected = f64::from(x) / root * f64::from(w);
                assert!((f64::from(y) - expected).abs() < 1e-6 * expected.abs().max(1.0));
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone() {
        let input: Vec<f32> = (0..100 * 896).map(|i| (i as f32 * 0.11).cos()).collect();
        let weight = vec![0.7; 896];
        let all = rms_norm(&input, &weight, 1e-6);
        let row = &rms_norm(&input[50 * 896..51 * 896], &weight, 1e-6);
        assert!(all[50 * 896..51 * 896] == row[..]);
    }
}
