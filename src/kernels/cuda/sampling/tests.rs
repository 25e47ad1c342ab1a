//! The kernel, run by the emulator, beside the engine's sampler.

use super::super::emulator::Emulator;
use super::*;
use crate::engine::sampler;

/// How far sums of f32 weights may be from each other, as a part of their whole.
const ROUNDING: f64 = 1e-5;

const ALL: Draw = Draw {
    temperature: 1.0,
    top_k: None,
    top_p: 1.0,
    min_p: 0.0,
    uniform: 0.0,
};

fn draw_from(
    rows: &[f32],
    vocab_size: usize,
    draws: &[RowDraw],
) -> Vec<Result<u32, InvalidLogits>> {
    assert!(
        draws
            .iter()
            .all(|draw| (draw.row + 1) * vocab_size <= rows.len())
    );
    let emulator = Emulator::shared();
    let Ok(mut rooms) = DrawRooms::new(emulator, draws.len());
    let logits = rows.as_ptr() as u64;
    // SAFETY: the rows were counted.
    let Ok(tokens) = unsafe { draw_tokens(emulator, &mut rooms, logits, vocab_size, draws) };
    tokens
}

/// What draws of one row give.
fn tokens(logits: &[f32], draws: impl IntoIterator<Item = Draw>) -> Vec<u32> {
    let of_row = |draw| RowDraw { row: 0, draw };
    let draws: Vec<RowDraw> = draws.into_iter().map(of_row).collect();
    let drawn = draw_from(logits, logits.len(), &draws);
    drawn.into_iter().collect::<Result<_, _>>().unwrap()
}

/// From 0 to below 1, evenly.
fn uniform(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z >> 11) as f64 / (1u64 << 53) as f64
}

/// Logits as of a model: some far above the many.
fn scattered(num: usize, seed: u64) -> Vec<f32> {
    let logit = |id: u64| {
        let x = uniform(seed * 1_000_003 + id);
        (1.0 / (x + 0.01)).ln() as f32 * 4.0 - 6.0
    };
    (0..num as u64).map(logit).collect()
}

/// Logits of which many are equal.
fn with_ties(num: usize, seed: u64) -> Vec<f32> {
    let logits = scattered(num, seed);
    logits.iter().map(|logit| logit.round()).collect()
}

/// Logits that leave out most tokens, the first too.
fn with_gaps(num: usize, seed: u64) -> Vec<f32> {
    let mut logits = scattered(num, seed);
    for id in (0..num - 1).filter(|id| id % 4 != 1) {
        logits[id] = f32::NEG_INFINITY;
    }
    logits
}

fn settings(first_seed: u64) -> Vec<Draw> {
    let mut draws = Vec::new();
    for temperature in [0.0, f32::MIN_POSITIVE, 0.7, 1.3] {
        for top_k in [None, Some(1), Some(5), Some(40), Some(usize::MAX)] {
            for top_p in [0.1, 0.9, 1.0] {
                for min_p in [0.0, 0.05] {
                    draws.push(Draw {
                        temperature,
                        top_k,
                        top_p,
                        min_p,
                        uniform: uniform(first_seed + draws.len() as u64),
                    });
                }
            }
        }
    }
    draws
}

/// Where a token is in the order that `draw` goes through.
fn place(logits: &[f32], draw: &Draw, token: u32) -> usize {
    if draw.top_k.is_none_or(|k| k >= logits.len()) {
        return token as usize;
    }
    let own = logits[token as usize];
    let is_before =
        |(id, logit): (usize, &f32)| *logit > own || (*logit == own && id < token as usize);
    logits
        .iter()
        .enumerate()
        .filter(|it| is_before(*it))
        .count()
}

