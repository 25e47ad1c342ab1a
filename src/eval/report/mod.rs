//! What was measured, ready to be shown: in the terminal, as JSON and as a page. Pure but for where it is written.

mod html;
mod plot;
mod style;
mod table;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::ask::Observation;
use super::score::{Judged, METRICS, Metric, score};
use super::statistics::{Difference, Estimate, Latency, holm};
use super::text::snippet;
use super::variants::Variant;

pub use html::page;
pub use table::table;

/// Passages of a question that are shown.
const SHOWN_PASSAGES: usize = 5;
/// Documents below which nearly any search finds the right one.
const FEW_DOCUMENTS: usize = 20;
/// Questions that are shown as the worst.
const NUM_WORST: usize = 20;

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub about: About,
    /// What the questions are ordered by, from worst to best.
    pub main_metric: Option<Metric>,
    /// The first is what the others are compared with.
    pub variants: Vec<VariantReport>,
    pub questions: Vec<QuestionReport>,
}

/// Where the figures come from.
#[derive(Debug, Clone, Default, Serialize)]
pub struct About {
    pub version: String,
    pub set: String,
    pub num_questions: usize,
    pub seed: u64,
    /// Seconds since 1970.
    pub measured_at: i64,
    pub machine: String,
    pub device: String,
    pub num_threads: usize,
    pub command: String,
    pub notes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct VariantReport {
    pub settings: Variant,
    pub searched: Searched,
    #[serde(serialize_with = "as_map")]
    pub metrics: Vec<(Metric, Estimate)>,
    /// From the first variant, on the questions that both were judged by.
    #[serde(serialize_with = "as_map")]
    pub differences: Vec<(Metric, Difference)>,
    pub search: Option<Latency>,
    pub answers: Option<Latency>,
}

/// What a variant was asked of.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Searched {
    pub embedding_model: String,
    pub embedding_model_hash: String,
    pub answered_by: Option<String>,
    pub num_documents: usize,
    pub num_passages: u64,
    /// `None` when they were ingested by an earlier run, or belong to the owner.
    pub ingestion_seconds: Option<f64>,
    pub num_failed: usize,
}

#[derive(Debug, Serialize)]
pub struct QuestionReport {
    pub id: String,
    pub question: String,
    pub is_answerable: Option<bool>,
    pub documents: Vec<String>,
    pub gold_answers: Vec<String>,
    /// One for each variant.
    pub results: Vec<ResultReport>,
}

#[derive(Debug, Serialize)]
pub struct ResultReport {
    #[serde(serialize_with = "as_map")]
    pub values: Vec<(Metric, f64)>,
    pub search_ms: f64,
    pub answer_ms: Option<f64>,
    pub is_declined: Option<bool>,
    pub answer: Option<String>,
    pub found: Vec<FoundReport>,
}

#[derive(Debug, Serialize)]
pub struct FoundReport {
    pub document: String,
    pub page: u32,
    pub score: f32,
    pub is_relevant: bool,
    pub text: String,
}

/// A variant and what it did with each question, in the order of the questions.
pub struct Run {
    pub settings: Variant,
    pub searched: Searched,
    pub judged: Vec<Judged>,
    pub observations: Vec<Observation>,
}

impl Report {
    /// Works the figures out. All runs have the same questions.
    pub fn new(about: About, runs: Vec<Run>) -> Self {
        let seed = about.seed;
        let scored: Vec<Vec<Vec<(Metric, f64)>>> = runs.iter().map(Run::scores).collect();
        let questions = questions(&runs, &scored);
        let mut variants: Vec<VariantReport> = runs
            .into_iter()
            .zip(&scored)
            .map(|(run, values)| VariantReport {
                metrics: estimates(values, seed),
                differences: differences(&scored[0], values, seed),
                search: Latency::of(run.observations.iter().map(|it| it.search_ms).collect()),
                answers: Latency::of(run.answer_times()),
                settings: run.settings,
                searched: run.searched,
            })
            .collect();
        if let Some(first) = variants.first_mut() {
            first.differences.clear();
        }
        adjust(&mut variants);
        let main_metric = variants.first().and_then(main_metric);
        Self {
            about,
            main_metric,
            variants,
            questions,
        }
    }

