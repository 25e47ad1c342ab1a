//! The engine's thread: admit, schedule, forward, sample, update, send. Blocks only when there is nothing to do, and
//! never waits for a client.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Sender;

use super::sampler::{self, Sampler, Scratch};
use super::scheduler::{Limits, Plan, Scheduler, Slice};
use super::sequence::{Sequence, SequenceId};
use super::stream::{
    Alternative, Event, FinishReason, GeneratedToken, Output, TokenEvent, TokenLogprob, Usage,
};
use super::{EngineConfig, EngineError, GenerationRequest, Status};
use crate::llm::{Batch, LanguageModel, Logits, LogitsFor, SequenceInput};

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
    /// Has room for `max_tokens` tokens and the end.
    pub output: Output,
    /// Its place in the bounded queue, given back at admission.
    pub place: OwnedSemaphorePermit,
}

pub struct Worker {
    model: Box<dyn LanguageModel>,
    scheduler: Scheduler,
    /// Those of all sequences in the scheduler.
    requests: HashMap<SequenceId, Request>,
    commands: mpsc::Receiver<Command>,
    shutdown: Shutdown,
    scratch: Scratch,
    num_sequences: u64,
    num_generated_tokens: u64,
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
        status.counters.write(&scheduler, 0);
        Self {
            model,
            scheduler,
            requests: HashMap::new(),
            commands,
            shutdown: Shutdown::NotAsked,
            scratch: Scratch::default(),
            num_sequences: 0,
            num_generated_tokens: 0,
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
            output,
            place,
        } = submission;
        if !matches!(self.shutdown, Shutdown::NotAsked) {
            let _ = output.events.try_send(Err(EngineError::ShuttingDown));
            return;
        }
        let id = SequenceId(self.num_sequences);
        self.num_sequences += 1;
        let sampler = Sampler::new(request.sampling, &request.prompt);
        let user = request.user.map(Into::into);
        self.scheduler.add(Sequence::new(id, user, request.prompt));
        let request = Request {
            output: output.events,
            num_cached_tokens: output.num_cached_tokens,
            sampler,
            max_tokens: request.max_tokens,
            end_tokens: request.end_tokens,
            num_alternatives: request.logprobs,
            place: Some(place),
        };
        self.requests.insert(id, request);
    }

    /// Computes one step. False: the thread is to end, and all streams have their end.
    fn step(&mut self) -> bool {
        if matches!(self.shutdown, Shutdown::WhenIdleOrAt(deadline) if deadline <= Instant::now()) {
            self.fail_all(EngineError::ShuttingDown);
            return false;
        }
        self.remove_cancelled();
        let plan = self.scheduler.schedule();
        for id in &plan.admitted {
            if let Some(request) = self.requests.get_mut(id) {
                request.place = None;
            }
        }
        self.write_counters();
        if !plan.slices.is_empty() {
            let outbox = self.compute(&plan);
            self.write_counters();
            send(outbox);
        }
        true
    }

    /// Forgets the sequences that nobody listens to any more, in whatever state they are.
    fn remove_cancelled(&mut self) {
        let scheduler = &mut self.scheduler;
        self.requests.retain(|id, request| {
            let is_wanted = !request.output.is_closed();
            if !is_wanted {
                scheduler.remove(*id);
            }
            is_wanted
        });
    }

    fn compute(&mut self, plan: &Plan) -> Outbox {
        let batch = self.batch(plan);
        match self.model.forward(&batch) {
            Ok(logits) => match self.check_shape(plan, &logits) {
                Ok(()) => self.update(plan, &logits),
                Err(message) => self.fail(plan, message),
            },
            Err(error) => self.fail(plan, error.to_string()),
        }
    }

    fn batch(&self, plan: &Plan) -> Batch {
        let input = |slice: &Slice| {
            let sequence = self.scheduler.running(slice.id)?;
            Some(SequenceInput {
                tokens: sequence.tokens[slice.start..][..slice.num_tokens].to_vec(),
                start: slice.start,
                block_table: sequence.block_table.clone(),
                logits: match slice.reaches_end {
                    true => LogitsFor::Last,
                    false => LogitsFor::None,
                },
            })
        };
        Batch {
            sequences: plan.slices.iter().filter_map(input).collect(),
        }
    }

    fn check_shape(&self, plan: &Plan, logits: &Logits) -> Result<(), String> {
        let num_rows = plan.slices.iter().filter(|slice| slice.reaches_end).count();
        let vocab_size = self.model.spec().vocab_size;
        if logits.num_rows() == num_rows && (num_rows == 0 || logits.row(0).len() == vocab_size) {
            return Ok(());
        }
        let num_given = logits.num_rows();
        Err(format!(
            "it returned {num_given} rows of logits instead of {num_rows} of {vocab_size} each"
        ))
    }

    fn update(&mut self, plan: &Plan, logits: &Logits) -> Outbox {
        let mut outbox = Outbox::new();
        let mut next_row = 0;
        for slice in &plan.slices {
            self.scheduler.commit(slice);
            if slice.reaches_end {
                self.extend(slice.id, logits.row(next_row), &mut outbox);
                next_row += 1;
            }
        }
        outbox
    }

    /// Chooses a sequence's next token.
    fn extend(&mut self, id: SequenceId, logits: &[f32], outbox: &mut Outbox) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        let Ok(token) = request.sampler.sample(logits, &mut self.scratch) else {
            tracing::error!("the model gave logits that are no distribution");
            self.scheduler.discard(id);
            outbox.extend(self.end(id, Err(EngineError::InvalidLogits)));
            return;
        };
        if request.end_tokens.contains(&token) {
            outbox.extend(self.finish(id, FinishReason::EndToken));
            return;
        }
        let num_cached_tokens = self.scheduler.running(id).map_or(0, |it| it.num_cached_tokens);
        request
            .num_cached_tokens
            .store(num_cached_tokens, Ordering::Release);
        let num_alternatives = request.num_alternatives;
        let logprob = num_alternatives.map(|num| logprob(logits, token, num));
        let token_event = TokenEvent::Token(GeneratedToken { id: token, logprob });
        outbox.push((request.output.clone(), Ok(token_event)));
        let max_tokens = request.max_tokens;
        self.num_generated_tokens += 1;
        self.scheduler.append(id, token);
        let num_generated = self.scheduler.running(id).map(Sequence::num_generated);
        if num_generated.is_some_and(|num| num >= max_tokens) {
            outbox.extend(self.finish(id, FinishReason::MaxTokens));
        }
    }

    fn finish(&mut self, id: SequenceId, reason: FinishReason) -> Option<(Sender<Event>, Event)> {
        let sequence = self.scheduler.remove(id)?;
        let usage = Usage {
            num_prompt_tokens: sequence.num_prompt_tokens,
            num_cached_tokens: sequence.num_cached_tokens,
            num_completion_tokens: sequence.num_generated(),
        };
        self.end(id, Ok(TokenEvent::Finished { reason, usage }))
    }

    fn end(&mut self, id: SequenceId, event: Event) -> Option<(Sender<Event>, Event)> {
        let request = self.requests.remove(&id)?;
        Some((request.output, event))
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
        for (id, request) in self.requests.drain() {
            self.scheduler.remove(id);
            outbox.push((request.output, Err(error.clone())));
        }
        self.write_counters();
        send(outbox);
    }

    fn write_counters(&self) {
        let counters = &self.status.counters;
        counters.write(&self.scheduler, self.num_generated_tokens);
    }
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
