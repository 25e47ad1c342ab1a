//! Bookkeeping of the paged KV cache: which blocks are referenced, which can be found again by their prefix, and which
//! may be given away. Never touches the cache's memory; that is the model's.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

/// Names a full block by its own tokens and all tokens before them.
///
/// Keys and values at a position depend on the whole prefix, so two blocks may be exchanged exactly when these are
/// equal. The chain is SHA-256: prompts come from outside, and a collision that someone can construct would show one
/// conversation the content of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrefixKey([u8; 32]);

impl PrefixKey {
    /// The key of the block that holds `tokens` and follows the block named `parent` (`None`: opens the sequence).
    /// Blocks of different owners never have one key; those of nobody's (`None`) are everyone's.
    pub fn new(parent: Option<&Self>, owner: Option<&Owner>, tokens: &[u32]) -> Self {
        let mut hasher = Sha256::new();
        // All parts but the last have a fixed length, and these two tell which of them are there.
        hasher.update([u8::from(parent.is_some()), u8::from(owner.is_some())]);
        if let Some(Self(digest)) = parent {
            hasher.update(digest);
        }
        if let Some(Owner(digest)) = owner {
            hasher.update(digest);
        }
        for token in tokens {
            hasher.update(token.to_le_bytes());
        }
        Self(hasher.finalize().into())
    }
}

/// Who may find a block again. Otherwise a quick answer would tell one user what another has asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner([u8; 32]);

impl Owner {
    pub fn new(name: &str) -> Self {
        Self(Sha256::digest(name).into())
    }
}

/// A fixed number of blocks. At any time each is in exactly one of three states:
/// *referenced* by one or more sequences, *idle* (unreferenced, but its content can be found by key until it is
/// evicted), or *unused*.
#[derive(Debug)]
pub struct BlockCache {
    blocks: Vec<Block>,
    unused: Vec<u32>,
    /// Idle blocks by the time of their release; the first is evicted first.
    idle: BTreeMap<u64, u32>,
    by_key: HashMap<PrefixKey, u32>,
    num_releases: u64,
}

#[derive(Debug, Clone, Default)]
struct Block {
    num_references: usize,
    key: Option<PrefixKey>,
    /// Place in `idle`; meaningful while the block is idle.
    released_at: u64,
}

impl BlockCache {
    pub fn new(num_blocks: usize) -> Self {
        Self {
            blocks: vec![Block::default(); num_blocks],
            unused: (0..num_blocks as u32).rev().collect(),
            idle: BTreeMap::new(),
            by_key: HashMap::new(),
            num_releases: 0,
        }
    }

    /// Blocks that `allocate` can hand out now.
    pub fn num_available(&self) -> usize {
        self.unused.len() + self.idle.len()
    }

    /// A block with one reference and no meaningful content; evicts the least recently used idle block if it must.
    /// `None` when all blocks are referenced.
    pub fn allocate(&mut self) -> Option<u32> {
        let block = match self.unused.pop() {
            Some(block) => block,
            None => {
                let (_, block) = self.idle.pop_first()?;
                self.unpublish(block);
                block
            }
        };
        self.blocks[block as usize].num_references = 1;
        Some(block)
    }

