//! Loading and unloading with models that have no files: who loads, who waits, who leaves, and that memory goes with them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::watch;

use super::*;
use crate::embedding::testing::{FakeModel, WordTokenizer, fake_spec};
use crate::embedding::{EmbedderSpec, EmbeddingError, EmbeddingModel, InputKind, Priority};

/// Longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A model that counts among those in memory while it lives.
struct Counted {
    num_alive: watch::Sender<usize>,
    held_by_each: Arc<Mutex<[u64; 2]>>,
    processor: usize,
    size: u64,
}

impl EmbeddingModel for Counted {
    fn embed(&mut self, token_ids: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        FakeModel.embed(token_ids)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.num_alive.send_modify(|alive| *alive -= 1);
        self.held_by_each.lock().unwrap()[self.processor] -= self.size;
    }
}

/// Models "a" to "e", each of a size; loading one can be held up or made to fail.
struct Shelf {
    sizes: HashMap<&'static str, u64>,
    memory_bytes: u64,
    /// Where there are two processors, what each of them has.
    memory_of_each: Option<u64>,
    held_by_each: Arc<Mutex<[u64; 2]>>,
    num_alive: watch::Sender<usize>,
    num_loads: AtomicUsize,
    /// What the last load was given.
    free_bytes: Mutex<Option<u64>>,
    /// Loads of these fail, once for each time a name stands here.
    failing: Mutex<Vec<&'static str>>,
    /// A load of this model waits for a message.
    held: Mutex<Option<(&'static str, mpsc::Receiver<()>)>>,
}

impl Shelf {
    fn new(memory_bytes: u64, size: u64) -> Arc<Self> {
        Arc::new(Self::of_one(memory_bytes, size))
    }

    /// On two processors with `each` bytes.
    fn with_two(each: u64, size: u64) -> Arc<Self> {
        Arc::new(Self {
            memory_of_each: Some(each),
            ..Self::of_one(2 * each, size)
        })
    }

    fn of_one(memory_bytes: u64, size: u64) -> Self {
        Self {
            sizes: ["a", "b", "c", "d", "e"].map(|id| (id, size)).into(),
            memory_bytes,
            memory_of_each: None,
            held_by_each: Arc::default(),
            num_alive: watch::channel(0).0,
            num_loads: AtomicUsize::new(0),
            free_bytes: Mutex::new(None),
            failing: Mutex::new(Vec::new()),
            held: Mutex::new(None),
        }
    }

    fn models(self: &Arc<Self>, options: ModelsOptions) -> Models {
        Models::start(Arc::clone(self) as Arc<dyn ModelLibrary>, options)
    }

    fn hold(&self, id: &'static str) -> mpsc::Sender<()> {
        let (release, held) = mpsc::channel();
        *self.held.lock().unwrap() = Some((id, held));
        release
    }

    fn num_loads(&self) -> usize {
        self.num_loads.load(Ordering::SeqCst)
    }

    async fn wait_until_alive(&self, wanted: usize) {
        let mut alive = self.num_alive.subscribe();
        let seen = tokio::time::timeout(PATIENCE, alive.wait_for(|alive| *alive == wanted)).await;
        assert!(seen.is_ok(), "{} models stayed", *self.num_alive.borrow());
    }
}

impl ModelLibrary for Shelf {
    fn list(&self) -> Vec<ModelEntry> {
        let mut ids: Vec<_> = self.sizes.keys().collect();
        ids.sort();
        let entry = |id: &&str| ModelEntry {
            id: id.to_string(),
            kind: ModelKind::Embedding,
            context_length: None,
            is_demonstration: false,
        };
        ids.into_iter().map(entry).collect()
    }

    fn hint(&self, name: &str) -> Option<String> {
        (name == "pullable").then(|| "pull it first".into())
    }

    fn details(&self, id: &str) -> Result<ModelDetails, LoadError> {
        Ok(ModelDetails {
            num_bytes: self.sizes[id],
            modified_at: SystemTime::UNIX_EPOCH,
            format: "gguf",
            architecture: None,
            num_parameters: None,
            quantization: None,
            chat_template: None,
        })
    }

    fn rooms(&self, id: &str) -> Result<Vec<Room>, LoadError> {
        let room = |processor: usize, free_bytes: u64| Room {
            needed_bytes: self.sizes[id],
            free_bytes: Some(free_bytes),
            processor: Some(processor),
        };
        let Some(each) = self.memory_of_each else {
            return Ok(vec![room(0, self.memory_bytes)]);
        };
        let held = self.held_by_each.lock().unwrap();
        Ok((0..held.len())
            .map(|it| room(it, each - held[it]))
            .collect())
    }

    fn free_memory(&self) -> Option<u64> {
        Some(self.memory_bytes)
    }

