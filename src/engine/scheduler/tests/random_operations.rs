//! Random arrivals, lengths, cancellations, choices and drafts, with everything checked after each step: whose blocks are
//! whose, that what a sequence reads back is what it wrote, and that everyone finishes.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// The KV cache as a model would fill it: the prefix that each position was computed from.
struct Memory {
    slots: HashMap<usize, Vec<u32>>,
    block_size: usize,
}

impl Memory {
    fn copy(&mut self, from: u32, to: u32) {
        for slot in 0..self.block_size {
            let (from, to) = (from as usize, to as usize);
            match self.slots.get(&(from * self.block_size + slot)).cloned() {
                Some(prefix) => self.slots.insert(to * self.block_size + slot, prefix),
                None => self.slots.remove(&(to * self.block_size + slot)),
            };
        }
    }

    /// Checks that everything before the slice can be read back, then writes the slice and the draft after it.
    fn compute(&mut self, sequence: &Sequence, slice: &Slice, draft: &[u32]) {
        let slot = |position: usize| {
            let block = sequence.block_table[position / self.block_size];
            block as usize * self.block_size + position % self.block_size
        };
        for position in 0..slice.start {
            let prefix = &sequence.tokens[..=position];
            assert_eq!(
                self.slots.get(&slot(position)).map(Vec::as_slice),
                Some(prefix)
            );
        }
        let mut tokens = sequence.tokens.clone();
        tokens.extend(draft);
        for position in slice.start..slice.start + slice.num_tokens + draft.len() {
            self.slots
                .insert(slot(position), tokens[..=position].to_vec());
        }
    }
}

/// What a live sequence still does.
struct Live {
    id: SequenceId,
    num_left: usize,
    /// Choices that begin when the prompt has been computed.
    num_siblings: usize,
}

/// A scheduler under test with everything that stands around it.
struct Simulation {
    scheduler: Scheduler,
    memory: Memory,
    live: Vec<Live>,
    num_added: u64,
    random: StdRng,
}

