//! The kernels, on the emulator, against our attention on the CPU, which is tested against the definition.

use half::{bf16, f16};

use super::super::emulator::Emulator;
use super::*;
use crate::kernels::paged_attention::{CacheElement, LayerCache};

/// Sequences in the cache with all their tokens, of which the last ones are computed now.
struct Case {
    shape: AttentionShape,
    /// Tokens before, and now.
    sequences: Vec<(usize, usize)>,
    /// Rotated pairs of a head, and whether they are neighbours.
    rotation: Option<(usize, bool)>,
    /// Rows that there are with those that are nobody's.
    padded_to: Option<usize>,
}

fn shape(num_heads: usize, num_kv_heads: usize, dim: usize) -> AttentionShape {
    AttentionShape {
        num_heads,
        num_kv_heads,
        key_dim: dim,
        value_dim: dim,
        block_size: 16,
        window: None,
        score_scale: 1.0 / (dim as f32).sqrt(),
    }
}

fn noise(len: usize, seed: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i + 7919 * seed) as f32 * 0.739).sin() * 1.5)
        .collect()
}

/// As the CPU's part of the decoder does it.
fn rotate(
    heads: &mut [f32],
    dim: usize,
    row_len: usize,
    cos: &[f32],
    sin: &[f32],
    how: (usize, bool),
) {
    let (num_pairs, is_interleaved) = how;
    for (token, row) in heads.chunks_exact_mut(row_len).enumerate() {
        for head in row.chunks_exact_mut(dim) {
            for pair in 0..num_pairs {
                let (first, second) = match is_interleaved {
                    true => (2 * pair, 2 * pair + 1),
                    false => (pair, pair + num_pairs),
                };
                let (a, b) = (head[first], head[second]);
                let (c, s) = (cos[token * num_pairs + pair], sin[token * num_pairs + pair]);
                (head[first], head[second]) = (a * c - b * s, a * s + b * c);
            }
        }
    }
}

fn address<T>(numbers: &[T]) -> u64 {
    numbers.as_ptr() as u64
}

