//! `inglenook models ps` and `unload`: asks the running server which models it has in memory, or to let one go.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;

use crate::config::Settings;

/// Longest wait for the server: unloading waits while another model is loaded.
const PATIENCE: Duration = Duration::from_secs(300);

/// Which server to ask.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Address of the running server [default: the host and port of the settings]
    #[arg(long)]
    url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Loaded {
    models: Vec<LoadedModel>,
    loading: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct LoadedModel {
    id: String,
    kind: String,
    device: String,
    weights_bytes: u64,
    cache_bytes: u64,
    context_length: usize,
    num_running: usize,
    num_waiting: usize,
    idle_seconds: Option<u64>,
    unloads_in_seconds: Option<u64>,
}

pub fn list(settings: &Settings, server: &ServerArgs) -> anyhow::Result<ExitCode> {
    let body = call(settings, server, "GET", "/api/models/loaded")?;
    let loaded: Loaded = serde_json::from_str(&body)
        .context("the server did not answer as Inglenook does; check --url")?;
    let heading = [
        "NAME",
        "KIND",
        "DEVICE",
        "WEIGHTS",
        "CACHE",
        "CONTEXT",
        "RUNNING",
        "WAITING",
        "IDLE",
        "UNLOADED IN",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(loaded.models.iter().map(row));
    print_table(&rows);
    for name in &loaded.loading {
        println!("{name} is being loaded");
    }
    Ok(ExitCode::SUCCESS)
}

/// A name as a part of an address.
fn encoded(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    name.bytes().map(encode).collect()
}

pub fn unload(settings: &Settings, server: &ServerArgs, name: &str) -> anyhow::Result<ExitCode> {
    call(
        settings,
        server,
        "DELETE",
        &format!("/api/models/loaded/{}", encoded(name)),
    )?;
    println!("{name} is unloaded");
    Ok(ExitCode::SUCCESS)
}

fn row(model: &LoadedModel) -> [String; 10] {
    let seconds = |time: Option<u64>| time.map_or("-".to_owned(), |time| format!("{time} s"));
    [
        model.id.clone(),
        model.kind.clone(),
        model.device.clone(),
        mib(model.weights_bytes),
        mib(model.cache_bytes),
        model.context_length.to_string(),
        model.num_running.to_string(),
        model.num_waiting.to_string(),
        seconds(model.idle_seconds),
        seconds(model.unloads_in_seconds),
    ]
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1u64 << 20) as f64)
}

/// Columns as wide as their widest cell.
fn print_table<const N: usize>(rows: &[[String; N]]) {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    for row in rows {
        let cells = row.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        println!("{}", line.trim_end());
    }
}

/// The body of a success; what the server says of a failure becomes the error.
fn call(
    settings: &Settings,
    server: &ServerArgs,
    method: &str,
    path: &str,
) -> anyhow::Result<String> {
    let base = base_url(settings, server)?;
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{base}{path}"));
    if let Some(key) = &settings.api_key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let request = request
        .body(())
        .with_context(|| format!("{base} is not an address; write it as http://host:port"))?;
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        // The server is on this machine or named by the user; no proxy stands between.
        .proxy(None)
        .build()
        .new_agent();
    let mut response = agent.run(request).with_context(|| {
        format!(
            "no server answers at {base}; start one with: inglenook serve, or name it with --url"
        )
    })?;
    let body = response.body_mut().read_to_string()?;
    if response.status().is_success() {
        return Ok(body);
    }
    let error: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    match error["error"]["message"].as_str() {
        Some(message) => anyhow::bail!("{message}"),
        None => anyhow::bail!("{base} answered with status {}", response.status()),
    }
}

fn base_url(settings: &Settings, server: &ServerArgs) -> anyhow::Result<String> {
    if let Some(url) = &server.url {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    anyhow::ensure!(
        settings.port != 0,
        "the settings let the server take a free port; name its address with --url"
    );
    // A server on all addresses is reached by this machine's own.
    let host = match settings.host {
        IpAddr::V4(host) if host.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(host) if host.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V4(host) => host.to_string(),
        IpAddr::V6(host) => format!("[{host}]"),
    };
    Ok(format!("http://{host}:{}", settings.port))
}
