//! Brings documents in from the web, as durable imports: one page, a site below one prefix, or a paper of arXiv. Asks
//! politely, and only what the owner allows.

mod arxiv;
mod ask;
mod gate;
mod outcome;
mod paper;
mod plan;
mod request;
mod site;
mod visit;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, Id, JoinHandle, JoinSet};

use crate::fetch::{Fetcher, Url};
use crate::store::{Chunking, Import, NewImport, Store, StoreError};
use gate::Gate;
pub use outcome::reason_in_words;
pub use request::{
    BadRequest, DEFAULT_MAX_DEPTH, DEFAULT_MAX_PAGES, ImportRequest, MAX_PAGES, Target,
};
use visit::Visitor;

/// Imports run side by side, so that a slow site does not hold up a single page.
const MAX_RUNNING: usize = 4;
/// How often imports are looked for that another process added or left behind.
const POLL: Duration = Duration::from_secs(1);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// How imports behave.
#[derive(Clone)]
pub struct ImportOptions {
    pub fetcher: Fetcher,
    /// Between two requests to a host; hosts that the owner did not name have at least a second.
    pub delay: Duration,
    /// Of one document.
    pub max_bytes: u64,
    /// Where papers come from.
    pub arxiv_endpoint: Url,
    /// How documents are cut where their collection does not say otherwise.
    pub chunking: Chunking,
}

/// What requests need of the imports that run in the background. Cheap to clone.
#[derive(Clone)]
pub struct Imports {
    options: ImportOptions,
    wake: Arc<Notify>,
}

impl Imports {
    /// Queues an import.
    pub async fn create(
        &self,
        store: &Store,
        vector_store_id: &str,
        request: ImportRequest,
    ) -> Result<Import, ImportError> {
        let new = new_import(&self.options, vector_store_id, &request, None)?;
        let import = store.create_import(new).await?;
        self.wake.notify_one();
        Ok(import)
    }
}

/// Why an import is not begun.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Request(#[from] BadRequest),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The running imports of this process.
pub struct Importer {
    imports: Imports,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Importer {
    /// Works through the queue, including what an earlier process left unfinished.
    pub fn start(store: Store, options: ImportOptions) -> Self {
        let (stop, stopped) = watch::channel(false);
        let imports = Imports {
            options: options.clone(),
            wake: Arc::default(),
        };
        let visitor = Arc::new(Visitor::new(store, options));
        let task = tokio::spawn(run_queue(visitor, Arc::clone(&imports.wake), stopped));
        Self {
            imports,
            stop,
            task,
        }
    }

    pub fn imports(&self) -> Imports {
        self.imports.clone()
    }

    /// Tells whether the imports have died.
    pub fn watch(&self) -> AbortHandle {
        self.task.abort_handle()
    }

    /// Stops at once. Unfinished imports go on at the next start.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// An import that this process runs itself: what it was at its beginning, and the work.
pub async fn run_here(
    store: &Store,
    options: ImportOptions,
    vector_store_id: &str,
    request: ImportRequest,
) -> Result<(Import, impl Future<Output = Result<(), StoreError>> + use<>), ImportError> {
    let owner = Some(store.process_id()?);
    let new = new_import(&options, vector_store_id, &request, owner)?;
    let import = store.create_import(new).await?;
    let visitor = Visitor::new(store.clone(), options);
    let begun = import.clone();
    Ok((import, async move { visitor.run(&begun).await }))
}

fn new_import(
    options: &ImportOptions,
    vector_store_id: &str,
    request: &ImportRequest,
    owner: Option<String>,
) -> Result<NewImport, BadRequest> {
    let first = request.target.first_page(&options.arxiv_endpoint)?;
    options.fetcher.check(&first)?;
    Ok(NewImport {
        vector_store_id: vector_store_id.to_owned(),
        request: request.to_json(),
        owner,
        pages: vec![first.into()],
    })
}

async fn run_queue(visitor: Arc<Visitor>, wake: Arc<Notify>, mut stopped: watch::Receiver<bool>) {
    let mut running = JoinSet::new();
    let mut claimed: HashMap<Id, Import> = HashMap::new();
    loop {
        while running.len() < MAX_RUNNING {
            match visitor.store().claim_import().await {
                Ok(Some(import)) => {
                    let (visitor, begun) = (Arc::clone(&visitor), import.clone());
                    let task = running.spawn(async move { run_one(&visitor, &begun).await });
                    claimed.insert(task.id(), import);
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "the imports cannot be read");
                    break;
                }
            }
        }
        tokio::select! {
            _ = asked_to_stop(&mut stopped) => break,
            _ = wake.notified() => {}
            Some(ended) = running.join_next_with_id(), if !running.is_empty() => {
                let (id, has_panicked) = match ended {
                    Ok((id, ())) => (id, false),
                    Err(error) => (error.id(), error.is_panic()),
                };
                if let Some(import) = claimed.remove(&id).filter(|_| has_panicked) {
                    let why = "a page crashed the import; please report it".to_owned();
                    let failed = visitor.store().finish_import(&import, Some(why)).await;
                    tracing::error!(import = import.id, ?failed, "an import has crashed");
                }
            }
            _ = tokio::time::sleep(POLL) => {}
        }
    }
    running.shutdown().await;
    for import in claimed.values() {
        give_back(&visitor, import).await;
    }
}

/// Resolves when nobody wants more, also because nobody is left.
async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// An import to its end. One that the store cannot take, as on a full disk, is tried again.
async fn run_one(visitor: &Visitor, import: &Import) {
    if let Err(error) = visitor.run(import).await {
        tracing::error!(import = import.id, %error, "an import has stopped, and is tried again");
        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        give_back(visitor, import).await;
    }
}

async fn give_back(visitor: &Visitor, import: &Import) {
    match visitor.store().release_import(import).await {
        Ok(()) | Err(StoreError::ImportGone { .. }) => {}
        Err(error) => tracing::warn!(%error, "an unfinished import could not be given back"),
    }
}