/// What the kernels and the CPU make of the tokens that are computed now.
fn both<E: CacheElement + Default>(
    emulator: &Emulator,
    case: &Case,
    stored: Stored,
    number: fn(f32) -> E,
) -> (Vec<f32>, Vec<f32>) {
    let shape = &case.shape;
    let block_size = shape.block_size;
    // Every other block belongs to nobody, and no sequence has its blocks in order.
    let num_blocks: Vec<usize> = case
        .sequences
        .iter()
        .map(|(before, now)| (before + now).div_ceil(block_size))
        .collect();
    let all_blocks: usize = num_blocks.iter().sum();
    let mut next = 0;
    let tables: Vec<Vec<u32>> = num_blocks
        .iter()
        .map(|count| {
            next += count;
            (0..*count).map(|i| (2 * (next - 1 - i)) as u32).collect()
        })
        .collect();
    let mut expected_cache = LayerCache::<E>::new(*shape, 2 * all_blocks).unwrap();
    let num_positions = 2 * all_blocks * block_size;
    let key_len = shape.num_kv_heads * shape.key_dim;
    let value_len = shape.num_kv_heads * shape.value_dim;
    let mut keys = vec![number(7.0); num_positions * key_len];
    let mut values = vec![number(-7.0); num_positions * value_len];
    for (table, (before, _)) in tables.iter().zip(&case.sequences) {
        for position in 0..*before {
            let (block, slot) = (table[position / block_size] as usize, position % block_size);
            let at = block * block_size + slot;
            let key = noise(key_len, at);
            let value = noise(value_len, at + 1_000_003);
            expected_cache.write(block, slot, &key, &value);
            let stored = |from: &[f32]| from.iter().map(|x| number(*x)).collect::<Vec<E>>();
            keys[at * key_len..][..key_len].clone_from_slice(&stored(&key));
            values[at * value_len..][..value_len].clone_from_slice(&stored(&value));
        }
    }

    let num_tokens: usize = case.sequences.iter().map(|(_, now)| now).sum();
    let mut query = noise(num_tokens * shape.num_heads * shape.key_dim, 11);
    let mut key = noise(num_tokens * key_len, 13);
    let mut value = noise(num_tokens * value_len, 17);
    let num_pairs = case.rotation.map_or(0, |(num_pairs, _)| num_pairs);
    let angles = noise(num_tokens * num_pairs, 19);
    let cos: Vec<f32> = angles.iter().map(|x| x.cos()).collect();
    let sin: Vec<f32> = angles.iter().map(|x| x.sin()).collect();
    let mut slots = Vec::new();
    let mut sequences = Vec::new();
    for (table, &(before, now)) in tables.iter().zip(&case.sequences) {
        sequences.push(SequenceRows {
            first_row: slots.len(),
            num_rows: now,
            start: before,
            block_table: table,
        });
        slots.extend((before..before + now).map(|p| (table[p / block_size], p % block_size)));
    }

    let mut plan = Plan::new(&slots, &sequences, shape, stored);
    if let Some(num_rows) = case.padded_to {
        plan.pad(num_rows);
        for (numbers, len) in [
            (&mut query, shape.num_heads * shape.key_dim),
            (&mut key, key_len),
            (&mut value, value_len),
        ] {
            numbers.resize(num_rows * len, f32::NAN);
        }
    }
    let plan_numbers = plan.numbers();
    let rotated = vec![0f32; query.len()];
    let scratch = vec![f32::NAN; plan.scratch_len()];
    let found = vec![f32::NAN; plan.num_tokens() * shape.num_heads * shape.value_dim];
    let at = Addresses {
        query: address(&query),
        key: address(&key),
        value: address(&value),
        rotated: address(&rotated),
        keys: address(&keys),
        values: address(&values),
        plan: address(&plan_numbers),
        scratch: address(&scratch),
        output: address(&found),
    };
    let rotation = case.rotation.map(|(num_pairs, is_interleaved)| Rotation {
        cosines: address(&cos),
        sines: address(&sin),
        num_pairs,
        is_interleaved,
    });
    // SAFETY: all memory is as long as its shape says.
    let Ok(()) = unsafe { attend(emulator, shape, stored, &plan, rotation, &at) };

    query.truncate(num_tokens * shape.num_heads * shape.key_dim);
    key.truncate(num_tokens * key_len);
    if let Some(how) = case.rotation {
        rotate(
            &mut query,
            shape.key_dim,
            shape.num_heads * shape.key_dim,
            &cos,
            &sin,
            how,
        );
        rotate(&mut key, shape.key_dim, key_len, &cos, &sin, how);
    }
    for (token, &(block, slot)) in slots.iter().enumerate() {
        let key = &key[token * key_len..][..key_len];
        let value = &value[token * value_len..][..value_len];
        expected_cache.write(block as usize, slot, key, value);
    }
    let mut expected = vec![0f32; num_tokens * shape.num_heads * shape.value_dim];
    expected_cache.attend(&query, &sequences, &mut expected);
    let mut found = std::hint::black_box(found);
    // Rows that are nobody's attend to nothing.
    assert!(found[expected.len()..].iter().all(|number| *number == 0.0));
    found.truncate(expected.len());
    (found, expected)
}

fn check(case: &Case) {
    let emulator = Emulator::shared();
    let f32 = both::<f32>(emulator, case, Stored::F32, |x| x);
    let f16 = both::<f16>(emulator, case, Stored::F16, f16::from_f32);
    let bf16 = both::<bf16>(emulator, case, Stored::Bf16, bf16::from_f32);
    // On the tensor cores queries and weights are rounded to the stored type too.
    for (name, (found, expected), tolerance) in
        [("f32", f32, 2e-5), ("f16", f16, 3e-3), ("bf16", bf16, 2e-2)]
    {
        let difference = |(found, expected): (&f32, &f32)| (found - expected).abs();
        let worst = found
            .iter()
            .zip(&expected)
            .map(difference)
            .fold(
                0.0,
                |worst: f32, it| {
                    if it > worst || it.is_nan() { it } else { worst }
                },
            );
        assert!(worst < tolerance, "{name}: {worst}, {:?}", case.shape);
    }
}

#[test]
fn few_rows_are_attended_to_over_all_spans() {
    for shape in [
        shape(4, 2, 64),
        shape(6, 1, 128),
        shape(3, 3, 40),
        shape(2, 2, 256),
        AttentionShape {
            value_dim: 24,
            block_size: 5,
            ..shape(4, 1, 72)
        },
    ] {
        check(&Case {
            shape,
            sequences: vec![(0, 1), (255, 1), (256, 2), (700, 1)],
            rotation: Some((shape.key_dim / 2, false)),
            padded_to: None,
        });
    }
}

#[test]
fn many_rows_are_attended_to_in_tiles_beside_few() {
    for dim in TILE_DIMS {
        check(&Case {
            shape: shape(4, 2, dim),
            sequences: vec![(0, 70), (33, 1), (50, 17), (130, 3)],
            rotation: Some((dim / 4, true)),
            padded_to: None,
        });
    }
}

