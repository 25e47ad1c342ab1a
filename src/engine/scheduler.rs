//! Decides what runs in each step: who is admitted, who computes which tokens, who gives way when blocks run out. Pure:
//! no tensors, threads or clock.
//!
//! A step is planned in this order:
//! 1. Every sequence with one token left to compute gets it (*decode*), the oldest first. If it needs a block and
//!    none is left, the youngest running sequence is *preempted*: its blocks are released and it is computed anew
//!    later.
//! 2. Waiting sequences are admitted: the preempted first, then users in turn. A sequence is admitted when there are
//!    blocks for all its tokens and one more for each running sequence; until then nobody overtakes it.
//! 3. What is left of the token budget goes to the other running sequences in chunks (*prefill*), users in turn.
//!
//! The oldest sequence is never preempted and alone fits into the cache, so it finishes; so does, in the end, every
//! other.

mod prefill_turns;

use std::collections::BTreeMap;

use super::block_cache::BlockCache;
use super::sequence::{Sequence, SequenceId, User};
use super::waiting::WaitingQueue;
use prefill_turns::PrefillTurns;

/// What a step, and the cache, can hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At most `max_batch_tokens`, so that a step has a token for everyone who runs.
    pub max_running: usize,
    pub max_batch_tokens: usize,
    /// Most prefill tokens of one sequence in one step.
    pub prefill_chunk: usize,
    pub block_size: usize,
    pub num_blocks: usize,
}

/// The work of one step.
#[derive(Debug, Default)]
pub struct Plan {
    pub slices: Vec<Slice>,
    /// Sequences that began, or after a preemption resumed, to run.
    pub admitted: Vec<SequenceId>,
    pub preempted: Vec<SequenceId>,
}

/// Tokens `start .. start + num_tokens` of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    pub id: SequenceId,
    pub start: usize,
    pub num_tokens: usize,
    /// Whether the slice ends with the sequence's last token, so that its logits choose the next one.
    pub reaches_end: bool,
}

/// What has happened since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Counts prompt tokens again when they are computed again.
    pub num_computed_prompt_tokens: u64,
    /// Tokens found in the cache instead of computed.
    pub num_cached_tokens: u64,
    pub num_preemptions: u64,
}

impl Plan {
    fn contains(&self, id: SequenceId) -> bool {
        self.slices.iter().any(|slice| slice.id == id)
    }
}

/// All sequences that are not finished, and the blocks they hold.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    cache: BlockCache,
    waiting: WaitingQueue,
    /// By order of admission, like `running`.
    preempted: BTreeMap<u64, Sequence>,
    /// The oldest admission first.
    running: Vec<Sequence>,
    prefill_turns: PrefillTurns,
    num_admissions: u64,
    totals: Totals,
}

impl Scheduler {
    pub fn new(limits: Limits) -> Self {
        assert!(0 < limits.max_running && limits.max_running <= limits.max_batch_tokens);
        assert!(0 < limits.prefill_chunk && 0 < limits.block_size && 0 < limits.num_blocks);
        Self {
            limits,
            cache: BlockCache::new(limits.num_blocks),
            waiting: WaitingQueue::default(),
            preempted: BTreeMap::new(),
            running: Vec::new(),
            prefill_turns: PrefillTurns::default(),
            num_admissions: 0,
            totals: Totals::default(),
        }
    }

