//! Maximal marginal relevance (Carbonell and Goldstein, 1998): the next passage is the one that is worth most beside those
//! before it.

/// The best `limit` of what has these relevances, in the order to show them, each with its worth when it was chosen.
/// `vectors` tell how alike two are; where one is missing it is like nothing.
pub(super) fn diverse(
    relevances: &[f32],
    vectors: &[Option<Vec<f32>>],
    diversity: f32,
    limit: usize,
) -> Vec<(usize, f32)> {
    let highest = relevances.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let mut chosen: Vec<(usize, f32)> = Vec::new();
    let mut left: Vec<usize> = (0..relevances.len()).collect();
    // To those that were chosen, at most.
    let mut likeness = vec![0.0_f32; relevances.len()];
    while chosen.len() < limit {
        let worth =
            |at: usize| (1.0 - diversity) * relevances[at] / highest - diversity * likeness[at];
        // The first of equals.
        let best = left
            .iter()
            .enumerate()
            .rev()
            .max_by(|(_, a), (_, b)| worth(**a).total_cmp(&worth(**b)));
        let Some((place, at)) = best.map(|(place, at)| (place, *at)) else {
            break;
        };
        chosen.push((at, worth(at)));
        left.remove(place);
        for other in &left {
            likeness[*other] = likeness[*other].max(alike(&vectors[at], &vectors[*other]));
        }
    }
    chosen
}

fn alike(a: &Option<Vec<f32>>, b: &Option<Vec<f32>>) -> f32 {
    let (Some(a), Some(b)) = (a, b) else {
        return 0.0;
    };
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(diversity: f32) -> Vec<usize> {
        // The second says what the first says, the third something else.
        let vectors = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]].map(|vector| Some(vector.to_vec()));
        let chosen = diverse(&[0.9, 0.8, 0.6], &vectors, diversity, 3);
        chosen.into_iter().map(|(at, _)| at).collect()
    }

    #[test]
    fn what_says_something_else_comes_before_what_says_the_same() {
        assert_eq!(order(0.0), [0, 1, 2]);
        assert_eq!(order(0.5), [0, 2, 1]);
        assert_eq!(order(1.0)[1], 2);
    }

    #[test]
    fn no_more_than_there_are_are_chosen_and_equals_keep_their_order() {
        let vectors = vec![None; 2];
        assert_eq!(diverse(&[0.5, 0.5], &vectors, 0.3, 9).len(), 2);
        assert_eq!(diverse(&[0.5, 0.5], &vectors, 0.3, 1)[0].0, 0);
        assert!(diverse(&[], &[], 0.3, 1).is_empty());
    }
}
