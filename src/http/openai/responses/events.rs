//! The events of a response, numbered from 0 and passed on to whoever listens. Those of a response that is streamed from
//! the background are kept, so that a client that was cut off reads on from where it was.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::watch;

use super::event::{Event, NumberedEvent};
use crate::http::sse::{ClientGone, Frame, Frames};

/// Where the events of a response go.
pub enum Events {
    /// Nobody listens.
    Unheard,
    Client {
        frames: Frames,
        next_number: usize,
    },
    Log(Arc<EventLog>),
}

impl Events {
    pub fn client(frames: Frames) -> Self {
        Self::Client {
            frames,
            next_number: 0,
        }
    }

    pub async fn send(&mut self, event: Event) -> Result<(), ClientGone> {
        match self {
            Self::Unheard => Ok(()),
            Self::Client {
                frames,
                next_number,
            } => {
                let kind = event.kind();
                let sequence_number = *next_number;
                *next_number += 1;
                let event = json!(NumberedEvent {
                    sequence_number,
                    event,
                });
                frames.send(Frame::Event(kind, event)).await
            }
            Self::Log(log) => {
                log.push(event);
                Ok(())
            }
        }
    }

    /// What is kept once the response ends with this event.
    pub fn ending_with(&self, last: Event) -> Option<String> {
        match self {
            Self::Unheard | Self::Client { .. } => None,
            Self::Log(log) => Some(log.ending_with(last)),
        }
    }

    /// As `send`, of the last event.
    pub async fn end(&mut self, last: Event) -> Result<(), ClientGone> {
        self.send(last).await?;
        if let Self::Log(log) = self {
            log.end();
        }
        Ok(())
    }
}

/// The events of one response while it is written. There are no more of them than its tokens and items make.
pub struct EventLog {
    logged: watch::Sender<Logged>,
}

#[derive(Default)]
struct Logged {
    /// As they are sent; the number of each is its place.
    events: Vec<Arc<str>>,
    stage: Stage,
}

#[derive(Default, PartialEq)]
enum Stage {
    #[default]
    Open,
    /// Whoever froze it ends it.
    Frozen,
    Ended,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            logged: watch::Sender::new(Logged::default()),
        }
    }
}

impl EventLog {
    /// Adds an event; nothing once the log is frozen or has ended. Log-probabilities are kept with the tokens that they
    /// are of and in the last event, not in those that only sum up, where they would be kept four times more.
    pub fn push(&self, event: Event) {
        let event = event.without_sums_of_logprobs();
        self.logged.send_modify(|logged| {
            if logged.stage == Stage::Open {
                let sequence_number = logged.events.len();
                let event = NumberedEvent {
                    sequence_number,
                    event,
                };
                logged.events.push(event.text().into());
            }
        });
    }

    /// No more events come from who writes the response.
    pub fn freeze(&self) {
        self.logged.send_modify(|logged| {
            if logged.stage == Stage::Open {
                logged.stage = Stage::Frozen;
            }
        });
    }

    /// All events and this one, which is not added.
    pub fn ending_with(&self, last: Event) -> String {
        let logged = self.logged.borrow();
        let last = NumberedEvent {
            sequence_number: logged.events.len(),
            event: last,
        };
        logged.events.concat() + &last.text()
    }

    /// Ends the log with what `kept` has more than it.
    pub fn end_as(&self, kept: &str) {
        self.logged.send_modify(|logged| {
            let more = events_of(kept).skip(logged.events.len()).map(Arc::from);
            logged.events.extend(more);
            logged.stage = Stage::Ended;
        });
    }

    /// Ends the log, unless whoever froze it will.
    pub fn end(&self) {
        self.logged.send_modify(|logged| {
            if logged.stage == Stage::Open {
                logged.stage = Stage::Ended;
            }
        });
    }

    /// Sends the events from number `first` on, and those to come.
    pub async fn follow(self: Arc<Self>, first: usize, frames: Frames) -> Result<(), ClientGone> {
        let mut logged = self.logged.subscribe();
        let mut next = first;
        loop {
            let (events, has_ended) = {
                let logged = logged.borrow_and_update();
                let events = logged.events.get(next..).unwrap_or_default().to_vec();
                (events, logged.stage == Stage::Ended)
            };
            next += events.len();
            for event in events {
                frames.send(Frame::Written(event)).await?;
            }
            if has_ended || logged.changed().await.is_err() {
                return frames.send(Frame::Done).await;
            }
        }
    }
}

/// The events that were kept as one text.
pub fn events_of(kept: &str) -> impl Iterator<Item = &str> {
    kept.split_inclusive("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn ended(status: &str) -> Event {
        Event::ended(json!({ "status": status, "text": "x\n\ny" }))
    }

    fn numbers(log: &EventLog) -> Vec<usize> {
        let logged = log.logged.borrow();
        let number = |event: &Arc<str>| {
            let data = event.lines().nth(1).unwrap().strip_prefix("data: ");
            let data: Value = serde_json::from_str(data.unwrap()).unwrap();
            data["sequence_number"].as_u64().unwrap() as usize
        };
        logged.events.iter().map(number).collect()
    }

    #[test]
    fn whoever_ends_it_first_in_the_store_decides_what_followers_see() {
        let log = EventLog::default();
        log.push(ended("in_progress"));
        let completed = log.ending_with(ended("completed"));
        log.freeze();
        // It was too late: the response had been completed and kept.
        log.push(ended("completed"));
        let cancelled = log.ending_with(ended("cancelled"));
        assert_ne!(completed, cancelled);
        log.end_as(&completed);
        log.push(ended("failed"));
        assert_eq!(numbers(&log), [0, 1]);
        assert_eq!(log.logged.borrow().events.concat(), completed);
        assert_eq!(events_of(&completed).count(), 2);
    }
}
