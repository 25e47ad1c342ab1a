//! One sequence as the scheduler sees it: its tokens, how many are in the KV cache, and in which blocks. Knows nothing
//! of sampling or of who waits for the output.

use std::sync::Arc;

use super::block_cache::{Owner, PrefixKey};

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
    /// Leading tokens that hold nothing private: their blocks may be found by other users too.
    pub num_public_tokens: usize,
    /// Who may find the blocks after those.
    owner: Option<Owner>,
    /// Tokens, from the first, whose keys and values are in the cache. At least one token is always left to compute:
    /// its logits choose the next token.
    pub num_computed: usize,
    /// Prompt tokens that were found in the cache instead of computed; set before the first preemption only.
    pub num_cached_tokens: usize,
    /// Or was forked, so that another has counted its prompt.
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
        let owner = user.as_deref().map(Owner::new);
        Self {
            id,
            user,
            num_prompt_tokens: prompt.len(),
            num_public_tokens: 0,
            owner,
            tokens: prompt,
            num_computed: 0,
            num_cached_tokens: 0,
            was_preempted: false,
            block_table: Vec::new(),
            keys: Vec::new(),
            admission: 0,
        }
    }

    /// Another continuation of the same tokens, all of which have been computed. It holds no blocks yet.
    pub fn fork(&self, id: SequenceId) -> Self {
        Self {
            id,
            user: self.user.clone(),
            tokens: self.tokens.clone(),
            num_prompt_tokens: self.num_prompt_tokens,
            num_public_tokens: self.num_public_tokens,
            owner: self.owner,
            num_computed: 0,
            num_cached_tokens: self.num_cached_tokens,
            was_preempted: true,
            block_table: Vec::new(),
            keys: self.keys.clone(),
            admission: self.admission,
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
            let end = (self.keys.len() + 1) * block_size;
            let owner = self.owner.as_ref().filter(|_| end > self.num_public_tokens);
            let key = PrefixKey::new(self.keys.last(), owner, tokens);
            self.keys.push(key);
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
        assert_eq!(sequence.keys, [PrefixKey::new(None, None, &[1, 2])]);
        sequence.tokens.push(4);
        sequence.extend_keys(2);
        let first = PrefixKey::new(None, None, &[1, 2]);
        assert_eq!(
            sequence.keys,
            [first, PrefixKey::new(Some(&first), None, &[3, 4])]
        );
    }

    #[test]
    fn users_share_the_keys_of_public_tokens_only() {
        let keys = |user: &str, num_public_tokens| {
            let mut sequence = Sequence::new(SequenceId(0), Some(user.into()), (0..8).collect());
            sequence.num_public_tokens = num_public_tokens;
            sequence.extend_keys(2);
            sequence.keys
        };
        let shared = |num_public_tokens| {
            let (a, b) = (keys("a", num_public_tokens), keys("b", num_public_tokens));
            a.iter().zip(&b).filter(|(a, b)| a == b).count()
        };
        assert_eq!([0, 1, 2, 5, 8].map(shared), [0, 0, 1, 2, 4]);
        assert_eq!(keys("a", 4), keys("a", 4));
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
