//! Ollama's API through real sockets: its lines, its objects and its errors.

mod common;
#[path = "hub/server.rs"]
#[allow(dead_code)]
mod hub_server;

use common::{Reply, SCRIPT, Setup, TestServer, model_path, models, serve_framed};
use inglenook::embedding::testing::write_tiny_bert;
use inglenook::llm::testing::{FRAMING_TEMPLATE, Script, write_babbling_gguf};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn weather() -> Value {
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    json!([{ "type": "function", "function": { "name": "weather", "parameters": parameters } }])
}

fn question(model: &str, more: Value) -> Value {
    let mut body = json!({
        "model": model,
        "messages": [{ "role": "user", "content": "How is the weather in Oslo?" }],
    });
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}

/// The lines of a stream.
fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!(
        reply.status,
        200,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let text = std::str::from_utf8(&reply.body).unwrap();
    assert!(text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The error of this status, in Ollama's shape.
fn error(reply: &Reply, status: u16) -> String {
    let body = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!(reply.status, status, "{body}");
    let body = reply.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    body["error"].as_str().unwrap().to_owned()
}

/// Asks whole and streamed; both must say the same. Returns the whole answer and the number of lines.
fn ask(server: &TestServer, path: &str, mut body: Value) -> (Value, usize) {
    body["stream"] = json!(false);
    let whole = server.post(path, body.clone()).ok();
    body.as_object_mut().unwrap().shift_remove("stream");
    let lines = lines(&server.post(path, body));
    let (last, parts) = lines.split_last().unwrap();
    let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    let add = |text: &mut String, more: &Value| text.push_str(more.as_str().unwrap_or_default());
    for part in parts {
        assert_eq!(part["done"], false);
        assert!(part.get("done_reason").is_none() && part.get("eval_count").is_none());
        let message = if path == "/api/chat" {
            &part["message"]
        } else {
            part
        };
        add(&mut text, &message["content"]);
        add(&mut text, &message["response"]);
        add(&mut thinking, &message["thinking"]);
        calls.extend(
            message["tool_calls"]
                .as_array()
                .into_iter()
                .flatten()
                .cloned(),
        );
    }
    for (answer, is_whole) in [(&whole, true), (last, false)] {
        assert_eq!(answer["done"], true);
        assert_eq!(answer["done_reason"], whole["done_reason"]);
        assert_eq!(answer["eval_count"], whole["eval_count"]);
        let duration = |name: &str| answer[name].as_u64().unwrap();
        let parts = duration("load_duration")
            + duration("prompt_eval_duration")
            + duration("eval_duration");
        assert!(duration("prompt_eval_duration") > 0, "{answer}");
        assert!(parts <= duration("total_duration"), "{answer}");
        assert!(duration("prompt_eval_count") > 0);
        let said = if path == "/api/chat" {
            &answer["message"]["content"]
        } else {
            &answer["response"]
        };
        assert_eq!(said, if is_whole { text.as_str() } else { "" });
    }
    let message = if path == "/api/chat" {
        &whole["message"]
    } else {
        &whole
    };
    assert_eq!(message["thinking"].as_str().unwrap_or_default(), thinking);
    let functions = |calls: Option<&Vec<Value>>| -> Vec<Value> {
        let calls = calls.into_iter().flatten();
        calls.map(|call| call["function"].clone()).collect()
    };
    assert_eq!(
        functions(message["tool_calls"].as_array()),
        functions(Some(&calls))
    );
    (whole, lines.len())
}

#[test]
fn the_root_is_a_page_for_browsers_and_a_greeting_for_clients() {
    let server = Setup::default().start();
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
    let get = |accept: &str| {
        let request = agent
            .get(format!("{}/", server.base))
            .header("accept", accept);
        let mut response = request.call().unwrap();
        let media_type = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        (media_type, response.body_mut().read_to_string().unwrap())
    };
    let (media_type, page) = get("text/html,application/xhtml+xml,*/*;q=0.8");
    assert!(media_type.starts_with("text/html"), "{media_type}");
    assert!(page.contains("<title>"), "{page}");
    let (media_type, greeting) = get("*/*");
    assert!(media_type.starts_with("text/plain"), "{media_type}");
    assert!(greeting.starts_with("Inglenook "), "{greeting}");
    assert!(greeting.contains("Ollama is running"), "{greeting}");
    let head = agent.head(format!("{}/", server.base)).call().unwrap();
    assert_eq!(head.status(), 200);
    for path in ["/api/version", "/api/tags"] {
        assert_eq!(
            agent
                .head(server.base.clone() + path)
                .call()
                .unwrap()
                .status(),
            200
        );
    }
    let version = server.get("/api/version").ok();
    assert_eq!(version["version"].as_str().unwrap().split('.').count(), 3);
}

#[test]
fn models_are_listed_described_and_seen_in_memory() {
    let server = Setup::default().start();
    let tags = server.get("/api/tags").ok();
    let tags = tags["models"].as_array().unwrap();
    let find = |name: &str| tags.iter().find(|tag| tag["name"] == name).unwrap();
    let scripted = find("scripted");
    assert_eq!(scripted["model"], "scripted");
    assert_eq!(scripted["details"]["family"], "llama");
    assert_eq!(scripted["details"]["format"], "gguf");
    let size = std::fs::metadata(&models().scripted).unwrap().len();
    assert_eq!(scripted["size"], size);
    assert_eq!(scripted["digest"].as_str().unwrap().len(), 64);
    assert!(scripted["modified_at"].as_str().unwrap().starts_with("20"));
    assert_eq!(find("tiny-bert")["details"]["family"], "bert");
    assert!(tags.iter().all(|tag| tag["name"] != "inglenook-quote"));

    let shown = server
        .post("/api/show", json!({ "model": "scripted:latest" }))
        .ok();
    assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    assert!(shown["template"].as_str().unwrap().contains("<|im_start|>"));
    assert_eq!(shown["model_info"]["general.architecture"], "llama");
    assert!(
        shown["model_info"]["llama.context_length"]
            .as_u64()
            .unwrap()
            > 1000
    );
    let shown = server
        .post("/api/show", json!({ "name": "tiny-bert" }))
        .ok();
    assert_eq!(shown["capabilities"], json!(["embedding"]));

    let running = server.get("/api/ps").ok();
    let names: Vec<&Value> = running["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["scripted", "tiny-bert"]);
    assert!(running["models"][0]["size"].as_u64().unwrap() > 0);
}

#[test]
fn a_chat_is_streamed_unless_asked_otherwise() {
    let server = Setup::default().start();
    let (whole, num_lines) = ask(&server, "/api/chat", question("scripted:latest", json!({})));
    assert_eq!(whole["model"], "scripted:latest");
    assert_eq!(
        whole["message"],
        json!({ "role": "assistant", "content": SCRIPT })
    );
    assert_eq!(whole["done_reason"], "stop");
    assert!(num_lines > 5);
    let few = question(
        "scripted",
        json!({ "options": { "num_predict": 3, "temperature": 0, "num_ctx": 2048 } }),
    );
    let (whole, _) = ask(&server, "/api/chat", few);
    assert_eq!(whole["done_reason"], "length");
    assert_eq!(
        (&whole["eval_count"], &whole["message"]["content"]),
        (&json!(3), &json!("The keeper of "))
    );
    let stop = question(
        "scripted",
        json!({ "options": { "stop": ["Maren"], "num_predict": -1 } }),
    );
    let (whole, _) = ask(&server, "/api/chat", stop);
    assert_eq!(
        whole["message"]["content"],
        "The keeper of the lighthouse is "
    );
    assert_eq!(whole["done_reason"], "stop");
}

#[test]
fn calls_have_objects_and_their_results_need_no_ids() {
    let said = "I will look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>";
    let server = serve_framed("ollama-calling", Script::once(said).cut_every(3));
    let body = question("ollama-calling", json!({ "tools": weather() }));
    let (whole, _) = ask(&server, "/api/chat", body.clone());
    let message = &whole["message"];
    assert_eq!(message["content"], "I will look.");
    assert_eq!(
        message["tool_calls"][0]["function"],
        json!({ "name": "weather", "arguments": { "city": "Oslo" } })
    );
    let mut body = body;
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(message.clone());
    messages.push(json!({ "role": "tool", "content": "sunny", "tool_name": "weather" }));
    let (more, _) = ask(&server, "/api/chat", body.clone());
    assert!(more["prompt_eval_count"].as_u64() > whole["prompt_eval_count"].as_u64());
    // A call that was cut off has no arguments to give.
    body["options"] = json!({ "num_predict": 22 });
    let (cut, _) = ask(&server, "/api/chat", body);
    assert_eq!(cut["done_reason"], "length");
    assert!(cut["message"].get("tool_calls").is_none(), "{cut}");
}

#[test]
fn thoughts_are_apart_and_only_from_models_that_have_them() {
    let script = Script::once("<think>\nIt is so.\n</think>\n\nYes, indeed.").cut_every(4);
    let server = serve_framed("ollama-thinking", script);
    for (path, more) in [
        ("/api/chat", json!({ "think": true })),
        ("/api/generate", json!({ "think": "low", "prompt": "So?" })),
    ] {
        let (whole, _) = ask(&server, path, question("ollama-thinking", more));
        let message = if path == "/api/chat" {
            &whole["message"]
        } else {
            &whole
        };
        assert_eq!(message["thinking"], "It is so.");
        let said = message.get("content").or(message.get("response")).unwrap();
        assert_eq!(said, "Yes, indeed.");
    }
    let (hidden, _) = ask(
        &server,
        "/api/chat",
        question("ollama-thinking", json!({ "think": false })),
    );
    assert_eq!(
        hidden["message"],
        json!({ "role": "assistant", "content": "Yes, indeed." })
    );
    let shown = server
        .post("/api/show", json!({ "model": "ollama-thinking" }))
        .ok();
    assert_eq!(
        shown["capabilities"],
        json!(["completion", "tools", "thinking"])
    );

    let plain = Setup::default().start();
    let asked = plain.post("/api/chat", question("scripted", json!({ "think": true })));
    assert_eq!(error(&asked, 400), "\"scripted\" does not support thinking");
}

#[test]
fn answers_are_held_to_a_format() {
    let path = model_path("ollama-babbling");
    write_babbling_gguf(&path, FRAMING_TEMPLATE).unwrap();
    let setup = Setup {
        chat_model: Some(path),
        embedding_model: None,
        ..Setup::default()
    };
    let server = setup.start();
    let schema = json!({
        "type": "object",
        "properties": { "born": { "type": "integer", "minimum": 0, "maximum": 99 } },
        "required": ["born"],
        "additionalProperties": false,
    });
    let options = json!({ "seed": 7, "num_predict": 200 });
    for (path, key) in [("/api/chat", "message"), ("/api/generate", "response")] {
        for raw in [false, true] {
            let more =
                json!({ "format": schema, "options": options, "prompt": "A year:", "raw": raw });
            let (whole, _) = ask(&server, path, question("ollama-babbling", more));
            let text = whole[key]["content"]
                .as_str()
                .or(whole[key].as_str())
                .unwrap();
            let read: Value = serde_json::from_str(text).unwrap();
            assert!(read["born"].as_u64().unwrap() < 100, "{text}");
        }
    }
    let wrong = server.post(
        "/api/chat",
        question("ollama-babbling", json!({ "format": "yaml" })),
    );
    assert!(error(&wrong, 400).contains("format"));
}

#[test]
fn a_prompt_goes_through_the_template_or_stays_as_it_is() {
    let server = Setup::default().start();
    let prompt = |more: Value| {
        let mut body = json!({ "model": "scripted", "prompt": "Who keeps the lighthouse?" });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let count = |more: Value| {
        let (whole, _) = ask(&server, "/api/generate", prompt(more));
        assert_eq!(whole["response"], SCRIPT);
        whole["prompt_eval_count"].as_u64().unwrap()
    };
    let templated = count(json!({}));
    // The vocabulary has every byte of the prompt as a token.
    assert_eq!(
        count(json!({ "raw": true })),
        "Who keeps the lighthouse?".len() as u64
    );
    assert!(templated > count(json!({ "raw": true })));
    assert!(count(json!({ "system": "Be brief." })) > templated + 9);
    for refused in [
        json!({ "suffix": "}" }),
        json!({ "template": "{{ .Prompt }}" }),
        json!({ "context": [1, 2] }),
        json!({ "images": ["aGk="] }),
    ] {
        let name = refused.as_object().unwrap().keys().next().unwrap().clone();
        let message = error(&server.post("/api/generate", prompt(refused)), 400);
        let says = if name == "suffix" {
            "does not support insert"
        } else {
            &name
        };
        assert!(message.contains(says), "{message}");
    }
    count(json!({ "suffix": "", "context": [], "images": [], "keep_alive": "5m" }));
}

#[test]
fn without_a_prompt_a_model_is_loaded_or_unloaded() {
    let server = Setup::default().start();
    let loaded = || {
        let running = server.get("/api/ps").ok();
        let models = running["models"].as_array().unwrap().clone();
        models.iter().any(|it| it["name"] == "scripted")
    };
    assert!(loaded());
    let unload = server
        .post(
            "/api/generate",
            json!({ "model": "scripted", "keep_alive": 0 }),
        )
        .ok();
    assert_eq!(
        (&unload["done"], &unload["done_reason"]),
        (&json!(true), &json!("unload"))
    );
    assert!(!loaded());
    let load = server
        .post("/api/chat", json!({ "model": "scripted", "messages": [] }))
        .ok();
    assert_eq!(load["done_reason"], "load");
    assert!(loaded());
}

#[test]
fn embeddings_are_those_of_the_other_api() {
    let server = Setup::default().start();
    let texts = json!(["the lighthouse", "smoked eel"]);
    let other = server
        .post(
            "/v1/embeddings",
            json!({ "model": "tiny-bert", "input": texts }),
        )
        .ok();
    let ours = server
        .post(
            "/api/embed",
            json!({ "model": "tiny-bert:latest", "input": texts }),
        )
        .ok();
    for at in 0..2 {
        assert_eq!(ours["embeddings"][at], other["data"][at]["embedding"]);
    }
    assert_eq!(ours["prompt_eval_count"], other["usage"]["prompt_tokens"]);
    let one = server
        .post(
            "/api/embeddings",
            json!({ "model": "tiny-bert", "prompt": "smoked eel" }),
        )
        .ok();
    assert_eq!(one["embedding"], ours["embeddings"][1]);
    let none = server
        .post("/api/embed", json!({ "model": "tiny-bert", "input": [] }))
        .ok();
    assert_eq!(none["embeddings"], json!([]));

    // 600 words are more than the model reads, and are cut only where that was asked for.
    let long = "harbour ".repeat(600);
    let body = |truncate: Option<bool>| json!({ "model": "tiny-bert", "input": long, "truncate": truncate });
    for truncate in [None, Some(false)] {
        let message = error(&server.post("/api/embed", body(truncate)), 400);
        assert!(message.contains("512"), "{message}");
    }
    let cut = server.post("/api/embed", body(Some(true))).ok();
    assert_eq!(cut["prompt_eval_count"], 512);
}

#[test]
fn errors_have_ollamas_shape() {
    let key = "a-secret-key";
    let server = Setup::default().args(&["--api-key", key]).start();
    let stranger = server.post("/api/chat", question("scripted", json!({})));
    assert!(error(&stranger, 401).contains("API key"));
    assert!(server.get("/").body.starts_with(b"Inglenook "));
    // The app's own routes beside them keep their shape.
    server.get("/api/status").error(401);
    drop(server);

    let server = Setup::default().start();
    let unknown = "model 'nobody:7b' not found";
    for path in [
        "/api/chat",
        "/api/generate",
        "/api/embed",
        "/api/embeddings",
        "/api/show",
    ] {
        let body = question("nobody:7b", json!({ "prompt": "x", "input": "x" }));
        assert_eq!(error(&server.post(path, body), 404), unknown);
    }
    let broken = server.post_bytes("/api/chat", b"{\"model\": ", "application/json");
    assert!(error(&broken, 400).contains("JSON"));
    let wrong = server.post(
        "/api/chat",
        question("scripted", json!({ "options": { "top_k": "many" } })),
    );
    assert!(error(&wrong, 400).contains("options.top_k"));
    let hot = server.post(
        "/api/chat",
        question("scripted", json!({ "options": { "temperature": 9 } })),
    );
    assert!(error(&hot, 400).contains("temperature"));
    let image = json!([{ "role": "user", "content": "See?", "images": ["aGk="] }]);
    let image = server.post(
        "/api/chat",
        question("scripted", json!({ "messages": image })),
    );
    assert!(error(&image, 400).contains("images"));
    let wrong_kind = server.post("/api/chat", question("tiny-bert", json!({})));
    assert!(error(&wrong_kind, 400).contains("embedding"));
    let called = question("inglenook-quote", json!({ "tools": weather() }));
    assert!(error(&server.post("/api/chat", called), 400).contains("tools is not served"));
    let long = json!([{ "role": "user", "content": "word ".repeat(20_000) }]);
    let long = server.post(
        "/api/chat",
        question("scripted", json!({ "messages": long })),
    );
    assert!(error(&long, 400).contains("tokens"));
    assert!(error(&server.post("/api/push", json!({})), 404).contains("/api/push"));
    assert!(error(&server.get("/api/chat"), 405).contains("GET"));
    server.get("/api/nothing").error(404);
}

#[test]
fn a_client_that_leaves_ends_its_answer() {
    let server = Setup::endless().start();
    let body = question("endless", json!({})).to_string();
    let mut socket = server.open("POST", "/api/chat", &body);
    let mut first = [0; 400];
    assert!(std::io::Read::read(&mut socket, &mut first).unwrap() > 0);
    drop(socket);
    let deadline = std::time::Instant::now() + common::PATIENCE;
    while server.get("/health").ok()["engine"]["num_running"] != 0 {
        assert!(std::time::Instant::now() < deadline, "it still runs");
    }
}

/// A hub that has the tiny embedder under the names of a model of the catalog.
fn hub() -> hub_server::Server {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_bert(dir.path()).unwrap();
    hub_server::Server::start(move |request| {
        let Some((_, file)) = request.path.split_once("/resolve/") else {
            return hub_server::Reply::status(404);
        };
        let file = file.split_once('/').map_or(file, |(_, file)| file);
        let body = match std::fs::read(dir.path().join(file)) {
            Ok(body) => body,
            // A file that this model does without, and the catalog's has.
            Err(_) if file.ends_with("_config.json") => b"{}".to_vec(),
            Err(_) => return hub_server::Reply::status(404),
        };
        let hash: String = Sha256::digest(&body)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let reply = hub_server::Reply::status(200)
            .header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
            .header("X-Linked-ETag", format!("\"{hash}\""))
            .header("X-Linked-Size", body.len().to_string());
        hub_server::Reply { body, ..reply }
    })
}

#[test]
fn models_are_pulled_only_where_the_owner_allows_it() {
    const NAME: &str = "bge-small-en-v1.5";
    let hub = hub();
    let endpoint: &'static str = hub.url().leak();
    let body = json!({ "model": format!("{NAME}:latest") });
    let setup = |allowed: &[(&'static str, &'static str)]| {
        let mut environment = vec![("INGLENOOK_HUB_ENDPOINT", endpoint)];
        environment.extend(allowed);
        Setup {
            environment,
            ..Setup::default()
        }
        .start()
    };

    let server = setup(&[]);
    let refused = error(&server.post("/api/pull", body.clone()), 403);
    assert!(
        refused.contains("api_pull") && refused.contains("models pull"),
        "{refused}"
    );
    assert!(hub.requests().is_empty(), "nothing leaves this machine");
    drop(server);

    let server = setup(&[("INGLENOOK_API_PULL", "true")]);
    let embed = json!({ "model": NAME, "input": "smoked eel" });
    assert_eq!(
        error(&server.post("/api/embed", embed.clone()), 404),
        format!("model '{NAME}' not found")
    );
    let lines = lines(&server.post("/api/pull", body.clone()));
    assert_eq!(
        lines.first().unwrap(),
        &json!({ "status": "pulling manifest" })
    );
    assert_eq!(lines.last().unwrap(), &json!({ "status": "success" }));
    let weights = lines
        .iter()
        .find(|line| line["status"] == "pulling model.safetensors");
    assert!(weights.unwrap()["total"].as_u64().unwrap() > 1000);
    let embeddings = server.post("/api/embed", embed).ok();
    assert!(!embeddings["embeddings"][0].as_array().unwrap().is_empty());

    // What is here already is a success; what is not in the catalog is told apart.
    let whole = json!({ "model": NAME, "stream": false });
    assert_eq!(
        server.post("/api/pull", whole).ok(),
        json!({ "status": "success" })
    );
    let unknown = server.post("/api/pull", json!({ "model": "llama9", "stream": false }));
    assert!(error(&unknown, 404).contains("catalog"));
    let unknown = server.post("/api/pull", json!({ "model": "llama9" }));
    assert!(
        String::from_utf8_lossy(&unknown.body).contains("{\"error\":\"model 'llama9' not found")
    );
}
