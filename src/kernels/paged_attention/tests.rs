use half::bf16;

use super::*;

const SHAPE: AttentionShape = AttentionShape {
    num_heads: 6,
    num_kv_heads: 2,
    key_dim: 20,
    value_dim: 12,
    block_size: 4,
    window: None,
    score_scale: 0.25,
};

fn windowed(window: usize) -> AttentionShape {
    AttentionShape {
        window: Some(window),
        ..SHAPE
    }
}

fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next() * 3.0).collect()
}

/// Keys, values and queries of a sequence of `len` positions.
struct Sequence {
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
    len: usize,
}

impl Sequence {
    fn new(len: usize, seed: u64) -> Self {
        let AttentionShape {
            num_heads,
            num_kv_heads,
            key_dim,
            value_dim,
            ..
        } = SHAPE;
        Self {
            keys: noise(len * num_kv_heads * key_dim, seed),
            values: noise(len * num_kv_heads * value_dim, seed + 1),
            queries: noise(len * num_heads * key_dim, seed + 2),
            len,
        }
    }

    fn write<E: CacheElement>(&self, cache: &mut LayerCache<E>, block_table: &[u32]) {
        let (k, v) = (self.keys.len() / self.len, self.values.len() / self.len);
        for position in 0..self.len {
            let block = block_table[position / cache.shape.block_size] as usize;
            cache.write(
                block,
                position % cache.shape.block_size,
                &self.keys[position * k..][..k],
                &self.values[position * v..][..v],
            );
        }
    }

    /// The textbook formula in f64, straight from the definition.
    fn expected(&self, window: usize) -> Vec<f32> {
        let group = SHAPE.num_heads / SHAPE.num_kv_heads;
        let mut output = Vec::new();
        for row in 0..self.len {
            for head in 0..SHAPE.num_heads {
                let query = &self.queries[(row * SHAPE.num_heads + head) * SHAPE.key_dim..]
                    [..SHAPE.key_dim];
                let at = |position: usize| position * SHAPE.num_kv_heads + head / group;
                let first = (row + 1).saturating_sub(window);
                let weights: Vec<f64> = (first..=row)
                    .map(|p| {
                        let key = &self.keys[at(p) * SHAPE.key_dim..][..SHAPE.key_dim];
                        let dot: f64 = query
                            .iter()
                            .zip(key)
                            .map(|(&q, &k)| f64::from(q) * f64::from(k))
                            .sum();
                        (dot * f64::from(SHAPE.score_scale)).exp()
                    })
                    .collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..SHAPE.value_dim {
                    let mixed: f64 = weights
                        .iter()
                        .enumerate()
                        .map(|(i, w)| {
                            w * f64::from(self.values[at(first + i) * SHAPE.value_dim + d])
                        })
                        .sum();
                    output.push((mixed / sum) as f32);
                }
            }
        }
        output
    }
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |max, (a, b)| {
        let difference = (a - b).abs();
        if difference.is_nan() {
            f32::NAN
        } else {
            max.max(difference)
        }
    })
}

fn attend_alone<E: CacheElement>(shape: AttentionShape, sequence: &Sequence) -> Vec<f32> {
    attend_alone_on::<E>(Instructions::best(), shape, sequence)
}

fn attend_alone_on<E: CacheElement>(
    instructions: Instructions,
    shape: AttentionShape,
    sequence: &Sequence,
) -> Vec<f32> {
    let num_blocks = sequence.len.div_ceil(shape.block_size);
    let mut cache = LayerCache::<E>::new(shape, num_blocks).unwrap();
    let block_table: Vec<u32> = (0..num_blocks as u32).rev().collect();
    sequence.write(&mut cache, &block_table);
    let mut output = vec![f32::NAN; sequence.len * SHAPE.num_heads * SHAPE.value_dim];
    let rows = SequenceRows {
        first_row: 0,
        num_rows: sequence.len,
        start: 0,
        block_table: &block_table,
    };
    cache.attend_on(instructions, &sequence.queries, &[rows], &mut output);
    output
}

#[test]
fn attention_agrees_with_the_textbook_formula() {
    let sequence = Sequence::new(51, 1);
    let all = (SHAPE, sequence.expected(usize::MAX));
    let windows = [1, 2, 4, 9, 50, 51, 100].map(|n| (windowed(n), sequence.expected(n)));
    for (shape, expected) in windows.into_iter().chain([all]) {
        let alone = attend_alone::<f32>(shape, &sequence);
        assert!(max_difference(&alone, &expected) < 1e-5, "{shape:?}");
        let alone = attend_alone::<f16>(shape, &sequence);
        assert!(max_difference(&alone, &expected) < 1e-2, "{shape:?}");
        let alone = attend_alone::<bf16>(shape, &sequence);
        assert!(max_difference(&alone, &expected) < 1e-1, "{shape:?}");
    }
}

