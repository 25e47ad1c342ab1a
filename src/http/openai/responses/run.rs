//! Runs one response: search, answer, and the events of both in their prescribed order.

use serde_json::{Map, Value, json};

use super::input::{self, Conversation};
use super::items::Items;
use super::request::{Checked, Echo, Task};
use super::shape::{self, Head, Progress, Spent};
use crate::http::error::ApiError;
use crate::http::openai::vector_stores::passage_json;
use crate::http::sse::{ClientGone, Frame, Frames};
use crate::http::{Context, blocking};
use crate::rag::Answerer;
use crate::rag::answer::{Answer, AnswerEvent, Question};
use crate::rag::conversation::ChatMessage;
use crate::rag::generate::{EndReason, GenerateError};
use crate::rag::prompt::known_passages;
use crate::rag::reply::{Reply, ReplyEvent, ReplyPlan, ReplyRequest};
use crate::rag::retrieve::Retrieved;
use crate::store::{Store, StoredResponse, new_id, unix_now};

/// A response that is ready to be written.
pub struct Run {
    store: Store,
    head: Head,
    echo: Echo,
    /// The conversation up to and with the question, to be continued later.
    conversation: Conversation,
    queries: Vec<String>,
    retrieved: Option<Retrieved>,
    with_results: bool,
    source: Source,
}

/// Where the text comes from.
enum Source {
    Chat(Box<Reply>),
    Documents(Box<Answer>),
}

/// Searches, builds the prompt and queues the generation. Every error up to here has a status of its own.
pub async fn prepare(context: &Context, checked: Checked) -> Result<Run, ApiError> {
    let Checked {
        task,
        mut conversation,
        functions,
        shape,
        options,
        is_thinking,
        with_results,
        is_stored,
        mut echo,
        ..
    } = checked;
    let workspace = &context.workspace;
    let head = Head {
        id: new_id("resp_"),
        created_at: unix_now(),
        model: task.model().to_string(),
        is_stored,
    };
    let mut queries = Vec::new();
    let mut found = None;
    let source = match task {
        Task::Chat(chat) => {
            let held_by = shape.as_ref().map_or("tools", |_| "text.format");
            let instructions = echo.instructions.clone().map(ChatMessage::System);
            let request = ReplyRequest {
                messages: instructions
                    .into_iter()
                    .chain(conversation.messages.clone())
                    .collect(),
                extra: Map::from_iter([("enable_thinking".to_string(), json!(is_thinking))]),
                tools: functions,
                shape,
                options,
            };
            let failed = |error| match error {
                GenerateError::Constrain(error) => ApiError::from(error).about(held_by),
                error => ApiError::from(error).about("input"),
            };
            let plan = ReplyPlan::new(&chat, request).await.map_err(failed)?;
            let mut replies = plan.start(1).map_err(failed)?;
            let reply = replies.pop().ok_or_else(ApiError::ended_early)?;
            Source::Chat(Box::new(reply))
        }
        Task::Documents(answerer, search) => {
            let mut earlier = conversation.turns();
            let question = earlier.pop().map(|turn| turn.content).unwrap_or_default();
            queries = vec![question.clone()];
            let mut retrieved = search.run(workspace, &queries).await?;
            let answer = match answerer {
                Answerer::Quote => Answer::quote(workspace, &question, &retrieved).await?,
                Answerer::Chat(chat) => {
                    let question = Question {
                        text: question,
                        known: known_passages(&workspace.store, &search.scope, &earlier).await?,
                        earlier,
                        instructions: echo.instructions.clone(),
                        options,
                    };
                    let (workspace, retrieved) = (workspace.clone(), retrieved.clone());
                    let begin = move || {
                        let answer = Answer::begin(&workspace, &chat, question, &retrieved);
                        answer.map_err(|error| ApiError::from(error).about("input"))
                    };
                    blocking(begin).await?
                }
            };
            describe(&answer, &mut echo.metadata);
            conversation.show_sources(answer.sources.clone());
            // As the answer cites them.
            for (passage, number) in retrieved.passages.iter_mut().zip(&answer.numbers) {
                passage.number = *number;
            }
            found = Some(retrieved);
            Source::Documents(Box::new(answer))
        }
    };
    Ok(Run {
        store: workspace.store.clone(),
        head,
        echo,
        conversation,
        queries,
        retrieved: found,
        with_results,
        source,
    })
}

