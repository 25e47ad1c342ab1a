//! Attention of every text to itself, for texts of different lengths side by side, in f32 on the CPU. A text's result
//! depends on that text alone.

use super::matrix::float::{CHUNK, Instructions, Line, Output, PANEL, Rows};
use super::parallel;
use super::vector::{Work, softmax_weight, widest};

/// Softmax of the products of queries and keys, times the values, by head.
///
/// `qkv` is `[num_tokens, 3 * width]`: query, key and value of all heads of a token. The texts, `lengths` tokens each,
/// follow each other. The result is `[num_tokens, width]`. Scores are not scaled.
pub fn attend(qkv: &[f32], lengths: &[usize], width: usize, num_heads: usize) -> Vec<f32> {
    let num_tokens: usize = lengths.iter().sum();
    assert_eq!(qkv.len(), num_tokens * 3 * width);
    assert!(width.is_multiple_of(num_heads));
    let dim = width / num_heads;
    let mut output = vec![0f32; num_tokens * width];
    let mut heads = Vec::with_capacity(lengths.len() * num_heads);
    let mut first_token = 0;
    for &length in lengths {
        heads.extend((0..num_heads).map(|head| Head {
            qkv: &qkv[first_token * 3 * width..][..length * 3 * width],
            width,
            first: head * dim,
            dim,
            output: output[first_token * width + head * dim..].as_mut_ptr(),
        }));
        first_token += length;
    }
    // The longest first, so that no thread starts on a long one when the others have ended.
    heads.sort_by_key(|head| std::cmp::Reverse(head.qkv.len()));
    parallel::for_each(heads, |head| head.attend(&mut Scratch::default()));
    output
}

/// What attention computes with, kept for the next text.
#[derive(Default)]
pub struct Scratch {
    keys: Vec<Line>,
    values: Vec<Line>,
    scores: Vec<f32>,
    sums: Vec<f32>,
}

/// As [`attend`], for one text and on this thread alone: `output` is `[num_tokens, width]`.
pub fn attend_text(
    qkv: &[f32],
    width: usize,
    num_heads: usize,
    output: &mut [f32],
    scratch: &mut Scratch,
) {
    assert_eq!(qkv.len(), 3 * output.len());
    assert!(output.len().is_multiple_of(width) && width.is_multiple_of(num_heads));
    let dim = width / num_heads;
    for head in 0..num_heads {
        let head = Head {
            qkv,
            width,
            first: head * dim,
            dim,
            output: output[head * dim..].as_mut_ptr(),
        };
        head.attend(scratch);
    }
}

/// One head of one text.
struct Head<'a> {
    qkv: &'a [f32],
    width: usize,
    /// Where the head's numbers begin within a query, a key and a value.
    first: usize,
    dim: usize,
    /// The head's part of the text's first row of results; rows are `width` numbers apart.
    output: *mut f32,
}

// SAFETY: every head writes other numbers of the output than all the others, which nobody reads meanwhile.
unsafe impl Send for Head<'_> {}

impl Head<'_> {
    fn attend(self, scratch: &mut Scratch) {
        let Head {
            qkv,
            width,
            first,
            dim,
            output,
        } = self;
        let length = qkv.len() / (3 * width);
        let instructions = Instructions::best();
        let Scratch {
            keys,
            values,
            scores,
            sums,
        } = scratch;
        transpose(qkv, 3 * width, width + first, dim, keys);
        columns(qkv, 3 * width, 2 * width + first, dim, values);
        let padded = length.next_multiple_of(PANEL);
        scores.resize(TILE.min(length) * padded, 0.0);
        sums.resize(TILE.min(length) * dim.next_multiple_of(PANEL), 0.0);
        for first_row in (0..length).step_by(TILE) {
            let num_rows = TILE.min(length - first_row);
            let scores = &mut scores[..num_rows * padded];
            scores.fill(0.0);
            let queries = Rows {
                numbers: &qkv[first_row * 3 * width..][..num_rows * 3 * width],
                len: 3 * width,
                first,
            };
            multiply(instructions, keys, dim, queries, scores, padded);
            let mut inverses = [0f32; TILE];
            let exponentials = Exponentials {
                scores,
                padded,
                length,
                inverses: &mut inverses,
            };
            match instructions {
                Instructions::Portable => exponentials.compute::<false>(),
                _ => widest(exponentials),
            }
            let weights = Rows {
                numbers: scores,
                len: padded,
                first: 0,
            };
            let stride = dim.next_multiple_of(PANEL);
            let sums = &mut sums[..num_rows * stride];
            sums.fill(0.0);
            multiply(instructions, values, length, weights, sums, stride);
            for ((row, sums), inverse) in sums.chunks_exact(stride).enumerate().zip(inverses) {
                // SAFETY: the row is one of the text's, and this part of it is this head's.
                let output = unsafe {
                    let start = output.add((first_row + row) * width);
                    std::slice::from_raw_parts_mut(start, dim)
                };
                for (output, sum) in output.iter_mut().zip(sums) {
                    *output = sum * inverse;
                }
            }
        }
    }
}