    /// The questions with the lowest values of the main metric in the first variant, worst first.
    fn worst(&self) -> Vec<&QuestionReport> {
        let Some(metric) = self.main_metric else {
            return Vec::new();
        };
        let value = |question: &QuestionReport| -> Option<f64> {
            value_of(&question.results.first()?.values, metric)
        };
        let mut worst: Vec<(f64, &QuestionReport)> = self
            .questions
            .iter()
            .filter_map(|question| Some((value(question)?, question)))
            .filter(|(value, _)| *value < 1.0)
            .collect();
        worst.sort_by(|a, b| a.0.total_cmp(&b.0));
        worst.into_iter().take(NUM_WORST).map(|it| it.1).collect()
    }

    /// What each question has more of the main metric than in the first variant, smallest first.
    fn question_differences(&self, variant: usize) -> Vec<f64> {
        let Some(metric) = self.main_metric else {
            return Vec::new();
        };
        let difference = |question: &QuestionReport| -> Option<f64> {
            let value = |at: usize| value_of(&question.results.get(at)?.values, metric);
            Some(value(variant)? - value(0)?)
        };
        let mut all: Vec<f64> = self.questions.iter().filter_map(difference).collect();
        all.sort_by(f64::total_cmp);
        all
    }
}

impl Run {
    fn scores(&self) -> Vec<Vec<(Metric, f64)>> {
        let pairs = self.judged.iter().zip(&self.observations);
        pairs.map(|(judged, seen)| score(judged, seen)).collect()
    }

    fn answer_times(&self) -> Vec<f64> {
        let answers = self.observations.iter().filter_map(|it| it.answer.as_ref());
        answers.map(|answer| answer.ms).collect()
    }
}

/// What an owner asks for, as typed: `ndcg@10=0.70`.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    pub metric: Metric,
    pub at_least: f64,
}

impl std::str::FromStr for Threshold {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let (metric, value) = typed
            .split_once('=')
            .ok_or("give a metric and a number, as ndcg@10=0.70")?;
        let number: Option<f64> = value.trim().parse().ok();
        let in_range = |number: &f64| (0.0..=1.0).contains(number);
        Ok(Self {
            metric: metric.parse()?,
            at_least: number
                .filter(in_range)
                .ok_or_else(|| format!("{value:?} is no number between 0 and 1"))?,
        })
    }
}

impl Threshold {
    /// Why the first variant does not reach it; `None` when it does.
    pub fn missed(&self, report: &Report) -> Option<String> {
        let first = report.variants.first()?;
        let (name, least) = (self.metric.name(), self.at_least);
        let found = first
            .metrics
            .iter()
            .find(|(metric, _)| *metric == self.metric);
        match found {
            None => Some(format!(
                "{name} was not measured: no question can be judged by it"
            )),
            Some((_, it)) if it.mean < least => Some(format!(
                "{name} is {:.4}, but must be at least {least}",
                it.mean
            )),
            Some(_) => None,
        }
    }
}

fn questions(runs: &[Run], scored: &[Vec<Vec<(Metric, f64)>>]) -> Vec<QuestionReport> {
    let Some(first) = runs.first() else {
        return Vec::new();
    };
    let report = |(at, judged): (usize, &Judged)| {
        let question = &judged.question;
        let results = runs.iter().zip(scored).map(|(run, values)| {
            let seen = &run.observations[at];
            result(judged, seen, values[at].clone())
        });
        QuestionReport {
            id: question.id.clone(),
            question: question.text.clone(),
            is_answerable: question.is_answerable,
            documents: question.relevant.keys().cloned().collect(),
            gold_answers: question.answers.clone(),
            results: results.collect(),
        }
    };
    first.judged.iter().enumerate().map(report).collect()
}

