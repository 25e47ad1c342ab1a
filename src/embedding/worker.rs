//! The embedder's thread: takes texts from waiting requests in turn, batches them by token count and runs the model. It
//! never works for a request whose caller has gone, and one bad text fails only its own request.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{
    EmbedderSpec, EmbeddingError, EmbeddingModel, EmbeddingTokenizer, Embeddings, InputKind,
};

/// Tokens in one batch, one text at least. Sequences are not padded, so a larger batch saves nothing: on two cores, MiniLM
/// does about twice as many tokens a second in batches of 512 as in batches of 4096, whose intermediate results leave the
/// caches and are allocated anew at every step. And an interactive request waits for the batch before it.
const BATCH_TOKENS: usize = 512;
/// Requests of one priority that take turns; further ones wait in the queue.
const MAX_ACTIVE_REQUESTS: usize = 64;

/// The text put before an input of this kind.
pub(super) fn instruction(spec: &EmbedderSpec, kind: InputKind) -> Option<&str> {
    match kind {
        InputKind::Query => spec.query_instruction.as_deref(),
        InputKind::Passage => spec.passage_instruction.as_deref(),
        InputKind::Raw => None,
    }
}

/// Texts of one caller, with the answers so far.
pub(super) struct Request {
    texts: Vec<String>,
    instruction: Option<String>,
    /// The first text that is in no batch yet.
    next: usize,
    done: Embeddings,
    reply: oneshot::Sender<Result<Embeddings, EmbeddingError>>,
}

impl Request {
    pub(super) fn new(
        texts: Vec<String>,
        instruction: Option<String>,
        reply: oneshot::Sender<Result<Embeddings, EmbeddingError>>,
    ) -> Request {
        let done = Embeddings {
            vectors: Vec::with_capacity(texts.len()),
            num_tokens: Vec::with_capacity(texts.len()),
        };
        Request {
            texts,
            instruction,
            next: 0,
            done,
            reply,
        }
    }
}

pub(super) struct Worker {
    model: Box<dyn EmbeddingModel>,
    tokenizer: Arc<dyn EmbeddingTokenizer>,
    spec: EmbedderSpec,
    /// Every request that was taken from a queue and not answered yet.
    requests: HashMap<RequestId, Request>,
    next_id: RequestId,
    /// By falling priority.
    lanes: [Lane; 2],
    stopped: oneshot::Receiver<()>,
}

type RequestId = u64;

/// Requests of one priority.
struct Lane {
    queue: mpsc::Receiver<Request>,
    /// Requests with texts left, in the order of their turns.
    turns: VecDeque<RequestId>,
}

/// The texts of one forward pass and the request that each belongs to.
#[derive(Default)]
struct Batch {
    token_ids: Vec<Vec<u32>>,
    owners: Vec<RequestId>,
    num_tokens: usize,
}

impl Worker {
    pub(super) fn new(
        model: Box<dyn EmbeddingModel>,
        tokenizer: Arc<dyn EmbeddingTokenizer>,
        spec: EmbedderSpec,
        queues: [mpsc::Receiver<Request>; 2],
        stopped: oneshot::Receiver<()>,
    ) -> Worker {
        Worker {
            model,
            tokenizer,
            spec,
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
            if !batch.token_ids.is_empty() {
                let result = self.model.embed(&batch.token_ids);
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

    fn admit(&mut self, lane: usize, request: Request) {
        let id = self.next_id;
        self.next_id += 1;
        self.requests.insert(id, request);
        self.lanes[lane].turns.push_back(id);
    }

    /// Fills a batch: by falling priority, and one text at a time from each request in turn, so that a short request
    /// does not wait behind a long one.
    fn gather(&mut self) -> Batch {
        self.requests
            .retain(|_, request| !request.reply.is_closed());
        let mut batch = Batch::default();
        for lane in 0..self.lanes.len() {
            while let Some(id) = self.lanes[lane].turns.pop_front() {
                let Some(request) = self.requests.get_mut(&id) else {
                    continue;
                };
                let ids = match encode(&*self.tokenizer, request, self.spec.max_tokens) {
                    Ok(ids) => ids,
                    Err(error) => {
                        self.fail(id, error);
                        continue;
                    }
                };
                if !batch.token_ids.is_empty() && batch.num_tokens + ids.len() > BATCH_TOKENS {
                    self.lanes[lane].turns.push_front(id);
                    break;
                }
                request.next += 1;
                if request.next < request.texts.len() {
                    self.lanes[lane].turns.push_back(id);
                }
                batch.num_tokens += ids.len();
                batch.token_ids.push(ids);
                batch.owners.push(id);
            }
        }
        batch
    }

    /// Gives each vector to its request, in the order of the request's texts, and answers those that are complete.
    fn deliver(&mut self, batch: Batch, result: Result<Vec<Vec<f32>>, EmbeddingError>) {
        let vectors = match result {
            Ok(vectors) if vectors.len() == batch.owners.len() => vectors,
            Ok(vectors) => {
                let reason = format!(
                    "it gave {} vectors for {} texts",
                    vectors.len(),
                    batch.owners.len()
                );
                return self.fail_all(batch, EmbeddingError::Compute { reason });
            }
            Err(error) => return self.fail_all(batch, error),
        };
        for ((vector, ids), id) in vectors.into_iter().zip(&batch.token_ids).zip(batch.owners) {
            // Gone where a later text of the same request was refused.
            let Some(request) = self.requests.get_mut(&id) else {
                continue;
            };
            request.done.vectors.push(vector);
            request.done.num_tokens.push(ids.len());
            if request.done.vectors.len() == request.texts.len()
                && let Some(request) = self.requests.remove(&id)
            {
                // A caller that has gone does not need the answer.
                let _ = request.reply.send(Ok(request.done));
            }
        }
    }

    fn fail_all(&mut self, batch: Batch, error: EmbeddingError) {
        for id in batch.owners {
            self.fail(id, error.clone());
        }
    }

    fn fail(&mut self, id: RequestId, error: EmbeddingError) {
        if let Some(request) = self.requests.remove(&id) {
            // A caller that has gone does not need the error either.
            let _ = request.reply.send(Err(error));
        }
    }
}

/// The token ids of the request's next text.
fn encode(
    tokenizer: &dyn EmbeddingTokenizer,
    request: &Request,
    max_tokens: usize,
) -> Result<Vec<u32>, EmbeddingError> {
    let text = &request.texts[request.next];
    let ids = match &request.instruction {
        Some(instruction) => tokenizer.encode(&format!("{instruction}{text}"))?,
        None => tokenizer.encode(text)?,
    };
    if ids.len() > max_tokens {
        return Err(EmbeddingError::InputTooLong {
            index: request.next,
            num_tokens: ids.len(),
            num_max_tokens: max_tokens,
        });
    }
    Ok(ids)
}
