//! What a sequence may say next, where a grammar decides it: masks over the vocabulary, and the state that moves with
//! every token. The grammar was compiled above; nothing here sees text. Never lets a sequence go on without its mask.

use std::collections::HashMap;
use std::fmt;
use std::sync::mpsc;
use std::thread::JoinHandle;

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use super::sequence::SequenceId;

/// A compiled grammar at some point of an answer. Clones go on from the same point, but share what the grammar may cost;
/// they are for answers of which only one goes on.
#[derive(Clone)]
pub struct Constraint(Box<Matcher>);

impl Constraint {
    /// Allows what `matcher` does. Its vocabulary must be that of the model, and its end tokens those of the request.
    pub fn new(matcher: Matcher) -> Self {
        Self(Box::new(matcher))
    }

    /// For another answer, at the same point. What it costs is its own, so that neither fails for the other's sake.
    fn fork(&self) -> Self {
        Self(Box::new(self.0.deep_clone()))
    }

    /// The tokens that may come next.
    fn mask(&mut self) -> Result<SimpleVob, String> {
        self.0.compute_mask().map_err(first_line)
    }

    /// Moves past a token. True: nothing may come after it.
    fn advance(&mut self, token: u32) -> Result<bool, String> {
        self.0.consume_token(token).map_err(first_line)?;
        Ok(self.0.is_stopped())
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Constraint")
    }
}

/// The library adds what it knows of its state below the message.
fn first_line(error: impl fmt::Display) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The constraints of all sequences that have one. Masks are computed on a thread of their own while the model computes,
/// which is started by the first sequence that needs it.
#[derive(Default)]
pub struct Constraints {
    entries: HashMap<SequenceId, Entry>,
    thread: Option<MaskThread>,
    num_computing: usize,
    masked: Vec<f32>,
}

enum Entry {
    Idle(Constraint),
    /// The constraint is with the mask thread.
    Computing,
    Masked(Constraint, Result<SimpleVob, String>),
}

impl Constraints {
    pub fn add(&mut self, id: SequenceId, constraint: Constraint) {
        self.entries.insert(id, Entry::Idle(constraint));
    }

    pub fn contains(&self, id: SequenceId) -> bool {
        self.entries.contains_key(&id)
    }

    /// Gives a sequence that goes on from where `id` stands the same constraint, with the mask that was begun for it.
    pub fn fork(&mut self, id: SequenceId, fork: SequenceId) {
        if !self.entries.contains_key(&id) {
            return;
        }
        self.collect();
        let entry = match self.entries.get(&id) {
            Some(Entry::Idle(constraint)) => Entry::Idle(constraint.fork()),
            Some(Entry::Masked(constraint, mask)) => Entry::Masked(constraint.fork(), mask.clone()),
            Some(Entry::Computing) | None => Entry::Computing,
        };
        self.entries.insert(fork, entry);
    }

    pub fn remove(&mut self, id: SequenceId) {
        self.entries.remove(&id);
    }

    /// Begins to compute the masks of those of the sequences that have a constraint.
    pub fn start(&mut self, ids: impl Iterator<Item = SequenceId>) {
        if self.entries.is_empty() {
            return;
        }
        for id in ids {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            match std::mem::replace(entry, Entry::Computing) {
                Entry::Idle(constraint) => {
                    let thread = self.thread.get_or_insert_with(MaskThread::start);
                    match thread.send(id, constraint) {
                        true => self.num_computing += 1,
                        // The next one gets a new thread.
                        false => self.thread = None,
                    }
                }
                // A step that failed after its mask was made; the state has not moved since.
                masked @ Entry::Masked(..) => *entry = masked,
                Entry::Computing => {}
            }
        }
    }

