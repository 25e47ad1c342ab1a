//! Loads models when they are first asked for and unloads them when their time is over. Whoever uses a model holds a
//! lease on it; loading and unloading happen one at a time and never on a thread that serves.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot};

use super::residency::{Limits, Residency, Room, Stay};
use super::{
    Leased, LoadError, LoadedModel, ModelDetails, ModelEntry, ModelKind, ModelLibrary, ModelStatus,
    UnloadError,
};
use crate::embedding::{Embedder, Reranker};
use crate::engine::EngineStats;
use crate::rag::generate::ChatModel;

/// How models come and go.
#[derive(Debug, Clone, Default)]
pub struct ModelsOptions {
    /// Other names of models.
    pub aliases: BTreeMap<String, String>,
    /// How long a model that was loaded on demand stays without requests; `None` for as long as there is room.
    pub keep_alive: Option<Duration>,
    /// Models at the same time, besides the documents' embedding model.
    pub max_loaded: Option<usize>,
    /// What is served when a request names no chat model. It stays while there is room.
    pub default_chat: Option<String>,
    /// The model that embeds the documents. It always stays.
    pub documents_embedder: Option<String>,
}

/// All models of this program. Cheap to clone.
#[derive(Clone)]
pub struct Models {
    pool: Arc<Pool>,
}

struct Pool {
    library: Arc<dyn ModelLibrary>,
    options: ModelsOptions,
    state: Mutex<State>,
    /// Held by whoever loads or unloads, so that memory is measured while nothing moves.
    turn: Semaphore,
    /// A model became idle, or was loaded.
    changed: Notify,
    /// Where loading goes on when the request that asked for it has left.
    runtime: Handle,
}

struct State {
    residency: Residency,
    loaded: BTreeMap<String, LoadedModel>,
    /// Models on their way, and who waits for each. Bounded by the connections of the server.
    waiting: HashMap<String, Vec<Waiter>>,
    /// Learnt when a model was last loaded.
    context_lengths: HashMap<String, usize>,
    is_closed: bool,
}

type Waiter = oneshot::Sender<Result<(LoadedModel, Lease), LoadError>>;

/// Keeps a model in memory while it, or a clone of it, lives.
#[derive(Clone)]
pub struct Lease {
    _held: Arc<Held>,
}

struct Held {
    pool: Arc<Pool>,
    id: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        let now = Instant::now();
        let is_idle = self.pool.state().residency.release(&self.id, now);
        if is_idle {
            self.pool.changed.notify_one();
        }
    }
}

impl Models {
    /// Nothing is loaded yet. Must be called inside a runtime that lives as long as the models are used.
    pub fn start(library: Arc<dyn ModelLibrary>, options: ModelsOptions) -> Self {
        let limits = Limits {
            max_loaded: options.max_loaded,
            memory_bytes: library.free_memory(),
            keep_alive: options.keep_alive,
        };
        let pool = Arc::new(Pool {
            library,
            options,
            state: Mutex::new(State {
                residency: Residency::new(limits),
                loaded: BTreeMap::new(),
                waiting: HashMap::new(),
                context_lengths: HashMap::new(),
                is_closed: false,
            }),
            turn: Semaphore::new(1),
            changed: Notify::new(),
            runtime: Handle::current(),
        });
        tokio::spawn(Arc::clone(&pool).sweep());
        Self { pool }
    }

    /// The chat model of that name, loaded if it was not. It stays at least while the result or a generation of it
    /// lives.
    pub async fn chat(&self, name: &str) -> Result<ChatModel, LoadError> {
        match self.get(name, ModelKind::Chat).await? {
            (LoadedModel::Chat(chat), lease) => Ok(chat.leased(lease)),
            (other, _) => Err(self.wrong_kind(name, other.kind(), ModelKind::Chat)),
        }
    }

    /// The embedding model of that name, loaded if it was not.
    pub async fn embedder(&self, name: &str) -> Result<Leased<Embedder>, LoadError> {
        match self.get(name, ModelKind::Embedding).await? {
            (LoadedModel::Embedder(model), _lease) => Ok(Leased { model, _lease }),
            (other, _) => Err(self.wrong_kind(name, other.kind(), ModelKind::Embedding)),
        }
    }

