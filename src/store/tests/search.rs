//! Vector and keyword search, and reading what was found.

use super::*;

const X: [f32; DIMENSIONS] = [1.0, 0.0, 0.0, 0.0];
const Y: [f32; DIMENSIONS] = [0.0, 1.0, 0.0, 0.0];

#[tokio::test]
async fn scores_are_cosine_similarities_best_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let chunks = [
        ("same", [5.0, 0.0, 0.0, 0.0]),
        ("half", [1.0, 3.0_f32.sqrt(), 0.0, 0.0]),
        ("opposite", [-2.0, 0.0, 0.0, 0.0]),
    ];
    ingest(&store, &vector_store, &chunks).await;
    let hits = store
        .vector_search(X.to_vec(), within(&vector_store), 10)
        .await
        .unwrap();
    assert_eq!(texts_of(&store, &hits).await, ["same", "half", "opposite"]);
    for (hit, expected) in hits.iter().zip([1.0, 0.5, -1.0]) {
        assert!((hit.score - expected).abs() < 1e-6, "{hit:?}");
    }
    let first = store
        .vector_search(X.to_vec(), within(&vector_store), 1)
        .await
        .unwrap();
    assert_eq!(first, hits[..1]);
    assert!(
        store
            .vector_search(X.to_vec(), within(&vector_store), 0)
            .await
            .unwrap()
            .is_empty()
    );
    let all = store
        .vector_search(X.to_vec(), within(&vector_store), usize::MAX)
        .await
        .unwrap();
    assert_eq!(all.len(), 3);
}

#[tokio::test]
async fn a_scope_shows_its_vector_stores_and_files_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let (one, two) = (
        create_vector_store(&store, "1").await,
        create_vector_store(&store, "2").await,
    );
    let a = ingest(&store, &one, &[("word a", X)]).await;
    let b = ingest(&store, &one, &[("word b", X)]).await;
    let c = ingest(&store, &two, &[("word c", X)]).await;
    let scope = |stores: &[&String], files: Option<&[&String]>| SearchScope {
        vector_store_ids: stores.iter().map(|id| (*id).clone()).collect(),
        file_ids: files.map(|ids| ids.iter().map(|id| (*id).clone()).collect()),
        filter: None,
    };
    let table = [
        (scope(&[&one], None), vec!["word a", "word b"]),
        (scope(&[&two], None), vec!["word c"]),
        (
            scope(&[&one, &two], None),
            vec!["word a", "word b", "word c"],
        ),
        (
            scope(&[&one, &two], Some(&[&b, &c])),
            vec!["word b", "word c"],
        ),
        (scope(&[&one], Some(&[&c])), vec![]),
        (scope(&[&one], Some(&[])), vec![]),
        (scope(&[], Some(&[&a])), vec![]),
        (scope(&[&"vs_unknown".to_owned()], None), vec![]),
    ];
    for (scope, expected) in table {
        assert_eq!(
            vector_texts(&store, X, scope.clone()).await,
            expected,
            "{scope:?}"
        );
        assert_eq!(
            keyword_texts(&store, "word", scope.clone()).await,
            expected,
            "{scope:?}"
        );
    }
}

#[tokio::test]
async fn keywords_are_found_by_stem_without_accents_and_rare_words_count_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let texts = [
        "the café opens at nine",
        "refunds are paid in May",
        "the the the the",
        "the 漢字 chapter, rev. 3.14",
    ];
    let chunks: Vec<_> = texts.iter().map(|text| (*text, X)).collect();
    ingest(&store, &vector_store, &chunks).await;
    let table = [
        ("cafe", vec![texts[0]]),
        ("CAFÉS opening", vec![texts[0]]),
        ("cafe\u{301}", vec![texts[0]]),
        ("refund paying", vec![texts[1]]),
        ("the cafe", vec![texts[0], texts[2], texts[3]]),
        ("漢字", vec![texts[3]]),
        ("3.14", vec![texts[3]]),
        ("part", texts.to_vec()),
        ("nothing", vec![]),
    ];
    for (query, expected) in table {
        let found = keyword_texts(&store, query, within(&vector_store)).await;
        let sorted = |texts: Vec<String>| std::collections::BTreeSet::from_iter(texts);
        assert_eq!(
            sorted(found),
            sorted(expected.iter().map(|text| (*text).to_owned()).collect()),
            "{query}"
        );
    }
    let hits = store
        .keyword_search("the cafe", within(&vector_store), 2)
        .await
        .unwrap();
    assert!(hits.len() == 2 && hits[0].score > hits[1].score, "{hits:?}");
    assert_eq!(texts_of_words(&store, &hits).await[0], texts[0]);
}