/// What the reader should know of an answer from documents, as metadata of the response.
fn describe(answer: &Answer, metadata: &mut Map<String, Value>) {
    let outcome = match answer.is_found {
        true => "answered",
        false => "not_found",
    };
    metadata.insert("inglenook_outcome".into(), json!(outcome));
    if let Some(confidence) = answer.confidence {
        let confidence = format!("{confidence:.3}");
        metadata.insert("inglenook_confidence".into(), json!(confidence));
    }
    if let Some(dropped) = answer.left_out.sentence() {
        metadata.insert("inglenook_dropped".into(), json!(dropped));
    }
}

/// A step of either source.
enum Step {
    Text(String),
    Reasoning(String),
    Annotation(Value),
    Call { id: String, name: String },
    Arguments(String),
    Finished(EndReason, Spent),
}

impl Source {
    async fn next(&mut self) -> Option<Result<Step, ApiError>> {
        match self {
            Source::Chat(reply) => Some(match reply.next().await? {
                Ok(event) => Ok(match event {
                    ReplyEvent::Text { text, .. } => Step::Text(text),
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
                Ok(AnswerEvent::Text(text)) => Ok(Step::Text(text)),
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
    pub async fn send(&mut self, kind: &'static str, mut fields: Value) -> Result<(), ClientGone> {
        let Some(frames) = &self.frames else {
            return Ok(());
        };
        let mut event = json!({ "type": kind, "sequence_number": self.next_number });
        if let (Some(event), Some(fields)) = (event.as_object_mut(), fields.as_object_mut()) {
            event.append(fields);
        }
        self.next_number += 1;
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
                let failed = shape::response(&self.head, &self.echo, &progress, &[]);
                events
                    .send("response.failed", json!({ "response": failed }))
                    .await?;
            }
        }
        frames.send(Frame::Done).await
    }

    async fn write(&mut self, events: &mut Events) -> Result<Value, Stopped> {
        let begun = shape::response(&self.head, &self.echo, &Progress::Running, &[]);
        events
            .send("response.created", json!({ "response": begun }))
            .await?;
        events
            .send("response.in_progress", json!({ "response": begun }))
            .await?;
        let mut items = Items::default();
        if let Some(retrieved) = self.retrieved.take() {
            items
                .done
                .push(self.write_search(&retrieved, events).await?);
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
        if self.head.is_stored {
            self.remember(&response)
                .await
                .map_err(|error| Stopped::Failed(Box::new(error)))?;
        }
        let kind = match reason {
            EndReason::Stop => "response.completed",
            EndReason::Length => "response.incomplete",
        };
        events.send(kind, json!({ "response": response })).await?;
        Ok(response)
    }

    async fn write_search(
        &self,
        retrieved: &Retrieved,
        events: &mut Events,
    ) -> Result<Value, Stopped> {
        let id = new_id("fs_");
        let place = json!({ "output_index": 0, "item_id": id });
        let begun = shape::file_search_call(&id, "in_progress", &self.queries, None);
        events
            .send(
                "response.output_item.added",
                json!({ "output_index": 0, "item": begun }),
            )
            .await?;
        events
            .send("response.file_search_call.in_progress", place.clone())
            .await?;
        events
            .send("response.file_search_call.searching", place.clone())
            .await?;
        let results: Vec<Value> = retrieved
            .passages
            .iter()
            .map(|passage| {
                let mut result = passage_json(passage);
                result["text"] = json!(passage.chunk.text);
                result
            })
            .collect();
        let results = self.with_results.then_some(results);
        let done = shape::file_search_call(&id, "completed", &self.queries, results.as_deref());
        events
            .send("response.file_search_call.completed", place)
            .await?;
        events
            .send(
                "response.output_item.done",
                json!({ "output_index": 0, "item": done }),
            )
            .await?;
        Ok(done)
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
                Step::Text(delta) => items.text(delta, events).await?,
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

    /// Keeps the response so that it can be read again and continued.
    async fn remember(&mut self, response: &Value) -> Result<(), ApiError> {
        let answer = input::messages(Some(response["output"].clone()))?;
        self.conversation.messages.extend(answer);
        let stored = StoredResponse {
            id: self.head.id.clone(),
            created_at: self.head.created_at,
            body: response.clone(),
            input: self.conversation.items(),
            previous_id: self.echo.previous_response_id.clone(),
        };
        Ok(self.store.save_response(stored).await?)
    }
}
