//! Attaching, listing and removing documents, and what each leaves behind in the tables.

use super::*;

const X: [f32; DIMENSIONS] = [1.0, 0.0, 0.0, 0.0];

#[tokio::test]
async fn attaching_twice_gives_the_same_document_and_one_job() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = create_file(&store, "f").await;
    let first = attach(&store, &vector_store, &file).await;
    assert_eq!(first.status, DocumentStatus::InProgress);
    let other_chunking = Chunking {
        max_tokens: 7,
        overlap_tokens: 0,
    };
    let second = store
        .attach(&vector_store, &file, Attributes::new(), other_chunking)
        .await
        .unwrap();
    assert_eq!(first, second);
    assert!(store.claim_next_job().await.unwrap().is_some());
    assert!(store.claim_next_job().await.unwrap().is_none());
}

#[tokio::test]
async fn attaching_a_failed_document_queues_it_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = create_file(&store, "f").await;
    attach(&store, &vector_store, &file).await;
    let job = store.claim_next_job().await.unwrap().unwrap();
    store
        .fail_job(&job, DocumentErrorCode::UnsupportedFile, "no reader for it")
        .await
        .unwrap();
    let failed = store.document(&vector_store, &file).await.unwrap();
    assert_eq!(failed.status, DocumentStatus::Failed);
    let error = DocumentError {
        code: DocumentErrorCode::UnsupportedFile,
        message: "no reader for it".to_owned(),
    };
    assert_eq!(failed.last_error, Some(error));

    let again = Chunking {
        max_tokens: 7,
        overlap_tokens: 0,
    };
    let document = store
        .attach(&vector_store, &file, Attributes::new(), again)
        .await
        .unwrap();
    assert_eq!(
        (document.status, document.last_error),
        (DocumentStatus::InProgress, None)
    );
    assert_eq!(
        store.claim_next_job().await.unwrap().unwrap().chunking,
        again
    );
}

