//! What an observation is worth: which metrics a question can be judged by, and their values. Pure.

use std::ops::Range;

use serde::{Serialize, Serializer};

use super::ask::{Answered, Observation};
use super::metrics::{
    Piece, contains_gold, coverage, is_relevant, ndcg, precision, recall, reciprocal_rank,
};
use super::question_set::Question;

/// What is measured, each from 0 to 1, more is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    Ndcg10,
    Recall5,
    Recall10,
    Mrr10,
    Precision,
    SpanRecall5,
    SpanPrecision5,
    AnswerContainsGold,
    CitationPrecision,
    CitedDocument,
    QuoteExact,
    RefusalAccuracy,
    Answered,
    Declined,
}

/// All metrics, as they are named, with what they say.
pub const METRICS: &[(Metric, &str, &str)] = &[
    (
        Metric::Ndcg10,
        "ndcg@10",
        "how high the documents that bear on the question stand among the first ten found",
    ),
    (
        Metric::Recall5,
        "recall@5",
        "share of those documents among the first five",
    ),
    (
        Metric::Recall10,
        "recall@10",
        "share of those documents among the first ten",
    ),
    (
        Metric::Mrr10,
        "mrr@10",
        "one over the rank of the first of those documents",
    ),
    (
        Metric::Precision,
        "precision",
        "share of the passages given to the answer that come from those documents",
    ),
    (
        Metric::SpanRecall5,
        "span_recall@5",
        "share of the gold text that lies in the first five passages",
    ),
    (
        Metric::SpanPrecision5,
        "span_precision@5",
        "share of the first five passages that is gold text",
    ),
    (
        Metric::AnswerContainsGold,
        "answer_contains_gold",
        "the answer has the gold answer in it",
    ),
    (
        Metric::CitationPrecision,
        "citation_precision",
        "share of citations whose passage has the gold answer and whose document bears on the question",
    ),
    (
        Metric::CitedDocument,
        "cited_document",
        "share of citations whose document bears on the question",
    ),
    (
        Metric::QuoteExact,
        "quote_exact",
        "share of citations whose words stand in the document just so",
    ),
    (
        Metric::RefusalAccuracy,
        "refusal_accuracy",
        "declined where the documents have no answer, and answered where they have one",
    ),
    (
        Metric::Answered,
        "answered",
        "answered, of those that can be",
    ),
    (
        Metric::Declined,
        "declined",
        "declined, of those that cannot be answered",
    ),
];

impl Metric {
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    pub fn meaning(self) -> &'static str {
        self.entry().2
    }

    fn entry(self) -> &'static (Self, &'static str, &'static str) {
        let found = METRICS.iter().find(|(metric, ..)| *metric == self);
        found.expect("every metric is in the table")
    }
}

