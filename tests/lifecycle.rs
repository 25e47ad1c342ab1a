//! The server's life through real processes: keys, signals, kills, clients that leave and queues that fill.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{PATIENCE, Setup, TestServer, models, program};
use serde_json::{Value, json};

fn endless_chat(stream: bool) -> String {
    json!({ "messages": [{ "role": "user", "content": "Go" }], "stream": stream, "max_tokens": 60_000 }).to_string()
}

/// Waits until the number of running and waiting generations satisfies `done`.
fn wait_for_load(server: &TestServer, done: impl Fn(u64, u64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let health = server.get("/health").ok();
        let load = &health["engine"];
        if done(
            load["num_running"].as_u64().unwrap(),
            load["num_waiting"].as_u64().unwrap(),
        ) {
            return;
        }
        assert!(Instant::now() < deadline, "the load stayed at {load}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_banner_names_models_device_memory_and_address() {
    let server = Setup::default().start();
    let banner = server.banner();
    for part in [
        "chat model: scripted",
        "embedding model: tiny-bert",
        "device:",
        "memory:",
        "Open http://127.0.0.1:",
    ] {
        assert!(banner.contains(part), "{part:?} is missing:\n{banner}");
    }
}

#[test]
fn without_models_the_server_runs_and_says_what_to_pull() {
    let server = Setup {
        chat_model: Some("none".into()),
        embedding_model: Some("none".into()),
        ..Setup::default()
    }
    .start();
    assert!(
        server.banner().contains("inglenook models pull"),
        "{}",
        server.banner()
    );
    let body = json!({ "messages": [{ "role": "user", "content": "Hello" }] });
    let error = server.post("/v1/chat/completions", body).error(503);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("inglenook models pull"),
        "{error}"
    );
    assert_eq!(server.get("/v1/models").ok()["data"], json!([]));
    let file = server.upload("a.txt", b"some text").ok();
    let attach = format!("/v1/vector_stores/{}/files", server.collection());
    server
        .post(&attach, json!({ "file_id": file["id"] }))
        .error(503);
}

#[test]
fn an_address_that_others_reach_is_refused_without_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let output = program(dir.path())
        .args(["serve", "--host", "0.0.0.0", "--port", "0"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("--api-key"), "{message}");
}

#[test]
fn with_a_key_only_the_page_and_health_are_open() {
    let server = Setup::default()
        .args(&["--api-key", "correct horse"])
        .start();
    assert_eq!(
        server.get("/v1/models").error(401)["code"],
        "invalid_api_key"
    );
    assert_eq!(
        server.get("/api/status").error(401)["code"],
        "invalid_api_key"
    );
    server.post("/v1/chat/completions", json!({})).error(401);
    assert_eq!(server.get("/").status, 200);
    assert_eq!(server.get("/health").status, 200);
    let with_key = |key: &str| {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let request = agent
            .get(format!("{}/v1/models", server.base))
            .header("authorization", key);
        request.call().unwrap().status().as_u16()
    };
    assert_eq!(with_key("Bearer correct horse"), 200);
    assert_eq!(with_key("Bearer correct hors"), 401);
    assert_eq!(with_key("Basic correct horse"), 401);
}

#[test]
fn an_answer_of_a_sentencepiece_model_has_no_blank_before_it() {
    let Some(model) = inglenook::test_data::require("lm/stories260K.gguf") else {
        return;
    };
    let server = Setup {
        chat_model: Some(model),
        ..Setup::default()
    }
    .start();
    let chat = json!({
        "messages": [{ "role": "user", "content": "Once upon a time" }],
        "max_tokens": 8,
        "temperature": 0,
    });
    let answer = server.post("/v1/chat/completions", chat).ok();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!text.is_empty() && !text.starts_with(' '), "{text:?}");
    // A continuation keeps it: it is part of the text.
    let plain = json!({ "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0 });
    let continued = server.post("/v1/completions", plain).ok();
    let text = continued["choices"][0]["text"].as_str().unwrap();
    assert!(text.starts_with(", there was"), "{text:?}");
}

#[test]
fn a_key_of_digits_from_the_environment_is_text() {
    let server = Setup {
        environment: vec![("INGLENOOK_API_KEY", "0123")],
        ..Setup::default()
    }
    .start();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    for (key, status) in [("Bearer 0123", 200), ("Bearer 123", 401)] {
        let request = agent
            .get(format!("{}/v1/models", server.base))
            .header("authorization", key);
        assert_eq!(request.call().unwrap().status().as_u16(), status, "{key}");
    }
}

#[test]
fn a_foreign_page_cannot_reach_an_open_server() {
    let server = Setup::default().start();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let status = |header: &str, value: &str| {
        let request = agent
            .get(format!("{}/v1/models", server.base))
            .header(header, value);
        request.call().unwrap().status().as_u16()
    };
    assert_eq!(status("origin", "http://localhost:3000"), 200);
    assert_ne!(status("origin", "https://evil.example"), 200);
    // A name that an attacker's DNS points at this machine.
    assert_ne!(status("host", "evil.example"), 200);
}

#[test]
fn a_client_that_leaves_frees_the_engine() {
    let server = Setup::endless().start();
    for is_streamed in [true, false] {
        let socket = server.open("POST", "/v1/chat/completions", &endless_chat(is_streamed));
        wait_for_load(&server, |running, _| running == 1);
        drop(socket);
        wait_for_load(&server, |running, waiting| running + waiting == 0);
    }
    // Each of them alone would have gone on to the end of the context.
    let num_generated = server.get("/health").ok()["engine"]["num_generated_tokens"]
        .as_u64()
        .unwrap();
    assert!(
        num_generated < 30_000,
        "{num_generated} tokens were generated for nobody"
    );
}

#[test]
fn a_full_queue_is_answered_at_once_with_retry_after() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("queue.toml"), "max_waiting = 2\n").unwrap();
    let server = Setup::endless()
        .in_dir(dir.path())
        .args(&["--config", "queue.toml"])
        .start();
    // A refusal may also come while the engine is only about to admit what waits; full is when it runs all it can.
    let mut sockets = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(
            Instant::now() < deadline,
            "{} requests did not fill the queue",
            sockets.len()
        );
        let mut socket = server.open("POST", "/v1/chat/completions", &endless_chat(true));
        let mut status = String::new();
        BufReader::new(&mut socket).read_line(&mut status).unwrap();
        if status.contains("200") {
            sockets.push(socket);
            continue;
        }
        assert!(status.contains("429"), "{status}");
        let load = server.get("/health").ok()["engine"].clone();
        if load["num_running"].as_u64() >= Some(16) && load["num_waiting"] == 2 {
            break;
        }
    }
    let body: Value = serde_json::from_str(&endless_chat(false)).unwrap();
    let reply = server.post("/v1/chat/completions", body);
    assert!(reply.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(reply.error(429)["code"], "rate_limit_exceeded");
    drop(sockets);
    wait_for_load(&server, |running, waiting| running + waiting == 0);
}

