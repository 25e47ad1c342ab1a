//! A fixed turn of a space, as good as a random one: afterwards the numbers of any vector are about as large as each other,
//! and rounding them is wrong by as much in one direction as in another. Lengths and angles stay. What was turned is kept
//! in files, so this must never change without their format.

use crate::kernels::vector::widest;

/// Each mixes numbers that lie anywhere; after three hardly anything is left of how they lay.
const NUM_ROUNDS: u64 = 3;

/// Ailon and Chazelle, 2009: signs at random, then a Hadamard transform; here of the first and of the last numbers, as many
/// as a power of two allows, since that transform knows no other lengths.
pub(super) fn rotate(vector: &mut [f32]) {
    let Some(log) = vector.len().checked_ilog2() else {
        return;
    };
    let (len, part) = (vector.len(), 1 << log);
    widest(|| {
        for round in 0..NUM_ROUNDS {
            for (run, at) in vector.chunks_mut(64).zip(0..) {
                let signs = random_bits(round << 32 | at);
                for (i, value) in run.iter_mut().enumerate() {
                    *value = if signs >> i & 1 == 1 { -*value } else { *value };
                }
            }
            hadamard(&mut vector[..part]);
            if part < len {
                hadamard(&mut vector[len - part..]);
            }
        }
    });
}

#[inline(always)]
fn hadamard(vector: &mut [f32]) {
    let mut half = 1;
    while half < vector.len() {
        for pair in vector.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (vector.len() as f32).sqrt();
    vector.iter_mut().for_each(|value| *value *= scale);
}

/// Steele, Lea and Flood's splitmix, 2014.
fn random_bits(number: u64) -> u64 {
    let mut z = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_and_lengths_stay_and_what_stood_out_is_spread() {
        for len in [1, 2, 3, 4, 64, 100, 384, 768, 1000] {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let (mut a, mut b) = (vec![0.0; len], vec![0.0; len]);
            a[0] = 1.0;
            b[len / 2] = 3.0;
            b[0] += 4.0;
            let before = [dot(&a, &a), dot(&a, &b), dot(&b, &b)];
            rotate(&mut a);
            rotate(&mut b);
            for (before, after) in before.iter().zip([dot(&a, &a), dot(&a, &b), dot(&b, &b)]) {
                assert!((before - after).abs() < 1e-4, "{len}: {before} is {after}");
            }
            if len >= 64 {
                let most = a.iter().fold(0f32, |most, value| most.max(value.abs()));
                assert!(most < 4.5 / (len as f32).sqrt(), "{len}: {most}");
            }
        }
    }
}
