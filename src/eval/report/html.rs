//! The figures as one page that needs nothing else: no script, no font, no picture from elsewhere. What comes from
//! documents is only ever text in it.

use std::fmt::Write;

use time::OffsetDateTime;
use time::macros::format_description;

use super::plot::{Bar, bars, differences};
use super::style::STYLE;
use super::{QuestionReport, Report, VariantReport};
use crate::eval::score::{METRICS, Metric};
use crate::eval::statistics::{Difference, Estimate};
use crate::eval::variants::FusionMode;

/// The whole page.
pub fn page(report: &Report) -> String {
    let title = format!("Inglenook eval: {}", report.about.set);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n",
        escaped(&title)
    );
    introduction(&mut page, report);
    figures(&mut page, report);
    plots(&mut page, report);
    changes(&mut page, report);
    worst(&mut page, report);
    settings(&mut page, report);
    page + "</main>\n</body>\n</html>\n"
}

/// Text as it stands in the page.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            // Nothing that turns the direction of what follows, or that no page may have.
            '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() && c != '\n' && c != '\t' => {}
            other => escaped.push(other),
        }
    }
    escaped
}

fn introduction(page: &mut String, report: &Report) {
    let about = &report.about;
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    let at = OffsetDateTime::from_unix_timestamp(about.measured_at)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let at = at.format(&format).unwrap_or_default();
    let _ = write!(
        page,
        "<p class=\"quiet\">{} questions, {at}, Inglenook {}</p>\n<p><code>{}</code></p>\n",
        about.num_questions,
        escaped(&about.version),
        escaped(&about.command)
    );
    if !about.notes.is_empty() {
        *page += "<ul>";
        for note in &about.notes {
            let _ = write!(page, "<li>{}</li>", escaped(note));
        }
        *page += "</ul>\n";
    }
}

fn figures(page: &mut String, report: &Report) {
    *page += "<h2>Figures</h2>\n<div class=\"scroll\" role=\"region\" aria-label=\"Figures\" tabindex=\"0\">\n<table>\n\
              <caption>Means over the questions with their 95% intervals (percentile bootstrap). Times are in milliseconds.";
    if report.variants.len() > 1 {
        *page += " Marked, and with \u{2217}: differs from the first variant by more than chance (paired randomisation test, \
                  two-sided, p &lt; 0.05 after Holm\u{2019}s adjustment for the number of variants).";
    }
    *page += "</caption>\n<thead><tr><th scope=\"col\">Metric</th>";
    for variant in &report.variants {
        let _ = write!(
            page,
            "<th scope=\"col\" class=\"n\">{}</th>",
            escaped(&variant.settings.name)
        );
    }
    *page += "</tr></thead>\n<tbody>\n";
    for (metric, name, meaning) in METRICS {
        if !report
            .variants
            .iter()
            .any(|it| estimate(it, *metric).is_some())
        {
            continue;
        }
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{name}<br><small class=\"quiet\">{meaning}</small></th>"
        );
        for variant in &report.variants {
            cell(page, variant, *metric);
        }
        *page += "</tr>\n";
    }
    for (label, of) in [
        (
            "search p50 / p95",
            (|it: &VariantReport| it.search) as fn(&VariantReport) -> _,
        ),
        ("answer p50 / p95", |it: &VariantReport| it.answers),
    ] {
        let _ = write!(page, "<tr><th scope=\"row\">{label} ms</th>");
        for variant in &report.variants {
            let shown = of(variant).map_or("\u{2013}".into(), |it| {
                format!("{:.1} / {:.1}", it.p50_ms, it.p95_ms)
            });
            let _ = write!(page, "<td class=\"n\">{shown}</td>");
        }
        *page += "</tr>\n";
    }
    *page += "</tbody>\n</table>\n</div>\n";
}

fn cell(page: &mut String, variant: &VariantReport, metric: Metric) {
    let Some(it) = estimate(variant, metric) else {
        *page += "<td class=\"n\">\u{2013}</td>";
        return;
    };
    let is_significant = difference(variant, metric).is_some_and(Difference::is_significant);
    let (class, mark) = match is_significant {
        true => (" significant", "\u{2217}"),
        false => ("", ""),
    };
    let _ = write!(
        page,
        "<td class=\"n{class}\">{:.3}{mark}<small>{:.3} to {:.3}</small></td>",
        it.mean, it.low, it.high
    );
}