/// Whether rounding alone may make a draw give this token.
fn is_within_rounding(logits: &[f32], draw: &Draw, token: u32) -> bool {
    let mut places = Vec::new();
    for of_uniform in [-ROUNDING, 0.0, ROUNDING] {
        for of_top_p in [-ROUNDING, 0.0, ROUNDING] {
            for of_min_p in [-ROUNDING, 0.0, ROUNDING] {
                let changed = |x: f32, by: f64| if x > 0.0 && x < 1.0 { x + by as f32 } else { x };
                let near = Draw {
                    uniform: (draw.uniform + of_uniform).clamp(0.0, 1.0 - 1e-9),
                    top_p: changed(draw.top_p, of_top_p),
                    min_p: changed(draw.min_p, of_min_p),
                    ..*draw
                };
                let drawn = sampler::drawn(logits, &near, &mut Vec::new());
                places.push(place(logits, draw, drawn));
            }
        }
    }
    places.sort_unstable();
    let own = place(logits, draw, token);
    logits[token as usize].is_finite() && (places[0]..=places[places.len() - 1]).contains(&own)
}

/// Returns how many tokens were others for rounding's sake.
fn compare(logits: &[f32], draws: &[Draw]) -> usize {
    let mut num_others = 0;
    for (draw, token) in draws.iter().zip(tokens(logits, draws.iter().copied())) {
        let expected = sampler::drawn(logits, draw, &mut Vec::new());
        if token != expected {
            let len = logits.len();
            assert!(
                is_within_rounding(logits, draw, token),
                "{token}, not {expected} of {len} by {draw:?}"
            );
            num_others += 1;
        }
    }
    num_others
}

#[test]
fn tokens_are_those_of_the_sampler() {
    let (mut num_drawn, mut num_others) = (0, 0);
    for (seed, vocab_size) in (0..).zip([1, 2, 33, 257, 1000, 3011]) {
        for logits in [scattered, with_ties, with_gaps].map(|kind| kind(vocab_size, seed)) {
            let draws = settings(1000 * seed);
            num_others += compare(&logits, &draws);
            num_drawn += draws.len();
        }
    }
    assert!(
        num_others * 1000 <= num_drawn,
        "{num_others} of {num_drawn}"
    );
}

#[test]
fn tokens_of_a_large_vocabulary_are_those_of_the_sampler() {
    let logits = scattered(128_256, 7);
    let draw = |top_k, top_p, seed| Draw {
        top_k,
        top_p,
        uniform: uniform(seed),
        ..ALL
    };
    let draws = [
        draw(None, 1.0, 1),
        draw(None, 0.95, 2),
        draw(Some(40), 0.95, 3),
        draw(Some(100_000), 1.0, 4),
        Draw {
            temperature: 0.0,
            ..ALL
        },
    ];
    assert!(compare(&logits, &draws) <= 1);
    // The last of equals that stay.
    let equal = vec![0.5; 128_256];
    let last = |draw| Draw {
        uniform: 0.999_999_9,
        ..draw
    };
    let drawn = tokens(
        &equal,
        [
            last(ALL),
            last(Draw { top_p: 0.5, ..ALL }),
            last(Draw {
                top_k: Some(1000),
                ..ALL
            }),
        ],
    );
    assert_eq!(drawn, [128_255, 64_127, 999]);
}

#[test]
fn of_equals_the_lowest_ids_stay() {
    let equal = [0.5; 8];
    let last = Draw {
        uniform: 0.99,
        ..ALL
    };
    let draws = [
        last,
        Draw {
            top_k: Some(3),
            ..last
        },
        Draw { top_p: 0.5, ..last },
        Draw {
            top_k: Some(4),
            top_p: 0.5,
            ..last
        },
        Draw {
            temperature: 0.0,
            ..last
        },
    ];
    assert_eq!(tokens(&equal, draws), [7, 2, 3, 1, 0]);
    assert_eq!(
        tokens(
            &[-1.0, -0.0, 0.0],
            [Draw {
                temperature: 0.0,
                ..ALL
            }]
        ),
        [1]
    );
}

