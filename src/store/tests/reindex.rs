//! Documents that are made anew answer as they were until one step changes them.

use rusqlite::{Connection, Transaction};

use super::*;

const X: [f32; DIMENSIONS] = [1.0, 0.0, 0.0, 0.0];
const Y: [f32; DIMENSIONS] = [0.0, 1.0, 0.0, 0.0];
/// What cuts now; documents of the other tests were cut by version 0.
const VERSION: u32 = 1;

fn all() -> ReindexScope {
    ReindexScope {
        max_tokens: 250,
        chunker_version: VERSION,
        ..ReindexScope::default()
    }
}

async fn claim(store: &Store) -> Reindex {
    let claimed = store.claim_next_reindex(VERSION).await.unwrap();
    claimed.expect("a document is queued")
}

async fn num_pending(store: &Store) -> i64 {
    let count = |tx: &Transaction| {
        Ok(tx.query_row("SELECT count(*) FROM pending_chunks", [], |row| row.get(0))?)
    };
    store.database().read(count).await.unwrap()
}

#[tokio::test]
async fn the_old_chunks_answer_until_the_new_ones_are_complete() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = ingest(&store, &vector_store, &[("old one", X), ("old two", Y)]).await;
    store.warm_vector_index().await.unwrap();
    assert_eq!(store.queue_reindex(all()).await.unwrap(), 1);

    let reindex = claim(&store).await;
    assert_eq!(
        (reindex.file_id.as_str(), reindex.chunks_done),
        (file.as_str(), 0)
    );
    let within = || within(&vector_store);
    for ordinal in 0..3 {
        let new = vec![chunk(ordinal, "new", X.to_vec())];
        store.append_pending_chunks(&reindex, new, 3).await.unwrap();
        assert_eq!(
            vector_texts(&store, X, within()).await,
            ["old one", "old two"]
        );
        assert!(keyword_texts(&store, "new", within()).await.is_empty());
        let progress = store.reindex_progress().await.unwrap();
        assert_eq!(
            (progress.chunks_done, progress.chunks_total),
            (u64::from(ordinal) + 1, 3)
        );
        assert_eq!(
            store.document(&vector_store, &file).await.unwrap().status,
            DocumentStatus::Completed
        );
    }
    store.complete_reindex(&reindex, 3).await.unwrap();

    assert_eq!(
        vector_texts(&store, X, within()).await,
        ["new", "new", "new"]
    );
    assert_eq!(keyword_texts(&store, "new", within()).await.len(), 3);
    assert!(keyword_texts(&store, "old", within()).await.is_empty());
    assert_eq!(num_pending(&store).await, 0);
    let document = store.document(&vector_store, &file).await.unwrap();
    assert_eq!(
        (document.num_chunks, document.progress.chunks_total),
        (3, 3)
    );
    let progress = store.reindex_progress().await.unwrap();
    assert!(
        progress.is_finished() && progress.num_done == 1,
        "{progress:?}"
    );
    // It is as it should be now.
    assert_eq!(store.queue_reindex(all()).await.unwrap(), 0);
}

#[tokio::test]
async fn what_was_interrupted_goes_on_with_the_next_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    ingest(&store, &vector_store, &[("old", X)]).await;
    store.queue_reindex(all()).await.unwrap();
    let former = claim(&store).await;
    let new = || vec![chunk(0, "new", X.to_vec())];
    store
        .append_pending_chunks(&former, new(), 2)
        .await
        .unwrap();
    drop(store);

    let store = open(dir.path()).await;
    assert!(store.claim_next_reindex(VERSION).await.unwrap().is_none());
    assert_eq!(store.requeue_interrupted_reindexes().await.unwrap(), 1);
    let reindex = claim(&store).await;
    assert_eq!(reindex.chunks_done, 1);
    let late = store.append_pending_chunks(&former, new(), 2).await;
    assert!(matches!(late, Err(StoreError::Gone { .. })), "{late:?}");
    let early = store.complete_reindex(&reindex, 2).await;
    assert!(
        matches!(early, Err(StoreError::Invalid { .. })),
        "{early:?}"
    );
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["old"]
    );
    let last = vec![chunk(1, "newer", Y.to_vec())];
    store
        .append_pending_chunks(&reindex, last, 2)
        .await
        .unwrap();
    store.complete_reindex(&reindex, 2).await.unwrap();
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["new", "newer"]
    );
}

