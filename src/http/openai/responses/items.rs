//! Writes the items of a response one after the other, each with its events in their prescribed order.

use serde_json::{Value, json};

use super::events::Events;
use super::run::Stopped;
use super::shape;
use crate::store::new_id;

/// The items that are done, and the one that is being written.
#[derive(Default)]
pub struct Items {
    pub done: Vec<Value>,
    open: Option<Open>,
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
        let fields = json!({
            "item_id": id, "output_index": output_index, "content_index": 0, "delta": delta,
        });
        events.send("response.reasoning_text.delta", fields).await?;
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
        let output_index = self.done.len();
        let Some(Open::Message {
            id, text, logprobs, ..
        }) = &mut self.open
        else {
            return Ok(());
        };
        text.push_str(&delta);
        let fields = json!({
            "item_id": id,
            "output_index": output_index,
            "content_index": 0,
            "delta": delta,
            "logprobs": tokens,
        });
        logprobs.extend(tokens);
        events.send("response.output_text.delta", fields).await?;
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
        let fields = json!({
            "item_id": id,
            "output_index": output_index,
            "content_index": 0,
            "annotation_index": annotations.len(),
            "annotation": new,
        });
        annotations.push(new);
        events
            .send("response.output_text.annotation.added", fields)
            .await?;
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
        let fields = json!({ "item_id": id, "output_index": output_index, "delta": delta });
        events
            .send("response.function_call_arguments.delta", fields)
            .await?;
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
        let part = json!({
            "item_id": id, "content_index": 0, "part": shape::output_text("", &[], &[]),
        });
        let open = Open::Message {
            id,
            text: String::new(),
            annotations: Vec::new(),
            logprobs: Vec::new(),
        };
        self.begin(open, begun, events).await?;
        let part = at(part, self.done.len());
        events.send("response.content_part.added", part).await?;
        Ok(())
    }

    async fn begin(
        &mut self,
        open: Open,
        begun: Value,
        events: &mut Events,
    ) -> Result<(), Stopped> {
        self.close("completed", events).await?;
        let fields = json!({ "output_index": self.done.len(), "item": begun });
        events.send("response.output_item.added", fields).await?;
        self.open = Some(open);
        Ok(())
    }

    async fn close(&mut self, status: &str, events: &mut Events) -> Result<(), Stopped> {
        let output_index = self.done.len();
        let item = match self.open.take() {
            None => return Ok(()),
            Some(Open::Reasoning { id, text }) => {
                let done = json!({ "item_id": id, "content_index": 0, "text": text });
                let done = at(done, output_index);
                events.send("response.reasoning_text.done", done).await?;
                shape::reasoning(&id, &text)
            }
            Some(Open::Message {
                id,
                text,
                annotations,
                logprobs,
            }) => {
                let part = shape::output_text(&text, &annotations, &logprobs);
                let done = json!({ "item_id": id, "content_index": 0, "text": text, "logprobs": logprobs });
                let done = at(done, output_index);
                events.send("response.output_text.done", done).await?;
                let done = json!({ "item_id": id, "content_index": 0, "part": part });
                let done = at(done, output_index);
                events.send("response.content_part.done", done).await?;
                shape::message(&id, status, &[part])
            }
            Some(Open::Call {
                id,
                call_id,
                name,
                arguments,
            }) => {
                let done = json!({ "item_id": id, "name": name, "arguments": arguments });
                let done = at(done, output_index);
                events
                    .send("response.function_call_arguments.done", done)
                    .await?;
                shape::function_call(&id, status, &call_id, &name, &arguments)
            }
        };
        let fields = json!({ "output_index": output_index, "item": item });
        events.send("response.output_item.done", fields).await?;
        self.done.push(item);
        Ok(())
    }
}

fn at(mut fields: Value, output_index: usize) -> Value {
    fields["output_index"] = json!(output_index);
    fields
}
