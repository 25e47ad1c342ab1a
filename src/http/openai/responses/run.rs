//! Writes one response: what was searched, the answer, and the events of both in their prescribed order.

use serde_json::{Value, json};

use super::event::{Event, ItemEvent, Lifecycle, NumberedEvent, Place};
use super::input::Conversation;
use super::item;
use super::items::Items;
use super::output::FileSearchResult;
use super::request::Echo;
use super::shape::{self, Head, Progress, Spent};
use crate::http::error::ApiError;
use crate::http::openai::chat::token_logprobs;
use crate::http::sse::{ClientGone, Frame, Frames};
use crate::rag::answer::{Answer, AnswerEvent};
use crate::rag::generate::{ChatModel, EndReason};
use crate::rag::reply::{Reply, ReplyEvent};
use crate::rag::retrieve::Retrieved;
use crate::store::{Item, Store, StoredResponse, Written, new_id, unix_now};

/// A response that is ready to be written.
pub struct Run {
    pub store: Store,
    pub head: Head,
    pub echo: Echo,
    /// The conversation up to and with the question, to be continued later.
    pub conversation: Conversation,
    /// What the request added to it.
    pub input: Vec<Item>,
    pub queries: Vec<String>,
    pub retrieved: Option<Retrieved>,
    pub with_results: bool,
    pub source: Source,
}

/// Where the text comes from.
pub enum Source {
    Chat(Box<Reply>, ChatModel),
    Documents(Box<Answer>),
}

/// A step of either source.
enum Step {
    /// With its tokens' log-probabilities, where these are wanted.
    Text(String, Vec<Value>),
    Reasoning(String),
    Annotation(Value),
    Call {
        id: String,
        name: String,
    },
    Arguments(String),
    Finished(EndReason, Spent),
}

impl Source {
    async fn next(&mut self) -> Option<Result<Step, ApiError>> {
        match self {
            Source::Chat(reply, chat) => Some(match reply.next().await? {
                Ok(event) => Ok(match event {
                    ReplyEvent::Text { text, tokens } => {
                        let logprobs = token_logprobs(chat, &tokens).into_iter();
                        Step::Text(text, logprobs.map(|it| json!(it)).collect())
                    }
                    ReplyEvent::Reasoning(thought) => Step::Reasoning(thought),
                    ReplyEvent::ToolCall { id, name, .. } => Step::Call { id, name },
                    ReplyEvent::ToolArguments { fragment, .. } => Step::Arguments(fragment),
                    ReplyEvent::Finished {
                        reason,
                        usage,
                        num_reasoning_tokens,
                    } => Step::Finished(
                        reason,
                        Spent {
                            usage,
                            num_reasoning_tokens,
                        },
                    ),
                }),
                Err(error) => Err(error.into()),
            }),
            Source::Documents(answer) => Some(match answer.next().await? {
                Ok(AnswerEvent::Text(text)) => Ok(Step::Text(text, Vec::new())),
                Ok(AnswerEvent::Citation(citation)) => {
                    Ok(Step::Annotation(shape::file_citation(&citation)))
                }
                Ok(AnswerEvent::Finished { reason, usage }) => {
                    let num_reasoning_tokens = 0;
                    let spent = Spent {
                        usage,
                        num_reasoning_tokens,
                    };
                    Ok(Step::Finished(reason, spent))
                }
                Err(error) => Err(error.into()),
            }),
        }
    }
}

/// Numbers events and passes them on, when anyone listens.
pub struct Events {
    frames: Option<Frames>,
    next_number: u64,
}

impl Events {
    pub async fn send(&mut self, event: Event) -> Result<(), ClientGone> {
        let Some(frames) = &self.frames else {
            return Ok(());
        };
        let kind = event.kind();
        let sequence_number = self.next_number;
        self.next_number += 1;
        let event = json!(NumberedEvent {
            sequence_number,
            event,
        });
        frames.send(Frame::Event(kind, event)).await
    }
}

/// Why a run ended without a response.
pub enum Stopped {
    Gone,
    Failed(Box<ApiError>),
}

impl From<ClientGone> for Stopped {
    fn from(_: ClientGone) -> Self {
        Stopped::Gone
    }
}

impl Run {
    /// The whole response at once.
    pub async fn complete(mut self) -> Result<Value, ApiError> {
        let mut events = Events {
            frames: None,
            next_number: 0,
        };
        match self.write(&mut events).await {
            Ok(response) => Ok(response),
            Err(Stopped::Failed(error)) => Err(*error),
            Err(Stopped::Gone) => unreachable!("nobody listens, so nobody leaves"),
        }
    }

    /// The response as events.
    pub async fn stream(mut self, frames: Frames) -> Result<(), ClientGone> {
        let mut events = Events {
            frames: Some(frames.clone()),
            next_number: 0,
        };
        match self.write(&mut events).await {
            Ok(_) => {}
            Err(Stopped::Gone) => return Err(ClientGone),
            Err(Stopped::Failed(error)) => {
                let progress = Progress::Failed {
                    code: error.code(),
                    message: error.message(),
                };
                let response = shape::response(&self.head, &self.echo, &progress, &[]);
                events.send(Event::Failed(Lifecycle { response })).await?;
            }
        }
        frames.send(Frame::Done).await
    }

