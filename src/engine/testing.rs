//! A model without weights, for tests of the engine and of what stands on it. Its logits depend on every token that it
//! reads back through the block table, so a wrong table, position or shared block changes the output. Never used by the
//! product.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::sampler;
use crate::llm::{Batch, LanguageModel, LlmError, Logits, LogitsFor, ModelSpec, SequenceInput};

/// The size of a fake model.
#[derive(Debug, Clone, Copy)]
pub struct FakeModelOptions {
    pub vocab_size: usize,
    pub context_length: usize,
    pub block_size: usize,
    pub num_blocks: usize,
    /// Logits are NaN for every sequence that contains this token.
    pub poison_token: Option<u32>,
}

impl Default for FakeModelOptions {
    fn default() -> Self {
        Self {
            vocab_size: 64,
            context_length: 4096,
            block_size: 4,
            num_blocks: 64,
            poison_token: None,
        }
    }
}

/// What goes wrong at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Error,
    Panic,
    /// One row of logits is missing.
    MissingRow,
    /// A token is drawn from every row.
    UnaskedToken,
}

/// Chooses the most probable next token from all tokens before it.
type NextToken = Box<dyn Fn(&[u32]) -> u32 + Send>;

/// A deterministic [`LanguageModel`] with a paged cache of its own, in which it keeps, for each position, the token
/// and a hash of everything that it read back at the positions before.
pub struct FakeModel {
    spec: ModelSpec,
    options: FakeModelOptions,
    slots: Vec<Slot>,
    next_token: Option<NextToken>,
    fault: Option<(usize, Fault)>,
    is_drawing: bool,
    probe: Probe,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    token: u32,
    state: u64,
}

impl FakeModel {
    pub fn new(options: FakeModelOptions) -> Self {
        let unwritten = Slot {
            token: u32::MAX,
            state: u64::MAX,
        };
        Self {
            spec: ModelSpec {
                architecture: "fake".into(),
                vocab_size: options.vocab_size,
                context_length: options.context_length,
                block_size: options.block_size,
                num_blocks: options.num_blocks,
                weights_bytes: 0,
                cache_bytes: 0,
            },
            options,
            slots: vec![unwritten; options.block_size * options.num_blocks],
            next_token: None,
            fault: None,
            is_drawing: false,
            probe: Probe::default(),
        }
    }

    /// Makes `next_token` of the context the most probable token, by far.
    pub fn with_next_token(mut self, next_token: impl Fn(&[u32]) -> u32 + Send + 'static) -> Self {
        self.next_token = Some(Box::new(next_token));
        self
    }

    /// Fails at the given step; the first is 0.
    pub fn failing_at(mut self, step: usize, fault: Fault) -> Self {
        self.fault = Some((step, fault));
        self
    }

    /// Draws the tokens that it may draw, as a GPU does.
    pub fn drawing(mut self) -> Self {
        self.is_drawing = true;
        self
    }

    /// Sees what the model is given, and can hold it between steps.
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }

    /// Writes the slice into the cache and returns its rows of logits.
    fn run(&mut self, input: &SequenceInput) -> Vec<f32> {
        assert!(!input.tokens.is_empty(), "a sequence without tokens");
        let mut context: Vec<Slot> = (0..input.start)
            .map(|position| self.slots[self.slot(input, position)])
            .collect();
        let mut rows = Vec::new();
        for (index, &token) in input.tokens.iter().enumerate() {
            let state = next_state(context.iter().map(|slot| slot.state), token);
            let slot = self.slot(input, input.start + index);
            self.slots[slot] = Slot { token, state };
            context.push(Slot { token, state });
            let is_last = index + 1 == input.tokens.len();
            if input.logits == LogitsFor::All || (input.logits == LogitsFor::Last && is_last) {
                rows.extend(self.logits(&context));
            }
        }
        rows
    }

    fn slot(&self, input: &SequenceInput, position: usize) -> usize {
        let block_size = self.spec.block_size;
        input.block_table[position / block_size] as usize * block_size + position % block_size
    }

    fn logits(&self, context: &[Slot]) -> Vec<f32> {
        let state = context.last().map_or(0, |slot| slot.state);
        let mut logits = logits_of(state, self.spec.vocab_size);
        let tokens: Vec<u32> = context.iter().map(|slot| slot.token).collect();
        if let Some(next_token) = &self.next_token {
            logits[next_token(&tokens) as usize] = 30.0;
        }
        if self
            .options
            .poison_token
            .is_some_and(|token| tokens.contains(&token))
        {
            logits.fill(f32::NAN);
        }
        logits
    }
}

impl LanguageModel for FakeModel {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn forward(&mut self, batch: &Batch) -> Result<Logits, LlmError> {
        let step = self.probe.enter(batch);
        for &(from, to) in &batch.copies {
            let block_size = self.spec.block_size;
            let from = from as usize * block_size;
            let to = to as usize * block_size;
            self.slots.copy_within(from..from + block_size, to);
        }
        assert_blocks_are_written_once(batch, self.spec.block_size);
        let mut values = Vec::new();
        let mut drawn = Vec::new();
        for input in &batch.sequences {
            let rows = self.run(input);
            match input.draw.filter(|_| self.is_drawing) {
                Some(draw) => {
                    let token = |()| sampler::drawn(&rows, &draw, &mut Vec::new());
                    drawn.push(Some(sampler::check(&rows).map(token)));
                }
                None => {
                    drawn.resize(drawn.len() + rows.len() / self.spec.vocab_size, None);
                    values.extend(rows);
                }
            }
        }
        self.probe.count_drawn(drawn.iter().flatten().count());
        match self.fault {
            Some((at, Fault::Error)) if at == step => {
                let cause = std::io::Error::other("the fake model was told to fail");
                return Err(LlmError::Compute(cause.into()));
            }
            Some((at, Fault::Panic)) if at == step => panic!("the fake model was told to panic"),
            Some((at, Fault::MissingRow)) if at == step => {
                if let Some(None) = drawn.pop() {
                    values.truncate(values.len() - self.spec.vocab_size);
                }
            }
            Some((at, Fault::UnaskedToken)) if at == step => {
                values.clear();
                drawn.fill(Some(Ok(0)));
            }
            _ => {}
        }
        Ok(Logits::with_drawn(values, self.spec.vocab_size, drawn))
    }
}

