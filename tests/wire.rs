//! What all endpoints of the API share on the wire, and the endpoints beside chat: every way in which clients are known to
//! write a request, over real sockets.

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{PATIENCE, SCRIPT, Setup, TestServer};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use inglenook::embedding::testing::write_tiny_bert;
use inglenook::llm::testing::{Script, write_scripted_gguf};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const EMBEDDINGS: &str = "/v1/embeddings";

type Headers<'a> = &'a [(&'a str, &'a str)];

/// An answer as it came over the socket.
struct Raw {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Raw {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The error of this status with all four keys.
    fn error(&self, status: u16) -> Value {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        let error = self.json()["error"].clone();
        for key in ["message", "type", "param", "code"] {
            assert!(error.get(key).is_some(), "{key} is missing: {error}");
        }
        assert!(!error["message"].as_str().unwrap().is_empty());
        error
    }
}

/// Sends exactly these headers and this body, and reads until the server closes.
fn raw(server: &TestServer, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Raw {
    let mut socket = connect(server);
    write!(
        socket,
        "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    )
    .unwrap();
    for (name, value) in headers {
        write!(socket, "{name}: {value}\r\n").unwrap();
    }
    if !body.is_empty() {
        write!(socket, "content-length: {}\r\n", body.len()).unwrap();
    }
    socket.write_all(b"\r\n").unwrap();
    socket.write_all(body).unwrap();
    let mut reader = BufReader::new(socket);
    let (status, headers) = read_head(&mut reader);
    let mut body = Vec::new();
    reader.read_to_end(&mut body).unwrap();
    Raw {
        status,
        headers,
        body,
    }
}

fn connect(server: &TestServer) -> TcpStream {
    let socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn read_head(reader: &mut impl BufRead) -> (u16, HashMap<String, String>) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return (status, headers);
        };
        headers.insert(name.to_lowercase(), value.to_string());
    }
}

fn hello() -> Value {
    json!({ "messages": [{ "role": "user", "content": "Hello" }] })
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

#[test]
fn bodies_may_be_compressed() {
    let server = Setup::default().start();
    let text = hello().to_string();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::default());
    deflate.write_all(text.as_bytes()).unwrap();
    let deflate = deflate.finish().unwrap();
    let post = |encoding: &str, body: &[u8]| {
        let headers = [
            ("content-encoding", encoding),
            ("content-type", "application/json"),
        ];
        raw(&server, &format!("POST {CHAT}"), &headers, body)
    };
    for (encoding, body) in [
        ("gzip", &gzip),
        ("deflate", &deflate),
        ("identity", &text.clone().into_bytes()),
    ] {
        let answer = post(encoding, body);
        assert_eq!(answer.status, 200, "{encoding}");
        assert_eq!(content(&answer.json()), SCRIPT);
    }
    post("gzip", text.as_bytes()).error(400);
    let unknown = post("br", &gzip).error(400);
    assert!(
        unknown["message"].as_str().unwrap().contains("'br'"),
        "{unknown}"
    );

    // Small on the wire, larger than may be read.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    let blanks = vec![b' '; 1 << 20];
    (0..65).for_each(|_| bomb.write_all(&blanks).unwrap());
    bomb.write_all(text.as_bytes()).unwrap();
    let refused = post("gzip", &bomb.finish().unwrap()).error(400);
    assert!(
        refused["message"].as_str().unwrap().contains("limit"),
        "{refused}"
    );
}

#[test]
fn a_body_is_json_whatever_its_content_type_says() {
    let server = Setup::default().start();
    let body = hello().to_string();
    let kinds: [&[(&str, &str)]; 4] = [
        &[],
        &[("content-type", "application/json; charset=utf-8")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[
            ("content-type", "text/plain"),
            ("accept", "application/json"),
        ],
    ];
    for headers in kinds {
        let answer = raw(&server, &format!("POST {CHAT}"), headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{headers:?}");
    }
    let marked = format!("\u{feff}{body}");
    assert_eq!(
        raw(&server, &format!("POST {CHAT}"), &[], marked.as_bytes()).status,
        200
    );
    for wrong in ["[]", "\"text\"", "5", "null"] {
        let error = raw(&server, &format!("POST {CHAT}"), &[], wrong.as_bytes()).error(400);
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("must be a JSON object"),
            "{wrong}: {message}"
        );
    }
}

#[test]
fn large_bodies_are_read_and_larger_ones_refused_with_the_limit() {
    let server = Setup::default().start();
    let body = |mib: usize| {
        let ignored = "x".repeat(mib << 20);
        json!({ "input": "a boat", "metadata": ignored }).to_string()
    };
    let read = server.post_bytes(EMBEDDINGS, body(33).as_bytes(), "application/json");
    assert_eq!(read.ok()["data"][0]["index"], 0);
    let error = server.post_bytes(EMBEDDINGS, body(65).as_bytes(), "application/json");
    let error = error.error(400);
    assert!(
        error["message"].as_str().unwrap().contains("67108864"),
        "{error}"
    );
}

#[test]
fn a_client_that_waits_to_be_let_on_is_let_on() {
    let server = Setup::default().start();
    let mut socket = connect(&server);
    let body = hello().to_string();
    write!(
        socket,
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nexpect: 100-continue\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    let mut reader = BufReader::new(socket);
    assert_eq!(read_head(&mut reader).0, 100);
    reader.get_mut().write_all(body.as_bytes()).unwrap();
    assert_eq!(read_head(&mut reader).0, 200);
}

#[test]
fn a_number_close_behind_a_bound_and_a_list_for_an_object_are_refused() {
    let server = Setup::default().start();
    let beyond = |name: &str, value: f64| {
        let mut body = json!({ "prompt": "x", "max_tokens": 1 });
        body[name] = json!(value);
        body
    };
    for (name, value) in [
        ("temperature", 2.0f64.next_up()),
        ("temperature", -f64::MIN_POSITIVE),
        ("top_p", 1.0f64.next_up()),
        ("presence_penalty", (-2.0f64).next_down()),
    ] {
        let error = server.post(COMPLETIONS, beyond(name, value)).error(400);
        assert_eq!(error["param"], name);
    }
    for (name, value) in [("temperature", 2.0), ("top_p", 1.0), ("top_p", 1e-60)] {
        server.post(COMPLETIONS, beyond(name, value)).ok();
    }
    let listed = json!({ "name": "a", "expires_after": ["last_active_at", 5] });
    let error = server.post("/v1/vector_stores", listed).error(400);
    assert_eq!(error["param"], "expires_after");
}

#[test]
fn null_is_absent_and_unknown_fields_are_ignored() {
    let server = Setup::default().start();
    let completion = json!({
        "prompt": "x", "model": null, "max_tokens": null, "n": null, "best_of": null, "echo": null, "suffix": null,
        "logprobs": null, "stream": null, "stream_options": null, "stop": null, "temperature": null, "top_p": null,
        "seed": null, "user": null, "logit_bias": null, "presence_penalty": null, "frequency_penalty": null,
        "verbosity": "low", "service_tier": "flex", "new": [{}],
    });
    server.post(COMPLETIONS, completion).ok();
    let embedding = json!({
        "input": "x", "model": null, "encoding_format": null, "dimensions": null, "input_type": null, "truncate": null,
        "user": null, "new": { "a": 1 },
    });
    server.post(EMBEDDINGS, embedding).ok();
    for (path, body, param) in [
        (EMBEDDINGS, json!({ "input": null }), "input"),
        (EMBEDDINGS, json!({}), "input"),
        (
            "/v1/rerank",
            json!({ "query": null, "documents": ["a"] }),
            "query",
        ),
        ("/v1/rerank", json!({ "documents": ["a"] }), "query"),
    ] {
        let error = server.post(path, body.clone()).error(400);
        assert_eq!(error["param"], param, "{body}");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("missing required parameter"),
            "{body}: {message}"
        );
    }
}

#[test]
fn every_spelling_of_the_base_url_is_understood() {
    let server = Setup::default().start();
    for path in [
        "/chat/completions",
        "//v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/v1/chat/completions",
        "//chat//completions//",
    ] {
        assert_eq!(content(&server.post(path, hello()).ok()), SCRIPT, "{path}");
    }
    let listed = server.get("/v1/v1/models").ok();
    assert_eq!(listed, server.get("/v1/models").ok());
}

#[test]
fn head_is_served_wherever_get_is() {
    let server = Setup::default().args(&["--api-key", "secret"]).start();
    let key = [("authorization", "Bearer secret")];
    for path in [
        "/",
        "/health",
        "/version",
        "/metrics",
        "/v1/models",
        "/v1/models/scripted",
        "/models",
        "/v1/files",
        "/v1/vector_stores",
        "/api/status",
    ] {
        let head = raw(&server, &format!("HEAD {path}"), &key, b"");
        assert_eq!(head.status, 200, "{path}");
        assert!(head.body.is_empty(), "{path}");
        let get = raw(&server, &format!("GET {path}"), &key, b"");
        assert!(!get.body.is_empty(), "{path}");
        assert_eq!(
            head.header("content-type"),
            get.header("content-type"),
            "{path}"
        );
    }
    assert_eq!(raw(&server, "HEAD /v1/models", &[], b"").status, 401);
    assert_eq!(raw(&server, "HEAD /v1/none", &key, b"").status, 404);
    assert_eq!(raw(&server, "HEAD /v1/embeddings", &key, b"").status, 405);
}

#[test]
fn a_preflight_needs_no_key_and_is_told_that_its_headers_are_welcome() {
    let server = Setup::default().args(&["--api-key", "secret"]).start();
    let wanted = "authorization,content-type,x-stainless-lang,x-stainless-retry-count";
    let preflight = |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", wanted),
        ];
        raw(&server, &format!("OPTIONS {CHAT}"), &headers, b"")
    };
    for origin in [
        "http://localhost:3000",
        "https://localhost",
        "http://127.0.0.1:5173",
        "app://obsidian.md",
        "tauri://localhost",
        "http://tauri.localhost",
        "https://tauri.localhost",
        "capacitor://localhost",
        "vscode-webview://0b1c2d",
    ] {
        let answer = preflight(origin);
        assert_eq!(answer.status, 200, "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), origin);
        assert_eq!(answer.header("access-control-allow-headers"), wanted);
        assert!(
            answer
                .header("access-control-allow-methods")
                .contains("POST")
        );
        assert!(answer.header("x-request-id").starts_with("req_"));

        let headers = [("origin", origin), ("authorization", "Bearer secret")];
        let answer = raw(&server, "GET /v1/models", &headers, b"");
        assert_eq!(answer.header("access-control-allow-origin"), origin);
        let exposed = answer
            .header("access-control-expose-headers")
            .to_lowercase();
        for name in ["x-request-id", "retry-after-ms", "openai-processing-ms"] {
            assert!(
                exposed.split(", ").any(|it| it == name),
                "{name}: {exposed}"
            );
        }
        // An answer to a browser is readable there also when it is an error.
        let refused = raw(&server, "GET /v1/models", &[("origin", origin)], b"");
        refused.error(401);
        assert_eq!(refused.header("access-control-allow-origin"), origin);
    }
    for origin in [
        "https://evil.example",
        "https://localhost.evil.example",
        "https://tauri.localhost.evil.example",
        "http://tauri.localhost:8080",
        "https://app",
        "null",
    ] {
        preflight(origin).error(400);
        let headers = [("origin", origin), ("authorization", "Bearer secret")];
        raw(&server, "GET /v1/models", &headers, b"").error(400);
    }
}

#[test]
fn a_refused_page_is_told_so_in_the_words_of_the_path() {
    let server = Setup::default().start();
    let refused = |line: &str| {
        let answer = raw(&server, line, &[("origin", "https://evil.example")], b"");
        assert_eq!(answer.status, 400, "{line}");
        answer.json()
    };
    let message = refused("POST /v1/embeddings")["error"]["message"].clone();
    assert!(message.as_str().unwrap().contains("Origin"), "{message}");
    assert_eq!(refused("POST /api/chat"), json!({ "error": message }));
    let error = json!({ "type": "invalid_request_error", "message": message });
    assert_eq!(
        refused("POST /v1/messages"),
        json!({ "type": "error", "error": error })
    );
}

#[test]
fn a_wrong_method_is_told_from_an_unknown_path() {
    let server = Setup::default().start();
    for (line, allowed) in [
        ("GET /v1/embeddings", "POST, OPTIONS"),
        ("HEAD /completions", "POST, OPTIONS"),
        ("POST /v1/models", "GET, HEAD, OPTIONS"),
        ("POST /models", "GET, HEAD, OPTIONS"),
        ("DELETE /v1/models/some/scripted", "GET, HEAD, OPTIONS"),
        ("PUT /v1/files", "POST, GET, HEAD, OPTIONS"),
        (
            "PATCH /v1/vector_stores/vs_1",
            "GET, POST, DELETE, HEAD, OPTIONS",
        ),
        ("GET /v1/embeddings/", "POST, OPTIONS"),
        ("POST /health", "GET, HEAD, OPTIONS"),
        ("PUT /", "GET, HEAD, OPTIONS"),
        ("GET /api/chat", "POST, OPTIONS"),
        ("DELETE /v1/v1/messages", "POST, OPTIONS"),
    ] {
        let answer = raw(&server, line, &[], b"");
        assert_eq!(answer.status, 405, "{line}");
        assert_eq!(answer.header("allow"), allowed, "{line}");
        if line.starts_with("PUT") {
            let error = answer.error(405);
            assert_eq!(error["type"], "invalid_request_error", "{line}");
        }
    }
    for line in [
        "GET /v1/nothing",
        "POST /v2/chat/completions",
        "GET /v1/files/a/b/c",
        "GET /v1",
    ] {
        assert_eq!(
            raw(&server, line, &[], b"").error(404)["code"],
            "unknown_url",
            "{line}"
        );
    }
    let options = raw(&server, "OPTIONS /v1/models", &[], b"");
    assert_eq!(
        (options.status, options.header("allow")),
        (200, "GET, HEAD, OPTIONS")
    );
    raw(&server, "GET /assets/none.js", &[], b"").error(404);
}

#[test]
fn lists_in_a_request_have_a_bound() {
    let server = Setup::default().start();
    let ids = |count: usize| vec!["x"; count];
    let references = vec![json!({ "type": "item_reference", "id": "msg_x" }); 257];
    let search = |field: &str, count: usize| {
        let mut tool = json!({ "type": "file_search", "vector_store_ids": [server.collection()] });
        tool[field] = json!(ids(count));
        json!({ "input": "x", "tools": [tool] })
    };
    let allowed = vec![json!({ "type": "function", "name": "f" }); 129];
    let function = json!({ "type": "function", "function": { "name": "f" } });
    let choice = json!({ "type": "allowed_tools", "mode": "auto", "tools": allowed });
    let mut called = hello();
    called["tools"] = json!([function]);
    called["tool_choice"] = choice;
    let parts = json!({ "part_ids": ids(10_001) });
    for (path, param, body) in [
        (
            COMPLETIONS,
            "stop",
            json!({ "prompt": "x", "stop": ids(257) }),
        ),
        (CHAT, "tool_choice", called),
        ("/v1/uploads/upload_x/complete", "part_ids", parts),
        ("/v1/responses", "input", json!({ "input": references })),
        (
            "/v1/responses",
            "tools[0].vector_store_ids",
            search("vector_store_ids", 257),
        ),
        (
            "/v1/responses",
            "tools[0].file_ids",
            search("file_ids", 2001),
        ),
    ] {
        assert_eq!(server.post(path, body).error(400)["param"], param, "{path}");
    }
}

#[test]
fn a_stream_is_refused_with_a_status_when_its_prompt_is_too_long() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("short.toml"), "max_context = 256\n").unwrap();
    let setup = Setup::default().args(&["--config", "short.toml"]);
    let server = setup.in_dir(dir.path()).start();
    let long = "word ".repeat(2000);
    let messages = json!([{ "role": "user", "content": long }]);
    let streamed = |body: Value| {
        let mut body = body;
        body["stream"] = json!(true);
        body["model"] = json!("scripted");
        body
    };
    for (path, body) in [
        (CHAT, json!({ "messages": messages })),
        (CHAT, json!({ "messages": messages, "n": 3 })),
        (COMPLETIONS, json!({ "prompt": long })),
        (COMPLETIONS, json!({ "prompt": ["x", long] })),
        ("/v1/responses", json!({ "input": long })),
        (
            "/v1/responses",
            json!({ "input": long, "truncation": "auto" }),
        ),
        (
            "/v1/messages",
            json!({ "messages": messages, "max_tokens": 5 }),
        ),
        ("/api/chat", json!({ "messages": messages })),
        ("/api/generate", json!({ "prompt": long })),
        ("/api/generate", json!({ "prompt": long, "raw": true })),
    ] {
        let answer = server.post(path, streamed(body));
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 400, "{path}: {said}");
        assert!(said.contains("256"), "{path}: {said}");
    }
}

