//! Questions that are longer than the embedder reads.

use super::RetrieveError;
use crate::embedding::{Embedder, EmbeddingError};

/// A token of a question that has more bytes than this is no word.
const MAX_BYTES_PER_TOKEN: usize = 64;

/// Counts tokens, and so works away from the threads that serve.
pub(super) async fn shorten_all(
    queries: &[String],
    embedder: &Embedder,
) -> Result<Vec<String>, RetrieveError> {
    let (queries, embedder) = (queries.to_vec(), embedder.clone());
    let work = move || {
        queries
            .iter()
            .map(|query| shortened(query, &embedder))
            .collect()
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| EmbeddingError::Stopped.into())
}

/// A question longer than the embedder's window is searched by its end, where the question itself usually stands. Only
/// the search sees the shorter text; the prompt keeps the whole.
fn shortened(query: &str, embedder: &Embedder) -> String {
    let limit = embedder.max_query_tokens();
    // Whatever stands farther from the end has no place among that many tokens.
    let mut start = query.len().saturating_sub(limit * MAX_BYTES_PER_TOKEN);
    while !query.is_char_boundary(start) {
        start += 1;
    }
    let query = &query[start..];
    if embedder.count_tokens(query) <= limit {
        return query.to_string();
    }
    let starts: Vec<usize> = query.char_indices().map(|(at, _)| at).collect();
    let fits = |start: usize| embedder.count_tokens(&query[start..]) <= limit;
    // The first character from which on everything fits.
    let first = starts.partition_point(|start| !fits(*start));
    let rest = starts.get(first).map_or("", |start| &query[*start..]);
    // Not from the middle of a word, where there are words.
    match rest
        .find(char::is_whitespace)
        .filter(|at| *at * 2 < rest.len())
    {
        Some(blank) => rest[blank..].trim_start().to_string(),
        None => rest.to_string(),
    }
}
