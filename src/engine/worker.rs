//! The engine's thread: admit, schedule, forward, sample, update, send. Blocks only when there is nothing to do, and
//! never waits for a client.

mod draft;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Sender;

use super::constraint::Constraints;
use super::pace::Pace;
use super::sampler::{self, Sampler, Scratch};
use super::scheduler::{Limits, Plan, Scheduler, Slice};
use super::sequence::{Sequence, SequenceId};
use super::speculation::Acceptance;
use super::stream::{
    Alternative, Event, FinishReason, GeneratedToken, Output, TokenEvent, TokenLogprob, Usage,
};
use super::{EngineConfig, EngineError, GenerationRequest, Speculation, Status, stats};
use crate::llm::{
    Batch, Draw, InvalidLogits, LanguageModel, Logits, LogitsFor, Row, SequenceInput,
};

pub enum Command {
    Submit(Box<Submission>),
    /// End when idle, at `deadline` (`None`: never) at the latest.
    Shutdown {
        deadline: Option<Instant>,
    },
}

/// A valid request, and where its output goes.
pub struct Submission {
    pub request: GenerationRequest,
    /// One for each choice; has room for `max_tokens` tokens and the end.
    pub outputs: Vec<Output>,
    /// Its place in the bounded queue, given back at admission.
    pub place: OwnedSemaphorePermit,
}

pub struct Worker {
    model: Box<dyn LanguageModel>,
    scheduler: Scheduler,
    /// Those of all sequences in the scheduler.
    requests: HashMap<SequenceId, Request>,
    constraints: Constraints,
    commands: mpsc::Receiver<Command>,
    shutdown: Shutdown,
    scratch: Scratch,
    pace: Pace,
    speculation: Speculation,
    num_sequences: u64,
    totals: stats::Totals,
    status: Arc<Status>,
}

/// What the scheduler need not know about a sequence.
struct Request {
    output: Sender<Event>,
    num_cached_tokens: Arc<AtomicUsize>,
    sampler: Sampler,
    max_tokens: usize,
    end_tokens: Vec<u32>,
    num_alternatives: Option<usize>,
    place: Option<OwnedSemaphorePermit>,
    acceptance: Acceptance,
    /// Other choices, which begin when this one's prompt has been computed.
    siblings: Vec<Sibling>,
}

/// A choice that has not begun.
struct Sibling {
    output: Output,
    sampler: Sampler,
}

impl Request {
    fn is_wanted(&self) -> bool {
        let is_open = |sibling: &Sibling| !sibling.output.events.is_closed();
        !self.output.is_closed() || self.siblings.iter().any(is_open)
    }
}

/// A plan with the guesses that are checked beside it.
struct Step {
    plan: Plan,
    /// For each slice the tokens that may follow it.
    drafts: Vec<Vec<u32>>,
}

enum Shutdown {
    NotAsked,
    WhenIdle,
    WhenIdleOrAt(Instant),
}

/// Events of a step. They are sent last, so that whoever sees one finds its effects done.
type Outbox = Vec<(Sender<Event>, Event)>;

impl Worker {
    pub fn new(
        model: Box<dyn LanguageModel>,
        config: &EngineConfig,
        commands: mpsc::Receiver<Command>,
        status: Arc<Status>,
    ) -> Self {
        let spec = model.spec();
        let max_batch_tokens = config.max_batch_tokens.max(1);
        let scheduler = Scheduler::new(Limits {
            max_running: config.max_running.clamp(1, max_batch_tokens),
            max_batch_tokens,
            prefill_chunk: config.prefill_chunk.max(1),
            block_size: spec.block_size,
            num_blocks: spec.num_blocks,
        });
        status.counters.write(&scheduler, &stats::Totals::default());
        Self {
            model,
            scheduler,
            requests: HashMap::new(),
            constraints: Constraints::default(),
            commands,
            shutdown: Shutdown::NotAsked,
            scratch: Scratch::default(),
            pace: Pace::new(config.max_stretch.max(1.0)),
            speculation: config.speculation,
            num_sequences: 0,
            totals: stats::Totals::default(),
            status,
        }
    }

    /// Works until a shutdown, a panic of the model, or the drop of all handles. Streams that are open then end with
    /// [`EngineError::Stopped`], as their senders are dropped with the worker.
    pub fn run(mut self) {
        // After a panic nothing is used any more but what dropping needs.
        let outcome = catch_unwind(AssertUnwindSafe(|| while self.receive() && self.step() {}));
        if outcome.is_err() {
            tracing::error!("the engine's thread panicked and will not run again");
        }
        // Before the streams end: whoever sees that finds the engine stopped.
        self.status.has_stopped.store(true, Ordering::Release);
    }

