//! Writes the items of a response one after the other, each with its events in their prescribed order.

use serde_json::Value;

use super::event::{Event, ItemEvent, PartEvent, Place};
use super::events::Events;
use super::run::Stopped;
use super::shape;
use crate::store::new_id;

/// Tokens of a response whose log-probabilities are told, times what is told of each: a response keeps them, and each
/// takes hundreds of bytes.
const MAX_LOGPROBS: usize = 100_000;

/// The items that are done, and the one that is being written.
#[derive(Default)]
pub struct Items {
    pub done: Vec<Value>,
    open: Option<Open>,
    num_logprobs: usize,
}

enum Open {
    Reasoning {
        id: String,
        text: String,
    },
    Message {
        id: String,
        text: String,
        annotations: Vec<Value>,
        logprobs: Vec<Value>,
    },
    Call {
        id: String,
        call_id: String,
        name: String,
        arguments: String,
    },
}

impl Items {
    pub async fn reasoning(&mut self, delta: String, events: &mut Events) -> Result<(), Stopped> {
        if !matches!(self.open, Some(Open::Reasoning { .. })) {
            let id = new_id("rs_");
            let begun = shape::reasoning(&id, "");
            let text = String::new();
            self.begin(Open::Reasoning { id, text }, begun, events)
                .await?;
        }
        let output_index = self.done.len();
        let Some(Open::Reasoning { id, text }) = &mut self.open else {
            return Ok(());
        };
        text.push_str(&delta);
        let place = at(output_index, id).part();
        events.send(Event::ReasoningDelta { place, delta }).await?;
        Ok(())
    }

    /// `tokens` are those of `delta`, with their log-probabilities, where these are wanted.
    pub async fn text(
        &mut self,
        delta: String,
        tokens: Vec<Value>,
        events: &mut Events,
    ) -> Result<(), Stopped> {
        self.begin_message(events).await?;
        let num_new = tokens.iter().map(num_logprobs).sum::<usize>();
        let tokens = match self.num_logprobs + num_new <= MAX_LOGPROBS {
            true => tokens,
            false => Vec::new(),
        };
        self.num_logprobs += num_new;
        let output_index = self.done.len();
        let Some(Open::Message {
            id, text, logprobs, ..
        }) = &mut self.open
        else {
            return Ok(());
        };
        text.push_str(&delta);
        logprobs.extend_from_slice(&tokens);
        let delta = Event::TextDelta {
            place: at(output_index, id).part(),
            delta,
            logprobs: tokens,
        };
        events.send(delta).await?;
        Ok(())
    }

    pub async fn annotation(&mut self, new: Value, events: &mut Events) -> Result<(), Stopped> {
        self.begin_message(events).await?;
        let output_index = self.done.len();
        let Some(Open::Message {
            id, annotations, ..
        }) = &mut self.open
        else {
            return Ok(());
        };
        let added = Event::AnnotationAdded {
            place: at(output_index, id).part(),
            annotation_index: annotations.len(),
            annotation: new.clone(),
        };
        annotations.push(new);
        events.send(added).await?;
        Ok(())
    }

    pub async fn begin_call(
        &mut self,
        call_id: String,
        name: String,
        events: &mut Events,
    ) -> Result<(), Stopped> {
        let id = new_id("fc_");
        let begun = shape::function_call(&id, "in_progress", &call_id, &name, "");
        let arguments = String::new();
        let open = Open::Call {
            id,
            call_id,
            name,
            arguments,
        };
        self.begin(open, begun, events).await
    }

    pub async fn arguments(&mut self, delta: String, events: &mut Events) -> Result<(), Stopped> {
        let output_index = self.done.len();
        let Some(Open::Call { id, arguments, .. }) = &mut self.open else {
            return Ok(());
        };
        arguments.push_str(&delta);
        let place = at(output_index, id);
        events.send(Event::ArgumentsDelta { place, delta }).await?;
        Ok(())
    }

    /// Ends the item that is being written, with this status. A response without any item gets an empty message.
    pub async fn finish(&mut self, status: &str, events: &mut Events) -> Result<(), Stopped> {
        let has_answer = self.done.iter().any(|item| item["type"] == "function_call")
            || matches!(self.open, Some(Open::Call { .. } | Open::Message { .. }));
        if !has_answer {
            self.begin_message(events).await?;
        }
        self.close(status, events).await
    }

    async fn begin_message(&mut self, events: &mut Events) -> Result<(), Stopped> {
        if matches!(self.open, Some(Open::Message { .. })) {
            return Ok(());
        }
        let id = new_id("msg_");
        let begun = shape::message(&id, "in_progress", &[]);
        let item_id = id.clone();
        let open = Open::Message {
            id,
            text: String::new(),
            annotations: Vec::new(),
            logprobs: Vec::new(),
        };
        self.begin(open, begun, events).await?;
        let added = PartEvent {
            place: at(self.done.len(), &item_id).part(),
            part: shape::output_text("", &[], &[]),
        };
        events.send(Event::PartAdded(added)).await?;
        Ok(())
    }

    async fn begin(
        &mut self,
        open: Open,
        begun: Value,
        events: &mut Events,
    ) -> Result<(), Stopped> {
        self.close("completed", events).await?;
        let added = ItemEvent {
            output_index: self.done.len(),
            item: begun,
        };
        events.send(Event::ItemAdded(added)).await?;
        self.open = Some(open);
        Ok(())
    }

    async fn close(&mut self, status: &str, events: &mut Events) -> Result<(), Stopped> {
        let output_index = self.done.len();
        let item = match self.open.take() {
            None => return Ok(()),
            Some(Open::Reasoning { id, text }) => {
                let item = shape::reasoning(&id, &text);
                let place = at(output_index, &id).part();
                events.send(Event::ReasoningDone { place, text }).await?;
                item
            }
            Some(Open::Message {
                id,
                text,
                annotations,
                logprobs,
            }) => {
                let part = shape::output_text(&text, &annotations, &logprobs);
                let place = at(output_index, &id).part();
                let item = shape::message(&id, status, std::slice::from_ref(&part));
                let done = Event::TextDone {
                    place: place.clone(),
                    text,
                    logprobs,
                };
                events.send(done).await?;
                let done = PartEvent { place, part };
                events.send(Event::PartDone(done)).await?;
                item
            }
            Some(Open::Call {
                id,
                call_id,
                name,
                arguments,
            }) => {
                let item = shape::function_call(&id, status, &call_id, &name, &arguments);
                let done = Event::ArgumentsDone {
                    place: at(output_index, &id),
                    name,
                    arguments,
                };
                events.send(done).await?;
                item
            }
        };
        let done = ItemEvent {
            output_index,
            item: item.clone(),
        };
        events.send(Event::ItemDone(done)).await?;
        self.done.push(item);
        Ok(())
    }
}

/// What is told of a token: itself, and others in its place.
fn num_logprobs(token: &Value) -> usize {
    1 + token["top_logprobs"].as_array().map_or(0, Vec::len)
}

fn at(output_index: usize, id: &str) -> Place {
    Place {
        output_index,
        item_id: id.into(),
    }
}
