//! Keeps, of many estimates, those that may be among the best once compared exactly.

use super::codes::Estimate;

/// Beyond `limit`, so many are kept before the hopeless ones are thrown out.
const ROOM: usize = 1024;

pub(super) struct Finalists {
    limit: usize,
    kept: Vec<Estimate>,
    capacity: usize,
    /// `limit` vectors are at least this similar.
    threshold: f32,
}

impl Finalists {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Vec::new(),
            capacity: limit.saturating_mul(2).saturating_add(ROOM),
            threshold: f32::NEG_INFINITY,
        }
    }

    #[inline]
    pub(super) fn push(&mut self, estimate: Estimate) {
        if estimate.most() < self.threshold {
            return;
        }
        self.kept.push(estimate);
        if self.kept.len() >= self.capacity {
            self.prune();
            // Where very many are as good as the best, they are all kept; pruning must stay rare.
            self.capacity = self.capacity.max(2 * self.kept.len());
        }
    }

    pub(super) fn into_rows(mut self) -> Vec<u32> {
        self.prune();
        let mut rows: Vec<u32> = self.kept.iter().map(|estimate| estimate.row).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    fn prune(&mut self) {
        if self.limit == 0 {
            self.kept.clear();
        } else if self.kept.len() > self.limit {
            let best_first = |a: &Estimate, b: &Estimate| b.least().total_cmp(&a.least());
            let (_, last, _) = self.kept.select_nth_unstable_by(self.limit - 1, best_first);
            self.threshold = last.least();
            let threshold = self.threshold;
            self.kept.retain(|estimate| estimate.most() >= threshold);
        }
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
