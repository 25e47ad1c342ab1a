use std::collections::HashMap;

use super::*;

mod fairness;
mod random_operations;

const LIMITS: Limits = Limits {
    max_running: 4,
    max_batch_tokens: 16,
    prefill_chunk: 8,
    block_size: 4,
    num_blocks: 16,
};

fn sequence(id: u64, user: &str, prompt: impl IntoIterator<Item = u32>) -> Sequence {
    Sequence::new(
        SequenceId(id),
        Some(user.into()),
        prompt.into_iter().collect(),
    )
}

/// A scheduler with sequences of the given users and prompt lengths; no two share a prefix.
fn scheduler(limits: Limits, sequences: &[(&str, usize)]) -> Scheduler {
    let mut scheduler = Scheduler::new(limits);
    for (id, (user, num_tokens)) in sequences.iter().enumerate() {
        let first = 1000 * id as u32;
        scheduler.add(sequence(id as u64, user, first..first + *num_tokens as u32));
    }
    scheduler
}

/// Runs one step, generating token 0 wherever logits are due. Returns (id, start, number of tokens) of each slice.
fn step(scheduler: &mut Scheduler) -> Vec<(u64, usize, usize)> {
    let plan = scheduler.schedule(usize::MAX);
    for slice in &plan.slices {
        scheduler.commit(slice);
        if slice.reaches_end {
            scheduler.append(slice.id, 0);
        }
    }
    let slices = plan.slices.iter();
    slices
        .map(|slice| (slice.id.0, slice.start, slice.num_tokens))
        .collect()
}

fn admitted(scheduler: &mut Scheduler) -> Vec<u64> {
    let plan = scheduler.schedule(usize::MAX);
    plan.admitted.iter().map(|id| id.0).collect()
}

impl Scheduler {
    /// Panics unless the blocks belong to exactly the running sequences and shared ones hold the same prefix.
    fn assert_consistent(&self) {
        let tables: Vec<&[u32]> = self
            .running
            .iter()
            .map(|sequence| &sequence.block_table[..])
            .collect();
        self.cache.assert_consistent(&tables);
        let block_size = self.limits.block_size;
        let mut owners: HashMap<u32, &[u32]> = HashMap::new();
        for sequence in &self.running {
            let num_blocks = sequence.tokens.len().div_ceil(block_size);
            // A token that has just been appended gets its block when it is scheduled.
            let num_blocks_before = (sequence.tokens.len() - 1).div_ceil(block_size);
            assert!([num_blocks, num_blocks_before].contains(&sequence.block_table.len()));
            assert!(sequence.num_computed < sequence.tokens.len());
            for (place, &block) in sequence.block_table.iter().enumerate() {
                // What is in the block, with all before it.
                let end = ((place + 1) * block_size).min(sequence.num_computed);
                let prefix = &sequence.tokens[..end];
                if let Some(other) = owners.insert(block, prefix) {
                    assert_eq!(
                        other, prefix,
                        "block {block} is shared by different prefixes"
                    );
                }
            }
        }
        for waiting in self.preempted.values() {
            assert!(waiting.block_table.is_empty() && waiting.num_computed == 0);
        }
        assert!(self.running.is_sorted_by_key(|sequence| sequence.admission));
        assert!(self.running.len() <= self.limits.max_running);
    }
}

#[test]
fn a_prompt_is_computed_in_chunks_and_then_token_by_token() {
    let mut scheduler = scheduler(LIMITS, &[("a", 19)]);
    assert_eq!(step(&mut scheduler), [(0, 0, 8)]);
    assert_eq!(step(&mut scheduler), [(0, 8, 8)]);
    assert_eq!(step(&mut scheduler), [(0, 16, 3)]);
    assert_eq!(step(&mut scheduler), [(0, 19, 1)]);
    assert_eq!(step(&mut scheduler), [(0, 20, 1)]);
}

#[test]
fn decodes_and_prefill_chunks_share_a_step_decodes_first() {
    let mut scheduler = scheduler(LIMITS, &[("a", 3)]);
    step(&mut scheduler);
    scheduler.add(sequence(1, "a", 1000..1020));
    scheduler.add(sequence(2, "a", 2000..2020));
    let expected = [(0, 3, 1), (1, 0, 8), (2, 0, 7)];
    assert_eq!(step(&mut scheduler), expected);
}

#[test]
fn the_token_budget_is_kept_and_used_up() {
    let limits = Limits {
        max_batch_tokens: 13,
        num_blocks: 100,
        ..LIMITS
    };
    let mut scheduler = scheduler(limits, &[("a", 30), ("b", 30)]);
    assert_eq!(step(&mut scheduler), [(0, 0, 8), (1, 0, 5)]);
    assert_eq!(step(&mut scheduler), [(1, 5, 8), (0, 8, 5)]);
}

#[test]
fn users_take_turns_with_prefill_when_the_budget_does_not_suffice() {
    let limits = Limits {
        max_batch_tokens: 8,
        num_blocks: 100,
        ..LIMITS
    };
    let mut scheduler = scheduler(limits, &[("a", 24), ("a", 24), ("b", 16)]);
    // The last slice of a step is the prefill; when 2 has been read, it decodes first.
    let order = [(); 5].map(|()| step(&mut scheduler).last().unwrap().0);
    assert_eq!(order, [0, 2, 0, 2, 0]);
}

#[test]
fn a_sequence_waits_until_there_are_blocks_for_its_whole_prompt_and_nobody_overtakes_it() {
    let mut scheduler = scheduler(LIMITS, &[("a", 40), ("a", 40), ("a", 1)]);
    assert_eq!(admitted(&mut scheduler), [0]);
    assert!(admitted(&mut scheduler).is_empty());
    scheduler.remove(SequenceId(0));
    assert_eq!(admitted(&mut scheduler), [1, 2]);
}

