//! Answers by quoting, over HTTP, with the models that come with the program: what a newcomer meets first.

mod common;

use std::collections::HashMap;

use common::collection::{id, judgments, lines, load};
use common::{Reply, Setup, TestServer};
use inglenook::test_data;
use serde_json::{Value, json};

const POLICY: &str = "Travel policy\n\nTrips abroad are approved by the department head. Trips within the country need \
     no approval. The daily allowance is 42 euros.\n\nThe office dog is called Bruno and likes tennis balls.\n";

/// No model is named: the bundled ones are used.
fn server() -> TestServer {
    Setup {
        chat_model: None,
        embedding_model: None,
        ..Setup::default()
    }
    .start()
}

fn body_text(reply: &Reply) -> &str {
    std::str::from_utf8(&reply.body).unwrap()
}

fn ask(server: &TestServer, question: &str, tool: Value) -> Value {
    let body = json!({ "input": question, "tools": [tool], "store": false });
    server.post("/v1/responses", body).ok()
}

fn message(response: &Value) -> &Value {
    let items = response["output"].as_array().unwrap();
    &items.last().unwrap()["content"][0]
}

#[test]
fn a_newcomer_gets_an_answer_without_any_flag() {
    let server = server();
    let banner = server.banner();
    assert!(banner.contains("demonstration model"), "{banner}");
    assert!(banner.contains("inglenook models pull"), "{banner}");
    let store = server.collection();
    server.ingest(&store, "travel.txt", POLICY.as_bytes());
    let tool = json!({ "type": "file_search", "vector_store_ids": [store] });

    let response = ask(&server, "Who approves trips abroad?", tool.clone());
    assert_eq!(response["model"], "inglenook-quote");
    let part = message(&response);
    assert_eq!(
        part["text"],
        "“Trips abroad are approved by the department head.” [1]"
    );
    let citation = &part["annotations"][0];
    let quote = "Trips abroad are approved by the department head.";
    let start = POLICY.find(quote).unwrap();
    assert_eq!(citation["quote"], quote);
    assert_eq!(citation["start"], start);
    assert_eq!(citation["end"], start + quote.len());
    assert_eq!(citation["filename"], "travel.txt");
    let index = citation["index"].as_u64().unwrap() as usize;
    let rest: String = part["text"].as_str().unwrap().chars().skip(index).collect();
    assert_eq!(rest, "[1]");
    assert_eq!(response["metadata"]["inglenook_outcome"], "answered");

    let other = ask(&server, "In which year was the company founded?", tool);
    assert_eq!(
        message(&other)["text"],
        "I could not find this in the documents."
    );
    assert_eq!(message(&other)["annotations"], json!([]));
    assert_eq!(other["metadata"]["inglenook_outcome"], "not_found");
}

#[test]
fn what_the_embedder_cannot_read_is_not_quoted_at_random() {
    let server = server();
    let store = server.collection();
    let text = "Офисную собаку зовут Бруно, и она любит теннисные мячи. Летом кухня закрыта для всех сотрудников и гостей.";
    server.ingest(&store, "собака.txt", text.as_bytes());
    let tool = json!({ "type": "file_search", "vector_store_ids": [store] });
    let unrelated = ask(&server, "В каком году основали компанию?", tool.clone());
    assert_eq!(unrelated["metadata"]["inglenook_outcome"], "not_found");
    // Shared words are enough.
    let related = ask(&server, "Для кого закрыта кухня летом?", tool);
    let part = message(&related);
    assert_eq!(
        part["text"],
        "“Летом кухня закрыта для всех сотрудников и гостей.” [1]"
    );
    let citation = &part["annotations"][0];
    assert_eq!(citation["start"], text.find("Летом").unwrap());
    assert_eq!(
        citation["index"],
        "“Летом кухня закрыта для всех сотрудников и гостей.” "
            .chars()
            .count()
    );
}

#[test]
fn an_empty_store_and_a_question_without_words_are_answered_plainly() {
    let server = server();
    let tool = json!({ "type": "file_search", "vector_store_ids": [server.collection()] });
    for question in ["Who is it?", "???", "的"] {
        let response = ask(&server, question, tool.clone());
        assert_eq!(
            response["metadata"]["inglenook_outcome"], "not_found",
            "{question}"
        );
    }
}

