//! Documents from the web and from watched folders: the real program, real sites on real sockets, real folders.

mod arxiv;
#[path = "../common/mod.rs"]
mod common;
mod lifecycle;
mod limits;
mod server;
mod sites;
mod watch;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{PATIENCE, Setup, TestServer};
use serde_json::{Value, json};
use server::Site;

/// A server that may import from these sites, at once.
fn importing(dir: &Path, sites: &[&Site], more: &str) -> TestServer {
    let hosts: Vec<String> = sites.iter().map(|site| site.host()).collect();
    let text = format!(
        "web_import = \"on\"\nweb_import_hosts = {hosts:?}\nweb_import_delay = 0.0\n{more}\n"
    );
    serving(dir, &text)
}

fn serving(dir: &Path, settings: &str) -> TestServer {
    std::fs::write(dir.join("inglenook.toml"), settings).unwrap();
    let setup = Setup {
        chat_model: Some("none".into()),
        ..Setup::default()
    };
    setup.in_dir(dir).start()
}

/// Waits until an import has ended, and returns it with its pages.
fn ended(server: &TestServer, id: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let import = server.get(&format!("/api/imports/{id}")).ok();
        if import["status"] != "running" {
            return import;
        }
        assert!(
            Instant::now() < deadline,
            "the import did not end: {import}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn import(server: &TestServer, request: Value) -> Value {
    let created = server.post("/api/imports", request).ok();
    assert_eq!(created["object"], "import");
    ended(server, created["id"].as_str().unwrap())
}

/// Outcome and reason by path, as `skipped robots`.
fn outcomes(import: &Value) -> BTreeMap<String, String> {
    let pages = import["pages"].as_array().unwrap();
    let pages = pages.iter().map(|page| {
        let url = page["url"].as_str().unwrap();
        let path = url.splitn(4, '/').nth(3).map(|path| format!("/{path}"));
        let outcome = page["outcome"].as_str().unwrap_or("queued");
        let reason = page["reason"].as_str().map(|reason| format!(" {reason}"));
        (
            path.unwrap(),
            format!("{outcome}{}", reason.unwrap_or_default()),
        )
    });
    pages.collect()
}

fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs
        .iter()
        .map(|(path, outcome)| (path.to_string(), outcome.to_string()));
    pairs.collect()
}

/// The documents of the default collection, once none is being read; by the attribute that tells where each is from.
fn documents(server: &TestServer, attribute: &str) -> BTreeMap<String, Value> {
    let path = format!("/v1/vector_stores/{}/files?limit=100", server.collection());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = server.get(&path).ok();
        let data = list["data"].as_array().unwrap();
        if data
            .iter()
            .all(|document| document["status"] != "in_progress")
        {
            let of = |document: &Value| {
                let from = document["attributes"][attribute]
                    .as_str()
                    .unwrap_or_default();
                (from.to_owned(), document.clone())
            };
            return data.iter().map(of).collect();
        }
        assert!(Instant::now() < deadline, "ingestion did not end: {list}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What searching for words finds.
fn found(server: &TestServer, query: &str) -> Vec<String> {
    let path = format!("/v1/vector_stores/{}/search", server.collection());
    let request = json!({ "query": query, "ranking_options": { "hybrid_search": { "embedding_weight": 0, "text_weight": 1 } } });
    let found = server.post(&path, request).ok();
    let texts = found["data"].as_array().unwrap().iter();
    texts
        .map(|it| it["content"][0]["text"].as_str().unwrap().to_owned())
        .collect()
}
