//! Answers in the documents' own words: the sentence or two that answer a question, chosen by meaning, by shared words
//! and by where they stand. Needs no chat model, and never changes what it quotes.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::embedding::{InputKind, Priority};
use crate::rag::retrieve::{Passage, RetrieveError, Retrieved};
use crate::rag::sentence::{content_words, sentences, stems};
use crate::rag::{Workspace, confidence, default_min_similarity};

/// Weight of the question's words in the sentence itself.
const OWN_WORDS: f32 = 0.7;
/// Weight of the question's words in the sentence and its neighbours, as a text says a name once and then "she".
const NEAR_WORDS: f32 = 0.3;
/// Weight of the similarity in meaning.
const MEANING: f32 = 1.0;
/// Weight of the passage's own score, as a share of the best one's.
const RANK: f32 = 0.3;
/// Taken off a sentence that says hardly more than the question did, as a heading does.
const NOTHING_NEW: f32 = 0.3;
/// Content words that a sentence must add to the question's.
const MIN_NEW_WORDS: usize = 2;
/// A neighbour is quoted too when it scores at least this share of the best.
const NEIGHBOUR_SHARE: f32 = 0.8;
/// Sentences whose meaning is compared: those that share most words with the question, and the best of each passage.
const MAX_COMPARED: usize = 16;
const COMPARED_PER_PASSAGE: usize = 2;
/// Passages that are imagined beside those counted, and the share of them that has any given word: in a handful of
/// passages no word can be told to be rare.
const IMAGINED: f32 = 200.0;
const IMAGINED_SHARE: f32 = 0.02;
/// Bytes from which on a text that no full stop divides is divided at its lines, when these are short as in a table.
const MAX_UNDIVIDED: usize = 400;
/// Characters of a line, on average, up to which lines stand for themselves. Wrapped prose has longer ones.
const SHORT_LINE: usize = 60;
/// Bytes of a quote that no line divides either, above which it is divided between words.
const MAX_QUOTED: usize = 1200;
/// Different words of a question that are weighed, the last ones of a long one, where the question itself stands.
const MAX_WORDS: usize = 64;

/// What answers the question.
#[derive(Debug, Clone, PartialEq)]
pub struct Quote {
    /// Place of the passage among those that were retrieved, from 0.
    pub passage: usize,
    /// Bytes of the passage's text: one sentence, or two that follow each other.
    pub span: Range<usize>,
    /// From 0 to 1.
    pub confidence: f32,
}

/// A sentence that may be quoted.
struct Candidate {
    passage: usize,
    /// Place among the sentences of its passage.
    at: usize,
    span: Range<usize>,
    score: f32,
}

/// The best sentence or two of what was retrieved for `question`, however little they have to do with it; `None` when
/// there is no sentence at all.
pub async fn choose(
    workspace: &Workspace,
    question: &str,
    retrieved: &Retrieved,
) -> Result<Option<Quote>, RetrieveError> {
    let embedder = workspace
        .embedder
        .as_ref()
        .ok_or(RetrieveError::NoEmbedder)?;
    let words = weighted_words(workspace, question).await?;
    let passages = &retrieved.passages;
    let scores = passages.iter().map(|passage| passage.score);
    let best_score = scores.fold(f32::MIN_POSITIVE, f32::max);
    let candidates = passages
        .iter()
        .enumerate()
        .map(|(place, passage)| by_words(place, passage, passage.score / best_score, &words));
    let mut candidates = most_promising(candidates.collect());
    let texts = candidates
        .iter()
        .map(|it| passages[it.passage].chunk.text[it.span.clone()].to_string())
        .collect();
    let embedded = embedder
        .embed(texts, InputKind::Passage, Priority::Interactive)
        .await?;
    let query = retrieved.query_vectors.first();
    let query = query.filter(|_| embedder.can_read(question));
    let unrelated = default_min_similarity(embedder.spec().pooling);
    for (candidate, vector) in candidates.iter_mut().zip(&embedded.vectors) {
        let similarity = query.map_or(unrelated, |query| cosine(query, vector));
        candidate.score += MEANING * rescaled(similarity, unrelated);
    }
    Ok(best(candidates).map(|best| Quote {
        confidence: confidence::with_relevance(best.confidence, retrieved.relevance),
        ..best
    }))
}