/// Queries whose scores stay in the second-level cache, even for long texts.
const TILE: usize = 96;

/// Adds the products of `rows` with all panels of `lines`, `num_inputs` lines each, to `output`.
fn multiply(
    instructions: Instructions,
    lines: &[Line],
    num_inputs: usize,
    rows: Rows,
    output: &mut [f32],
    stride: usize,
) {
    for (panel, lines) in lines.chunks_exact(num_inputs).enumerate() {
        for (chunk, lines) in lines.chunks(CHUNK).enumerate() {
            let rows = Rows {
                first: rows.first + chunk * CHUNK,
                ..rows
            };
            let output = Output {
                first: output[panel * PANEL..].as_mut_ptr(),
                stride,
            };
            // SAFETY: the output has a row of `stride` numbers for every row, a whole number of panels.
            unsafe { instructions.dot(lines, rows, output) };
        }
    }
}

/// Panels of 32 rows side by side: `[panel, dim]` lines, for products over `dim`. Missing rows are zeros.
fn transpose(rows: &[f32], stride: usize, first: usize, dim: usize, lines: &mut Vec<Line>) {
    let num_rows = rows.len() / stride;
    lines.resize(num_rows.div_ceil(PANEL) * dim, [0f32; PANEL]);
    if !num_rows.is_multiple_of(PANEL) {
        lines[num_rows / PANEL * dim..].fill([0f32; PANEL]);
    }
    for (index, row) in rows.chunks_exact(stride).enumerate() {
        let panel = &mut lines[index / PANEL * dim..][..dim];
        for (line, x) in panel.iter_mut().zip(&row[first..][..dim]) {
            line[index % PANEL] = *x;
        }
    }
}

/// Panels of 32 columns side by side: `[panel, row]` lines, for products over the rows. Missing columns are zeros.
fn columns(rows: &[f32], stride: usize, first: usize, dim: usize, lines: &mut Vec<Line>) {
    let num_rows = rows.len() / stride;
    lines.resize(dim.div_ceil(PANEL) * num_rows, [0f32; PANEL]);
    for (panel, lines) in lines.chunks_exact_mut(num_rows).enumerate() {
        let width = PANEL.min(dim - panel * PANEL);
        for (line, row) in lines.iter_mut().zip(rows.chunks_exact(stride)) {
            line[..width].copy_from_slice(&row[first + panel * PANEL..][..width]);
            line[width..].fill(0.0);
        }
    }
}

/// Softmax of each row of `scores`, `padded` numbers apart, whose first `length` numbers count; but not divided by the
/// row's sum yet: dividing what comes out of the values is less work.
struct Exponentials<'a> {
    scores: &'a mut [f32],
    /// A multiple of 16.
    padded: usize,
    length: usize,
    /// One over the sum of each row.
    inverses: &'a mut [f32],
}

impl Work for Exponentials<'_> {
    type Output = ();

    /// On processors whose products of matrices are not the portable ones there are such instructions.
    #[inline(always)]
    fn run(self) {
        self.compute::<true>();
    }
}

