//! Pictures for the page, drawn as SVG. Each has a title and a description for those who do not see it; the same figures
//! stand in tables.

use std::fmt::Write;

use super::html::escaped;
use crate::eval::statistics::Estimate;

const WIDTH: f64 = 560.0;
const LABEL_WIDTH: f64 = 170.0;
const VALUE_WIDTH: f64 = 52.0;
const ROW: f64 = 26.0;
/// Characters of a label that fit beside a bar.
const LABEL_CHARS: usize = 24;

pub struct Bar {
    pub label: String,
    pub estimate: Estimate,
    /// What others are compared with.
    pub is_first: bool,
}

/// Bars from 0 to 1 with their intervals.
pub fn bars(id: &str, title: &str, bars: &[Bar]) -> String {
    let height = bars.len() as f64 * ROW + 28.0;
    let space = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
    let x = |value: f64| LABEL_WIDTH + value.clamp(0.0, 1.0) * space;
    let said = bars.iter().map(|bar| {
        let Estimate {
            mean, low, high, ..
        } = bar.estimate;
        format!("{} {mean:.3}, between {low:.3} and {high:.3}", bar.label)
    });
    let mut svg = opened(id, title, &said.collect::<Vec<_>>().join("; "), height);
    for tick in 0..=4 {
        let value = f64::from(tick) / 4.0;
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{1:.1}\"/>\
             <text class=\"tick\" x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\">{value}</text>",
            x(value),
            height - 24.0,
            height - 8.0
        );
    }
    for (at, bar) in bars.iter().enumerate() {
        let top = at as f64 * ROW;
        let middle = top + ROW / 2.0;
        let Estimate {
            mean, low, high, ..
        } = bar.estimate;
        let class = if bar.is_first { "first" } else { "bar" };
        let label = escaped(&shortened(&bar.label));
        let (label_end, base) = (LABEL_WIDTH - 8.0, middle + 4.5);
        let _ = write!(
            svg,
            "<text x=\"{label_end:.1}\" y=\"{base:.1}\" text-anchor=\"end\">{label}</text>"
        );
        let (bar_top, bar_width, bar_height) = (top + 5.0, x(mean) - LABEL_WIDTH, ROW - 10.0);
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{LABEL_WIDTH}\" y=\"{bar_top:.1}\" width=\"{bar_width:.1}\" \
             height=\"{bar_height:.1}\" rx=\"2\"/>"
        );
        let (left, right, cap_top, cap_end) = (x(low), x(high), middle - 4.0, middle + 4.0);
        let _ = write!(
            svg,
            "<path class=\"whisker\" fill=\"none\" d=\"M{left:.1} {middle:.1}H{right:.1}M{left:.1} \
             {cap_top:.1}V{cap_end:.1}M{right:.1} {cap_top:.1}V{cap_end:.1}\"/>"
        );
        let value_end = WIDTH - 2.0;
        let _ = write!(
            svg,
            "<text x=\"{value_end:.1}\" y=\"{base:.1}\" text-anchor=\"end\">{mean:.3}</text>"
        );
    }
    svg + "</svg>"
}

/// What each question gained or lost, smallest first.
pub fn differences(id: &str, title: &str, differences: &[f64]) -> String {
    const HEIGHT: f64 = 190.0;
    const LEFT: f64 = 44.0;
    let largest = differences
        .iter()
        .fold(0.05, |most: f64, it| most.max(it.abs()));
    let (top, bottom) = (10.0, HEIGHT - 12.0);
    let zero = (top + bottom) / 2.0;
    let y = |value: f64| zero - value / largest * (bottom - top) / 2.0;
    let num_better = differences.iter().filter(|it| **it > 0.0).count();
    let num_worse = differences.iter().filter(|it| **it < 0.0).count();
    let said = format!(
        "{num_better} questions better, {num_worse} worse, {} the same",
        differences.len() - num_better - num_worse
    );
    let mut svg = opened(id, title, &said, HEIGHT);
    for value in [largest, 0.0, -largest] {
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>\
             <text class=\"tick\" x=\"{1:.1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
            y(value),
            LEFT - 6.0,
            y(value) + 4.0,
            signed(value),
        );
    }
    let step = (WIDTH - LEFT) / differences.len().max(1) as f64;
    for (at, value) in differences.iter().enumerate().filter(|(_, it)| **it != 0.0) {
        let class = if *value > 0.0 { "better" } else { "worse" };
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{:.2}\" y=\"{:.1}\" width=\"{:.2}\" height=\"{:.1}\"/>",
            LEFT + at as f64 * step,
            y(value.max(0.0)),
            (step * 0.9).max(0.6),
            (y(0.0) - y(value.abs())).max(0.5),
        );
    }
    svg + "</svg>"
}

fn signed(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        _ => format!("{value:+.2}").replace('-', "\u{2212}"),
    }
}

fn opened(id: &str, title: &str, description: &str, height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-labelledby=\"{id}-title {id}-text\">\
         <title id=\"{id}-title\">{}</title><desc id=\"{id}-text\">{}</desc>",
        escaped(title),
        escaped(description)
    )
}

fn shortened(label: &str) -> String {
    let num = label.chars().count();
    match num > LABEL_CHARS {
        true => {
            let rest: String = label.chars().skip(num - LABEL_CHARS + 1).collect();
            format!("…{rest}")
        }
        false => label.to_owned(),
    }
}
