//! Runs one response: search, answer, and the events of both in their prescribed order.

use serde_json::{Map, Value, json};

use super::request::{Checked, Echo, SOURCES, Task};
use super::shape::{self, Head, Progress};
use crate::engine::Usage;
use crate::http::error::ApiError;
use crate::http::openai::vector_stores::passage_json;
use crate::http::sse::{ClientGone, Frame, Frames};
use crate::http::{Context, blocking};
use crate::rag::Answerer;
use crate::rag::answer::{Answer, AnswerEvent, Question};
use crate::rag::generate::{EndReason, Generation, GenerationEvent};
use crate::rag::prompt::{Role, Turn, known_passages};
use crate::rag::retrieve::Retrieved;
use crate::store::{Store, StoredResponse, new_id, unix_now};

/// A response that is ready to be written.
pub struct Run {
    store: Store,
    head: Head,
    echo: Echo,
    /// The conversation up to and with the question, to be continued later.
    turns: Vec<Turn>,
    queries: Vec<String>,
    retrieved: Option<Retrieved>,
    with_results: bool,
    source: Source,
}

/// Where the text comes from.
enum Source {
    Chat(Generation),
    Documents(Box<Answer>),
}

/// Searches, builds the prompt and queues the generation. Every error up to here has a status of its own.
pub async fn prepare(context: &Context, checked: Checked) -> Result<Run, ApiError> {
    let Checked {
        task,
        earlier,
        question,
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
    let mut turns = earlier.clone();
    turns.push(Turn::new(Role::User, question.clone()));
    let mut queries = Vec::new();
    let mut found = None;
    let source = match task {
        Task::Chat(chat) => {
            let messages = chat_messages(echo.instructions.as_deref(), &turns);
            let extra = Map::from_iter([("enable_thinking".to_string(), json!(is_thinking))]);
            let templated = chat.clone();
            let prompt = blocking(move || Ok(templated.prompt(&messages, &extra)?)).await?;
            Source::Chat(
                chat.generate(prompt, options)
                    .map_err(|error| ApiError::from(error).about("input"))?,
            )
        }
        Task::Documents(answerer, search) => {
            queries = vec![question.clone()];
            let retrieved = search.run(workspace, &queries).await?;
            let answer = match answerer {
                Answerer::Quote => Answer::quote(workspace, &question, &retrieved).await?,
                Answerer::Chat(chat) => {
                    let question = Question {
                        text: question,
                        known: known_passages(&workspace.store, &earlier).await?,
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
            if let Some(asked) = turns.last_mut() {
                asked.sources = answer.sources.clone();
            }
            found = Some(retrieved);
            Source::Documents(Box::new(answer))
        }
    };
    Ok(Run {
        store: workspace.store.clone(),
        head,
        echo,
        turns,
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

fn chat_messages(instructions: Option<&str>, turns: &[Turn]) -> Vec<Value> {
    let system = instructions.map(|text| json!({ "role": "system", "content": text }));
    let turns = turns
        .iter()
        .map(|turn| json!({ "role": turn.role.name(), "content": turn.content }));
    system.into_iter().chain(turns).collect()
}

/// A conversation as it is kept, with the sources that each question was shown with.
fn stored_turns(turns: &[Turn]) -> Value {
    let turns = turns.iter().map(|turn| {
        let mut stored = json!({ "role": turn.role.name(), "content": turn.content });
        if !turn.sources.is_empty() {
            stored[SOURCES] = json!(turn.sources);
        }
        stored
    });
    turns.collect()
}

/// A step of either source.
enum Step {
    Text(String),
    Annotation(Value),
    Finished(EndReason, Usage),
}

impl Source {
    async fn next(&mut self) -> Option<Result<Step, ApiError>> {
        match self {
            Source::Chat(generation) => Some(match generation.next().await? {
                Ok(GenerationEvent::Text { text, .. }) => Ok(Step::Text(text)),
                Ok(GenerationEvent::Finished { reason, usage }) => {
                    Ok(Step::Finished(reason, usage))
                }
                Err(error) => Err(error.into()),
            }),
            Source::Documents(answer) => Some(match answer.next().await? {
                Ok(AnswerEvent::Text(text)) => Ok(Step::Text(text)),
                Ok(AnswerEvent::Citation(citation)) => {
                    Ok(Step::Annotation(shape::file_citation(&citation)))
                }
                Ok(AnswerEvent::Finished { reason, usage }) => Ok(Step::Finished(reason, usage)),
                Err(error) => Err(error.into()),
            }),
        }
    }
}

/// Numbers events and passes them on, when anyone listens.
struct Events {
    frames: Option<Frames>,
    next_number: u64,
}

impl Events {
    async fn send(&mut self, kind: &'static str, mut fields: Value) -> Result<(), ClientGone> {
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
enum Stopped {
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
        let mut output = Vec::new();
        if let Some(retrieved) = self.retrieved.take() {
            output.push(self.write_search(&retrieved, events).await?);
        }
        let (message, text, reason, usage) = self.write_message(output.len(), events).await?;
        output.push(message);

        let progress = match reason {
            EndReason::Stop => Progress::Completed {
                usage: &usage,
                completed_at: unix_now(),
            },
            EndReason::Length => Progress::Incomplete { usage: &usage },
        };
        let response = shape::response(&self.head, &self.echo, &progress, &output);
        if self.head.is_stored {
            self.remember(&response, text)
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

    async fn write_message(
        &mut self,
        output_index: usize,
        events: &mut Events,
    ) -> Result<(Value, String, EndReason, Usage), Stopped> {
        let id = new_id("msg_");
        let begun = shape::message(&id, "in_progress", &[]);
        events
            .send(
                "response.output_item.added",
                json!({ "output_index": output_index, "item": begun }),
            )
            .await?;
        let place = |more: Value| {
            let mut place =
                json!({ "item_id": id, "output_index": output_index, "content_index": 0 });
            if let (Some(place), Value::Object(mut more)) = (place.as_object_mut(), more) {
                place.append(&mut more);
            }
            place
        };
        let empty = json!({ "part": shape::output_text("", &[]) });
        events
            .send("response.content_part.added", place(empty))
            .await?;
        let mut text = String::new();
        let mut annotations: Vec<Value> = Vec::new();
        let (reason, usage) = loop {
            match self.source.next().await {
                Some(Ok(Step::Text(delta))) => {
                    text.push_str(&delta);
                    let fields = place(json!({ "delta": delta, "logprobs": [] }));
                    events.send("response.output_text.delta", fields).await?;
                }
                Some(Ok(Step::Annotation(annotation))) => {
                    let fields =
                        json!({ "annotation_index": annotations.len(), "annotation": annotation });
                    events
                        .send("response.output_text.annotation.added", place(fields))
                        .await?;
                    annotations.push(annotation);
                }
                Some(Ok(Step::Finished(reason, usage))) => break (reason, usage),
                Some(Err(error)) => return Err(Stopped::Failed(Box::new(error))),
                None => return Err(Stopped::Failed(Box::new(ApiError::ended_early()))),
            }
        };
        let part = shape::output_text(&text, &annotations);
        let done = place(json!({ "text": text, "logprobs": [] }));
        events.send("response.output_text.done", done).await?;
        events
            .send("response.content_part.done", place(json!({ "part": part })))
            .await?;
        let status = match reason {
            EndReason::Stop => "completed",
            EndReason::Length => "incomplete",
        };
        let message = shape::message(&id, status, &[part]);
        let done = json!({ "output_index": output_index, "item": message });
        events.send("response.output_item.done", done).await?;
        Ok((message, text, reason, usage))
    }

    /// Keeps the response so that it can be read again and continued.
    async fn remember(&mut self, response: &Value, text: String) -> Result<(), ApiError> {
        self.turns.push(Turn::new(Role::Assistant, text));
        let stored = StoredResponse {
            id: self.head.id.clone(),
            created_at: self.head.created_at,
            body: response.clone(),
            input: stored_turns(&self.turns),
            previous_id: self.echo.previous_response_id.clone(),
        };
        Ok(self.store.save_response(stored).await?)
    }
}