#[test]
fn a_generation_that_takes_too_long_ends_with_504() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hasty.toml"), "generation_timeout = 1\n").unwrap();
    let server = Setup::endless()
        .in_dir(dir.path())
        .args(&["--config", "hasty.toml"])
        .start();
    let body: Value = serde_json::from_str(&endless_chat(false)).unwrap();
    assert_eq!(
        server.post("/v1/chat/completions", body).error(504)["code"],
        "timeout"
    );
    let body: Value = serde_json::from_str(&endless_chat(true)).unwrap();
    let events = server.post("/v1/chat/completions", body).events();
    assert_eq!(events.last().unwrap()["error"]["code"], "timeout");
}

#[test]
fn a_running_answer_finishes_after_sigterm() {
    let server = Setup::endless().start();
    let body = json!({ "messages": [{ "role": "user", "content": "Go" }], "stream": true, "max_tokens": 400 });
    let socket = server.open("POST", "/v1/chat/completions", &body.to_string());
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    while !line.contains("tick") {
        line.clear();
        assert!(
            reader.read_line(&mut line).unwrap() > 0,
            "the stream ended early"
        );
    }
    server.signal("TERM");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(
        rest.contains("\"finish_reason\":\"length\""),
        "{}",
        &rest[rest.len().saturating_sub(300)..]
    );
    assert!(rest.contains("data: [DONE]"));
    assert!(server.wait().success());
}