    /// The block that holds the content named `key`. Not referenced by this: it may be evicted by the next `allocate`.
    pub fn find(&self, key: &PrefixKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    pub fn is_referenced(&self, block: u32) -> bool {
        self.blocks[block as usize].num_references > 0
    }

    /// Whether more than one sequence holds the block, so that nobody may write into it.
    pub fn is_shared(&self, block: u32) -> bool {
        self.blocks[block as usize].num_references > 1
    }

    /// Adds a reference to a block that `find` returned, or that another sequence holds.
    pub fn acquire(&mut self, block: u32) {
        let entry = &mut self.blocks[block as usize];
        if entry.num_references == 0 {
            self.idle.remove(&entry.released_at);
        }
        entry.num_references += 1;
    }

    /// Gives one reference back. A block that can be found by key stays findable until it is evicted.
    pub fn release(&mut self, block: u32) {
        let entry = &mut self.blocks[block as usize];
        entry.num_references -= 1;
        if entry.num_references > 0 {
            return;
        }
        if entry.key.is_some() {
            self.num_releases += 1;
            entry.released_at = self.num_releases;
            self.idle.insert(entry.released_at, block);
        } else {
            self.unused.push(block);
        }
    }

    /// Makes a referenced block findable: all its positions have been computed, and `key` names them. When another
    /// block with the same content is findable already, that one stays and this one is not.
    pub fn publish(&mut self, block: u32, key: PrefixKey) {
        if self.blocks[block as usize].key.is_none() && !self.by_key.contains_key(&key) {
            self.blocks[block as usize].key = Some(key);
            self.by_key.insert(key, block);
        }
    }

    /// Makes a referenced or evicted block unfindable; its references stay.
    pub fn unpublish(&mut self, block: u32) {
        if let Some(key) = self.blocks[block as usize].key.take() {
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
impl BlockCache {
    /// Panics unless the three states partition the blocks and each block has exactly as many references as it has in
    /// `tables`.
    pub fn assert_consistent(&self, tables: &[&[u32]]) {
        let mut num_references = vec![0; self.blocks.len()];
        for &block in tables.iter().copied().flatten() {
            num_references[block as usize] += 1;
        }
        let mut num_places = vec![0; self.blocks.len()];
        for &block in self.unused.iter().chain(self.idle.values()) {
            num_places[block as usize] += 1;
        }
        for (index, block) in self.blocks.iter().enumerate() {
            assert_eq!(block.num_references, num_references[index], "block {index}");
            let expected_places = usize::from(block.num_references == 0);
            assert_eq!(num_places[index], expected_places, "block {index}");
            if let Some(key) = &block.key {
                assert_eq!(self.find(key), Some(index as u32));
            }
        }
        for &block in &self.unused {
            assert!(self.blocks[block as usize].key.is_none());
        }
        for (released_at, &block) in &self.idle {
            assert!(self.blocks[block as usize].key.is_some());
            assert_eq!(*released_at, self.blocks[block as usize].released_at);
        }
        let num_keys = self.blocks.iter().filter(|block| block.key.is_some());
        assert_eq!(num_keys.count(), self.by_key.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tokens: &[u32]) -> PrefixKey {
        PrefixKey::new(None, None, tokens)
    }

    #[test]
    fn a_key_depends_on_every_token_before_the_block() {
        let after_one = PrefixKey::new(Some(&key(&[1, 2])), None, &[5, 6]);
        let after_other = PrefixKey::new(Some(&key(&[1, 3])), None, &[5, 6]);
        assert_ne!(after_one, after_other);
        assert_ne!(after_one, key(&[5, 6]));
        assert_ne!(key(&[0x0102, 0]), key(&[0x01, 0x02]));
        assert_eq!(
            after_one,
            PrefixKey::new(Some(&key(&[1, 2])), None, &[5, 6])
        );
    }

    #[test]
    fn the_same_tokens_have_another_key_for_every_owner() {
        let (a, b) = (Owner::new("a"), Owner::new("b"));
        let key = |owner| PrefixKey::new(None, owner, &[1, 2]);
        assert_ne!(key(Some(&a)), key(Some(&b)));
        assert_ne!(key(Some(&a)), key(None));
        assert_eq!(key(Some(&a)), key(Some(&Owner::new("a"))));
    }

    #[test]
    fn blocks_run_out_when_all_are_referenced() {
        let mut cache = BlockCache::new(2);
        let first = cache.allocate().unwrap();
        let second = cache.allocate().unwrap();
        assert_ne!(first, second);
        assert_eq!(cache.allocate(), None);
        cache.release(first);
        assert_eq!(cache.allocate(), Some(first));
        cache.assert_consistent(&[&[first, second]]);
    }

    #[test]
    fn a_published_block_is_found_after_its_release_and_comes_back_referenced() {
        let mut cache = BlockCache::new(1);
        let block = cache.allocate().unwrap();
        cache.publish(block, key(&[1]));
        cache.release(block);
        assert_eq!(cache.num_available(), 1);
        assert_eq!(cache.find(&key(&[1])), Some(block));
        cache.acquire(block);
        assert_eq!(cache.num_available(), 0);
        cache.assert_consistent(&[&[block]]);
    }

    #[test]
    fn the_least_recently_used_idle_block_is_evicted_first_and_cannot_be_found_any_more() {
        let mut cache = BlockCache::new(3);
        let blocks: Vec<_> = (0..3).map(|_| cache.allocate().unwrap()).collect();
        for (&block, token) in blocks.iter().zip([10, 11, 12]) {
            cache.publish(block, key(&[token]));
            cache.release(block);
        }
        cache.acquire(blocks[0]);
        cache.release(blocks[0]);
        assert_eq!(cache.allocate(), Some(blocks[1]));
        assert_eq!(cache.find(&key(&[11])), None);
        assert_eq!(cache.find(&key(&[10])), Some(blocks[0]));
        assert_eq!(cache.allocate(), Some(blocks[2]));
        cache.assert_consistent(&[&[blocks[1], blocks[2]]]);
    }

    #[test]
    fn unused_blocks_are_handed_out_before_any_is_evicted() {
        let mut cache = BlockCache::new(2);
        let kept = cache.allocate().unwrap();
        cache.publish(kept, key(&[1]));
        cache.release(kept);
        assert_ne!(cache.allocate(), Some(kept));
        assert_eq!(cache.find(&key(&[1])), Some(kept));
    }

    #[test]
    fn a_shared_block_is_given_away_only_after_its_last_release() {
        let mut cache = BlockCache::new(1);
        let block = cache.allocate().unwrap();
        cache.publish(block, key(&[1]));
        cache.acquire(block);
        cache.release(block);
        assert_eq!(cache.allocate(), None);
        cache.release(block);
        assert_eq!(cache.allocate(), Some(block));
    }

    #[test]
    fn of_two_blocks_with_the_same_content_the_first_published_stays_findable() {
        let mut cache = BlockCache::new(2);
        let first = cache.allocate().unwrap();
        let second = cache.allocate().unwrap();
        cache.publish(first, key(&[1]));
        cache.publish(second, key(&[1]));
        assert_eq!(cache.find(&key(&[1])), Some(first));
        cache.release(second);
        cache.assert_consistent(&[&[first]]);
        assert_eq!(
            cache.allocate(),
            Some(second),
            "it was never findable, so it is unused"
        );
    }

    #[test]
    fn an_unpublished_block_is_not_found_and_becomes_unused_at_its_release() {
        let mut cache = BlockCache::new(1);
        let block = cache.allocate().unwrap();
        cache.publish(block, key(&[1]));
        cache.unpublish(block);
        assert_eq!(cache.find(&key(&[1])), None);
        cache.assert_consistent(&[&[block]]);
        cache.release(block);
        cache.assert_consistent(&[]);
    }
}
