//! The index of a store that is large enough for a graph: what is built, kept and read again behind the searches.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const NUM_DOCUMENTS: i64 = 220;
const CHUNKS_PER_DOCUMENT: i64 = 100;

fn embedder() -> EmbedderId {
    EmbedderId {
        hash: "embedder".to_owned(),
        dimensions: DIMENSIONS,
    }
}

/// Documents completed in the vector store, straight in the database: through the jobs it would take minutes.
fn fill(dir: &Path, rng: &mut ChaCha8Rng, ids: std::ops::Range<i64>) {
    // With the functions that triggers call.
    let mut db = super::super::database::connect(&dir.join("inglenook.db")).unwrap();
    let tx = db.transaction().unwrap();
    for id in ids {
        tx.execute(
            "INSERT INTO files (row, id, filename, purpose, media_type, num_bytes, sha256, created_at)
             VALUES (?1, 'file-' || ?1, 'f', 'assistants', 'text/plain', 0, '', 1)",
            [id],
        )
        .unwrap();
        tx.execute(
            "INSERT INTO documents (id, vector_store_row, file_row, status, attributes, max_chunk_tokens,
                                    chunk_overlap_tokens, created_at, embedder_hash)
             VALUES (?1, 1, ?1, 'in_progress', '{}', 100, 0, 1, 'embedder')",
            [id],
        )
        .unwrap();
        for ordinal in 0..CHUNKS_PER_DOCUMENT {
            let vector: [f32; DIMENSIONS] = std::array::from_fn(|_| rng.random::<f32>() - 0.5);
            tx.execute(
                "INSERT INTO chunks (document_id, ordinal, span_start, span_end, page_first, page_last, num_tokens,
                                     heading_path, text, vector)
                 VALUES (?, ?, 0, 1, 1, 1, 1, '[]', 'w', ?)",
                rusqlite::params![id, ordinal, super::super::vector_index::vector_to_bytes(&vector)],
            )
            .unwrap();
        }
        tx.execute(
            "UPDATE documents SET status = 'completed' WHERE id = ?",
            [id],
        )
        .unwrap();
    }
    tx.commit().unwrap();
}

/// How many of the ten best by definition a search finds, over some queries.
async fn recall(store: &Store, rng: &mut ChaCha8Rng, vector_store: &str) -> f64 {
    let read = |tx: &rusqlite::Transaction| {
        let mut statement = tx.prepare(
            "SELECT c.id, c.vector FROM chunks c JOIN documents d ON d.id = c.document_id WHERE d.status = 'completed'",
        )?;
        let rows = statement.query_map([], |row| {
            let vector: Vec<u8> = row.get(1)?;
            Ok((
                row.get(0)?,
                super::super::vector_index::vector_from_bytes(&vector),
            ))
        })?;
        Ok(rows.collect::<rusqlite::Result<Vec<(i64, Vec<f32>)>>>()?)
    };
    let stored = store.database().read(read).await.unwrap();
    let length = |vector: &[f32]| vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    let mut num_found = 0;
    for _ in 0..10 {
        let query: [f32; DIMENSIONS] = std::array::from_fn(|_| rng.random::<f32>() - 0.5);
        let hits = store
            .vector_search(query.to_vec(), within(vector_store), 10)
            .await
            .unwrap();
        let mut all: Vec<(f32, i64)> = stored
            .iter()
            .map(|(id, vector)| {
                let dot: f32 = vector.iter().zip(query).map(|(a, b)| a * b).sum();
                (dot / length(vector) / length(&query), *id)
            })
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        for hit in &hits {
            let place = all.iter().position(|(_, id)| *id == hit.chunk_id);
            let (score, _) = all[place.expect("what is found is there")];
            assert!((score - hit.score).abs() < 1e-5, "{hit:?} for {score}");
        }
        assert_eq!(hits.len(), 10);
        let best = &all[..10];
        num_found += hits
            .iter()
            .filter(|hit| best.iter().any(|(_, id)| *id == hit.chunk_id))
            .count();
    }
    num_found as f64 / 100.0
}

#[tokio::test]
async fn a_large_store_has_a_graph_that_follows_its_documents_and_its_setting() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    fill(dir.path(), &mut rng, 1..NUM_DOCUMENTS + 1);
    assert!(
        recall(&store, &mut rng, &vector_store).await >= 0.98,
        "no index yet"
    );
    store.warm_vector_index().await.unwrap();
    let graph = store.parts.index.graph_state();
    assert_eq!(
        graph,
        Some((
            VectorStorage::I8,
            (NUM_DOCUMENTS * CHUNKS_PER_DOCUMENT) as usize
        ))
    );
    assert!(
        recall(&store, &mut rng, &vector_store).await >= 0.98,
        "built"
    );

    // More than the graph takes in at once, and more than it leaves outside.
    fill(dir.path(), &mut rng, NUM_DOCUMENTS + 1..NUM_DOCUMENTS + 26);
    for file in 1..=20 {
        store.delete_file(&format!("file-{file}")).await.unwrap();
    }
    assert!(
        recall(&store, &mut rng, &vector_store).await >= 0.98,
        "behind"
    );
    store.warm_vector_index().await.unwrap();
    let grown = Some((
        VectorStorage::I8,
        ((NUM_DOCUMENTS + 25) * CHUNKS_PER_DOCUMENT) as usize,
    ));
    assert_eq!(store.parts.index.graph_state(), grown);
    assert!(
        recall(&store, &mut rng, &vector_store).await >= 0.98,
        "grown"
    );

    // More changes than the log keeps: what is in memory is compared with the database, and the graph stays.
    let db = rusqlite::Connection::open(dir.path().join("inglenook.db")).unwrap();
    store.delete_file("file-21").await.unwrap();
    let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10050)
               INSERT INTO vector_changes (document_id) SELECT 0 FROM n";
    db.execute(sql, []).unwrap();
    store.warm_vector_index().await.unwrap();
    assert_eq!(store.parts.index.graph_state(), grown);
    assert_eq!(
        store.parts.index.num_vectors(),
        ((NUM_DOCUMENTS + 4) * CHUNKS_PER_DOCUMENT) as usize
    );
    assert!(
        recall(&store, &mut rng, &vector_store).await >= 0.98,
        "log too short"
    );
    store.flush().await.unwrap();
    drop(store);

    // The graph comes from the file: it still has the nodes of what was deleted.
    let store = open(dir.path()).await;
    store.warm_vector_index().await.unwrap();
    assert_eq!(store.parts.index.graph_state(), grown);
    assert!(
        recall(&store, &mut rng, &vector_store).await >= 0.98,
        "read"
    );
    drop(store);

    let store = Store::open_with(dir.path(), embedder(), VectorStorage::F16)
        .await
        .unwrap();
    assert!(
        recall(&store, &mut rng, &vector_store).await >= 0.98,
        "another storage"
    );
    store.warm_vector_index().await.unwrap();
    let rebuilt = ((NUM_DOCUMENTS + 4) * CHUNKS_PER_DOCUMENT) as usize;
    assert_eq!(
        store.parts.index.graph_state(),
        Some((VectorStorage::F16, rebuilt))
    );
    assert!(recall(&store, &mut rng, &vector_store).await >= 0.98, "f16");
}