fn plots(page: &mut String, report: &Report) {
    *page += "<h2>Plots</h2>\n<div class=\"plots\">\n";
    let variants = &report.variants;
    if let [only] = &variants[..] {
        let rows: Vec<Bar> = only
            .metrics
            .iter()
            .map(|(metric, estimate)| Bar {
                label: metric.name().to_owned(),
                estimate: *estimate,
                is_first: false,
            })
            .collect();
        figure(
            page,
            "All metrics",
            "mean and 95% interval",
            &bars("all", "All metrics", &rows),
        );
    } else {
        for (at, (metric, name, meaning)) in METRICS.iter().enumerate() {
            let rows: Vec<Bar> = variants
                .iter()
                .enumerate()
                .filter_map(|(place, variant)| {
                    Some(Bar {
                        label: variant.settings.name.clone(),
                        estimate: *estimate(variant, *metric)?,
                        is_first: place == 0,
                    })
                })
                .collect();
            if !rows.is_empty() {
                figure(
                    page,
                    name,
                    meaning,
                    &bars(&format!("bars-{at}"), name, &rows),
                );
            }
        }
    }
    *page += "</div>\n";
}

fn figure(page: &mut String, title: &str, explanation: &str, svg: &str) {
    let _ = writeln!(
        page,
        "<figure><figcaption><strong>{}</strong><small>{}</small></figcaption>{svg}</figure>",
        escaped(title),
        escaped(explanation)
    );
}

fn changes(page: &mut String, report: &Report) {
    let Some((first, others)) = report.variants.split_first() else {
        return;
    };
    let (Some(metric), false) = (report.main_metric, others.is_empty()) else {
        return;
    };
    let _ = write!(
        page,
        "<h2>Question by question</h2>\n<p>What each question gains or loses in <strong>{}</strong> against \
         \u{201c}{}\u{201d}, from the largest loss to the largest gain.</p>\n<div class=\"plots\">\n",
        metric.name(),
        escaped(&first.settings.name)
    );
    for (at, variant) in others.iter().enumerate() {
        let name = &variant.settings.name;
        let all = report.question_differences(at + 1);
        let explanation = difference(variant, metric).map_or_else(String::new, |it| {
            format!(
                "mean {} ({} to {}), p = {:.4}, adjusted {:.4}; {} better, {} worse, {} the same",
                precise(it.estimate.mean),
                precise(it.estimate.low),
                precise(it.estimate.high),
                it.p,
                it.p_adjusted,
                it.num_better,
                it.num_worse,
                it.estimate.num_questions - it.num_better - it.num_worse
            )
        });
        let svg = differences(
            &format!("change-{at}"),
            &format!("{name}: {}", metric.name()),
            &all,
        );
        figure(page, name, &explanation, &svg);
    }
    *page += "</div>\n";
}

fn precise(value: f64) -> String {
    format!("{value:+.4}").replace('-', "\u{2212}")
}

fn worst(page: &mut String, report: &Report) {
    let worst = report.worst();
    let (Some(metric), false) = (report.main_metric, worst.is_empty()) else {
        return;
    };
    let first = report
        .variants
        .first()
        .map_or("", |it| it.settings.name.as_str());
    let _ = write!(
        page,
        "<h2>Where it fails</h2>\n<p>The {} questions with the lowest {} under \u{201c}{}\u{201d}, and what was found for \
         them. Often it is the judgment that lacks something.</p>\n",
        worst.len(),
        metric.name(),
        escaped(first)
    );
    for question in worst {
        one_question(page, question, metric);
    }
}