/// The tokens that the fake model generates greedily after a prompt, computed without any cache.
pub fn greedy_reference(prompt: &[u32], num_tokens: usize, vocab_size: usize) -> Vec<u32> {
    let mut states: Vec<u64> = Vec::new();
    for &token in prompt {
        states.push(next_state(states.iter().copied(), token));
    }
    let mut output = Vec::new();
    for _ in 0..num_tokens {
        let logits = logits_of(states.last().copied().unwrap_or(0), vocab_size);
        let mut best = 0;
        for (id, logit) in logits.iter().enumerate() {
            if *logit > logits[best] {
                best = id;
            }
        }
        output.push(best as u32);
        states.push(next_state(states.iter().copied(), best as u32));
    }
    output
}

/// One sequence's part of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSlice {
    pub start: usize,
    pub num_tokens: usize,
    pub block_table: Vec<u32>,
}

/// Watches a [`FakeModel`] from outside the engine's thread, and holds it between steps, so that no test needs to
/// sleep.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    shared: Arc<(Mutex<ProbeState>, Condvar)>,
}

#[derive(Debug, Default)]
struct ProbeState {
    steps: Vec<Vec<StepSlice>>,
    num_drawn: usize,
    is_held: bool,
    /// Steps that may be computed although the model is held.
    num_allowed: usize,
    is_at_gate: bool,
}

impl Probe {
    /// Stops the model at the beginning of the next step.
    pub fn hold(&self) {
        self.change(|state| state.is_held = true);
    }

    /// Lets the held model compute this many steps more.
    pub fn allow(&self, num_steps: usize) {
        self.change(|state| state.num_allowed += num_steps);
    }

    /// Lets the model run freely.
    pub fn release(&self) {
        self.change(|state| {
            state.is_held = false;
            state.num_allowed = 0;
        });
    }

    /// Blocks the calling thread until the model has used up what it was allowed and stands at the beginning of a step.
    pub fn wait_until_held(&self) {
        let (_, condition) = &*self.shared;
        let is_moving = |state: &mut ProbeState| !state.is_at_gate || state.num_allowed > 0;
        let waited = condition.wait_while(self.lock(), is_moving);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// What the model was given, step by step, with the step it is held at.
    pub fn steps(&self) -> Vec<Vec<StepSlice>> {
        self.lock().steps.clone()
    }

    pub fn num_steps(&self) -> usize {
        self.lock().steps.len()
    }

    /// Tokens that the model has been given in all steps.
    pub fn num_forwarded_tokens(&self) -> usize {
        let state = self.lock();
        state
            .steps
            .iter()
            .flatten()
            .map(|slice| slice.num_tokens)
            .sum()
    }

    /// Tokens that the model has drawn itself.
    pub fn num_drawn(&self) -> usize {
        self.lock().num_drawn
    }

    fn count_drawn(&self, num_drawn: usize) {
        self.change(|state| state.num_drawn += num_drawn);
    }

    /// Records a step and waits until it may be computed. Returns its number.
    fn enter(&self, batch: &Batch) -> usize {
        let slice = |input: &SequenceInput| StepSlice {
            start: input.start,
            num_tokens: input.tokens.len(),
            block_table: input.block_table.clone(),
        };
        let (_, condition) = &*self.shared;
        let mut state = self.lock();
        state
            .steps
            .push(batch.sequences.iter().map(slice).collect());
        let step = state.steps.len() - 1;
        state.is_at_gate = true;
        condition.notify_all();
        let must_wait = |state: &mut ProbeState| state.is_held && state.num_allowed == 0;
        let waited = condition.wait_while(state, must_wait);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.num_allowed = state.num_allowed.saturating_sub(1);
        state.is_at_gate = false;
        step
    }

    fn change(&self, change: impl FnOnce(&mut ProbeState)) {
        change(&mut self.lock());
        self.shared.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, ProbeState> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Panics when two sequences of a batch would write into one block.
fn assert_blocks_are_written_once(batch: &Batch, block_size: usize) {
    let mut written = Vec::new();
    for input in &batch.sequences {
        let end = input.start + input.tokens.len();
        let blocks = &input.block_table[input.start / block_size..end.div_ceil(block_size)];
        written.extend_from_slice(blocks);
    }
    let num_written = written.len();
    written.sort_unstable();
    written.dedup();
    assert_eq!(
        written.len(),
        num_written,
        "two sequences write into one block"
    );
}

/// The state at a position, from the states at all positions before and its token.
fn next_state(before: impl Iterator<Item = u64>, token: u32) -> u64 {
    let read = before.fold(0, |hash, state| mix(hash ^ state));
    mix(read ^ (u64::from(token) + 1))
}

/// Logits from -4 to 4 that look random.
fn logits_of(state: u64, vocab_size: usize) -> Vec<f32> {
    let uniform = |id: u64| (mix(state ^ mix(id)) >> 40) as f32 / (1u64 << 24) as f32;
    (0..vocab_size as u64)
        .map(|id| uniform(id) * 8.0 - 4.0)
        .collect()
}

/// SplitMix64 (Steele, Lea and Flood 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
