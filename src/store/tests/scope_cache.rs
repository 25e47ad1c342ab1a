//! The documents that are kept for a scope are those that it has.

use super::*;

const X: [f32; DIMENSIONS] = [1.0, 0.0, 0.0, 0.0];

/// What a scope's query reads, `scope_changes` must watch; random operations check that it does so rightly.
#[tokio::test]
async fn scopes_ask_only_tables_whose_changes_are_logged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let scope = SearchScope {
        vector_store_ids: vec!["a".into()],
        file_ids: Some(vec!["b".into()]),
        filter: Some(AttributeFilter::Compare {
            op: CompareOp::Eq,
            key: "mark".to_owned(),
            value: FilterValue::One(AttributeValue::Bool(true)),
        }),
    };
    let allowed = scope.allowed_documents("embedder").unwrap();
    let read = move |tx: &rusqlite::Transaction| {
        let mut statement = tx.prepare(&format!("EXPLAIN {}", allowed.sql))?;
        let mut rows = statement.query(rusqlite::params_from_iter(&allowed.params))?;
        let mut tables = std::collections::BTreeSet::new();
        while let Some(row) = rows.next()? {
            if row.get::<_, String>(1)? != "OpenRead" {
                continue;
            }
            let root: i64 = row.get(3)?;
            let sql = "SELECT tbl_name FROM sqlite_schema WHERE rootpage = ?";
            tables.insert(tx.query_row(sql, [root], |row| row.get::<_, String>(0))?);
        }
        let mut watched = std::collections::BTreeSet::new();
        let mut statement = tx.prepare(
            "SELECT tbl_name FROM sqlite_schema WHERE type = 'trigger' AND sql LIKE '%INTO scope_changes%'",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            watched.insert(row.get::<_, String>(0)?);
        }
        Ok((tables, watched))
    };
    let (tables, watched) = store.database().read(read).await.unwrap();
    assert!(
        tables.contains("documents") && tables.contains("files"),
        "{tables:?}"
    );
    let unwatched: Vec<&String> = tables.difference(&watched).collect();
    assert!(
        unwatched.is_empty(),
        "scopes read {unwatched:?}: add triggers that note their changes in scope_changes"
    );
}

#[tokio::test]
async fn a_kept_scope_ends_with_what_expires_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let other = create_vector_store(&store, "b").await;
    let file = ingest(&store, &vector_store, &[("alpha", X)]).await;
    ingest(&store, &other, &[("beta", X)]).await;
    let scope = SearchScope {
        vector_store_ids: vec![vector_store.clone(), other.clone()],
        ..SearchScope::default()
    };
    assert_eq!(vector_hits(&store, X, scope.clone()).await.len(), 2);
    let db = rusqlite::Connection::open(dir.path().join("inglenook.db")).unwrap();
    // Another process changes the date of a file, then that of a vector store.
    let sql = "UPDATE files SET expires_at = unixepoch() WHERE id = ?";
    db.execute(sql, [&file]).unwrap();
    assert_eq!(vector_texts(&store, X, scope.clone()).await, ["beta"]);
    let sql = "UPDATE vector_stores SET expires_after_days = 1, last_active_at = 1 WHERE id = ?";
    db.execute(sql, [&other]).unwrap();
    assert!(vector_texts(&store, X, scope.clone()).await.is_empty());
    // The date comes while the scope is kept: nothing is written at that moment.
    let sql = "UPDATE files SET expires_at = unixepoch() + 2 WHERE id = ?";
    db.execute(sql, [&file]).unwrap();
    assert_eq!(vector_texts(&store, X, scope.clone()).await, ["alpha"]);
    let gone_at: i64 = db
        .query_row(
            "SELECT expires_at FROM files WHERE id = ?",
            [&file],
            |row| row.get(0),
        )
        .unwrap();
    loop {
        let before = unix_now();
        let hits = store.vector_search(X.to_vec(), scope.clone(), 10).await;
        let hits = hits.unwrap();
        if before >= gone_at {
            assert!(hits.is_empty(), "{hits:?}");
            break;
        }
        if unix_now() < gone_at {
            assert_eq!(hits.len(), 1);
        }
        tokio::task::yield_now().await;
    }
}
