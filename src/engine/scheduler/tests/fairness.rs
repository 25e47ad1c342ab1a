//! That nobody waits for another's many or long requests.

use super::*;

#[test]
fn fifty_requests_of_one_user_do_not_delay_anothers_single_one() {
    let limits = Limits {
        num_blocks: 1000,
        ..LIMITS
    };
    let mut scheduler = scheduler(limits, &[("a", 40); 50]);
    (0..10).for_each(|_| drop(step(&mut scheduler)));
    assert_eq!(scheduler.num_running(), limits.max_running);
    scheduler.add(sequence(50, "b", 90_000..90_003));
    let is_served = |step: Vec<(u64, usize, usize)>| step.iter().any(|slice| slice.0 == 50);
    assert!(is_served(step(&mut scheduler)) || is_served(step(&mut scheduler)));
    scheduler.assert_consistent();
    // The one that gave way is not given up: it resumes when there is a place for its user.
    assert_eq!(scheduler.totals().num_preemptions, 1);
    assert_eq!(scheduler.num_preempted(), 1);
    scheduler.remove(SequenceId(50));
    assert_eq!(admitted(&mut scheduler).len(), 1);
    assert_eq!(scheduler.num_preempted(), 0);
}

#[test]
fn blocks_are_given_up_for_those_who_have_none() {
    let mut scheduler = scheduler(LIMITS, &[("a", 20), ("a", 20), ("a", 12)]);
    assert_eq!(admitted(&mut scheduler), [0, 1, 2]);
    scheduler.add(sequence(3, "b", 500..512));
    let plan = scheduler.schedule(usize::MAX);
    assert_eq!(plan.preempted, [SequenceId(2)]);
    assert_eq!(plan.admitted, [SequenceId(3)]);
    scheduler.assert_consistent();
}

#[test]
fn nobody_gives_way_when_it_would_not_help() {
    // Without the oldest, which never gives way, there are still too few blocks for b.
    let mut scheduler = scheduler(LIMITS, &[("a", 30), ("a", 10)]);
    assert_eq!(admitted(&mut scheduler), [0, 1]);
    scheduler.add(sequence(2, "b", 500..540));
    let plan = scheduler.schedule(usize::MAX);
    assert!(plan.preempted.is_empty() && plan.admitted.is_empty());
    scheduler.remove(SequenceId(0));
    scheduler.remove(SequenceId(1));
    assert_eq!(admitted(&mut scheduler), [2]);
}

#[test]
fn who_runs_as_much_as_others_waits() {
    let users = ["a", "a", "b", "b"].map(|user| (user, 4));
    let mut scheduler = scheduler(LIMITS, &users);
    assert_eq!(admitted(&mut scheduler).len(), 4);
    for (id, user) in [(4, "a"), (5, "b")] {
        scheduler.add(sequence(id, user, 700..704));
    }
    let plan = scheduler.schedule(usize::MAX);
    assert!(plan.preempted.is_empty() && plan.admitted.is_empty());
}

#[test]
fn when_blocks_run_out_those_who_run_most_give_way() {
    let limits = Limits {
        num_blocks: 8,
        ..LIMITS
    };
    // In their second block all have 4 positions; the third does not fit for all.
    let mut scheduler = scheduler(limits, &[("a", 3), ("a", 3), ("a", 3), ("b", 3)]);
    let mut preempted = Vec::new();
    for _ in 0..7 {
        let plan = scheduler.schedule(usize::MAX);
        preempted.extend(plan.preempted.iter().map(|id| id.0));
        for slice in &plan.slices {
            scheduler.commit(slice);
            scheduler.append(slice.id, 0);
        }
        scheduler.assert_consistent();
    }
    assert_eq!(preempted, [2, 1], "b is younger, but runs less");
}

#[test]
fn short_prompts_are_not_worth_more_than_a_long_one() {
    let limits = Limits {
        max_running: 16,
        num_blocks: 1000,
        ..LIMITS
    };
    let mut users = vec![("a", 200)];
    users.resize(15, ("b", 4));
    let mut scheduler = scheduler(limits, &users);
    let slices = step(&mut scheduler);
    let tokens_of_a: usize = slices.iter().filter(|it| it.0 == 0).map(|it| it.2).sum();
    assert_eq!((tokens_of_a, slices.len()), (8, 3));
}

#[test]
fn a_long_prompt_is_read_in_smaller_pieces_beside_streams() {
    let limits = Limits {
        num_blocks: 100,
        ..LIMITS
    };
    let mut scheduler = scheduler(limits, &[("a", 3)]);
    step(&mut scheduler);
    scheduler.add(sequence(1, "b", 1000..1040));
    let plan = scheduler.schedule(2);
    let sizes: Vec<usize> = plan.slices.iter().map(|slice| slice.num_tokens).collect();
    assert_eq!(sizes, [1, 2]);
    scheduler.remove(SequenceId(0));
    assert_eq!(scheduler.schedule(2).slices[0].num_tokens, 8);
}
