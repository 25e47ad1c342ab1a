//! Responses that are written while nobody waits. They are kept from their first moment: whoever asks sees how far they
//! are. A task of this process writes each; when the process ends early, the next one to be asked says so. The events of
//! one that is streamed are followed where it is written, and read again from the store when it has ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::echo::Echo;
use super::event::{Event, Lifecycle, NumberedEvent};
use super::events::{EventLog, events_of};
use super::prepare::prepare;
use super::request::{Checked, quotes};
use super::response::{self, Head, Progress};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::openai::redact;
use crate::http::sse::{self, Frame};
use crate::rag::QUOTE_MODEL;
use crate::rag::models::{LoadError, ModelKind};
use crate::store::{StoreError, StoredResponse};

/// Responses that are written in the background at the same time; fewer than the engine lets wait.
const MAX_RUNNING: usize = 32;

/// The tasks that write responses in the background.
pub struct BackgroundTasks {
    /// By the response's id.
    tasks: Mutex<HashMap<String, Task>>,
    places: Arc<Semaphore>,
}

struct Task {
    handle: AbortHandle,
    /// Of a response that is streamed.
    log: Option<Arc<EventLog>>,
}

impl Default for BackgroundTasks {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_RUNNING)),
        }
    }
}

impl BackgroundTasks {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Task>) -> T) -> T {
        act(&mut self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the task of a response, and with it the generation, if it runs here.
    pub fn abort(&self, id: &str) {
        if let Some(task) = self.with(|tasks| tasks.remove(id)) {
            task.handle.abort();
            if let Some(log) = task.log {
                log.end_as("");
            }
        }
    }

    fn is_running(&self, id: &str) -> bool {
        self.with(|tasks| tasks.get(id).is_some_and(|task| !task.handle.is_finished()))
    }

    fn log(&self, id: &str) -> Option<Arc<EventLog>> {
        self.with(|tasks| tasks.get(id)?.log.clone())
    }
}

/// Answers with the response as it is queued, or with its events, and begins to write it.
pub async fn start(
    context: web::Data<Context>,
    checked: Checked,
) -> Result<HttpResponse, ApiError> {
    let tasks = &context.background;
    tasks.with(|tasks| tasks.retain(|_, task| !task.handle.is_finished()));
    let place = Arc::clone(&tasks.places).try_acquire_owned();
    let place = place.map_err(|_| {
        ApiError::too_many(format!(
            "{MAX_RUNNING} background responses are being written already, try again later"
        ))
    })?;
    let head = Head {
        id: checked.id.clone(),
        created_at: checked.created_at,
        model: model_id(&context, &checked).await?,
        is_stored: true,
    };
    let queued = response::response(&head, &checked.echo, &Progress::Queued, &[]);
    let store = &context.workspace.store;
    let response = StoredResponse {
        id: head.id.clone(),
        created_at: head.created_at,
        body: queued.clone(),
        input: checked.conversation.items(),
        previous_id: checked.echo.previous_response_id.clone(),
        owner: Some(store.process_id()?),
        is_streamed: checked.is_streamed,
    };
    store
        .begin_response(response, checked.input.clone())
        .await?;
    let log = checked.is_streamed.then(Arc::<EventLog>::default);
    if let Some(log) = &log {
        let begun = Lifecycle {
            response: queued.clone(),
        };
        log.push(Event::Created(begun.clone()));
        log.push(Event::Queued(begun));
    }
    let id = head.id.clone();
    let running = run(context.clone(), checked, head, log.clone(), place);
    let handle = actix_web::rt::spawn(running).abort_handle();
    let task = Task {
        handle,
        log: log.clone(),
    };
    tasks.with(|tasks| tasks.insert(id, task));
    Ok(match log {
        None => HttpResponse::Ok().json(queued),
        // Who leaves ends nothing: the response is written all the same.
        Some(log) => sse::respond(context.options.sse_keep_alive, |frames| {
            log.follow(0, frames)
        }),
    })
}

async fn run(
    context: web::Data<Context>,
    checked: Checked,
    head: Head,
    log: Option<Arc<EventLog>>,
    _place: OwnedSemaphorePermit,
) {
    let (id, echo) = (head.id.clone(), checked.echo.clone());
    if let Err(error) = write(&context, checked, log.clone()).await {
        let failed = failed(&head, &echo, &error);
        if let Err(error) = end(&context, &id, failed, log.as_deref()).await {
            tracing::error!(%error, response = id, "the end of a background response cannot be stored");
        }
    } else if let Some(log) = &log {
        // It may have been ended by another process.
        if let Ok(StoredResponse { body, .. }) = context.workspace.store.response(&id).await {
            log.push(Event::ended(body));
        }
        log.end();
    }
    context.background.with(|tasks| tasks.remove(&id));
}

async fn write(
    context: &Context,
    checked: Checked,
    log: Option<Arc<EventLog>>,
) -> Result<(), ApiError> {
    let run = prepare(context, checked).await?;
    let running = response::response(&run.head, &run.echo, &Progress::Running, &[]);
    let store = &context.workspace.store;
    if store.update_response(&run.head.id, running).await? {
        match log {
            None => run.complete().await.map(drop)?,
            Some(log) => run.log(log).await?,
        }
    }
    Ok(())
}

/// Ends a response as `body` tells, unless it has ended already, and its events as it ended.
async fn end(
    context: &Context,
    id: &str,
    body: Value,
    log: Option<&EventLog>,
) -> Result<(), StoreError> {
    let store = &context.workspace.store;
    let events = log.map(|log| {
        log.freeze();
        log.ending_with(Event::ended(body.clone()))
    });
    let ended = store.end_response(id, body, events).await;
    if let Some(log) = log {
        let kept = store.response_events(id).await.ok().flatten();
        log.end_as(&kept.unwrap_or_default());
    }
    ended.map(drop)
}

fn failed(head: &Head, echo: &Echo, error: &ApiError) -> Value {
    let progress = Progress::Failed {
        code: error.response_code(),
        message: error.message(),
    };
    response::response(head, echo, &progress, &[])
}

/// The id of the model that will answer, which need not be loaded yet. One that cannot answer is refused at once.
async fn model_id(context: &Context, checked: &Checked) -> Result<String, ApiError> {
    let workspace = &context.workspace;
    let models = &workspace.models;
    let named = checked.model.as_deref().filter(|name| !name.is_empty());
    if checked.file_search.is_some() && quotes(context, named, checked.wishes.mode) {
        return Ok(QUOTE_MODEL.into());
    }
    let Some(name) = named.or(models.default_chat()) else {
        return Err(ApiError::not_available(crate::http::NO_CHAT_MODEL));
    };
    let id = models.id(name);
    let found = models.list().await.into_iter().find(|entry| entry.id == id);
    match found {
        Some(entry) if entry.kind == ModelKind::Chat => Ok(entry.id),
        Some(entry) => Err(LoadError::WrongKind {
            name: name.to_owned(),
            actual: entry.kind,
            wanted: ModelKind::Chat,
        }
        .into()),
        None => Err(ApiError::unknown_model(
            name,
            &context.served_models().await,
        )),
    }
}

/// The response as it is now. One whose process has ended without finishing it has failed.
pub async fn current(context: &Context, id: &str) -> Result<StoredResponse, ApiError> {
    let store = &context.workspace.store;
    let mut stored = store.response(id).await?;
    let Some(owner) = &stored.owner else {
        return Ok(stored);
    };
    let is_running = match *owner == store.process_id()? {
        true => context.background.is_running(id),
        false => store.is_process_running(owner)?,
    };
    if !is_running {
        let body = &mut stored.body;
        body["status"] = json!("failed");
        body["error"] = json!({
            "code": "server_error",
            "message": "the server ended before this response was finished; send the request again",
        });
        store.end_response(id, body.clone(), None).await?;
        context.background.abort(id);
        // It may have ended by itself in the meantime.
        stored = store.response(id).await?;
    }
    Ok(stored)
}

/// Ends a background response. What has ended already stays as it is. One that another process writes is cancelled too,
/// though that process computes it to its end.
pub async fn cancel(context: &Context, id: &str) -> Result<Value, ApiError> {
    let store = &context.workspace.store;
    let stored = current(context, id).await?;
    if stored.body["background"] != true {
        let message =
            format!("the response '{id}' is not a background response, so it cannot be cancelled");
        return Err(ApiError::invalid("response_id", message));
    }
    if stored.owner.is_none() {
        return redact::without_deleted(store, stored.body).await;
    }
    let mut body = stored.body;
    body["status"] = json!("cancelled");
    let log = context.background.log(id);
    end(context, id, body, log.as_deref()).await?;
    context.background.abort(id);
    Ok(store.response(id).await?.body)
}

/// How often a response that another process writes is looked at.
const POLL: Duration = Duration::from_millis(250);

/// The events of a streamed response from number `first` on: those there are, and those to come. Another process keeps
/// its events to itself until it has ended them.
pub async fn stream_again(
    context: web::Data<Context>,
    id: String,
    first: usize,
) -> Result<HttpResponse, ApiError> {
    let stored = current(&context, &id).await?;
    if !stored.is_streamed {
        let message = format!(
            "the response '{id}' cannot be streamed, because it was not created with background=true and stream=true"
        );
        return Err(ApiError::invalid("stream", message));
    }
    let keep_alive = context.options.sse_keep_alive;
    if let Some(log) = context.background.log(&id) {
        return Ok(sse::respond(keep_alive, |frames| log.follow(first, frames)));
    }
    Ok(sse::respond(keep_alive, move |frames| async move {
        // Of one that was deleted meanwhile there is no more to tell.
        if let Ok((body, events)) = ended(&context, &id).await {
            for event in kept_from(first, &body, events) {
                frames.send(Frame::Written(event)).await?;
            }
        }
        frames.send(Frame::Done).await
    }))
}

/// Waits for the end of a response; then its body and its events.
async fn ended(context: &Context, id: &str) -> Result<(Value, Option<String>), ApiError> {
    let stored = loop {
        let stored = current(context, id).await?;
        if stored.owner.is_none() {
            break stored;
        }
        tokio::time::sleep(POLL).await;
    };
    let store = &context.workspace.store;
    let events = match store.response_events(id).await? {
        Some(events) => Some(redact::events_without_deleted(store, events).await?),
        None => None,
    };
    let body = redact::without_deleted(store, stored.body).await?;
    Ok((body, events))
}

/// The kept events from number `first` on. Where they were lost with the process that wrote them, the last one tells all.
fn kept_from(first: usize, body: &Value, events: Option<String>) -> Vec<Arc<str>> {
    match events {
        Some(events) => events_of(&events).skip(first).map(Arc::from).collect(),
        None => {
            let last = NumberedEvent {
                sequence_number: first,
                event: Event::ended(body.clone()),
            };
            vec![last.text().into()]
        }
    }
}
