//! The OpenAPI document is complete and true: it has what is served, what it has is served, and it holds together.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use common::{Setup, TestServer};
use serde_json::Value;

/// The files that register routes, and below which path each does.
const ROUTES: &[(&str, &str)] = &[
    ("mod.rs", ""),
    ("app_api/mod.rs", "/api"),
    ("ollama/mod.rs", "/api"),
    ("openai/mod.rs", "/v1"),
    ("anthropic/mod.rs", "/v1"),
];

/// Those of the pages, which are no part of the API.
const PAGES: &[&str] = &["ui.rs", "openapi.rs"];

/// `METHOD /path` of every operation, with its description.
fn operations(document: &Value) -> BTreeMap<String, &Value> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &'_ Value)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
        let path = path.clone();
        methods
            .into_iter()
            .map(move |method| (method, path.clone()))
    };
    let all = paths.iter().flat_map(of_path);
    all.map(|(method, path)| {
        let operation = &document["paths"][&path][&method];
        (format!("{} {path}", method.to_uppercase()), operation)
    })
    .collect()
}

fn document(server: &TestServer) -> Value {
    server.get("/openapi.json").ok()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false => found.push(path),
        }
    }
    found
}

/// `METHOD /path` of the routes that a source registers, as the document writes them.
fn routes(text: &str, below: &str) -> Vec<String> {
    let mut found = Vec::new();
    for method in ["get", "post", "put", "delete"] {
        let call = format!(".{method}(");
        for call in text.split(&call).skip(1) {
            let path = call.trim_start().strip_prefix('"').unwrap();
            let (path, _) = path.split_once('"').unwrap();
            let path = path.replace(":.*}", "}");
            found.push(format!("{} {below}{path}", method.to_uppercase()));
        }
    }
    found
}

#[test]
fn every_route_is_in_the_document_and_nothing_else() {
    let server = Setup::default().start();
    let document = document(&server);
    let documented: BTreeSet<String> = operations(&document).into_keys().collect();
    let http = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut served = BTreeSet::new();
    for path in sources(&http) {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&http).unwrap().to_str().unwrap();
        if name == "routes.rs" {
            continue;
        }
        for other in [".route(", "web::resource(", "#[get(", "#[post("] {
            assert!(!text.contains(other), "{path:?} registers by {other}");
        }
        if PAGES.contains(&name) {
            continue;
        }
        match ROUTES.iter().find(|(file, _)| *file == name) {
            Some((_, below)) => served.extend(routes(&text, below)),
            None => assert!(!text.contains("&mut Routes"), "{name} is not in ROUTES"),
        }
    }
    assert!(served.contains("POST /v1/chat/completions"), "{served:?}");
    let missing: Vec<&String> = served.difference(&documented).collect();
    assert!(
        missing.is_empty(),
        "served, but not documented: {missing:?}"
    );
    let unknown: Vec<&String> = documented.difference(&served).collect();
    assert!(
        unknown.is_empty(),
        "documented, but not served: {unknown:?}"
    );
}

/// The whole answer, with its head.
fn answer(server: &TestServer, method: &str, path: &str) -> String {
    let mut answer = String::new();
    let mut socket = server.open(method, path, "{}");
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// The path with something in place of its parameters.
fn filled(path: &str) -> String {
    let parts = path.split(['{', '}']).enumerate();
    parts
        .map(|(at, part)| if at % 2 == 1 { "unheard" } else { part })
        .collect()
}

#[test]
fn every_documented_operation_is_served() {
    let server = Setup::default().start();
    let document = document(&server);
    for name in operations(&document).into_keys() {
        let (method, path) = name.split_once(' ').unwrap();
        let answer = answer(&server, method, &filled(path));
        assert!(!answer.starts_with("HTTP/1.1 405"), "{name}: {answer}");
        assert!(!answer.contains("unknown request URL"), "{name}: {answer}");
    }
}

/// The methods that an answer to a wrong one names.
fn allowed(server: &TestServer, method: &str, path: &str) -> String {
    let answer = answer(server, method, path);
    assert!(answer.starts_with("HTTP/1.1 405"), "{path}: {answer}");
    let line = answer.lines().find_map(|line| line.strip_prefix("allow: "));
    line.unwrap_or_else(|| panic!("{path} names none: {answer}"))
        .to_owned()
}

#[test]
fn every_documented_path_refuses_other_methods_and_names_its_own() {
    let server = Setup::default().start();
    let document = document(&server);
    for (path, item) in document["paths"].as_object().unwrap() {
        let allowed = allowed(&server, "PATCH", &filled(path)).to_lowercase();
        let allowed: BTreeSet<&str> = allowed.split(", ").collect();
        let documented: BTreeSet<&str> = item
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        // A path may look like another one with a parameter, whose methods it takes too.
        assert!(allowed.is_superset(&documented), "{path}: {allowed:?}");
        assert!(!allowed.contains("patch"), "{path}");
    }
}

#[test]
fn a_wrong_method_on_an_alias_or_a_page_is_told_which_are_right() {
    let server = Setup::default().start();
    for (method, path, methods) in [
        ("PUT", "/v1/files/file-1", "GET, DELETE, HEAD, OPTIONS"),
        ("PUT", "/files/file-1", "GET, DELETE, HEAD, OPTIONS"),
        ("DELETE", "/v1/v1/embeddings", "POST, OPTIONS"),
        ("POST", "/v1/models/a/b", "GET, HEAD, OPTIONS"),
        ("GET", "/api/chat", "POST, OPTIONS"),
        ("POST", "/docs", "GET, HEAD, OPTIONS"),
    ] {
        assert_eq!(allowed(&server, method, path), methods, "{path}");
    }
}

#[test]
fn operation_ids_are_unique_and_every_reference_resolves() {
    let server = Setup::default().start();
    let document = document(&server);
    let mut ids = BTreeMap::new();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap().to_owned();
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(!summary.is_empty(), "{name} has no summary");
        if let Some(other) = ids.insert(id.clone(), name.clone()) {
            panic!("{name} and {other} are both called {id}");
        }
    }
    let mut references = BTreeSet::new();
    collect_references(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let place = reference.strip_prefix('#').unwrap();
        assert!(
            document.pointer(place).is_some(),
            "{reference} leads nowhere"
        );
    }
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(
                fields
                    .get("$ref")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            fields.values().for_each(|it| collect_references(it, found));
        }
        Value::Array(items) => items.iter().for_each(|it| collect_references(it, found)),
        _ => {}
    }
}

#[test]
fn errors_are_described_as_the_clients_of_a_path_read_them() {
    let server = Setup::default().start();
    let document = document(&server);
    let body = |name: &str, status: &str| {
        let operation = operations(&document)[name].clone();
        let response = &operation["responses"][status];
        let schema = &response["content"]["application/json"]["schema"]["$ref"];
        schema.as_str().unwrap_or_default().to_owned()
    };
    for (operation, busy, schema) in [
        ("POST /v1/embeddings", "429", "ErrorBody"),
        ("POST /api/chat", "503", "OllamaError"),
        ("GET /api/status", "429", "ErrorBody"),
        ("POST /v1/messages", "529", "AnthropicError"),
    ] {
        let schema = format!("#/components/schemas/{schema}");
        assert_eq!(body(operation, busy), schema, "{operation}");
        assert_eq!(body(operation, "400"), schema, "{operation}");
    }
    assert_eq!(body("POST /api/chat", "429"), "");
    assert_eq!(body("POST /v1/messages", "429"), "");
}