#[test]
fn the_data_folder_stays_private() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_inglenook"));
    let status = command
        .arg("--data-dir")
        .arg(&dir)
        .args(["ask", "Who approves trips abroad?"])
        .env("HOME", parent.path())
        .status()
        .unwrap();
    assert!(status.success());
    let mode = std::fs::metadata(&dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn any_chat_client_can_quote() {
    let server = server();
    let store = server.collection();
    server.ingest(&store, "travel.txt", POLICY.as_bytes());
    let question = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "How much is the daily allowance?" },
    ]);
    let mut body = json!({ "model": "inglenook-quote", "messages": question });
    let completion = server.post("/v1/chat/completions", body.clone()).ok();
    let message = &completion["choices"][0]["message"];
    assert_eq!(message["content"], "“The daily allowance is 42 euros.” [1]");
    assert_eq!(message["citations"][0]["type"], "file_citation");
    assert!(completion["usage"]["completion_tokens"].as_u64().unwrap() > 5);

    body["stream"] = json!(true);
    let reply = server.post("/v1/chat/completions", body);
    assert_eq!(reply.status, 200);
    assert!(
        body_text(&reply).contains("42 euros"),
        "{}",
        body_text(&reply)
    );
    assert!(body_text(&reply).trim_end().ends_with("data: [DONE]"));

    // Without a tool, the responses API searches everything too.
    let body = json!({ "model": "inglenook-quote", "input": "What is the dog called?" });
    let response = server.post("/v1/responses", body).ok();
    let text = self::message(&response)["text"]
        .as_str()
        .unwrap()
        .to_string();
    assert!(text.contains("Bruno"), "{text}");

    let hello = json!({ "role": "user", "content": "Who approves trips?" });
    for (wrong, param) in [
        (
            json!({ "messages": [{ "role": "assistant", "content": "Hi" }] }),
            "messages",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": " " }] }),
            "messages",
        ),
        (json!({ "messages": [hello], "n": 2 }), "n"),
        (json!({ "messages": [hello], "logprobs": true }), "logprobs"),
    ] {
        let mut body = wrong.clone();
        body["model"] = json!("inglenook-quote");
        let error = server.post("/v1/chat/completions", body).error(400);
        assert_eq!(error["param"], param, "{wrong}");
    }
}

#[test]
fn a_named_chat_model_still_leaves_quoting_to_be_asked_for() {
    let server = Setup {
        embedding_model: None,
        ..Setup::default()
    }
    .start();
    let models = server.get("/v1/models").ok();
    let ids: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    // What is taken when nobody chooses comes first.
    let expected = [
        "scripted",
        "inglenook-quote",
        "inglenook-demo-embedder",
        "inglenook-demo-chat",
    ];
    assert_eq!(ids, expected);
    let store = server.collection();
    server.ingest(&store, "travel.txt", POLICY.as_bytes());
    let tool = json!({ "type": "file_search", "vector_store_ids": [store] });
    let written = ask(&server, "Who approves trips abroad?", tool.clone());
    assert_eq!(written["model"], "scripted");
    let body = json!({ "model": "inglenook-quote", "input": "Who approves trips abroad?", "tools": [tool] });
    let quoted = server.post("/v1/responses", body).ok();
    assert!(
        message(&quoted)["text"]
            .as_str()
            .unwrap()
            .contains("department head")
    );
}

/// One question, asked with its passage in the collection and, for some, without.
struct Asked {
    has_span: bool,
    is_right_source: bool,
    confidence: f32,
    confidence_without: Option<f32>,
}

/// Every how manieth question is asked, and asked without its passage too, unless INGLENOOK_TEST_THOROUGH asks for all.
const ASKED_EVERY: usize = 2;
const WITHOUT_EVERY: usize = 4;