    async fn write(&mut self, events: &mut Events) -> Result<Value, Stopped> {
        let response = shape::response(&self.head, &self.echo, &Progress::Running, &[]);
        let begun = Lifecycle { response };
        events.send(Event::Created(begun.clone())).await?;
        events.send(Event::InProgress(begun)).await?;
        let mut items = Items::default();
        let mut results = None;
        if let Some(retrieved) = self.retrieved.take() {
            let found = results_json(&retrieved);
            items.done.push(self.write_search(&found, events).await?);
            results = Some(found);
        }
        let (reason, usage) = self.write_items(&mut items, events).await?;
        let output = items.done.as_slice();

        let progress = match reason {
            EndReason::Stop => Progress::Completed {
                usage: &usage,
                completed_at: unix_now(),
            },
            EndReason::Length => Progress::Incomplete { usage: &usage },
        };
        let response = shape::response(&self.head, &self.echo, &progress, output);
        self.remember(&response, results)
            .await
            .map_err(|error| Stopped::Failed(Box::new(error)))?;
        let ended = Lifecycle {
            response: response.clone(),
        };
        let ended = match reason {
            EndReason::Stop => Event::Completed(ended),
            EndReason::Length => Event::Incomplete(ended),
        };
        events.send(ended).await?;
        Ok(response)
    }

    async fn write_search(&self, results: &[Value], events: &mut Events) -> Result<Value, Stopped> {
        let id = new_id("fs_");
        let output_index = 0;
        let place = Place {
            output_index,
            item_id: id.clone(),
        };
        let item = shape::file_search_call(&id, "in_progress", &self.queries, None);
        let begun = ItemEvent { output_index, item };
        events.send(Event::ItemAdded(begun)).await?;
        events.send(Event::SearchInProgress(place.clone())).await?;
        events.send(Event::Searching(place.clone())).await?;
        let results = self.with_results.then_some(results);
        let item = shape::file_search_call(&id, "completed", &self.queries, results);
        events.send(Event::SearchCompleted(place)).await?;
        let done = ItemEvent {
            output_index,
            item: item.clone(),
        };
        events.send(Event::ItemDone(done)).await?;
        Ok(item)
    }

    async fn write_items(
        &mut self,
        items: &mut Items,
        events: &mut Events,
    ) -> Result<(EndReason, Spent), Stopped> {
        let (reason, spent) = loop {
            let step = match self.source.next().await {
                Some(Ok(step)) => step,
                Some(Err(error)) => return Err(Stopped::Failed(Box::new(error))),
                None => return Err(Stopped::Failed(Box::new(ApiError::ended_early()))),
            };
            match step {
                Step::Text(delta, tokens) => items.text(delta, tokens, events).await?,
                Step::Reasoning(delta) => items.reasoning(delta, events).await?,
                Step::Annotation(annotation) => items.annotation(annotation, events).await?,
                Step::Call { id, name } => items.begin_call(id, name, events).await?,
                Step::Arguments(delta) => items.arguments(delta, events).await?,
                Step::Finished(reason, spent) => break (reason, spent),
            }
        };
        let status = match reason {
            EndReason::Stop => "completed",
            EndReason::Length => "incomplete",
        };
        items.finish(status, events).await?;
        Ok((reason, spent))
    }

    /// Keeps the response so that it can be read again and continued, and appends it to its conversation. `results` are
    /// what the search found, kept whether or not they are shown.
    async fn remember(
        &mut self,
        response: &Value,
        results: Option<Vec<Value>>,
    ) -> Result<(), ApiError> {
        let output = response["output"].as_array().cloned().unwrap_or_default();
        let mut output: Vec<Item> = output.into_iter().map(item::written).collect();
        if let (Some(results), Some(search)) = (results, output.first_mut()) {
            search.body["results"] = json!(results);
        }
        self.conversation.extend(&output)?;
        let response = StoredResponse {
            id: self.head.id.clone(),
            created_at: self.head.created_at,
            body: response.clone(),
            input: self.conversation.items(),
            previous_id: self.echo.previous_response_id.clone(),
            owner: None,
        };
        let written = Written {
            response: self.head.is_stored.then_some(response),
            input: std::mem::take(&mut self.input),
            output,
            conversation_id: self.echo.conversation_id.clone(),
        };
        match self.echo.is_background {
            // False is no failure: who cancelled it was quicker.
            true => self.store.finish_response(written).await.map(drop)?,
            false => self.store.save_written(written).await?,
        }
        Ok(())
    }
}

fn results_json(retrieved: &Retrieved) -> Vec<Value> {
    let passages = retrieved.passages.iter();
    passages
        .map(|passage| json!(FileSearchResult::from(passage)))
        .collect()
}