    fn load(&self, id: &str, room: &Room) -> Result<LoadedModel, LoadError> {
        self.num_loads.fetch_add(1, Ordering::SeqCst);
        *self.free_bytes.lock().unwrap() = room.free_bytes;
        let held = self.held.lock().unwrap().take_if(|(held, _)| *held == id);
        if let Some((_, release)) = held {
            release.recv_timeout(PATIENCE).unwrap();
        }
        let mut failing = self.failing.lock().unwrap();
        if let Some(place) = failing.iter().position(|it| *it == id) {
            failing.remove(place);
            let reason = format!("{id} is damaged");
            return Err(LoadError::Failed { reason });
        }
        self.num_alive.send_modify(|alive| *alive += 1);
        let processor = room.processor.unwrap();
        self.held_by_each.lock().unwrap()[processor] += self.sizes[id];
        let model = Counted {
            num_alive: self.num_alive.clone(),
            held_by_each: Arc::clone(&self.held_by_each),
            processor,
            size: self.sizes[id],
        };
        let spec = EmbedderSpec {
            name: id.into(),
            memory_bytes: self.sizes[id] as usize,
            ..fake_spec()
        };
        let embedder = Embedder::start(Box::new(model), Arc::new(WordTokenizer), spec).unwrap();
        Ok(LoadedModel::Embedder(embedder))
    }
}

fn names(models: &Models) -> Vec<String> {
    models.loaded().into_iter().map(|it| it.id).collect()
}

async fn works(embedder: &Embedder) {
    let texts = vec!["some text".to_string()];
    let answer = embedder.embed(texts, InputKind::Raw, Priority::Interactive);
    assert_eq!(answer.await.unwrap().vectors.len(), 1);
}

#[tokio::test]
async fn first_requests_wait_for_one_load_while_other_models_answer() {
    let shelf = Shelf::new(100, 10);
    let models = shelf.models(ModelsOptions::default());
    works(&models.embedder("a").await.unwrap()).await;
    let release = shelf.hold("b");
    let ask = || {
        let models = models.clone();
        tokio::spawn(async move { models.embedder("b").await })
    };
    let (first, second) = (ask(), ask());
    while shelf.num_loads() < 2 {
        tokio::task::yield_now().await;
    }
    works(&models.embedder("a").await.unwrap()).await;
    assert_eq!(models.loading(), ["b"]);
    release.send(()).unwrap();
    works(&first.await.unwrap().unwrap()).await;
    works(&second.await.unwrap().unwrap()).await;
    assert_eq!(shelf.num_loads(), 2);
    assert_eq!(names(&models), ["a", "b"]);
}

#[tokio::test]
async fn a_failed_load_reaches_all_who_wait_and_is_tried_again_when_asked() {
    let shelf = Shelf::new(100, 10);
    let models = shelf.models(ModelsOptions::default());
    shelf.failing.lock().unwrap().push("a");
    let (first, second) = tokio::join!(models.embedder("a"), models.embedder("a"));
    for failed in [first.err(), second.err()] {
        assert_eq!(failed.unwrap().to_string(), "a is damaged");
    }
    assert_eq!(shelf.num_loads(), 1);
    works(&models.embedder("a").await.unwrap()).await;
    assert_eq!(shelf.num_loads(), 2);
}

#[tokio::test]
async fn a_model_leaves_with_its_memory_when_its_time_is_over() {
    let shelf = Shelf::new(100, 10);
    let models = shelf.models(ModelsOptions {
        keep_alive: Some(Duration::ZERO),
        documents_embedder: Some("d".into()),
        ..ModelsOptions::default()
    });
    drop(models.embedder("d").await.unwrap());
    let leased = models.embedder("a").await.unwrap();
    let copy = leased.clone();
    drop(leased);
    works(&copy).await;
    assert_eq!(*shelf.num_alive.borrow(), 2);
    drop(copy);
    shelf.wait_until_alive(1).await;
    assert_eq!(names(&models), ["d"]);
    // The one that embeds the documents stays even when it is asked to leave.
    let stays = models.unload("d").await.unwrap_err();
    assert!(matches!(stays, UnloadError::Stays { .. }), "{stays}");
}

#[tokio::test]
async fn a_model_is_told_what_the_others_have_left_of_the_memory() {
    // What the machine has free does not shrink with models whose caches are not yet written to.
    let shelf = Shelf::new(100, 30);
    let models = shelf.models(ModelsOptions::default());
    let mut held = Vec::new();
    for (id, free) in [("a", 100), ("b", 70), ("c", 40)] {
        held.push(models.embedder(id).await.unwrap());
        assert_eq!(*shelf.free_bytes.lock().unwrap(), Some(free));
    }
    held.clear();
    works(&models.embedder("d").await.unwrap()).await;
    assert_eq!(*shelf.free_bytes.lock().unwrap(), Some(40));
}

#[tokio::test]
async fn models_on_several_processors_have_the_memory_of_all() {
    let shelf = Shelf::with_two(50, 40);
    let models = shelf.models(ModelsOptions::default());
    drop(models.embedder("a").await.unwrap());
    drop(models.embedder("b").await.unwrap());
    assert_eq!(names(&models), ["a", "b"]);
    assert_eq!(*shelf.held_by_each.lock().unwrap(), [40, 40]);
    drop(models.embedder("c").await.unwrap());
    assert_eq!(names(&models), ["b", "c"]);
    assert_eq!(*shelf.free_bytes.lock().unwrap(), Some(50));
    // Neither has room for a larger one, though both together would.
    let shelf = Shelf::with_two(50, 60);
    let models = shelf.models(ModelsOptions::default());
    let refused = models.embedder("a").await.err().unwrap();
    assert!(matches!(refused, LoadError::NoRoom { .. }), "{refused}");
}

#[tokio::test]
async fn idle_models_make_room_and_models_in_use_do_not() {
    let shelf = Shelf::new(25, 10);
    let models = shelf.models(ModelsOptions::default());
    let busy = models.embedder("a").await.unwrap();
    drop(models.embedder("b").await.unwrap());
    let also_busy = models.embedder("c").await.unwrap();
    assert_eq!(names(&models), ["a", "c"]);
    shelf.wait_until_alive(2).await;
    let refused = models.embedder("d").await.err().unwrap();
    let LoadError::NoRoom { no_room, .. } = &refused else {
        panic!("{refused}");
    };
    assert!(no_room.may_pass());
    assert!(refused.to_string().contains("1 MiB"), "{refused}");
    works(&busy).await;
    drop(also_busy);
    works(&models.embedder("d").await.unwrap()).await;
    assert_eq!(names(&models), ["a", "d"]);
    let in_use = models.unload("a").await.unwrap_err();
    assert!(matches!(in_use, UnloadError::InUse { .. }), "{in_use}");
    drop(busy);
    models.unload("a").await.unwrap();
    shelf.wait_until_alive(1).await;
}

#[tokio::test]
async fn mistaken_requests_load_nothing() {
    let shelf = Shelf::new(100, 10);
    let models = shelf.models(ModelsOptions {
        aliases: [("alias".to_string(), "a".to_string())].into(),
        ..ModelsOptions::default()
    });
    let wrong = models.chat("alias").await.err().unwrap().to_string();
    assert!(wrong.contains("'alias' is of kind 'embedding'"), "{wrong}");
    let unknown = models.embedder("../a").await.err().unwrap();
    assert!(matches!(unknown, LoadError::Unknown { hint: None, .. }));
    let pullable = models.embedder("pullable").await.err().unwrap();
    assert_eq!(pullable.to_string(), "pull it first");
    assert_eq!(shelf.num_loads(), 0);
    models.embedder("alias").await.unwrap();
    assert_eq!(names(&models), ["a"]);
}

#[tokio::test]
async fn nothing_is_loaded_for_those_who_have_left() {
    let shelf = Shelf::new(100, 10);
    let models = shelf.models(ModelsOptions::default());
    let release = shelf.hold("a");
    let first = tokio::spawn({
        let models = models.clone();
        async move { models.embedder("a").await.map(drop) }
    });
    while shelf.num_loads() < 1 {
        tokio::task::yield_now().await;
    }
    let second = tokio::spawn({
        let models = models.clone();
        async move { models.embedder("b").await.map(drop) }
    });
    while models.loading().len() < 2 {
        tokio::task::yield_now().await;
    }
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    release.send(()).unwrap();
    first.await.unwrap().unwrap();
    while !models.loading().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(shelf.num_loads(), 1);
}

#[tokio::test]
async fn after_the_end_nothing_is_loaded_and_nothing_is_left() {
    let shelf = Shelf::new(100, 10);
    let models = shelf.models(ModelsOptions::default());
    let leased = models.embedder("a").await.unwrap();
    models.close().await;
    shelf.wait_until_alive(0).await;
    assert!(!leased.is_alive());
    drop(leased);
    let refused = models.embedder("a").await.err();
    assert_eq!(refused, Some(LoadError::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_always_get_a_model_that_works_or_a_reason() {
    let shelf = Shelf::new(30, 10);
    let models = shelf.models(ModelsOptions {
        keep_alive: Some(Duration::from_millis(1)),
        max_loaded: Some(2),
        ..ModelsOptions::default()
    });
    let ask = |seed: usize| {
        let (models, shelf) = (models.clone(), Arc::clone(&shelf));
        tokio::spawn(async move {
            let mut num_served = 0;
            for step in 0..60 {
                let id = ["a", "b", "c", "d", "e"][(seed * 7 + step * (seed + 3)) % 5];
                match models.embedder(id).await {
                    Ok(embedder) => {
                        assert_eq!(embedder.spec().name, id);
                        works(&embedder).await;
                        assert!(*shelf.num_alive.borrow() <= 2);
                        num_served += 1;
                    }
                    Err(LoadError::NoRoom { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            num_served
        })
    };
    let mut num_served = 0;
    for asked in (0..8).map(ask).collect::<Vec<_>>() {
        num_served += asked.await.unwrap();
    }
    assert!(num_served > 50, "{num_served} of 480 were served");
    shelf.wait_until_alive(0).await;
}