#[test]
fn long_contexts_agree_with_the_textbook_formula_on_all_instructions_and_block_sizes() {
    let sequence = Sequence::new(300, 2);
    for window in [None, Some(140), Some(3)] {
        let expected = sequence.expected(window.unwrap_or(usize::MAX));
        for block_size in [1, 5, 16, 24, 64, 512] {
            let shape = AttentionShape {
                window,
                block_size,
                ..SHAPE
            };
            for instructions in Instructions::available() {
                let found = attend_alone_on::<f32>(instructions, shape, &sequence);
                assert!(max_difference(&found, &expected) < 1e-5, "{shape:?}");
                let found = attend_alone_on::<f16>(instructions, shape, &sequence);
                assert!(max_difference(&found, &expected) < 1e-2, "{shape:?}");
            }
        }
    }
}

#[test]
fn a_number_too_large_for_sixteen_bits_becomes_the_largest() {
    let mut numbers = [0f32; 17];
    (numbers[0], numbers[16]) = (1e6, -1e6);
    let mut stored = [f16::ZERO; 17];
    f16::store(&numbers, &mut stored, &mut []);
    assert_eq!(
        [stored[0], stored[1], stored[16]],
        [f16::MAX, f16::ZERO, f16::MIN]
    );
}

#[test]
fn eight_bits_come_back_within_half_a_step_of_their_scale() {
    let mut numbers = noise(128, 7);
    numbers[32..64].fill(0.0);
    numbers[64] = 1000.0;
    let mut stored = [0i8; 128];
    let mut scales = [f16::ZERO; 4];
    i8::store(&numbers, &mut stored, &mut scales);
    let found: Vec<f32> = stored
        .iter()
        .enumerate()
        .map(|(index, number)| f32::from(*number) * scales[index / SCALE_GROUP].to_f32())
        .collect();
    for (numbers, found) in numbers.chunks(32).zip(found.chunks(32)) {
        let largest = numbers.iter().fold(0f32, |max, n| max.max(n.abs()));
        // Half a step, and what rounding the scale to 16 bits adds at the largest number.
        let allowed = largest / 127.0 * 0.5 + largest / 2048.0;
        assert!(max_difference(numbers, found) <= allowed);
    }
}

#[test]
fn eight_bit_attention_is_near_that_in_full_precision() {
    const SHAPE: AttentionShape = AttentionShape {
        num_heads: 4,
        num_kv_heads: 2,
        key_dim: 64,
        value_dim: 32,
        block_size: 4,
        window: None,
        score_scale: 0.125,
    };
    const LEN: usize = 30;
    let (keys, values) = (noise(LEN * 2 * 64, 1), noise(LEN * 2 * 32, 2));
    let queries: Vec<f32> = noise(LEN * 4 * 64, 3).iter().map(|q| q / 20.0).collect();
    let block_table: Vec<u32> = (0..8).rev().collect();
    let rows = SequenceRows {
        first_row: 0,
        num_rows: LEN,
        start: 0,
        block_table: &block_table,
    };
    fn attend<E: CacheElement>(
        [keys, values, queries]: [&[f32]; 3],
        rows: SequenceRows,
        copied: bool,
    ) -> Vec<f32> {
        let mut cache = LayerCache::<E>::new(SHAPE, 16).unwrap();
        for position in 0..LEN {
            cache.write(
                rows.block_table[position / 4] as usize,
                position % 4,
                &keys[position * 128..][..128],
                &values[position * 64..][..64],
            );
        }
        let moved: Vec<u32> = rows.block_table.iter().map(|block| block + 8).collect();
        let mut block_table = rows.block_table;
        if copied {
            for (&from, &to) in block_table.iter().zip(&moved) {
                cache.copy_block(from as usize, to as usize);
            }
            block_table = &moved;
        }
        let rows = SequenceRows {
            block_table,
            ..rows
        };
        let mut output = vec![f32::NAN; LEN * 4 * 32];
        cache.attend(queries, &[rows], &mut output);
        output
    }
    let inputs = [&keys[..], &values, &queries];
    let expected = attend::<f32>(inputs, rows.clone(), false);
    let found = attend::<i8>(inputs, rows.clone(), false);
    let difference = max_difference(&found, &expected);
    assert!(0.0 < difference && difference < 3e-2, "{difference}");
    assert_eq!(attend::<i8>(inputs, rows.clone(), true), found);
    assert_eq!(attend::<f32>(inputs, rows, true), expected);
}

#[test]
fn company_chunks_and_dirty_blocks_do_not_change_a_single_bit() {
    for shape in [SHAPE, windowed(1), windowed(6), windowed(8)] {
        check_company(shape);
    }
}