#[test]
fn every_answer_says_who_answered_and_how_long_it_took() {
    let server = Setup::default().args(&["--api-key", "secret"]).start();
    let key = ("authorization", "Bearer secret");
    let mut streamed = hello();
    streamed["stream"] = json!(true);
    let streamed = streamed.to_string();
    let cases: [(&str, Headers, &str, u16); 6] = [
        ("GET /v1/models", &[key], "", 200),
        ("GET /v1/none", &[key], "", 404),
        ("GET /v1/embeddings", &[key], "", 405),
        ("GET /v1/models", &[], "", 401),
        ("POST /v1/chat/completions", &[key], "{", 400),
        ("POST /v1/chat/completions", &[key], &streamed, 200),
    ];
    let mut ids = Vec::new();
    for (line, headers, body, status) in cases {
        let answer = raw(&server, line, headers, body.as_bytes());
        assert_eq!(answer.status, status, "{line}");
        let id = answer.header("x-request-id");
        let digits = id.strip_prefix("req_").unwrap();
        assert!(
            digits.len() >= 16 && digits.bytes().all(|it| it.is_ascii_hexdigit()),
            "{id}"
        );
        ids.push(id.to_owned());
        answer
            .header("openai-processing-ms")
            .parse::<u64>()
            .unwrap();
        assert_eq!(answer.header("openai-version"), "2020-10-01");
        if status >= 400 {
            answer.error(status);
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6, "every request has an id of its own");
}

#[test]
fn a_stream_is_never_compressed_nor_kept_back() {
    let server = Setup::default().start();
    let body = json!({ "prompt": "x", "stream": true, "max_tokens": -1 }).to_string();
    let headers = [
        ("accept-encoding", "gzip, deflate, br"),
        ("accept", "application/json"),
    ];
    let answer = raw(
        &server,
        &format!("POST {COMPLETIONS}"),
        &headers,
        body.as_bytes(),
    );
    assert!(
        answer
            .header("content-type")
            .starts_with("text/event-stream")
    );
    assert!(["", "identity"].contains(&answer.header("content-encoding")));
    assert_eq!(answer.header("x-accel-buffering"), "no");
    assert_eq!(answer.header("cache-control"), "no-cache");
    let text = String::from_utf8(answer.body).unwrap();
    assert!(
        text.contains("data: {") && text.contains("data: [DONE]\n\n"),
        "{text}"
    );
    assert!(!text.contains("id: req"), "{text}");
}

/// The endless model with a stop string that its text goes on to fit, so that nothing can be shown: a long silence.
fn silent(start: &str, path: &str, seconds: &str) -> (TestServer, BufReader<TcpStream>) {
    let server = Setup::endless().args(&["--config", "alive.toml"]);
    let dir = tempfile::tempdir().unwrap();
    // As many tokens as the model has room for: they must last for longer than the silence is listened to.
    let settings = format!("sse_keep_alive = {seconds}\nmax_context = 65536\n");
    std::fs::write(dir.path().join("alive.toml"), settings).unwrap();
    let server = server.in_dir(dir.path()).start();
    let stop = format!("{start}{}", "tick tock ".repeat(20_000));
    let mut body = hello();
    body["prompt"] = json!("x");
    body["stream"] = json!(true);
    body["max_tokens"] = json!(-1);
    body["stop"] = json!([stop]);
    let socket = server.open("POST", path, &body.to_string());
    let mut reader = BufReader::new(socket);
    let (status, _) = read_head(&mut reader);
    assert_eq!(status, 200);
    (server, reader)
}

/// The next line of a chunked body that is not the size of a chunk or blank.
fn next_line(reader: &mut impl BufRead) -> Option<String> {
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        let is_size = u64::from_str_radix(line.trim_end(), 16).is_ok();
        if !line.trim_end().is_empty() && !is_size {
            return Some(line);
        }
    }
}

