//! Anthropic's Messages API, and the tokenizer's endpoints, through real sockets.

mod common;

use std::io::{BufRead, BufReader};
use std::time::Instant;

use common::{PATIENCE, Reply, SCRIPT, Setup, TestServer, model_path, serve_framed, serve_model};
use inglenook::llm::testing::{FRAMING_TEMPLATE, Script, write_babbling_gguf};
use serde_json::{Value, json};

fn request(model: &str, more: Value) -> Value {
    let mut body = json!({
        "model": model,
        "max_tokens": 400,
        "messages": [{ "role": "user", "content": "How is the weather in Oslo?" }],
    });
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}

fn tools() -> Value {
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string", "maxLength": 6 } }, "required": ["city"] });
    json!([
        { "name": "weather", "description": "The weather", "input_schema": schema },
        { "name": "time", "input_schema": { "type": "object" } },
    ])
}

/// The message that a stream's events make, each checked for its place.
fn assembled(reply: &Reply) -> Value {
    let text = std::str::from_utf8(&reply.body).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("event: "));
    let events = reply.events();
    assert!(names.eq(events.iter().map(|event| event["type"].as_str().unwrap())));
    let mut message = Value::Null;
    let mut input = String::new();
    let mut open = false;
    for event in &events {
        let content = message["content"].as_array_mut();
        match event["type"].as_str().unwrap() {
            "message_start" => {
                message = event["message"].clone();
                assert_eq!(message["content"], json!([]));
                assert_eq!(message["stop_reason"], Value::Null);
                assert!(message["usage"]["input_tokens"].as_u64().unwrap() > 0);
            }
            "content_block_start" => {
                let content = content.unwrap();
                assert!(!open && event["index"] == content.len());
                content.push(event["content_block"].clone());
                input.clear();
                open = true;
            }
            "content_block_delta" => {
                let block = content.unwrap().last_mut().unwrap();
                let delta = &event["delta"];
                let field = match delta["type"].as_str().unwrap() {
                    "text_delta" => "text",
                    "thinking_delta" => "thinking",
                    "input_json_delta" => {
                        input.push_str(delta["partial_json"].as_str().unwrap());
                        continue;
                    }
                    other => panic!("{other}"),
                };
                let text =
                    block[field].as_str().unwrap().to_owned() + delta[field].as_str().unwrap();
                block[field] = json!(text);
            }
            "content_block_stop" => {
                let content = content.unwrap();
                assert!(open && event["index"] == content.len() - 1);
                let block = content.last_mut().unwrap();
                if block["type"] == "tool_use" {
                    block["input"] = serde_json::from_str(&input).unwrap();
                }
                open = false;
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["stop_sequence"] = event["delta"]["stop_sequence"].clone();
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => assert_eq!(event, events.last().unwrap()),
            other => panic!("{other}"),
        }
    }
    message
}

