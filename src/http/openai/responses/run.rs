//! Writes one response: what was searched, the answer, and the events of both in their prescribed order.

use std::sync::Arc;

use serde_json::{Value, json};

use super::echo::Echo;
use super::event::{Event, ItemEvent, Lifecycle, Place};
use super::events::{EventLog, Events};
use super::input::Conversation;
use super::item;
use super::items::Items;
use super::output::FileSearchResult;
use super::prepare::describe;
use super::response::{self, Head, Progress, Spent};
use super::shape::{self, SearchMade};
use crate::engine::GeneratedToken;
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
    /// What the model reads from now on of the question, where the conversation has had it before.
    pub read_as: Option<(String, Value)>,
    pub queries: Vec<String>,
    pub retrieved: Option<Retrieved>,
    pub with_results: bool,
    pub source: Source,
}

/// Where the text comes from.
pub enum Source {
    Chat(Box<Reply>, ChatModel),
    /// With the model that writes the answer, where one does.
    Documents(Box<Answer>, Option<ChatModel>),
}

impl Source {
    async fn next(&mut self) -> Option<Result<AnswerEvent, ApiError>> {
        match self {
            Source::Chat(reply, _) => {
                let event = reply.next().await?;
                Some(event.map(AnswerEvent::Reply).map_err(ApiError::from))
            }
            Source::Documents(answer, _) => Some(answer.next().await?.map_err(ApiError::from)),
        }
    }

    /// The log-probabilities of tokens, where these are wanted.
    fn logprobs(&self, tokens: &[GeneratedToken]) -> Vec<Value> {
        match self {
            Source::Chat(_, chat) | Source::Documents(_, Some(chat)) => {
                let logprobs = token_logprobs(chat, tokens).into_iter();
                logprobs.map(|it| json!(it)).collect()
            }
            Source::Documents(_, None) => Vec::new(),
        }
    }
}

/// Why a run ended without a response.
pub enum Stopped {
    /// Who listened has left.
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
        match self.write(&mut Events::Unheard).await {
            Ok(response) => Ok(response),
            Err(Stopped::Failed(error)) => Err(*error),
            Err(Stopped::Gone) => unreachable!("nobody listens, so nobody leaves"),
        }
    }

    /// Writes the response while its events are kept.
    pub async fn log(mut self, log: Arc<EventLog>) -> Result<(), ApiError> {
        match self.write(&mut Events::Log(log)).await {
            Ok(_) | Err(Stopped::Gone) => Ok(()),
            Err(Stopped::Failed(error)) => Err(*error),
        }
    }

    /// The response as events.
    pub async fn stream(mut self, frames: Frames) -> Result<(), ClientGone> {
        let mut events = Events::client(frames.clone());
        match self.write(&mut events).await {
            Ok(_) => {}
            Err(Stopped::Gone) => return Err(ClientGone),
            Err(Stopped::Failed(error)) => {
                let progress = Progress::Failed {
                    code: error.response_code(),
                    message: error.message(),
                };
                let response = response::response(&self.head, &self.echo, &progress, &[]);
                events.send(Event::Failed(Lifecycle { response })).await?;
            }
        }
        frames.send(Frame::Done).await
    }

    async fn write(&mut self, events: &mut Events) -> Result<Value, Stopped> {
        let response = response::response(&self.head, &self.echo, &Progress::Running, &[]);
        let begun = Lifecycle { response };
        // One in the background has been created already.
        if !self.echo.is_background {
            events.send(Event::Created(begun.clone())).await?;
        }
        events.send(Event::InProgress(begun)).await?;
        let mut items = Items::default();
        let mut results = None;
        if let Some(retrieved) = self.retrieved.take() {
            let found = results_json(&retrieved);
            let made = SearchMade::from(&retrieved);
            items
                .done
                .push(self.write_search(&found, &made, events).await?);
            results = Some(found);
        }
        let (reason, usage) = self.write_items(&mut items, events).await?;
        if let Source::Documents(answer, _) = &self.source {
            self.echo.extension.conclude(&answer.about);
            describe(&answer.about, &mut self.echo.metadata);
        }
        let output = items.done.as_slice();

        let progress = match reason {
            EndReason::Stop => Progress::Completed {
                usage: &usage,
                completed_at: unix_now(),
            },
            EndReason::Length => Progress::Incomplete { usage: &usage },
        };
        let response = response::response(&self.head, &self.echo, &progress, output);
        let kept = events.ending_with(Event::ended(response.clone()));
        let is_first = self.remember(&response, results, kept).await;
        if is_first.map_err(|error| Stopped::Failed(Box::new(error)))? {
            events.end(Event::ended(response.clone())).await?;
        }
        Ok(response)
    }

    async fn write_search(
        &self,
        results: &[Value],
        made: &SearchMade,
        events: &mut Events,
    ) -> Result<Value, Stopped> {
        let id = new_id("fs_");
        let output_index = 0;
        let place = Place {
            output_index,
            item_id: id.clone(),
        };
        let item = shape::file_search_call(&id, "in_progress", &self.queries, None, None);
        let begun = ItemEvent { output_index, item };
        events.send(Event::ItemAdded(begun)).await?;
        events.send(Event::SearchInProgress(place.clone())).await?;
        events.send(Event::Searching(place.clone())).await?;
        let results = self.with_results.then_some(results);
        let item = shape::file_search_call(&id, "completed", &self.queries, results, Some(made));
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
            let event = match self.source.next().await {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Err(Stopped::Failed(Box::new(error))),
                None => return Err(Stopped::Failed(Box::new(ApiError::ended_early()))),
            };
            match event {
                AnswerEvent::Citation(citation) => {
                    let annotation = shape::file_citation(&citation);
                    items.annotation(annotation, events).await?
                }
                AnswerEvent::Progress(progress) => {
                    events.send(Event::of_progress(progress)).await?;
                }
                AnswerEvent::Reply(ReplyEvent::Text { text, tokens }) => {
                    let tokens = self.source.logprobs(&tokens);
                    items.text(text, tokens, events).await?
                }
                AnswerEvent::Reply(ReplyEvent::Reasoning(thought)) => {
                    items.reasoning(thought, events).await?
                }
                AnswerEvent::Reply(ReplyEvent::ToolCall { id, name, .. }) => {
                    items.begin_call(id, name, events).await?
                }
                AnswerEvent::Reply(ReplyEvent::ToolArguments { fragment, .. }) => {
                    items.arguments(fragment, events).await?
                }
                AnswerEvent::Reply(ReplyEvent::Finished {
                    reason,
                    usage,
                    num_reasoning_tokens,
                }) => {
                    let spent = Spent {
                        usage,
                        num_reasoning_tokens,
                    };
                    break (reason, spent);
                }
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
    /// what the search found, kept whether or not they are shown. False where the response has been ended otherwise.
    async fn remember(
        &mut self,
        response: &Value,
        results: Option<Vec<Value>>,
        events: Option<String>,
    ) -> Result<bool, ApiError> {
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
            is_streamed: events.is_some(),
        };
        let written = Written {
            response: self.head.is_stored.then_some(response),
            input: std::mem::take(&mut self.input),
            output,
            conversation_id: self.echo.conversation_id.clone(),
            read_as: self.read_as.take(),
            events,
        };
        if self.echo.is_background {
            return Ok(self.store.finish_response(written).await?);
        }
        self.store.save_written(written).await?;
        Ok(true)
    }
}

fn results_json(retrieved: &Retrieved) -> Vec<Value> {
    let passages = retrieved.passages.iter();
    passages
        .map(|passage| json!(FileSearchResult::from(passage)))
        .collect()
}