#[test]
fn a_stream_says_that_it_lives_until_its_answer_begins() {
    let (_server, mut reader) = silent("", COMPLETIONS, "1");
    for _ in 0..2 {
        assert_eq!(next_line(&mut reader).unwrap(), ": keep-alive\n");
    }
    // The opening chunk of a chat says nothing of the answer.
    let (_server, mut reader) = silent("", CHAT, "1");
    let opening = next_line(&mut reader).unwrap();
    assert!(opening.contains("\"role\":\"assistant\""), "{opening}");
    // The blank line that ends the chunk was read before.
    assert_eq!(next_line(&mut reader).unwrap(), ": keep-alive\n");
}

#[test]
fn a_stream_is_silent_once_its_answer_has_begun_or_when_it_is_told_to() {
    // "tick " is shown; the rest is held back.
    let (_server, mut reader) = silent("tock ", COMPLETIONS, "1");
    let first = next_line(&mut reader).unwrap();
    assert!(first.contains("\"text\":\"tick \""), "{first}");
    let wait = Some(Duration::from_millis(1500));
    reader.get_ref().set_read_timeout(wait).unwrap();
    assert_eq!(next_line(&mut reader), None);

    let (_server, mut reader) = silent("", COMPLETIONS, "0");
    reader.get_ref().set_read_timeout(wait).unwrap();
    assert_eq!(next_line(&mut reader), None);
}

