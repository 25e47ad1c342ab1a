//! How good a ranking, a set of passages or an answer is. Pure, and each checked against another implementation
//! (`tests/goldens/make_eval_goldens.py`).

use std::collections::BTreeMap;
use std::ops::Range;

use super::text::normalized;

/// Gains of the documents that bear on a question, by name.
pub type Gains = BTreeMap<String, u32>;

/// Normalised discounted cumulative gain of the first `k`, with linear gains, as trec_eval counts it (Järvelin and
/// Kekäläinen, 2002). 0 when nothing bears on the question.
pub fn ndcg(ranking: &[String], gains: &Gains, k: usize) -> f64 {
    let discounted = |(rank, gain): (usize, u32)| f64::from(gain) / ((rank + 2) as f64).log2();
    let found = ranking.iter().take(k).map(|name| gain_of(gains, name));
    let found: f64 = found.enumerate().map(discounted).sum();
    let mut best: Vec<u32> = gains.values().copied().collect();
    best.sort_unstable_by(|a, b| b.cmp(a));
    let best: f64 = best.into_iter().take(k).enumerate().map(discounted).sum();
    share(found, best)
}

/// Share of the documents that bear on the question among the first `k`.
pub fn recall(ranking: &[String], gains: &Gains, k: usize) -> f64 {
    let found = ranking
        .iter()
        .take(k)
        .filter(|name| is_relevant(gains, name));
    let all = gains.values().filter(|gain| **gain > 0);
    share(found.count() as f64, all.count() as f64)
}

/// One over the rank of the first document that bears on the question, 0 when it is not among the first `k`.
pub fn reciprocal_rank(ranking: &[String], gains: &Gains, k: usize) -> f64 {
    let first = ranking
        .iter()
        .take(k)
        .position(|name| is_relevant(gains, name));
    first.map_or(0.0, |rank| 1.0 / (rank + 1) as f64)
}

/// Share of what was found that bears on the question. 0 when nothing was found.
pub fn precision(found: &[String], gains: &Gains) -> f64 {
    let right = found.iter().filter(|name| is_relevant(gains, name));
    share(right.count() as f64, found.len() as f64)
}

fn gain_of(gains: &Gains, name: &str) -> u32 {
    gains.get(name).copied().unwrap_or(0)
}

pub fn is_relevant(gains: &Gains, name: &str) -> bool {
    gain_of(gains, name) > 0
}

/// A piece of a document, in bytes of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub document: String,
    pub span: Range<usize>,
}

/// How passages cover the pieces that answer a question, after Smith and Troynikov, "Evaluating Chunking Strategies for
/// Retrieval" (2024), in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// Share of the gold bytes that lie in a passage.
    pub recall: f64,
    /// Share of the passages' bytes that are gold.
    pub precision: f64,
}

/// What is in several passages, or in several gold pieces, counts once.
pub fn coverage(passages: &[Piece], gold: &[Piece]) -> Coverage {
    let (passages, gold) = (joined(passages), joined(gold));
    let shared: usize = gold
        .iter()
        .flat_map(|(document, spans)| {
            let others = passages.get(document).map_or(&[][..], Vec::as_slice);
            spans
                .iter()
                .flat_map(move |span| others.iter().map(move |other| overlap(span, other)))
        })
        .sum();
    let size = |all: &BTreeMap<&str, Vec<Range<usize>>>| -> f64 {
        all.values().flatten().map(|span| span.len() as f64).sum()
    };
    Coverage {
        recall: share(shared as f64, size(&gold)),
        precision: share(shared as f64, size(&passages)),
    }
}

/// The spans of each document, ordered and without overlaps.
fn joined(pieces: &[Piece]) -> BTreeMap<&str, Vec<Range<usize>>> {
    let mut by_document: BTreeMap<&str, Vec<Range<usize>>> = BTreeMap::new();
    for piece in pieces {
        let spans = by_document.entry(&piece.document).or_default();
        spans.push(piece.span.clone());
    }
    for spans in by_document.values_mut() {
        spans.sort_by_key(|span| span.start);
        let mut kept: Vec<Range<usize>> = Vec::new();
        for span in spans.drain(..) {
            match kept.last_mut() {
                Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                _ => kept.push(span),
            }
        }
        *spans = kept;
    }
    by_document
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> usize {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

/// Whether `text` says one of `gold`, whatever the case, marks, articles and blanks.
pub fn contains_gold(text: &str, gold: &[String]) -> bool {
    let text = format!(" {} ", normalized(text));
    gold.iter().any(|gold| {
        let gold = normalized(gold);
        let is_said = text.contains(&format!(" {gold} "));
        !gold.is_empty() && (is_said || has_no_word_gaps(&gold) && text.contains(&gold))
    })
}

/// Whether words cannot be told apart by blanks.
fn has_no_word_gaps(text: &str) -> bool {
    text.chars()
        .any(|c| matches!(c, '\u{0E00}'..='\u{0EFF}' | '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}'))
}

fn share(part: f64, whole: f64) -> f64 {
    match whole > 0.0 {
        true => part / whole,
        false => 0.0,
    }
}

#[cfg(test)]
mod tests;
