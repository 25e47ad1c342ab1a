//! `GET /metrics` in the text format of Prometheus (version 0.0.4): what was asked, what the models do, and how long
//! readers waited. Counters of a model begin anew when it is loaded anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{HttpResponse, web};

use crate::engine::EngineStats;
use crate::http::Context;
use crate::rag::generate::ChatModel;
use crate::rag::timings::Histogram;

/// Answers so far, by method, route and status. Bounded: routes are patterns, and what no route takes is one of them.
#[derive(Default)]
pub struct RequestCounts {
    counts: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
}

pub async fn count<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let counts = request.app_data::<web::Data<RequestCounts>>().cloned();
    let method = known_method(request.method());
    let response = next.call(request).await?;
    if let Some(counts) = counts {
        let route = response.request().match_pattern();
        let route = route.filter(|route| !route.is_empty());
        let key = (
            method,
            route.unwrap_or_else(|| "other".into()),
            response.status().as_u16(),
        );
        let mut counts = counts.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(key).or_default() += 1;
    }
    Ok(response)
}

/// A client may invent methods, but not labels.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Counts what was asked and what the models do
///
/// In the text format of Prometheus, version 0.0.4.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "get_metrics",
    tag = "Server",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
pub async fn get(context: web::Data<Context>, counts: web::Data<RequestCounts>) -> HttpResponse {
    let mut page = Page::default();
    page.family("inglenook_info", "gauge", "What runs here.");
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    page.sample("inglenook_info", &version, 1.0);
    page.family(
        "inglenook_start_time_seconds",
        "gauge",
        "When the server started, in Unix seconds.",
    );
    page.sample(
        "inglenook_start_time_seconds",
        &[],
        context.started_at as f64,
    );
    let requests = "inglenook_requests_total";
    page.family(requests, "counter", "Answered requests.");
    {
        let counts = counts.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for ((method, route, status), count) in counts.iter() {
            let status = status.to_string();
            let labels = [("method", *method), ("route", route), ("status", &status)];
            page.sample(requests, &labels, *count as f64);
        }
    }
    let chats = context.workspace.models.loaded_chats();
    for (name, kind, help, value) in ENGINE_FAMILIES {
        page.family(name, kind, help);
        for chat in &chats {
            let labels = [("model", chat.id())];
            page.sample(name, &labels, value(&chat.engine().stats()));
        }
    }
    page.histograms(
        "inglenook_time_to_first_token_seconds",
        "From a request to its first token, as its reader saw it.",
        &chats,
        |chat| &chat.timings().first_token,
    );
    page.histograms(
        "inglenook_inter_token_seconds",
        "Between two tokens of a text, as its reader saw it.",
        &chats,
        |chat| &chat.timings().inter_token,
    );
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(page.text)
}

type EngineFamily = (
    &'static str,
    &'static str,
    &'static str,
    fn(&EngineStats) -> f64,
);

const ENGINE_FAMILIES: &[EngineFamily] = &[
    (
        "inglenook_prompt_tokens_total",
        "counter",
        "Prompt tokens that were computed.",
        |stats| stats.num_computed_prompt_tokens as f64,
    ),
    (
        "inglenook_cached_tokens_total",
        "counter",
        "Prompt tokens that were found in the cache.",
        |stats| stats.num_cached_tokens as f64,
    ),
    (
        "inglenook_generated_tokens_total",
        "counter",
        "Generated tokens.",
        |stats| stats.num_generated_tokens as f64,
    ),
    (
        "inglenook_drafted_tokens_total",
        "counter",
        "Tokens that were guessed and checked.",
        |stats| stats.num_drafted_tokens as f64,
    ),
    (
        "inglenook_accepted_tokens_total",
        "counter",
        "Guessed tokens that were right.",
        |stats| stats.num_accepted_tokens as f64,
    ),
    (
        "inglenook_preemptions_total",
        "counter",
        "Sequences that gave up their place and were computed anew.",
        |stats| stats.num_preemptions as f64,
    ),
    (
        "inglenook_running_sequences",
        "gauge",
        "Sequences that are computed now.",
        |stats| stats.num_running as f64,
    ),
    (
        "inglenook_waiting_sequences",
        "gauge",
        "Sequences that wait for their turn.",
        |stats| stats.num_waiting as f64,
    ),
    (
        "inglenook_cache_blocks_used",
        "gauge",
        "Cache blocks that sequences hold.",
        |stats| (stats.num_blocks - stats.num_free_blocks) as f64,
    ),
    (
        "inglenook_cache_blocks",
        "gauge",
        "Cache blocks in all.",
        |stats| stats.num_blocks as f64,
    ),
];

/// The text of an answer.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.text, "{before}{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        chats: &[ChatModel],
        histogram: fn(&ChatModel) -> &Histogram,
    ) {
        self.family(name, "histogram", help);
        for chat in chats {
            let histogram = histogram(chat);
            let cumulative = histogram.cumulative();
            let total = cumulative.last().map_or(0, |(_, count)| *count);
            for (bound, count) in cumulative {
                let bound = match bound.is_finite() {
                    true => bound.to_string(),
                    false => "+Inf".into(),
                };
                let labels = [("model", chat.id()), ("le", &bound)];
                self.sample(&format!("{name}_bucket"), &labels, count as f64);
            }
            let labels = [("model", chat.id())];
            self.sample(&format!("{name}_sum"), &labels, histogram.sum());
            self.sample(&format!("{name}_count"), &labels, total as f64);
        }
    }
}