    /// The rerank model of that name, loaded if it was not.
    pub async fn reranker(&self, name: &str) -> Result<Leased<Reranker>, LoadError> {
        match self.get(name, ModelKind::Rerank).await? {
            (LoadedModel::Reranker(model), _lease) => Ok(Leased { model, _lease }),
            (other, _) => Err(self.wrong_kind(name, other.kind(), ModelKind::Rerank)),
        }
    }

    /// What is served when a request names no chat model.
    pub fn default_chat(&self) -> Option<&str> {
        self.pool.options.default_chat.as_deref()
    }

    /// Other names of models, and what they stand for.
    pub fn aliases(&self) -> &BTreeMap<String, String> {
        &self.pool.options.aliases
    }

    /// The models on this machine, loaded or not.
    pub async fn list(&self) -> Vec<ModelEntry> {
        let mut entries = self
            .blocking(|library| Ok(library.list()))
            .await
            .unwrap_or_default();
        let state = self.pool.state();
        for entry in &mut entries {
            let learnt = state.context_lengths.get(&entry.id);
            entry.context_length = learnt.copied().or(entry.context_length);
        }
        entries
    }

    /// What the files of the model of that name say of it.
    pub async fn details(&self, name: &str) -> Result<ModelDetails, LoadError> {
        let id = self.id(name).to_owned();
        self.blocking(move |library| library.details(&id)).await
    }

    pub fn is_loaded(&self, id: &str) -> bool {
        self.pool.state().loaded.contains_key(id)
    }

    /// What each loaded model is doing, by name.
    pub fn loaded(&self) -> Vec<ModelStatus> {
        let now = Instant::now();
        let state = self.pool.state();
        let status = |(id, model): (&String, &LoadedModel)| {
            let mut status = model.status(id, state.residency.num_leases(id));
            let idle_since = state.residency.idle_since(id);
            status.idle_for = idle_since.map(|since| now.duration_since(since));
            let expires_at = state.residency.expires_at(id);
            status.unloads_in = expires_at.map(|at| at.saturating_duration_since(now));
            status
        };
        state.loaded.iter().map(status).collect()
    }

    /// The names of models that are on their way.
    pub fn loading(&self) -> Vec<String> {
        self.pool.state().waiting.keys().cloned().collect()
    }

    /// What all chat models together are doing; `None` when none is loaded.
    pub fn engine_stats(&self) -> Option<EngineStats> {
        let chats = self.loaded_chats().into_iter();
        let stats = chats.map(|chat| chat.engine().stats());
        stats.reduce(EngineStats::plus)
    }

    /// The loaded chat models, by name, to read their counters. They hold no lease: whoever generates asks for
    /// [`chat`](Self::chat).
    pub fn loaded_chats(&self) -> Vec<ChatModel> {
        let state = self.pool.state();
        let chats = state.loaded.values().filter_map(|model| match model {
            LoadedModel::Chat(chat) => Some(chat.clone()),
            LoadedModel::Embedder(_) | LoadedModel::Reranker(_) => None,
        });
        chats.collect()
    }

    /// Unloads a model that nobody uses, whatever its time.
    pub async fn unload(&self, name: &str) -> Result<(), UnloadError> {
        let id = self.id(name);
        let _turn = self.pool.turn().await;
        let model = {
            let mut state = self.pool.state();
            let name = name.to_owned();
            if !state.loaded.contains_key(id) {
                return Err(UnloadError::NotLoaded { name });
            }
            if state.residency.stays_always(id) {
                return Err(UnloadError::Stays { name });
            }
            if !state.residency.may_leave(id) {
                return Err(UnloadError::InUse { name });
            }
            state.remove(id)
        };
        end(model.into_iter().collect(), "it was asked for").await;
        Ok(())
    }

    /// Ends all models, used or not. Whoever asks later gets [`LoadError::Stopped`].
    pub async fn close(&self) {
        let _turn = self.pool.turn().await;
        let models = {
            let mut state = self.pool.state();
            state.is_closed = true;
            let ids: Vec<String> = state.loaded.keys().cloned().collect();
            ids.iter().filter_map(|id| state.remove(id)).collect()
        };
        self.pool.changed.notify_one();
        end(models, "the program ends").await;
    }

    /// The model that a name stands for.
    pub fn id<'a>(&'a self, name: &'a str) -> &'a str {
        let aliases = &self.pool.options.aliases;
        aliases.get(name).map_or(name, String::as_str)
    }

