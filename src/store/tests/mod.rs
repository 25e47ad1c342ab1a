//! The store as its users see it: real files in temporary folders.

mod answers;
mod conversations;
mod copies;
mod documents;
mod durability;
mod files;
mod filters;
mod jobs;
mod languages;
mod large_index;
mod passwords;
mod random_operations;
mod reindex;
mod scope_cache;
mod search;
mod sources;
mod vector_index;

use std::path::Path;

use super::*;

pub(super) const CHUNKING: Chunking = Chunking {
    max_tokens: 100,
    overlap_tokens: 10,
};
pub(super) const DIMENSIONS: usize = 4;

pub(super) async fn open(dir: &Path) -> Store {
    open_with(dir, "embedder").await
}

pub(super) async fn open_with(dir: &Path, hash: &str) -> Store {
    let embedder = EmbedderId {
        hash: hash.to_owned(),
        dimensions: DIMENSIONS,
    };
    Store::open(dir, embedder).await.expect("the store opens")
}

pub(super) async fn create_file(store: &Store, name: &str) -> String {
    let new = NewFile {
        filename: name.to_owned(),
        purpose: "assistants".to_owned(),
        media_type: "text/plain".to_owned(),
        expires_after_seconds: None,
    };
    store
        .create_file(new, Content::Bytes(name.as_bytes().to_vec()))
        .await
        .unwrap()
        .id
}

pub(super) async fn create_vector_store(store: &Store, name: &str) -> String {
    let new = NewVectorStore {
        name: name.to_owned(),
        ..NewVectorStore::default()
    };
    store.create_vector_store(new).await.unwrap().id
}

pub(super) fn chunk(ordinal: u32, text: &str, vector: Vec<f32>) -> NewChunk {
    NewChunk {
        ordinal,
        span: 0..text.len(),
        page_first: 1,
        page_last: 2,
        heading_path: vec!["Part".to_owned()],
        text: text.to_owned(),
        num_tokens: 3,
        vector,
    }
}

pub(super) async fn attach(store: &Store, vector_store: &str, file: &str) -> Document {
    store
        .attach(vector_store, file, Attributes::new(), CHUNKING)
        .await
        .unwrap()
}

/// Cancels the ingestion of a file, as the batch that it is in.
pub(super) async fn cancel(store: &Store, vector_store: &str, file: &str) -> FileBatch {
    let new = NewDocument {
        file_id: file.to_owned(),
        attributes: Attributes::new(),
        chunking: CHUNKING,
        has_own_chunking: false,
        if_exists: IfExists::Keep,
        password: None,
    };
    let batch = store
        .create_file_batch(vector_store, vec![new])
        .await
        .unwrap();
    store
        .cancel_file_batch(vector_store, &batch.id)
        .await
        .unwrap()
}

/// A new file with these chunks, completed in the vector store.
pub(super) async fn ingest(
    store: &Store,
    vector_store: &str,
    chunks: &[(&str, [f32; DIMENSIONS])],
) -> String {
    let file = create_file(store, "file.txt").await;
    attach(store, vector_store, &file).await;
    run_next_job(store, chunks).await;
    file
}

/// Claims the next job, stores these chunks and completes it.
pub(super) async fn run_next_job(store: &Store, chunks: &[(&str, [f32; DIMENSIONS])]) {
    let job = store
        .claim_next_job()
        .await
        .unwrap()
        .expect("a job is queued");
    let new = chunks
        .iter()
        .zip(0..)
        .map(|((text, vector), ordinal)| chunk(ordinal, text, vector.to_vec()));
    store.append_chunks(&job, new.collect()).await.unwrap();
    store
        .complete_job(&job, chunks.len() as u32, Vec::new())
        .await
        .unwrap();
}

pub(super) fn within(vector_store: &str) -> SearchScope {
    SearchScope {
        vector_store_ids: vec![vector_store.to_owned()],
        ..SearchScope::default()
    }
}

pub(super) async fn texts_of(store: &Store, hits: &[Hit]) -> Vec<String> {
    let ids = hits.iter().map(|hit| hit.chunk_id).collect();
    store
        .chunks(ids)
        .await
        .unwrap()
        .into_iter()
        .map(|chunk| chunk.text)
        .collect()
}

pub(super) async fn texts_of_words(store: &Store, hits: &[WordHit]) -> Vec<String> {
    let hit = |hit: &WordHit| Hit {
        chunk_id: hit.chunk_id,
        score: hit.score,
    };
    texts_of(store, &hits.iter().map(hit).collect::<Vec<_>>()).await
}

/// Searches twice: with the index as it happens to be, and when it has caught up; both must find the same.
pub(super) async fn vector_hits(
    store: &Store,
    query: [f32; DIMENSIONS],
    scope: SearchScope,
) -> Vec<Hit> {
    let early = store
        .vector_search(query.to_vec(), scope.clone(), 1000)
        .await
        .unwrap();
    store.warm_vector_index().await.unwrap();
    let late = store
        .vector_search(query.to_vec(), scope, 1000)
        .await
        .unwrap();
    assert_eq!(early, late, "an index that is behind must not matter");
    assert_eq!(
        store.parts.index.num_vectors(),
        num_searchable_chunks(store).await,
        "the index holds what can be found"
    );
    late
}

async fn num_searchable_chunks(store: &Store) -> usize {
    let sql = "SELECT count(*) FROM chunks c JOIN documents d ON d.id = c.document_id
               WHERE d.status = 'completed' AND d.embedder_hash = ?";
    let hash = store.embedder().hash.clone();
    let count = move |tx: &rusqlite::Transaction| {
        Ok(tx.query_row(sql, [hash], |row| row.get::<_, i64>(0))?)
    };
    store.database().read(count).await.unwrap() as usize
}

pub(super) async fn vector_texts(
    store: &Store,
    query: [f32; DIMENSIONS],
    scope: SearchScope,
) -> Vec<String> {
    texts_of(store, &vector_hits(store, query, scope).await).await
}

pub(super) async fn keyword_texts(store: &Store, query: &str, scope: SearchScope) -> Vec<String> {
    let hits = store.keyword_search(query, scope, 10).await.unwrap();
    texts_of_words(store, &hits).await
}
