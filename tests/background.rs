//! Responses that are written while nobody waits, through real sockets.

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, SCRIPT, Setup, TestServer, models};
use serde_json::{Value, json};

fn begin(server: &TestServer, more: Value) -> String {
    let mut body = json!({ "input": "Go", "background": true });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let queued = server.post("/v1/responses", body).ok();
    assert_eq!(queued["status"], "queued");
    assert_eq!(queued["background"], true);
    assert_eq!(queued["output"], json!([]));
    queued["id"].as_str().unwrap().to_owned()
}

fn get(server: &TestServer, id: &str) -> Value {
    server.get(&format!("/v1/responses/{id}")).ok()
}

/// Polls until the status is none of `passing`.
fn wait_past(server: &TestServer, id: &str, passing: &[&str]) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let response = get(server, id);
        if !passing.contains(&response["status"].as_str().unwrap()) {
            return response;
        }
        assert!(Instant::now() < deadline, "{response}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn num_running(server: &TestServer) -> u64 {
    let loaded = server.get("/api/models/loaded").ok();
    let models = loaded["models"].as_array().unwrap().iter();
    let chat = models.filter(|it| it["kind"] == "chat");
    chat.map(|it| it["num_running"].as_u64().unwrap()).sum()
}

#[test]
fn it_is_written_while_nobody_waits() {
    let server = Setup::default().start();
    let conversation = server.post("/v1/conversations", json!({})).ok()["id"].clone();
    let id = begin(&server, json!({ "conversation": conversation }));
    let response = wait_past(&server, &id, &["queued", "in_progress"]);
    assert_eq!(response["status"], "completed");
    assert_eq!(response["output"][0]["content"][0]["text"], SCRIPT);
    assert_eq!(
        (&response["model"], &response["background"]),
        (&json!("scripted"), &json!(true))
    );
    assert!(response["usage"]["output_tokens"].as_u64() > Some(0));
    let items = server
        .get(&format!(
            "/v1/conversations/{}/items",
            conversation.as_str().unwrap()
        ))
        .ok();
    assert_eq!(items["data"].as_array().unwrap().len(), 2);
    let given = server.get(&format!("/v1/responses/{id}/input_items")).ok();
    assert_eq!(given["data"][0]["content"][0]["text"], "Go");
    // It is continued as any other, and cancelling what has ended changes nothing.
    let body = json!({ "input": "And?", "previous_response_id": id });
    server.post("/v1/responses", body).ok();
    let cancelled = server
        .post(&format!("/v1/responses/{id}/cancel"), json!({}))
        .ok();
    assert_eq!(cancelled, response);
}

#[test]
fn cancelling_ends_the_generation() {
    let server = Setup::endless().start();
    let conversation = server.post("/v1/conversations", json!({})).ok()["id"].clone();
    let id = begin(&server, json!({ "conversation": conversation }));
    let running = wait_past(&server, &id, &["queued"]);
    assert_eq!(running["status"], "in_progress");
    assert!(num_running(&server) > 0);
    // What has not ended cannot be continued.
    let body = json!({ "input": "And?", "previous_response_id": id });
    assert_eq!(
        server.post("/v1/responses", body).error(400)["param"],
        "previous_response_id"
    );
    let cancelled = server
        .post(&format!("/v1/responses/{id}/cancel"), json!({}))
        .ok();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(get(&server, &id), cancelled);
    let deadline = Instant::now() + PATIENCE;
    while num_running(&server) > 0 {
        assert!(Instant::now() < deadline, "the generation goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    let items = server
        .get(&format!(
            "/v1/conversations/{}/items",
            conversation.as_str().unwrap()
        ))
        .ok();
    assert_eq!(items["data"], json!([]));
    // So does deleting.
    let id = begin(&server, json!({}));
    wait_past(&server, &id, &["queued"]);
    server.delete(&format!("/v1/responses/{id}")).ok();
    while num_running(&server) > 0 {
        assert!(Instant::now() < deadline, "the generation goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.get(&format!("/v1/responses/{id}")).error(404);
}

#[test]
fn what_a_killed_server_left_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::endless().in_dir(dir.path()).start();
    let id = begin(&server, json!({}));
    wait_past(&server, &id, &["queued"]);
    // Another process on the same folder sees that it is being written.
    let beside = Setup::endless().in_dir(dir.path()).start();
    assert_eq!(get(&beside, &id)["status"], "in_progress");
    server.kill();
    for server in [beside, Setup::default().in_dir(dir.path()).start()] {
        let failed = get(&server, &id);
        assert_eq!(failed["status"], "failed");
        let message = failed["error"]["message"].as_str().unwrap();
        assert!(message.contains("the server ended"), "{message}");
        assert_eq!(failed["error"]["code"], "server_error");
    }
}

#[test]
fn a_failure_is_told_by_the_response() {
    let environment = vec![("INGLENOOK_GENERATION_TIMEOUT", "1")];
    let server = Setup {
        environment,
        ..Setup::endless()
    }
    .start();
    let id = begin(&server, json!({}));
    let failed = wait_past(&server, &id, &["queued", "in_progress"]);
    assert_eq!(failed["status"], "failed");
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.contains("within 1 s"), "{message}");
    assert!(failed["completed_at"].is_null());
}

#[test]
fn mistakes_are_refused_before_anything_is_queued() {
    let server = Setup::endless().start();
    for (param, body) in [
        (
            "store",
            json!({ "input": "x", "background": true, "store": false }),
        ),
        (
            "stream",
            json!({ "input": "x", "background": true, "stream": true }),
        ),
        ("background", json!({ "input": "x", "background": "yes" })),
    ] {
        let error = server.post("/v1/responses", body).error(400);
        assert_eq!(error["param"], param, "{error}");
    }
    let body = json!({ "input": "x", "background": true, "model": "nobody" });
    assert_eq!(
        server.post("/v1/responses", body).error(404)["code"],
        "model_not_found"
    );
    let embedder = models().embedder.file_name().unwrap().to_str().unwrap();
    let body = json!({ "input": "x", "background": true, "model": embedder });
    assert_eq!(
        server.post("/v1/responses", body).error(400)["param"],
        "model"
    );
    let waited = server
        .post(
            "/v1/responses",
            json!({ "input": "x", "max_output_tokens": 4 }),
        )
        .ok();
    let path = format!("/v1/responses/{}", waited["id"].as_str().unwrap());
    server.post(&format!("{path}/cancel"), json!({})).error(400);
    assert_eq!(
        server
            .get(&format!("{path}?stream=true&starting_after=3"))
            .error(400)["param"],
        "stream"
    );
    server
        .post("/v1/responses/resp_none/cancel", json!({}))
        .error(404);
    // As many as may run, and one more.
    let ids: Vec<String> = (0..32).map(|_| begin(&server, json!({}))).collect();
    let one_more = server.post("/v1/responses", json!({ "input": "x", "background": true }));
    assert_eq!(one_more.error(429)["code"], "rate_limit_exceeded");
    assert!(one_more.header("retry-after").is_some());
    server
        .post(&format!("/v1/responses/{}/cancel", ids[0]), json!({}))
        .ok();
    begin(&server, json!({}));
}