    fn wrong_kind(&self, name: &str, actual: ModelKind, wanted: ModelKind) -> LoadError {
        LoadError::WrongKind {
            name: name.to_owned(),
            actual,
            wanted,
        }
    }

    async fn get(&self, name: &str, wanted: ModelKind) -> Result<(LoadedModel, Lease), LoadError> {
        let id = self.id(name);
        if let Some(leased) = self.pool.lease(id)? {
            return Ok(leased);
        }
        // Known before anything is loaded: a mistake must not cost another model its place.
        let actual = self.kind_of(name).await?;
        if actual != wanted {
            return Err(self.wrong_kind(name, actual, wanted));
        }
        let (reply, answer) = oneshot::channel();
        if self.pool.wait_for(id, reply) {
            let pool = Arc::clone(&self.pool);
            self.pool.runtime.spawn(pool.bring(id.to_owned()));
        }
        answer.await.map_err(|_| LoadError::Stopped)?
    }

    async fn kind_of(&self, name: &str) -> Result<ModelKind, LoadError> {
        let (id, name) = (self.id(name).to_owned(), name.to_owned());
        self.blocking(move |library| {
            let entry = library.list().into_iter().find(|entry| entry.id == id);
            let kind = entry.map(|entry| entry.kind);
            kind.ok_or_else(|| LoadError::Unknown {
                name,
                hint: library.hint(&id),
            })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn ModelLibrary) -> Result<T, LoadError> + Send + 'static,
    ) -> Result<T, LoadError> {
        self.pool.blocking(work).await
    }
}

impl Pool {
    /// Held for moments only, never across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self) -> SemaphorePermit<'_> {
        let turn = self.turn.acquire().await;
        turn.expect("the semaphore is never closed")
    }

