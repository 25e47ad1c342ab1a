//! The same content again: what is copied of it, what is replaced by it, and what is left alone.

use super::super::{database, word_index};
use super::*;

const X: [f32; DIMENSIONS] = [1.0, 0.0, 0.0, 0.0];
const Y: [f32; DIMENSIONS] = [0.0, 1.0, 0.0, 0.0];

async fn file_of(store: &Store, name: &str, content: &str) -> String {
    let new = NewFile {
        filename: name.to_owned(),
        purpose: "assistants".to_owned(),
        media_type: "text/plain".to_owned(),
        expires_after_seconds: None,
    };
    let content = Content::Bytes(content.as_bytes().to_vec());
    store.create_file(new, content).await.unwrap().id
}

async fn read(store: &Store, file: &str, text: &str) {
    let extraction = Extraction {
        extractor_version: "1".to_owned(),
        title: None,
        text: text.to_owned(),
        layout: "{}".to_owned(),
    };
    store.save_extraction(file, extraction).await.unwrap();
}

async fn attach_as(store: &Store, vector_store: &str, file: &str, if_exists: IfExists) -> Attached {
    let new = NewDocument {
        file_id: file.to_owned(),
        attributes: Attributes::new(),
        chunking: CHUNKING,
        has_own_chunking: false,
        if_exists,
        password: None,
    };
    store.attach_new(vector_store, new).await.unwrap()
}

async fn claim(store: &Store) -> Job {
    store
        .claim_next_job()
        .await
        .unwrap()
        .expect("one is queued")
}

async fn names(store: &Store, vector_store: &str) -> Vec<(String, DocumentStatus)> {
    let list = ListOptions {
        order: Order::Asc,
        ..ListOptions::default()
    };
    let page = store
        .list_documents(vector_store, None, list)
        .await
        .unwrap();
    let documents = page.items.into_iter();
    documents.map(|it| (it.file_id, it.status)).collect()
}

#[tokio::test]
async fn a_copy_is_found_whatever_becomes_of_its_original() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let (one, two) = (
        create_vector_store(&store, "one").await,
        create_vector_store(&store, "two").await,
    );
    let original = file_of(&store, "a.txt", "content").await;
    read(&store, &original, "alpha beta").await;
    attach(&store, &one, &original).await;
    run_next_job(&store, &[("alpha", X), ("beta", Y)]).await;

    let copy = file_of(&store, "b.TXT", "content").await;
    let known = store.extraction_of_same_content(&copy, "1").await.unwrap();
    assert_eq!(known.expect("the same").text, "alpha beta");
    for (name, content, version) in [
        ("b.md", "content", "1"),
        ("b.txt", "other", "1"),
        ("b.txt", "content", "2"),
    ] {
        let file = file_of(&store, name, content).await;
        let known = store.extraction_of_same_content(&file, version).await;
        assert_eq!(known.unwrap(), None, "{name} {content} {version}");
    }
    attach(&store, &two, &copy).await;
    let job = claim(&store).await;
    assert_eq!(store.twin(&job).await.unwrap(), None, "it is not read yet");
    read(&store, &copy, "alpha beta").await;
    let twin = store.twin(&job).await.unwrap().expect("the original");
    assert_eq!(twin.num_chunks, 2);
    assert_eq!(store.copy_chunks(&job, twin, 1).await.unwrap(), 1);
    assert_eq!(store.copy_chunks(&job, twin, 1).await.unwrap(), 2);
    assert_eq!(store.copy_chunks(&job, twin, 1).await.unwrap(), 2);
    store.complete_job(&job, 2, Vec::new()).await.unwrap();
    let sizes = [
        store.document(&one, &original).await.unwrap().usage_bytes,
        store.document(&two, &copy).await.unwrap().usage_bytes,
    ];
    assert_eq!(sizes[0], sizes[1]);

    store.delete_file(&original).await.unwrap();
    assert_eq!(
        vector_texts(&store, X, within(&two)).await,
        ["alpha", "beta"]
    );
    assert_eq!(keyword_texts(&store, "beta", within(&two)).await, ["beta"]);
    assert!(vector_texts(&store, X, within(&one)).await.is_empty());
}