#[tokio::test]
async fn what_another_model_or_chunker_left_unfinished_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(dir.path(), "one").await;
    let vector_store = create_vector_store(&store, "a").await;
    ingest(&store, &vector_store, &[("old", X)]).await;
    store.queue_reindex(all()).await.unwrap();
    let reindex = claim(&store).await;
    let new = || vec![chunk(0, "new", X.to_vec())];
    store
        .append_pending_chunks(&reindex, new(), 2)
        .await
        .unwrap();
    drop(store);

    let store = open_with(dir.path(), "two").await;
    store.requeue_interrupted_reindexes().await.unwrap();
    let reindex = claim(&store).await;
    assert_eq!((reindex.chunks_done, num_pending(&store).await), (0, 0));
    store
        .append_pending_chunks(&reindex, new(), 1)
        .await
        .unwrap();
    store.release_reindex(&reindex).await.unwrap();
    let newer = store
        .claim_next_reindex(VERSION + 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((newer.chunks_done, num_pending(&store).await), (0, 0));
}

#[tokio::test]
async fn a_collection_is_cut_as_it_is_told_and_what_is_so_already_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let (one, two) = (
        create_vector_store(&store, "a").await,
        create_vector_store(&store, "b").await,
    );
    ingest(&store, &one, &[("old", X)]).await;
    let other = ingest(&store, &two, &[("other", X)]).await;
    let scope = |chunking| ReindexScope {
        vector_store_id: Some(one.clone()),
        chunking,
        max_tokens: 80,
        chunker_version: 0,
    };
    // They were cut for 100, but the model of now reads 80.
    assert_eq!(store.queue_reindex(scope(None)).await.unwrap(), 1);
    let chunking = Chunking {
        max_tokens: 60,
        overlap_tokens: 40,
    };
    assert_eq!(
        store.queue_reindex(scope(Some(chunking))).await.unwrap(),
        1,
        "cut otherwise"
    );
    assert_eq!(
        store.queue_reindex(scope(Some(chunking))).await.unwrap(),
        0,
        "the same again"
    );
    let reindex = store.claim_next_reindex(0).await.unwrap().unwrap();
    // The overlap is at most a quarter.
    assert_eq!(
        reindex.chunking,
        Chunking {
            max_tokens: 60,
            overlap_tokens: 15
        }
    );
    let new = vec![chunk(0, "new", X.to_vec())];
    store.append_pending_chunks(&reindex, new, 1).await.unwrap();
    store.complete_reindex(&reindex, 1).await.unwrap();
    assert_eq!(store.queue_reindex(scope(Some(chunking))).await.unwrap(), 0);
    assert_eq!(
        store.document(&two, &other).await.unwrap().chunking,
        CHUNKING
    );

    let update = VectorStoreUpdate {
        chunking: Some(Some(CHUNKING)),
        ..VectorStoreUpdate::default()
    };
    let updated = store.update_vector_store(&one, update).await.unwrap();
    assert_eq!(updated.chunking, Some(CHUNKING));
    assert_eq!(store.chunking_of(&one).await.unwrap(), Some(CHUNKING));
    assert_eq!(store.chunking_of(&two).await.unwrap(), None);
    let own = ReindexScope {
        max_tokens: 250,
        ..scope(None)
    };
    assert_eq!(
        store.queue_reindex(own).await.unwrap(),
        1,
        "as the collection says"
    );
}

#[tokio::test]
async fn a_document_that_is_given_up_or_taken_back_answers_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = ingest(&store, &vector_store, &[("old", X)]).await;
    let kept = ingest(&store, &vector_store, &[("kept", Y)]).await;
    store.queue_reindex(all()).await.unwrap();
    let reindex = claim(&store).await;
    let new = vec![chunk(0, "new", X.to_vec())];
    store.append_pending_chunks(&reindex, new, 2).await.unwrap();
    store.fail_reindex(&reindex, "it burnt").await.unwrap();
    let failures = store.reindex_failures(10).await.unwrap();
    assert_eq!(
        (failures[0].file_id.as_str(), failures[0].message.as_str()),
        (file.as_str(), "it burnt")
    );
    assert_eq!(num_pending(&store).await, 0);

    let running = claim(&store).await;
    assert_eq!(running.file_id, kept);
    assert_eq!(store.cancel_reindex().await.unwrap(), 1);
    let late = store.complete_reindex(&running, 0).await;
    assert!(matches!(late, Err(StoreError::Gone { .. })), "{late:?}");
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["old", "kept"]
    );
    // What failed is tried again by the next run.
    assert_eq!(store.queue_reindex(all()).await.unwrap(), 2);
}