    /// Runs `work` away from the threads that serve.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn ModelLibrary) -> Result<T, LoadError> + Send + 'static,
    ) -> Result<T, LoadError> {
        let library = Arc::clone(&self.library);
        let done = self.runtime.spawn_blocking(move || work(&*library)).await;
        done.unwrap_or_else(|error| {
            Err(LoadError::Failed {
                reason: format!("loading ended unexpectedly: {error}"),
            })
        })
    }

    /// The model, if it is loaded.
    fn lease(self: &Arc<Self>, id: &str) -> Result<Option<(LoadedModel, Lease)>, LoadError> {
        let mut state = self.state();
        match state.is_closed {
            true => Err(LoadError::Stopped),
            false => Ok(self.lease_from(&mut state, id)),
        }
    }

    fn lease_from(self: &Arc<Self>, state: &mut State, id: &str) -> Option<(LoadedModel, Lease)> {
        let model = state.loaded.get(id)?.clone();
        state.residency.lease(id, Instant::now());
        let held = Held {
            pool: Arc::clone(self),
            id: id.to_owned(),
        };
        let lease = Lease {
            _held: Arc::new(held),
        };
        Some((model, lease))
    }

    /// Answers `waiter` when the model is there. True when nobody brings it yet.
    fn wait_for(self: &Arc<Self>, id: &str, waiter: Waiter) -> bool {
        let mut state = self.state();
        // It may have come since it was looked for.
        if let Some(leased) = self.lease_from(&mut state, id) {
            drop(state);
            let _ = waiter.send(Ok(leased));
            return false;
        }
        let waiters = state.waiting.entry(id.to_owned()).or_default();
        waiters.push(waiter);
        waiters.len() == 1
    }

    /// Loads a model, and answers all who wait for it.
    async fn bring(self: Arc<Self>, id: String) {
        let turn = self.turn().await;
        if !self.is_wanted(&id) {
            return;
        }
        let loaded = self.load(&id).await;
        let mut replies = Vec::new();
        {
            let mut state = self.state();
            if let Ok((model, processor)) = &loaded {
                state.insert(&id, model, *processor, self.stay(&id));
            }
            for waiter in state.waiting.remove(&id).unwrap_or_default() {
                let reply = match &loaded {
                    Ok(_) => self.lease_from(&mut state, &id).ok_or(LoadError::Stopped),
                    Err(error) => Err(error.clone()),
                };
                replies.push((waiter, reply));
            }
        }
        // Not before its users have their leases.
        drop(turn);
        for (waiter, reply) in replies {
            // A lease that nobody takes any more ends here.
            let _ = waiter.send(reply);
        }
        self.changed.notify_one();
    }

    fn stay(&self, id: &str) -> Stay {
        if self.options.documents_embedder.as_deref() == Some(id) {
            Stay::Always
        } else if self.options.default_chat.as_deref() == Some(id) {
            Stay::UntilNeeded
        } else {
            Stay::WhileUsed
        }
    }

    /// Whether somebody still waits for the model. If not, it is no longer on its way.
    fn is_wanted(&self, id: &str) -> bool {
        let mut state = self.state();
        let waiters = state.waiting.get(id);
        let has_left = waiters.is_none_or(|all| all.iter().all(Waiter::is_closed));
        if state.is_closed || has_left {
            state.waiting.remove(id);
            return false;
        }
        true
    }

    /// Loads it, and says on which processor.
    async fn load(&self, id: &str) -> Result<(LoadedModel, Option<usize>), LoadError> {
        let room = self.make_room(id).await?;
        let wanted = id.to_owned();
        let load = move |library: &dyn ModelLibrary| library.load(&wanted, &room);
        Ok((self.on_own_thread(load).await?, room.processor))
    }

    /// Runs `work` on a thread that ends with it. Allocators keep what one thread took and another gave back for the
    /// first, so a thread that goes on living would keep the memory of every model that it loaded.
    async fn on_own_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn ModelLibrary) -> Result<T, LoadError> + Send + 'static,
    ) -> Result<T, LoadError> {
        let failed = |reason: String| LoadError::Failed { reason };
        let library = Arc::clone(&self.library);
        let (reply, done) = oneshot::channel();
        std::thread::Builder::new()
            .name("loader".into())
            // Nobody waits for a load when the program ends.
            .spawn(move || drop(reply.send(work(&*library))))
            .map_err(|error| failed(format!("no thread can be started to load it: {error}")))?;
        let done = done.await;
        done.unwrap_or_else(|_| Err(failed("loading it panicked; the log has the reason".into())))
    }

    /// Unloads idle models until there is room for another.
    async fn make_room(&self, id: &str) -> Result<Room, LoadError> {
        loop {
            let wanted = id.to_owned();
            let rooms = self.blocking(move |library| library.rooms(&wanted)).await?;
            let leaving: Vec<_> = {
                let mut state = self.state();
                let chosen = state.residency.choose(&rooms);
                let (room, leaving) = chosen.map_err(|no_room| LoadError::NoRoom {
                    name: id.to_owned(),
                    no_room,
                })?;
                if leaving.is_empty() {
                    let free_bytes = state.residency.free_bytes(room.free_bytes);
                    return Ok(Room { free_bytes, ..room });
                }
                leaving.iter().filter_map(|id| state.remove(id)).collect()
            };
            end(leaving, "another model needs its memory").await;
        }
    }

    /// Unloads what nobody has used for long, until everything is closed.
    async fn sweep(self: Arc<Self>) {
        loop {
            let next = {
                let state = self.state();
                if state.is_closed {
                    return;
                }
                state.residency.next_expiry()
            };
            let changed = self.changed.notified();
            match next {
                None => changed.await,
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at.into()) => {}
                },
            }
            if self.state().residency.expired(Instant::now()).is_empty() {
                continue;
            }
            let _turn = self.turn().await;
            let expired = {
                let mut state = self.state();
                let expired = state.residency.expired(Instant::now());
                expired.iter().filter_map(|id| state.remove(id)).collect()
            };
            end(expired, "it was idle").await;
        }
    }
}

impl State {
    fn insert(&mut self, id: &str, model: &LoadedModel, processor: Option<usize>, stay: Stay) {
        self.residency
            .insert(id, model.num_bytes(), processor, stay, Instant::now());
        self.context_lengths
            .insert(id.to_owned(), model.context_length());
        self.loaded.insert(id.to_owned(), model.clone());
    }

    fn remove(&mut self, id: &str) -> Option<(String, LoadedModel)> {
        self.residency.remove(id);
        self.loaded.remove_entry(id)
    }
}

/// Ends the threads of models that nobody can ask for any more, and frees their memory.
async fn end(models: Vec<(String, LoadedModel)>, reason: &'static str) {
    for (id, model) in models {
        model.shutdown().await;
        tracing::info!(model = id, reason, "unloaded a model");
    }
}
