//! Vectors rounded to eight bits a number, one behind the other in memory: small and quick to compare, with a bound on
//! how far a comparison is off. What is shown to anyone is compared anew from the stored vectors.

use std::ops::Range;

use super::finalists::Finalists;
use super::sketches::{Room, Sketch, SketchQuery, Sketches};
use crate::kernels;

/// A comparison is off by less than this many standard deviations of the rounding errors' sum: one in a billion is not.
pub(super) const DEVIATIONS: f32 = 6.0;
/// Sketches are looked through first when there are so many rows for each that is to be found.
const ROWS_PER_FOUND: usize = 100;
/// So many pieces ahead, memory is asked for, and so many codes at a time: what is not in the cache takes longer to come
/// than to compare.
const PIECES_AHEAD: usize = 8;
const CODES_AT_A_TIME: usize = 32;
/// A thread is worth starting for so many rows: it takes as long as to look through a few thousand.
const ROWS_PER_THREAD: usize = 50_000;
const MAX_THREADS: usize = 4;

/// A vector of length 1, rounded: about `scale * numbers`.
pub(super) struct Code {
    pub numbers: Vec<i8>,
    pub scale: f32,
    /// The length of what rounding took away.
    pub error: f32,
}

impl Code {
    /// Of a vector of length 1.
    pub(super) fn of(unit: &[f32]) -> Self {
        let largest = unit.iter().fold(0f32, |most, value| most.max(value.abs()));
        let scale = largest / 127.0;
        let numbers: Vec<i8> = unit
            .iter()
            .map(|value| (value / scale).round() as i8)
            .collect();
        let lost = unit.iter().zip(&numbers).map(|(value, number)| {
            let difference = value - scale * f32::from(*number);
            difference * difference
        });
        Self {
            error: lost.sum::<f32>().sqrt(),
            numbers,
            scale,
        }
    }
}

/// A similarity, and by how much it may be wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub row: u32,
    pub score: f32,
    pub slack: f32,
}

impl Estimate {
    pub(super) fn least(&self) -> f32 {
        self.score - self.slack
    }

    pub(super) fn most(&self) -> f32 {
        self.score + self.slack
    }
}

/// A vector to compare others with.
pub(super) struct Query {
    /// Of length 1.
    pub unit: Vec<f32>,
    pub code: Code,
}

impl Query {
    pub(super) fn of(unit: Vec<f32>) -> Self {
        Self {
            code: Code::of(&unit),
            unit,
        }
    }
}

/// The codes of all rows, and their sketches.
#[derive(Default)]
pub(super) struct Codes {
    dimensions: usize,
    numbers: Vec<i8>,
    scales: Vec<f32>,
    errors: Vec<f32>,
    sketches: Sketches,
}

