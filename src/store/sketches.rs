//! Codes turned (`rotation`) and rounded once more, to two bits a number: a quarter of the memory to read, and enough to tell
//! which codes are worth comparing. After Gao and Long's RaBitQ, 2024, which gives the bound on the error.

use std::ops::Range;

use super::codes::{Code, DEVIATIONS};
use super::rotation::rotate;
use crate::kernels::sketches::{NUMBERS_PER_BYTE, products};
use crate::kernels::vector::widest;

/// Between two values that a number is rounded to, in standard deviations of the numbers: the best for normal ones (Max, 1960).
const STEP: f32 = 0.9957;
/// The values are 0 to 3; this is in their middle.
const MIDDLE: f32 = 1.5;
/// What the cosine's complement is taken for at least. It keeps room for what rounding to a code took away, too.
const LEAST_SINE: f32 = 0.5;

/// A code's vector o, rounded to a vector c of whole numbers.
pub(super) struct Sketch {
    bytes: Vec<u8>,
    /// By which a product with c becomes one with o, without bias.
    scale: f32,
    /// Of the angle between o and c, with an allowance for what the code is off.
    tangent: f32,
}

impl Sketch {
    pub(super) fn of(code: &Code) -> Self {
        Self::of_parts(&code.numbers, code.scale, code.error)
    }

    fn of_parts(numbers: &[i8], scale: f32, error: f32) -> Self {
        let mut turned: Vec<f32> = numbers.iter().map(|n| scale * f32::from(*n)).collect();
        rotate(&mut turned);
        let row_len = turned.len().div_ceil(NUMBERS_PER_BYTE);
        let mut bytes = vec![0; row_len];
        let steps = (turned.len() as f32).sqrt() / STEP;
        let (mut along, mut length, mut length_rounded) = (0.0, 0.0, 0.0);
        widest(|| {
            for (slice, shift) in turned.chunks(row_len).zip([0, 2, 4, 6]) {
                for (value, byte) in slice.iter().zip(&mut bytes) {
                    let rounded = (value * steps + 2.0).clamp(0.0, 3.0) as u8;
                    *byte |= rounded << shift;
                    let centred = f32::from(rounded) - MIDDLE;
                    along += centred * value;
                    length += value * value;
                    length_rounded += centred * centred;
                }
            }
        });
        // Never zero: each number has the sign of what it was rounded to.
        let tangent = (length * length_rounded / (along * along) - 1.0)
            .max(0.0)
            .sqrt();
        Self {
            bytes,
            scale: length / along,
            tangent: tangent + error / LEAST_SINE,
        }
    }
}

/// A query, as sketches are compared with it.
pub(super) struct SketchQuery {
    /// In as many numbers as a sketch has bytes for.
    numbers: Vec<i8>,
    scale: f32,
    error: f32,
    /// What the middle of a sketch's values adds to a product.
    base: f32,
}

impl SketchQuery {
    /// Of a vector of length 1.
    pub(super) fn of(unit: &[f32]) -> Self {
        let mut turned = unit.to_vec();
        rotate(&mut turned);
        let mut code = Code::of(&turned);
        let whole = unit.len().next_multiple_of(NUMBERS_PER_BYTE);
        code.numbers.resize(whole, 0);
        let sum: i32 = code.numbers.iter().map(|n| i32::from(*n)).sum();
        Self {
            numbers: code.numbers,
            scale: code.scale,
            error: code.error,
            base: MIDDLE * sum as f32,
        }
    }
}

/// The sketches of all rows.
#[derive(Default)]
pub(super) struct Sketches {
    dimensions: usize,
    bytes: Vec<u8>,
    scales: Vec<f32>,
    tangents: Vec<f32>,
}

