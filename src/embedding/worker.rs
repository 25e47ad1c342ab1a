//! A model's thread: takes inputs from waiting requests in turn, batches them by token count and runs the model. It never
//! works for a request whose caller has gone, and one bad input fails only its own request.

use std::collections::{HashMap, VecDeque};

use tokio::sync::{mpsc, oneshot};

use super::EmbeddingError;

/// Tokens in one batch, one input at least. Sequences are not padded, so a larger batch saves nothing: on two cores, MiniLM
/// does about twice as many tokens a second in batches of 512 as in batches of 4096, whose intermediate results leave the
/// caches and are allocated anew at every step. And an interactive request waits for the batch before it.
const BATCH_TOKENS: usize = 512;
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

    fn compute(&mut self, batch: &[Self::Tokens]) -> Result<Vec<Self::Output>, EmbeddingError>;
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
    stopped: oneshot::Receiver<()>,
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
}

impl<C: Computation> Worker<C> {
    pub(super) fn new(
        computation: C,
        queues: [mpsc::Receiver<Request<C>>; 2],
        stopped: oneshot::Receiver<()>,
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
                let result = self.computation.compute(&batch.tokens);
                self.deliver(batch, result);
            }
        }
    }

    /// Returns at once when requests are waiting for their turn, else when one arrives; false when it is time to stop.
    async fn wait_for_work(&mut self) -> bool {
        // Any outcome but "nothing yet" is the order to stop: the sender is only ever dropped.
        if self.stopped.try_recv() != Err(oneshot::error::TryRecvError::Empty) {
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
            _ = &mut self.stopped => return false,
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
        };
        for lane in 0..self.lanes.len() {
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
                if !batch.tokens.is_empty() && batch.num_tokens + num_tokens > BATCH_TOKENS {
                    self.lanes[lane].turns.push_front(id);
                    break;
                }
                request.next += 1;
                if request.next < request.inputs.len() {
                    self.lanes[lane].turns.push_back(id);
                }
                batch.num_tokens += num_tokens;
                batch.tokens.push(tokens);
                batch.owners.push(id);
            }
        }
        batch
    }

    /// Gives each output to its request, in the order of the request's inputs, and answers those that are complete.
    fn deliver(&mut self, batch: Batch<C::Tokens>, result: Result<Vec<C::Output>, EmbeddingError>) {
        let outputs = match result {
            Ok(outputs) if outputs.len() == batch.owners.len() => outputs,
            Ok(outputs) => {
                let reason = format!(
                    "it gave {} outputs for {} inputs",
                    outputs.len(),
                    batch.owners.len()
                );
                return self.fail_all(&batch.owners, &EmbeddingError::Compute { reason });
            }
            Err(error) => return self.fail_all(&batch.owners, &error),
        };
        for ((output, tokens), id) in outputs.into_iter().zip(&batch.tokens).zip(batch.owners) {
            // Gone where a later input of the same request was refused.
            let Some(request) = self.requests.get_mut(&id) else {
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
