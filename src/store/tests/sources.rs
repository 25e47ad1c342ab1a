//! Documents that are kept in step with something elsewhere: which version answers, and what is left of the others.

use super::*;

const X: [f32; DIMENSIONS] = [1.0, 0.0, 0.0, 0.0];

async fn keep(store: &Store, vector_store: &str, text: &str) -> Kept {
    let new = NewSource {
        origin: Origin::Web,
        address: "https://x.example/a".to_owned(),
        version: format!("version of {text}"),
        file: NewFile {
            filename: "a.html".to_owned(),
            purpose: "assistants".to_owned(),
            media_type: "text/html".to_owned(),
            expires_after_seconds: None,
        },
        content: Content::Bytes(text.as_bytes().to_vec()),
        attributes: Attributes::new(),
        chunking: CHUNKING,
        password: None,
    };
    store.keep_source(vector_store, new).await.unwrap()
}

async fn source(store: &Store, vector_store: &str) -> Source {
    let found = store
        .source(vector_store, &Origin::Web, "https://x.example/a")
        .await;
    found.unwrap().expect("it was kept")
}

async fn num_files(store: &Store) -> usize {
    store
        .list_files(None, ListOptions::default())
        .await
        .unwrap()
        .items
        .len()
}

#[tokio::test]
async fn the_old_version_answers_until_the_new_one_has_been_read_and_never_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let first = keep(&store, &vector_store, "old words").await;
    run_next_job(&store, &[("old words", X)]).await;
    let second = keep(&store, &vector_store, "new words").await;
    assert!(!second.is_unchanged);
    let waiting = source(&store, &vector_store).await;
    assert_eq!(waiting.file_id.as_deref(), Some(second.file_id.as_str()));
    assert!(waiting.is_searchable);
    assert_eq!(
        keyword_texts(&store, "words", within(&vector_store)).await,
        ["old words"]
    );
    // A restart in between changes nothing.
    drop(store);
    let store = open(dir.path()).await;
    run_next_job(&store, &[("new words", X)]).await;
    assert_eq!(
        keyword_texts(&store, "words", within(&vector_store)).await,
        ["new words"]
    );
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["new words"]
    );
    assert!(store.file(&first.file_id).await.is_err());
    assert_eq!(num_files(&store).await, 1);
    store.delete_expired().await.unwrap();
    let count = |tx: &rusqlite::Transaction| {
        Ok(
            tx.query_row("SELECT count(*) FROM file_segments", [], |row| {
                row.get::<_, i64>(0)
            })?,
        )
    };
    assert_eq!(store.database().read(count).await.unwrap(), 1);
}

#[tokio::test]
async fn the_same_bytes_are_no_new_version_unless_somebody_deleted_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let first = keep(&store, &vector_store, "words").await;
    run_next_job(&store, &[("words", X)]).await;
    let again = keep(&store, &vector_store, "words").await;
    assert_eq!((again.is_unchanged, &again.file_id), (true, &first.file_id));
    assert!(store.claim_next_job().await.unwrap().is_none());
    store.delete_file(&first.file_id).await.unwrap();
    assert_eq!(source(&store, &vector_store).await.file_id, None);
    let anew = keep(&store, &vector_store, "words").await;
    assert!(!anew.is_unchanged);
    run_next_job(&store, &[("words", X)]).await;
    assert_eq!(
        keyword_texts(&store, "words", within(&vector_store)).await,
        ["words"]
    );
}

#[tokio::test]
async fn a_version_that_cannot_be_read_leaves_the_old_one_and_the_next_one_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    keep(&store, &vector_store, "old words").await;
    run_next_job(&store, &[("old words", X)]).await;
    keep(&store, &vector_store, "broken").await;
    let job = store.claim_next_job().await.unwrap().unwrap();
    store
        .fail_job(&job, DocumentErrorCode::InvalidFile, "broken", Vec::new())
        .await
        .unwrap();
    let failed = source(&store, &vector_store).await;
    assert_eq!(
        (failed.status, failed.is_searchable),
        (Some(DocumentStatus::Failed), true)
    );
    assert_eq!(failed.error.as_deref(), Some("broken"));
    assert_eq!(
        keyword_texts(&store, "words", within(&vector_store)).await,
        ["old words"]
    );
    keep(&store, &vector_store, "newest words").await;
    run_next_job(&store, &[("newest words", X)]).await;
    assert_eq!(
        keyword_texts(&store, "words", within(&vector_store)).await,
        ["newest words"]
    );
    assert_eq!(num_files(&store).await, 1);
}

#[tokio::test]
async fn a_version_that_comes_before_the_last_one_was_read_drops_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let first = keep(&store, &vector_store, "first words").await;
    let job = store.claim_next_job().await.unwrap().unwrap();
    keep(&store, &vector_store, "second words").await;
    assert!(store.file(&first.file_id).await.is_err());
    let lost = store
        .append_chunks(&job, vec![chunk(0, "first words", X.to_vec())])
        .await;
    assert!(matches!(lost, Err(StoreError::Gone { .. })));
    run_next_job(&store, &[("second words", X)]).await;
    assert_eq!(
        keyword_texts(&store, "words", within(&vector_store)).await,
        ["second words"]
    );
}

#[tokio::test]
async fn a_replaced_or_removed_file_stays_where_somebody_else_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let other = create_vector_store(&store, "b").await;
    let first = keep(&store, &vector_store, "old words").await;
    run_next_job(&store, &[("old words", X)]).await;
    attach(&store, &other, &first.file_id).await;
    run_next_job(&store, &[("old words", X)]).await;
    keep(&store, &vector_store, "new words").await;
    run_next_job(&store, &[("new words", X)]).await;
    assert_eq!(
        keyword_texts(&store, "words", within(&vector_store)).await,
        ["new words"]
    );
    assert_eq!(
        keyword_texts(&store, "words", within(&other)).await,
        ["old words"]
    );
    let address = "https://x.example/a";
    store
        .remove_source(&vector_store, &Origin::Web, address)
        .await
        .unwrap();
    assert!(
        keyword_texts(&store, "words", within(&vector_store))
            .await
            .is_empty()
    );
    assert_eq!(
        keyword_texts(&store, "words", within(&other)).await,
        ["old words"]
    );
    assert_eq!(num_files(&store).await, 1);
    assert!(
        store
            .source(&vector_store, &Origin::Web, address)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn an_import_is_worked_on_by_one_process_and_goes_to_another_when_that_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store_id = create_vector_store(&store, "a").await;
    let new = NewImport {
        vector_store_id,
        request: "{}".to_owned(),
        owner: None,
        pages: vec!["https://x.example/a".to_owned()],
    };
    let id = store.create_import(new).await.unwrap().id;
    let claimed = store.claim_import().await.unwrap().expect("it is queued");
    assert_eq!((&claimed.id, claimed.counts.queued), (&id, 1));
    let second = open(dir.path()).await;
    assert!(second.claim_import().await.unwrap().is_none());
    drop(store);
    let taken = second
        .claim_import()
        .await
        .unwrap()
        .expect("nobody works on it");
    assert_eq!(taken.id, id);
    let stale = second.finish_import(&claimed, None).await;
    assert!(matches!(stale, Err(StoreError::ImportGone { .. })));
    second.cancel_import(&id).await.unwrap();
    assert!(matches!(
        second.check_import(&taken).await,
        Err(StoreError::ImportGone { .. })
    ));
}
