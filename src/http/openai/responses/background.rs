//! Responses that are written while nobody waits. They are kept from their first moment: whoever asks sees how far they
//! are. A task of this process writes each; when the process ends early, the next one to be asked says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::prepare::prepare;
use super::request::{Checked, Echo};
use super::shape::{self, Head, Progress};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::QUOTE_MODEL;
use crate::rag::models::{LoadError, ModelKind};
use crate::store::StoredResponse;

/// Responses that are written in the background at the same time; fewer than the engine lets wait.
const MAX_RUNNING: usize = 32;

/// The tasks that write responses in the background.
pub struct BackgroundTasks {
    /// By the response's id.
    tasks: Mutex<HashMap<String, AbortHandle>>,
    places: Arc<Semaphore>,
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
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, AbortHandle>) -> T) -> T {
        act(&mut self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the task of a response, and with it the generation, if it runs here.
    pub fn abort(&self, id: &str) {
        if let Some(task) = self.with(|tasks| tasks.remove(id)) {
            task.abort();
        }
    }

    fn is_running(&self, id: &str) -> bool {
        self.with(|tasks| tasks.get(id).is_some_and(|task| !task.is_finished()))
    }
}

/// Answers with the response as it is queued, and begins to write it.
pub async fn start(
    context: web::Data<Context>,
    checked: Checked,
) -> Result<HttpResponse, ApiError> {
    let tasks = &context.background;
    tasks.with(|tasks| tasks.retain(|_, task| !task.is_finished()));
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
    let queued = shape::response(&head, &checked.echo, &Progress::Queued, &[]);
    let store = &context.workspace.store;
    let response = StoredResponse {
        id: head.id.clone(),
        created_at: head.created_at,
        body: queued.clone(),
        input: checked.conversation.items(),
        previous_id: checked.echo.previous_response_id.clone(),
        owner: Some(store.process_id()?),
    };
    store
        .begin_response(response, checked.input.clone())
        .await?;
    let id = head.id.clone();
    let task = actix_web::rt::spawn(run(context.clone(), checked, head, place));
    tasks.with(|tasks| tasks.insert(id, task.abort_handle()));
    Ok(HttpResponse::Ok().json(queued))
}

async fn run(
    context: web::Data<Context>,
    checked: Checked,
    head: Head,
    _place: OwnedSemaphorePermit,
) {
    let (id, echo) = (head.id.clone(), checked.echo.clone());
    if let Err(error) = write(&context, checked).await {
        let failed = failed(&head, &echo, &error);
        if let Err(error) = context.workspace.store.end_response(&id, failed).await {
            tracing::error!(%error, response = id, "the end of a background response cannot be stored");
        }
    }
    context.background.with(|tasks| tasks.remove(&id));
}

async fn write(context: &Context, checked: Checked) -> Result<(), ApiError> {
    let run = prepare(context, checked).await?;
    let running = shape::response(&run.head, &run.echo, &Progress::Running, &[]);
    let store = &context.workspace.store;
    if store.update_response(&run.head.id, running).await? {
        run.complete().await?;
    }
    Ok(())
}

fn failed(head: &Head, echo: &Echo, error: &ApiError) -> Value {
    let progress = Progress::Failed {
        code: error.code(),
        message: error.message(),
    };
    shape::response(head, echo, &progress, &[])
}

/// The id of the model that will answer, which need not be loaded yet. One that cannot answer is refused at once.
async fn model_id(context: &Context, checked: &Checked) -> Result<String, ApiError> {
    let workspace = &context.workspace;
    let models = &workspace.models;
    let named = checked.model.as_deref().filter(|name| !name.is_empty());
    if checked.file_search.is_some()
        && (context.is_quote_model(named) || (named.is_none() && !workspace.writes_answers))
    {
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
        store.end_response(id, body.clone()).await?;
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
        return Ok(stored.body);
    }
    let mut body = stored.body;
    body["status"] = json!("cancelled");
    store.end_response(id, body).await?;
    context.background.abort(id);
    Ok(store.response(id).await?.body)
}