#[tokio::test]
async fn query_syntax_in_a_question_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    ingest(
        &store,
        &vector_store,
        &[("apple pie", X), ("something else", Y)],
    )
    .await;
    let long = "pie ".repeat(100_000);
    let many: String = (0..5000).map(|i| format!("w{i} ")).collect();
    let queries = [
        "\"",
        "\"\"",
        "\"apple",
        "apple\"",
        "*",
        "app*",
        "^apple",
        "-apple",
        "+",
        "a AND",
        "AND",
        "OR OR",
        "NOT apple",
        "NEAR(",
        "NEAR(apple pie, 2)",
        "text : apple",
        "{text heading_path}: apple",
        "(",
        ")",
        "((((",
        "'",
        "';--",
        "\\",
        "\0",
        "apple\0pie",
        "\u{FEFF}",
        "\u{200D}",
        "。",
        "“apple”",
        "👩‍👩‍👧",
        "e\u{301}\u{301}",
        "\u{301}",
        "%",
        "_",
        "?1",
        ":x",
        "@x",
        "\u{FFFF}",
        "𝒂𝒑𝒑𝒍𝒆",
        "٣",
        "ﷺ",
        long.as_str(),
        many.as_str(),
    ];
    for query in queries {
        let found = store.keyword_search(query, within(&vector_store), 5).await;
        assert!(found.is_ok(), "{query:?}: {found:?}");
    }
    for query in [
        "\"apple",
        "app* apple",
        "-apple",
        "text:apple",
        "“apple”",
        "apple\0pie",
        "x' OR apple",
    ] {
        assert_eq!(
            keyword_texts(&store, query, within(&vector_store)).await,
            ["apple pie"],
            "{query:?}"
        );
    }
}

#[tokio::test]
async fn chunks_come_in_the_order_asked_and_neighbours_in_the_order_of_the_text() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = ingest(
        &store,
        &vector_store,
        &[("a", X), ("b", X), ("c", X), ("d", X)],
    )
    .await;
    let all = store
        .neighbours(&vector_store, &file, 0..u32::MAX)
        .await
        .unwrap();
    assert_eq!(
        all.iter().map(|chunk| chunk.ordinal).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    let first = &all[0];
    assert_eq!(
        (&first.vector_store_id, &first.file_id),
        (&vector_store, &file)
    );
    assert_eq!(
        (first.filename.as_str(), first.heading_path.as_slice()),
        ("file.txt", &["Part".to_owned()][..])
    );
    assert_eq!(
        (
            first.span.clone(),
            first.page_first,
            first.page_last,
            first.num_tokens
        ),
        (0..1, 1, 2, 3)
    );
    let ids: Vec<i64> = all.iter().map(|chunk| chunk.id).collect();
    let asked = vec![ids[2], 999, ids[0], ids[2]];
    let texts: Vec<String> = store
        .chunks(asked)
        .await
        .unwrap()
        .into_iter()
        .map(|chunk| chunk.text)
        .collect();
    assert_eq!(texts, ["c", "a", "c"]);
    let middle = store.neighbours(&vector_store, &file, 1..3).await.unwrap();
    assert_eq!(middle, all[1..3]);
}

#[tokio::test]
async fn words_are_counted_in_all_their_forms() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let chunks = [("the keepers met", X), ("a keeper left", Y), ("nobody", X)];
    ingest(&store, &vector_store, &chunks).await;
    let words = ["keeper", "left", "boat", "*", ""].map(str::to_owned);
    let counted = store.word_frequencies(words.to_vec()).await.unwrap();
    let expected = WordFrequencies {
        num_with_word: vec![2, 1, 0, 0, 0],
        num_chunks: 3,
    };
    assert_eq!(counted, expected);
}

#[tokio::test]
async fn what_has_expired_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_stores = [
        create_vector_store(&store, "1").await,
        create_vector_store(&store, "2").await,
    ];
    let mut files = Vec::new();
    for vector_store in &vector_stores {
        for text in ["alpha", "beta"] {
            files.push(ingest(&store, vector_store, &[(text, X)]).await);
        }
    }
    let db = rusqlite::Connection::open(dir.path().join("inglenook.db")).unwrap();
    let everything = SearchScope {
        vector_store_ids: vector_stores.to_vec(),
        ..SearchScope::default()
    };
    let found = async || {
        let by_vector = vector_texts(&store, X, everything.clone()).await;
        let by_word = keyword_texts(&store, "alpha", everything.clone()).await;
        (by_vector.len(), by_word.len())
    };
    assert_eq!(found().await, (4, 2));
    let sql = "UPDATE files SET expires_at = unixepoch() WHERE id = ?";
    db.execute(sql, [&files[0]]).unwrap();
    assert_eq!(found().await, (3, 1));
    let sql = "UPDATE vector_stores SET expires_after_days = 1, last_active_at = unixepoch() - 86400 WHERE id = ?";
    db.execute(sql, [&vector_stores[1]]).unwrap();
    assert_eq!(found().await, (1, 0));
    // The file, and both documents of the vector store.
    assert_eq!(store.delete_expired().await.unwrap(), 3);
    assert_eq!(store.delete_expired().await.unwrap(), 0);
    assert_eq!(found().await, (1, 0));
    store.file(&files[3]).await.unwrap();
}