#[test]
fn a_window_hides_what_lies_before_it() {
    for window in [1, 20, 300] {
        check(&Case {
            shape: AttentionShape {
                window: Some(window),
                ..shape(4, 2, 64)
            },
            sequences: vec![(0, 80), (600, 1), (290, 40)],
            rotation: None,
            padded_to: None,
        });
    }
}

#[test]
fn company_does_not_change_a_bit() {
    let emulator = Emulator::shared();
    let case = |sequences: Vec<(usize, usize)>| Case {
        shape: shape(4, 2, 64),
        sequences,
        rotation: None,
        padded_to: None,
    };
    // The first sequence has the same blocks and the same numbers in both.
    let alone = both::<f16>(emulator, &case(vec![(300, 1)]), Stored::F16, f16::from_f32).0;
    let together = case(vec![(300, 1), (700, 1), (0, 40)]);
    let together = both::<f16>(emulator, &together, Stored::F16, f16::from_f32).0;
    assert_eq!(alone, together[..alone.len()]);
}

#[test]
fn results_that_do_not_fit_at_once_are_merged_part_by_part() {
    let shape = shape(32, 8, 128);
    let table: Vec<u32> = (0..2048).collect();
    let sequences = [SequenceRows {
        first_row: 0,
        num_rows: 600,
        start: 32_000,
        block_table: &table,
    }];
    let slots: Vec<(u32, usize)> = (0..600).map(|i| (i / 16, i as usize % 16)).collect();
    let plan = Plan::new(&slots, &sequences, &shape, Stored::F32);
    assert!(plan.rows_at_once() < plan.rows.len() && plan.rows_at_once() > 1);
    assert!(plan.scratch_len() <= MAX_SCRATCH);
    assert!(plan.scratch_len() <= max_scratch_len(&shape, 600, 32_768));
}

#[test]
fn rows_that_are_nobodys_change_no_bit_of_the_others() {
    let emulator = Emulator::shared();
    for window in [None, Some(40)] {
        let case = |padded_to| Case {
            shape: AttentionShape {
                window,
                ..shape(4, 2, 64)
            },
            sequences: vec![(300, 1), (700, 3), (0, 1)],
            rotation: None,
            padded_to,
        };
        let bits = |padded_to| {
            let (found, _) = both::<f16>(emulator, &case(padded_to), Stored::F16, f16::from_f32);
            found.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(bits(None), bits(Some(8)));
    }
}

#[test]
fn steps_of_one_padded_size_launch_the_same() {
    let shape = shape(4, 2, 64);
    let padded = |sequences: &[(usize, usize)]| {
        let tables: Vec<Vec<u32>> = sequences
            .iter()
            .map(|(start, rows)| (0..(start + rows).div_ceil(16) as u32).collect())
            .collect();
        let mut slots = Vec::new();
        let mut rows = Vec::new();
        for (table, &(start, num_rows)) in tables.iter().zip(sequences) {
            rows.push(SequenceRows {
                first_row: slots.len(),
                num_rows,
                start,
                block_table: table,
            });
            slots.extend((start..start + num_rows).map(|it| (table[it / 16], it % 16)));
        }
        let mut plan = Plan::new(&slots, &rows, &shape, Stored::F16);
        plan.pad(8);
        plan
    };
    let launched = |plan: &Plan| {
        let launches = Launches::default();
        let at = Addresses {
            query: 1,
            key: 2,
            value: 3,
            rotated: 4,
            keys: 5,
            values: 6,
            plan: 7,
            scratch: 8,
            output: 9,
        };
        // SAFETY: nothing is run.
        let Ok(()) = unsafe { attend(&launches, &shape, Stored::F16, plan, None, &at) };
        launches.0.into_inner()
    };
    let some = padded(&[(700, 1), (5, 3)]);
    let others = padded(&[(1000, 2), (30, 1), (512, 1), (0, 2), (4, 1), (600, 1)]);
    assert_ne!(some.numbers(), others.numbers());
    assert_eq!(launched(&some), launched(&others));
}

/// Takes note of what is launched, and runs nothing.
#[derive(Default)]
struct Launches(std::cell::RefCell<Vec<String>>);

impl Launch for Launches {
    type Error = std::convert::Infallible;

    unsafe fn launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        num_threads: u32,
        arguments: &[Argument],
    ) -> Result<(), Self::Error> {
        let launch = format!("{kernel} {grid:?} {num_threads} {arguments:?}");
        self.0.borrow_mut().push(launch);
        Ok(())
    }
}
