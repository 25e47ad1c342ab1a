//! Ingestion jobs: resuming, giving up, and losing a job to somebody else.

use super::*;

const X: [f32; DIMENSIONS] = [1.0, 0.0, 0.0, 0.0];

async fn store_with_a_queued_file(dir: &Path) -> (Store, String, String) {
    let store = open(dir).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = create_file(&store, "f").await;
    attach(&store, &vector_store, &file).await;
    (store, vector_store, file)
}

#[tokio::test]
async fn chunks_are_found_only_after_completion() {
    let dir = tempfile::tempdir().unwrap();
    let (store, vector_store, file) = store_with_a_queued_file(dir.path()).await;
    let job = store.claim_next_job().await.unwrap().unwrap();
    assert_eq!(
        (job.vector_store_id.as_str(), job.file_id.as_str()),
        (vector_store.as_str(), file.as_str())
    );
    store
        .append_chunks(&job, vec![chunk(0, "alpha", X.to_vec())])
        .await
        .unwrap();
    assert!(
        vector_texts(&store, X, within(&vector_store))
            .await
            .is_empty()
    );
    assert!(
        keyword_texts(&store, "alpha", within(&vector_store))
            .await
            .is_empty()
    );
    let early = store.complete_job(&job, 2, Vec::new()).await;
    assert!(
        matches!(early, Err(StoreError::Invalid { .. })),
        "one chunk of two is not complete: {early:?}"
    );
    let warnings = vec![PageWarning {
        page: 3,
        error: "no text".to_owned(),
        is_empty: true,
    }];
    store.complete_job(&job, 1, warnings.clone()).await.unwrap();
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["alpha"]
    );
    assert_eq!(
        keyword_texts(&store, "alpha", within(&vector_store)).await,
        ["alpha"]
    );
    assert_eq!(
        store
            .document(&vector_store, &file)
            .await
            .unwrap()
            .page_warnings,
        warnings
    );
}

#[tokio::test]
async fn an_interrupted_job_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (store, vector_store, _) = store_with_a_queued_file(dir.path()).await;
    let job = store.claim_next_job().await.unwrap().unwrap();
    store
        .append_chunks(
            &job,
            vec![chunk(0, "a", X.to_vec()), chunk(1, "b", X.to_vec())],
        )
        .await
        .unwrap();
    drop(store);

    let store = open(dir.path()).await;
    assert!(
        store.claim_next_job().await.unwrap().is_none(),
        "it still counts as running"
    );
    assert_eq!(store.requeue_interrupted_jobs().await.unwrap(), 1);
    let again = store.claim_next_job().await.unwrap().unwrap();
    assert_eq!(store.begin_cutting(&again, 0).await.unwrap(), 2);
    let former = store
        .append_chunks(&job, vec![chunk(2, "c", X.to_vec())])
        .await;
    assert!(matches!(former, Err(StoreError::Gone { .. })), "{former:?}");
    let skipped = store
        .append_chunks(&again, vec![chunk(3, "d", X.to_vec())])
        .await;
    assert!(
        matches!(skipped, Err(StoreError::Invalid { .. })),
        "{skipped:?}"
    );
    store
        .append_chunks(&again, vec![chunk(2, "c", X.to_vec())])
        .await
        .unwrap();
    store.complete_job(&again, 3, Vec::new()).await.unwrap();
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["a", "b", "c"]
    );
    let late = store
        .append_chunks(&job, vec![chunk(2, "c", X.to_vec())])
        .await;
    assert!(matches!(late, Err(StoreError::Gone { .. })), "{late:?}");
}

#[tokio::test]
async fn a_job_that_stops_the_program_again_and_again_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (store, vector_store, file) = store_with_a_queued_file(dir.path()).await;
    let released = store.claim_next_job().await.unwrap().unwrap();
    store.release_job(&released).await.unwrap();
    for attempt in 1..=30 {
        assert_eq!(
            store.claim_next_job().await.unwrap().unwrap().attempt,
            attempt
        );
        store.requeue_interrupted_jobs().await.unwrap();
    }
    assert!(store.claim_next_job().await.unwrap().is_none());
    let document = store.document(&vector_store, &file).await.unwrap();
    assert_eq!(document.status, DocumentStatus::Failed);
    let error = document.last_error.unwrap();
    assert!(
        error.code == DocumentErrorCode::ServerError && error.message.contains("30 times"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_job_that_gets_somewhere_each_time_is_not_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _, _) = store_with_a_queued_file(dir.path()).await;
    for ordinal in 0..6 {
        let job = store.claim_next_job().await.unwrap().expect("still tried");
        store
            .append_chunks(&job, vec![chunk(ordinal, "a", X.to_vec())])
            .await
            .unwrap();
        store.requeue_interrupted_jobs().await.unwrap();
    }
}

