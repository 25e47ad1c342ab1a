//! Vectors rounded to eight bits a number, one behind the other in memory: small and quick to compare, with a bound on
//! how far a comparison is off. What is shown to anyone is compared anew from the stored vectors.

use crate::kernels;

/// A comparison is off by less than this many standard deviations of the rounding errors' sum: one in a billion is not.
const DEVIATIONS: f32 = 6.0;

/// A vector of length 1, rounded: about `scale * numbers`.
pub(super) struct Code {
    pub numbers: Vec<i8>,
    scale: f32,
    /// The length of what rounding took away.
    error: f32,
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

/// The codes of all rows.
#[derive(Default)]
pub(super) struct Codes {
    dimensions: usize,
    numbers: Vec<i8>,
    scales: Vec<f32>,
    errors: Vec<f32>,
}

impl Codes {
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            ..Self::default()
        }
    }

    /// From what `parts` gave; `None` when they do not fit together.
    pub(super) fn from_parts(
        dimensions: usize,
        numbers: Vec<i8>,
        scales: Vec<f32>,
        errors: Vec<f32>,
    ) -> Option<Self> {
        let fits = numbers.len() == scales.len() * dimensions && errors.len() == scales.len();
        fits.then_some(Self {
            dimensions,
            numbers,
            scales,
            errors,
        })
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

    /// Hands `each` an estimate of every row from `start` on.
    pub(super) fn compare(
        &self,
        query: &Code,
        start: u32,
        num_rows: u32,
        products: &mut Vec<i32>,
        mut each: impl FnMut(Estimate),
    ) {
        let (first, count) = (start as usize, num_rows as usize);
        let numbers = &self.numbers[first * self.dimensions..][..count * self.dimensions];
        kernels::codes::products(&query.numbers, numbers, products);
        let confidence = (DEVIATIONS / (self.dimensions as f32).sqrt()).min(1.0);
        let rows = self.scales[first..].iter().zip(&self.errors[first..]);
        for ((row, product), (scale, error)) in (start..).zip(products.iter()).zip(rows) {
            each(Estimate {
                row,
                score: *product as f32 * scale * query.scale,
                // Both vectors were rounded; a rounded one is longer than 1 by its error at most.
                slack: confidence * (error + query.error * (1.0 + error)) + f32::EPSILON,
            });
        }
    }
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
                codes.compare(&Code::of(&query), 0, 500, &mut Vec::new(), |estimate| {
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
                });
            }
            assert_eq!(num_compared, 10_000);
            assert!(widest < 0.03, "{dimensions} dimensions: {widest}");
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
