//! What survives: the end of the process at any moment, a damaged index file, two processes, a strange database.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

const X: [f32; DIMENSIONS] = [1.0, 0.0, 0.0, 0.0];
const Y: [f32; DIMENSIONS] = [0.0, 1.0, 0.0, 0.0];

#[tokio::test]
async fn everything_survives_dropping_the_store_without_a_farewell() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    ingest(&store, &vector_store, &[("alpha", X)]).await;
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["alpha"]
    );
    assert_eq!(
        keyword_texts(&store, "alpha", within(&vector_store)).await,
        ["alpha"]
    );
}

const MARK: &str = "killed-here";

/// The other half of the next test: runs in a process of its own, in a folder that has the mark.
#[tokio::test]
#[ignore = "started by acknowledged_uploads_survive_a_kill"]
async fn uploads_until_it_is_killed() {
    if !Path::new(MARK).exists() {
        return;
    }
    let store = open(Path::new("data")).await;
    let vector_store = create_vector_store(&store, "a").await;
    loop {
        let file = ingest(&store, &vector_store, &[("alpha", X), ("beta", Y)]).await;
        println!("\nstored {vector_store} {file}");
    }
}

#[tokio::test]
async fn acknowledged_uploads_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(MARK), "").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "store::tests::durability::uploads_until_it_is_killed",
        ])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(|line| line.ok());
    let mut stored = Vec::new();
    for line in lines {
        if let Some(ids) = line.strip_prefix("stored ") {
            stored.push(ids.to_owned());
        }
        if stored.len() == 20 {
            // SIGKILL, most likely in the middle of the next upload.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(stored.len() >= 20, "the child ended early after {stored:?}");
    let store = open(&dir.path().join("data")).await;
    for ids in &stored {
        let (vector_store, file) = ids.split_once(' ').unwrap();
        assert_eq!(store.file_content(file).await.unwrap(), b"file.txt");
        let scope = SearchScope {
            file_ids: Some(vec![file.to_owned()]),
            ..within(vector_store)
        };
        assert_eq!(
            vector_texts(&store, Y, scope.clone()).await,
            ["beta", "alpha"]
        );
        assert_eq!(keyword_texts(&store, "beta", scope).await, ["beta"]);
    }
    let db = rusqlite::Connection::open(dir.path().join("data/inglenook.db")).unwrap();
    let verdict: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}

#[tokio::test]
async fn an_index_file_that_is_missing_or_damaged_or_stale_is_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = ingest(&store, &vector_store, &[("alpha", X)]).await;
    store.warm_vector_index().await.unwrap();
    store.flush().await.unwrap();
    let path = dir.path().join("vectors.usearch");
    let good = std::fs::read(&path).unwrap();

    let mut flipped = good.clone();
    // The sign of the first number of the first vector, behind two counts.
    flipped[8 + 3] ^= 0x80;
    let half = good[..good.len() / 2].to_vec();
    let cases = [
        ("empty", Some(Vec::new())),
        ("half", Some(half)),
        ("one bit", Some(flipped)),
        ("garbage", Some(vec![0xA5; good.len()])),
        ("missing", None),
        ("good", Some(good.clone())),
    ];
    for (name, content) in cases {
        match content {
            Some(content) => std::fs::write(&path, content).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let store = open(dir.path()).await;
        assert_eq!(
            vector_texts(&store, X, within(&vector_store)).await,
            ["alpha"],
            "{name}"
        );
    }

    store.delete_file(&file).await.unwrap();
    ingest(&store, &vector_store, &[("beta", X)]).await;
    std::fs::write(&path, good).unwrap();
    let store = open(dir.path()).await;
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["beta"],
        "stale"
    );
}

#[tokio::test]
async fn an_index_file_from_another_history_is_not_believed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut vector_stores = Vec::new();
    for (dir, vector) in [(&dir, X), (&other, Y)] {
        let store = open(dir.path()).await;
        let vector_store = create_vector_store(&store, "a").await;
        ingest(&store, &vector_store, &[("alpha", vector)]).await;
        store.warm_vector_index().await.unwrap();
        store.flush().await.unwrap();
        vector_stores.push(vector_store);
    }
    // The same embedder, document and chunk ids, and length of the log, but another vector.
    std::fs::copy(
        other.path().join("vectors.usearch"),
        dir.path().join("vectors.usearch"),
    )
    .unwrap();
    let store = open(dir.path()).await;
    let hits = vector_hits(&store, X, within(&vector_stores[0])).await;
    assert!((hits[0].score - 1.0).abs() < 1e-6, "{hits:?}");
}