#[test]
fn completions_give_log_probabilities_in_their_own_shape() {
    let server = Setup::default().start();
    let body = json!({ "prompt": "x", "max_tokens": -1, "logprobs": 2 });
    let answer = server.post(COMPLETIONS, body.clone()).ok();
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], SCRIPT);
    check_logprobs(&choice["logprobs"], SCRIPT, 3);

    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let chunks = server.post(COMPLETIONS, streamed).events();
    let mut joined =
        json!({ "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": [] });
    for chunk in &chunks {
        let Some(lists) = chunk["choices"][0]["logprobs"].as_object() else {
            continue;
        };
        for (name, list) in lists {
            let joined = joined[name].as_array_mut().unwrap();
            joined.extend(list.as_array().unwrap().iter().cloned());
        }
    }
    check_logprobs(&joined, SCRIPT, 3);

    // 0 asks for the chosen tokens alone; what belongs to a stop string has none.
    let mut stopped = body;
    stopped["logprobs"] = json!(0);
    stopped["stop"] = json!("Maren Ho");
    let answer = server.post(COMPLETIONS, stopped).ok();
    let choice = &answer["choices"][0];
    let text = "The keeper of the lighthouse is ";
    assert_eq!(
        (choice["text"].as_str().unwrap(), &choice["finish_reason"]),
        (text, &json!("stop"))
    );
    check_logprobs(&choice["logprobs"], text, 1);

    for (body, param) in [
        (json!({ "prompt": "x", "logprobs": 6 }), "logprobs"),
        (json!({ "prompt": "x", "logprobs": -1 }), "logprobs"),
        (json!({ "prompt": "x", "logprobs": true }), "logprobs"),
        (
            json!({ "prompt": "x", "logprobs": 1, "echo": true }),
            "echo",
        ),
    ] {
        assert_eq!(
            server.post(COMPLETIONS, body.clone()).error(400)["param"],
            param,
            "{body}"
        );
    }
}

