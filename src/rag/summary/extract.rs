//! Summaries in the documents' own sentences: those that are closest in meaning to all of them, and not to each other
//! (maximal marginal relevance, Carbonell and Goldstein, 1998), in the order of the documents.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::{Extent, Method, num_documents};
use crate::embedding::{InputKind, Priority};
use crate::engine::Usage;
use crate::rag::Workspace;
use crate::rag::quote::divided;
use crate::rag::retrieve::{Passage, RetrieveError};
use crate::rag::sentence::stems;

/// Sentences whose meaning is compared: those that have most of the words that many have.
const MAX_COMPARED: usize = 256;
/// Sentences of a summary: one for so many passages, within bounds.
const PASSAGES_PER_SENTENCE: usize = 3;
const MIN_SENTENCES: usize = 3;
const MAX_SENTENCES: usize = 8;
/// Different content words that a sentence needs to stand for itself, and bytes that it may have.
const MIN_WORDS: usize = 4;
const MAX_BYTES: usize = 500;
/// How much being central counts against being different from what was chosen already.
const CENTRAL: f32 = 0.7;

/// The sentences of a summary.
pub struct Extract {
    pub extent: Extent,
    /// Spans of passages' texts; passages are numbered in the order of their first sentence.
    pub excerpts: Vec<(Passage, Range<usize>)>,
    /// In tokens of the embedding model.
    pub usage: Usage,
}

struct Sentence {
    passage: usize,
    span: Range<usize>,
    stems: HashSet<String>,
}

/// Chooses sentences of `passages`.
pub async fn extract(
    workspace: &Workspace,
    passages: &[Passage],
) -> Result<Extract, RetrieveError> {
    let embedder = workspace
        .embedder
        .as_ref()
        .ok_or(RetrieveError::NoEmbedder)?;
    let candidates = candidates(passages);
    let text = |it: &Sentence| passages[it.passage].chunk.text[it.span.clone()].to_owned();
    let texts: Vec<String> = candidates.iter().map(text).collect();
    let embedded = embedder
        .embed(texts, InputKind::Passage, Priority::Interactive)
        .await?;
    let num = passages.len().div_ceil(PASSAGES_PER_SENTENCE);
    let num = num.clamp(MIN_SENTENCES, MAX_SENTENCES);
    let mut chosen = central(&embedded.vectors, num);
    // Candidates stand in the order of the documents.
    chosen.sort_unstable();
    let mut numbers: HashMap<usize, usize> = HashMap::new();
    let excerpts = chosen.into_iter().map(|at| {
        let sentence = &candidates[at];
        let next = numbers.len() + 1;
        let number = *numbers.entry(sentence.passage).or_insert(next);
        let passage = Passage {
            number,
            ..passages[sentence.passage].clone()
        };
        (passage, sentence.span.clone())
    });
    Ok(Extract {
        extent: Extent {
            method: Method::Extractive,
            num_documents: num_documents(passages),
            num_passages: passages.len(),
            num_cached: 0,
        },
        excerpts: excerpts.collect(),
        usage: Usage {
            num_prompt_tokens: embedded.num_tokens.iter().sum(),
            ..Usage::default()
        },
    })
}

/// The sentences that may stand in a summary, in their order, each once.
fn candidates(passages: &[Passage]) -> Vec<Sentence> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (place, passage) in passages.iter().enumerate() {
        let text = &passage.chunk.text;
        for span in divided(text) {
            let sentence = &text[span.clone()];
            let stems: HashSet<String> = stems(sentence).collect();
            let is_whole =
                sentence.len() <= MAX_BYTES && sentence.ends_with(['.', '!', '。', '”', '"', ')']);
            let key: Vec<&str> = sentence.split_whitespace().collect();
            if is_whole && stems.len() >= MIN_WORDS && seen.insert(key.join(" ")) {
                found.push(Sentence {
                    passage: place,
                    span,
                    stems,
                });
            }
        }
    }
    if found.len() > MAX_COMPARED {
        let mut counts: HashMap<&String, f32> = HashMap::new();
        for stem in found.iter().flat_map(|it| &it.stems) {
            *counts.entry(stem).or_default() += 1.0;
        }
        // How common its words are among all sentences, on average.
        let commonness = |it: &Sentence| {
            let total: f32 = it.stems.iter().map(|stem| counts[stem].ln_1p()).sum();
            total / it.stems.len() as f32
        };
        let mut scores: Vec<(usize, f32)> = found.iter().map(commonness).enumerate().collect();
        scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let kept: HashSet<usize> = scores[..MAX_COMPARED].iter().map(|(at, _)| *at).collect();
        let mut at = 0;
        found.retain(|_| {
            at += 1;
            kept.contains(&(at - 1))
        });
    }
    found
}

/// The places of the `num` vectors that are closest to the mean of all and farthest from each other.
fn central(vectors: &[Vec<f32>], num: usize) -> Vec<usize> {
    let units: Vec<Vec<f32>> = vectors.iter().map(|it| unit(it)).collect();
    let Some(first) = units.first() else {
        return Vec::new();
    };
    let mut mean = vec![0.0; first.len()];
    for vector in &units {
        mean.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
    }
    let mean = unit(&mean);
    let centrality: Vec<f32> = units.iter().map(|it| dot(it, &mean)).collect();
    // The closest that each is to what was chosen.
    let mut nearest = vec![0.0_f32; units.len()];
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < num.min(units.len()) {
        let score = |at: &usize| CENTRAL * centrality[*at] - (1.0 - CENTRAL) * nearest[*at];
        let left = (0..units.len()).filter(|at| !chosen.contains(at));
        let best = left.max_by(|a, b| score(a).total_cmp(&score(b)).then(b.cmp(a)));
        let Some(best) = best else { break };
        chosen.push(best);
        for (near, vector) in nearest.iter_mut().zip(&units) {
            *near = near.max(dot(vector, &units[best]));
        }
    }
    chosen
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let length = dot(vector, vector).sqrt().max(f32::MIN_POSITIVE);
    vector.iter().map(|x| x / length).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_are_central_and_differ() {
        // Two that say nearly the same, one beside them, and one far away from all.
        let vectors = [
            vec![1.0, 0.1, 0.0],
            vec![1.0, 0.12, 0.0],
            vec![0.7, 0.7, 0.0],
            vec![-0.2, 0.0, 1.0],
        ];
        let chosen = central(&vectors, 2);
        assert_eq!(chosen.len(), 2);
        assert!(chosen.contains(&2), "{chosen:?}");
        assert!(!chosen.contains(&3), "{chosen:?}");
        assert_eq!(central(&vectors, 9).len(), 4);
        assert!(central(&[], 3).is_empty());
    }
}