impl Exponentials<'_> {
    /// `FMA` says that the processor adds and multiplies in one instruction.
    #[inline(always)]
    fn compute<const FMA: bool>(self) {
        let rows = self.scores.chunks_exact_mut(self.padded);
        for (row, inverse) in rows.zip(self.inverses) {
            row[self.length..].fill(f32::NEG_INFINITY);
            *inverse = 1.0 / exponentials::<FMA>(row);
        }
    }
}

/// `exp(x - max)` in place of each score, and the sum of them.
#[inline(always)]
fn exponentials<const FMA: bool>(scores: &mut [f32]) -> f32 {
    const LANES: usize = 16;
    let (runs, rest) = scores.as_chunks_mut::<LANES>();
    debug_assert!(rest.is_empty());
    let mut max = [f32::NEG_INFINITY; LANES];
    for run in &*runs {
        for (max, x) in max.iter_mut().zip(run) {
            *max = if *x > *max { *x } else { *max };
        }
    }
    let max = folded(max, f32::max);
    let mut sums = [0f32; LANES];
    for run in runs {
        for (sum, x) in sums.iter_mut().zip(run) {
            *x = softmax_weight::<FMA>(*x - max);
            *sum += *x;
        }
    }
    folded(sums, |a, b| a + b)
}

/// Halves onto each other, until one number is left.
#[inline(always)]
fn folded(mut lanes: [f32; 16], fold: impl Fn(f32, f32) -> f32) -> f32 {
    for width in [8, 4, 2, 1] {
        for at in 0..width {
            lanes[at] = fold(lanes[at], lanes[at + width]);
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.739).sin() * 2.0).collect()
    }

    /// The definition, in f64.
    fn expected(qkv: &[f32], width: usize, num_heads: usize) -> Vec<f64> {
        let dim = width / num_heads;
        let rows: Vec<&[f32]> = qkv.chunks_exact(3 * width).collect();
        let mut output = vec![0f64; rows.len() * width];
        for (row, output) in rows.iter().zip(output.chunks_exact_mut(width)) {
            for head in 0..num_heads {
                let part = |row: &[f32], which: usize| -> Vec<f64> {
                    let first = which * width + head * dim;
                    row[first..][..dim].iter().map(|&x| f64::from(x)).collect()
                };
                let query = part(row, 0);
                let weights: Vec<f64> = rows
                    .iter()
                    .map(|row| {
                        let key = part(row, 1);
                        query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>().exp()
                    })
                    .collect();
                let sum: f64 = weights.iter().sum();
                for (weight, row) in weights.iter().zip(&rows) {
                    for (at, value) in part(row, 2).into_iter().enumerate() {
                        output[head * dim + at] += weight / sum * value;
                    }
                }
            }
        }
        output
    }

    #[test]
    fn attention_agrees_with_its_definition() {
        for (width, num_heads) in [(64, 2), (40, 2), (128, 2), (24, 3)] {
            let lengths = [1, 33, 150];
            let qkv = noise(184 * 3 * width);
            let found = attend(&qkv, &lengths, width, num_heads);
            let mut first = 0;
            for length in lengths {
                let text = &qkv[first * 3 * width..][..length * 3 * width];
                let expected = expected(text, width, num_heads);
                for (found, expected) in found[first * width..].iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-4);
                }
                first += length;
            }
        }
    }

    #[test]
    fn a_text_has_the_same_bits_alone() {
        let width = 64;
        let qkv = noise(300 * 3 * width);
        let all = attend(&qkv, &[100, 70, 130], width, 2);
        let text = &qkv[100 * 3 * width..170 * 3 * width];
        assert!(all[100 * width..170 * width] == attend(text, &[70], width, 2));
        // What longer texts have left in the memory does not matter.
        let mut scratch = Scratch::default();
        attend_text(&qkv, width, 2, &mut vec![0.0; 300 * width], &mut scratch);
        let mut alone = vec![0.0; 70 * width];
        attend_text(text, width, 2, &mut alone, &mut scratch);
        assert!(all[100 * width..170 * width] == alone);
    }
}
