//! What chance could have done: intervals of means, and tests of differences on the same questions. The same seed gives
//! the same numbers. Pure.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Resamples of a bootstrap, and of a test that cannot try all of them.
pub const RESAMPLES: usize = 2_000;
pub const PERMUTATIONS: usize = 10_000;

/// A mean with its 95% interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    pub num_questions: usize,
}

impl Estimate {
    /// The interval is that of the percentile bootstrap (Efron, 1979). `None` without any value.
    pub fn of(values: &[f64], seed: u64) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let num = values.len();
        let mut means: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let drawn = (0..num).map(|_| values[random.random_range(0..num)]);
                drawn.sum::<f64>() / num as f64
            })
            .collect();
        means.sort_by(f64::total_cmp);
        Some(Self {
            mean: mean(values),
            low: quantile(&means, 0.025),
            high: quantile(&means, 0.975),
            num_questions: num,
        })
    }
}

/// How one variant differs from another on the same questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    #[serde(flatten)]
    pub estimate: Estimate,
    pub num_better: usize,
    pub num_worse: usize,
    /// Of the paired randomisation test, two-sided.
    pub p: f64,
    /// The same by Holm's method, over all comparisons of this metric with the first variant.
    pub p_adjusted: f64,
}

impl Difference {
    /// Of `differences`, one a question. `p_adjusted` is `p` until [`adjust`] is called.
    pub fn of(differences: &[f64], seed: u64) -> Option<Self> {
        let p = randomization_test(differences, seed);
        Some(Self {
            estimate: Estimate::of(differences, seed)?,
            num_better: differences.iter().filter(|it| **it > 0.0).count(),
            num_worse: differences.iter().filter(|it| **it < 0.0).count(),
            p,
            p_adjusted: p,
        })
    }

    /// Whether chance alone makes such a difference in less than one of twenty comparisons.
    pub fn is_significant(&self) -> bool {
        self.p_adjusted < 0.05
    }
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The paired randomisation test (Fisher; for retrieval: Smucker, Allan and Carterette, 2007), two-sided: how often
/// differences of these sizes with signs by chance have a mean as far from 0. All signs are tried where they are few,
/// else [`PERMUTATIONS`] drawn ones, and the observed one counts as one of them.
pub fn randomization_test(differences: &[f64], seed: u64) -> f64 {
    // Equal questions change nothing, whatever their sign.
    let sizes: Vec<f64> = differences
        .iter()
        .copied()
        .filter(|it| *it != 0.0)
        .collect();
    if sizes.is_empty() {
        return 1.0;
    }
    let observed = sizes.iter().sum::<f64>().abs();
    // Sums in another order differ in their last bits.
    let is_as_far = |sum: f64| sum.abs() >= observed - 1e-9 * observed.max(1e-9);
    if sizes.len() < 63 && 1u64 << sizes.len() <= PERMUTATIONS as u64 {
        let all = 1u64 << sizes.len();
        let signed = |signs: u64| -> f64 {
            let flip = |(at, size): (usize, &f64)| match signs >> at & 1 {
                1 => -size,
                _ => *size,
            };
            sizes.iter().enumerate().map(flip).sum()
        };
        let as_far = (0..all).filter(|signs| is_as_far(signed(*signs))).count();
        return as_far as f64 / all as f64;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = || -> f64 {
        let signed = sizes.chunks(64).map(|sizes| {
            let mut signs: u64 = random.random();
            let mut sum = 0.0;
            for size in sizes {
                sum += if signs & 1 == 1 { -size } else { *size };
                signs >>= 1;
            }
            sum
        });
        signed.sum()
    };
    let as_far = (0..PERMUTATIONS).filter(|_| is_as_far(drawn())).count();
    (as_far + 1) as f64 / (PERMUTATIONS + 1) as f64
}

/// Holm's step-down adjustment (1979): with many comparisons, some look good by chance.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut at_least: f64 = 0.0;
    for (rank, at) in order.into_iter().enumerate() {
        let factor = (p_values.len() - rank) as f64;
        at_least = at_least.max((p_values[at] * factor).min(1.0));
        adjusted[at] = at_least;
    }
    adjusted
}

/// By linear interpolation of sorted values, as numpy does by default.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = q * last as f64;
    let (low, rest) = (place.floor() as usize, place.fract());
    sorted[low] + (sorted[(low + 1).min(last)] - sorted[low]) * rest
}

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub num_questions: usize,
}

impl Latency {
    /// `None` without any time.
    pub fn of(mut times: Vec<f64>) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        (!times.is_empty()).then(|| Self {
            p50_ms: quantile(&times, 0.5),
            p95_ms: quantile(&times, 0.95),
            num_questions: times.len(),
        })
    }
}

#[cfg(test)]
mod tests;
