//! Arithmetic on short runs of f32, written in lanes so that the compiler vectorises it with whatever instructions the
//! calling function is compiled for. The order of additions depends on nothing but the length.

use std::f32::consts::LOG2_E;

const LANES: usize = 16;

/// What [`widest`] runs. Only what becomes part of the function that has the instructions is compiled for them: a small
/// closure does, but large ones were left apart by the compiler and ran on 128 bits. For those make a type of your own,
/// whose `run` is `#[inline(always)]`.
pub trait Work {
    type Output;

    fn run(self) -> Self::Output;
}

impl<R, F: FnOnce() -> R> Work for F {
    type Output = R;

    #[inline(always)]
    fn run(self) -> R {
        self()
    }
}

/// Runs `work` compiled for the widest vectors that the processor has. Multiplications and additions stay apart, so
/// its results are the same on all of them.
#[inline]
pub fn widest<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq") {
            // SAFETY: the processor has these instructions; it was asked.
            return unsafe { x86::avx512(work) };
        }
        if has!("avx2") && has!("fma") {
            // SAFETY: as above.
            return unsafe { x86::avx2(work) };
        }
    }
    work.run()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Work;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub fn avx512<W: Work>(work: W) -> W::Output {
        work.run()
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2<W: Work>(work: W) -> W::Output {
        work.run()
    }
}

/// `a * b + c`, in one rounding where `FMA` says that the processor has an instruction for it.
#[inline(always)]
pub fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The sum of the products of two runs of one length.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_runs, a_rest) = a.as_chunks::<LANES>();
    let (b_runs, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_runs.iter().zip(b_runs) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    let mut sum = lanes[0];
    for (&a, &b) in a_rest.iter().zip(b_rest) {
        sum += a * b;
    }
    sum
}

/// `to *= factor`.
#[inline(always)]
pub fn scale(to: &mut [f32], factor: f32) {
    for to in to {
        *to *= factor;
    }
}

/// e to the power of `x`, within 3e-7 relative; below -87 and above 88 it stays at the value there.
///
/// Cody-Waite reduction to `|r| <= ln(2) / 2` and the polynomial of Cephes' `expf`.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding this rounds to an integer, which then stands in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = mul_add::<FMA>(x, LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<FMA>(n, -0.693_359_4, x);
    let r = mul_add::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_6e-1,
        0.5,
        1.0,
        1.0,
    ] {
        p = mul_add::<FMA>(p, r, c);
    }
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// Scores that are further below the largest weigh nothing: beside its weight of 1, as many of theirs as a context has positions
/// are lost in an f32.
const WEIGHTLESS: f32 = -60.0;

/// What a score weighs in a softmax, by its distance from the largest. Never so little that a product with it is subnormal for a
/// number of usual size: processors take a hundred times as long for one.
#[inline(always)]
pub fn softmax_weight<const FMA: bool>(distance: f32) -> f32 {
    let weight = exp::<FMA>(distance);
    if distance < WEIGHTLESS { 0.0 } else { weight }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_far_below_the_largest_weighs_nothing() {
        for distance in [0.0, -1.0, -59.9] {
            let [found, expected] = [softmax_weight::<false>(distance), exp::<false>(distance)];
            assert_eq!(found, expected);
        }
        for distance in [-60.1, -87.0, -1e30, f32::NEG_INFINITY] {
            assert_eq!(softmax_weight::<false>(distance), 0.0);
        }
        assert!(softmax_weight::<false>(f32::NAN).is_nan());
        // A million positions that just weigh something.
        assert_eq!(1.0 + 1e6 * softmax_weight::<false>(-60.0), 1.0);
    }

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for step in -8700..=8800 {
            let x = step as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp::<false>(x)) / expected - 1.0).abs();
            assert!(error < 3e-7, "exp({x}) is off by {error}");
        }
        assert!(exp::<false>(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn a_dot_product_counts_every_element() {
        for len in [0, 1, 15, 16, 17, 40, 64] {
            let a: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let expected: usize = (0..len).map(|i| i * i).sum();
            assert_eq!(dot(&a, &a), expected as f32);
        }
    }
}
