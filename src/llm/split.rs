//! Which GPU has which layers of a model that several share.

/// Bytes that a model takes.
#[derive(Debug, Clone)]
pub(crate) struct PartBytes {
    /// Weights and cache of each layer.
    pub layers: Vec<u64>,
    /// What follows the last layer, and is where that is.
    pub head: u64,
    /// Beside them, on every GPU that has a layer.
    pub each: u64,
}

/// Steps from nothing to all of the memory that is free.
const STEPS: u64 = 256;

/// How many layers each GPU has, one after the other, so that all of them are about as full as each other; some may have none.
/// `None` where the model does not fit into what each of them has free.
pub(crate) fn split(model: &PartBytes, free_bytes: &[u64]) -> Option<Vec<usize>> {
    (1..=STEPS).find_map(|step| {
        let limits = free_bytes
            .iter()
            .map(|free| (u128::from(*free) * u128::from(step) / u128::from(STEPS)) as u64);
        within(model, &limits.collect::<Vec<_>>())
    })
}

/// From the last layer on, as many on each GPU as fit.
fn within(model: &PartBytes, limits: &[u64]) -> Option<Vec<usize>> {
    let mut layers = model.layers.iter().rev().peekable();
    let mut head = model.head;
    let mut counts: Vec<usize> = Vec::new();
    for limit in limits.iter().rev() {
        let mut taken = model.each.saturating_add(head);
        let mut count = 0;
        while let Some(layer) = layers.next_if(|layer| taken.saturating_add(**layer) <= *limit) {
            taken = taken.saturating_add(*layer);
            count += 1;
        }
        if count > 0 {
            head = 0;
        }
        counts.push(count);
    }
    counts.reverse();
    layers.next().is_none().then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(num_layers: usize) -> PartBytes {
        PartBytes {
            layers: vec![10; num_layers],
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
