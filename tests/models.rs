//! Several models on one server, over HTTP: loaded when they are asked for, displaced, unloaded, listed, and broken.

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{PATIENCE, SCRIPT, Setup, TestServer, models, program};
use inglenook::embedding::testing::write_tiny_cross_encoder;
use inglenook::hub::find;
use inglenook::llm::testing::{Script, write_scripted_gguf};
use serde_json::{Value, json};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A model cache as pulling leaves it, to be filled.
struct PulledModels {
    dir: tempfile::TempDir,
}

impl PulledModels {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    /// Where a file of a model of the catalog belongs.
    fn path(&self, name: &str, file: &str) -> PathBuf {
        let repo = &find(name).unwrap().repo;
        let repo = format!("models--{}", repo.replace('/', "--"));
        let repo = self.dir.path().join(repo);
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::write(repo.join("refs/main"), COMMIT).unwrap();
        let path = repo.join("snapshots").join(COMMIT).join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// A chat model that says what it is told to.
    fn chat(&self, name: &str, script: &Script) -> PathBuf {
        let path = self.path(name, &find(name).unwrap().files[0]);
        write_scripted_gguf(&path, script).unwrap();
        path
    }

    /// The tiny embedding model under a name of the catalog.
    fn embedder(&self, name: &str) {
        for file in &find(name).unwrap().files {
            let (from, to) = (models().embedder.join(file), self.path(name, file));
            match from.exists() {
                true => std::fs::copy(from, to).map(|_| ()).unwrap(),
                false => std::fs::write(to, "{}").unwrap(),
            }
        }
    }

    /// A tiny rerank model under a name of the catalog.
    fn reranker(&self, name: &str) {
        let config = self.path(name, "config.json");
        let dir = config.parent().unwrap();
        write_tiny_cross_encoder(dir).unwrap();
        std::fs::write(dir.join("tokenizer_config.json"), "{}").unwrap();
    }

    /// A server that can have these, and starts with the scripted model. Its settings file has `lines`.
    fn server(&self, lines: &str) -> TestServer {
        let file = self.dir.path().join("settings.toml");
        let cache = self.dir.path().display();
        std::fs::write(&file, format!("model_cache = \"{cache}\"\n{lines}")).unwrap();
        Setup::default()
            .args(&["--config", file.to_str().unwrap()])
            .start()
    }
}

fn says(server: &TestServer, model: &str) -> String {
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": "Go" }], "max_tokens": 60 });
    let answer = server.post("/v1/chat/completions", body).ok();
    let text = &answer["choices"][0]["message"]["content"];
    text.as_str().unwrap().to_string()
}

fn loaded(server: &TestServer) -> Vec<String> {
    let loaded = server.get("/api/models/loaded").ok();
    let models = loaded["models"].as_array().unwrap();
    let ids = models.iter().map(|model| model["id"].as_str().unwrap());
    ids.map(str::to_owned).collect()
}

fn wait_until_loaded(server: &TestServer, wanted: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    while loaded(server) != wanted {
        assert!(Instant::now() < deadline, "{:?}", loaded(server));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A thread has its name a moment after it has begun, and is gone a moment after its model is.
fn wait_for_engines(pid: u32, wanted: usize) {
    let deadline = Instant::now() + PATIENCE;
    while num_engines(pid) != wanted {
        assert!(Instant::now() < deadline, "{} run", num_engines(pid));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Threads of this process that run a chat model.
fn num_engines(pid: u32) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let names = threads.flatten().filter_map(|thread| {
        // A thread may end between being listed and being read.
        std::fs::read_to_string(thread.path().join("comm")).ok()
    });
    names.filter(|name| name.trim() == "engine").count()
}

/// Keeps a model busy until it is dropped.
struct Busy(BufReader<std::net::TcpStream>);

impl Busy {
    fn start(server: &TestServer, model: &str) -> Self {
        let body = json!({
            "model": model,
            "messages": [{ "role": "user", "content": "Go" }],
            "stream": true,
            "max_tokens": 60_000,
        });
        let socket = server.open("POST", "/v1/chat/completions", &body.to_string());
        let mut busy = Self(BufReader::new(socket));
        busy.read_until("tick");
        busy
    }

    fn read_until(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let read = self.0.read_line(&mut line).unwrap();
            assert!(read > 0, "the stream ended before {text:?}");
        }
    }
}

#[test]
fn every_model_of_the_machine_answers_by_its_name_and_its_alias() {
    let pulled = PulledModels::new();
    pulled.chat("qwen3-0.6b", &Script::once("I am the small one."));
    pulled.chat("qwen3-1.7b", &Script::once("I am the larger one."));
    pulled.embedder("all-minilm-l6-v2");
    let server =
        pulled.server("[aliases]\n\"gpt-4o\" = \"qwen3-1.7b\"\n\"gpt-5\" = \"qwen3-8b\"\n\"words\" = \"inglenook-quote\"\n");
    assert_eq!(loaded(&server), ["scripted", "tiny-bert"]);
    let listed = server.get("/v1/models").ok();
    let listed = listed["data"].as_array().unwrap();
    let find = |id: &str| listed.iter().find(|model| model["id"] == id).unwrap();
    for (id, kind, is_loaded) in [
        ("scripted", "chat", true),
        ("inglenook-quote", "quote", true),
        ("tiny-bert", "embedding", true),
        ("qwen3-0.6b", "chat", false),
        ("all-minilm-l6-v2", "embedding", false),
        ("inglenook-demo-chat", "chat", false),
        ("gpt-4o", "chat", false),
    ] {
        let model = find(id);
        assert_eq!(
            (&model["kind"], &model["is_loaded"]),
            (&json!(kind), &json!(is_loaded)),
            "{id}"
        );
    }
    assert_eq!(listed[0]["id"], "scripted");
    assert_eq!(find("gpt-4o")["alias_of"], "qwen3-1.7b");
    assert!(listed.iter().all(|model| model["id"] != "gpt-5"));

    assert_eq!(says(&server, "qwen3-0.6b"), "I am the small one.");
    assert_eq!(says(&server, "gpt-4o"), "I am the larger one.");
    assert_eq!(says(&server, "scripted"), SCRIPT);
    assert_eq!(
        loaded(&server),
        ["qwen3-0.6b", "qwen3-1.7b", "scripted", "tiny-bert"]
    );
    assert_eq!(server.get("/v1/models/gpt-4o").ok()["is_loaded"], true);

    let embed = |model: &str| {
        let body = json!({ "model": model, "input": "the heat pump" });
        let answer = server.post("/v1/embeddings", body).ok();
        assert_eq!(answer["model"], model);
        answer["data"][0]["embedding"].clone()
    };
    assert_eq!(embed("all-minilm-l6-v2"), embed("tiny-bert"));

    // What is not here is said, with what to do where that is known.
    let ask = |model: &str| {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": "Go" }] });
        server.post("/v1/chat/completions", body)
    };
    for path in ["/v1/chat/completions", "/v1/responses"] {
        let body = json!({ "model": "words", "input": "Go", "messages": [{ "role": "user", "content": "Go" }] });
        assert_eq!(server.post(path, body).ok()["model"], "inglenook-quote");
    }
    for (model, part) in [
        ("gpt-5", "inglenook models pull qwen3-8b"),
        ("nobody", "qwen3-0.6b"),
        (models().endless.to_str().unwrap(), "not served here"),
    ] {
        let error = ask(model).error(404);
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
        assert_eq!(error["code"], "model_not_found");
    }
    let error = ask("all-minilm-l6-v2").error(400);
    assert_eq!(error["param"], "model", "{error}");
    let error = server.post(
        "/v1/embeddings",
        json!({ "model": "qwen3-0.6b", "input": "x" }),
    );
    assert_eq!(error.error(400)["param"], "model");
}

#[test]
fn a_mistaken_request_is_refused_before_the_model_that_it_names_is_loaded() {
    let pulled = PulledModels::new();
    pulled.chat("qwen3-0.6b", &Script::once("Hello."));
    let server = pulled.server("max_loaded_models = 1\n");
    let user = json!([{ "role": "user", "content": "Go" }]);
    let image =
        json!([{ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==" } }]);
    let file = json!([{ "type": "file", "file": { "file_data": "AAEC", "filename": "a.exe" } }]);
    for (path, param, fields) in [
        (
            "/v1/chat/completions",
            "temperature",
            json!({ "messages": user, "temperature": 5 }),
        ),
        (
            "/v1/chat/completions",
            "logit_bias",
            json!({ "messages": user, "logit_bias": { "1": 500 } }),
        ),
        (
            "/v1/chat/completions",
            "messages[0].content[0]",
            json!({ "messages": [{ "role": "user", "content": image }] }),
        ),
        ("/v1/completions", "prompt", json!({ "prompt": [] })),
        (
            "/v1/completions",
            "top_p",
            json!({ "prompt": "Go", "top_p": 2 }),
        ),
        (
            "/v1/responses",
            "max_output_tokens",
            json!({ "input": "Go", "max_output_tokens": 0 }),
        ),
        (
            "/v1/responses",
            "previous_response_id",
            json!({ "input": "Go", "previous_response_id": "resp_nobody" }),
        ),
        (
            "/v1/responses",
            "tool_choice",
            json!({ "input": "Go", "tool_choice": "required" }),
        ),
        (
            "/v1/responses",
            "truncation",
            json!({ "input": "Go", "truncation": "some" }),
        ),
        (
            "/v1/responses",
            "input[0].id",
            json!({ "input": [{ "type": "item_reference", "id": "msg_nobody" }] }),
        ),
        (
            "/v1/responses",
            "store",
            json!({ "input": "Go", "background": true, "store": false }),
        ),
        (
            "/v1/chat/completions",
            "messages[0].content[0].file.file_data",
            json!({ "messages": [{ "role": "user", "content": file }] }),
        ),
    ] {
        let mut body = fields;
        body["model"] = json!("qwen3-0.6b");
        let answer = server.post(path, body);
        assert!(
            [400, 404].contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        let status = answer.status;
        let error = answer.error(status);
        assert_eq!(error["param"], param, "{error}");
    }
    assert_eq!(loaded(&server), ["scripted", "tiny-bert"]);
    // What only the model's vocabulary tells is named as it was sent, too.
    for (path, mut body) in [
        ("/v1/chat/completions", json!({ "messages": user })),
        ("/v1/completions", json!({ "prompt": "Go" })),
        ("/v1/responses", json!({ "input": "Go" })),
    ] {
        body["logit_bias"] = json!({ "4000000000": 1 });
        let error = server.post(path, body.clone()).error(400);
        assert_eq!(error["param"], "logit_bias", "{path}: {error}");
        body["logit_bias"] = json!(null);
        body["repeat_penalty"] = json!(-1);
        let error = server.post(path, body).error(400);
        assert_eq!(error["param"], "repeat_penalty", "{path}: {error}");
    }
}

#[test]
fn two_models_of_one_name_are_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (chat, embedder) = (dir.path().join("same.gguf"), dir.path().join("same"));
    std::fs::copy(&models().scripted, &chat).unwrap();
    std::fs::create_dir(&embedder).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(models().embedder.join(file), embedder.join(file)).unwrap();
    }
    let output = program(dir.path())
        .arg("serve")
        .args(["--port", "0", "--chat-model", chat.to_str().unwrap()])
        .args(["--embedding-model", embedder.to_str().unwrap()])
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(message.contains("both named 'same'"), "{message}");
}

#[test]
fn a_model_that_nobody_asks_for_any_more_leaves_with_its_thread() {
    let pulled = PulledModels::new();
    pulled.chat("qwen3-0.6b", &Script::endless("tick tock"));
    let server = pulled.server("keep_alive = 0\n");
    wait_for_engines(server.pid(), 1);
    let mut busy = Busy::start(&server, "qwen3-0.6b");
    wait_for_engines(server.pid(), 2);
    // It stays as long as it answers, whatever its time.
    busy.read_until("tock");
    assert_eq!(loaded(&server), ["qwen3-0.6b", "scripted", "tiny-bert"]);
    drop(busy);
    wait_until_loaded(&server, &["scripted", "tiny-bert"]);
    wait_for_engines(server.pid(), 1);
    assert!(says(&server, "qwen3-0.6b").starts_with("tick"));
}

#[test]
fn an_idle_model_gives_its_place_and_a_busy_one_does_not() {
    let pulled = PulledModels::new();
    pulled.chat("qwen3-0.6b", &Script::endless("tick tock"));
    pulled.chat("qwen3-1.7b", &Script::once("Hello."));
    let server = pulled.server("max_loaded_models = 1\n");
    let busy = Busy::start(&server, "qwen3-0.6b");
    assert_eq!(loaded(&server), ["qwen3-0.6b", "tiny-bert"]);
    let body = json!({ "model": "qwen3-1.7b", "messages": [{ "role": "user", "content": "Go" }] });
    let refused = server.post("/v1/chat/completions", body);
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(wait >= 1 && refused.header("x-should-retry").is_none());
    let message = refused.error(503)["message"].as_str().unwrap().to_string();
    assert!(message.contains("--max-loaded-models is 1"), "{message}");
    server.delete("/api/models/loaded/qwen3-0.6b").error(400);
    drop(busy);
    let deadline = Instant::now() + PATIENCE;
    let body = json!({ "model": "qwen3-1.7b", "messages": [{ "role": "user", "content": "Go" }] });
    while server.post("/v1/chat/completions", body.clone()).status != 200 {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(loaded(&server), ["qwen3-1.7b", "tiny-bert"]);
    // The model of the settings comes back when it is asked for.
    assert_eq!(says(&server, ""), SCRIPT);
}

#[test]
fn a_model_that_cannot_fit_is_refused_with_the_numbers() {
    let pulled = PulledModels::new();
    pulled.chat("qwen3-0.6b", &Script::once("Hello."));
    let server = pulled.server("");
    // The same file with a cache that no machine has.
    let file = pulled.dir.path().join("settings.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "kv_cache_tokens = 4000000000\n").unwrap();
    let output = program(&server.data_dir)
        .args([
            "--config",
            file.to_str().unwrap(),
            "--chat-model",
            "qwen3-0.6b",
        ])
        .args(["ask", "Who?"])
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        message.contains("it needs ") && message.contains("--kv-cache-memory"),
        "{message}"
    );
}

#[test]
fn a_damaged_model_is_an_error_until_it_is_mended() {
    let pulled = PulledModels::new();
    let path = pulled.chat("qwen3-0.6b", &Script::once("Mended."));
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let server = pulled.server("");
    let body = json!({ "model": "qwen3-0.6b", "messages": [{ "role": "user", "content": "Go" }] });
    for _ in 0..2 {
        let refused = server.post("/v1/chat/completions", body.clone());
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        let message = refused.error(500)["message"].to_string();
        assert!(
            message.contains("cannot load the chat model from"),
            "{message}"
        );
    }
    assert_eq!(says(&server, "scripted"), SCRIPT);
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(says(&server, "qwen3-0.6b"), "Mended.");
}

#[test]
fn the_command_line_shows_and_unloads_what_the_server_has() {
    let pulled = PulledModels::new();
    pulled.chat("qwen3-0.6b", &Script::once("Hello."));
    let server = pulled.server("kv_cache_memory = \"8MiB\"\n");
    says(&server, "qwen3-0.6b");
    let run = |dir: &Path, args: &[&str]| {
        let output = program(dir).args(args).output().unwrap();
        let (out, err) = (output.stdout, output.stderr);
        let text = String::from_utf8(out).unwrap() + &String::from_utf8(err).unwrap();
        (output.status.success(), text)
    };
    let port = server.address().rsplit(':').next().unwrap();
    let (succeeded, table) = run(&server.data_dir, &["models", "ps", "--port", port]);
    assert!(succeeded, "{table}");
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(row("qwen3-0.6b").contains("8.0 MiB"), "{table}");
    // Loaded on demand, it has a time; the model of the settings has none.
    assert!(row("qwen3-0.6b").ends_with(" s"), "{table}");
    assert!(
        row("scripted").ends_with(" -") && row("tiny-bert").contains("embedding"),
        "{table}"
    );

    let url = ["--url", &server.base];
    let unload = |name| {
        run(
            &server.data_dir,
            &["models", "unload", name, url[0], url[1]],
        )
    };
    assert_eq!(
        unload("qwen3-0.6b"),
        (true, "qwen3-0.6b is unloaded\n".into())
    );
    assert_eq!(loaded(&server), ["scripted", "tiny-bert"]);
    for (name, part) in [
        ("qwen3-0.6b", "is not loaded"),
        ("tiny-bert", "stays loaded"),
    ] {
        let (succeeded, message) = unload(name);
        assert!(!succeeded && message.contains(part), "{message}");
    }
    let address = server.base.clone();
    server.kill();
    let nowhere = tempfile::tempdir().unwrap();
    let (succeeded, message) = run(nowhere.path(), &["models", "ps", "--url", &address]);
    assert!(
        !succeeded && message.contains("no server answers at"),
        "{message}"
    );
}

#[test]
fn models_ps_needs_the_key_of_the_server() {
    let server = Setup::default().args(&["--api-key", "secret"]).start();
    let ps = |key: &str| {
        let args = ["models", "ps", "--url", &server.base, "--api-key", key];
        program(&server.data_dir).args(args).output().unwrap()
    };
    assert!(ps("secret").status.success());
    let refused = ps("other");
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && message.contains("API key"),
        "{message}"
    );
}

#[test]
fn the_list_has_what_was_pulled_while_the_server_runs() {
    let pulled = PulledModels::new();
    let server = pulled.server("");
    server.get("/v1/models/qwen3-0.6b").error(404);
    pulled.chat("qwen3-0.6b", &Script::once("Just pulled."));
    let model: Value = server.get("/v1/models/qwen3-0.6b").ok();
    assert_eq!(model["is_loaded"], false);
    assert_eq!(says(&server, "qwen3-0.6b"), "Just pulled.");
}

#[test]
fn documents_are_ordered_by_a_rerank_model_that_is_loaded_when_asked() {
    let pulled = PulledModels::new();
    let server = pulled.server("");
    let body = json!({ "query": "heat pump", "documents": ["the heat pump", "a black cat"] });
    let missing = server.post("/v1/rerank", body.clone()).error(503);
    let message = missing["message"].as_str().unwrap();
    assert!(message.contains("inglenook models pull"), "{message}");
    pulled.reranker("bge-reranker-base");

    let documents = json!([
        "the heat pump",
        { "text": "a black cat" },
        "invoice and contract",
        "oil pressure valve"
    ]);
    let body = json!({ "query": "heat pump", "documents": documents, "return_documents": true });
    let ranked = server.post("/v1/rerank", body.clone()).ok();
    assert_eq!(
        (&ranked["model"], &ranked["object"]),
        (&json!("bge-reranker-base"), &json!("list"))
    );
    // [CLS] heat pump [SEP] ... [SEP], four times.
    assert_eq!(ranked["usage"]["total_tokens"], 4 * 5 + 3 + 3 + 3 + 3);
    let results = ranked["results"].as_array().unwrap();
    let score = |result: &Value| result["relevance_score"].as_f64().unwrap();
    assert_eq!(results.len(), 4);
    assert!(
        results
            .windows(2)
            .all(|two| score(&two[0]) >= score(&two[1])),
        "{ranked}"
    );
    assert!(results.iter().all(|it| (0.0..=1.0).contains(&score(it))));
    for result in results {
        let document = &documents[result["index"].as_u64().unwrap() as usize];
        let text = document.get("text").unwrap_or(document);
        assert_eq!(result["document"]["text"], *text);
        // The same alone as in company.
        let alone = json!({ "query": "heat pump", "documents": [document] });
        let alone = server.post("/rerank", alone).ok();
        assert!((score(&alone["results"][0]) - score(result)).abs() < 1e-6);
    }
    let mut best = body.clone();
    best["top_n"] = json!(1);
    best["return_documents"] = json!(false);
    let best = server.post("/v1/rerank", best).ok();
    assert_eq!(
        best["results"],
        json!([{
            "index": results[0]["index"],
            "relevance_score": results[0]["relevance_score"],
        }])
    );

    // As both versions of Cohere have it.
    for (path, version) in [("/v1/rerank", "1"), ("/rerank", "1"), ("/v2/rerank", "2")] {
        let ranked = server.post(path, body.clone()).ok();
        assert!(ranked["id"].as_str().unwrap().starts_with("rerank-"));
        assert_eq!(ranked["meta"]["api_version"]["version"], version);
        assert_eq!(ranked["meta"]["billed_units"]["search_units"], 1);
        assert_eq!(&ranked["results"], &json!(results));
    }

    // As text-embeddings-inference has it.
    let bare = json!({ "query": "heat pump", "texts": ["a black cat"], "raw_scores": true, "return_text": true });
    let bare = server.post("/rerank", bare).ok();
    assert_eq!(
        (&bare[0]["index"], &bare[0]["text"]),
        (&json!(0), &json!("a black cat"))
    );
    let cat = results.iter().find(|it| it["index"] == 1).unwrap();
    let logit = bare[0]["score"].as_f64().unwrap();
    assert!((1.0 / (1.0 + (-logit).exp()) - score(cat)).abs() < 1e-6);

    let long = json!({ "query": "heat pump", "documents": ["a cat", "pump ".repeat(600)] });
    let error = server.post("/v1/rerank", long.clone()).error(400);
    assert_eq!(error["code"], "context_length_exceeded");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("document 1 has 605 tokens") && message.contains("at most 512"),
        "{message}"
    );
    let mut cut = long;
    cut["truncate"] = json!(true);
    let cut = server.post("/v1/rerank", cut).ok();
    let is_cut = |index: u64| {
        let results = cut["results"].as_array().unwrap().iter();
        let mut results = results.filter(|it| it["index"] == index);
        results.next().unwrap().get("truncated").cloned()
    };
    assert_eq!((is_cut(0), is_cut(1)), (None, Some(json!(true))));

    for (wrong, param) in [
        (json!({ "query": "x", "documents": [] }), "documents"),
        (json!({ "query": "x" }), "documents"),
        (json!({ "query": "x", "documents": "y" }), "documents"),
        (json!({ "query": "x", "documents": [7] }), "documents"),
        (json!({ "query": "", "documents": ["y"] }), "query"),
        (
            json!({ "query": "x", "documents": ["y"], "top_n": 0 }),
            "top_n",
        ),
        (
            json!({ "query": "x", "documents": ["y"], "texts": ["y"] }),
            "texts",
        ),
        (
            json!({ "query": "x", "documents": ["y"], "model": "scripted" }),
            "model",
        ),
    ] {
        assert_eq!(
            server.post("/v1/rerank", wrong.clone()).error(400)["param"],
            param,
            "{wrong}"
        );
    }
    let listed = server.get("/v1/models/bge-reranker-base").ok();
    assert_eq!(
        (&listed["kind"], &listed["is_loaded"]),
        (&json!("rerank"), &json!(true))
    );
    assert_eq!(listed["context_length"], 512);
}

#[test]
fn a_search_is_reranked_by_the_model_that_it_names_and_says_when_that_fails() {
    let pulled = PulledModels::new();
    pulled.reranker("bge-reranker-base");
    let server = pulled.server("");
    let store = server.collection();
    let texts = [
        "the heat pump",
        "a black cat",
        "invoice and contract",
        "oil pressure valve",
        "pump oil",
    ];
    for (at, text) in texts.iter().enumerate() {
        server.ingest(&store, &format!("{at}.txt"), text.as_bytes());
    }
    let search = |server: &TestServer, ranker: Value| {
        let body = json!({
            "query": "heat pump", "explain": true, "ranking_options": { "ranker": ranker },
        });
        server
            .post(&format!("/v1/vector_stores/{store}/search"), body)
            .ok()
    };
    let order = |found: &Value| -> Vec<String> {
        let hits = found["data"].as_array().unwrap().iter();
        hits.map(|hit| hit["content"][0]["text"].as_str().unwrap().to_owned())
            .collect()
    };
    let body = json!({
        "query": "heat pump", "documents": texts, "return_documents": true, "model": "bge-reranker-base",
    });
    let expected = server.post("/v1/rerank", body).ok();
    let expected = expected["results"].as_array().unwrap();

    let fused = search(&server, json!("none"));
    let reranked = search(&server, json!("bge-reranker-base"));
    let wanted: Vec<&str> = expected
        .iter()
        .map(|it| it["document"]["text"].as_str().unwrap())
        .collect();
    assert_eq!(order(&reranked), wanted);
    assert_ne!(order(&fused), wanted, "the test needs another order");
    for (hit, expected) in reranked["data"].as_array().unwrap().iter().zip(expected) {
        let score = hit["score"].as_f64().unwrap();
        assert!((score - expected["relevance_score"].as_f64().unwrap()).abs() < 1e-5);
        assert_eq!(hit["explanation"]["rerank_score"], hit["score"]);
    }
    assert!(reranked.get("notes").is_none(), "{reranked}");
    // Without a model of the server's own, nobody reranks unasked.
    assert_eq!(order(&search(&server, json!("auto"))), order(&fused));
    drop(server);

    let server = pulled.server("rerank_model = \"bge-reranker-base\"\n");
    let store_of_it = server.collection();
    for (at, text) in texts.iter().enumerate() {
        server.ingest(&store_of_it, &format!("{at}.txt"), text.as_bytes());
    }
    let search = |ranker: Value| {
        let body = json!({ "query": "heat pump", "ranking_options": { "ranker": ranker } });
        server
            .post(&format!("/v1/vector_stores/{store_of_it}/search"), body)
            .ok()
    };
    assert_eq!(order(&search(json!("auto"))), wanted);
    assert_eq!(order(&search(json!("none"))), order(&fused));
    drop(server);

    // A model whose weights are broken.
    let weights = pulled.path("bge-reranker-base", "model.safetensors");
    std::fs::write(weights, "no weights").unwrap();
    let server = pulled.server("rerank_model = \"bge-reranker-base\"\n");
    let store = server.collection();
    for (at, text) in texts.iter().enumerate() {
        server.ingest(&store, &format!("{at}.txt"), text.as_bytes());
    }
    let body = json!({ "query": "heat pump" });
    let found = server
        .post(&format!("/v1/vector_stores/{store}/search"), body)
        .ok();
    assert_eq!(order(&found), order(&fused));
    let note = found["notes"][0].as_str().unwrap();
    assert!(note.contains("bge-reranker-base failed"), "{note}");
}

#[test]
fn a_search_does_not_wait_longer_than_it_may_for_its_rerank_model() {
    let pulled = PulledModels::new();
    pulled.reranker("bge-reranker-base");
    // Less than any model takes to be loaded and asked.
    let server = pulled.server("rerank_model = \"bge-reranker-base\"\nrerank_timeout = 0\n");
    let store = server.collection();
    for (at, text) in ["the heat pump", "pump oil", "a black cat"]
        .iter()
        .enumerate()
    {
        server.ingest(&store, &format!("{at}.txt"), text.as_bytes());
    }
    let search = |ranker: &str| {
        let body = json!({
            "query": "heat pump", "explain": true, "ranking_options": { "ranker": ranker },
        });
        server
            .post(&format!("/v1/vector_stores/{store}/search"), body)
            .ok()
    };
    let scores = |found: &Value| -> Vec<Value> {
        let hits = found["data"].as_array().unwrap().iter();
        hits.map(|hit| {
            json!([
                hit["file_id"],
                hit["score"],
                hit["explanation"]["rerank_score"]
            ])
        })
        .collect()
    };
    let fused = search("none");
    assert!(fused.get("notes").is_none(), "{fused}");
    let late = search("auto");
    assert_eq!(scores(&late), scores(&fused), "all is as without the model");
    let note = late["notes"][0].as_str().unwrap();
    let expected = "the passages are not reranked: bge-reranker-base took more than 0 seconds; give it more (rerank_timeout)";
    assert!(note.starts_with(expected), "{note}");
    // Whoever can wait has it.
    let body = json!({ "query": "heat pump", "documents": ["pump oil", "the heat pump"] });
    let ranked = server.post("/v1/rerank", body).ok();
    assert_eq!(ranked["results"].as_array().unwrap().len(), 2);
}