impl std::str::FromStr for Metric {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let found = METRICS.iter().find(|(_, name, _)| *name == typed.trim());
        found.map(|(metric, ..)| *metric).ok_or_else(|| {
            let names: Vec<&str> = METRICS.iter().map(|(_, name, _)| *name).collect();
            format!(
                "there is no metric {typed:?}; there are: {}",
                names.join(", ")
            )
        })
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A question as it is judged: its gold texts placed in the documents as they were read.
#[derive(Debug, Clone)]
pub struct Judged {
    pub question: Question,
    pub pieces: Vec<Piece>,
}

/// The metrics that apply to this question, with their values, in the order of [`METRICS`].
pub fn score(judged: &Judged, seen: &Observation) -> Vec<(Metric, f64)> {
    let Judged { question, pieces } = judged;
    let mut values = Vec::new();
    let gains = &question.relevant;
    if gains.values().any(|gain| *gain > 0) {
        let ranking = &seen.ranking;
        let found: Vec<String> = seen.passages.iter().map(|it| it.document.clone()).collect();
        values.extend([
            (Metric::Ndcg10, ndcg(ranking, gains, 10)),
            (Metric::Recall5, recall(ranking, gains, 5)),
            (Metric::Recall10, recall(ranking, gains, 10)),
            (Metric::Mrr10, reciprocal_rank(ranking, gains, 10)),
            (Metric::Precision, precision(&found, gains)),
        ]);
    }
    if !pieces.is_empty() {
        let passages: Vec<Piece> = seen
            .passages
            .iter()
            .take(5)
            .map(|it| piece(&it.document, &it.span))
            .collect();
        let covered = coverage(&passages, pieces);
        values.push((Metric::SpanRecall5, covered.recall));
        values.push((Metric::SpanPrecision5, covered.precision));
    }
    if let Some(answer) = &seen.answer {
        values.extend(score_answer(question, answer));
    }
    values
}

fn score_answer(question: &Question, answer: &Answered) -> Vec<(Metric, f64)> {
    let mut values = Vec::new();
    let can_be_answered = question.is_answerable;
    if can_be_answered != Some(false) && !question.answers.is_empty() {
        let says_it = !answer.is_declined && contains_gold(&answer.text, &question.answers);
        values.push((Metric::AnswerContainsGold, f64::from(says_it)));
    }
    let citations = &answer.citations;
    let share = |is_right: &dyn Fn(usize) -> bool| {
        let right = (0..citations.len()).filter(|at| is_right(*at)).count();
        right as f64 / citations.len() as f64
    };
    if !citations.is_empty() {
        let gains = &question.relevant;
        let is_known = !gains.is_empty() || can_be_answered == Some(false);
        let right_document = |at: usize| is_relevant(gains, &citations[at].document);
        // Without judged documents the gold answer alone decides.
        let has_gold = |at: usize| contains_gold(&citations[at].passage, &question.answers);
        if !question.answers.is_empty() {
            let is_right = |at: usize| has_gold(at) && (gains.is_empty() || right_document(at));
            values.push((Metric::CitationPrecision, share(&is_right)));
        }
        if is_known {
            values.push((Metric::CitedDocument, share(&right_document)));
        }
        values.push((Metric::QuoteExact, share(&|at| citations[at].is_exact)));
    }
    if let Some(can_be_answered) = can_be_answered {
        let is_right = answer.is_declined != can_be_answered;
        values.push((Metric::RefusalAccuracy, f64::from(is_right)));
        let part = match can_be_answered {
            true => Metric::Answered,
            false => Metric::Declined,
        };
        values.push((part, f64::from(is_right)));
    }
    values
}

pub fn piece(document: &str, span: &Range<usize>) -> Piece {
    Piece {
        document: document.to_owned(),
        span: span.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ask::{Cited, Found};
    use super::*;

    fn question() -> Question {
        Question {
            id: "1".into(),
            text: "Who keeps it?".into(),
            relevant: [("a".to_owned(), 1)].into(),
            answers: vec!["Maren Holt".into()],
            gold: Vec::new(),
            is_answerable: Some(true),
            without: Vec::new(),
        }
    }

    fn observation() -> Observation {
        let found = |document: &str, span: Range<usize>| Found {
            document: document.into(),
            span,
            page: 1,
            score: 0.5,
            text: String::new(),
        };
        let cited = |document: &str, passage: &str| Cited {
            document: document.into(),
            quote: String::new(),
            is_exact: true,
            passage: passage.into(),
        };
        Observation {
            ranking: vec!["b".into(), "a".into()],
            passages: vec![found("b", 0..10), found("a", 0..10)],
            search_ms: 1.0,
            answer: Some(Answered {
                text: "It is maren holt.".into(),
                is_declined: false,
                citations: vec![
                    cited("a", "The keeper is Maren Holt."),
                    cited("b", "Maren Holt"),
                ],
                ms: 2.0,
            }),
            notes: Vec::new(),
        }
    }

    fn scored(question: Question, seen: &Observation) -> Vec<(&'static str, f64)> {
        let pieces = vec![piece("a", &(5..15))];
        let values = score(&Judged { question, pieces }, seen);
        values
            .into_iter()
            .map(|(it, value)| (it.name(), value))
            .collect()
    }

    #[test]
    fn a_question_is_judged_by_all_that_is_known_of_it() {
        let values = scored(question(), &observation());
        let value = |name| values.iter().find(|it| it.0 == name).map(|it| it.1);
        assert_eq!(value("mrr@10"), Some(0.5));
        assert_eq!(value("precision"), Some(0.5));
        assert_eq!(value("span_recall@5"), Some(0.5));
        assert_eq!(value("span_precision@5"), Some(0.25));
        assert_eq!(value("answer_contains_gold"), Some(1.0));
        assert_eq!(value("citation_precision"), Some(0.5));
        assert_eq!(value("quote_exact"), Some(1.0));
        assert_eq!(value("refusal_accuracy"), Some(1.0));
        assert_eq!(value("answered"), Some(1.0));
        assert_eq!(value("declined"), None);
    }

    #[test]
    fn what_has_no_answer_must_be_declined() {
        let mut hopeless = question();
        hopeless.is_answerable = Some(false);
        hopeless.relevant.clear();
        let values = scored(hopeless.clone(), &observation());
        let value = |name| values.iter().find(|it| it.0 == name).map(|it| it.1);
        assert_eq!(value("ndcg@10"), None);
        assert_eq!(value("declined"), Some(0.0));
        assert_eq!(value("cited_document"), Some(0.0));
        assert_eq!(value("answer_contains_gold"), None);

        let mut declining = observation();
        let answer = declining.answer.as_mut().unwrap();
        answer.is_declined = true;
        answer.citations.clear();
        let values = scored(hopeless, &declining);
        assert!(values.contains(&("declined", 1.0)));
        let values = scored(question(), &declining);
        assert!(values.contains(&("answered", 0.0)));
        assert!(values.contains(&("answer_contains_gold", 0.0)));
    }

    #[test]
    fn every_metric_has_a_name_of_its_own() {
        for (metric, name, _) in METRICS {
            assert_eq!(name.parse::<Metric>().unwrap(), *metric);
        }
        assert!("ndcg".parse::<Metric>().unwrap_err().contains("ndcg@10"));
    }
}
