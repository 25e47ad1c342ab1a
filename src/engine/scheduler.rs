//! Decides what runs in each step: who is admitted, who computes which tokens, who gives way when blocks run out. Pure:
//! no tensors, threads or clock.
//!
//! A step is planned in this order:
//! 1. Every sequence with one token left to compute gets it (*decode*), the oldest first. If it needs a block and none
//!    is left, somebody is *preempted*: the blocks are released, and what was in them is computed anew later.
//! 2. Sequences that do not run are admitted, users in turn. A sequence is admitted when there are blocks for all its
//!    tokens and one more for each running sequence; until then nobody overtakes it. Whoever runs less than others need
//!    not wait for them to finish: those who run most give way (`admission.rs`).
//! 3. What is left of the token budget goes to the other running sequences in chunks (*prefill*), fair by user
//!    (`prefill_turns.rs`). Beside decodes there is a smaller budget, so that nobody's output stalls while a long
//!    prompt is read.
//! 4. Decodes may be given *drafts*: guessed tokens that are checked in the same step. They take only blocks that nobody
//!    else needs.
//!
//! The oldest running sequence is never preempted and alone fits into the cache, so it finishes; so does, in the end,
//! every other.

mod admission;
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
    /// Blocks to copy, from and to, one after the other, before anything is computed.
    pub copies: Vec<(u32, u32)>,
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

    fn num_tokens(&self) -> usize {
        self.slices.iter().map(|slice| slice.num_tokens).sum()
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
            prefill_turns: PrefillTurns::new(limits.prefill_chunk),
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

    /// Running sequences that get one token in the next step.
    pub fn num_decoding(&self) -> usize {
        let decoding = self.running.iter().filter(|it| it.num_uncomputed() == 1);
        decoding.count()
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

    /// Plans the next step, with at most `prefill_beside_decodes` prefill tokens if there are decodes. The plan is never
    /// empty unless the scheduler is idle.
    pub fn schedule(&mut self, prefill_beside_decodes: usize) -> Plan {
        let mut plan = Plan::default();
        self.schedule_decodes(&mut plan);
        self.admit(&mut plan);
        self.schedule_prefills(&mut plan, prefill_beside_decodes);
        plan
    }

    /// Blocks for up to `num_wanted` drafted tokens after a decode of the plan, beside `num_drafted` tokens for others;
    /// returns for how many. Always leaves a block for each running sequence.
    pub fn make_room_for_draft(
        &mut self,
        plan: &Plan,
        id: SequenceId,
        num_wanted: usize,
        num_drafted: usize,
    ) -> usize {
        let budget = self.limits.max_batch_tokens - plan.num_tokens();
        let num_wanted = num_wanted.min(budget.saturating_sub(num_drafted));
        let num_running = self.running.len();
        let Some(index) = self.index_of(id) else {
            return 0;
        };
        let sequence = &mut self.running[index];
        let block_size = self.limits.block_size;
        let num_blocks = (sequence.tokens.len() + num_wanted).div_ceil(block_size);
        while sequence.block_table.len() < num_blocks {
            if self.cache.num_available() <= num_running {
                break;
            }
            sequence.block_table.extend(self.cache.allocate());
        }
        let room = sequence.block_table.len() * block_size - sequence.tokens.len();
        room.min(num_wanted)
    }

    /// Takes note that a slice has been computed: its tokens are in the cache, and blocks that it filled can be shared.
    pub fn commit(&mut self, slice: &Slice) {
        let Some(index) = self.index_of(slice.id) else {
            return;
        };
        let sequence = &self.running[index];
        let num_prompt_tokens = sequence
            .num_prompt_tokens
            .saturating_sub(slice.start)
            .min(slice.num_tokens);
        self.totals.num_computed_prompt_tokens += num_prompt_tokens as u64;
        self.advance(index, slice.num_tokens);
    }

    /// Takes note that the token appended last is the one that had been drafted in its place, so that it is in the cache
    /// already.
    pub fn accept_draft(&mut self, id: SequenceId) {
        if let Some(index) = self.index_of(id) {
            self.advance(index, 1);
        }
    }

    /// Gives back the blocks of drafted tokens that were not accepted.
    pub fn drop_draft(&mut self, id: SequenceId) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        let sequence = &mut self.running[index];
        let num_blocks = sequence.tokens.len().div_ceil(self.limits.block_size);
        while sequence.block_table.len() > num_blocks {
            let block = sequence.block_table.pop().expect("it has more than some");
            self.cache.release(block);
        }
    }

    fn advance(&mut self, index: usize, num_tokens: usize) {
        let block_size = self.limits.block_size;
        let sequence = &mut self.running[index];
        let start = sequence.num_computed;
        sequence.num_computed += num_tokens;
        sequence.extend_keys(block_size);
        for block in start / block_size..sequence.num_computed / block_size {
            self.cache
                .publish(sequence.block_table[block], sequence.keys[block]);
        }
    }

    /// Lets another sequence go on from where a running one is, whose tokens have all been computed, without a draft. It
    /// shares all blocks; when there is no place for it now, it waits and is computed anew.
    pub fn fork(&mut self, id: SequenceId, new: SequenceId) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        let mut sequence = self.running[index].fork(new);
        sequence.admission = self.num_admissions;
        self.num_admissions += 1;
        if self.running.len() == self.limits.max_running {
            self.preempted.insert(sequence.admission, sequence);
            return;
        }
        let original = &self.running[index];
        for &block in &original.block_table {
            self.cache.acquire(block);
        }
        sequence.block_table = original.block_table.clone();
        sequence.num_computed = original.num_computed;
        self.running.push(sequence);
    }

    /// Adds a generated token to a running sequence whose tokens have all been computed, or to one just forked.
    pub fn append(&mut self, id: SequenceId, token: u32) {
        if let Some(index) = self.index_of(id) {
            self.running[index].tokens.push(token);
        } else if let Some(sequence) = self.preempted.values_mut().find(|it| it.id == id) {
            sequence.tokens.push(token);
        }
    }

    /// A sequence that runs, or that was preempted or forked and waits for its place.
    pub fn sequence(&self, id: SequenceId) -> Option<&Sequence> {
        let mut preempted = self.preempted.values();
        self.running(id)
            .or_else(|| preempted.find(|sequence| sequence.id == id))
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
        let decoding = self.running.iter().filter(|it| it.num_uncomputed() == 1);
        let decoding: Vec<SequenceId> = decoding.map(|sequence| sequence.id).collect();
        for id in decoding {
            // Not if it has been preempted, for one before it or for itself.
            if self.make_room(id, plan) {
                let index = self.index_of(id).expect("it was given room");
                plan.slices.push(next_slice(&self.running[index], 1));
            }
        }
    }

    /// Gives the sequence the block that it writes into next, for itself alone, at the cost of others if need be. False:
    /// it does not run any more.
    fn make_room(&mut self, id: SequenceId, plan: &mut Plan) -> bool {
        let block_size = self.limits.block_size;
        while let Some(index) = self.index_of(id) {
            let sequence = &mut self.running[index];
            let place = sequence.num_computed / block_size;
            let is_missing = sequence.block_table.len() == place;
            if !is_missing && !self.cache.is_shared(sequence.block_table[place]) {
                return true;
            }
            match self.cache.allocate() {
                Some(block) if is_missing => sequence.block_table.push(block),
                Some(block) => {
                    let shared = std::mem::replace(&mut sequence.block_table[place], block);
                    plan.copies.push((shared, block));
                    self.cache.release(shared);
                }
                None => self.preempt_for(id, plan),
            }
        }
        false
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

    fn schedule_prefills(&mut self, plan: &mut Plan, beside_decodes: usize) {
        let num_decodes = plan.slices.len();
        let mut budget = self.limits.max_batch_tokens - num_decodes;
        if num_decodes > 0 {
            budget = budget.min(beside_decodes);
        }
        while budget > 0 {
            let has_work = |user: &User| {
                let mut unplanned = self.running.iter().filter(|it| !plan.contains(it.id));
                unplanned.any(|sequence| sequence.user == *user)
            };
            let Some(user) = self.prefill_turns.next(has_work) else {
                return;
            };
            let unplanned = self
                .running
                .iter()
                .position(|sequence| sequence.user == user && !plan.contains(sequence.id));
            let index = unplanned.expect("the user was chosen for having work");
            self.reuse_new_blocks(index);
            let max_tokens = budget.min(self.limits.prefill_chunk);
            let slice = next_slice(&self.running[index], max_tokens);
            self.prefill_turns.spend(slice.num_tokens);
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

#[cfg(test)]
mod tests;
