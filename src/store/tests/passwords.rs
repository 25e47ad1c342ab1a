//! Passwords of documents: kept for the job, and no longer.

use super::*;

const SECRET: &str = "kestrel-orchard-77";

async fn attach_locked(store: &Store, vector_store: &str, file: &str) {
    let new = NewDocument {
        file_id: file.to_owned(),
        attributes: Attributes::new(),
        chunking: CHUNKING,
        has_own_chunking: false,
        if_exists: IfExists::Keep,
        password: Some(Password::new(SECRET.to_owned())),
    };
    let attached = store.attach_new(vector_store, new.clone()).await.unwrap();
    assert!(!format!("{attached:?}{new:?}").contains(SECRET));
}

/// Whether the database holds the password once all of it is in its main file.
fn is_on_disk(dir: &Path) -> bool {
    let path = dir.join("inglenook.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    let checkpoint = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, i64>(0)
    });
    assert_eq!(checkpoint.unwrap(), 0);
    let bytes = std::fs::read(path).unwrap();
    bytes
        .windows(SECRET.len())
        .any(|window| window == SECRET.as_bytes())
}

#[tokio::test]
async fn a_password_goes_when_its_document_is_read_or_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = create_file(&store, "locked.pdf").await;
    attach_locked(&store, &vector_store, &file).await;
    let job = store.claim_next_job().await.unwrap().expect("is queued");
    let password = store.password(&job).await.unwrap();
    assert_eq!(password.as_ref().map(Password::expose), Some(SECRET));
    assert!(is_on_disk(dir.path()));
    store.forget_password(&job).await.unwrap();
    assert_eq!(store.password(&job).await.unwrap(), None);
    assert!(!is_on_disk(dir.path()));
    store
        .fail_job(
            &job,
            DocumentErrorCode::InvalidFile,
            "is damaged",
            Vec::new(),
        )
        .await
        .unwrap();

    attach_locked(&store, &vector_store, &file).await;
    let job = store.claim_next_job().await.unwrap().expect("is queued");
    assert!(store.password(&job).await.unwrap().is_some());
    store
        .fail_job(
            &job,
            DocumentErrorCode::InvalidFile,
            "is damaged",
            Vec::new(),
        )
        .await
        .unwrap();
    assert_eq!(store.password(&job).await.unwrap(), None);
    assert!(!is_on_disk(dir.path()));
}
