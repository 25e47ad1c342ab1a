//! How long those who read generated text wait for it, counted as it happens. Never a lock: counting must not slow a
//! stream.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What one model's readers have waited.
#[derive(Debug)]
pub struct Timings {
    /// From the request to the first token.
    pub first_token: Histogram,
    /// Between two tokens of a text.
    pub inter_token: Histogram,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            first_token: Histogram::new(&[
                0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
            ]),
            inter_token: Histogram::new(&[
                0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
            ]),
        }
    }
}

/// How many durations were at most so long.
#[derive(Debug)]
pub struct Histogram {
    /// In seconds, ascending.
    bounds: &'static [f64],
    /// One for each bound, and one for what is longer than all.
    counts: Box<[AtomicU64]>,
    sum_micros: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0));
        Self {
            bounds,
            counts: counts.collect(),
            sum_micros: AtomicU64::new(0),
        }
    }

    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_micros
            .fetch_add(duration.as_micros() as u64, Relaxed);
    }

    /// Each bound in seconds with how many were at most so long; the last bound is infinite.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let mut total = 0;
        let cumulative = bounds.zip(&self.counts).map(|(bound, count)| {
            total += count.load(Relaxed);
            (bound, total)
        });
        cumulative.collect()
    }

    /// All durations together, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum_micros.load(Relaxed) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_for_its_own_bound_and_all_above() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [50, 100, 101, 5000] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(
            histogram.cumulative(),
            [(0.1, 2), (1.0, 3), (f64::INFINITY, 4)]
        );
        assert!((histogram.sum() - 5.251).abs() < 1e-9);
    }
}
