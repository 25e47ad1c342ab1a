//! Which GPU has which layers of a model that several share, and how much cache there is room for. Only decides.

/// Bytes that a model takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartBytes {
    /// Weights of each layer. There is one at least.
    pub layers: Vec<u64>,
    /// The cache of all layers, of which each has as much.
    pub cache: u64,
    /// What follows the last layer, and is where that is.
    pub head: u64,
    /// Beside them, on every GPU that has a layer.
    pub each: u64,
}

impl PartBytes {
    /// With its cache.
    fn layer(&self, index: usize) -> u64 {
        let cache = self.cache.div_ceil(self.layers.len() as u64);
        self.layers[index].saturating_add(cache)
    }

    /// The largest, with its cache.
    pub fn largest_layer(&self) -> u64 {
        let layers = (0..self.layers.len()).map(|index| self.layer(index));
        layers.max().unwrap_or(0)
    }

    /// What it takes on so many GPUs, all together.
    pub fn sum(&self, num_gpus: usize) -> u64 {
        let layers = (0..self.layers.len()).map(|index| self.layer(index));
        let each = self.each.saturating_mul(num_gpus as u64);
        layers.fold(self.head.saturating_add(each), u64::saturating_add)
    }

    /// With that it is split for sure, however it is spread over so many GPUs: beside what is taken, each may have room for a part
    /// of what cannot be divided.
    pub fn most(&self, num_gpus: usize) -> u64 {
        let undivided = self.largest_layer().saturating_add(self.head);
        let rounding = undivided.saturating_mul(num_gpus as u64);
        self.sum(num_gpus).saturating_add(rounding)
    }
}

/// Steps from nothing to all of the memory that is free.
const STEPS: u64 = 256;

/// How many layers each GPU has, one after the other, so that all of them are about as full as each other; some may have none.
/// `None` where the model does not fit into what each of them has free.
pub fn split(model: &PartBytes, free_bytes: &[u64]) -> Option<Vec<usize>> {
    (1..=STEPS).find_map(|step| {
        let limits = free_bytes
            .iter()
            .map(|free| (u128::from(*free) * u128::from(step) / u128::from(STEPS)) as u64);
        within(model, &limits.collect::<Vec<_>>())
    })
}

/// The same with as much of its cache as fits, but for a 16th of what is above `least_cache`.
pub fn with_cache_that_fits(
    model: PartBytes,
    least_cache: u64,
    free_bytes: &[u64],
) -> Option<PartBytes> {
    let above = model.cache.saturating_sub(least_cache);
    let sixteenths = (0..=16).rev().map(|count| above / 16 * count);
    sixteenths
        .map(|above| PartBytes {
            cache: least_cache + above,
            ..model.clone()
        })
        .find(|model| split(model, free_bytes).is_some())
}

/// From the last layer on, as many on each GPU as fit.
fn within(model: &PartBytes, limits: &[u64]) -> Option<Vec<usize>> {
    let mut left = model.layers.len();
    let mut head = model.head;
    let mut counts: Vec<usize> = Vec::new();
    for limit in limits.iter().rev() {
        let before = left;
        let mut taken = model.each.saturating_add(head);
        while left > 0 && taken.saturating_add(model.layer(left - 1)) <= *limit {
            left -= 1;
            taken = taken.saturating_add(model.layer(left));
        }
        if left < before {
            head = 0;
        }
        counts.push(before - left);
    }
    counts.reverse();
    (left == 0).then_some(counts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(num_layers: usize) -> PartBytes {
        PartBytes {
            layers: vec![8; num_layers],
            cache: 2 * num_layers as u64,
            head: 15,
            each: 3,
        }
    }

    #[test]
    fn gpus_are_about_as_full_as_each_other() {
        let split = |free: &[u64]| split(&model(8), free);
        assert_eq!(split(&[100, 100]), Some(vec![5, 3]));
        assert_eq!(split(&[70, 70]), Some(vec![5, 3]));
        // In proportion to what they have free.
        assert_eq!(split(&[200, 60]), Some(vec![7, 1]));
        assert_eq!(split(&[200, 50]), Some(vec![8, 0]));
        assert_eq!(split(&[100, 100, 100]), Some(vec![3, 3, 2]));
    }

    #[test]
    fn a_gpu_without_room_has_none() {
        let split = |free: &[u64]| split(&model(3), free);
        assert_eq!(split(&[48, 2]), Some(vec![3, 0]));
        assert_eq!(split(&[48, 27]), Some(vec![3, 0]));
        assert_eq!(split(&[2, 48]), Some(vec![0, 3]));
        assert_eq!(split(&[13, 2, 38]), Some(vec![1, 0, 2]));
    }

    #[test]
    fn a_cache_that_does_not_fit_is_made_smaller() {
        let greedy = PartBytes {
            cache: 1600,
            ..model(8)
        };
        let found = |free: &[u64]| {
            let fitting = with_cache_that_fits(greedy.clone(), 16, free)?;
            assert!(split(&fitting, free).is_some());
            Some(fitting.cache)
        };
        assert_eq!(found(&[2000, 2000]), Some(1600));
        let cache = found(&[500, 500]).unwrap();
        assert!((700..900).contains(&cache), "{cache}");
        assert_eq!(found(&[70, 70]), Some(16));
        assert_eq!(found(&[50, 50]), None);
    }

    proptest! {
        #[test]
        fn what_must_fit_is_split_and_no_gpu_has_more_than_it_can(
            layers in prop::collection::vec(0u64..100, 1..40),
            [cache, head, each] in [0u64..1000, 0..300, 0..50],
            free in prop::collection::vec(0u64..2000, 1..6),
        ) {
            let model = PartBytes { layers, cache, head, each };
            let sum: u64 = free.iter().sum();
            let Some(counts) = split(&model, &free) else {
                prop_assert!(model.most(free.len()) > sum);
                return Ok(());
            };
            let num_layers = model.layers.len();
            prop_assert_eq!(counts.iter().sum::<usize>(), num_layers);
            let last = counts.iter().rposition(|count| *count > 0).unwrap();
            let mut first = 0;
            for (gpu, (&count, &free)) in counts.iter().zip(&free).enumerate() {
                let taken: u64 = (first..first + count).map(|it| model.layer(it)).sum();
                let head = if gpu == last { head } else { 0 };
                prop_assert!(count == 0 || taken + head + each <= free);
                first += count;
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_not_split() {
        assert_eq!(split(&model(3), &[22, 27]), None);
        assert_eq!(split(&model(3), &[23, 28]), Some(vec![2, 1]));
        assert_eq!(split(&model(3), &[47]), None);
        assert_eq!(split(&model(3), &[]), None);
        let huge = PartBytes {
            head: u64::MAX,
            ..model(1)
        };
        assert_eq!(split(&huge, &[u64::MAX - 1, 0]), None);
    }
}