    /// The logits of a sequence with all that it may not say at negative infinity; as they are where nothing constrains
    /// it. Waits for the mask that `start` began.
    pub fn apply<'a>(&'a mut self, id: SequenceId, logits: &'a [f32]) -> Result<&'a [f32], String> {
        if !self.entries.contains_key(&id) {
            return Ok(logits);
        }
        self.collect();
        let Some(Entry::Masked(_, mask)) = self.entries.get(&id) else {
            return Err("the thread that computes masks has ended".into());
        };
        let mask = mask.as_ref().map_err(Clone::clone)?;
        self.masked.clear();
        self.masked.extend_from_slice(logits);
        disallow(mask, &mut self.masked);
        if !self.masked.iter().any(|logit| logit.is_finite()) {
            return Err("the model can say nothing of what the grammar allows".into());
        }
        Ok(&self.masked)
    }

    /// Moves a sequence's constraint past the token that was chosen. True: nothing may come after it.
    pub fn advance(&mut self, id: SequenceId, token: u32) -> Result<bool, String> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Ok(false);
        };
        match std::mem::replace(entry, Entry::Computing) {
            Entry::Idle(mut constraint) | Entry::Masked(mut constraint, _) => {
                let is_complete = constraint.advance(token)?;
                *entry = Entry::Idle(constraint);
                Ok(is_complete)
            }
            Entry::Computing => Err("the thread that computes masks has ended".into()),
        }
    }

    /// Takes back everything that is with the mask thread.
    fn collect(&mut self) {
        while self.num_computing > 0 {
            let Some(done) = self.thread.as_ref().and_then(MaskThread::receive) else {
                // What it had is lost, and `apply` says so. The next one gets a new thread.
                self.thread = None;
                self.num_computing = 0;
                return;
            };
            self.num_computing -= 1;
            // Nothing waits for the mask of a sequence that was removed meanwhile.
            if let Some(entry) = self.entries.get_mut(&done.id) {
                *entry = Entry::Masked(done.constraint, done.mask);
            }
        }
    }
}

/// Sets the logits of all tokens outside the mask, and of what lies beyond the vocabulary, to negative infinity.
fn disallow(mask: &SimpleVob, logits: &mut [f32]) {
    let words = mask.as_slice();
    for (index, chunk) in logits.chunks_mut(u32::BITS as usize).enumerate() {
        let word = words.get(index).copied().unwrap_or(0);
        if word == u32::MAX {
            continue;
        }
        for (bit, logit) in chunk.iter_mut().enumerate() {
            if word >> bit & 1 == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

struct Job {
    id: SequenceId,
    constraint: Constraint,
}

struct Done {
    id: SequenceId,
    constraint: Constraint,
    mask: Result<SimpleVob, String>,
}

struct MaskThread {
    /// `None` only while the thread is being ended. Bounded by the sequences that run.
    jobs: Option<mpsc::Sender<Job>>,
    done: mpsc::Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

impl MaskThread {
    fn start() -> Self {
        let (jobs, receiver) = mpsc::channel::<Job>();
        let (sender, done) = mpsc::channel();
        let work = move || {
            for Job { id, mut constraint } in receiver {
                let mask = constraint.mask();
                let done = Done {
                    id,
                    constraint,
                    mask,
                };
                if sender.send(done).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("masks".into()).spawn(work);
        if let Err(error) = &thread {
            tracing::error!(%error, "the system refuses a thread for masks");
        }
        Self {
            jobs: Some(jobs),
            done,
            thread: thread.ok(),
        }
    }

    /// False when the thread has ended; the constraint is lost then.
    fn send(&self, id: SequenceId, constraint: Constraint) -> bool {
        let job = Job { id, constraint };
        self.jobs
            .as_ref()
            .is_some_and(|jobs| jobs.send(job).is_ok())
    }

    /// The next mask; `None` when the thread has ended.
    fn receive(&self) -> Option<Done> {
        self.done.recv().ok()
    }
}

impl Drop for MaskThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Masks are bounded work, and a panic has lost its constraint already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_mask_does_not_name_is_disallowed() {
        let mut mask = SimpleVob::alloc(40);
        mask.allow_token(1);
        mask.allow_token(33);
        let mut logits = vec![1.0; 70];
        disallow(&mask, &mut logits);
        let allowed: Vec<usize> = (0..70).filter(|&id| logits[id].is_finite()).collect();
        assert_eq!(allowed, [1, 33]);
    }
}
