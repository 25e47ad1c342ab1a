//! The vector index alone: recall of the graph in every storage, wear, and the file it is saved to.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::Digest;

use super::super::graph::{Graph, Patience};
use super::super::id_set::IdSet;
use super::super::index_file;
use super::super::vector_index::{ChunkVector, Position, VectorIndex, add_to_graph, unit};
use super::*;

const DIMENSIONS: usize = 64;
const CHUNKS_PER_DOCUMENT: usize = 30;

/// Vectors around random centres, as those of a real collection lie around its topics.
fn clustered(rng: &mut ChaCha8Rng, count: usize) -> Vec<Vec<f32>> {
    let mut around = |centre: &[f32], spread: f32| -> Vec<f32> {
        centre
            .iter()
            .map(|value| value + spread * (rng.random::<f32>() + rng.random::<f32>() - 1.0))
            .collect()
    };
    let centres: Vec<Vec<f32>> = (0..100).map(|_| around(&[0.0; DIMENSIONS], 1.0)).collect();
    (0..count)
        .map(|i| around(&centres[i % centres.len()], 0.5))
        .collect()
}

/// An index, and what it should hold: the vectors of each document. Chunk ids are places in `all`.
struct Filled {
    index: VectorIndex,
    all: Vec<Vec<f32>>,
    /// The chunks of each document.
    documents: std::collections::BTreeMap<i64, Vec<i64>>,
    next_document: i64,
}

impl Filled {
    fn new(vectors: Vec<Vec<f32>>) -> Self {
        let mut filled = Self {
            index: VectorIndex::new(DIMENSIONS),
            all: Vec::new(),
            documents: Default::default(),
            next_document: 0,
        };
        filled.add(vectors);
        filled
    }

    fn add(&mut self, vectors: Vec<Vec<f32>>) {
        for document in vectors.chunks(CHUNKS_PER_DOCUMENT) {
            let first = self.all.len() as i64;
            let chunks: Vec<ChunkVector> = document
                .iter()
                .zip(first..)
                .map(|(vector, chunk_id)| ChunkVector {
                    chunk_id,
                    vector: vector.clone(),
                })
                .collect();
            self.index
                .add_document(self.next_document, &chunks)
                .unwrap();
            let ids = chunks.iter().map(|chunk| chunk.chunk_id).collect();
            self.documents.insert(self.next_document, ids);
            self.all.extend_from_slice(document);
            self.next_document += 1;
        }
    }

    fn remove(&mut self, document_id: i64) {
        self.index.remove_document(document_id);
        self.documents.remove(&document_id);
    }

    fn build_graph(&mut self, storage: VectorStorage) {
        let mut graph = Graph::new(DIMENSIONS, storage).unwrap();
        let rows = self.index.missing_in(&graph, 0, usize::MAX);
        let full = |ids: &[i64]| Ok(ids.iter().map(|id| unit(&self.all[*id as usize])).collect());
        add_to_graph(&mut graph, self.index.rows(), &rows, full, 2).unwrap();
        self.index.set_graph(Some(graph));
    }

    fn grow_graph(&mut self) {
        while let (Some(place), _) = self.index.outside_the_graph() {
            let full =
                |ids: &[i64]| Ok(ids.iter().map(|id| unit(&self.all[*id as usize])).collect());
            self.index.grow_graph(place, 8, full).unwrap();
        }
    }

    fn all_documents(&self) -> IdSet {
        self.documents.keys().copied().collect()
    }

    /// The best of the allowed ones by definition, apart from the code under test.
    fn best(&self, query: &[f32], allowed: &IdSet, limit: usize) -> Vec<i64> {
        let allowed = self
            .documents
            .iter()
            .filter(|(id, _)| allowed.contains(**id));
        let mut all: Vec<(f64, i64)> = allowed
            .flat_map(|(_, chunks)| chunks)
            .map(|chunk| (cosine(query, &self.all[*chunk as usize]), *chunk))
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.into_iter()
            .take(limit)
            .map(|(_, chunk)| chunk)
            .collect()
    }

    /// How much of the ten best a search in the graph finds; that it finds only what is allowed is checked.
    fn recall(&self, queries: &[Vec<f32>], allowed: &IdSet) -> f64 {
        let mut num_found = 0;
        for query in queries {
            let search = self
                .index
                .search_graph(query, allowed, 10, 128, Patience::ENDLESS);
            let found = search.unwrap();
            let everything = self.best(query, allowed, usize::MAX);
            for chunk in &found {
                assert!(everything.contains(chunk), "{chunk} is not allowed or gone");
            }
            num_found += everything[..10]
                .iter()
                .filter(|id| found.contains(id))
                .count();
        }
        num_found as f64 / (10 * queries.len()) as f64
    }
}

/// In double precision and by its definition, apart from the code under test.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

const STORAGES: [VectorStorage; 3] = [VectorStorage::F32, VectorStorage::F16, VectorStorage::I8];