#[tokio::test]
async fn only_a_document_that_would_be_the_same_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let (one, two) = (
        create_vector_store(&store, "one").await,
        create_vector_store(&store, "two").await,
    );
    let original = file_of(&store, "a.txt", "content").await;
    read(&store, &original, "alpha").await;
    attach(&store, &one, &original).await;
    run_next_job(&store, &[("alpha", X)]).await;
    // The same file in another vector store.
    attach(&store, &two, &original).await;
    let job = claim(&store).await;
    let twin = store.twin(&job).await.unwrap().expect("the original");
    // It goes while it is copied.
    store.detach(&one, &original).await.unwrap();
    assert_eq!(store.copy_chunks(&job, twin, 9).await.unwrap(), 0);
    assert_eq!(store.twin(&job).await.unwrap(), None);
    store
        .append_chunks(&job, vec![chunk(0, "alpha", X.to_vec())])
        .await
        .unwrap();
    store.discard_chunks(&job).await.unwrap();
    assert_eq!(store.begin_cutting(&job, 0).await.unwrap(), 0);
    store
        .append_chunks(&job, vec![chunk(0, "alpha", X.to_vec())])
        .await
        .unwrap();
    store.complete_job(&job, 1, Vec::new()).await.unwrap();

    let other_chunking = Chunking {
        max_tokens: 200,
        ..CHUNKING
    };
    store
        .attach(&one, &original, Attributes::new(), other_chunking)
        .await
        .unwrap();
    let job = claim(&store).await;
    assert_eq!(store.twin(&job).await.unwrap(), None);
    store.release_job(&job).await.unwrap();
    drop(store);
    let store = open_with(dir.path(), "another embedder").await;
    store.detach(&one, &original).await.unwrap();
    attach(&store, &one, &original).await;
    let job = claim(&store).await;
    assert_eq!(store.twin(&job).await.unwrap(), None);
}

#[tokio::test]
async fn a_content_that_is_worked_on_waits_to_be_copied() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    for (name, content) in [("a", "same"), ("b", "same"), ("c", "other")] {
        let file = file_of(&store, name, content).await;
        attach(&store, &vector_store, &file).await;
    }
    let (first, third) = (claim(&store).await, claim(&store).await);
    assert_eq!(store.claim_next_job().await.unwrap(), None);
    let names = [
        store.file(&first.file_id).await.unwrap().filename,
        store.file(&third.file_id).await.unwrap().filename,
    ];
    assert_eq!(names, ["a", "c"]);
    store
        .fail_job(&first, DocumentErrorCode::InvalidFile, "no", Vec::new())
        .await
        .unwrap();
    let second = claim(&store).await;
    assert_eq!(store.file(&second.file_id).await.unwrap().filename, "b");
}

#[tokio::test]
async fn the_older_file_answers_until_the_newer_one_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let elsewhere = create_vector_store(&store, "b").await;
    let old = file_of(&store, "report.txt", "old").await;
    attach(&store, &vector_store, &old).await;
    run_next_job(&store, &[("before", X)]).await;
    let found = async || keyword_texts(&store, "before OR after", within(&vector_store)).await;

    let broken = file_of(&store, "report.txt", "broken").await;
    attach_as(&store, &vector_store, &broken, IfExists::Replace).await;
    let job = claim(&store).await;
    store
        .fail_job(&job, DocumentErrorCode::InvalidFile, "no", Vec::new())
        .await
        .unwrap();
    assert_eq!(found().await, ["before"]);

    let new = file_of(&store, "report.txt", "new").await;
    let attached = attach_as(&store, &vector_store, &new, IfExists::Replace).await;
    assert!(!attached.is_unchanged);
    let job = claim(&store).await;
    store
        .append_chunks(&job, vec![chunk(0, "after", Y.to_vec())])
        .await
        .unwrap();
    assert_eq!(found().await, ["before"]);
    store.complete_job(&job, 1, Vec::new()).await.unwrap();
    assert_eq!(found().await, ["after"]);
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["after"]
    );
    let left = names(&store, &vector_store).await;
    assert_eq!(left, [(new.clone(), DocumentStatus::Completed)]);
    for gone in [&old, &broken] {
        assert!(store.file(gone).await.is_err(), "its file is nowhere else");
    }

    // Attached elsewhere, too, the file stays.
    attach(&store, &elsewhere, &new).await;
    let newest = file_of(&store, "report.txt", "newest").await;
    attach_as(&store, &vector_store, &newest, IfExists::Replace).await;
    while let Some(job) = store.claim_next_job().await.unwrap() {
        let text = chunk(0, "after", Y.to_vec());
        store.append_chunks(&job, vec![text]).await.unwrap();
        store.complete_job(&job, 1, Vec::new()).await.unwrap();
    }
    assert_eq!(names(&store, &vector_store).await.len(), 1);
    assert_eq!(names(&store, &elsewhere).await.len(), 1);
    assert!(store.file(&new).await.is_ok());
}

