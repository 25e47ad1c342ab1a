//! Random operations through two handles, checked after each against a model that is a plain map.

use std::collections::BTreeMap;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const NUM_OPERATIONS: usize = 250;

/// A completed document as the model sees it: its chunks and whether it is marked.
#[derive(Default)]
struct ModelDocument {
    chunks: Vec<(String, [f32; DIMENSIONS])>,
    is_marked: bool,
}

struct Run {
    dir: tempfile::TempDir,
    /// Two handles, as if of two processes.
    stores: [Store; 2],
    rng: ChaCha8Rng,
    /// Completed documents by vector store and file.
    completed: BTreeMap<(String, String), ModelDocument>,
    vector_stores: Vec<String>,
    files: Vec<String>,
    num_words: usize,
}

#[tokio::test]
async fn search_finds_exactly_what_a_simple_model_says() {
    for seed in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let stores = [open(dir.path()).await, open(dir.path()).await];
        let mut run = Run {
            dir,
            stores,
            rng: ChaCha8Rng::seed_from_u64(seed),
            completed: BTreeMap::new(),
            vector_stores: Vec::new(),
            files: Vec::new(),
            num_words: 0,
        };
        for step in 0..NUM_OPERATIONS {
            let operation = run.change_something().await;
            run.check(&format!("seed {seed}, step {step}: {operation}"))
                .await;
        }
        assert!(run.num_words > 50, "the run did something");
    }
}

impl Run {
    fn store(&mut self) -> Store {
        self.stores[self.rng.random_range(0..2)].clone()
    }

    fn random_vector(&mut self) -> [f32; DIMENSIONS] {
        std::array::from_fn(|_| self.rng.random::<f32>() - 0.5)
    }