#[tokio::test]
async fn an_index_that_the_log_no_longer_reaches_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let deleted = ingest(&store, &vector_store, &[("alpha", X)]).await;
    let untouched = open(dir.path()).await;
    assert_eq!(
        vector_texts(&store, X, within(&vector_store)).await,
        ["alpha"]
    );
    store.flush().await.unwrap();
    store.delete_file(&deleted).await.unwrap();
    ingest(&store, &vector_store, &[("beta", X)]).await;
    let db = rusqlite::Connection::open(dir.path().join("inglenook.db")).unwrap();
    let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10050)
               INSERT INTO vector_changes (document_id) SELECT 0 FROM n";
    db.execute(sql, []).unwrap();
    let num_kept: i64 = db
        .query_row("SELECT count(*) FROM vector_changes", [], |row| row.get(0))
        .unwrap();
    assert_eq!(num_kept, 10_000);
    for store in [store, untouched] {
        assert_eq!(
            vector_texts(&store, X, within(&vector_store)).await,
            ["beta"]
        );
    }
}

#[tokio::test]
async fn two_handles_on_one_folder_see_each_others_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (open(dir.path()).await, open(dir.path()).await);
    let vector_store = create_vector_store(&one, "a").await;
    assert!(
        vector_texts(&two, X, within(&vector_store))
            .await
            .is_empty()
    );
    let alpha = ingest(&one, &vector_store, &[("alpha", X)]).await;
    assert_eq!(
        vector_texts(&two, X, within(&vector_store)).await,
        ["alpha"]
    );
    ingest(&two, &vector_store, &[("beta", Y)]).await;
    assert_eq!(
        vector_texts(&one, Y, within(&vector_store)).await,
        ["beta", "alpha"]
    );
    two.delete_file(&alpha).await.unwrap();
    assert_eq!(vector_texts(&one, X, within(&vector_store)).await, ["beta"]);
    assert!(
        keyword_texts(&one, "alpha", within(&vector_store))
            .await
            .is_empty()
    );
    one.flush().await.unwrap();
    two.flush().await.unwrap();
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await);
    let db = rusqlite::Connection::open(dir.path().join("inglenook.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    let error = Store::open(
        dir.path(),
        EmbedderId {
            hash: "e".into(),
            dimensions: 4,
        },
    )
    .await
    .err()
    .unwrap();
    assert!(
        matches!(
            error,
            StoreError::NewerSchema {
                found: 99,
                supported: 2,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("inglenook.db"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_or_is_cut_short_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inglenook.db");
    let store = open(dir.path()).await;
    for _ in 0..20 {
        create_file(&store, "f").await;
    }
    store.flush().await.unwrap();
    drop(store);
    let good = std::fs::read(&path).unwrap();
    for bad in [vec![b'x'; 8192], good[..good.len() / 2].to_vec()] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("inglenook.db"), bad).unwrap();
        let opened = Store::open(
            dir.path(),
            EmbedderId {
                hash: "e".into(),
                dimensions: 4,
            },
        )
        .await;
        let error = opened.err().expect("a damaged file must not open");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("inglenook.db"), "{error}");
    }
}

#[tokio::test]
async fn a_panic_inside_is_an_error_and_rolls_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let panicking = |tx: &rusqlite::Transaction| -> Result<()> {
        tx.execute("DELETE FROM vector_stores", [])?;
        panic!("on purpose")
    };
    let vector_store = create_vector_store(&store, "a").await;
    let error = store.database().write(panicking).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Panicked(message) if message == "on purpose"),
        "{error:?}"
    );
    assert_eq!(store.vector_store(&vector_store).await.unwrap().name, "a");
    create_file(&store, "f").await;
}
