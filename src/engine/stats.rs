//! Counters that the engine's thread writes and anyone reads. Never a lock: reading them must not slow a step.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::scheduler::Scheduler;

/// What the engine is doing and has done since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Requests that hold no blocks: not admitted yet, or preempted.
    pub num_waiting: usize,
    pub num_running: usize,
    /// Blocks that no sequence holds; they may still hold prefixes that can be found again.
    pub num_free_blocks: usize,
    pub num_blocks: usize,
    /// Tokens sent to clients.
    pub num_generated_tokens: u64,
    /// Prompt tokens that the model has computed; after a preemption they count again.
    pub num_computed_prompt_tokens: u64,
    /// Tokens that were found in the cache and not computed.
    pub num_cached_tokens: u64,
    pub num_preemptions: u64,
    /// Tokens that were guessed and checked, and those of them that were right.
    pub num_drafted_tokens: u64,
    pub num_accepted_tokens: u64,
}

/// What the engine's thread counts beside the scheduler.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub num_generated_tokens: u64,
    pub num_drafted_tokens: u64,
    pub num_accepted_tokens: u64,
}

impl EngineStats {
    /// What two engines together are doing.
    pub fn plus(self, other: Self) -> Self {
        Self {
            num_waiting: self.num_waiting + other.num_waiting,
            num_running: self.num_running + other.num_running,
            num_free_blocks: self.num_free_blocks + other.num_free_blocks,
            num_blocks: self.num_blocks + other.num_blocks,
            num_generated_tokens: self.num_generated_tokens + other.num_generated_tokens,
            num_computed_prompt_tokens: self.num_computed_prompt_tokens
                + other.num_computed_prompt_tokens,
            num_cached_tokens: self.num_cached_tokens + other.num_cached_tokens,
            num_preemptions: self.num_preemptions + other.num_preemptions,
            num_drafted_tokens: self.num_drafted_tokens + other.num_drafted_tokens,
            num_accepted_tokens: self.num_accepted_tokens + other.num_accepted_tokens,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    num_running: AtomicUsize,
    num_preempted: AtomicUsize,
    num_free_blocks: AtomicUsize,
    num_generated_tokens: AtomicU64,
    num_computed_prompt_tokens: AtomicU64,
    num_cached_tokens: AtomicU64,
    num_preemptions: AtomicU64,
    num_drafted_tokens: AtomicU64,
    num_accepted_tokens: AtomicU64,
}

impl Counters {
    pub fn write(&self, scheduler: &Scheduler, own: &Totals) {
        let totals = scheduler.totals();
        self.num_running.store(scheduler.num_running(), Relaxed);
        self.num_preempted.store(scheduler.num_preempted(), Relaxed);
        self.num_free_blocks
            .store(scheduler.num_free_blocks(), Relaxed);
        self.num_generated_tokens
            .store(own.num_generated_tokens, Relaxed);
        self.num_drafted_tokens
            .store(own.num_drafted_tokens, Relaxed);
        self.num_accepted_tokens
            .store(own.num_accepted_tokens, Relaxed);
        self.num_computed_prompt_tokens
            .store(totals.num_computed_prompt_tokens, Relaxed);
        self.num_cached_tokens
            .store(totals.num_cached_tokens, Relaxed);
        self.num_preemptions.store(totals.num_preemptions, Relaxed);
    }

    pub fn read(&self, num_not_admitted: usize, num_blocks: usize) -> EngineStats {
        EngineStats {
            num_waiting: num_not_admitted + self.num_preempted.load(Relaxed),
            num_running: self.num_running.load(Relaxed),
            num_free_blocks: self.num_free_blocks.load(Relaxed),
            num_blocks,
            num_generated_tokens: self.num_generated_tokens.load(Relaxed),
            num_computed_prompt_tokens: self.num_computed_prompt_tokens.load(Relaxed),
            num_cached_tokens: self.num_cached_tokens.load(Relaxed),
            num_preemptions: self.num_preemptions.load(Relaxed),
            num_drafted_tokens: self.num_drafted_tokens.load(Relaxed),
            num_accepted_tokens: self.num_accepted_tokens.load(Relaxed),
        }
    }
}
