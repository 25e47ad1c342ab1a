//! Server-sent events: one frame an event, flushed at once, with keep-alives in every silence.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::Bytes;
use futures_util::stream;
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
    let body = stream::unfold(receiver, |mut receiver| async move {
        match timeout(KEEP_ALIVE, receiver.recv()).await {
            Ok(frame) => Some((Ok::<_, actix_web::Error>(encode(&frame?)), receiver)),
            // A single newline: some clients take an empty line for an event.
            Err(_) => Some((Ok(Bytes::from_static(b": keep-alive\n")), receiver)),
        }
    });
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .insert_header((header::CONTENT_ENCODING, "identity"))
        .streaming(body)
}

fn encode(frame: &Frame) -> Bytes {
    match frame {
        Frame::Data(data) => Bytes::from(format!("data: {data}\n\n")),
        Frame::Event(name, data) => Bytes::from(format!("event: {name}\ndata: {data}\n\n")),
        Frame::Done => Bytes::from_static(b"data: [DONE]\n\n"),
    }
}
