//! The figures as a table for a terminal: a line for each metric, a column for each variant.

use std::fmt::Write;

use super::{Report, VariantReport};
use crate::eval::score::METRICS;
use crate::eval::statistics::Latency;

/// Columns beside each other; more come below, beside the first one again.
const MAX_COLUMNS: usize = 4;
const LABEL: usize = 22;
const COLUMN: usize = 24;

/// Means with their 95% intervals. `*` marks what differs from the first variant by more than chance.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    let variants = &report.variants;
    let Some((first, others)) = variants.split_first() else {
        return text;
    };
    if others.is_empty() {
        part(&mut text, &[first]);
    }
    for others in others.chunks(MAX_COLUMNS - 1) {
        let columns: Vec<&VariantReport> = [first].into_iter().chain(others).collect();
        part(&mut text, &columns);
        text.push('\n');
    }
    if !others.is_empty() {
        text += "* differs from the first column by more than chance (paired randomisation test, p < 0.05 by Holm's method)\n";
    }
    text
}

fn part(text: &mut String, columns: &[&VariantReport]) {
    let mut line = |label: &str, cells: Vec<String>| {
        let mut line = format!("{label:<LABEL$}");
        for cell in cells {
            let _ = write!(line, " {cell:>COLUMN$}");
        }
        *text += line.trim_end();
        text.push('\n');
    };
    line(
        "",
        columns.iter().map(|it| end(&it.settings.name)).collect(),
    );
    for (metric, name, _) in METRICS {
        let estimates: Vec<_> = columns
            .iter()
            .map(|column| column.metrics.iter().find(|(it, _)| it == metric))
            .collect();
        if estimates.iter().all(Option::is_none) {
            continue;
        }
        let cells = columns.iter().zip(estimates).map(|(column, found)| {
            let Some((_, it)) = found else {
                return "-".to_owned();
            };
            let differs = column
                .differences
                .iter()
                .any(|(other, difference)| other == metric && difference.is_significant());
            let mark = if differs { "*" } else { " " };
            format!("{:.3} [{:.3}, {:.3}]{mark}", it.mean, it.low, it.high)
        });
        line(name, cells.collect());
    }
    let times = |of: fn(&VariantReport) -> Option<Latency>| -> Vec<String> {
        let shown = |column: &&VariantReport| match of(column) {
            Some(it) => format!("{:.1} / {:.1} ", it.p50_ms, it.p95_ms),
            None => "-".into(),
        };
        columns.iter().map(shown).collect()
    };
    line("search p50 / p95 ms", times(|it| it.search));
    line("answer p50 / p95 ms", times(|it| it.answers));
    let passages = |column: &&VariantReport| format!("{} ", column.searched.num_passages);
    line("passages", columns.iter().map(passages).collect());
}

/// The end of a long name, where names differ most.
fn end(name: &str) -> String {
    let num = name.chars().count();
    match num > COLUMN {
        true => {
            let rest: String = name.chars().skip(num - COLUMN + 1).collect();
            format!("…{rest}")
        }
        false => name.to_owned(),
    }
}