#[tokio::test]
async fn a_document_deleted_meanwhile_takes_its_new_chunks_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = ingest(&store, &vector_store, &[("old", X)]).await;
    store.queue_reindex(all()).await.unwrap();
    let reindex = claim(&store).await;
    let new = vec![chunk(0, "new", X.to_vec())];
    store.append_pending_chunks(&reindex, new, 1).await.unwrap();
    store.detach(&vector_store, &file).await.unwrap();
    let late = store.complete_reindex(&reindex, 1).await;
    assert!(matches!(late, Err(StoreError::Gone { .. })), "{late:?}");
    assert_eq!(num_pending(&store).await, 0);
    assert!(
        vector_texts(&store, X, within(&vector_store))
            .await
            .is_empty()
    );
    assert!(store.reindex_progress().await.unwrap().is_finished());
}

#[tokio::test]
async fn documents_of_earlier_versions_are_kept_and_can_be_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    // As an earlier version left it.
    let connection = Connection::open(dir.path().join("inglenook.db")).unwrap();
    for migration in [
        include_str!("../migrations/0001_initial.sql"),
        include_str!("../migrations/0002_batches_uploads_expiry.sql"),
        include_str!("../migrations/0003_conversations.sql"),
        include_str!("../migrations/0004_files_in_pieces.sql"),
        include_str!("../migrations/0005_response_events.sql"),
    ] {
        connection.execute_batch(migration).unwrap();
    }
    connection
        .execute_batch(
            "PRAGMA user_version = 5;
             INSERT INTO files (row, id, filename, purpose, media_type, num_bytes, sha256, created_at)
             VALUES (1, 'file-1', 'a.txt', 'assistants', 'text/plain', 3, 'x', 0);
             INSERT INTO vector_stores (row, id, name, metadata, created_at, last_active_at)
             VALUES (1, 'vs_1', 'a', '{}', 0, 0);
             INSERT INTO documents (id, vector_store_row, file_row, status, attributes, max_chunk_tokens,
                                    chunk_overlap_tokens, created_at, embedder_hash, num_chunks)
             VALUES (1, 1, 1, 'completed', '{}', 100, 10, 0, 'embedder', 1);
             INSERT INTO chunks (document_id, ordinal, span_start, span_end, page_first, page_last, num_tokens,
                                 heading_path, text, vector)
             VALUES (1, 0, 0, 3, 1, 1, 1, '[]', 'old', x'0000803f000000000000000000000000');",
        )
        .unwrap();
    drop(connection);

    let store = open(dir.path()).await;
    assert_eq!(vector_texts(&store, X, within("vs_1")).await, ["old"]);
    assert_eq!(store.vector_store("vs_1").await.unwrap().chunking, None);
    assert_eq!(store.queue_reindex(all()).await.unwrap(), 1);
}