#[test]
fn ingestion_that_is_killed_at_any_moment_resumes_to_completion() {
    let dir = tempfile::tempdir().unwrap();
    let documents: Vec<(String, String)> = (0..6)
        .map(|number| {
            let sentence = |line: usize| {
                format!("Report {number} line {line} speaks of subject{number} at length.\n\n")
            };
            (
                format!("report-{number}.md"),
                (0..150).map(sentence).collect(),
            )
        })
        .collect();
    let server = Setup::default().in_dir(dir.path()).start();
    let collection = server.collection();
    let mut ids = Vec::new();
    for (name, content) in &documents {
        let id = server.upload(name, content.as_bytes()).ok()["id"]
            .as_str()
            .unwrap()
            .to_string();
        server
            .post(
                &format!("/v1/vector_stores/{collection}/files"),
                json!({ "file_id": id }),
            )
            .ok();
        ids.push(id);
    }
    server.kill();
    // Moments spread over what ingestion takes; a fixed sequence, so that a failure can be repeated.
    for round in 0u64..20 {
        let server = Setup::default().in_dir(dir.path()).start();
        std::thread::sleep(Duration::from_millis((round * 37) % 190));
        server.kill();
    }
    let server = Setup::default().in_dir(dir.path()).start();
    let mut num_chunks = 0;
    for id in &ids {
        let document = server.wait_for(&collection, id);
        assert_eq!(document["status"], "completed", "{document}");
        num_chunks += document["num_chunks"].as_u64().unwrap();
    }
    assert!(num_chunks > 20, "{num_chunks}");
    // Search finds exactly what the table says: each document by its own word.
    for (number, id) in ids.iter().enumerate() {
        let body = json!({ "query": format!("subject{number}"), "max_num_results": 50 });
        let found = server
            .post(&format!("/v1/vector_stores/{collection}/search"), body)
            .ok();
        assert_eq!(found["data"][0]["file_id"], id.as_str());
    }
    let store = server.get(&format!("/v1/vector_stores/{collection}")).ok();
    assert_eq!(store["file_counts"]["completed"], 6);

    // As many passages as when nothing goes wrong: none is lost, none is there twice.
    let undisturbed = Setup::default().start();
    let clean = undisturbed.collection();
    for ((name, content), id) in documents.iter().zip(&ids) {
        let (_, expected) = undisturbed.ingest(&clean, name, content.as_bytes());
        let document = server.wait_for(&collection, id);
        assert_eq!(document["num_chunks"], expected["num_chunks"], "{name}");
    }
}

#[test]
fn the_command_line_ingests_and_asks() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.md");
    std::fs::write(
        &file,
        "The keeper of the lighthouse is Maren Holt. She came in 1998.",
    )
    .unwrap();
    let run = |args: &[&str]| {
        let mut command = program(dir.path());
        command
            .arg("--chat-model")
            .arg(&models().scripted)
            .arg("--embedding-model")
            .arg(&models().embedder);
        let output = command.args(args).stdin(Stdio::null()).output().unwrap();
        let (out, err) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        (output.status.success(), out, err)
    };
    let (succeeded, out, err) = run(&["ingest", "notes.md"]);
    assert!(
        succeeded && out.contains("notes.md: 1 passages"),
        "{out}{err}"
    );
    let (succeeded, out, err) = run(&["ask", "Who is the keeper of the lighthouse?"]);
    assert!(succeeded, "{err}");
    assert!(out.contains("Maren Holt [1]."), "{out}");
    assert!(
        out.contains("[1] notes.md, page 1: \"The keeper of the lighthouse is Maren Holt.\""),
        "{out}"
    );
    let (succeeded, _, err) = run(&["ask", "Who?", "--file", "notes.md"]);
    assert!(!succeeded && err.contains("no file with the id"), "{err}");
    let (succeeded, _, err) = run(&["ingest", "missing.md"]);
    assert!(!succeeded && err.contains("missing.md"), "{err}");
    let (succeeded, out, _) = run(&["models"]);
    assert!(succeeded && out.contains("qwen3-0.6b"), "{out}");
}

#[test]
fn a_number_of_threads_can_be_set() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(folder.path());
    let models = command.args(["--threads", "1", "models"]).output().unwrap();
    assert!(models.status.success(), "{models:?}");
}