fn check_logprobs(lists: &Value, text: &str, num_most: usize) {
    let list = |name: &str| lists[name].as_array().unwrap();
    let tokens: Vec<&str> = list("tokens")
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert_eq!(tokens.concat(), text);
    let mut offset = 0;
    for (index, token) in tokens.iter().enumerate() {
        assert_eq!(list("text_offset")[index], offset);
        offset += token.chars().count();
        let logprob = list("token_logprobs")[index].as_f64().unwrap();
        assert!(logprob <= 0.0, "{logprob}");
        let top = list("top_logprobs")[index].as_object().unwrap();
        assert!((1..=num_most).contains(&top.len()), "{top:?}");
        assert_eq!(top[*token], logprob);
        // The script leaves no doubt.
        assert!(
            top.values().all(|it| it.as_f64().unwrap() <= logprob),
            "{top:?}"
        );
    }
    for name in ["token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(list(name).len(), tokens.len());
    }
}

#[test]
fn several_prompts_have_several_choices_in_order() {
    let server = Setup::default().start();
    let body =
        json!({ "prompt": ["a", "bc"], "n": 2, "best_of": 2, "max_tokens": 3, "echo": true });
    let answer = server.post(COMPLETIONS, body.clone()).ok();
    let choices = answer["choices"].as_array().unwrap();
    let expected = ["a", "a", "bc", "bc"].map(|prompt| format!("{prompt}The keeper of "));
    assert_eq!(choices.len(), 4);
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        assert_eq!(choice["text"], expected[index].as_str());
        assert_eq!(choice["finish_reason"], "length");
    }
    // Each letter is a token; a prompt counts once.
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
    assert_eq!(answer["usage"]["completion_tokens"], 12);
    assert_eq!(answer["usage"]["total_tokens"], 15);

    let mut streamed = body;
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({ "include_usage": true });
    let chunks = server.post(COMPLETIONS, streamed).events();
    let mut texts = vec![String::new(); 4];
    let (last, chunks) = chunks.split_last().unwrap();
    for chunk in chunks {
        assert_eq!(chunk["object"], "text_completion");
        assert_eq!(chunk["usage"], Value::Null);
        let choice = &chunk["choices"][0];
        texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    assert_eq!(texts, expected);
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 15);

    for (body, param) in [
        (json!({ "prompt": "x", "n": 2, "best_of": 3 }), "best_of"),
        (json!({ "prompt": "x", "best_of": 3 }), "best_of"),
        (json!({ "prompt": "x", "n": 0 }), "n"),
        (json!({ "prompt": "x", "n": 1000 }), "n"),
        (json!({ "prompt": {} }), "prompt"),
        (json!({ "prompt": [] }), "prompt"),
        (json!({ "prompt": [99_999_999] }), "prompt"),
        (
            json!({ "prompt": "x", "model": "inglenook-quote" }),
            "model",
        ),
    ] {
        assert_eq!(
            server.post(COMPLETIONS, body.clone()).error(400)["param"],
            param,
            "{body}"
        );
    }
}

