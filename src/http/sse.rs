//! Streams of server-sent events, and of lines of JSON: one frame an event or line, flushed at once, with keep-alives in
//! every silence of an event stream.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::Bytes;
use futures_util::{Stream, stream};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a silent stream waits before it says that it lives: below the 15 s that common proxies allow.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// One frame.
#[derive(Debug)]
pub enum Frame {
    /// `data: {json}`
    Data(Value),
    /// `event: TYPE` and `data: {json}`
    Event(&'static str, Value),
    /// `data: [DONE]`
    Done,
    /// `{json}`, of a stream of lines
    Line(Value),
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

/// Answers 200 with a stream of what `produce` sends. When the client leaves, `produce` is dropped at once, and with
/// it the generation that it holds.
pub fn respond<F>(produce: impl FnOnce(Frames) -> F) -> HttpResponse
where
    F: Future<Output = Result<(), ClientGone>> + 'static,
{
    let receiver = start(produce);
    let body = stream::unfold(receiver, |mut receiver| async move {
        match timeout(KEEP_ALIVE, receiver.recv()).await {
            Ok(frame) => Some((Ok::<_, actix_web::Error>(encode(&frame?)), receiver)),
            // A single newline: some clients take an empty line for an event.
            Err(_) => Some((Ok(Bytes::from_static(b": keep-alive\n")), receiver)),
        }
    });
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

fn encode(frame: &Frame) -> Bytes {
    match frame {
        Frame::Data(data) => Bytes::from(format!("data: {data}\n\n")),
        Frame::Event(name, data) => Bytes::from(format!("event: {name}\ndata: {data}\n\n")),
        Frame::Line(data) => Bytes::from(format!("{data}\n")),
        Frame::Done => Bytes::from_static(b"data: [DONE]\n\n"),
    }
}
