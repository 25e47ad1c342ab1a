//! Files, their content and text, vector stores, responses, and listings.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::*;

#[tokio::test]
async fn a_file_of_several_segments_reads_back_whole_from_bytes_and_from_a_path() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let content: Vec<u8> = (0..2_500_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let expected: String = Sha256::digest(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let source = dir.path().join("source.bin");
    std::fs::write(&source, &content).unwrap();
    let new = || NewFile {
        filename: "Überblick 漢字.pdf".to_owned(),
        purpose: "assistants".to_owned(),
        media_type: "application/pdf".to_owned(),
        expires_after_seconds: None,
    };
    for input in [
        Content::Bytes(content.clone()),
        Content::Path(source.clone()),
    ] {
        let file = store.create_file(new(), input).await.unwrap();
        assert_eq!(
            (file.num_bytes, file.sha256.as_str()),
            (2_500_000, expected.as_str())
        );
        assert_eq!(file.filename, "Überblick 漢字.pdf");
        assert!(
            file.id.len() == 29 && file.id.starts_with("file-"),
            "{}",
            file.id
        );
        assert_eq!(store.file(&file.id).await.unwrap(), file);
        assert!(store.file_content(&file.id).await.unwrap() == content);
        let mut segments = Vec::new();
        while let Some(segment) = store
            .file_segment(&file.id, segments.len() as u32)
            .await
            .unwrap()
        {
            segments.push(segment);
        }
        assert_eq!(segments.len(), 3);
        assert!(segments.concat() == content);
    }
}

#[tokio::test]
async fn a_large_file_goes_in_pieces_with_other_writes_between_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let file = create_file(&store, "large").await;
    let db = rusqlite::Connection::open(dir.path().join("inglenook.db")).unwrap();
    db.execute(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 639)
         INSERT INTO file_segments (file_row, ordinal, bytes) SELECT f.row, n, x'00' FROM n, files f",
        [],
    )
    .unwrap();
    let is_deleted = std::cell::Cell::new(false);
    let delete = async {
        store.delete_file(&file).await.unwrap();
        is_deleted.set(true);
    };
    let write = async {
        let mut num_writes = 0;
        while !is_deleted.get() {
            create_vector_store(&store, "small").await;
            // Hidden by the first of the pieces.
            if num_writes > 0 {
                store.file(&file).await.unwrap_err();
            }
            num_writes += 1;
        }
        num_writes
    };
    let ((), num_writes) = tokio::join!(delete, write);
    assert!(num_writes >= 20, "{num_writes} writes between 40 pieces");
    let num_rows = "SELECT (SELECT count(*) FROM files) + (SELECT count(*) FROM file_segments)";
    let num_rows: i64 = db.query_row(num_rows, [], |row| row.get(0)).unwrap();
    assert_eq!(num_rows, 0);
}

#[tokio::test]
async fn what_a_killed_deletion_left_is_not_shown_and_goes_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let (kept, file) = (
        create_file(&store, "kept").await,
        create_file(&store, "gone").await,
    );
    // As it is after the first transaction of a deletion.
    let db = rusqlite::Connection::open(dir.path().join("inglenook.db")).unwrap();
    let hide = "UPDATE files SET is_deleted = 1 WHERE id = ?";
    db.execute(hide, [&file]).unwrap();
    let store = open(dir.path()).await;
    let listed = store
        .list_files(None, ListOptions::default())
        .await
        .unwrap();
    let listed: Vec<_> = listed.items.iter().map(|file| &file.id).collect();
    assert_eq!(listed, [&kept]);
    store.file_content(&file).await.unwrap_err();
    store.delete_file(&file).await.unwrap_err();
    store.delete_expired().await.unwrap();
    let rows = "SELECT (SELECT count(*) FROM files), (SELECT count(*) FROM file_segments)";
    let rows = db.query_row(rows, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(rows.unwrap(), (1, 1));
    assert_eq!(store.file_content(&kept).await.unwrap(), b"kept");
}