impl Sketches {
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            ..Self::default()
        }
    }

    /// From what `parts` gave; `None` when they do not fit together.
    pub(super) fn from_parts(
        dimensions: usize,
        bytes: Vec<u8>,
        scales: Vec<f32>,
        tangents: Vec<f32>,
    ) -> Option<Self> {
        let sketches = Self {
            dimensions,
            bytes,
            scales,
            tangents,
        };
        let num_rows = sketches.scales.len();
        let fits = sketches.bytes.len() == num_rows * sketches.row_len()
            && sketches.tangents.len() == num_rows;
        fits.then_some(sketches)
    }

    /// Of codes that were kept without.
    pub(super) fn of(dimensions: usize, numbers: &[i8], scales: &[f32], errors: &[f32]) -> Self {
        let mut sketches = Self::new(dimensions);
        let rows = numbers.chunks(dimensions.max(1)).zip(scales).zip(errors);
        for (row, ((numbers, scale), error)) in (0..).zip(rows) {
            sketches.put(row, &Sketch::of_parts(numbers, *scale, *error));
        }
        sketches
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub(super) fn len(&self) -> usize {
        self.scales.len()
    }

    /// Bytes, scales and tangents.
    pub(super) fn parts(&self) -> (&[u8], &[f32], &[f32]) {
        (&self.bytes, &self.scales, &self.tangents)
    }

    /// Bytes of a row.
    pub(super) fn row_len(&self) -> usize {
        self.dimensions.div_ceil(NUMBERS_PER_BYTE)
    }

    /// Puts a sketch into `row`, which is there or the next one.
    pub(super) fn put(&mut self, row: u32, sketch: &Sketch) {
        let (row, row_len) = (row as usize, self.row_len());
        if row == self.scales.len() {
            self.bytes.extend(&sketch.bytes);
            self.scales.push(sketch.scale);
            self.tangents.push(sketch.tangent);
        } else {
            self.bytes[row * row_len..][..row_len].copy_from_slice(&sketch.bytes);
            self.scales[row] = sketch.scale;
            self.tangents[row] = sketch.tangent;
        }
    }

    /// Asks for the memory of rows that are looked through soon.
    pub(super) fn prefetch(&self, rows: Range<u32>) {
        let (from, to) = (rows.start as usize, rows.end as usize);
        let row_len = self.row_len();
        crate::kernels::codes::prefetch(&self.bytes[from * row_len..to * row_len]);
        crate::kernels::codes::prefetch(&self.scales[from..to]);
        crate::kernels::codes::prefetch(&self.tangents[from..to]);
    }

    /// Hands `each` those of `rows` whose similarity to the query may be `threshold` or more.
    pub(super) fn look_through(
        &self,
        query: &SketchQuery,
        rows: Range<u32>,
        threshold: f32,
        room: &mut Room,
        mut each: impl FnMut(u32),
    ) {
        let (from, to) = (rows.start as usize, rows.end as usize);
        let row_len = self.row_len();
        let bytes = &self.bytes[from * row_len..to * row_len];
        products(&query.numbers, bytes, &mut room.products);
        let confidence = (DEVIATIONS / (self.dimensions as f32 - 1.0).sqrt()).min(1.0);
        // Of q, what lies along o is known without error. What may be wrong is the part across, which is as long as the sine
        // of their angle; one that matters is within that of the threshold.
        let sine = match threshold > 0.0 {
            true => (1.0 - threshold * threshold).max(0.0).sqrt(),
            false => 1.0,
        };
        let across = confidence * (sine.max(LEAST_SINE) + query.error);
        let least = threshold - confidence * query.error - f32::EPSILON;
        room.most.clear();
        widest(|| {
            let sketches = self.scales[from..to].iter().zip(&self.tangents[from..to]);
            let most = sketches
                .zip(&room.products)
                .map(|((scale, tangent), product)| {
                    (*product as f32 - query.base) * (scale * query.scale) + tangent * across
                });
            room.most.extend(most);
        });
        for (most, row) in room.most.iter().zip(rows) {
            if *most >= least {
                each(row);
            }
        }
    }
}

/// What `look_through` works in, kept from one call to the next.
#[derive(Default)]
pub(super) struct Room {
    products: Vec<i32>,
    most: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::vector_index::unit;
    use super::*;

    /// Vectors some of whose numbers are always large, as embedding models make them, and near each other or not.
    fn vectors(rng: &mut ChaCha8Rng, dimensions: usize, count: usize) -> Vec<Vec<f32>> {
        let mut vectors: Vec<Vec<f32>> = Vec::new();
        for i in 0..count {
            let mut vector: Vec<f32> = (0..dimensions).map(|_| rng.random::<f32>() - 0.5).collect();
            vector[dimensions / 3] += 3.0;
            if i % 2 == 1 {
                let near = i as f32 / count as f32;
                let other = vectors[i / 2].clone();
                vector
                    .iter_mut()
                    .zip(other)
                    .for_each(|(a, b)| *a = near * b + (1.0 - near) * *a);
            }
            vectors.push(unit(&vector));
        }
        vectors
    }

    #[test]
    fn none_that_is_as_similar_as_asked_for_is_left_out_and_few_others_are_let_in() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for dimensions in [1, 2, 5, 64, 384] {
            let vectors = vectors(&mut rng, dimensions, 600);
            let mut sketches = Sketches::new(dimensions);
            for (row, vector) in (0..).zip(&vectors) {
                sketches.put(row, &Sketch::of(&Code::of(vector)));
            }
            let (mut num_let_in, mut num_similar, mut num_above) = (0, 0, 0);
            for query in vectors.iter().step_by(7) {
                for threshold in [-1.0, 0.2, 0.7, 0.95, 0.9999] {
                    let mut found = Vec::new();
                    let prepared = SketchQuery::of(query);
                    let mut room = Room::default();
                    for rows in [0..250, 250..600] {
                        let push = |row| found.push(row);
                        sketches.look_through(&prepared, rows, threshold, &mut room, push);
                    }
                    for (row, vector) in (0..).zip(&vectors) {
                        let pairs = query.iter().zip(vector);
                        let exact: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                        if exact >= f64::from(threshold) {
                            assert!(found.contains(&row), "{dimensions}: {exact} at {threshold}");
                            num_similar += 1;
                            num_above += usize::from(threshold > 0.5);
                        }
                    }
                    if threshold > 0.5 {
                        num_let_in += found.len();
                    }
                }
            }
            assert!(num_similar > 10_000, "{dimensions}: {num_similar}");
            let most = 2 * num_above;
            assert!(
                dimensions < 384 || num_let_in < most,
                "{num_let_in} for {num_above}"
            );
        }
    }

    #[test]
    fn a_row_is_replaced_in_its_place() {
        let mut sketches = Sketches::new(5);
        let of = |vector: &[f32]| Sketch::of(&Code::of(vector));
        let (first, second) = (
            of(&[1.0, 0.0, 0.0, 0.0, 0.0]),
            of(&[0.0, 0.0, -1.0, 0.0, 0.0]),
        );
        sketches.put(0, &first);
        sketches.put(1, &first);
        sketches.put(0, &second);
        assert_eq!(sketches.parts().0, [second.bytes, first.bytes].concat());
        assert_eq!(sketches.parts().1, [second.scale, first.scale]);
    }
}
