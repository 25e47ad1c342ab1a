//! The vector index alone: recall of the graph, wear, and the file it is saved to.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::index_file;
use super::super::vector_index::{ChunkVector, Position, VectorIndex};
use super::*;

const DIMENSIONS: usize = 64;
const CHUNKS_PER_DOCUMENT: i64 = 30;

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

fn filled(vectors: &[Vec<f32>]) -> VectorIndex {
    let mut index = VectorIndex::new(DIMENSIONS).unwrap();
    let chunks: Vec<ChunkVector> = vectors
        .iter()
        .zip(0..)
        .map(|(vector, chunk_id)| ChunkVector {
            document_id: chunk_id / CHUNKS_PER_DOCUMENT,
            chunk_id,
            vector: vector.clone(),
        })
        .collect();
    for batch in chunks.chunks(4096) {
        index.add(batch).unwrap();
    }
    index
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

#[test]
fn the_graph_finds_nearly_what_comparing_all_finds_with_and_without_a_filter() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let vectors = clustered(&mut rng, 30_000);
    let index = filled(&vectors);
    let all: Vec<i64> = (0..1000).collect();
    let tenth: Vec<i64> = (0..1000).filter(|document| document % 10 == 3).collect();
    for (name, allowed) in [("all", all), ("a tenth", tenth)] {
        let queries = clustered(&mut rng, 50);
        let mut num_found = 0;
        for query in &queries {
            let is_allowed = |chunk: &i64| {
                allowed
                    .binary_search(&(chunk / CHUNKS_PER_DOCUMENT))
                    .is_ok()
            };
            let mut expected: Vec<(f64, i64)> = (0..30_000_i64)
                .filter(is_allowed)
                .map(|chunk| (cosine(query, &vectors[chunk as usize]), chunk))
                .collect();
            expected.sort_by(|a, b| b.0.total_cmp(&a.0));
            let exact = index.search_all(query, &allowed, 10).unwrap();
            for (hit, (score, _)) in exact.iter().zip(&expected) {
                assert!(
                    (f64::from(hit.score) - score).abs() < 1e-5,
                    "{hit:?} for {score}"
                );
            }
            let found = index.search_graph(query, &allowed, 10).unwrap();
            assert_eq!(found.len(), 10);
            assert!(
                found.iter().all(|hit| is_allowed(&hit.chunk_id)),
                "{name}: {found:?}"
            );
            assert!(found.is_sorted_by(|a, b| a.score >= b.score));
            let best: Vec<i64> = expected[..10].iter().map(|(_, chunk)| *chunk).collect();
            num_found += found
                .iter()
                .filter(|hit| best.contains(&hit.chunk_id))
                .count();
        }
        let recall = num_found as f64 / (10 * queries.len()) as f64;
        println!("recall at 10, {name}: {recall:.3}");
        assert!(recall >= 0.95, "recall at 10, {name}: {recall}");
    }
}

#[test]
fn a_saved_index_loads_the_same_and_only_for_its_embedder() {
    let dir = tempfile::tempdir().unwrap();
    let path = index_file::path(dir.path());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let vectors = clustered(&mut rng, 500);
    let mut index = filled(&vectors);
    index.remove_document(3).unwrap();
    index.position = Position { seq: 17, nonce: -4 };
    let embedder = EmbedderId {
        hash: "e".into(),
        dimensions: DIMENSIONS,
    };
    index_file::save(&index, &path, &embedder).unwrap();
    let mut loaded = index_file::load(&path, &embedder).unwrap();
    assert_eq!((loaded.position, loaded.len()), (index.position, 470));
    assert_eq!(loaded.documents(), index.documents());
    let documents: Vec<i64> = (0..20).collect();
    for query in clustered(&mut rng, 20) {
        assert_eq!(
            loaded.search_all(&query, &documents, 7).unwrap(),
            index.search_all(&query, &documents, 7).unwrap()
        );
    }
    let again = ChunkVector {
        document_id: 3,
        chunk_id: 9_999,
        vector: vectors[0].clone(),
    };
    loaded.add(&[again]).unwrap();
    assert_eq!(
        loaded.search_graph(&vectors[0], &[3], 5).unwrap()[0].chunk_id,
        9_999
    );
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

#[test]
fn an_index_that_lost_half_of_its_vectors_says_that_it_is_worn() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut index = filled(&clustered(&mut rng, 4_000));
    for document_id in 0..40 {
        index.remove_document(document_id).unwrap();
    }
    assert!(!index.is_worn());
    for document_id in 40..80 {
        index.remove_document(document_id).unwrap();
    }
    assert!(index.is_worn());
    assert_eq!(index.len(), 4_000 - 80 * 30);
}

/// Prints what the sizes that decide between the two ways cost; run it with --release.
#[test]
#[ignore = "a measurement"]
fn what_the_ways_of_searching_cost() {
    const DIMENSIONS: usize = 384;
    for count in [20_000, 50_000] {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut random = || {
            (0..DIMENSIONS)
                .map(|_| rng.random::<f32>() - 0.5)
                .collect::<Vec<f32>>()
        };
        let chunks: Vec<ChunkVector> = (0..count)
            .map(|chunk_id| ChunkVector {
                document_id: chunk_id / 100,
                chunk_id,
                vector: random(),
            })
            .collect();
        let queries: Vec<_> = (0..50).map(|_| random()).collect();
        let mut index = VectorIndex::new(DIMENSIONS).unwrap();
        let start = std::time::Instant::now();
        for batch in chunks.chunks(4096) {
            index.add(batch).unwrap();
        }
        println!("{count} x {DIMENSIONS}: built in {:?}", start.elapsed());
        let documents: Vec<i64> = (0..count / 100).collect();
        for (name, allowed) in [("20000", &documents[..200]), ("all", &documents[..])] {
            let start = std::time::Instant::now();
            queries
                .iter()
                .for_each(|query| drop(index.search_all(query, allowed, 10).unwrap()));
            let exact = start.elapsed() / queries.len() as u32;
            let start = std::time::Instant::now();
            queries
                .iter()
                .for_each(|query| drop(index.search_graph(query, allowed, 10).unwrap()));
            println!(
                "  {name} allowed: exact {exact:?}, graph {:?}",
                start.elapsed() / queries.len() as u32
            );
        }
        let dir = tempfile::tempdir().unwrap();
        let path = index_file::path(dir.path());
        let embedder = EmbedderId {
            hash: "e".into(),
            dimensions: DIMENSIONS,
        };
        let start = std::time::Instant::now();
        index_file::save(&index, &path, &embedder).unwrap();
        let saved = start.elapsed();
        let start = std::time::Instant::now();
        drop(index_file::load(&path, &embedder).unwrap());
        println!("  saved in {saved:?}, loaded in {:?}", start.elapsed());
    }
}