#[tokio::test]
async fn the_same_content_under_the_same_name_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let first = file_of(&store, "a.txt", "one").await;
    attach(&store, &vector_store, &first).await;
    run_next_job(&store, &[("one", X)]).await;
    let again = file_of(&store, "a.txt", "one").await;
    for if_exists in [IfExists::Skip, IfExists::Replace] {
        let attached = attach_as(&store, &vector_store, &again, if_exists).await;
        assert!(attached.is_unchanged);
        assert_eq!(attached.document.file_id, first);
    }
    // Under another name, or for somebody who wants both, it is another document.
    let named = file_of(&store, "b.txt", "one").await;
    let attached = attach_as(&store, &vector_store, &named, IfExists::Replace).await;
    assert!(!attached.is_unchanged);
    let changed = file_of(&store, "a.txt", "two").await;
    attach_as(&store, &vector_store, &changed, IfExists::Keep).await;
    let attached = attach_as(&store, &vector_store, &again, IfExists::Skip).await;
    assert!(attached.is_unchanged);
    // Who replaces wants this content to be the newest, and it is not.
    let attached = attach_as(&store, &vector_store, &again, IfExists::Replace).await;
    assert!(!attached.is_unchanged);
    assert_eq!(attached.document.file_id, again);
    assert_eq!(names(&store, &vector_store).await.len(), 4);
}

#[tokio::test]
async fn data_of_the_version_before_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let before = database::MIGRATIONS.iter();
    let before = before.take_while(|sql| !sql.contains("replaces_older"));
    let before = before.map(|sql| rusqlite_migration::M::up(sql)).collect();
    let mut db = rusqlite::Connection::open(dir.path().join("inglenook.db")).unwrap();
    word_index::register(&db).unwrap();
    rusqlite_migration::Migrations::new(before)
        .to_latest(&mut db)
        .unwrap();
    db.execute_batch(
        "INSERT INTO files (id, filename, purpose, media_type, num_bytes, sha256, created_at)
         VALUES ('file-1', 'a.pdf', 'assistants', 'application/pdf', 1, 'abc', 0);
         INSERT INTO vector_stores (id, name, metadata, created_at, last_active_at) VALUES ('vs_1', 'a', '{}', 0, 0);
         INSERT INTO documents (vector_store_row, file_row, status, attributes, max_chunk_tokens, chunk_overlap_tokens,
                                created_at, pages_read, pages_total, page_warnings)
         VALUES (1, 1, 'completed', '{}', 100, 10, 0, 2, 2, '[{\"page\":2,\"error\":\"no\"}]');",
    )
    .unwrap();
    drop(db);
    let store = open(dir.path()).await;
    let document = store.document("vs_1", "file-1").await.unwrap();
    assert_eq!(document.filename, "a.pdf");
    assert_eq!(document.progress.pages_total, 2);
    assert_eq!(document.progress.seconds_left, None);
    assert_eq!(document.page_warnings[0].page, 2);
    assert!(!document.page_warnings[0].is_empty);
}