#[test]
fn streamed_choices_are_written_at_the_same_time() {
    let server = Setup::endless().start();
    let body = json!({ "prompt": "x", "n": 2, "max_tokens": 40, "stream": true });
    let chunks = server.post(COMPLETIONS, body).events();
    for chunk in &chunks {
        let keys = ["id", "object", "created", "model", "choices"];
        assert!(keys.iter().all(|key| chunk.get(key).is_some()), "{chunk}");
        // Nobody asked for it, and some clients stumble over a part of it.
        assert_eq!(chunk.get("usage"), None, "{chunk}");
    }
    let indexes = chunks
        .iter()
        .map(|it| it["choices"][0]["index"].as_u64().unwrap());
    let indexes: Vec<u64> = indexes.collect();
    let first_of_second = indexes.iter().position(|it| *it == 1).unwrap();
    let last_of_first = indexes.iter().rposition(|it| *it == 0).unwrap();
    assert!(
        first_of_second < 10 && last_of_first > indexes.len() / 2,
        "{indexes:?}"
    );
}

#[test]
fn prompts_may_be_token_ids_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base.gguf");
    let script = Script::once("<|endoftext|>Once upon a time.").with_controls(&["<|endoftext|>"]);
    write_scripted_gguf(&path, &script).unwrap();
    let server = Setup {
        chat_model: Some(path),
        ..Setup::default()
    };
    let server = server.start();
    // In this vocabulary a byte is its own id.
    let ids: Vec<u32> = "hi".bytes().map(u32::from).collect();
    for prompt in [json!(ids), json!([ids]), json!("hi"), json!(["hi"])] {
        let body = json!({ "prompt": prompt, "echo": true, "max_tokens": 1 });
        let answer = server.post(COMPLETIONS, body).ok();
        assert_eq!(answer["usage"]["prompt_tokens"], 2, "{prompt}");
        assert!(
            answer["choices"][0]["text"]
                .as_str()
                .unwrap()
                .starts_with("hi")
        );
    }
    // Nothing is the beginning of a text, and the model goes on from there.
    for body in [
        json!({ "prompt": null }),
        json!({}),
        json!({ "prompt": "" }),
    ] {
        let answer = server.post(COMPLETIONS, body.clone()).ok();
        assert_eq!(answer["choices"][0]["text"], "Once upon a time.", "{body}");
        assert_eq!(answer["usage"]["prompt_tokens"], 1, "{body}");
    }
    // A model without such a token says so.
    let server = Setup::default().start();
    assert_eq!(
        server.post(COMPLETIONS, json!({})).error(400)["param"],
        "prompt"
    );
}

#[test]
fn a_long_list_of_stops_is_honoured_and_no_limit_is_none() {
    let server = Setup::default().start();
    let mut stops: Vec<String> = (0..12).map(|it| format!("<stop {it}>")).collect();
    stops.push("lighthouse".into());
    let body = json!({ "prompt": "x", "max_tokens": -1, "stop": stops });
    let answer = server.post(COMPLETIONS, body).ok();
    assert_eq!(answer["choices"][0]["text"], "The keeper of the ");
    let whole = server
        .post(COMPLETIONS, json!({ "prompt": "x", "max_tokens": -1 }))
        .ok();
    assert_eq!(whole["choices"][0]["text"], SCRIPT);
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    // SCRIPT has fewer words than are generated unasked: a limit of one shows that they are counted.
    let one = server
        .post(COMPLETIONS, json!({ "prompt": "x", "max_tokens": 1 }))
        .ok();
    assert_eq!(one["choices"][0]["text"], "The ");
}

#[test]
fn whoever_reads_a_long_prompt_does_not_keep_the_server_from_serving() {
    let server = Setup::default().start();
    // Both threads that serve get as many of these.
    let text = "word ".repeat(1 << 20);
    let tokens = vec![7; 1 << 20];
    let bodies = [
        (COMPLETIONS, json!({ "prompt": text })),
        ("/v1/detokenize", json!({ "tokens": tokens })),
    ];
    let sockets: Vec<TcpStream> = bodies
        .iter()
        .chain(&bodies)
        .map(|(path, body)| server.open("POST", path, &body.to_string()))
        .collect();
    for socket in &sockets {
        socket.set_nonblocking(true).unwrap();
    }
    let is_answered = |socket: &TcpStream| socket.peek(&mut [0]).is_ok();
    let mut num_served = 0;
    while !sockets[0..3].iter().step_by(2).any(is_answered) {
        server.get("/version").ok();
        num_served += 1;
    }
    assert!(num_served >= 20, "{num_served} answers beside long prompts");
}

