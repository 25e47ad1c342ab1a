//! Responses that are written while nobody waits, through real sockets.

mod common;

use std::io::Read;
use std::net::TcpStream;
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

/// Waits until the number of running generations satisfies `done`.
fn wait_for_running(server: &TestServer, done: impl Fn(u64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let num_running = num_running(server);
        if done(num_running) {
            return;
        }
        assert!(Instant::now() < deadline, "{num_running} are running");
        std::thread::sleep(Duration::from_millis(20));
    }
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
    // Its prompt is on its way to the engine.
    wait_for_running(&server, |num_running| num_running > 0);
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
    wait_for_running(&server, |num_running| num_running == 0);
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
    wait_for_running(&server, |num_running| num_running == 0);
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
    assert_eq!(failed["error"]["code"], "server_error");
    // A request that cannot be answered is another kind of failure.
    let long = "word ".repeat(80_000);
    let id = begin(&server, json!({ "input": long }));
    let failed = wait_past(&server, &id, &["queued", "in_progress"]);
    assert_eq!(failed["error"]["code"], "invalid_prompt", "{failed}");

    let events = streamed(&server, json!({}));
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["response"]["error"]["code"], "server_error");
    let id = last["response"]["id"].as_str().unwrap();
    assert_eq!(again(&server, id, ""), events);
}

/// The events of a response that is streamed from the background.
fn streamed(server: &TestServer, more: Value) -> Vec<Value> {
    let mut body = json!({ "input": "Go", "background": true, "stream": true });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let events = server.post("/v1/responses", body).events();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    events
}

/// The events of a stored response.
fn again(server: &TestServer, id: &str, query: &str) -> Vec<Value> {
    let path = format!("/v1/responses/{id}?stream=true{query}");
    let reply = server.get(&path);
    let events = reply.events();
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    events
}

/// Begins a streamed response and reads its events up to this number. Returns its id and the socket.
fn begin_streamed(server: &TestServer, more: Value, number: usize) -> (String, TcpStream) {
    let mut body = json!({ "input": "Go", "background": true, "stream": true });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let mut socket = server.open("POST", "/v1/responses", &body.to_string());
    let mut read = String::new();
    while !read.contains(&format!("\"sequence_number\":{number},")) {
        let mut bytes = [0; 1024];
        let count = socket.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "{read}");
        read.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    let id = read.split("\"id\":\"").nth(1).unwrap();
    (id.split('"').next().unwrap().to_owned(), socket)
}

#[test]
fn its_events_are_kept_as_long_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::default().in_dir(dir.path()).start();
    let events = streamed(&server, json!({}));
    let kinds: Vec<&str> = events
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds[..3],
        [
            "response.created",
            "response.queued",
            "response.in_progress"
        ]
    );
    assert_eq!(events[0]["response"]["status"], "queued");
    let last = &events.last().unwrap()["response"];
    assert_eq!(last["status"], "completed");
    assert_eq!(last["output"][0]["content"][0]["text"], SCRIPT);
    let id = last["id"].as_str().unwrap();
    assert_eq!(&get(&server, id), last);
    assert_eq!(again(&server, id, ""), events);
    assert_eq!(again(&server, id, "&starting_after=4"), events[5..]);
    let beyond = format!("&starting_after={}", events.len());
    assert!(again(&server, id, &beyond).is_empty());
    server.kill();
    let server = Setup::default().in_dir(dir.path()).start();
    assert_eq!(again(&server, id, "&starting_after=0"), events[1..]);
    server.delete(&format!("/v1/responses/{id}")).ok();
    server
        .get(&format!("/v1/responses/{id}?stream=true"))
        .error(404);
}

#[test]
fn who_was_cut_off_reads_on_from_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::endless().in_dir(dir.path()).start();
    let (id, socket) = begin_streamed(&server, json!({ "max_output_tokens": 3000 }), 20);
    drop(socket);
    let id = id.as_str();
    assert_eq!(get(&server, id)["status"], "in_progress");
    // Another process shows the events when it has ended.
    let beside = Setup::endless().in_dir(dir.path()).start();
    let (rest, all) = std::thread::scope(|scope| {
        let rest = scope.spawn(|| again(&server, id, "&starting_after=20"));
        let all = scope.spawn(|| again(&beside, id, ""));
        (rest.join().unwrap(), all.join().unwrap())
    });
    assert_eq!(rest[0]["sequence_number"], 21);
    assert_eq!(rest.last().unwrap()["type"], "response.incomplete");
    assert_eq!(all[21..], rest);
    assert_eq!(again(&server, id, ""), all);
    let texts: String = all
        .iter()
        .filter(|it| it["type"] == "response.output_text.delta")
        .map(|it| it["delta"].as_str().unwrap())
        .collect();
    let response = get(&server, id);
    assert_eq!(response["output"][0]["content"][0]["text"], texts.as_str());
    assert_eq!(response["usage"]["output_tokens"], 3000);
}

#[test]
fn followers_learn_how_it_was_ended() {
    let server = Setup::endless().start();
    let (id, mut socket) = begin_streamed(&server, json!({}), 5);
    let cancelled = server
        .post(&format!("/v1/responses/{id}/cancel"), json!({}))
        .ok();
    assert_eq!(cancelled["status"], "cancelled");
    let mut rest = String::new();
    socket.read_to_string(&mut rest).unwrap();
    let replayed = again(&server, &id, "");
    let last = replayed.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(last["response"], cancelled);
    assert!(rest.contains(&format!("data: {last}\n\n")), "{last}");

    // Another process cancels it too, and the one that writes it tells so in the end.
    let beside = Setup::endless().in_dir(&server.data_dir).start();
    let (id, mut socket) = begin_streamed(&server, json!({ "max_output_tokens": 3000 }), 5);
    beside
        .post(&format!("/v1/responses/{id}/cancel"), json!({}))
        .ok();
    let mut rest = String::new();
    socket.read_to_string(&mut rest).unwrap();
    let last = rest.rsplit("event: ").next().unwrap();
    assert!(last.starts_with("response.incomplete\n"), "{last}");
    assert!(last.contains("\"status\":\"cancelled\""), "{last}");
    let replayed = again(&server, &id, "&starting_after=9");
    assert_eq!(replayed.len(), 1, "{replayed:?}");

    let (id, mut socket) = begin_streamed(&server, json!({}), 5);
    server.delete(&format!("/v1/responses/{id}")).ok();
    let mut rest = String::new();
    socket.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("response.incomplete"));
}

#[test]
fn events_that_were_lost_with_a_server_are_told_by_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::endless().in_dir(dir.path()).start();
    let (id, _socket) = begin_streamed(&server, json!({}), 5);
    server.kill();
    let server = Setup::default().in_dir(dir.path()).start();
    let [last] = again(&server, &id, "&starting_after=7").try_into().unwrap();
    let last: Value = last;
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["sequence_number"], 8);
    assert_eq!(last["response"]["error"]["code"], "server_error");
}

#[test]
fn mistakes_are_refused_before_anything_is_queued() {
    let server = Setup::endless().start();
    for (param, body) in [
        (
            "store",
            json!({ "input": "x", "background": true, "store": false }),
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
    // Neither one that was waited for is streamed again, nor one of the background that was not streamed.
    let id = begin(&server, json!({ "max_output_tokens": 4 }));
    for path in [&path, &format!("/v1/responses/{id}")] {
        let error = server.get(&format!("{path}?stream=true")).error(400);
        assert_eq!(error["param"], "stream");
    }
    let wrong = format!("{path}?stream=true&starting_after=-1");
    assert_eq!(server.get(&wrong).error(400)["param"], "starting_after");
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
