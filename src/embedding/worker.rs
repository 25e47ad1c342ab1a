//! A model's thread: takes inputs from waiting requests in turn, batches them by token count and runs the model. It never
//! works for a request whose caller has gone, and one bad input fails only its own request.

use std::collections::{HashMap, VecDeque};

use tokio::sync::{mpsc, oneshot, watch};

use super::{EmbeddingError, Priority, Stop};

/// Tokens in one batch, one input at least. Sequences are not padded, so a larger batch saves nothing: on two cores, MiniLM
/// does about twice as many tokens a second in batches of 512 as in batches of 4096, whose intermediate results leave the
/// caches and are allocated anew at every step. And an interactive request waits for the batch before it.
pub(super) const BATCH_TOKENS: usize = 512;
/// Requests of one priority that take turns; further ones wait in the queue.
const MAX_ACTIVE_REQUESTS: usize = 64;

/// What the thread computes: each input becomes tokens, and a batch of those one output each.
pub(super) trait Computation: Send + 'static {
    type Input: Send;
    type Tokens: Send;
    type Output: Send;

    /// The tokens of the input, which is number `index` of its request.
    fn encode(&self, input: &Self::Input, index: usize) -> Result<Self::Tokens, EmbeddingError>;

    fn num_tokens(tokens: &Self::Tokens) -> usize;

    /// How many tokens a batch may have in which nothing has a higher priority.
    fn batch_tokens(&self, priority: Priority) -> usize {
        let _ = priority;
        BATCH_TOKENS
    }

    /// One output for each element of the batch: `None` where `stop` said so before its turn came. At least one is
    /// computed, and of one request always the first.
    fn compute(
        &mut self,
        batch: &[Self::Tokens],
        stop: Stop<'_>,
    ) -> Result<Vec<Option<Self::Output>>, EmbeddingError>;
}

/// The outputs of a request, in the order of its inputs.
pub(super) struct Outputs<T> {
    pub values: Vec<T>,
    /// Tokens of each input.
    pub num_tokens: Vec<usize>,
}

type Reply<C> = oneshot::Sender<Result<Outputs<<C as Computation>::Output>, EmbeddingError>>;

/// Inputs of one caller, with the outputs so far.
pub(super) struct Request<C: Computation> {
    inputs: Vec<C::Input>,
    /// The first input that is in no batch yet.
    next: usize,
    done: Outputs<C::Output>,
    reply: Reply<C>,
}

impl<C: Computation> Request<C> {
    pub(super) fn new(inputs: Vec<C::Input>, reply: Reply<C>) -> Self {
        let done = Outputs {
            values: Vec::with_capacity(inputs.len()),
            num_tokens: Vec::with_capacity(inputs.len()),
        };
        Request {
            inputs,
            next: 0,
            done,
            reply,
        }
    }
}

pub(super) struct Worker<C: Computation> {
    computation: C,
    /// Every request that was taken from a queue and not answered yet.
    requests: HashMap<RequestId, Request<C>>,
    next_id: RequestId,
    /// By falling priority.
    lanes: [Lane<C>; 2],
    stopped: watch::Receiver<()>,
}

type RequestId = u64;

/// Requests of one priority.
struct Lane<C: Computation> {
    queue: mpsc::Receiver<Request<C>>,
    /// Requests with inputs left, in the order of their turns.
    turns: VecDeque<RequestId>,
}

/// The inputs of one forward pass and the request that each belongs to.
struct Batch<T> {
    tokens: Vec<T>,
    owners: Vec<RequestId>,
    num_tokens: usize,
    /// Whether nothing in it is urgent.
    can_wait: bool,
}

impl<C: Computation> Worker<C> {
    pub(super) fn new(
        computation: C,
        queues: [mpsc::Receiver<Request<C>>; 2],
        stopped: watch::Receiver<()>,
    ) -> Self {
        Worker {
            computation,
            requests: HashMap::new(),
            next_id: 0,
            lanes: queues.map(|queue| Lane {
                queue,
                turns: VecDeque::new(),
            }),
            stopped,
        }
    }

    /// Works until told to stop, or until every handle is gone.
    pub(super) async fn run(mut self) {
        while self.wait_for_work().await {
            let batch = self.gather();
            if !batch.tokens.is_empty() {
                let urgent = &self.lanes[0].queue;
                let stopped = &self.stopped;
                let stop =
                    || batch.can_wait && (!urgent.is_empty() || stopped.has_changed().is_err());
                let result = self.computation.compute(&batch.tokens, &stop);
                self.deliver(batch, result);
            }
        }
    }