const MAX_PROMPT: usize = 20;
const MAX_OUTPUT: usize = 12;

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let max_running = random.random_range(1..6);
        let block_size = random.random_range(1..6);
        let limits = Limits {
            max_running,
            max_batch_tokens: max_running + random.random_range(0..20),
            prefill_chunk: random.random_range(1..10),
            block_size,
            // The longest sequence fits.
            num_blocks: (MAX_PROMPT + MAX_OUTPUT).div_ceil(block_size) + random.random_range(0..8),
        };
        Self {
            scheduler: Scheduler::new(limits),
            memory: Memory {
                slots: HashMap::new(),
                block_size,
            },
            live: Vec::new(),
            num_added: 0,
            random,
        }
    }

    fn act(&mut self) {
        match self.random.random_range(0..12) {
            0..6 => self.step(),
            6..10 if self.live.len() < 40 => self.add(),
            10 if !self.live.is_empty() => {
                let index = self.random.random_range(0..self.live.len());
                let id = self.live.swap_remove(index).id;
                assert!(self.scheduler.remove(id).is_some());
            }
            11 if !self.live.is_empty() => {
                let index = self.random.random_range(0..self.live.len());
                let id = self.live.swap_remove(index).id;
                assert!(self.scheduler.discard(id).is_some());
            }
            _ => {}
        }
        self.scheduler.assert_consistent();
        assert_eq!(self.scheduler.is_idle(), self.live.is_empty());
    }

    fn new_id(&mut self) -> SequenceId {
        self.num_added += 1;
        SequenceId(self.num_added)
    }

    fn add(&mut self) {
        let id = self.new_id();
        let num_tokens = self.random.random_range(1..=MAX_PROMPT);
        // Few different tokens, so that prefixes are shared by chance.
        let num_kinds = self.random.random_range(1..3u32);
        let mut prompt = Vec::new();
        prompt.resize_with(num_tokens, || self.random.random_range(0..num_kinds));
        let user = ["a", "b", "c"][self.random.random_range(0..3)];
        let mut sequence = sequence(id.0, user, prompt);
        sequence.num_public_tokens = self.random.random_range(0..10);
        self.scheduler.add(sequence);
        self.live.push(Live {
            id,
            num_left: self.random.random_range(1..=MAX_OUTPUT),
            num_siblings: self.random.random_range(0..8usize).saturating_sub(5),
        });
    }

    fn step(&mut self) {
        let limits = self.scheduler.limits;
        let running = &self.scheduler.running;
        let decoding = running.iter().filter(|it| it.num_uncomputed() == 1);
        let decoding: Vec<SequenceId> = decoding.map(|sequence| sequence.id).collect();
        let oldest = running.first().map(|sequence| sequence.id);
        let beside_decodes = self.random.random_range(0..12);
        let plan = self.scheduler.schedule(beside_decodes);
        self.scheduler.assert_consistent();

        assert!(plan.num_tokens() <= limits.max_batch_tokens);
        assert_eq!(plan.slices.is_empty(), self.live.is_empty());
        for id in &decoding {
            assert!(plan.contains(*id) || plan.preempted.contains(id));
        }
        assert!(!plan.preempted.iter().any(|id| Some(*id) == oldest));

        for &(from, to) in &plan.copies {
            self.memory.copy(from, to);
        }
        let drafts = self.draft(&plan);
        for (slice, draft) in plan.slices.iter().zip(&drafts) {
            assert!(0 < slice.num_tokens && slice.num_tokens <= limits.prefill_chunk);
            let sequence = self.scheduler.running(slice.id).unwrap();
            let end = slice.start + slice.num_tokens;
            assert_eq!(slice.start, sequence.num_computed);
            assert_eq!(slice.reaches_end, end == sequence.tokens.len());
            assert!(end + draft.len() <= sequence.block_table.len() * limits.block_size);
            for place in slice.start / limits.block_size..end.div_ceil(limits.block_size) {
                assert!(!self.scheduler.cache.is_shared(sequence.block_table[place]));
            }
            self.memory.compute(sequence, slice, draft);
        }
        for (slice, draft) in plan.slices.iter().zip(&drafts) {
            self.scheduler.commit(slice);
            if slice.reaches_end {
                self.start_siblings(slice.id);
                self.generate(slice.id, draft);
            }
        }
    }

    fn draft(&mut self, plan: &Plan) -> Vec<Vec<u32>> {
        let mut num_drafted = 0;
        let mut drafts = Vec::new();
        for slice in &plan.slices {
            let is_decode = slice.reaches_end && slice.num_tokens == 1;
            let live = self.live.iter().find(|it| it.id == slice.id).unwrap();
            let num_wanted = match is_decode && live.num_siblings == 0 {
                true => self.random.random_range(0..6).min(live.num_left - 1),
                false => 0,
            };
            let room = self
                .scheduler
                .make_room_for_draft(plan, slice.id, num_wanted, num_drafted);
            assert!(room <= num_wanted);
            num_drafted += room;
            let mut draft = Vec::new();
            draft.resize_with(room, || self.random.random_range(0..2u32));
            drafts.push(draft);
        }
        assert!(plan.num_tokens() + num_drafted <= self.scheduler.limits.max_batch_tokens);
        drafts
    }

    fn start_siblings(&mut self, id: SequenceId) {
        let live = self.live.iter_mut().find(|it| it.id == id).unwrap();
        let (num_siblings, num_left) = (std::mem::take(&mut live.num_siblings), live.num_left);
        for _ in 0..num_siblings {
            let sibling = self.new_id();
            self.scheduler.fork(id, sibling);
            self.live.push(Live {
                id: sibling,
                num_left,
                num_siblings: 0,
            });
            self.generate(sibling, &[]);
        }
    }

    fn generate(&mut self, id: SequenceId, draft: &[u32]) {
        for num_accepted in 0..=draft.len() {
            let token = self.random.random_range(0..2u32);
            self.scheduler.append(id, token);
            let index = self.live.iter().position(|it| it.id == id).unwrap();
            self.live[index].num_left -= 1;
            if self.live[index].num_left == 0 {
                self.live.swap_remove(index);
                assert!(self.scheduler.remove(id).is_some());
                return;
            }
            if draft.get(num_accepted) != Some(&token) {
                break;
            }
            self.scheduler.accept_draft(id);
        }
        self.scheduler.drop_draft(id);
    }
}

#[test]
fn after_any_operations_blocks_are_accounted_for_and_everyone_finishes() {
    let (mut num_actions, mut num_preemptions) = (0, 0);
    for seed in 0.. {
        let mut simulation = Simulation::new(seed);
        for _ in 0..200 {
            simulation.act();
            num_actions += 1;
        }
        // Far more than it takes even when all but the oldest make no progress at all.
        let num_sequences = simulation.live.len() * 3;
        let mut num_steps_left = 1 + (MAX_PROMPT + MAX_OUTPUT) * num_sequences;
        while !simulation.live.is_empty() {
            assert!(num_steps_left > 0, "seed {seed}: someone is stuck");
            num_steps_left -= 1;
            simulation.step();
            simulation.scheduler.assert_consistent();
            num_actions += 1;
        }
        let limits = simulation.scheduler.limits;
        assert_eq!(simulation.scheduler.num_free_blocks(), limits.num_blocks);
        num_preemptions += simulation.scheduler.totals().num_preemptions;
        if num_actions >= 100_000 {
            break;
        }
    }
    assert!(num_preemptions > 1000, "{num_preemptions}");
}
