//! Keeps, of many estimates, those that may be among the best once compared exactly.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::codes::Estimate;

/// Beyond `limit`, so many are kept before the hopeless ones are thrown out.
const ROOM: usize = 1024;

pub(super) struct Finalists {
    limit: usize,
    kept: Vec<Estimate>,
    capacity: usize,
    /// The greatest of what estimates are at least, `limit` of them, the least on top.
    least: BinaryHeap<Least>,
}

impl Finalists {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Vec::new(),
            capacity: limit.saturating_mul(2).saturating_add(ROOM),
            least: BinaryHeap::new(),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// `limit` vectors are at least this similar.
    #[inline]
    pub(super) fn threshold(&self) -> f32 {
        match self.least.peek() {
            Some(Least(least)) if self.least.len() == self.limit => *least,
            _ if self.limit == 0 => f32::INFINITY,
            _ => f32::NEG_INFINITY,
        }
    }

    #[inline]
    pub(super) fn push(&mut self, estimate: Estimate) {
        let threshold = self.threshold();
        if estimate.most() < threshold {
            return;
        }
        self.kept.push(estimate);
        if estimate.least() > threshold {
            if self.least.len() == self.limit {
                self.least.pop();
            }
            self.least.push(Least(estimate.least()));
        }
        if self.kept.len() >= self.capacity {
            self.prune();
            // Where very many are as good as the best, they are all kept; pruning must stay rare.
            self.capacity = self.capacity.max(2 * self.kept.len());
        }
    }

    /// Takes those of others.
    pub(super) fn extend(&mut self, others: Self) {
        others.kept.into_iter().for_each(|one| self.push(one));
    }

    pub(super) fn into_rows(mut self) -> Vec<u32> {
        self.prune();
        let mut rows: Vec<u32> = self.kept.iter().map(|estimate| estimate.row).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    #[cfg(test)]
    pub(super) fn estimates(&self) -> &[Estimate] {
        &self.kept
    }

    fn prune(&mut self) {
        let threshold = self.threshold();
        self.kept.retain(|estimate| estimate.most() >= threshold);
    }
}

/// Ordered so that the least comes first.
#[derive(PartialEq)]
struct Least(f32);

impl Eq for Least {}

impl Ord for Least {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.total_cmp(&self.0)
    }
}

impl PartialOrd for Least {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn everything_that_may_be_among_the_best_is_kept_and_little_else() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for (limit, slack) in [(0, 0.0), (1, 0.0), (10, 0.003), (10, 2.0), (5000, 0.001)] {
            let estimates: Vec<Estimate> = (0..20_000)
                .map(|row| Estimate {
                    row,
                    score: rng.random(),
                    slack,
                })
                .collect();
            let mut finalists = Finalists::new(limit);
            estimates.iter().for_each(|one| finalists.push(*one));
            let mut sorted: Vec<f32> = estimates.iter().map(Estimate::least).collect();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let expected: Vec<u32> = estimates
                .iter()
                .filter(|one| limit > 0 && one.most() >= sorted[limit - 1])
                .map(|one| one.row)
                .collect();
            assert_eq!(finalists.into_rows(), expected, "{limit}, {slack}");
        }
    }
}