    /// Takes a sequence in. Prompt and output together must never exceed `block_size * num_blocks` tokens.
    pub fn add(&mut self, sequence: Sequence) {
        self.waiting.push(sequence);
    }

    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.preempted.is_empty() && self.waiting.is_empty()
    }

    pub fn num_running(&self) -> usize {
        self.running.len()
    }

    pub fn num_preempted(&self) -> usize {
        self.preempted.len()
    }

    /// Blocks that no sequence holds.
    pub fn num_free_blocks(&self) -> usize {
        self.cache.num_available()
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// A running sequence; every sequence in a plan runs.
    pub fn running(&self, id: SequenceId) -> Option<&Sequence> {
        self.running.iter().find(|sequence| sequence.id == id)
    }

    /// Plans the next step. The plan is never empty unless the scheduler is idle.
    pub fn schedule(&mut self) -> Plan {
        let mut plan = Plan::default();
        self.schedule_decodes(&mut plan);
        self.admit(&mut plan);
        self.schedule_prefills(&mut plan);
        plan
    }

    /// Takes note that a slice has been computed: its tokens are in the cache, and blocks that it filled can be shared.
    pub fn commit(&mut self, slice: &Slice) {
        let block_size = self.limits.block_size;
        let Some(index) = self.index_of(slice.id) else {
            return;
        };
        let sequence = &mut self.running[index];
        let num_prompt_tokens = sequence
            .num_prompt_tokens
            .saturating_sub(slice.start)
            .min(slice.num_tokens);
        self.totals.num_computed_prompt_tokens += num_prompt_tokens as u64;
        sequence.num_computed += slice.num_tokens;
        sequence.extend_keys(block_size);
        for block in slice.start / block_size..sequence.num_computed / block_size {
            self.cache
                .publish(sequence.block_table[block], sequence.keys[block]);
        }
    }

    /// Adds a generated token to a running sequence whose tokens have all been computed.
    pub fn append(&mut self, id: SequenceId, token: u32) {
        if let Some(index) = self.index_of(id) {
            self.running[index].tokens.push(token);
        }
    }

    /// Takes a sequence out, in whatever state, and releases its blocks. What it computed stays findable.
    pub fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        if let Some(index) = self.index_of(id) {
            let mut sequence = self.running.remove(index);
            self.stop_running(&mut sequence);
            return Some(sequence);
        }
        let preempted = self.preempted.values().find(|sequence| sequence.id == id);
        if let Some(admission) = preempted.map(|sequence| sequence.admission) {
            return self.preempted.remove(&admission);
        }
        self.waiting.remove(id)
    }

    /// Like `remove`, but for a sequence whose cached keys and values are not to be trusted: nobody will find them.
    pub fn discard(&mut self, id: SequenceId) -> Option<Sequence> {
        if let Some(index) = self.index_of(id) {
            for &block in &self.running[index].block_table {
                self.cache.unpublish(block);
            }
        }
        self.remove(id)
    }

    fn index_of(&self, id: SequenceId) -> Option<usize> {
        self.running.iter().position(|sequence| sequence.id == id)
    }

    fn schedule_decodes(&mut self, plan: &mut Plan) {
        let mut index = 0;
        while index < self.running.len() {
            if self.running[index].num_uncomputed() == 1 {
                if !self.make_room(index, plan) {
                    return;
                }
                plan.slices.push(next_slice(&self.running[index], 1));
            }
            index += 1;
        }
    }

    /// Gives the sequence the blocks for all its tokens, at the cost of younger ones. False: it was the youngest and
    /// has been preempted itself.
    fn make_room(&mut self, index: usize, plan: &mut Plan) -> bool {
        loop {
            let sequence = &mut self.running[index];
            let num_blocks = sequence.tokens.len().div_ceil(self.limits.block_size);
            if sequence.block_table.len() >= num_blocks {
                return true;
            }
            match self.cache.allocate() {
                Some(block) => sequence.block_table.push(block),
                None => {
                    self.preempt_youngest(plan);
                    if index == self.running.len() {
                        return false;
                    }
                }
            }
        }
    }

    fn preempt_youngest(&mut self, plan: &mut Plan) {
        let mut sequence = self
            .running
            .pop()
            .expect("only called on behalf of a running sequence");
        self.stop_running(&mut sequence);
        sequence.num_computed = 0;
        sequence.was_preempted = true;
        self.totals.num_preemptions += 1;
        plan.preempted.push(sequence.id);
        self.preempted.insert(sequence.admission, sequence);
    }

    /// Releases what a sequence that was just taken out of `running` holds.
    fn stop_running(&mut self, sequence: &mut Sequence) {
        // The last block first: of a prefix that nobody uses, the end is evicted before the beginning.
        for block in sequence.block_table.drain(..).rev() {
            self.cache.release(block);
        }
        if !self.running.iter().any(|other| other.user == sequence.user) {
            self.prefill_turns.forget(&sequence.user);
        }
    }

    fn admit(&mut self, plan: &mut Plan) {
        while self.running.len() < self.limits.max_running {
            let Some(sequence) = self.admit_next() else {
                return;
            };
            plan.admitted.push(sequence.id);
            self.totals.num_cached_tokens += sequence.num_computed as u64;
            self.prefill_turns.join(&sequence.user);
            let age = |other: &Sequence| other.admission < sequence.admission;
            let index = self.running.partition_point(age);
            self.running.insert(index, sequence);
        }
    }

    /// Takes the next sequence out of the queues and gives it blocks. `None`: nobody waits, or there is no room for the
    /// one whose turn it is; nobody overtakes it, so that large prompts get their turn too.
    fn admit_next(&mut self) -> Option<Sequence> {
        if let Some(mut entry) = self.preempted.first_entry() {
            let num_spare = self.running.len();
            let is_admitted =
                take_blocks(&mut self.cache, &self.limits, entry.get_mut(), num_spare);
            return is_admitted.then(|| entry.remove());
        }
        let num_running = |user: &User| {
            let of_user = self.running.iter().filter(|other| other.user == *user);
            of_user.count()
        };
        let user = self.waiting.next_user(num_running)?;
        let front = self.waiting.front_mut(&user)?;
        if !take_blocks(&mut self.cache, &self.limits, front, self.running.len()) {
            return None;
        }
        let mut sequence = self.waiting.pop(&user)?;
        sequence.admission = self.num_admissions;
        self.num_admissions += 1;
        Some(sequence)
    }

    fn schedule_prefills(&mut self, plan: &mut Plan) {
        let num_decodes: usize = plan.slices.len();
        let mut budget = self.limits.max_batch_tokens - num_decodes;
        while budget > 0 {
            let unplanned = self.running.iter().enumerate();
            let unplanned = unplanned.filter(|(_, sequence)| !plan.contains(sequence.id));
            let Some((index, _)) =
                unplanned.min_by_key(|(_, sequence)| self.prefill_turns.place(&sequence.user))
            else {
                return;
            };
            self.reuse_new_blocks(index);
            let sequence = &self.running[index];
            let slice = next_slice(sequence, budget.min(self.limits.prefill_chunk));
            self.prefill_turns.served(&sequence.user);
            budget -= slice.num_tokens;
            plan.slices.push(slice);
        }
    }

    /// Exchanges blocks that the sequence would compute next for ones that others have computed since its admission, as
    /// when several prompts with one beginning arrive together.
    fn reuse_new_blocks(&mut self, index: usize) {
        let block_size = self.limits.block_size;
        let sequence = &mut self.running[index];
        while sequence.num_computed.is_multiple_of(block_size) {
            let place = sequence.num_computed / block_size;
            if place >= sequence.num_reusable_blocks(block_size) {
                return;
            }
            let Some(block) = self.cache.find(&sequence.keys[place]) else {
                return;
            };
            self.cache.acquire(block);
            let own = std::mem::replace(&mut sequence.block_table[place], block);
            self.cache.release(own);
            sequence.skip_cached(block_size);
            self.totals.num_cached_tokens += block_size as u64;
        }
    }
}