#[test]
fn the_graph_finds_nearly_what_comparing_all_finds_in_every_storage_with_and_without_a_filter() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut filled = Filled::new(clustered(&mut rng, 6_000));
    let queries = clustered(&mut rng, 20);
    let all = filled.all_documents();
    let tenth: IdSet = all.iter().filter(|document| document % 10 == 3).collect();
    for storage in STORAGES {
        filled.build_graph(storage);
        for (name, allowed) in [("all", &all), ("a tenth", &tenth)] {
            let recall = filled.recall(&queries, allowed);
            assert!(recall >= 0.98, "{storage:?}, {name}: {recall}");
        }
    }
}

#[test]
fn comparing_all_finds_exactly_the_best() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let filled = Filled::new(clustered(&mut rng, 3_000));
    let half: IdSet = (0..100).filter(|document| document % 2 == 0).collect();
    for query in clustered(&mut rng, 20) {
        let found = filled.index.search(&query, &half, 10).unwrap();
        let best = filled.best(&query, &half, 10);
        assert!(best.iter().all(|chunk| found.contains(chunk)));
        assert!(found.len() < 200, "{} are compared exactly", found.len());
    }
}

#[test]
fn a_graph_that_lost_and_gained_documents_finds_as_much_as_a_new_one() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for storage in STORAGES {
        let mut filled = Filled::new(clustered(&mut rng, 3_000));
        filled.build_graph(storage);
        for _ in 0..3 {
            let ids: Vec<i64> = filled.documents.keys().copied().collect();
            ids.iter()
                .filter(|id| *id % 2 == 0)
                .for_each(|id| filled.remove(*id));
            filled.add(clustered(&mut rng, 1_500));
            // Some are in the graph, others not yet: they are found in any case.
            let queries = clustered(&mut rng, 10);
            let outside = filled.recall(&queries, &filled.all_documents());
            filled.grow_graph();
            assert_eq!(filled.index.outside_the_graph(), (None, 0));
            let grown = filled.recall(&queries, &filled.all_documents());
            assert!(
                outside >= 0.97 && grown >= 0.97,
                "{storage:?}: {outside}, {grown}"
            );
        }
        assert!(filled.index.is_worn());
        filled.build_graph(storage);
        assert!(!filled.index.is_worn());
        let queries = clustered(&mut rng, 10);
        let recall = filled.recall(&queries, &filled.all_documents());
        assert!(recall >= 0.97, "{storage:?}, built anew: {recall}");
        let num_rows = filled.index.rows().len();
        filled.add(clustered(&mut rng, 1_500));
        assert_eq!(filled.index.rows().len(), num_rows, "rows are used again");
    }
}

#[test]
fn a_search_far_from_all_that_is_allowed_is_given_up_and_still_exact() {
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let mut filled = Filled::new(clustered(&mut rng, 4_000));
    filled.build_graph(VectorStorage::I8);
    let all = filled.all_documents();
    for query in clustered(&mut rng, 10) {
        // Those whose nearest chunk is furthest away.
        let mut documents: Vec<i64> = all.iter().collect();
        let nearest = |document: &i64| {
            let chunks = filled.documents[document].iter();
            let scores = chunks.map(|chunk| cosine(&query, &filled.all[*chunk as usize]));
            scores.fold(f64::NEG_INFINITY, f64::max)
        };
        documents.sort_by(|a, b| nearest(a).total_cmp(&nearest(b)));
        let far: IdSet = documents[..60].iter().copied().collect();
        let best = filled.best(&query, &far, 10);
        let everything = filled.best(&query, &far, usize::MAX);
        let asked_enough = Patience {
            max_asked: 300,
            ..Patience::ENDLESS
        };
        let too_few_allowed = Patience {
            least_share: 0.2,
            ..Patience::ENDLESS
        };
        for patience in [asked_enough, too_few_allowed] {
            let search = filled.index.search_graph(&query, &far, 10, 128, patience);
            let found = search.unwrap();
            assert!(best.iter().all(|chunk| found.contains(chunk)));
            assert!(found.iter().all(|chunk| everything.contains(chunk)));
        }
    }
}

