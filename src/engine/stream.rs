//! What comes back from the engine: one stream of tokens a request, with exactly one end. Never blocks the engine: its
//! channel has room for everything that the request can produce.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tokio::sync::mpsc;

use super::EngineError;

pub(super) type Event = Result<TokenEvent, EngineError>;

/// The output of one request: tokens, then `Finished` or an error, then the end. Dropping it cancels the request.
#[derive(Debug)]
pub struct TokenStream {
    events: mpsc::Receiver<Event>,
    num_cached_tokens: Arc<AtomicUsize>,
    has_ended: bool,
}

/// One step of a request's output.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenEvent {
    Token(GeneratedToken),
    /// The last event of a request that went well.
    Finished {
        reason: FinishReason,
        usage: Usage,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedToken {
    pub id: u32,
    /// Present when the request asked for it.
    pub logprob: Option<TokenLogprob>,
}

/// Natural log-probabilities by the model itself: before bias, penalties and temperature.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// Of the generated token.
    pub logprob: f32,
    /// The most probable tokens, the most probable first, whether or not the generated one is among them.
    pub alternatives: Vec<Alternative>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alternative {
    pub id: u32,
    pub logprob: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model generated one of the request's end tokens, or its constraint allows nothing more.
    EndToken,
    /// `max_tokens`, or the context length, was reached.
    MaxTokens,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub num_prompt_tokens: usize,
    /// Of the prompt tokens, those that were found in the cache and not computed.
    pub num_cached_tokens: usize,
    /// Tokens sent; the end token does not count.
    pub num_completion_tokens: usize,
}

/// Both ends of a stream that can hold `max_tokens` tokens and the end.
pub(super) fn channel(max_tokens: usize) -> (Output, TokenStream) {
    let (events, receiver) = mpsc::channel(max_tokens + 1);
    let num_cached_tokens = Arc::new(AtomicUsize::new(0));
    let stream = TokenStream {
        events: receiver,
        num_cached_tokens: Arc::clone(&num_cached_tokens),
        has_ended: false,
    };
    let output = Output {
        events,
        num_cached_tokens,
    };
    (output, stream)
}

/// The engine's end of a stream.
#[derive(Debug)]
pub(super) struct Output {
    pub events: mpsc::Sender<Event>,
    pub num_cached_tokens: Arc<AtomicUsize>,
}

impl TokenStream {
    /// Prompt tokens that were not computed again, known from the first token on. For those who drop the stream before
    /// its end and so get no [`Usage`].
    pub fn num_cached_tokens(&self) -> usize {
        self.num_cached_tokens.load(Ordering::Acquire)
    }
}

impl Stream for TokenStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        // A channel that closes without an end means that the engine's thread is gone.
        let event = ready!(self.events.poll_recv(context)).unwrap_or(Err(EngineError::Stopped));
        self.has_ended = !matches!(event, Ok(TokenEvent::Token(_)));
        Poll::Ready(Some(event))
    }
}