#[tokio::test]
async fn what_another_embedder_made_is_searched_beside_until_it_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let former = open_with(dir.path(), "former").await;
    former.remember_embedder("former-model").await.unwrap();
    let vector_store = create_vector_store(&former, "a").await;
    ingest(&former, &vector_store, &[("former words", X)]).await;
    drop(former);

    let store = open_with(dir.path(), "now").await;
    ingest(&store, &vector_store, &[("new words", X)]).await;
    let others = store.other_embedders().await.unwrap();
    assert_eq!(
        others,
        [OtherEmbedder {
            id: EmbedderId {
                hash: "former".to_owned(),
                dimensions: DIMENSIONS
            },
            name: Some("former-model".to_owned()),
            num_documents: 1,
        }]
    );
    let beside = store.of_embedder(others[0].id.clone());
    let scope = || within(&vector_store);
    assert_eq!(vector_texts(&store, X, scope()).await, ["new words"]);
    assert_eq!(vector_texts(&beside, X, scope()).await, ["former words"]);
    assert_eq!(
        keyword_texts(&beside, "words", scope()).await,
        ["former words"]
    );
    store.flush().await.unwrap();
    beside.flush().await.unwrap();

    assert_eq!(
        store
            .queue_reindex(ReindexScope {
                chunker_version: 0,
                ..all()
            })
            .await
            .unwrap(),
        1
    );
    let reindex = store.claim_next_reindex(0).await.unwrap().unwrap();
    let new = vec![chunk(0, "made anew", X.to_vec())];
    store.append_pending_chunks(&reindex, new, 1).await.unwrap();
    assert_eq!(vector_texts(&beside, X, scope()).await, ["former words"]);
    store.complete_reindex(&reindex, 1).await.unwrap();
    assert!(vector_texts(&beside, X, scope()).await.is_empty());
    assert_eq!(vector_texts(&store, X, scope()).await.len(), 2);
    assert!(store.other_embedders().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_document_that_is_not_complete_is_begun_anew_when_its_collection_is_cut_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = create_file(&store, "file.txt").await;
    attach(&store, &vector_store, &file).await;
    let own = NewDocument {
        file_id: create_file(&store, "own.txt").await,
        attributes: Attributes::new(),
        chunking: CHUNKING,
        has_own_chunking: true,
        if_exists: IfExists::Keep,
        password: None,
    };
    store.attach_new(&vector_store, own).await.unwrap();
    let job = store.claim_next_job().await.unwrap().unwrap();
    let half = || vec![chunk(0, "half", X.to_vec())];
    store.append_chunks(&job, half()).await.unwrap();

    let chunking = Chunking {
        max_tokens: 60,
        overlap_tokens: 40,
    };
    let update = VectorStoreUpdate {
        chunking: Some(Some(chunking)),
        recut: Some(ReindexScope {
            vector_store_id: Some(vector_store.clone()),
            chunking: Some(chunking),
            max_tokens: 80,
            chunker_version: 0,
        }),
        ..VectorStoreUpdate::default()
    };
    store
        .update_vector_store(&vector_store, update)
        .await
        .unwrap();
    let late = store.append_chunks(&job, half()).await;
    assert!(matches!(late, Err(StoreError::Gone { .. })), "{late:?}");
    let document = store.document(&vector_store, &file).await.unwrap();
    assert_eq!(
        (document.num_chunks, document.stage),
        (0, Some(Stage::Queued))
    );
    let mut claimed = Vec::new();
    while let Some(job) = store.claim_next_job().await.unwrap() {
        let chunking = (job.chunking.max_tokens, job.chunking.overlap_tokens);
        claimed.push((job.file_id.clone(), chunking));
        store.append_chunks(&job, half()).await.unwrap();
        store.complete_job(&job, 1, Vec::new()).await.unwrap();
    }
    let as_it_was = (CHUNKING.max_tokens, CHUNKING.overlap_tokens);
    assert_eq!(claimed[0], (file, (60, 15)));
    assert_eq!(claimed[1].1, as_it_was);
}

#[tokio::test]
async fn a_collection_that_is_cut_otherwise_while_it_is_cut_anew_forgets_what_was_begun() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    ingest(&store, &vector_store, &[("old", X)]).await;
    let change = async |max_tokens| {
        let chunking = Some(Chunking {
            max_tokens,
            ..CHUNKING
        });
        let update = VectorStoreUpdate {
            chunking: Some(chunking),
            recut: Some(ReindexScope {
                vector_store_id: Some(vector_store.clone()),
                chunking,
                max_tokens: 250,
                chunker_version: 0,
            }),
            ..VectorStoreUpdate::default()
        };
        store
            .update_vector_store(&vector_store, update)
            .await
            .unwrap();
    };
    change(60).await;
    let begun = store.claim_next_reindex(0).await.unwrap().unwrap();
    let new = || vec![chunk(0, "new", X.to_vec())];
    store.append_pending_chunks(&begun, new(), 2).await.unwrap();
    change(70).await;
    let late = store.append_pending_chunks(&begun, new(), 2).await;
    assert!(matches!(late, Err(StoreError::Gone { .. })), "{late:?}");
    let again = store.claim_next_reindex(0).await.unwrap().unwrap();
    assert_eq!((again.chunking.max_tokens, again.chunks_done), (70, 0));
    assert_eq!(num_pending(&store).await, 0);
    // Back to what it is: nothing is to be done.
    change(CHUNKING.max_tokens).await;
    assert_eq!(store.claim_next_reindex(0).await.unwrap(), None);
    assert!(store.reindex_progress().await.unwrap().is_finished());
}