#[tokio::test]
async fn a_chunking_that_never_ends_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = create_file(&store, "f").await;
    for (max_tokens, overlap_tokens) in [(0, 0), (10, 10), (10, 11)] {
        let chunking = Chunking {
            max_tokens,
            overlap_tokens,
        };
        let result = store
            .attach(&vector_store, &file, Attributes::new(), chunking)
            .await;
        assert!(
            matches!(result, Err(StoreError::Invalid { .. })),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn counts_and_listings_follow_the_documents() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let done = ingest(&store, &vector_store, &[("ab", X), ("cde", X)]).await;
    let cancelled = create_file(&store, "f").await;
    attach(&store, &vector_store, &cancelled).await;
    let batch = cancel(&store, &vector_store, &cancelled).await;
    assert!(batch.is_cancelled);
    assert_eq!(
        (batch.file_counts.cancelled, batch.file_counts.total),
        (1, 1)
    );
    assert!(store.claim_next_job().await.unwrap().is_none());
    let waiting = create_file(&store, "f").await;
    attach(&store, &vector_store, &waiting).await;

    let found = store.vector_store(&vector_store).await.unwrap();
    let expected = FileCounts {
        in_progress: 1,
        completed: 1,
        failed: 0,
        cancelled: 1,
        total: 3,
    };
    assert_eq!(found.file_counts, expected);
    assert_eq!(found.usage_bytes, 5 + 2 * 16);
    let document = store.document(&vector_store, &done).await.unwrap();
    assert_eq!((document.num_chunks, document.usage_bytes), (2, 5 + 2 * 16));
    assert_eq!(document.embedder_hash.as_deref(), Some("embedder"));
    assert!(!cancel(&store, &vector_store, &done).await.is_cancelled);
    let unchanged = store.document(&vector_store, &done).await.unwrap();
    assert_eq!(unchanged, document);

    let all = store
        .list_documents(&vector_store, None, ListOptions::default())
        .await
        .unwrap();
    let ids: Vec<_> = all.items.iter().map(|document| &document.file_id).collect();
    assert_eq!(ids, [&waiting, &cancelled, &done]);
    let list = ListOptions {
        after: Some(waiting.clone()),
        limit: 1,
        ..ListOptions::default()
    };
    let page = store
        .list_documents(&vector_store, None, list)
        .await
        .unwrap();
    assert_eq!(
        (page.items[0].file_id.as_str(), page.has_more),
        (cancelled.as_str(), true)
    );
    let status = Some(DocumentStatus::Completed);
    let completed = store
        .list_documents(&vector_store, status, ListOptions::default())
        .await
        .unwrap();
    assert_eq!(completed.items, [document]);
}

#[tokio::test]
async fn deleting_by_any_way_leaves_no_row_behind() {
    for way in ["file", "document", "vector store"] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        let vector_store = create_vector_store(&store, "a").await;
        let file = ingest(&store, &vector_store, &[("tree", X), ("house", X)]).await;
        let extraction = Extraction {
            extractor_version: "1".into(),
            title: None,
            text: "t".into(),
            layout: "{}".into(),
        };
        store.save_extraction(&file, extraction).await.unwrap();
        assert_eq!(
            vector_texts(&store, X, within(&vector_store)).await.len(),
            2
        );
        assert_eq!(
            keyword_texts(&store, "tree", within(&vector_store)).await,
            ["tree"]
        );
        match way {
            "file" => store.delete_file(&file).await.unwrap(),
            "document" => store.detach(&vector_store, &file).await.unwrap(),
            _ => store.delete_vector_store(&vector_store).await.unwrap(),
        }
        assert!(
            vector_texts(&store, X, within(&vector_store))
                .await
                .is_empty(),
            "{way}"
        );
        assert!(
            keyword_texts(&store, "tree", within(&vector_store))
                .await
                .is_empty(),
            "{way}"
        );

        let db = rusqlite::Connection::open(dir.path().join("inglenook.db")).unwrap();
        let num_rows = |table: &str| {
            db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get::<_, i64>(0)
            })
            .unwrap()
        };
        assert_eq!(
            ["documents", "jobs", "chunks", "chunk_words_docsize"].map(num_rows),
            [0; 4],
            "{way}"
        );
        let num_files = i64::from(way != "file");
        assert_eq!(
            ["files", "file_segments", "extractions"].map(num_rows),
            [num_files; 3],
            "{way}"
        );
        let check = "INSERT INTO chunk_words (chunk_words) VALUES ('integrity-check')";
        db.execute(check, [])
            .expect("the full-text index agrees with the chunks");
        let words =
            "SELECT count(*) FROM chunk_words WHERE chunk_words MATCH 'btree OR bhous OR apart'";
        assert_eq!(
            db.query_row(words, [], |row| row.get::<_, i64>(0)).unwrap(),
            0,
            "{way}"
        );
    }
}

#[tokio::test]
async fn new_text_of_a_file_sends_its_documents_back_to_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = create_file(&store, "f").await;
    let mut extraction = Extraction {
        extractor_version: "1".into(),
        title: None,
        text: "old".into(),
        layout: "{}".into(),
    };
    store
        .save_extraction(&file, extraction.clone())
        .await
        .unwrap();
    attach(&store, &vector_store, &file).await;
    run_next_job(&store, &[("old", X)]).await;

    extraction.extractor_version = "2".into();
    store
        .save_extraction(&file, extraction.clone())
        .await
        .unwrap();
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["old"],
        "same text, nothing happens"
    );

    extraction.text = "new".into();
    store.save_extraction(&file, extraction).await.unwrap();
    assert!(
        vector_texts(&store, X, within(&vector_store))
            .await
            .is_empty()
    );
    assert_eq!(
        store.document(&vector_store, &file).await.unwrap().status,
        DocumentStatus::InProgress
    );
    run_next_job(&store, &[("new", X)]).await;
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["new"]
    );
}

#[tokio::test]
async fn documents_of_another_embedder_are_counted_never_found_and_can_be_requeued() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(dir.path(), "old").await;
    let vector_store = create_vector_store(&store, "a").await;
    ingest(&store, &vector_store, &[("alpha", X)]).await;
    store.flush().await.unwrap();
    assert_eq!(store.documents_of_other_embedders().await.unwrap(), 0);

    let store = open_with(dir.path(), "new").await;
    assert_eq!(store.documents_of_other_embedders().await.unwrap(), 1);
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
    assert_eq!(
        store.requeue_documents_of_other_embedders().await.unwrap(),
        1
    );
    assert_eq!(store.documents_of_other_embedders().await.unwrap(), 0);
    run_next_job(&store, &[("alpha", X)]).await;
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["alpha"]
    );
}
