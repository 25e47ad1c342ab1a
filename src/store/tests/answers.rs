//! What answering remembers goes with what it was made of.

use super::*;

const VECTOR: [f32; DIMENSIONS] = [1.0, 0.0, 0.0, 0.0];

#[tokio::test]
async fn the_version_of_the_index_moves_with_everything_that_a_search_can_find() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let mut seen = vec![store.index_version().await.unwrap()];
    let file = create_file(&store, "file.txt").await;
    attach(&store, &vector_store, &file).await;
    // Nothing can be found of it yet.
    assert_eq!(store.index_version().await.unwrap(), seen[0]);
    run_next_job(&store, &[("one", VECTOR)]).await;
    seen.push(store.index_version().await.unwrap());
    let attributes = Attributes::from([("lang".to_owned(), AttributeValue::String("en".into()))]);
    let same = attributes.clone();
    store
        .update_attributes(&vector_store, &file, attributes)
        .await
        .unwrap();
    seen.push(store.index_version().await.unwrap());
    store
        .update_attributes(&vector_store, &file, same)
        .await
        .unwrap();
    assert_eq!(store.index_version().await.unwrap(), seen[2]);
    let other = ingest(&store, &vector_store, &[("two", VECTOR)]).await;
    seen.push(store.index_version().await.unwrap());
    store.delete_file(&other).await.unwrap();
    seen.push(store.index_version().await.unwrap());
    store.delete_vector_store(&vector_store).await.unwrap();
    seen.push(store.index_version().await.unwrap());
    for (at, version) in seen.iter().enumerate() {
        assert!(!seen[..at].contains(version), "{at}: {seen:?}");
    }
    drop(store);
    let another = open_with(dir.path(), "another").await;
    assert!(!seen.contains(&another.index_version().await.unwrap()));
}

#[tokio::test]
async fn summaries_go_with_their_passages() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let file = ingest(&store, &vector_store, &[("one", VECTOR), ("two", VECTOR)]).await;
    let chunks = store
        .chunks_in_order(&within(&vector_store), 2)
        .await
        .unwrap();
    assert_eq!((chunks.num_chunks, chunks.num_documents), (2, 1));
    let few = store.chunks_in_order(&within(&vector_store), 1).await;
    assert_eq!(few.unwrap().chunks, []);
    let summary = |chunk_id: i64, text: &str| PassageSummary {
        chunk_id,
        key: text.to_owned(),
        text: format!("summary of {text}"),
    };
    for chunk in &chunks.chunks {
        let summary = summary(chunk.id, &chunk.text);
        store.save_passage_summary(summary.clone()).await.unwrap();
        store.save_passage_summary(summary).await.unwrap();
    }
    let keys = vec!["one".to_owned(), "two".to_owned(), "three".to_owned()];
    let kept = store.passage_summaries(keys.clone()).await.unwrap();
    assert_eq!((kept.len(), kept["two"].as_str()), (2, "summary of two"));
    store.delete_file(&file).await.unwrap();
    assert!(store.passage_summaries(keys).await.unwrap().is_empty());
    // One that is written when its passage is gone already is not kept.
    let late = summary(chunks.chunks[0].id, "one");
    store.save_passage_summary(late).await.unwrap();
    let kept = store.passage_summaries(vec!["one".to_owned()]).await;
    assert!(kept.unwrap().is_empty());
}