#[tokio::test]
async fn a_job_whose_document_went_away_changes_nothing() {
    for way in ["file", "document", "cancel", "vector store"] {
        let dir = tempfile::tempdir().unwrap();
        let (store, vector_store, file) = store_with_a_queued_file(dir.path()).await;
        let job = store.claim_next_job().await.unwrap().unwrap();
        store
            .append_chunks(&job, vec![chunk(0, "a", X.to_vec())])
            .await
            .unwrap();
        match way {
            "file" => store.delete_file(&file).await.unwrap(),
            "document" => store.detach(&vector_store, &file).await.unwrap(),
            "cancel" => assert!(cancel(&store, &vector_store, &file).await.is_cancelled),
            _ => store.delete_vector_store(&vector_store).await.unwrap(),
        }
        let results = [
            store
                .append_chunks(&job, vec![chunk(1, "b", X.to_vec())])
                .await,
            store.begin_cutting(&job, 0).await.map(drop),
            store.complete_job(&job, 1, Vec::new()).await,
            store
                .fail_job(&job, DocumentErrorCode::ServerError, "x", Vec::new())
                .await,
            store.release_job(&job).await,
        ];
        let progress = vec![(job.clone(), Progress::default())];
        store.note_progress(progress).await.expect(way);
        assert_eq!(store.lost_jobs(vec![job.clone()]).await.unwrap(), [job.id]);
        for result in results {
            assert!(
                matches!(result, Err(StoreError::Gone { .. })),
                "{way}: {result:?}"
            );
        }
        let db = rusqlite::Connection::open(dir.path().join("inglenook.db")).unwrap();
        let num_chunks: i64 = db
            .query_row("SELECT count(*) FROM chunks", [], |row| row.get(0))
            .unwrap();
        assert_eq!(num_chunks, 0, "{way}");
    }
}

#[tokio::test]
async fn failing_deletes_what_was_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (store, vector_store, file) = store_with_a_queued_file(dir.path()).await;
    let job = store.claim_next_job().await.unwrap().unwrap();
    let progress = Progress {
        pages_read: 1,
        pages_total: 9,
        chunks_done: 0,
        chunks_total: 4,
        seconds_left: Some(7),
    };
    store
        .note_progress(vec![(job.clone(), progress)])
        .await
        .unwrap();
    assert_eq!(
        store.document(&vector_store, &file).await.unwrap().progress,
        progress
    );
    store
        .append_chunks(&job, vec![chunk(0, "a", X.to_vec())])
        .await
        .unwrap();
    store
        .fail_job(
            &job,
            DocumentErrorCode::InvalidFile,
            "cut short",
            Vec::new(),
        )
        .await
        .unwrap();
    let document = store.document(&vector_store, &file).await.unwrap();
    assert_eq!((document.num_chunks, document.usage_bytes), (0, 0));
}

#[tokio::test]
async fn vectors_that_cannot_be_compared_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, vector_store, _) = store_with_a_queued_file(dir.path()).await;
    let job = store.claim_next_job().await.unwrap().unwrap();
    for vector in [
        vec![1.0; 3],
        vec![0.0; 4],
        vec![f32::NAN; 4],
        vec![1.0, 0.0, 0.0, f32::INFINITY],
    ] {
        let stored = store
            .append_chunks(&job, vec![chunk(0, "a", vector.clone())])
            .await;
        assert!(
            matches!(stored, Err(StoreError::Invalid { .. })),
            "{vector:?}: {stored:?}"
        );
        let found = store
            .vector_search(vector.clone(), within(&vector_store), 3)
            .await;
        assert!(
            matches!(found, Err(StoreError::Invalid { .. })),
            "{vector:?}: {found:?}"
        );
    }
    assert_eq!(store.begin_cutting(&job, 0).await.unwrap(), 0);
}

#[tokio::test]
async fn unfinished_chunks_of_another_embedder_are_not_continued() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _, _) = store_with_a_queued_file(dir.path()).await;
    let job = store.claim_next_job().await.unwrap().unwrap();
    store
        .append_chunks(&job, vec![chunk(0, "a", X.to_vec())])
        .await
        .unwrap();
    let store = open_with(dir.path(), "other").await;
    store.requeue_interrupted_jobs().await.unwrap();
    let job = store.claim_next_job().await.unwrap().unwrap();
    assert_eq!(store.begin_cutting(&job, 0).await.unwrap(), 0);
}

#[tokio::test]
async fn attaching_wakes_a_waiting_worker_and_one_that_is_about_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = create_file(&store, "f").await;
    attach(&store, &vector_store, &file).await;
    store.jobs_changed().await;

    let other_file = create_file(&store, "g").await;
    let (_, document) = tokio::join!(
        store.jobs_changed(),
        attach(&store, &vector_store, &other_file)
    );
    assert_eq!(document.status, DocumentStatus::InProgress);
}

#[test]
fn only_one_holds_the_worker_lock() {
    let dir = tempfile::tempdir().unwrap();
    let lock = try_worker_lock(dir.path()).unwrap().expect("free");
    assert!(try_worker_lock(dir.path()).unwrap().is_none());
    drop(lock);
    assert!(try_worker_lock(dir.path()).unwrap().is_some());
}