    /// Takes in what has arrived; waits for it when there is nothing to do. False: the thread is to end.
    fn receive(&mut self) -> bool {
        if self.scheduler.is_idle() {
            if !matches!(self.shutdown, Shutdown::NotAsked) {
                return false;
            }
            match self.commands.recv() {
                Ok(command) => self.obey(command),
                Err(mpsc::RecvError) => return false,
            }
        }
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
        }
        true
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Submit(submission) => self.add(*submission),
            Command::Shutdown { deadline } => {
                self.shutdown = match (&self.shutdown, deadline) {
                    (Shutdown::WhenIdleOrAt(earlier), None) => Shutdown::WhenIdleOrAt(*earlier),
                    (Shutdown::WhenIdleOrAt(other), Some(deadline)) => {
                        Shutdown::WhenIdleOrAt(deadline.min(*other))
                    }
                    (_, Some(deadline)) => Shutdown::WhenIdleOrAt(deadline),
                    (_, None) => Shutdown::WhenIdle,
                }
            }
        }
    }

    fn add(&mut self, submission: Submission) {
        let Submission {
            request,
            outputs,
            place,
        } = submission;
        if !matches!(self.shutdown, Shutdown::NotAsked) {
            for output in outputs {
                let _ = output.events.try_send(Err(EngineError::ShuttingDown));
            }
            return;
        }
        let choices = outputs.into_iter().enumerate().map(|(choice, output)| {
            let mut sampling = request.sampling.clone();
            sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(choice as u64));
            let sampler = Sampler::new(sampling, &request.prompt);
            Sibling { output, sampler }
        });
        let mut choices = choices.collect::<Vec<_>>().into_iter();
        let Some(first) = choices.next() else {
            return;
        };
        let id = self.new_id();
        if let Some(constraint) = request.constraint {
            self.constraints.add(id, constraint);
        }
        let user = request.user.map(Into::into);
        let mut sequence = Sequence::new(id, user, request.prompt);
        sequence.num_public_tokens = request.num_public_tokens;
        self.scheduler.add(sequence);
        let request = Request {
            output: first.output.events,
            num_cached_tokens: first.output.num_cached_tokens,
            sampler: first.sampler,
            max_tokens: request.max_tokens,
            end_tokens: request.end_tokens,
            num_alternatives: request.logprobs,
            place: Some(place),
            acceptance: Acceptance::default(),
            siblings: choices.collect(),
        };
        self.requests.insert(id, request);
    }

    fn new_id(&mut self) -> SequenceId {
        let id = SequenceId(self.num_sequences);
        self.num_sequences += 1;
        id
    }

    /// Computes one step. False: the thread is to end, and all streams have their end.
    fn step(&mut self) -> bool {
        if matches!(self.shutdown, Shutdown::WhenIdleOrAt(deadline) if deadline <= Instant::now()) {
            self.fail_all(EngineError::ShuttingDown);
            return false;
        }
        self.remove_cancelled();
        let budget = self.pace.prefill_budget(self.scheduler.num_decoding());
        let plan = self.scheduler.schedule(budget);
        for id in &plan.admitted {
            if let Some(request) = self.requests.get_mut(id) {
                request.place = None;
            }
        }
        self.write_counters();
        if !plan.slices.is_empty() {
            let drafts = self.draft(&plan);
            let outbox = self.compute(&Step { plan, drafts });
            self.write_counters();
            send(outbox);
        }
        true
    }

    /// Forgets the sequences that nobody listens to any more, in whatever state they are.
    fn remove_cancelled(&mut self) {
        let (scheduler, constraints) = (&mut self.scheduler, &mut self.constraints);
        self.requests.retain(|id, request| {
            let is_wanted = request.is_wanted();
            if !is_wanted {
                scheduler.remove(*id);
                constraints.remove(*id);
            }
            is_wanted
        });
    }

    fn compute(&mut self, step: &Step) -> Outbox {
        let batch = self.batch(step);
        let start = Instant::now();
        let due = step.plan.slices.iter().filter(|slice| slice.reaches_end);
        self.constraints.start(due.map(|slice| slice.id));
        let outbox = match self.model.forward(&batch) {
            Ok(logits) => match self.check_shape(&batch, &logits) {
                Ok(()) => self.update(step, &logits),
                Err(message) => self.fail(&step.plan, message),
            },
            Err(error) => self.fail(&step.plan, error.to_string()),
        };
        let seconds = start.elapsed().as_secs_f64();
        let slices = step.plan.slices.iter().zip(&step.drafts);
        let (mut num_rows, mut num_prefill) = (0, 0);
        for (slice, draft) in slices {
            match is_decode(slice) {
                true => num_rows += 1 + draft.len(),
                false => num_prefill += slice.num_tokens,
            }
        }
        self.pace.observe(num_rows, num_prefill, seconds);
        outbox
    }

    fn batch(&mut self, step: &Step) -> Batch {
        let slices = step.plan.slices.iter().zip(&step.drafts);
        let input = |(slice, draft): (&Slice, &Vec<u32>)| {
            let logits = match (slice.reaches_end, draft.is_empty()) {
                (true, true) => LogitsFor::Last,
                // Of one token and its draft.
                (true, false) => LogitsFor::All,
                (false, _) => LogitsFor::None,
            };
            let draw = match logits {
                LogitsFor::Last => self.draw_ahead(slice.id),
                LogitsFor::All | LogitsFor::None => None,
            };
            let sequence = self.scheduler.running(slice.id)?;
            let mut tokens = sequence.tokens[slice.start..][..slice.num_tokens].to_vec();
            tokens.extend(draft);
            Some(SequenceInput {
                tokens,
                start: slice.start,
                block_table: sequence.block_table.clone(),
                logits,
                draw,
            })
        };
        Batch {
            copies: step.plan.copies.clone(),
            sequences: slices.filter_map(input).collect(),
        }
    }

    /// What a sequence's next token may be drawn by, if that is all that its logits are for.
    fn draw_ahead(&mut self, id: SequenceId) -> Option<Draw> {
        let request = self.requests.get_mut(&id)?;
        let is_all = request.num_alternatives.is_none()
            && request.siblings.is_empty()
            && !self.constraints.contains(id);
        if !is_all {
            return None;
        }
        request.sampler.draw_ahead()
    }

    fn check_shape(&self, batch: &Batch, logits: &Logits) -> Result<(), String> {
        let vocab_size = self.model.spec().vocab_size;
        let draws = batch.draws();
        let (num_rows, num_given) = (draws.len(), logits.num_rows());
        if num_given != num_rows {
            return Err(format!(
                "it returned {num_given} rows of logits instead of {num_rows}"
            ));
        }
        for (index, draw) in draws.into_iter().enumerate() {
            match logits.given(index) {
                Row::Logits(row) if row.len() == vocab_size => {}
                Row::Logits(row) => {
                    let len = row.len();
                    return Err(format!("it returned {len} logits instead of {vocab_size}"));
                }
                Row::Drawn(_) if draw.is_none() => {
                    return Err("it drew a token where logits were asked for".to_owned());
                }
                Row::Drawn(Ok(token)) if token as usize >= vocab_size => {
                    return Err(format!("it drew token {token} of {vocab_size}"));
                }
                Row::Drawn(_) => {}
            }
        }
        Ok(())
    }

    fn update(&mut self, step: &Step, logits: &Logits) -> Outbox {
        let mut outbox = Outbox::new();
        let mut next_row = 0;
        for (slice, draft) in step.plan.slices.iter().zip(&step.drafts) {
            self.scheduler.commit(slice);
            if slice.reaches_end {
                self.start_siblings(slice.id, logits.given(next_row), &mut outbox);
                self.extend_with_draft(slice.id, draft, logits, next_row, &mut outbox);
                next_row += 1 + draft.len();
            }
        }
        outbox
    }

    /// Lets the other choices of a prompt go on from it, now that it has been computed.
    fn start_siblings(&mut self, id: SequenceId, row: Row<'_>, outbox: &mut Outbox) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        let siblings = std::mem::take(&mut request.siblings);
        let (max_tokens, num_alternatives) = (request.max_tokens, request.num_alternatives);
        let end_tokens = request.end_tokens.clone();
        for Sibling { output, sampler } in siblings {
            let sibling = self.new_id();
            self.scheduler.fork(id, sibling);
            self.constraints.fork(id, sibling);
            let request = Request {
                output: output.events,
                num_cached_tokens: output.num_cached_tokens,
                sampler,
                max_tokens,
                end_tokens: end_tokens.clone(),
                num_alternatives,
                place: None,
                acceptance: Acceptance::default(),
                siblings: Vec::new(),
            };
            self.requests.insert(sibling, request);
            self.extend(sibling, row, outbox);
        }
    }

    /// Chooses a sequence's next token. False: the sequence has ended.
    fn extend(&mut self, id: SequenceId, row: Row<'_>, outbox: &mut Outbox) -> bool {
        let Some(request) = self.requests.get_mut(&id) else {
            return false;
        };
        let sampler = &mut request.sampler;
        let token = match row {
            Row::Drawn(drawn) => sampler.accept(drawn),
            Row::Logits(logits) => {
                // Before a constraint hides what is wrong with them; the sampler sees it in what is not constrained.
                let is_valid = !self.constraints.contains(id) || sampler::check(logits).is_ok();
                match self.constraints.apply(id, logits) {
                    _ if !is_valid => Err(InvalidLogits),
                    Ok(allowed) => sampler.sample(allowed, &mut self.scratch),
                    Err(message) => {
                        self.scheduler.remove(id);
                        outbox.extend(self.end(id, Err(EngineError::ConstraintFailed(message))));
                        return false;
                    }
                }
            }
        };
        let Ok(token) = token else {
            tracing::error!("the model gave logits that are no distribution");
            self.scheduler.discard(id);
            outbox.extend(self.end(id, Err(EngineError::InvalidLogits)));
            return false;
        };
        if request.end_tokens.contains(&token) {
            outbox.extend(self.finish(id, FinishReason::EndToken));
            return false;
        }
        let num_cached_tokens = self
            .scheduler
            .sequence(id)
            .map_or(0, |it| it.num_cached_tokens);
        request
            .num_cached_tokens
            .store(num_cached_tokens, Ordering::Release);
        let num_alternatives = request.num_alternatives;
        let logprob = match (num_alternatives, row) {
            (Some(num), Row::Logits(logits)) => Some(logprob(logits, token, num)),
            // No token is drawn for who wants to know more.
            _ => None,
        };
        let token_event = TokenEvent::Token(GeneratedToken { id: token, logprob });
        outbox.push((request.output.clone(), Ok(token_event)));
        let max_tokens = request.max_tokens;
        self.totals.num_generated_tokens += 1;
        self.scheduler.append(id, token);
        match self.constraints.advance(id, token) {
            Ok(false) => {}
            Ok(true) => {
                outbox.extend(self.finish(id, FinishReason::EndToken));
                return false;
            }
            Err(message) => {
                self.scheduler.remove(id);
                outbox.extend(self.end(id, Err(EngineError::ConstraintFailed(message))));
                return false;
            }
        }
        let num_generated = self.scheduler.sequence(id).map(Sequence::num_generated);
        if num_generated.is_some_and(|num| num >= max_tokens) {
            outbox.extend(self.finish(id, FinishReason::MaxTokens));
            return false;
        }
        true
    }

    fn finish(&mut self, id: SequenceId, reason: FinishReason) -> Vec<(Sender<Event>, Event)> {
        let Some(sequence) = self.scheduler.remove(id) else {
            return Vec::new();
        };
        let usage = Usage {
            num_prompt_tokens: sequence.num_prompt_tokens,
            num_cached_tokens: sequence.num_cached_tokens,
            num_completion_tokens: sequence.num_generated(),
        };
        self.end(id, Ok(TokenEvent::Finished { reason, usage }))
    }

    /// The last event for whoever waits for the sequence, and for its choices that have not begun.
    fn end(&mut self, id: SequenceId, event: Event) -> Vec<(Sender<Event>, Event)> {
        self.constraints.remove(id);
        let Some(request) = self.requests.remove(&id) else {
            return Vec::new();
        };
        let siblings = request.siblings.into_iter().map(|it| it.output.events);
        let outputs = siblings.chain([request.output]);
        outputs.map(|output| (output, event.clone())).collect()
    }

    /// Ends the sequences of a step that failed; the others go on.
    fn fail(&mut self, plan: &Plan, message: String) -> Outbox {
        tracing::error!(error = message, "the model could not compute a step");
        let mut outbox = Outbox::new();
        for slice in &plan.slices {
            self.scheduler.discard(slice.id);
            let error = EngineError::ModelFailed(message.clone());
            outbox.extend(self.end(slice.id, Err(error)));
        }
        outbox
    }

    fn fail_all(&mut self, error: EngineError) {
        let mut outbox = Outbox::new();
        let ids: Vec<SequenceId> = self.requests.keys().copied().collect();
        for id in ids {
            self.scheduler.remove(id);
            outbox.extend(self.end(id, Err(error.clone())));
        }
        self.write_counters();
        send(outbox);
    }

    fn write_counters(&self) {
        let counters = &self.status.counters;
        counters.write(&self.scheduler, &self.totals);
    }
}

/// Whether a slice is one generated token, or the last one of a prompt, which costs the same.
fn is_decode(slice: &Slice) -> bool {
    slice.num_tokens == 1 && slice.reaches_end
}

fn send(outbox: Outbox) {
    for (output, event) in outbox {
        // Never full; closed means that the client left, which the next step takes note of.
        let _ = output.try_send(event);
    }
}

fn logprob(logits: &[f32], token: u32, num_alternatives: usize) -> TokenLogprob {
    let mut candidates = Vec::new();
    sampler::largest(logits, num_alternatives, &mut candidates);
    let ids = candidates.iter().map(|candidate| candidate.id);
    let values = sampler::log_probabilities(logits, std::iter::once(token).chain(ids.clone()));
    let alternatives = ids
        .zip(&values[1..])
        .map(|(id, &logprob)| Alternative { id, logprob });
    TokenLogprob {
        logprob: values[0],
        alternatives: alternatives.collect(),
    }
}
