//! Streams of server-sent events, and of lines of JSON: one frame an event or line, flushed at once. While the answer has
//! not begun, a silent stream of events says now and then that it lives; never after that, since some clients take a
//! comment between two events for an event.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::Bytes;
use futures_util::{Stream, stream};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A single newline: some clients take an empty line for the end of an event.
const KEEP_ALIVE: &[u8] = b": keep-alive\n";

/// One frame.
#[derive(Debug)]
pub enum Frame {
    /// `data: {json}`
    Data(Value),
    /// `data: {json}` before the answer itself begins.
    Opening(Value),
    /// `event: TYPE` and `data: {json}`
    Event(&'static str, Value),
    /// The same, as [`event_text`] wrote it.
    Written(Arc<str>),
    /// `data: [DONE]`
    Done,
    /// `{json}`, of a stream of lines
    Line(Value),
}

impl Frame {
    /// Whether what took the time is still to come.
    fn is_opening(&self) -> bool {
        match self {
            Frame::Opening(_) => true,
            // The events before the first piece of an answer tell of its making.
            Frame::Event(name, _) => !name.ends_with("delta"),
            Frame::Written(text) => text.lines().next().is_some_and(|it| !it.ends_with("delta")),
            Frame::Data(_) | Frame::Line(_) | Frame::Done => false,
        }
    }
}

/// The sending half that a handler's task writes frames to.
#[derive(Clone)]
pub struct Frames(mpsc::Sender<Frame>);

/// The reader has gone; whoever produces frames should stop.
#[derive(Debug)]
pub struct ClientGone;

impl Frames {
    pub async fn send(&self, frame: Frame) -> Result<(), ClientGone> {
        self.0.send(frame).await.map_err(|_| ClientGone)
    }

    /// Resolves when the client has left.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Answers 200 with a stream of what `produce` sends; until the answer begins, each silence of `keep_alive` is broken.
/// When the client leaves, `produce` is dropped at once, and with it the generation that it holds.
pub fn respond<F>(keep_alive: Option<Duration>, produce: impl FnOnce(Frames) -> F) -> HttpResponse
where
    F: Future<Output = Result<(), ClientGone>> + 'static,
{
    let receiver = start(produce);
    let body = stream::unfold(
        (receiver, keep_alive),
        |(mut receiver, keep_alive)| async move {
            let frame = match keep_alive {
                None => receiver.recv().await?,
                Some(interval) => match timeout(interval, receiver.recv()).await {
                    Ok(frame) => frame?,
                    Err(_) => {
                        return Some((Ok(Bytes::from_static(KEEP_ALIVE)), (receiver, keep_alive)));
                    }
                },
            };
            let keep_alive = keep_alive.filter(|_| frame.is_opening());
            Some((
                Ok::<_, actix_web::Error>(encode(&frame)),
                (receiver, keep_alive),
            ))
        },
    );
    answer("text/event-stream; charset=utf-8", body)
}

/// As [`respond`], for a stream of [`Frame::Line`].
pub fn respond_lines<F>(produce: impl FnOnce(Frames) -> F) -> HttpResponse
where
    F: Future<Output = Result<(), ClientGone>> + 'static,
{
    let receiver = start(produce);
    // Nothing but JSON may stand in it, so nothing keeps it alive.
    let body = stream::unfold(receiver, |mut receiver| async move {
        let frame = receiver.recv().await?;
        Some((Ok::<_, actix_web::Error>(encode(&frame)), receiver))
    });
    answer("application/x-ndjson", body)
}

fn start<F>(produce: impl FnOnce(Frames) -> F) -> mpsc::Receiver<Frame>
where
    F: Future<Output = Result<(), ClientGone>> + 'static,
{
    // Small: a slow client holds back its own generation's frames, and nothing else.
    let (sender, receiver) = mpsc::channel(64);
    let frames = Frames(sender);
    let watched = frames.clone();
    let work = produce(frames);
    actix_web::rt::spawn(async move {
        tokio::select! {
            _ = watched.closed() => {}
            _ = work => {}
        }
    });
    receiver
}

fn answer(
    media_type: &'static str,
    body: impl Stream<Item = Result<Bytes, actix_web::Error>> + 'static,
) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, media_type))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .insert_header((header::CONTENT_ENCODING, "identity"))
        .streaming(body)
}

/// An event as it is sent.
pub fn event_text(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn encode(frame: &Frame) -> Bytes {
    match frame {
        Frame::Data(data) | Frame::Opening(data) => Bytes::from(format!("data: {data}\n\n")),
        Frame::Event(name, data) => Bytes::from(event_text(name, data)),
        Frame::Written(text) => Bytes::copy_from_slice(text.as_bytes()),
        Frame::Line(data) => Bytes::from(format!("{data}\n")),
        Frame::Done => Bytes::from_static(b"data: [DONE]\n\n"),
    }
}