#[test]
fn xquad_questions_are_answered_and_declined_as_well_as_promised() {
    let Some(dir) = test_data::require("retrieval/xquad_en") else {
        return;
    };
    // Everything is quoted, so that every threshold can be tried on the same answers.
    let server = Setup {
        chat_model: None,
        embedding_model: None,
        environment: vec![("INGLENOOK_MIN_QUOTE_CONFIDENCE", "0")],
        ..Setup::default()
    }
    .start();
    let loaded = load(&server, &dir);
    let relevant = judgments(&dir.join("qrels.tsv"));
    let (asked_every, without_every) = match std::env::var_os("INGLENOOK_TEST_THOROUGH") {
        Some(_) => (1, 1),
        None => (ASKED_EVERY, WITHOUT_EVERY),
    };
    let mut asked = Vec::new();
    let queries = lines(&dir.join("queries.jsonl.gz"));
    for (at, query) in queries.iter().enumerate().step_by(asked_every) {
        let question = query["text"].as_str().unwrap();
        let passage = relevant[&id(query)].iter().next().unwrap();
        let tool = json!({ "type": "file_search", "vector_store_ids": [loaded.vector_store] });
        let response = ask(&server, question, tool.clone());
        let citation = checked_citation(&response, &loaded.texts);
        let quote = citation["quote"].as_str().unwrap();
        let confidence_without = (at % without_every == 0).then(|| {
            let mut without = tool;
            without["filters"] = json!({ "type": "ne", "key": "name", "value": passage });
            let response = ask(&server, question, without);
            checked_citation(&response, &loaded.texts);
            confidence(&response)
        });
        let answers = query["answers"].as_array().unwrap();
        asked.push(Asked {
            has_span: answers
                .iter()
                .any(|answer| quote.contains(answer["text"].as_str().unwrap())),
            is_right_source: &loaded.names[citation["file_id"].as_str().unwrap()] == passage,
            confidence: confidence(&response),
            confidence_without,
        });
    }

    println!(
        "| threshold | gold span quoted | right source cited | declined without the passage |"
    );
    println!("|---|---|---|---|");
    for step in 0..=16 {
        let threshold = 0.05 * step as f32;
        let [span, source, declined] = shares(&asked, threshold);
        println!(
            "| {threshold:.2} | {:.1}% | {:.1}% | {:.1}% |",
            span * 100.0,
            source * 100.0,
            declined * 100.0
        );
    }
    let [all_spans, all_sources, _] = shares(&asked, 0.0);
    let [span, source, declined] =
        shares(&asked, inglenook::rag::confidence::DEFAULT_MIN_OF_QUOTES);
    println!(
        "default threshold: span {:.1}%, source {:.1}%, declined {:.1}%; without any: span {:.1}%, source {:.1}%",
        span * 100.0,
        source * 100.0,
        declined * 100.0,
        all_spans * 100.0,
        all_sources * 100.0
    );
    assert!(span >= 0.70 && source >= 0.88, "{span} {source}");
    assert!(declined >= 0.50, "{declined}");
    assert!(all_spans - span <= 0.05, "{all_spans} {span}");
}

/// The only citation of a response, after checking that it is verbatim and valid.
fn checked_citation(response: &Value, texts: &HashMap<String, String>) -> Value {
    let part = message(response);
    let citation = part["annotations"][0].clone();
    let text = &texts[citation["file_id"].as_str().unwrap()];
    let place = |key: &str| citation[key].as_u64().unwrap() as usize;
    let quote = citation["quote"].as_str().unwrap();
    assert_eq!(&text[place("start")..place("end")], quote);
    let words: Vec<&str> = quote.split_whitespace().collect();
    let expected = format!("“{}” [{}]", words.join(" "), citation["number"]);
    assert_eq!(part["text"], expected);
    citation
}

fn confidence(response: &Value) -> f32 {
    let text = response["metadata"]["inglenook_confidence"].as_str();
    text.unwrap().parse().unwrap()
}

/// Shares of questions whose span was quoted, whose source was cited, and that were declined without their passage.
fn shares(asked: &[Asked], threshold: f32) -> [f32; 3] {
    let share = |is_so: &dyn Fn(&Asked) -> bool| {
        asked.iter().filter(|it| is_so(it)).count() as f32 / asked.len() as f32
    };
    let without: Vec<f32> = asked
        .iter()
        .filter_map(|it| it.confidence_without)
        .collect();
    let num_declined = without.iter().filter(|it| **it < threshold).count();
    [
        share(&|it| it.has_span && it.confidence >= threshold),
        share(&|it| it.is_right_source && it.confidence >= threshold),
        num_declined as f32 / without.len() as f32,
    ]
}