/// Asks whole and streamed; both must say the same.
fn ask(server: &TestServer, mut body: Value) -> Value {
    let whole = server.post("/v1/messages", body.clone()).ok();
    assert!(whole["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(
        (&whole["type"], &whole["role"]),
        (&json!("message"), &json!("assistant"))
    );
    body["stream"] = json!(true);
    let mut streamed = assembled(&server.post("/messages", body));
    for key in ["stop_reason", "stop_sequence", "model"] {
        assert_eq!(whole[key], streamed[key], "{key}");
    }
    let input_tokens = |message: &Value| {
        let usage = &message["usage"];
        usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap()
    };
    assert_eq!(input_tokens(&whole), input_tokens(&streamed));
    assert_eq!(
        whole["usage"]["output_tokens"],
        streamed["usage"]["output_tokens"]
    );
    let mut content = whole["content"].clone();
    for message in [&mut content, &mut streamed["content"]] {
        for block in message.as_array_mut().unwrap() {
            block.as_object_mut().unwrap().shift_remove("id");
        }
    }
    assert_eq!(content, streamed["content"]);
    whole
}

/// The error of this status and type, in Anthropic's shape.
fn error(reply: &Reply, status: u16, kind: &str) -> String {
    assert_eq!(
        reply.status,
        status,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
    let body = reply.json();
    assert_eq!(body["type"], "error");
    assert_eq!(body["error"]["type"], kind, "{body}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

fn text(text: &str) -> Value {
    json!([{ "type": "text", "text": text }])
}

#[test]
fn a_message_says_why_it_ended() {
    let server = Setup::default().start();
    let whole = ask(
        &server,
        request(
            "scripted",
            json!({ "system": "Be brief.", "temperature": 0.5 }),
        ),
    );
    assert_eq!(whole["content"], text(SCRIPT));
    assert_eq!(
        (&whole["stop_reason"], &whole["stop_sequence"]),
        (&json!("end_turn"), &Value::Null)
    );
    let cut = ask(&server, request("scripted", json!({ "max_tokens": 3 })));
    assert_eq!(
        (&cut["content"], &cut["stop_reason"]),
        (&text("The keeper of "), &json!("max_tokens"))
    );
    assert_eq!(cut["usage"]["output_tokens"], 3);
    let stopped = ask(
        &server,
        request("scripted", json!({ "stop_sequences": ["Bergen", "Maren"] })),
    );
    assert_eq!(stopped["content"], text("The keeper of the lighthouse is "));
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!("Maren"))
    );
}

#[test]
fn what_was_found_in_the_cache_is_counted_apart() {
    let server = Setup::default().start();
    let body = request("scripted", json!({ "system": "word ".repeat(100) }));
    let counted =
        server.post("/v1/messages/count_tokens", body.clone()).ok()["input_tokens"].clone();
    let first = server.post("/v1/messages", body.clone()).ok()["usage"].clone();
    assert_eq!(
        (&first["input_tokens"], &first["cache_read_input_tokens"]),
        (&counted, &json!(0))
    );
    let again = server.post("/v1/messages", body).ok()["usage"].clone();
    let cached = again["cache_read_input_tokens"].as_u64().unwrap();
    assert!(cached >= 400, "{again}");
    assert_eq!(
        again["input_tokens"].as_u64().unwrap() + cached,
        counted.as_u64().unwrap()
    );
    // Counting needs no limit.
    let no_limit =
        json!({ "model": "scripted", "messages": [{ "role": "user", "content": text("Hello") }] });
    let count = |body: &Value| {
        server.post("/messages/count_tokens", body.clone()).ok()["input_tokens"]
            .as_u64()
            .unwrap()
    };
    let mut with_tools = no_limit.clone();
    with_tools["tools"] = tools();
    assert!(count(&with_tools) > count(&no_limit) + 100);
}

#[test]
fn tools_are_used_and_their_results_go_on() {
    let said = "I will look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>\n\
                <tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>";
    let server = serve_framed("anthropic-calling", Script::once(said).cut_every(3));
    // Whether a second call follows the first is the model's to choose, and so a matter of chance otherwise.
    let body = json!({ "tools": tools(), "temperature": 0 });
    let body = request("anthropic-calling", body);
    let whole = ask(&server, body.clone());
    assert_eq!(whole["stop_reason"], "tool_use");
    let content = whole["content"].as_array().unwrap();
    assert_eq!(content[0]["text"], "I will look.");
    assert_eq!(
        (&content[1]["name"], &content[1]["input"]),
        (&json!("weather"), &json!({ "city": "Oslo" }))
    );
    assert_eq!(
        (&content[2]["name"], &content[2]["input"]),
        (&json!("time"), &json!({}))
    );
    let one = ask(
        &server,
        request(
            "anthropic-calling",
            json!({
                "tools": tools(), "tool_choice": { "type": "auto", "disable_parallel_tool_use": true },
            }),
        ),
    );
    assert_eq!(one["content"].as_array().unwrap().len(), 2);
    let none = ask(
        &server,
        request(
            "anthropic-calling",
            json!({ "tools": tools(), "tool_choice": { "type": "none" } }),
        ),
    );
    assert_eq!(
        (&none["content"], &none["stop_reason"]),
        (&text(said), &json!("end_turn"))
    );

    let mut body = body;
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({ "role": "assistant", "content": content }));
    let result = |at: usize, content: Value| json!({ "type": "tool_result", "tool_use_id": content_id(&whole, at), "content": content });
    let mut failed = result(2, json!("no clock"));
    failed["is_error"] = json!(true);
    messages.push(json!({ "role": "user", "content": [
        { "type": "text", "text": "Here you are." }, result(1, text("sunny")), failed,
    ]}));
    assert!(
        ask(&server, body)["usage"]["output_tokens"]
            .as_u64()
            .unwrap()
            > 0
    );
}

#[test]
fn a_stop_sequence_within_a_call_is_what_ended_the_message() {
    let said = "I will look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>";
    let server = serve_framed("anthropic-cut", Script::once(said).cut_every(3));
    let cut = json!({ "tools": tools(), "stop_sequences": ["Oslo"] });
    let mut body = request("anthropic-cut", cut);
    let whole = server.post("/v1/messages", body.clone()).ok();
    assert_eq!(whole["content"], text("I will look."));
    assert_eq!(
        (&whole["stop_reason"], &whole["stop_sequence"]),
        (&json!("stop_sequence"), &json!("Oslo"))
    );
    // A stream has begun the call already.
    body["stream"] = json!(true);
    let events = server.post("/v1/messages", body).events();
    let mut ends = events.iter().filter(|it| it["type"] == "message_delta");
    let ended = json!({ "stop_reason": "stop_sequence", "stop_sequence": "Oslo" });
    assert_eq!(ends.next().unwrap()["delta"], ended);

    let unfinished = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Os";
    let server = serve_framed("anthropic-unfinished", Script::once(unfinished));
    let body = request("anthropic-unfinished", json!({ "tools": tools() }));
    let whole = server.post("/v1/messages", body).ok();
    assert_eq!(whole["stop_reason"], "end_turn", "{whole}");
}

fn content_id(message: &Value, at: usize) -> Value {
    message["content"][at]["id"].clone()
}

#[test]
fn a_tool_can_be_demanded() {
    let path = model_path("anthropic-babbling");
    write_babbling_gguf(&path, FRAMING_TEMPLATE).unwrap();
    let server = serve_model(path);
    for (choice, names) in [
        (
            json!({ "type": "any", "disable_parallel_tool_use": true }),
            vec!["weather", "time"],
        ),
        (
            json!({ "type": "tool", "name": "weather", "disable_parallel_tool_use": true }),
            vec!["weather"],
        ),
    ] {
        // Closed, so that nonsense comes to an end.
        let mut tools = tools();
        for tool in tools.as_array_mut().unwrap() {
            tool["input_schema"]["additionalProperties"] = json!(false);
        }
        let body = request(
            "anthropic-babbling",
            json!({ "tools": tools, "tool_choice": choice }),
        );
        let message = server.post("/v1/messages", body).ok();
        assert_eq!(message["stop_reason"], "tool_use", "{message}");
        for block in message["content"].as_array().unwrap() {
            assert!(
                names.contains(&block["name"].as_str().unwrap()),
                "{message}"
            );
            assert!(block["input"].is_object());
        }
    }
    let schema = json!({ "type": "object", "properties": { "born": { "type": "integer", "minimum": 0, "maximum": 99 } },
        "required": ["born"], "additionalProperties": false });
    let format = json!({ "format": { "type": "json_schema", "schema": schema } });
    let body = request("anthropic-babbling", json!({ "output_config": format }));
    let shaped = server.post("/v1/messages", body).ok();
    let read: Value = serde_json::from_str(shaped["content"][0]["text"].as_str().unwrap()).unwrap();
    assert!(read["born"].as_u64().unwrap() < 100);
}

#[test]
fn thoughts_are_blocks_where_they_are_asked_for() {
    let script = Script::once("<think>\nIt is so.\n</think>\n\nYes, indeed.").cut_every(4);
    let server = serve_framed("anthropic-thinking", script);
    let thinking = json!({ "type": "enabled", "budget_tokens": 1024 });
    let whole = ask(
        &server,
        request(
            "anthropic-thinking",
            json!({ "thinking": thinking, "max_tokens": 1025 }),
        ),
    );
    for (budget, max_tokens) in [(1023, 2000), (1024, 1024), (-1, 2000)] {
        let thinking = json!({ "type": "enabled", "budget_tokens": budget });
        let more = json!({ "thinking": thinking, "max_tokens": max_tokens });
        let refused = server.post("/v1/messages", request("anthropic-thinking", more));
        let message = error(&refused, 400, "invalid_request_error");
        assert!(message.contains("thinking.budget_tokens"), "{message}");
    }
    let thought = json!({ "type": "thinking", "thinking": "It is so.", "signature": "" });
    let said = json!({ "type": "text", "text": "Yes, indeed." });
    assert_eq!(whole["content"], json!([thought, said]));
    let quiet = ask(
        &server,
        request(
            "anthropic-thinking",
            json!({ "thinking": { "type": "disabled" } }),
        ),
    );
    assert_eq!(quiet["content"], json!([said]));
    // Thoughts of earlier turns come back with their blocks.
    let messages = json!([
        { "role": "user", "content": "So?" },
        { "role": "assistant", "content": [thought, { "type": "redacted_thinking", "data": "x" }, said] },
        { "role": "user", "content": "Sure?" },
    ]);
    ask(
        &server,
        request("anthropic-thinking", json!({ "messages": messages })),
    );
}

#[test]
fn documents_of_text_are_read_and_images_refused() {
    let server = Setup::default().start();
    let count = |content: Value| {
        let body =
            json!({ "model": "scripted", "messages": [{ "role": "user", "content": content }] });
        server.post("/v1/messages/count_tokens", body)
    };
    let tokens = |content: Value| count(content).ok()["input_tokens"].as_u64().unwrap();
    let document = |source: Value| json!([{ "type": "document", "title": "T", "source": source }]);
    let plain = document(json!({ "type": "text", "media_type": "text/plain", "data": "eel" }));
    let blocks = document(json!({ "type": "content", "content": text("eel") }));
    // Every byte is a token: the title, a line break and the text.
    assert_eq!(tokens(plain), tokens(text("T\neel")));
    assert_eq!(tokens(blocks), tokens(text("T\neel")));
    let found =
        json!([{ "type": "search_result", "title": "T", "source": "S", "content": text("eel") }]);
    assert_eq!(tokens(found), tokens(text("T\nS\neel")));

    let base64 = json!({ "type": "base64", "media_type": "application/pdf", "data": "JVBERi0=" });
    let image = json!([{ "type": "image", "source": base64 }]);
    let invalid = "invalid_request_error";
    assert!(error(&count(image), 400, invalid).contains("messages.0.content.0 is an image"));
    assert!(error(&count(document(base64)), 400, invalid).contains("only documents of text"));
}

#[test]
fn errors_have_anthropics_shape() {
    let server = Setup::default().args(&["--api-key", "secret"]).start();
    let stranger = server.post("/v1/messages", request("scripted", json!({})));
    error(&stranger, 401, "authentication_error");
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
    let body = request("scripted", json!({})).to_string();
    let known = agent
        .post(format!("{}/v1/messages", server.base))
        .header("x-api-key", "secret");
    let answer = known.send(body.as_bytes()).unwrap();
    assert_eq!(answer.status(), 200);
    assert!(
        answer.headers()["request-id"]
            .to_str()
            .unwrap()
            .starts_with("req_")
    );
    drop(server);

    let server = Setup::default().start();
    let invalid = "invalid_request_error";
    let post = |more: Value| server.post("/v1/messages", request("scripted", more));
    let unknown = server.post("/v1/messages", request("claude-none", json!({})));
    assert!(error(&unknown, 404, "not_found_error").contains("claude-none"));
    let broken = server.post_bytes("/v1/messages", b"{", "application/json");
    error(&broken, 400, invalid);
    error(&server.get("/v1/messages"), 405, "invalid_request_error");
    for (more, says) in [
        (json!({ "max_tokens": null }), "max_tokens"),
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "temperature": 1.5 }), "temperature"),
        (json!({ "messages": [] }), "at least one"),
        (
            json!({ "messages": [{ "role": "robot", "content": "x" }] }),
            "messages.0.role",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": "x" }, { "role": "assistant", "content": "y" }] }),
            "assistant",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "tool_result" }] }] }),
            "tool_use_id",
        ),
        (
            json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }),
            "web_search_20250305",
        ),
        (
            json!({ "tools": [{ "name": "weather" }] }),
            "tools.0.input_schema",
        ),
        (
            json!({ "tools": tools(), "tool_choice": { "type": "tool", "name": "launch" } }),
            "launch",
        ),
        (
            json!({ "tools": tools(), "tool_choice": { "type": "often" } }),
            "tool_choice",
        ),
        (json!({ "mcp_servers": [{ "url": "x" }] }), "mcp_servers"),
        (
            json!({ "output_config": { "format": { "type": "xml" } } }),
            "output_config",
        ),
        (json!({ "system": "word ".repeat(20_000) }), "tokens"),
    ] {
        let message = error(&post(more), 400, invalid);
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn a_full_queue_is_an_overloaded_server() {
    let setup = Setup {
        environment: vec![("INGLENOOK_MAX_WAITING", "1")],
        ..Setup::endless()
    };
    let server = setup.start();
    let body = request("endless", json!({ "max_tokens": 20_000, "stream": true })).to_string();
    // Full is when it runs all it can and one waits; one may also wait while the engine is only about to admit it.
    let deadline = Instant::now() + PATIENCE;
    let mut sockets = Vec::new();
    loop {
        assert!(Instant::now() < deadline, "the queue does not fill");
        let mut socket = server.open("POST", "/v1/messages", &body);
        let mut status = String::new();
        BufReader::new(&mut socket).read_line(&mut status).unwrap();
        if status.contains("200") {
            sockets.push(socket);
            continue;
        }
        assert!(status.contains("529"), "{status}");
        let load = server.get("/health").ok()["engine"].clone();
        if load["num_running"].as_u64() >= Some(16) && load["num_waiting"] == 1 {
            break;
        }
    }
    let reply = server.post("/v1/messages", request("endless", json!({})));
    error(&reply, 529, "overloaded_error");
    assert!(reply.header("retry-after").is_some());
    let messages = json!([{ "role": "user", "content": "x" }]);
    let reply = server.post(
        "/api/chat",
        json!({ "model": "endless", "messages": messages }),
    );
    assert_eq!(reply.status, 503);
}

#[test]
fn tokens_are_counted_and_spelled_in_both_shapes() {
    let server = Setup::default().start();
    let content = "Grüße <|im_end|>";
    for prefix in ["", "/v1"] {
        let post = |path: &str, body: Value| server.post(&format!("{prefix}{path}"), body).ok();
        let tokens = post("/tokenize", json!({ "content": content }))["tokens"].clone();
        // One token a byte, but for the control token.
        assert_eq!(tokens.as_array().unwrap().len(), "Grüße ".len() + 1);
        assert_eq!(
            post("/detokenize", json!({ "tokens": tokens }))["content"],
            content
        );
        let as_text = post(
            "/tokenize",
            json!({ "content": content, "parse_special": false }),
        )["tokens"]
            .clone();
        assert_eq!(as_text.as_array().unwrap().len(), content.len());
        let pieces = post(
            "/tokenize",
            json!({ "content": "aü<|im_end|>", "with_pieces": true }),
        )["tokens"]
            .clone();
        let pieces: Vec<&Value> = pieces
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["piece"])
            .collect();
        assert_eq!(
            pieces,
            [
                &json!("a"),
                &json!([0xc3]),
                &json!([0xbc]),
                &json!("<|im_end|>")
            ]
        );

        let counted = post(
            "/tokenize",
            json!({ "model": "scripted", "prompt": content, "return_token_strs": true }),
        );
        assert_eq!(
            (&counted["tokens"], &counted["count"]),
            (&tokens, &json!(tokens.as_array().unwrap().len()))
        );
        assert_eq!(counted["token_strs"][0], "G");
        assert!(counted["max_model_len"].as_u64().unwrap() > 1000);
        let spelled = post(
            "/detokenize",
            json!({ "model": "scripted", "tokens": tokens }),
        );
        assert_eq!(spelled["prompt"], content);
        let messages = json!([{ "role": "user", "content": "Hi" }]);
        let chat = post(
            "/tokenize",
            json!({ "model": "scripted", "messages": messages }),
        );
        let text = post("/detokenize", json!({ "tokens": chat["tokens"] }))["content"].clone();
        assert_eq!(
            text,
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
    }
    server
        .post("/tokenize", json!({ "content": "a", "prompt": "b" }))
        .error(400);
    server.post("/tokenize", json!({})).error(400);
    let unused =
        json!({ "content": "a", "tools": [{ "type": "function", "function": { "name": "" } }] });
    let error = server.post("/tokenize", unused).error(400);
    assert_eq!(error["param"], "tools[0].function.name");
    let outside = server
        .post("/detokenize", json!({ "tokens": [1_000_000] }))
        .error(400);
    assert_eq!(outside["param"], "tokens");
    server
        .post("/tokenize", json!({ "content": "a", "model": "tiny-bert" }))
        .error(400);
}