impl Codes {
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            sketches: Sketches::new(dimensions),
            ..Self::default()
        }
    }

    /// From what `parts` gave; `None` when they do not fit together.
    pub(super) fn from_parts(
        numbers: Vec<i8>,
        scales: Vec<f32>,
        errors: Vec<f32>,
        sketches: Sketches,
    ) -> Option<Self> {
        let dimensions = sketches.dimensions();
        let fits = numbers.len() == scales.len() * dimensions
            && errors.len() == scales.len()
            && sketches.len() == scales.len();
        fits.then_some(Self {
            dimensions,
            numbers,
            scales,
            errors,
            sketches,
        })
    }

    pub(super) fn sketches(&self) -> &Sketches {
        &self.sketches
    }

    /// Numbers, scales and errors.
    pub(super) fn parts(&self) -> (&[i8], &[f32], &[f32]) {
        (&self.numbers, &self.scales, &self.errors)
    }

    pub(super) fn len(&self) -> usize {
        self.scales.len()
    }

    pub(super) fn numbers_of(&self, row: u32) -> &[i8] {
        &self.numbers[row as usize * self.dimensions..][..self.dimensions]
    }

    /// Puts a code into `row`, which is there or the next one.
    pub(super) fn put(&mut self, row: u32, code: &Code) {
        self.sketches.put(row, &Sketch::of(code));
        let row = row as usize;
        if row == self.len() {
            self.numbers.extend(&code.numbers);
            self.scales.push(code.scale);
            self.errors.push(code.error);
        } else {
            self.numbers[row * self.dimensions..][..self.dimensions].copy_from_slice(&code.numbers);
            self.scales[row] = code.scale;
            self.errors[row] = code.error;
        }
    }

    /// Leaves in `finalists` what may be among the best of the rows of all `pieces`.
    pub(super) fn find(&self, query: &Query, pieces: &[Range<u32>], finalists: &mut Finalists) {
        let num_rows: usize = pieces.iter().map(ExactSizeIterator::len).sum();
        if num_rows / ROWS_PER_FOUND >= finalists.limit().max(1) {
            return self.find_by_sketches(query, pieces, num_rows, finalists);
        }
        let mut products = Vec::new();
        for rows in pieces {
            self.compare(&query.code, rows.clone(), &mut products, finalists);
        }
    }

    /// On several threads where there is much to look through.
    fn find_by_sketches(
        &self,
        query: &Query,
        pieces: &[Range<u32>],
        num_rows: usize,
        finalists: &mut Finalists,
    ) {
        let sketch = SketchQuery::of(&query.unit);
        let num_threads = num_threads().min(num_rows / ROWS_PER_THREAD).max(1);
        let mut parts = pieces.chunks(pieces.len().div_ceil(num_threads).max(1));
        let first = parts.next().unwrap_or_default();
        let limit = finalists.limit();
        std::thread::scope(|scope| {
            let mut others = Vec::new();
            for part in parts {
                let search = || {
                    let mut finalists = Finalists::new(limit);
                    self.look_through(query, &sketch, part, &mut finalists);
                    finalists
                };
                let thread = std::thread::Builder::new().name("store-compare".to_owned());
                match thread.spawn_scoped(scope, search) {
                    Ok(thread) => others.push(thread),
                    // The system gives no more threads; this one can do it as well.
                    Err(_) => self.look_through(query, &sketch, part, finalists),
                }
            }
            self.look_through(query, &sketch, first, finalists);
            for other in others {
                match other.join() {
                    Ok(found) => finalists.extend(found),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }

    fn look_through(
        &self,
        query: &Query,
        sketch: &SketchQuery,
        pieces: &[Range<u32>],
        finalists: &mut Finalists,
    ) {
        let mut room = Room::default();
        let mut products = Vec::new();
        let mut waiting = Vec::with_capacity(CODES_AT_A_TIME);
        let mut compare_all = |waiting: &mut Vec<u32>, finalists: &mut Finalists| {
            for row in waiting.drain(..) {
                self.compare(&query.code, row..row + 1, &mut products, finalists);
            }
        };
        for (at, rows) in pieces.iter().enumerate() {
            if let Some(ahead) = pieces.get(at + PIECES_AHEAD) {
                self.sketches.prefetch(ahead.clone());
            }
            let threshold = finalists.threshold();
            self.sketches
                .look_through(sketch, rows.clone(), threshold, &mut room, |row| {
                    kernels::codes::prefetch(self.numbers_of(row));
                    waiting.push(row);
                });
            if waiting.len() >= CODES_AT_A_TIME {
                compare_all(&mut waiting, finalists);
            }
        }
        compare_all(&mut waiting, finalists);
    }

    /// Puts an estimate of each of `rows` to `finalists`.
    pub(super) fn compare(
        &self,
        query: &Code,
        rows: Range<u32>,
        products: &mut Vec<i32>,
        finalists: &mut Finalists,
    ) {
        let (from, to) = (rows.start as usize, rows.end as usize);
        let numbers = &self.numbers[from * self.dimensions..to * self.dimensions];
        kernels::codes::products(&query.numbers, numbers, products);
        let confidence = (DEVIATIONS / (self.dimensions as f32).sqrt()).min(1.0);
        let scales = self.scales[from..to].iter().zip(&self.errors[from..to]);
        for ((row, product), (scale, error)) in rows.zip(products.iter()).zip(scales) {
            finalists.push(Estimate {
                row,
                score: *product as f32 * scale * query.scale,
                // Both vectors were rounded; a rounded one is longer than 1 by its error at most.
                slack: confidence * (error + query.error * (1.0 + error)) + f32::EPSILON,
            });
        }
    }
}

fn num_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::vector_index::unit;
    use super::*;

    #[test]
    fn an_estimate_is_never_further_off_than_it_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for dimensions in [1, 4, 64, 384] {
            let mut codes = Codes::new(dimensions);
            let mut random = || -> Vec<f32> {
                unit(
                    &(0..dimensions)
                        .map(|_| rng.random::<f32>() - 0.5)
                        .collect::<Vec<f32>>(),
                )
            };
            let vectors: Vec<Vec<f32>> = (0..500).map(|_| random()).collect();
            for (row, vector) in (0..).zip(&vectors) {
                codes.put(row, &Code::of(vector));
            }
            let mut num_compared = 0;
            let mut widest = 0f32;
            for query in (0..20).map(|_| random()) {
                let mut finalists = Finalists::new(500);
                codes.compare(&Code::of(&query), 0..500, &mut Vec::new(), &mut finalists);
                for estimate in finalists.estimates() {
                    let vector = &vectors[estimate.row as usize];
                    let exact: f64 = query
                        .iter()
                        .zip(vector)
                        .map(|(a, b)| f64::from(*a) * f64::from(*b))
                        .sum();
                    let bounds = f64::from(estimate.least())..=f64::from(estimate.most());
                    assert!(bounds.contains(&exact), "{exact} is not in {bounds:?}");
                    num_compared += 1;
                    widest = widest.max(estimate.slack);
                }
            }
            assert_eq!(num_compared, 10_000);
            assert!(widest < 0.03, "{dimensions} dimensions: {widest}");
        }
    }

    #[test]
    fn the_best_are_found_among_so_many_that_threads_share_the_work() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mut random = || {
            unit(
                &(0..8)
                    .map(|_| rng.random::<f32>() - 0.5)
                    .collect::<Vec<f32>>(),
            )
        };
        let vectors: Vec<Vec<f32>> = (0..3 * ROWS_PER_THREAD).map(|_| random()).collect();
        let mut codes = Codes::new(8);
        for (row, vector) in (0..).zip(&vectors) {
            codes.put(row, &Code::of(vector));
        }
        // All rows but every seventh hundred, in pieces.
        let is_in = |row: u32| row / 100 % 7 != 3;
        let hundreds = (0..vectors.len() as u32)
            .step_by(100)
            .filter(|row| is_in(*row));
        let pieces: Vec<Range<u32>> = hundreds.map(|row| row..row + 100).collect();
        for query in (0..5).map(|_| random()) {
            let mut finalists = Finalists::new(10);
            codes.find(&Query::of(query.clone()), &pieces, &mut finalists);
            let found = finalists.into_rows();
            let mut best: Vec<(f32, u32)> = (0..)
                .zip(&vectors)
                .filter(|(row, _)| is_in(*row))
                .map(|(row, vector)| (query.iter().zip(vector).map(|(a, b)| a * b).sum(), row))
                .collect();
            best.sort_by(|a, b| b.0.total_cmp(&a.0));
            assert!(best[..10].iter().all(|(_, row)| found.contains(row)));
            assert!(found.len() < 2_000, "{}", found.len());
            assert!(found.iter().all(|row| is_in(*row)));
        }
    }

    #[test]
    fn a_row_is_replaced_in_its_place() {
        let mut codes = Codes::new(2);
        codes.put(0, &Code::of(&[1.0, 0.0]));
        codes.put(1, &Code::of(&[0.0, 1.0]));
        codes.put(0, &Code::of(&[0.0, -1.0]));
        assert_eq!((codes.len(), codes.numbers_of(0)), (2, &[0, -127][..]));
        assert_eq!(codes.numbers_of(1), [0, 127]);
    }
}