fn check_company(shape: AttentionShape) {
    let sequences = [
        Sequence::new(9, 10),
        Sequence::new(30, 20),
        Sequence::new(1, 30),
    ];
    let alone: Vec<Vec<f32>> = sequences
        .iter()
        .map(|sequence| attend_alone::<f32>(shape, sequence))
        .collect();
    let tables: [&[u32]; 3] = [&[4, 0, 11], &[1, 2, 3, 5, 6, 7, 8, 9], &[10]];

    let mut cache = LayerCache::<f32>::new(shape, 12).unwrap();
    cache.keys.numbers.fill(f32::NAN);
    cache.values.numbers.fill(f32::NAN);
    for (sequence, table) in sequences.iter().zip(tables) {
        sequence.write(&mut cache, table);
    }
    // The last rows of each sequence, as if the ones before had come in an earlier chunk.
    let starts = [4, 23, 0];
    let (query_len, output_len) = (
        SHAPE.num_heads * SHAPE.key_dim,
        SHAPE.num_heads * SHAPE.value_dim,
    );
    let mut queries = Vec::new();
    let mut expected: Vec<f32> = Vec::new();
    let mut rows = Vec::new();
    for (((sequence, alone), start), block_table) in
        sequences.iter().zip(&alone).zip(starts).zip(tables)
    {
        rows.push(SequenceRows {
            first_row: queries.len() / query_len,
            num_rows: sequence.len - start,
            start,
            block_table,
        });
        queries.extend(&sequence.queries[start * query_len..]);
        expected.extend(&alone[start * output_len..]);
    }
    let mut output = vec![f32::NAN; expected.len()];
    cache.attend(&queries, &rows, &mut output);
    assert_eq!(output, expected);
}

/// Over several spans, in all types, however the rows are cut into calls.
#[test]
fn long_sequences_have_the_same_bits_in_pieces() {
    const LEN: usize = 300;
    fn check<E: CacheElement>(window: Option<usize>) {
        let shape = AttentionShape {
            num_heads: 4,
            num_kv_heads: 2,
            key_dim: 64,
            value_dim: 32,
            block_size: 16,
            window,
            score_scale: 0.125,
        };
        let (query_len, output_len) = (4 * 64, 4 * 32);
        let (keys, values) = (noise(LEN * 2 * 64, 1), noise(LEN * 2 * 32, 2));
        let queries = noise(LEN * query_len, 3);
        let block_table: Vec<u32> = (0..LEN.div_ceil(16) as u32).rev().collect();
        let mut cache = LayerCache::<E>::new(shape, block_table.len()).unwrap();
        for position in 0..LEN {
            cache.write(
                block_table[position / 16] as usize,
                position % 16,
                &keys[position * 128..][..128],
                &values[position * 64..][..64],
            );
        }
        let attend = |cuts: &[usize]| {
            let mut output = vec![f32::NAN; LEN * output_len];
            for piece in cuts.windows(2) {
                let (first, end) = (piece[0], piece[1]);
                let rows = SequenceRows {
                    first_row: 0,
                    num_rows: end - first,
                    start: first,
                    block_table: &block_table,
                };
                let queries = &queries[first * query_len..end * query_len];
                let output = &mut output[first * output_len..end * output_len];
                cache.attend(queries, &[rows], output);
            }
            output
        };
        let whole = attend(&[0, LEN]);
        assert!(whole.iter().all(|number| number.is_finite()));
        let alone: Vec<usize> = (0..=LEN).collect();
        for cuts in [&[0, 203, LEN][..], &[0, 1, 129, 140, 290, LEN], &alone] {
            assert_eq!(attend(cuts), whole, "{window:?}");
        }
    }
    for window in [None, Some(140), Some(5)] {
        check::<f32>(window);
        check::<f16>(window);
        check::<bf16>(window);
        check::<i8>(window);
    }
}

#[test]
fn a_number_that_is_not_finite_does_not_reach_the_rows_before_it() {
    fn check<E: CacheElement>(bad: f32) {
        let shape = AttentionShape {
            num_heads: 1,
            num_kv_heads: 1,
            key_dim: 32,
            value_dim: 32,
            ..SHAPE
        };
        let mut cache = LayerCache::<E>::new(shape, 1).unwrap();
        cache.write(0, 0, &[1.0; 32], &[2.0; 32]);
        cache.write(0, 1, &[bad; 32], &[bad; 32]);
        let mut output = vec![f32::NAN; 64];
        let rows = SequenceRows {
            first_row: 0,
            num_rows: 2,
            start: 0,
            block_table: &[0],
        };
        cache.attend(&[1.0; 64], &[rows], &mut output);
        assert!(
            output[..32]
                .iter()
                .all(|number| (number - 2.0).abs() < 0.01)
        );
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        check::<f32>(bad);
        check::<f16>(bad);
        check::<bf16>(bad);
        check::<i8>(bad);
    }
}

#[test]
fn blocks_before_the_window_are_not_read() {
    let sequence = Sequence::new(30, 5);
    let shape = windowed(6);
    let alone = attend_alone::<f32>(shape, &sequence);
    let mut table: Vec<u32> = (0..8).collect();
    let mut cache = LayerCache::<f32>::new(shape, 8).unwrap();
    sequence.write(&mut cache, &table);
    // The last row, at 29, sees 24 to 29: blocks 6 and 7.
    table[..6].fill(u32::MAX);
    let rows = SequenceRows {
        first_row: 0,
        num_rows: 1,
        start: 29,
        block_table: &table,
    };
    let (query_len, output_len) = (
        SHAPE.num_heads * SHAPE.key_dim,
        SHAPE.num_heads * SHAPE.value_dim,
    );
    let mut output = vec![f32::NAN; output_len];
    cache.attend(&sequence.queries[29 * query_len..], &[rows], &mut output);
    assert_eq!(output, alone[29 * output_len..]);
}