fn next_slice(sequence: &Sequence, max_tokens: usize) -> Slice {
    let num_tokens = sequence.num_uncomputed().min(max_tokens);
    Slice {
        id: sequence.id,
        start: sequence.num_computed,
        num_tokens,
        reaches_end: num_tokens == sequence.num_uncomputed(),
    }
}

/// Gives a waiting sequence blocks for all its tokens: shared ones for the part of its prefix that is in the cache,
/// fresh ones for the rest. False, and nothing taken, unless `num_spare` blocks would be left.
fn take_blocks(
    cache: &mut BlockCache,
    limits: &Limits,
    sequence: &mut Sequence,
    num_spare: usize,
) -> bool {
    sequence.extend_keys(limits.block_size);
    let reusable = &sequence.keys[..sequence.num_reusable_blocks(limits.block_size)];
    let found: Vec<u32> = reusable.iter().map_while(|key| cache.find(key)).collect();
    let num_idle = found
        .iter()
        .filter(|block| !cache.is_referenced(**block))
        .count();
    let num_fresh = sequence.tokens.len().div_ceil(limits.block_size) - found.len();
    if num_idle + num_fresh + num_spare > cache.num_available() {
        return false;
    }
    // References first, so that allocating does not evict what was found.
    found.iter().for_each(|block| cache.acquire(*block));
    sequence.skip_cached(found.len() * limits.block_size);
    sequence.block_table = found;
    let fresh = (0..num_fresh).map(|_| cache.allocate().expect("counted above"));
    sequence.block_table.extend(fresh);
    true
}

#[cfg(test)]
mod tests;