/// The stems of the question's content words, each with its share of what the question says: a rare word says more.
async fn weighted_words(
    workspace: &Workspace,
    question: &str,
) -> Result<HashMap<String, f32>, RetrieveError> {
    let mut seen = HashSet::new();
    let mut words: Vec<String> = content_words(question)
        .filter(|word| seen.insert(word.clone()))
        .collect();
    words.drain(..words.len().saturating_sub(MAX_WORDS));
    let counted = workspace.store.word_frequencies(words.clone()).await?;
    let total = counted.num_chunks as f32 + IMAGINED;
    let mut weights = HashMap::new();
    for (word, num_with_word) in words.iter().zip(&counted.num_with_word) {
        let with = *num_with_word as f32 + IMAGINED * IMAGINED_SHARE;
        // As BM25 weighs words.
        let weight = (1.0 + (total - with).max(0.0) / (with + 0.5)).ln();
        weights.extend(stems(word).map(|stem| (stem, weight)));
    }
    let total: f32 = weights.values().sum();
    for weight in weights.values_mut() {
        *weight /= total.max(f32::MIN_POSITIVE);
    }
    Ok(weights)
}

/// The best of each passage, best first, and then the best of all that are left, up to [`MAX_COMPARED`].
fn most_promising(mut passages: Vec<Vec<Candidate>>) -> Vec<Candidate> {
    let by_score = |a: &Candidate, b: &Candidate| b.score.total_cmp(&a.score);
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for candidates in &mut passages {
        candidates.sort_by(by_score);
        rest.extend(candidates.split_off(COMPARED_PER_PASSAGE.min(candidates.len())));
        first.append(candidates);
    }
    first.sort_by(by_score);
    rest.sort_by(by_score);
    first.append(&mut rest);
    first.truncate(MAX_COMPARED);
    first
}

/// The sentences of a passage, scored by everything but their meaning.
fn by_words(
    place: usize,
    passage: &Passage,
    rank: f32,
    words: &HashMap<String, f32>,
) -> Vec<Candidate> {
    let text = &passage.chunk.text;
    let spans = divided(text);
    let found: Vec<HashSet<String>> = spans
        .iter()
        .map(|span| stems(&text[span.clone()]).collect())
        .collect();
    let covered = |sets: &[HashSet<String>]| -> f32 {
        words
            .iter()
            .filter(|(word, _)| sets.iter().any(|set| set.contains(*word)))
            .map(|(_, weight)| weight)
            .sum()
    };
    let score = |at: usize| {
        let near = &found[at.saturating_sub(1)..(at + 2).min(found.len())];
        let num_new = found[at]
            .iter()
            .filter(|word| !words.contains_key(*word))
            .count();
        let sentence = &text[spans[at].clone()];
        let adds_little = num_new < MIN_NEW_WORDS && !sentence.contains(has_no_word_gaps);
        let nothing_new = if adds_little || sentence.ends_with('?') {
            NOTHING_NEW
        } else {
            0.0
        };
        OWN_WORDS * covered(&found[at..=at]) + NEAR_WORDS * covered(near) + RANK * rank
            - nothing_new
    };
    spans
        .iter()
        .enumerate()
        .map(|(at, span)| Candidate {
            passage: place,
            at,
            span: span.clone(),
            score: score(at),
        })
        .collect()
}

/// Scripts that set no blanks between words, so that words cannot be counted.
fn has_no_word_gaps(c: char) -> bool {
    matches!(c, '\u{0E00}'..='\u{0EFF}' | '\u{1780}'..='\u{17FF}' | '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}')
}

/// Sentences, and the lines or pieces of what is too long to be one.
pub(super) fn divided(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    for span in sentences(text) {
        let sentence = &text[span.clone()];
        if sentence.len() > MAX_UNDIVIDED && has_short_lines(sentence) {
            spans.extend(pieces(text, span, |rest| rest.find('\n').map(|at| at + 1)));
        } else if sentence.len() > MAX_QUOTED {
            spans.extend(pieces(text, span, |rest| {
                let from = rest
                    .char_indices()
                    .map(|(at, _)| at)
                    .find(|at| *at >= MAX_UNDIVIDED)?;
                rest[from..].find(char::is_whitespace).map(|at| from + at)
            }));
        } else {
            spans.push(span);
        }
    }
    spans
}

/// Whether lines stand for themselves, as in tables, lists and code.
fn has_short_lines(text: &str) -> bool {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let is_row =
        |line: &&&str| line.contains(['\t', '|', ';', '{', '}']) || line.matches(',').count() > 2;
    text.chars().count() / lines.len().max(1) <= SHORT_LINE
        || lines.iter().filter(is_row).count() * 2 > lines.len()
}