fn one_question(page: &mut String, question: &QuestionReport, metric: Metric) {
    let Some(result) = question.results.first() else {
        return;
    };
    let value = super::value_of(&result.values, metric).unwrap_or(0.0);
    let _ = write!(
        page,
        "<details><summary>{} <span>{} {value:.2}</span></summary>\n<dl><dt>Id</dt><dd>{}</dd>",
        escaped(&question.question),
        metric.name(),
        escaped(&question.id)
    );
    if !question.documents.is_empty() {
        let _ = write!(
            page,
            "<dt>Bears on it</dt><dd>{}</dd>",
            escaped(&question.documents.join(", "))
        );
    }
    if !question.gold_answers.is_empty() {
        let _ = write!(
            page,
            "<dt>Gold answer</dt><dd>{}</dd>",
            escaped(&question.gold_answers.join(" | "))
        );
    }
    if question.is_answerable == Some(false) {
        *page += "<dt>Must be</dt><dd>declined</dd>";
    }
    if let Some(answer) = &result.answer {
        let _ = write!(page, "<dt>Answer</dt><dd>{}</dd>", escaped(answer));
    }
    let values: Vec<String> = result
        .values
        .iter()
        .map(|(metric, value)| format!("{} {value:.2}", metric.name()))
        .collect();
    let _ = write!(page, "<dt>Values</dt><dd>{}</dd>", values.join(", "));
    *page += "<dt>Found</dt><dd><ol>";
    for found in &result.found {
        let mark = if found.is_relevant {
            " (bears on it)"
        } else {
            ""
        };
        let _ = write!(
            page,
            "<li><strong>{}</strong>, page {}, score {:.3}{mark}<br>{}</li>",
            escaped(&found.document),
            found.page,
            found.score,
            escaped(&found.text)
        );
    }
    *page += "</ol></dd></dl></details>\n";
}

fn settings(page: &mut String, report: &Report) {
    *page += "<h2>Settings</h2>\n<div class=\"scroll\" role=\"region\" aria-label=\"Settings\" tabindex=\"0\">\n<table>\n\
              <caption>What each variant was</caption>\n<thead><tr>";
    for label in [
        "Variant",
        "alpha",
        "fusion",
        "ranker",
        "diversity",
        "neighbors",
        "top_k",
        "min_similarity",
        "min_quote_confidence",
        "Passage, overlap (tokens)",
        "Embedder",
        "Answers",
        "Documents",
        "Passages",
        "Ingestion (s)",
    ] {
        let _ = write!(page, "<th scope=\"col\">{label}</th>");
    }
    *page += "</tr></thead>\n<tbody>\n";
    for variant in &report.variants {
        let (it, searched) = (&variant.settings, &variant.searched);
        let or_default =
            |value: Option<f32>| value.map_or("default".into(), |value| value.to_string());
        let failed = match searched.num_failed {
            0 => String::new(),
            num => format!(" ({num} failed)"),
        };
        let fusion = match it.fusion {
            FusionMode::Weighted => "weighted",
            FusionMode::ReciprocalRank => "rrf",
        };
        let cells = [
            it.alpha.to_string(),
            fusion.to_owned(),
            it.ranker.clone(),
            it.diversity.to_string(),
            it.neighbors.map_or("none".into(), |it| it.to_string()),
            it.top_k.to_string(),
            or_default(it.min_similarity),
            or_default(it.min_quote_confidence),
            format!("{}, {}", it.chunk_tokens, it.overlap_tokens),
            format!(
                "{} ({})",
                searched.embedding_model,
                start(&searched.embedding_model_hash)
            ),
            searched
                .answered_by
                .clone()
                .unwrap_or_else(|| "nobody".into()),
            format!("{}{failed}", searched.num_documents),
            searched.num_passages.to_string(),
            searched
                .ingestion_seconds
                .map_or("kept".into(), |it| format!("{it:.1}")),
        ];
        let _ = write!(page, "<tr><th scope=\"row\">{}</th>", escaped(&it.name));
        for cell in cells {
            let _ = write!(page, "<td>{}</td>", escaped(&cell));
        }
        *page += "</tr>\n";
    }
    let about = &report.about;
    let _ = write!(
        page,
        "</tbody>\n</table>\n</div>\n<p class=\"quiet\">Measured on {}, {}, {} threads. Seed of resampling: {}.</p>\n",
        escaped(&about.machine),
        escaped(&about.device),
        about.num_threads,
        about.seed
    );
}

fn start(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

fn estimate(variant: &VariantReport, metric: Metric) -> Option<&Estimate> {
    let found = variant.metrics.iter().find(|(it, _)| *it == metric);
    found.map(|(_, estimate)| estimate)
}

fn difference(variant: &VariantReport, metric: Metric) -> Option<&Difference> {
    let found = variant.differences.iter().find(|(it, _)| *it == metric);
    found.map(|(_, difference)| difference)
}