#[test]
fn the_middle_of_a_text_is_asked_for_with_the_marks_of_the_vocabulary() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("coder.gguf");
    let marks = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];
    let script = Script::once(&format!("{}return a", marks.concat())).with_controls(&marks);
    write_scripted_gguf(&path, &script).unwrap();
    let server = Setup {
        chat_model: Some(path),
        ..Setup::default()
    };
    let server = server.start();
    let ask = |prompt: &str, suffix: &str| {
        let body = json!({ "prompt": prompt, "suffix": suffix, "max_tokens": -1 });
        let answer = server.post(COMPLETIONS, body).ok();
        assert_eq!(answer["choices"][0]["text"], "return a", "{prompt}");
        let usage = &answer["usage"];
        (
            usage["prompt_tokens"].as_u64().unwrap(),
            usage["completion_tokens"].as_u64().unwrap(),
        )
    };
    // The answer follows the last mark, not the whole script: its two words and the end.
    let (num_prompt_tokens, num_completion_tokens) = ask("def f():\n  ", " + b\n");
    assert_eq!(num_prompt_tokens, 3 + 11 + 5);
    let (_, num_after_text) = ask("def f():\n  ", "");
    assert_eq!(num_after_text, num_completion_tokens + 3);
    // What a file says is no mark.
    let (num_prompt_tokens, _) = ask("<|fim_middle|>", "<|fim_suffix|>");
    assert_eq!(num_prompt_tokens, 3 + 14 + 14);

    let body = json!({ "prompt": [104], "suffix": "x" });
    assert_eq!(server.post(COMPLETIONS, body).error(400)["param"], "suffix");
    let plain = Setup::default().start();
    let body = json!({ "prompt": "def f():", "suffix": "x" });
    let error = plain.post(COMPLETIONS, body).error(400);
    assert_eq!(
        (&error["param"], &error["code"]),
        (&json!("suffix"), &json!("unsupported_value"))
    );
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("fill in the middle")
    );
}

fn vector(answer: &Value) -> Vec<f64> {
    let numbers = answer["data"][0]["embedding"].as_array().unwrap().iter();
    numbers.map(|it| it.as_f64().unwrap()).collect()
}

#[test]
fn vectors_of_a_matryoshka_model_can_be_asked_for_shorter() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_bert(dir.path()).unwrap();
    let settings = json!({ "matryoshka_dimensions": [8, 16] });
    let file = dir.path().join("config_sentence_transformers.json");
    std::fs::write(&file, settings.to_string()).unwrap();
    let server = Setup {
        embedding_model: Some(dir.path().to_path_buf()),
        ..Setup::default()
    };
    let server = server.start();
    let ask = |dimensions: Value| {
        server.post(
            EMBEDDINGS,
            json!({ "input": "a red boat", "dimensions": dimensions }),
        )
    };
    let full = vector(&ask(Value::Null).ok());
    assert_eq!(full.len(), 32);
    assert_eq!(vector(&ask(json!(32)).ok()), full);
    for dimensions in [8, 16] {
        let short = vector(&ask(json!(dimensions)).ok());
        let length = full[..dimensions]
            .iter()
            .map(|it| it * it)
            .sum::<f64>()
            .sqrt();
        assert_eq!(short.len(), dimensions);
        for (short, full) in short.iter().zip(&full) {
            assert!((short - full / length).abs() < 1e-6);
        }
    }
    let body = json!({ "input": "a red boat", "dimensions": 8, "encoding_format": "base64" });
    let answer = server.post(EMBEDDINGS, body).ok();
    let bytes = STANDARD
        .decode(answer["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    assert_eq!(bytes.len(), 8 * 4);
    let error = ask(json!(12)).error(400);
    assert_eq!(error["param"], "dimensions");
    assert!(
        error["message"].as_str().unwrap().contains("16, 8"),
        "{error}"
    );
    ask(json!(0)).error(400);

    let plain = Setup::default().start();
    let error = plain
        .post(EMBEDDINGS, json!({ "input": "x", "dimensions": 16 }))
        .error(400);
    assert_eq!(error["code"], "unsupported_value");

    std::fs::write(file, json!({ "matryoshka_dimensions": [64] }).to_string()).unwrap();
    let refused = inglenook::embedding::Embedder::load(dir.path(), Default::default());
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("matryoshka_dimensions has 64")
    );
}

