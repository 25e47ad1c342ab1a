//! Prompt-lookup decoding (Saxena 2023; Yang et al. 2023, arXiv:2304.04487): what followed the last few tokens when they
//! occurred before is guessed to follow again. Answers quote their sources, so it often does. A guess is checked by the
//! model in the same step, so it never changes the output.

/// Tokens that must agree before what followed them is guessed again.
const MIN_MATCH: usize = 2;
/// Longer agreement is not told apart.
const MAX_MATCH: usize = 16;

/// Up to `max_len` tokens that may follow `tokens`: those after the longest earlier occurrence of its end, of equally
/// long ones the last.
pub fn draft(tokens: &[u32], max_len: usize) -> &[u32] {
    let Some((last, before)) = tokens.split_last() else {
        return &[];
    };
    if max_len == 0 {
        return &[];
    }
    let mut best = (MIN_MATCH - 1, 0);
    for end in (1..=before.len()).rev() {
        if before[end - 1] != *last {
            continue;
        }
        let agreeing = before[..end].iter().rev().zip(tokens.iter().rev());
        let length = agreeing.take(MAX_MATCH).take_while(|(a, b)| a == b).count();
        if length > best.0 {
            best = (length, end);
            if length == MAX_MATCH {
                break;
            }
        }
    }
    match best {
        (_, 0) => &[],
        (_, end) => &tokens[end..(end + max_len).min(tokens.len())],
    }
}

/// How often the drafts of one sequence have been right.
#[derive(Debug, Clone, Copy)]
pub struct Acceptance(f64);

/// What a new sequence is thought to accept, and what one that does not is tried with again after a while.
const EXPECTED: f64 = 0.6;

impl Default for Acceptance {
    fn default() -> Self {
        Self(EXPECTED)
    }
}

impl Acceptance {
    pub fn probability(self) -> f64 {
        self.0
    }

    /// Takes note of a draft whose first `num_accepted` tokens were right.
    pub fn observe(&mut self, num_drafted: usize, num_accepted: usize) {
        for index in 0..num_drafted.min(num_accepted + 1) {
            let is_right = f64::from(u8::from(index < num_accepted));
            self.0 += 0.15 * (is_right - self.0);
        }
    }

    /// Takes note that there was something to draft, but it did not seem worth it.
    pub fn pass(&mut self) {
        self.0 += 0.01 * (EXPECTED - self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_drafted() {
        assert_eq!(draft(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 2), [4, 5]);
        assert_eq!(draft(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 100), [4, 5, 9, 1, 2, 3]);
    }

    #[test]
    fn the_longest_match_wins_and_of_equals_the_last() {
        assert_eq!(draft(&[7, 1, 2, 30, 1, 2, 40, 7, 1, 2], 1), [30]);
        assert_eq!(draft(&[1, 2, 30, 1, 2, 40, 1, 2], 1), [40]);
    }

    #[test]
    fn nothing_is_drafted_without_a_match() {
        for tokens in [&[][..], &[1], &[1, 2, 3], &[1, 5, 2, 5]] {
            assert!(draft(tokens, 4).is_empty(), "{tokens:?}");
        }
        assert!(draft(&[1, 2, 1, 2], 0).is_empty());
    }

    #[test]
    fn a_repetition_is_drafted_as_long_as_there_are_tokens() {
        assert_eq!(draft(&[5, 5, 5, 5], 3), [5]);
        assert_eq!(draft(&[1, 2, 1, 2, 1, 2], 4), [1, 2]);
    }

    #[test]
    fn acceptance_follows_what_happens_and_forgets_in_time() {
        let mut acceptance = Acceptance::default();
        (0..40).for_each(|_| acceptance.observe(4, 0));
        assert!(acceptance.probability() < 0.05);
        (0..100).for_each(|_| acceptance.pass());
        assert!(acceptance.probability() > 0.3);
        (0..20).for_each(|_| acceptance.observe(4, 4));
        assert!(acceptance.probability() > 0.95);
    }
}
