//! Who begins to run, and who gives way. Never preempts the oldest running sequence, so that it finishes.

use super::{Limits, Plan, Scheduler};
use crate::engine::block_cache::BlockCache;
use crate::engine::sequence::{Sequence, SequenceId, User};

/// A sequence that does not run but could.
enum Candidate {
    Preempted { admission: u64 },
    Waiting { user: User },
}

impl Scheduler {
    /// Admits sequences as long as there is room, or others who run more can give way.
    pub(super) fn admit(&mut self, plan: &mut Plan) {
        while let Some(candidate) = self.next_candidate() {
            let is_full = self.running.len() >= self.limits.max_running;
            if !is_full && let Some(sequence) = self.try_admit(&candidate) {
                plan.admitted.push(sequence.id);
                self.totals.num_cached_tokens += sequence.num_computed as u64;
                self.prefill_turns.join(&sequence.user);
                let is_older = |other: &Sequence| other.admission < sequence.admission;
                let index = self.running.partition_point(is_older);
                self.running.insert(index, sequence);
                continue;
            }
            // Nobody overtakes it, so that large prompts get their turn too.
            let Some(victim) = self.who_gives_way_to(&candidate, is_full) else {
                return;
            };
            self.preempt(victim, plan);
        }
    }

    /// Makes one sequence other than the oldest give up its blocks: the youngest of those who run most. It may be `id`
    /// itself.
    pub(super) fn preempt_for(&mut self, id: SequenceId, plan: &mut Plan) {
        let younger = self.running.iter().skip(1);
        let victim = younger.max_by_key(|it| (self.num_running_of(&it.user), it.admission));
        let victim = victim.map_or(id, |sequence| sequence.id);
        self.preempt(victim, plan);
    }

    fn preempt(&mut self, id: SequenceId, plan: &mut Plan) {
        let index = self.index_of(id).expect("only running ones are chosen");
        let mut sequence = self.running.remove(index);
        self.stop_running(&mut sequence);
        sequence.num_computed = 0;
        sequence.was_preempted = true;
        self.totals.num_preemptions += 1;
        plan.slices.retain(|slice| slice.id != id);
        plan.preempted.push(id);
        self.preempted.insert(sequence.admission, sequence);
    }

    fn num_running_of(&self, user: &User) -> usize {
        let of_user = self.running.iter().filter(|other| other.user == *user);
        of_user.count()
    }

    /// Of the users with the fewest running sequences, one that has a preempted sequence, the oldest first, else the
    /// first in line.
    fn next_candidate(&self) -> Option<Candidate> {
        let waiting = self.waiting.next_user(|user| self.num_running_of(user));
        let preempted = self.preempted.values();
        let preempted = preempted.min_by_key(|it| (self.num_running_of(&it.user), it.admission));
        match (preempted, waiting) {
            (Some(preempted), Some(user))
                if self.num_running_of(&user) < self.num_running_of(&preempted.user) =>
            {
                Some(Candidate::Waiting { user })
            }
            (Some(preempted), _) => Some(Candidate::Preempted {
                admission: preempted.admission,
            }),
            (None, user) => user.map(|user| Candidate::Waiting { user }),
        }
    }

    /// Takes the candidate out of its queue and gives it blocks; `None` when there are too few.
    fn try_admit(&mut self, candidate: &Candidate) -> Option<Sequence> {
        let num_spare = self.running.len();
        match candidate {
            Candidate::Preempted { admission } => {
                let sequence = self.preempted.get_mut(admission)?;
                if !take_blocks(&mut self.cache, &self.limits, sequence, num_spare) {
                    return None;
                }
                self.preempted.remove(admission)
            }
            Candidate::Waiting { user } => {
                let front = self.waiting.front_mut(user)?;
                if !take_blocks(&mut self.cache, &self.limits, front, num_spare) {
                    return None;
                }
                let mut sequence = self.waiting.pop(user)?;
                sequence.admission = self.num_admissions;
                self.num_admissions += 1;
                Some(sequence)
            }
        }
    }

    /// The youngest sequence of those who run most, if they run so much more than the candidate's user that the
    /// candidate should run in its place, and if giving way helps. `is_full`: a place is missing, not blocks.
    fn who_gives_way_to(&self, candidate: &Candidate, is_full: bool) -> Option<SequenceId> {
        let sequence = match candidate {
            Candidate::Preempted { admission } => self.preempted.get(admission)?,
            Candidate::Waiting { user } => self.waiting.front(user)?,
        };
        let num_own = self.num_running_of(&sequence.user);
        // Afterwards the other still runs at least as much as the candidate's user.
        let runs_more = |other: &&Sequence| self.num_running_of(&other.user) >= num_own + 2;
        let younger = self.running.iter().skip(1).filter(runs_more);
        let victim = younger.max_by_key(|it| (self.num_running_of(&it.user), it.admission))?;
        let helps = is_full || self.num_blocks_in_reach(num_own) >= self.num_needed(sequence);
        helps.then_some(victim.id)
    }

    /// Blocks without a reference once everyone who runs more than `num_own` and one has given way.
    fn num_blocks_in_reach(&self, num_own: usize) -> usize {
        let mut num_blocks = self.cache.num_available();
        for (index, sequence) in self.running.iter().enumerate().skip(1) {
            let older = self.running[..index].iter();
            let num_older = older.filter(|it| it.user == sequence.user).count();
            if num_older > num_own {
                let own = sequence.block_table.iter();
                num_blocks += own.filter(|block| !self.cache.is_shared(**block)).count();
            }
        }
        num_blocks
    }

    /// Blocks that the sequence takes at most, with a spare one for each who runs.
    fn num_needed(&self, sequence: &Sequence) -> usize {
        sequence.tokens.len().div_ceil(self.limits.block_size) + self.running.len()
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