#[test]
fn a_text_that_is_too_long_to_embed_is_cut_only_when_that_is_asked() {
    let server = Setup::default().start();
    // 510 words and two special tokens fill the model's 512 positions.
    let long = format!("red house {}", "water fish ".repeat(999));
    let fits = format!("red house {}", "water fish ".repeat(254));
    let error = server
        .post(EMBEDDINGS, json!({ "input": ["x", long] }))
        .error(400);
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("context_length_exceeded"), &json!("input"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("2002") && message.contains("512"),
        "{message}"
    );

    let body = json!({ "input": [long, "x"], "truncate": true });
    let cut = server.post(EMBEDDINGS, body).ok();
    let whole = server.post(EMBEDDINGS, json!({ "input": fits })).ok();
    assert_eq!(vector(&cut), vector(&whole));
    assert_eq!(cut["data"][0]["truncated"], true);
    assert_eq!(cut["data"][1].get("truncated"), None);
    assert_eq!(whole["usage"]["prompt_tokens"], 512);
    assert_eq!(cut["usage"]["prompt_tokens"], 512 + 3);
}

#[test]
fn a_mistake_is_told_before_a_model_is_looked_for() {
    let server = Setup {
        embedding_model: Some("none".into()),
        ..Setup::default()
    };
    let server = server.start();
    for (body, param) in [
        (json!({ "input": [] }), "input"),
        (json!({ "input": [1, 2] }), "input"),
        (json!({ "input": [[1, 2]] }), "input"),
        (json!({ "input": ["a", ""] }), "input"),
        (
            json!({ "input": "a", "encoding_format": "hex" }),
            "encoding_format",
        ),
        (json!({ "input": "a", "input_type": "poem" }), "input_type"),
        (json!({ "input": "a", "dimensions": 0 }), "dimensions"),
    ] {
        let error = server.post(EMBEDDINGS, body.clone()).error(400);
        assert_eq!(error["param"], param, "{body}");
    }
    let ids: Vec<u32> = (0..5000).collect();
    let error = server.post(EMBEDDINGS, json!({ "input": ids })).error(400);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("check_embedding_ctx_length=False"),
        "{message}"
    );
    server.post(EMBEDDINGS, json!({ "input": "a" })).error(503);
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        for (body, param) in [
            (json!({ "query": "q", "documents": "a" }), "documents"),
            (json!({ "query": "q", "documents": [] }), "documents"),
            (json!({ "query": "q", "texts": [1] }), "texts"),
            (json!({ "query": "", "documents": ["a"] }), "query"),
            (
                json!({ "query": "q", "documents": ["a"], "top_n": 0 }),
                "top_n",
            ),
        ] {
            assert_eq!(
                server.post(path, body.clone()).error(400)["param"],
                param,
                "{body}"
            );
        }
        server
            .post(path, json!({ "query": "q", "documents": ["a"] }))
            .error(503);
    }
}

/// The samples of a page in Prometheus' text format.
fn metrics(text: &str) -> HashMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    samples.map(sample).collect()
}

#[test]
fn metrics_count_what_was_asked_and_generated() {
    let server = Setup::default().args(&["--api-key", "secret"]).start();
    let key = ("authorization", "Bearer secret");
    let body =
        json!({ "prompt": "a long enough prompt", "max_tokens": 5, "user": "ann" }).to_string();
    for _ in 0..2 {
        let answer = raw(
            &server,
            &format!("POST {COMPLETIONS}"),
            &[key],
            body.as_bytes(),
        );
        assert_eq!(answer.json()["usage"]["completion_tokens"], 5);
    }
    let one = json!({ "prompt": "x", "max_tokens": 1 }).to_string();
    raw(
        &server,
        &format!("POST {COMPLETIONS}"),
        &[key],
        one.as_bytes(),
    );
    raw(&server, "GET /v1/unknown", &[key], b"").error(404);
    raw(&server, "GET /metrics", &[], b"").error(401);
    let page = raw(&server, "GET /metrics", &[key], b"");
    assert!(
        page.header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let text = String::from_utf8(page.body).unwrap();
    let samples = metrics(&text);
    let get = |name: &str| {
        *samples
            .get(name)
            .unwrap_or_else(|| panic!("{name}: {text}"))
    };
    let requests = |method: &str, route: &str, status: u16| {
        get(&format!(
            "inglenook_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}}"
        ))
    };
    assert_eq!(requests("POST", "/v1/completions", 200), 3.0);
    assert_eq!(requests("GET", "other", 404), 1.0);
    let of_model = |name: &str| get(&format!("inglenook_{name}{{model=\"scripted\"}}"));
    assert_eq!(of_model("generated_tokens_total"), 11.0);
    // Each letter is a token, and the second prompt finds the first block of the first.
    let num_prompt_tokens = of_model("prompt_tokens_total") + of_model("cached_tokens_total");
    assert_eq!(num_prompt_tokens, 41.0);
    assert_eq!(of_model("cached_tokens_total"), 16.0);
    assert_eq!(of_model("running_sequences"), 0.0);
    assert_eq!(of_model("waiting_sequences"), 0.0);
    assert!(of_model("cache_blocks_used") <= of_model("cache_blocks"));
    assert_eq!(of_model("time_to_first_token_seconds_count"), 3.0);
    assert_eq!(of_model("inter_token_seconds_count"), 8.0);
    assert!(of_model("time_to_first_token_seconds_sum") > 0.0);
    let infinite = "inglenook_inter_token_seconds_bucket{model=\"scripted\",le=\"+Inf\"}";
    assert_eq!(get(infinite), 8.0);
    for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(
            samples.keys().any(|it| it.starts_with(name)),
            "{name} has no sample"
        );
    }

    let version = raw(&server, "GET /version", &[key], b"").json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}