    async fn change_something(&mut self) -> &'static str {
        let store = self.store();
        let choice = self.rng.random_range(0..100);
        let vector_store = self.vector_stores.choose(&mut self.rng).cloned();
        let (Some(vector_store), 0..96) = (vector_store, choice) else {
            self.vector_stores
                .push(create_vector_store(&store, "v").await);
            return "create vector store";
        };
        let known = self.completed.keys().cloned().collect::<Vec<_>>();
        let document = known.choose(&mut self.rng).cloned();
        match (choice, document) {
            (0..45, _) => self.ingest(&store, &vector_store).await,
            (45..50, _) => self.start_and_give_up(&store, &vector_store).await,
            (50..65, Some(key)) => {
                store.detach(&key.0, &key.1).await.unwrap();
                self.completed.remove(&key);
                "detach"
            }
            (65..75, Some((_, file))) => {
                store.delete_file(&file).await.unwrap();
                self.completed.retain(|key, _| key.1 != file);
                self.files.retain(|id| *id != file);
                "delete file"
            }
            (75..85, Some(key)) => {
                let model = self.completed.get_mut(&key).unwrap();
                model.is_marked = !model.is_marked;
                let mark = AttributeValue::Bool(model.is_marked);
                let attributes = Attributes::from([("mark".to_owned(), mark)]);
                store
                    .update_attributes(&key.0, &key.1, attributes)
                    .await
                    .unwrap();
                "mark"
            }
            (85..88, _) => {
                store.delete_vector_store(&vector_store).await.unwrap();
                self.completed.retain(|key, _| key.0 != vector_store);
                self.vector_stores.retain(|id| *id != vector_store);
                "delete vector store"
            }
            (88..91, _) => {
                store.flush().await.unwrap();
                "flush"
            }
            (91..94, _) => {
                let reopened = open(self.dir.path()).await;
                self.stores[self.rng.random_range(0..2)] = reopened;
                "drop and open again"
            }
            (94..96, _) => {
                // It may not be there.
                let _ = std::fs::remove_file(self.dir.path().join("vectors.usearch"));
                "delete the index file"
            }
            _ => "nothing",
        }
    }

    async fn ingest(&mut self, store: &Store, vector_store: &str) -> &'static str {
        let file = match self.files.choose(&mut self.rng) {
            Some(file) if self.rng.random_bool(0.3) => file.clone(),
            _ => create_file(store, "f").await,
        };
        if !self.files.contains(&file) {
            self.files.push(file.clone());
        }
        attach(store, vector_store, &file).await;
        let Some(job) = store.claim_next_job().await.unwrap() else {
            return "attach what is there";
        };
        let mut model = ModelDocument::default();
        for ordinal in 0..self.rng.random_range(0..6) {
            self.num_words += 1;
            let (text, vector) = (
                format!("common word{}", self.num_words),
                self.random_vector(),
            );
            store
                .append_chunks(&job, vec![chunk(ordinal, &text, vector.to_vec())])
                .await
                .unwrap();
            model.chunks.push((text, vector));
        }
        self.stores[0]
            .complete_job(&job, model.chunks.len() as u32, Vec::new())
            .await
            .unwrap();
        self.completed
            .insert((vector_store.to_owned(), file), model);
        "ingest"
    }

    async fn start_and_give_up(&mut self, store: &Store, vector_store: &str) -> &'static str {
        let file = create_file(store, "f").await;
        attach(store, vector_store, &file).await;
        let job = store.claim_next_job().await.unwrap().unwrap();
        let new = chunk(0, "common unfinished", self.random_vector().to_vec());
        store.append_chunks(&job, vec![new]).await.unwrap();
        if self.rng.random_bool(0.5) {
            store
                .fail_job(&job, DocumentErrorCode::InvalidFile, "no")
                .await
                .unwrap();
        } else {
            cancel(store, vector_store, &file).await;
        }
        "fail or cancel"
    }

    async fn check(&mut self, context: &str) {
        let store = self.store();
        let vector_store_ids: Vec<String> = self
            .vector_stores
            .iter()
            .filter(|_| self.rng.random_bool(0.7))
            .cloned()
            .collect();
        let only_marked = self.rng.random_bool(0.3);
        let filter = only_marked.then(|| AttributeFilter::Compare {
            op: CompareOp::Eq,
            key: "mark".to_owned(),
            value: FilterValue::One(AttributeValue::Bool(true)),
        });
        let scope = SearchScope {
            vector_store_ids: vector_store_ids.clone(),
            file_ids: None,
            filter,
        };
        let query = self.random_vector();
        let visible = self
            .completed
            .iter()
            .filter(|((vector_store, _), document)| {
                vector_store_ids.contains(vector_store) && (document.is_marked || !only_marked)
            });
        let mut expected: Vec<(f32, &str)> = visible
            .flat_map(|(_, document)| &document.chunks)
            .map(|(text, vector)| (cosine(&query, vector), text.as_str()))
            .collect();
        expected.sort_by(|a, b| b.0.total_cmp(&a.0));

        let hits = vector_hits(&store, query, scope.clone()).await;
        let texts = texts_of(&store, &hits).await;
        let expected_texts: Vec<&str> = expected.iter().map(|(_, text)| *text).collect();
        assert_eq!(texts, expected_texts, "{context}");
        for (hit, (score, _)) in hits.iter().zip(&expected) {
            assert!(
                (hit.score - score).abs() < 1e-5,
                "{context}: {hit:?} for {score}"
            );
        }

        let sorted = |mut texts: Vec<String>| {
            texts.sort();
            texts
        };
        let hits = store
            .keyword_search("common", scope.clone(), 1000)
            .await
            .unwrap();
        assert_eq!(
            sorted(texts_of_words(&store, &hits).await),
            sorted(texts),
            "{context}"
        );
        let word = format!("word{}", self.rng.random_range(1..=self.num_words.max(1)));
        let hits = store.keyword_search(&word, scope, 1000).await.unwrap();
        let expected: Vec<&str> = expected_texts
            .into_iter()
            .filter(|text| text.split(' ').any(|part| part == word))
            .collect();
        assert_eq!(texts_of_words(&store, &hits).await, expected, "{context}");
    }
}

fn cosine(a: &[f32; DIMENSIONS], b: &[f32; DIMENSIONS]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>()
    };
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
}