#[test]
fn no_more_than_max_running_are_admitted() {
    let mut scheduler = scheduler(LIMITS, &[("a", 1); 6]);
    assert_eq!(admitted(&mut scheduler), [0, 1, 2, 3]);
    scheduler.remove(SequenceId(2));
    assert_eq!(admitted(&mut scheduler), [4]);
}

#[test]
fn when_blocks_run_out_the_youngest_is_preempted_and_resumes_before_new_ones() {
    // Each holds two blocks and grows into the third at the same time; there is one spare block each.
    let limits = Limits {
        num_blocks: 5,
        ..LIMITS
    };
    let mut scheduler = scheduler(limits, &[("a", 7), ("b", 7), ("c", 1)]);
    assert_eq!(step(&mut scheduler), [(0, 0, 7), (1, 0, 7)]);
    assert_eq!(step(&mut scheduler), [(0, 7, 1), (1, 7, 1)]);
    let plan = scheduler.schedule(usize::MAX);
    assert_eq!(plan.preempted, [SequenceId(1)]);
    assert!(plan.admitted.is_empty());
    assert_eq!(plan.slices.len(), 1);
    scheduler.assert_consistent();
    scheduler.remove(SequenceId(0));
    assert_eq!(admitted(&mut scheduler), [1, 2]);
    assert_eq!(scheduler.running(SequenceId(1)).unwrap().tokens.len(), 9);
    assert_eq!(scheduler.totals().num_preemptions, 1);
}

#[test]
fn a_prefix_that_was_computed_before_is_not_computed_again() {
    let mut scheduler = scheduler(LIMITS, &[("a", 8)]);
    step(&mut scheduler);
    scheduler.remove(SequenceId(0));
    scheduler.add(sequence(1, "a", (0..8).chain([77])));
    assert_eq!(step(&mut scheduler), [(1, 8, 1)]);
    assert_eq!(
        scheduler.running(SequenceId(1)).unwrap().num_cached_tokens,
        8
    );
    assert_eq!(scheduler.totals().num_cached_tokens, 8);
    assert_eq!(scheduler.totals().num_computed_prompt_tokens, 9);
}

#[test]
fn of_a_prompt_that_is_cached_completely_the_last_block_is_computed_for_its_logits() {
    let mut scheduler = scheduler(LIMITS, &[("a", 8)]);
    step(&mut scheduler);
    scheduler.add(sequence(1, "a", 0..8));
    assert_eq!(step(&mut scheduler), [(0, 8, 1), (1, 4, 4)]);
    scheduler.assert_consistent();
}

#[test]
fn prompts_that_arrive_together_share_what_one_of_them_computes_first() {
    let limits = Limits {
        max_batch_tokens: 8,
        ..LIMITS
    };
    let mut scheduler = Scheduler::new(limits);
    for id in 0..2 {
        scheduler.add(sequence(id, "a", (0..16).chain([100 + id as u32])));
    }
    let steps: Vec<_> = (0..4).flat_map(|_| step(&mut scheduler)).collect();
    let expected = [(0, 0, 8), (0, 8, 8), (0, 16, 1), (1, 16, 1)];
    assert_eq!(steps[..4], expected);
    scheduler.assert_consistent();
}

#[test]
fn generated_tokens_are_found_again_as_part_of_a_longer_prompt() {
    let mut scheduler = scheduler(LIMITS, &[("a", 3)]);
    (0..6).for_each(|_| drop(step(&mut scheduler)));
    let sequence_0 = scheduler.remove(SequenceId(0)).unwrap();
    let follow_up = sequence_0.tokens.iter().copied().chain([5, 6, 7]);
    scheduler.add(sequence(1, "a", follow_up));
    assert_eq!(step(&mut scheduler)[0].1, 8);
}

#[test]
fn what_a_discarded_sequence_computed_is_not_found_again() {
    let mut scheduler = scheduler(LIMITS, &[("a", 8)]);
    step(&mut scheduler);
    scheduler.discard(SequenceId(0));
    scheduler.assert_consistent();
    scheduler.add(sequence(1, "a", (0..8).chain([77])));
    assert_eq!(step(&mut scheduler)[0].1, 0);
}

#[test]
fn the_end_of_an_unused_prefix_is_evicted_before_its_beginning() {
    let mut scheduler = scheduler(LIMITS, &[("a", 32)]);
    (0..4).for_each(|_| drop(step(&mut scheduler)));
    scheduler.remove(SequenceId(0));
    scheduler.add(sequence(1, "a", 500..548));
    step(&mut scheduler);
    scheduler.remove(SequenceId(1));
    scheduler.add(sequence(2, "a", 0..32));
    assert_eq!(step(&mut scheduler)[0].1, 16);
}

#[test]
fn a_sequence_can_be_removed_in_every_state() {
    let limits = Limits {
        num_blocks: 5,
        ..LIMITS
    };
    let mut scheduler = scheduler(limits, &[("a", 7), ("b", 7), ("c", 1)]);
    (0..3).for_each(|_| drop(step(&mut scheduler)));
    assert_eq!((scheduler.num_running(), scheduler.num_preempted()), (1, 1));
    for id in 0..3 {
        assert!(scheduler.remove(SequenceId(id)).is_some());
        assert!(scheduler.remove(SequenceId(id)).is_none());
        scheduler.assert_consistent();
    }
    assert!(scheduler.is_idle());
    assert_eq!(scheduler.num_free_blocks(), 5);
    assert!(scheduler.schedule(usize::MAX).slices.is_empty());
}
