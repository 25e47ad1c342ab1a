//! What an exact search finds, by the definition, straight from the vectors.

use inglenook::kernels::vector::{dot, widest};

use crate::Result;
use crate::vectors::{CHUNKS_PER_DOCUMENT, Collection, DIMENSIONS};

/// Which documents count for a query, both by number, and how many vectors are asked for.
pub struct Question<'a> {
    pub limit: usize,
    pub is_allowed: Box<dyn Fn(usize, usize) -> bool + Sync + 'a>,
}

/// For each question and query, the numbers of the most similar vectors.
pub fn best(collection: &Collection, questions: &[Question]) -> Result<Vec<Vec<Vec<usize>>>> {
    let num_queries = collection.queries.len();
    let middle = num_queries / 2;
    let halves = std::thread::scope(|scope| {
        let halves = [0..middle, middle..num_queries];
        let halves = halves.map(|queries| scope.spawn(|| best_of(collection, questions, queries)));
        halves.map(|half| {
            half.join()
                .unwrap_or_else(|_| Err("a thread panicked".into()))
        })
    });
    let mut all: Vec<Vec<Vec<usize>>> = questions.iter().map(|_| Vec::new()).collect();
    for half in halves {
        for (all, more) in all.iter_mut().zip(half?) {
            all.extend(more);
        }
    }
    Ok(all)
}

fn best_of(
    collection: &Collection,
    questions: &[Question],
    queries: std::ops::Range<usize>,
) -> Result<Vec<Vec<Vec<usize>>>> {
    let mut kept: Vec<Vec<Vec<(f32, usize)>>> = questions
        .iter()
        .map(|_| queries.clone().map(|_| Vec::new()).collect())
        .collect();
    let mut scores = [0.0; CHUNKS_PER_DOCUMENT];
    for (document, vectors) in collection.documents(0..usize::MAX)?.enumerate() {
        for query in queries.clone() {
            widest(|| {
                for (score, vector) in scores.iter_mut().zip(vectors.chunks(DIMENSIONS)) {
                    *score = dot(vector, &collection.queries[query]);
                }
            });
            for (question, kept) in questions.iter().zip(&mut kept) {
                let kept = &mut kept[query - queries.start];
                let least = match kept.len() < question.limit {
                    true => f32::NEG_INFINITY,
                    false => kept[question.limit - 1].0,
                };
                if scores.iter().all(|score| *score <= least)
                    || !(question.is_allowed)(query, document)
                {
                    continue;
                }
                for (chunk, score) in scores.iter().enumerate() {
                    kept.push((*score, document * CHUNKS_PER_DOCUMENT + chunk));
                }
                kept.sort_by(|a, b| b.0.total_cmp(&a.0));
                kept.truncate(question.limit);
            }
        }
    }
    let numbers = |kept: Vec<(f32, usize)>| kept.into_iter().map(|(_, vector)| vector).collect();
    Ok(kept
        .into_iter()
        .map(|kept| kept.into_iter().map(numbers).collect())
        .collect())
}