#[test]
fn what_is_not_there_is_never_drawn() {
    let logits = [
        f32::NEG_INFINITY,
        1.0,
        f32::NEG_INFINITY,
        1.0,
        f32::NEG_INFINITY,
    ];
    let ends = [0.0, 1.0 - f64::EPSILON / 2.0].map(|uniform| Draw { uniform, ..ALL });
    assert_eq!(tokens(&logits, ends), [1, 3]);
    let ends = ends.map(|draw| Draw {
        top_k: Some(4),
        ..draw
    });
    assert_eq!(tokens(&logits, ends), [1, 3]);
}

#[test]
fn draws_are_as_frequent_as_the_softmax_says() {
    const NUM_DRAWS: usize = 1000;
    let logits = scattered(37, 3);
    let temperature = 1.3;
    let weights: Vec<f64> = logits.iter().map(|x| (f64::from(*x) / 1.3).exp()).collect();
    let mut by_weight: Vec<usize> = (0..37).collect();
    by_weight.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
    for (top_k, num_left) in [(None, 37), (Some(11), 11)] {
        let left = &by_weight[..num_left];
        let total: f64 = left.iter().map(|id| weights[*id]).sum();
        let draw = |index: usize| Draw {
            temperature,
            top_k,
            uniform: (index as f64 + 0.5) / NUM_DRAWS as f64,
            ..ALL
        };
        let mut counts = [0.0; 37];
        for token in tokens(&logits, (0..NUM_DRAWS).map(draw)) {
            counts[token as usize] += 1.0;
        }
        for (id, count) in counts.into_iter().enumerate() {
            let is_left = left.contains(&id);
            let probability = if is_left { weights[id] / total } else { 0.0 };
            // The uniform numbers are a grid, of which an interval holds one more or less.
            let expected = probability * NUM_DRAWS as f64;
            assert!(
                (count - expected).abs() <= 1.01,
                "{id}: {count}, not {expected}"
            );
            assert!(is_left || count == 0.0);
        }
    }
}

#[test]
fn logits_that_are_no_distribution_are_told_and_spoil_no_other_row() {
    let good = [0.0, 3.0, 1.0, f32::NEG_INFINITY];
    let mut rows = good.to_vec();
    let infinite = f32::INFINITY;
    for bad in [
        [0.0, f32::NAN, 1.0, 2.0],
        [0.0, -f32::NAN, 1.0, 2.0],
        [0.0, infinite, 1.0, 2.0],
        [-infinite; 4],
    ] {
        rows.extend(bad);
    }
    rows.extend(good);
    for draw in settings(0) {
        let draws: Vec<RowDraw> = (0..6).map(|row| RowDraw { row, draw }).collect();
        let drawn = draw_from(&rows, 4, &draws);
        assert_eq!(drawn[1..5], [Err(InvalidLogits); 4], "{draw:?}");
        let expected = sampler::drawn(&good, &draw, &mut Vec::new());
        assert_eq!([drawn[0], drawn[5]], [Ok(expected); 2], "{draw:?}");
    }
}

#[test]
fn a_draw_does_not_depend_on_company() {
    let vocab_size = 203;
    let rows: Vec<f32> = (0..7)
        .flat_map(|seed| scattered(vocab_size, seed))
        .collect();
    let draws: Vec<RowDraw> = (0..)
        .zip(settings(5))
        .map(|(index, draw)| RowDraw {
            row: index * 3 % 7,
            draw,
        })
        .collect();
    let together = draw_from(&rows, vocab_size, &draws);
    let backwards: Vec<RowDraw> = draws.iter().rev().copied().collect();
    let mut turned = draw_from(&rows, vocab_size, &backwards);
    turned.reverse();
    assert_eq!(turned, together);
    for (draw, token) in draws.iter().zip(&together) {
        assert_eq!(draw_from(&rows, vocab_size, &[*draw])[0], *token);
        let own = &rows[draw.row * vocab_size..][..vocab_size];
        assert_eq!(
            draw_from(own, vocab_size, &[RowDraw { row: 0, ..*draw }])[0],
            *token
        );
    }
    assert_eq!(draw_from(&rows, vocab_size, &[]), []);
}