/// Cuts `span` of `text` where `end` says that the first piece of the rest ends, and leaves out blanks around pieces.
fn pieces(
    text: &str,
    span: Range<usize>,
    end: impl Fn(&str) -> Option<usize>,
) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = span.start;
    while start < span.end {
        let rest = &text[start..span.end];
        let piece = &rest[..end(rest).unwrap_or(rest.len())];
        let blank = piece.len() - piece.trim_start().len();
        if !piece.trim().is_empty() {
            found.push(start + blank..start + blank + piece.trim().len());
        }
        start += piece.len();
    }
    found
}

/// The best candidate, with the neighbour that is nearly as good.
fn best(candidates: Vec<Candidate>) -> Option<Quote> {
    let first = candidates.iter().reduce(|best, other| {
        let is_better = other.score > best.score
            || other.score == best.score && (other.passage, other.at) < (best.passage, best.at);
        if is_better { other } else { best }
    })?;
    let neighbour = candidates
        .iter()
        .filter(|it| it.passage == first.passage && it.at.abs_diff(first.at) == 1)
        .filter(|it| it.score >= NEIGHBOUR_SHARE * first.score)
        .max_by(|a, b| a.score.total_cmp(&b.score).then(b.at.cmp(&a.at)));
    let span = neighbour.map_or(first.span.clone(), |other| {
        first.span.start.min(other.span.start)..first.span.end.max(other.span.end)
    });
    let highest = OWN_WORDS + NEAR_WORDS + MEANING + RANK;
    Some(Quote {
        passage: first.passage,
        span,
        confidence: confidence::of_score(first.score / highest),
    })
}

/// From 0 at the similarity that unrelated texts have with this embedder, to 1.
fn rescaled(similarity: f32, unrelated: f32) -> f32 {
    let room = (1.0 - unrelated).max(f32::MIN_POSITIVE);
    ((similarity - unrelated) / room).clamp(0.0, 1.0)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(passage: usize, at: usize, span: Range<usize>, score: f32) -> Candidate {
        Candidate {
            passage,
            at,
            span,
            score,
        }
    }

    #[test]
    fn a_neighbour_that_is_nearly_as_good_is_quoted_too() {
        let quote = best(vec![
            candidate(0, 0, 0..10, 1.0),
            candidate(0, 1, 11..20, 1.2),
            candidate(0, 2, 21..30, 0.5),
            candidate(1, 0, 0..9, 1.1),
        ]);
        assert_eq!(quote.unwrap().span, 0..20);
        let alone = best(vec![
            candidate(0, 0, 0..10, 0.5),
            candidate(0, 1, 11..20, 1.2),
        ]);
        assert_eq!(alone.unwrap().span, 11..20);
        assert_eq!(best(Vec::new()), None);
    }

    #[test]
    fn a_table_is_divided_at_its_lines() {
        let table = "value of a row 12\n".repeat(41);
        let found: Vec<&str> = divided(&table).into_iter().map(|it| &table[it]).collect();
        assert_eq!(found.len(), 41);
        assert_eq!(found[1], "value of a row 12");
        assert_eq!(divided("One. Two.\nThree.").len(), 3);
        let wrapped =
            "and so the sentence goes on and on without coming to any end at all\n".repeat(9);
        assert_eq!(divided(&wrapped).len(), 1);
        let rows =
            "2024-01-31,Travel,Berlin,\"two nights, one of them late\",Maren Holt,412.50,EUR\n"
                .repeat(9);
        assert_eq!(divided(&rows).len(), 9);
        let endless = "word ".repeat(600);
        let found = divided(&endless);
        assert!(
            found.len() > 4
                && found
                    .iter()
                    .all(|it| endless[it.clone()].starts_with("word"))
        );
    }

    #[test]
    fn every_passage_has_a_sentence_among_those_compared() {
        let passage = |place: usize, num: usize| {
            (0..num)
                .map(|at| candidate(place, at, 0..1, 0.3 - 0.01 * place as f32))
                .collect()
        };
        let chosen = most_promising(vec![passage(0, 40), passage(1, 3), passage(2, 1)]);
        assert_eq!(chosen.len(), MAX_COMPARED);
        for place in 0..3 {
            assert!(chosen.iter().any(|it| it.passage == place));
        }
    }

    #[test]
    fn similarity_counts_from_that_of_unrelated_texts() {
        assert_eq!(rescaled(0.5, 0.5), 0.0);
        assert_eq!(rescaled(0.75, 0.5), 0.5);
        assert_eq!(rescaled(0.1, 0.5), 0.0);
    }
}
