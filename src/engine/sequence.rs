//! One sequence as the scheduler sees it: its tokens, how many are in the KV cache, and in which blocks. Knows nothing
//! of sampling or of who waits for the output.

use std::sync::Arc;

use super::block_cache::PrefixKey;

/// Names a sequence within one engine; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// On whose behalf a sequence runs. Sequences that name nobody share one user.
pub type User = Option<Arc<str>>;

/// A prompt and what has been generated after it.
#[derive(Debug)]
pub struct Sequence {
    pub id: SequenceId,
    pub user: User,
    /// The prompt, then the generated tokens.
    pub tokens: Vec<u32>,
    pub num_prompt_tokens: usize,
    /// Tokens, from the first, whose keys and values are in the cache. At least one token is always left to compute:
    /// its logits choose the next token.
    pub num_computed: usize,
    /// Prompt tokens that were found in the cache instead of computed; set before the first preemption only.
    pub num_cached_tokens: usize,
    pub was_preempted: bool,
    /// Covers `tokens` while the sequence runs; empty while it waits.
    pub block_table: Vec<u32>,
    /// Keys of the full blocks of `tokens`, as far as `extend_keys` has made them.
    pub keys: Vec<PrefixKey>,
    /// Place in the order of admission, kept through preemption; lower is older.
    pub admission: u64,
}

impl Sequence {
    pub fn new(id: SequenceId, user: User, prompt: Vec<u32>) -> Self {
        Self {
            id,
            user,
            num_prompt_tokens: prompt.len(),
            tokens: prompt,
            num_computed: 0,
            num_cached_tokens: 0,
            was_preempted: false,
            block_table: Vec::new(),
            keys: Vec::new(),
            admission: 0,
        }
    }

    pub fn num_uncomputed(&self) -> usize {
        self.tokens.len() - self.num_computed
    }

    pub fn num_generated(&self) -> usize {
        self.tokens.len() - self.num_prompt_tokens
    }

    /// Makes the keys of all full blocks.
    pub fn extend_keys(&mut self, block_size: usize) {
        let num_done = self.keys.len() * block_size;
        for tokens in self.tokens[num_done..].chunks_exact(block_size) {
            self.keys.push(PrefixKey::new(self.keys.last(), tokens));
        }
    }

    /// Full blocks that may come from the cache: never the one with the last token, whose logits are needed.
    pub fn num_reusable_blocks(&self, block_size: usize) -> usize {
        (self.tokens.len() - 1) / block_size
    }

    /// Takes note that the next `num_tokens` tokens were found in the cache.
    pub fn skip_cached(&mut self, num_tokens: usize) {
        self.num_computed += num_tokens;
        if !self.was_preempted {
            self.num_cached_tokens += num_tokens;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cover_full_blocks_only_and_grow_with_the_tokens() {
        let mut sequence = Sequence::new(SequenceId(0), None, vec![1, 2, 3]);
        sequence.extend_keys(2);
        assert_eq!(sequence.keys, [PrefixKey::new(None, &[1, 2])]);
        sequence.tokens.push(4);
        sequence.extend_keys(2);
        let first = PrefixKey::new(None, &[1, 2]);
        assert_eq!(
            sequence.keys,
            [first, PrefixKey::new(Some(&first), &[3, 4])]
        );
    }

    #[test]
    fn the_block_with_the_last_token_is_never_reused() {
        let reusable = |num_tokens: u32| {
            let sequence = Sequence::new(SequenceId(0), None, (0..num_tokens).collect());
            sequence.num_reusable_blocks(4)
        };
        assert_eq!([1, 4, 5, 8, 9].map(reusable), [0, 0, 1, 1, 2]);
    }
}