fn result(judged: &Judged, seen: &Observation, values: Vec<(Metric, f64)>) -> ResultReport {
    let answer = seen.answer.as_ref();
    let found = seen.passages.iter().take(SHOWN_PASSAGES);
    ResultReport {
        values,
        search_ms: seen.search_ms,
        answer_ms: answer.map(|it| it.ms),
        is_declined: answer.map(|it| it.is_declined),
        answer: answer.map(|it| snippet(&it.text, 600)),
        found: found
            .map(|passage| FoundReport {
                document: passage.document.clone(),
                page: passage.page,
                score: passage.score,
                is_relevant: super::metrics::is_relevant(
                    &judged.question.relevant,
                    &passage.document,
                ),
                text: passage.snippet(),
            })
            .collect(),
    }
}

fn value_of(values: &[(Metric, f64)], metric: Metric) -> Option<f64> {
    let found = values.iter().find(|(other, _)| *other == metric);
    found.map(|(_, value)| *value)
}

fn estimates(scored: &[Vec<(Metric, f64)>], seed: u64) -> Vec<(Metric, Estimate)> {
    let estimate = |metric: Metric| {
        let values: Vec<f64> = scored
            .iter()
            .filter_map(|it| value_of(it, metric))
            .collect();
        Some((metric, Estimate::of(&values, seed)?))
    };
    METRICS
        .iter()
        .filter_map(|(it, ..)| estimate(*it))
        .collect()
}

fn differences(
    first: &[Vec<(Metric, f64)>],
    other: &[Vec<(Metric, f64)>],
    seed: u64,
) -> Vec<(Metric, Difference)> {
    let difference = |metric: Metric| {
        let pairs = first.iter().zip(other);
        let values: Vec<f64> = pairs
            .filter_map(|(a, b)| Some(value_of(b, metric)? - value_of(a, metric)?))
            .collect();
        Some((metric, Difference::of(&values, seed)?))
    };
    METRICS
        .iter()
        .filter_map(|(it, ..)| difference(*it))
        .collect()
}

/// Takes into account, metric by metric, how many variants were compared.
fn adjust(variants: &mut [VariantReport]) {
    for (metric, ..) in METRICS {
        let mut of_metric: Vec<&mut Difference> = variants
            .iter_mut()
            .flat_map(|variant| &mut variant.differences)
            .filter(|(other, _)| other == metric)
            .map(|(_, difference)| difference)
            .collect();
        let adjusted = holm(&of_metric.iter().map(|it| it.p).collect::<Vec<_>>());
        for (difference, p) in of_metric.iter_mut().zip(adjusted) {
            difference.p_adjusted = p;
        }
    }
}

/// The first of these that leaves something to wish for, else the first that was measured.
fn main_metric(variant: &VariantReport) -> Option<Metric> {
    let mut order = [
        Metric::Ndcg10,
        Metric::SpanRecall5,
        Metric::AnswerContainsGold,
        Metric::RefusalAccuracy,
    ];
    // A text that was found says more than a document that was, where there are few documents.
    if variant.searched.num_documents < FEW_DOCUMENTS {
        order.rotate_left(1);
    }
    let mean = |metric: Metric| {
        let found = variant.metrics.iter().find(|(it, _)| *it == metric);
        found.map(|(_, estimate)| estimate.mean)
    };
    let lacks = |metric: &Metric| mean(*metric).is_some_and(|mean| mean < 1.0);
    let is_measured = |metric: &Metric| mean(*metric).is_some();
    let mut measured = order.iter().copied().filter(is_measured);
    order.iter().copied().find(lacks).or(measured.next())
}

fn as_map<T: Serialize, S: Serializer>(
    pairs: &[(Metric, T)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(pairs.len()))?;
    for (metric, value) in pairs {
        map.serialize_entry(metric.name(), value)?;
    }
    map.end()
}

#[cfg(test)]
mod tests;