    /// Returns at once when requests are waiting for their turn, else when one arrives; false when it is time to stop.
    async fn wait_for_work(&mut self) -> bool {
        // Nothing is ever sent: the sender is only dropped.
        if self.stopped.has_changed().is_err() {
            return false;
        }
        for lane in 0..self.lanes.len() {
            while self.lanes[lane].turns.len() < MAX_ACTIVE_REQUESTS {
                let Ok(request) = self.lanes[lane].queue.try_recv() else {
                    break;
                };
                self.admit(lane, request);
            }
        }
        if !self.requests.is_empty() {
            return true;
        }
        let [first, second] = &mut self.lanes;
        let (lane, request) = tokio::select! {
            biased;
            _ = self.stopped.changed() => return false,
            Some(request) = first.queue.recv() => (0, request),
            Some(request) = second.queue.recv() => (1, request),
            else => return false,
        };
        self.admit(lane, request);
        true
    }

    fn admit(&mut self, lane: usize, request: Request<C>) {
        let id = self.next_id;
        self.next_id += 1;
        self.requests.insert(id, request);
        self.lanes[lane].turns.push_back(id);
    }

    /// Fills a batch: by falling priority, and one input at a time from each request in turn, so that a short
    /// request does not wait behind a long one.
    fn gather(&mut self) -> Batch<C::Tokens> {
        self.requests
            .retain(|_, request| !request.reply.is_closed());
        let mut batch = Batch {
            tokens: Vec::new(),
            owners: Vec::new(),
            num_tokens: 0,
            can_wait: true,
        };
        let mut max_tokens = None;
        for (lane, priority) in [Priority::Interactive, Priority::Background]
            .into_iter()
            .enumerate()
        {
            while let Some(id) = self.lanes[lane].turns.pop_front() {
                let Some(request) = self.requests.get_mut(&id) else {
                    continue;
                };
                let input = &request.inputs[request.next];
                let tokens = match self.computation.encode(input, request.next) {
                    Ok(tokens) => tokens,
                    Err(error) => {
                        self.fail(id, error);
                        continue;
                    }
                };
                let num_tokens = C::num_tokens(&tokens);
                let max_tokens =
                    *max_tokens.get_or_insert_with(|| self.computation.batch_tokens(priority));
                if !batch.tokens.is_empty() && batch.num_tokens + num_tokens > max_tokens {
                    self.lanes[lane].turns.push_front(id);
                    break;
                }
                request.next += 1;
                if request.next < request.inputs.len() {
                    self.lanes[lane].turns.push_back(id);
                }
                batch.num_tokens += num_tokens;
                batch.can_wait &= priority == Priority::Background;
                batch.tokens.push(tokens);
                batch.owners.push(id);
            }
        }
        batch
    }

    /// Gives each output to its request, in the order of the request's inputs, and answers those that are complete. What
    /// was not computed has its turn again.
    fn deliver(
        &mut self,
        batch: Batch<C::Tokens>,
        result: Result<Vec<Option<C::Output>>, EmbeddingError>,
    ) {
        let outputs = match result {
            Ok(outputs)
                if outputs.len() == batch.owners.len() && outputs.iter().any(Option::is_some) =>
            {
                outputs
            }
            Ok(outputs) => {
                let num_outputs = outputs.iter().flatten().count();
                let num_inputs = batch.owners.len();
                let reason = format!("it gave {num_outputs} outputs for {num_inputs} inputs");
                return self.fail_all(&batch.owners, &EmbeddingError::Compute { reason });
            }
            Err(error) => return self.fail_all(&batch.owners, &error),
        };
        for ((output, tokens), id) in outputs.into_iter().zip(&batch.tokens).zip(batch.owners) {
            // Gone where a later input of the same request was refused.
            let Some(request) = self.requests.get_mut(&id) else {
                continue;
            };
            let Some(output) = output else {
                self.put_back(id);
                continue;
            };
            request.done.values.push(output);
            request.done.num_tokens.push(C::num_tokens(tokens));
            if request.done.values.len() == request.inputs.len()
                && let Some(request) = self.requests.remove(&id)
            {
                // A caller that has gone does not need the answer.
                let _ = request.reply.send(Ok(request.done));
            }
        }
    }

    /// One input more of a request is to be computed again.
    fn put_back(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        request.next -= 1;
        // Only batches that can wait end early.
        let [.., background] = &mut self.lanes;
        if !background.turns.contains(&id) {
            background.turns.push_front(id);
        }
    }

    fn fail_all(&mut self, owners: &[RequestId], error: &EmbeddingError) {
        for id in owners {
            self.fail(*id, error.clone());
        }
    }

    fn fail(&mut self, id: RequestId, error: EmbeddingError) {
        if let Some(request) = self.requests.remove(&id) {
            // A caller that has gone does not need the error either.
            let _ = request.reply.send(Err(error));
        }
    }
}