#[tokio::test]
async fn an_upload_that_cannot_be_read_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let new = NewFile {
        filename: "a".into(),
        purpose: "p".into(),
        media_type: "m".into(),
        expires_after_seconds: None,
    };
    let error = store
        .create_file(new, Content::Path(dir.path().to_owned()))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(
        store
            .list_files(None, ListOptions::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn unknown_ids_are_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let errors = [
        store.file("file-x").await.map(drop),
        store.file_content("file-x").await.map(drop),
        store.delete_file("file-x").await,
        store.extraction("file-x").await.map(drop),
        store.text_span("file-x", 0, 0).await.map(drop),
        store.vector_store("vs_x").await.map(drop),
        store.delete_vector_store("vs_x").await,
        store.document(&vector_store, "file-x").await.map(drop),
        store.detach(&vector_store, "file-x").await,
        store
            .attach(&vector_store, "file-x", Attributes::new(), CHUNKING)
            .await
            .map(drop),
        store.response("resp_x").await.map(drop),
        store.delete_response("resp_x").await,
        store
            .list_files(
                None,
                ListOptions {
                    after: Some("file-x".into()),
                    ..Default::default()
                },
            )
            .await
            .map(drop),
    ];
    for (i, result) in errors.into_iter().enumerate() {
        assert!(
            matches!(result, Err(StoreError::NotFound { .. })),
            "case {i}: {result:?}"
        );
    }
}

#[tokio::test]
async fn pages_of_a_listing_cover_it_in_both_orders_and_directions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let mut ids = Vec::new();
    for i in 0..7 {
        ids.push(create_file(&store, &format!("{i}")).await);
    }
    for order in [Order::Asc, Order::Desc] {
        let expected: Vec<String> = match order {
            Order::Asc => ids.clone(),
            Order::Desc => ids.iter().rev().cloned().collect(),
        };
        for limit in 1..=8 {
            let (mut forward, mut after) = (Vec::new(), None);
            loop {
                let list = ListOptions {
                    limit,
                    order,
                    after,
                    before: None,
                };
                let page = store.list_files(None, list).await.unwrap();
                forward.extend(page.items.into_iter().map(|file| file.id));
                after = forward.last().cloned();
                assert_eq!(page.has_more, forward.len() < 7);
                if !page.has_more {
                    break;
                }
            }
            assert_eq!(forward, expected, "{order:?} by {limit}");

            let list = ListOptions {
                limit,
                order,
                after: None,
                before: Some(expected[5].clone()),
            };
            let page = store.list_files(None, list).await.unwrap();
            let found: Vec<String> = page.items.into_iter().map(|file| file.id).collect();
            assert_eq!(
                found,
                expected[5_usize.saturating_sub(limit)..5],
                "the nearest ones before the sixth"
            );
            assert_eq!(page.has_more, limit < 5);
        }
        let list = ListOptions {
            limit: 9,
            order,
            after: Some(expected[1].clone()),
            before: Some(expected[4].clone()),
        };
        let page = store
            .list_files(Some("assistants".into()), list)
            .await
            .unwrap();
        assert_eq!(
            page.items
                .into_iter()
                .map(|file| file.id)
                .collect::<Vec<_>>(),
            expected[2..4]
        );
    }
    assert!(
        store
            .list_files(Some("batch".into()), ListOptions::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn a_text_span_is_given_only_between_characters() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let file = create_file(&store, "a").await;
    assert_eq!(store.extraction(&file).await.unwrap(), None);
    assert!(matches!(
        store.text_span(&file, 0, 0).await,
        Err(StoreError::NotFound { .. })
    ));
    let text = "aß漢😀z".repeat(2000);
    let extraction = Extraction {
        extractor_version: "1".to_owned(),
        title: Some("T".to_owned()),
        text: text.clone(),
        layout: r#"{"pages":[]}"#.to_owned(),
    };
    store
        .save_extraction(&file, extraction.clone())
        .await
        .unwrap();
    assert_eq!(store.extraction(&file).await.unwrap(), Some(extraction));
    let middle = 11 * 1000;
    for start in (0..=12)
        .chain(middle..middle + 12)
        .chain(text.len() - 3..=text.len())
    {
        for end in (start..(start + 12).min(text.len() + 2)).chain([text.len()]) {
            let found = store.text_span(&file, start, end).await;
            match text.get(start..end) {
                Some(span) => assert_eq!(found.unwrap(), span),
                None => assert!(
                    matches!(found, Err(StoreError::BadSpan { .. })),
                    "{start}..{end}: {found:?}"
                ),
            }
        }
    }
    assert!(matches!(
        store.text_span(&file, 3, 1).await,
        Err(StoreError::BadSpan { .. })
    ));
}

#[tokio::test]
async fn vector_stores_can_be_changed_and_the_default_one_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let (store, other) = (open(dir.path()).await, open(dir.path()).await);
    let (first, second) = tokio::join!(store.default_vector_store(), other.default_vector_store());
    let default = first.unwrap();
    assert_eq!(default.id, second.unwrap().id);
    assert_eq!(
        (default.name.as_str(), default.is_default),
        ("Documents", true)
    );

    let new = NewVectorStore {
        name: "Contracts".to_owned(),
        description: Some("signed".to_owned()),
        metadata: BTreeMap::from([("team".to_owned(), "legal".to_owned())]),
        expires_after_days: Some(2),
        ..NewVectorStore::default()
    };
    let made = store.create_vector_store(new).await.unwrap();
    assert_eq!(made.expires_at, Some(made.last_active_at + 2 * 86_400));
    let update = VectorStoreUpdate {
        description: Some(None),
        expires_after_days: Some(None),
        ..VectorStoreUpdate::default()
    };
    let updated = other.update_vector_store(&made.id, update).await.unwrap();
    assert_eq!(
        (updated.description, updated.expires_after_days),
        (None, None)
    );
    assert_eq!((updated.name, updated.metadata), (made.name, made.metadata));
    let page = store
        .list_vector_stores(ListOptions::default())
        .await
        .unwrap();
    assert_eq!(
        page.items.iter().map(|v| &v.id).collect::<Vec<_>>(),
        [&made.id, &default.id]
    );
    store.delete_vector_store(&made.id).await.unwrap();
    assert!(matches!(
        other.vector_store(&made.id).await,
        Err(StoreError::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_response_is_kept_until_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let response = StoredResponse {
        id: "resp_1".to_owned(),
        created_at: 12,
        body: serde_json::json!({"output": ["ä", 1.5, null]}),
        input: serde_json::json!([{"role": "user"}]),
        previous_id: Some("resp_0".to_owned()),
        owner: None,
        is_streamed: false,
    };
    let written = Written {
        response: Some(response.clone()),
        ..Written::default()
    };
    open(dir.path()).await.save_written(written).await.unwrap();
    let store = open(dir.path()).await;
    assert_eq!(store.response("resp_1").await.unwrap(), response);
    store.delete_response("resp_1").await.unwrap();
    assert!(matches!(
        store.response("resp_1").await,
        Err(StoreError::NotFound { .. })
    ));
}