#[test]
fn a_saved_index_loads_the_same_and_only_for_its_embedder() {
    let dir = tempfile::tempdir().unwrap();
    let path = index_file::path(dir.path());
    let embedder = EmbedderId {
        hash: "e".into(),
        dimensions: DIMENSIONS,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for storage in [None, Some(VectorStorage::F16), Some(VectorStorage::I8)] {
        let mut filled = Filled::new(clustered(&mut rng, 500));
        if let Some(storage) = storage {
            filled.build_graph(storage);
        }
        filled.remove(3);
        filled.add(clustered(&mut rng, 5));
        filled.index.position = Position { seq: 17, nonce: -4 };
        index_file::save(&filled.index, &path, &embedder).unwrap();
        let loaded = index_file::load(&path, &embedder).unwrap();
        assert!(!loaded.is_of_earlier_format);
        let (mut loaded, graph) = (loaded.index, loaded.graph);
        assert_eq!(loaded.position, filled.index.position);
        assert_eq!(loaded.len(), 475);
        let queries = clustered(&mut rng, 20);
        let allowed = filled.all_documents();
        let with_graph = graph.map(|graph| graph.load().unwrap());
        assert_eq!(with_graph.as_ref().map(Graph::storage), storage);
        loaded.set_graph(with_graph);
        // Runs of what is gone are not saved, so only how many rows are outside is the same.
        assert_eq!(
            loaded.outside_the_graph().1,
            filled.index.outside_the_graph().1
        );
        for query in &queries {
            let search = |index: &VectorIndex| {
                index
                    .search_graph(query, &allowed, 7, 64, Patience::ENDLESS)
                    .unwrap()
            };
            assert_eq!(search(&loaded), search(&filled.index));
        }
        filled.index = loaded;
        if storage.is_some() {
            filled.add(clustered(&mut rng, 100));
            filled.grow_graph();
            let recall = filled.recall(&queries, &filled.all_documents());
            assert!(recall >= 0.98, "{storage:?}: {recall}");
        }
    }
    for other in [("f", DIMENSIONS), ("e", 32)] {
        let other = EmbedderId {
            hash: other.0.into(),
            dimensions: other.1,
        };
        assert!(index_file::load(&path, &other).is_err());
    }
    let leftovers = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(leftovers, 1, "saving leaves only the file itself");
}

/// A saved index as it was written before there were sketches.
fn without_sketches(file: &[u8]) -> Vec<u8> {
    let (content, trailer) = file.split_at(file.len() - 44);
    let length = u32::from_le_bytes(trailer[..4].try_into().unwrap()) as usize;
    let (content, description) = content.split_at(content.len() - length);
    let mut description: serde_json::Value = serde_json::from_slice(description).unwrap();
    let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
    let num_rows = number(&description["num_rows"]);
    let graph = number(&description["graph"]["num_bytes"]);
    let runs = number(&description["num_runs"]) * 12;
    let sketches = graph + num_rows * (DIMENSIONS + 16) + runs;
    let after = sketches + num_rows * (DIMENSIONS / 4 + 8);
    description["format"] = 2.into();
    let description = serde_json::to_vec(&description).unwrap();
    let length = (description.len() as u32).to_le_bytes();
    let rows = [
        &content[graph..sketches],
        &content[after..],
        &description,
        &length,
    ]
    .concat();
    let checksum = sha2::Sha256::digest(&rows);
    [&content[..graph], &rows, &checksum[..], b"INGLEVEC"].concat()
}

#[test]
fn an_index_of_the_earlier_format_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = index_file::path(dir.path());
    let embedder = EmbedderId {
        hash: "e".into(),
        dimensions: DIMENSIONS,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut filled = Filled::new(clustered(&mut rng, 2_000));
    filled.build_graph(VectorStorage::I8);
    index_file::save(&filled.index, &path, &embedder).unwrap();
    std::fs::write(&path, without_sketches(&std::fs::read(&path).unwrap())).unwrap();
    let loaded = index_file::load(&path, &embedder).unwrap();
    assert!(loaded.is_of_earlier_format);
    assert_eq!(loaded.graph.unwrap().load().unwrap().num_nodes(), 2_000);
    let allowed = filled.all_documents();
    for query in clustered(&mut rng, 10) {
        let found = loaded.index.compare_all(&query, &allowed, 10);
        assert_eq!(found, filled.index.compare_all(&query, &allowed, 10));
    }
}

#[test]
fn any_damage_to_a_saved_index_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = index_file::path(dir.path());
    let embedder = EmbedderId {
        hash: "e".into(),
        dimensions: DIMENSIONS,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut filled = Filled::new(clustered(&mut rng, 60));
    filled.build_graph(VectorStorage::I8);
    index_file::save(&filled.index, &path, &embedder).unwrap();
    let good = std::fs::read(&path).unwrap();
    let is_good = || match index_file::load(&path, &embedder) {
        Ok(loaded) => loaded.graph.expect("it has a graph").load().is_ok(),
        Err(_) => false,
    };
    assert!(is_good());
    for at in (0..good.len())
        .step_by(97)
        .chain(good.len() - 100..good.len())
    {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, bad).unwrap();
        assert!(!is_good(), "byte {at} of {}", good.len());
        std::fs::write(&path, &good[..at]).unwrap();
        assert!(!is_good(), "cut at {at}");
    }
}

#[test]
fn an_index_that_lost_half_of_its_vectors_says_that_it_is_worn() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut filled = Filled::new(clustered(&mut rng, 4_000));
    filled.build_graph(VectorStorage::I8);
    for document_id in 0..40 {
        filled.remove(document_id);
    }
    assert!(!filled.index.is_worn());
    for document_id in 40..80 {
        filled.remove(document_id);
    }
    assert!(filled.index.is_worn());
    assert_eq!(filled.index.len(), 4_000 - 80 * 30);
}
