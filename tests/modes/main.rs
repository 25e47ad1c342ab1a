//! What goes beyond OpenAI's API in answers from documents: the object `inglenook` of requests and responses.

#[path = "../common/mod.rs"]
mod common;
mod kept;
mod summary;

use common::{SCRIPT, SHOWN, Setup, TestServer};
use inglenook::llm::testing::Script;
use serde_json::{Value, json};

const POLICY: &str = "Travel policy\n\nTrips abroad are approved by the department head. Trips within the country need \
     no approval. The daily allowance is 42 euros.\n\nThe office dog is called Bruno and likes tennis balls.\n";
const LIGHTHOUSE: &str = "The keeper of the lighthouse is Maren Holt, who came in 1998.\n";
const WHO: &str = "Who is the keeper of the lighthouse?";
const NOT_FOUND: &str = "I could not find this in the documents.";

/// A chat model that says [`SCRIPT`], and the embedding model that comes with the program.
fn server() -> TestServer {
    with(&[])
}

fn with(settings: &[(&'static str, &'static str)]) -> TestServer {
    Setup {
        embedding_model: None,
        environment: settings.to_vec(),
        ..Setup::default()
    }
    .start()
}

fn quoting() -> TestServer {
    Setup {
        chat_model: None,
        embedding_model: None,
        ..Setup::default()
    }
    .start()
}

fn search(store: &str) -> Value {
    json!([{ "type": "file_search", "vector_store_ids": [store] }])
}

/// A question at temperature 0 with `more`.
fn body(store: &str, question: &str, more: Value) -> Value {
    let mut body = json!({ "input": question, "tools": search(store), "temperature": 0 });
    let fields = body.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    body
}

fn ask(server: &TestServer, store: &str, question: &str, more: Value) -> Value {
    server
        .post("/v1/responses", body(store, question, more))
        .ok()
}

fn part(response: &Value) -> &Value {
    &response["output"].as_array().unwrap().last().unwrap()["content"][0]
}

fn kinds(response: &Value) -> Vec<&str> {
    let output = response["output"].as_array().unwrap().iter();
    output.map(|item| item["type"].as_str().unwrap()).collect()
}

#[test]
fn the_mode_decides_who_answers() {
    let server = server();
    let store = server.collection();
    server.ingest(&store, "lighthouse.md", LIGHTHOUSE.as_bytes());
    let written = ask(
        &server,
        &store,
        WHO,
        json!({ "inglenook": { "mode": "answer" } }),
    );
    assert_eq!(
        (&written["model"], &part(&written)["text"]),
        (&json!("scripted"), &json!(SHOWN))
    );
    assert_eq!(written["inglenook"]["mode"], "answer");
    let quoted = ask(
        &server,
        &store,
        WHO,
        json!({ "inglenook": { "mode": "quote" }, "model": "scripted" }),
    );
    assert_eq!(quoted["model"], "inglenook-quote");
    let text = part(&quoted)["text"].as_str().unwrap();
    assert_eq!(text, format!("“{}” [1]", LIGHTHOUSE.trim()));
    assert_eq!(quoted["inglenook"]["mode"], "quote");
    assert_eq!(quoted["inglenook"]["outcome"], "answered");

    for (param, wrong) in [
        ("inglenook", json!({ "inglenook": { "mood": "answer" } })),
        ("inglenook", json!({ "inglenook": { "mode": "poem" } })),
        ("inglenook", json!({ "inglenook": "answer" })),
        (
            "inglenook.reader",
            json!({ "inglenook": { "reader": "x".repeat(2001) } }),
        ),
        (
            "inglenook.min_confidence",
            json!({ "inglenook": { "min_confidence": 1.5 } }),
        ),
        (
            "inglenook.selected_text",
            json!({ "inglenook": { "selected_text": " " } }),
        ),
        (
            "inglenook.selected_file_id",
            json!({ "inglenook": { "selected_file_id": "file-1" } }),
        ),
        (
            "inglenook.mode",
            json!({ "inglenook": { "mode": "answer" }, "model": "inglenook-quote" }),
        ),
        (
            "inglenook.mode",
            json!({ "inglenook": { "mode": "summary" }, "tools": [] }),
        ),
        (
            "inglenook.reader",
            json!({ "inglenook": { "reader": "A sailor" }, "tools": [] }),
        ),
    ] {
        let error = server
            .post("/v1/responses", body(&store, WHO, wrong.clone()))
            .error(400);
        assert_eq!(error["param"], param, "{wrong}: {error}");
    }
    let error = server.post(
        "/v1/responses",
        body(&store, WHO, json!({ "inglenook": { "mood": 1 } })),
    );
    let message = error.error(400)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("mood"), "{message}");
}

#[test]
fn an_answer_that_cites_nothing_says_so_and_is_not_kept() {
    let server = common::serve_script("uncited", &Script::once("Nobody keeps a lighthouse."));
    let store = server.collection();
    server.ingest(&store, "lighthouse.md", LIGHTHOUSE.as_bytes());
    for _ in 0..2 {
        let answer = ask(
            &server,
            &store,
            WHO,
            json!({ "inglenook": { "cache": true } }),
        );
        assert_eq!(part(&answer)["annotations"], json!([]), "{answer}");
        let about = &answer["inglenook"];
        assert_eq!(
            (&about["outcome"], &about["cached"]),
            (&json!("uncited"), &json!(false))
        );
        assert_eq!(answer["metadata"]["inglenook_outcome"], "uncited");
    }
}

#[test]
fn a_selected_text_is_quoted_whatever_is_asked_about_it() {
    let server = quoting();
    for question in ["Explain this", "What does it cost, and who leads it?"] {
        let request = json!({
            "input": question,
            "inglenook": { "mode": "quote", "selected_text": "It is led by Maria Holt." },
        });
        let answer = server.post("/v1/responses", request.clone()).ok();
        let text = part(&answer)["text"].as_str().unwrap();
        assert!(text.contains("It is led by Maria Holt."), "{answer}");
        let mut sure = request;
        sure["inglenook"]["min_confidence"] = json!(1.0);
        let declined = server.post("/v1/responses", sure).ok();
        assert_eq!(declined["inglenook"]["outcome"], "declined");
    }
}

#[test]
fn a_selected_text_is_the_only_source_and_its_citations_are_spans_of_it() {
    let server = server();
    let store = server.collection();
    let (file_id, _) = server.ingest(&store, "travel.txt", POLICY.as_bytes());
    let selected = "Some text. The keeper of the lighthouse is Maren Holt. She came by boat.";
    let response = server.post(
        "/v1/responses",
        json!({ "input": WHO, "inglenook": { "selected_text": selected } }),
    );
    let response = response.ok();
    assert_eq!(kinds(&response), ["message"]);
    assert_eq!(part(&response)["text"], SHOWN);
    let citation = &part(&response)["annotations"][0];
    let quote = "The keeper of the lighthouse is Maren Holt.";
    let start = selected.find(quote).unwrap();
    assert_eq!(citation["quote"], quote);
    assert_eq!(
        (&citation["start"], &citation["file_id"]),
        (&json!(start), &json!(""))
    );
    assert_eq!(response["inglenook"].get("confidence"), None);

    // A page shows other blanks than the document has.
    let selected = "Trips within the country need no approval. The daily   allowance\nis 42 euros. The office dog";
    for (model, expected) in [
        ("inglenook-quote", "The daily allowance is 42 euros."),
        ("scripted", "Trips within the country need no approval."),
    ] {
        let response = server.post(
            "/v1/responses",
            json!({
                "model": model,
                "input": "How much is the daily allowance?",
                "inglenook": { "selected_text": selected, "selected_file_id": file_id },
            }),
        );
        let response = response.ok();
        let citation = &part(&response)["annotations"][0];
        assert_eq!(citation["file_id"], file_id, "{response}");
        let place = |key: &str| citation[key].as_u64().unwrap() as usize;
        assert_eq!(
            &POLICY[place("start")..place("end")],
            citation["quote"].as_str().unwrap()
        );
        if model == "inglenook-quote" {
            assert_eq!(citation["quote"], expected);
        }
        assert!(place("start") >= POLICY.find("Trips within").unwrap());
    }
    let elsewhere = json!({ "selected_text": "No such words", "selected_file_id": file_id });
    let error = server.post(
        "/v1/responses",
        json!({ "input": WHO, "inglenook": elsewhere }),
    );
    assert_eq!(error.error(400)["param"], "inglenook.selected_text");
    let nowhere = json!({ "selected_text": "No such words", "selected_file_id": "file-none" });
    let error = server.post(
        "/v1/responses",
        json!({ "input": WHO, "inglenook": nowhere }),
    );
    assert_eq!(error.error(404)["param"], "inglenook.selected_file_id");
}

#[test]
fn an_answer_says_how_sure_it_is_and_is_declined_below_what_is_asked_for() {
    let server = server();
    let store = server.collection();
    server.ingest(&store, "lighthouse.md", LIGHTHOUSE.as_bytes());
    for mode in ["answer", "quote"] {
        let sure = ask(
            &server,
            &store,
            WHO,
            json!({ "inglenook": { "mode": mode } }),
        );
        let confidence = sure["inglenook"]["confidence"].as_f64().unwrap();
        assert!((0.5..=1.0).contains(&confidence), "{sure}");
        let unsure = ask(
            &server,
            &store,
            "Who keeps bees in the lighthouse garden at night?",
            json!({ "inglenook": { "mode": mode, "min_confidence": 0 } }),
        );
        assert!(
            unsure["inglenook"]["confidence"].as_f64().unwrap() < confidence,
            "{unsure}"
        );
        let declined = ask(
            &server,
            &store,
            WHO,
            json!({ "inglenook": { "mode": mode, "min_confidence": 1 } }),
        );
        assert_eq!(declined["inglenook"]["outcome"], "declined");
        assert_eq!(declined["inglenook"]["min_confidence"], 1.0);
        assert_eq!(part(&declined)["text"], NOT_FOUND);
        assert_eq!(declined["usage"]["output_tokens"], 0);
    }
}

#[test]
fn a_question_that_refers_to_the_one_before_is_searched_for_with_its_words() {
    let server = quoting();
    let store = server.collection();
    server.ingest(&store, "lighthouse.md", LIGHTHOUSE.as_bytes());
    server.ingest(&store, "travel.txt", POLICY.as_bytes());
    let first = ask(&server, &store, WHO, json!({}));
    assert_eq!(first["inglenook"].get("search_query"), None);
    let more = json!({ "previous_response_id": first["id"] });
    let next = ask(&server, &store, "When did she come?", more.clone());
    assert_eq!(
        next["inglenook"]["search_query"],
        "When did she come? keeper lighthouse"
    );
    assert_eq!(
        next["output"][0]["queries"],
        json!(["When did she come? keeper lighthouse"])
    );
    assert!(
        part(&next)["text"].as_str().unwrap().contains("1998"),
        "{next}"
    );
    let alone = ask(&server, &store, "How much is the daily allowance?", more);
    assert_eq!(alone["inglenook"].get("search_query"), None);

    // A chat model of the owner's writes the question anew.
    let server = crate::server();
    let store = server.collection();
    server.ingest(&store, "lighthouse.md", LIGHTHOUSE.as_bytes());
    let first = ask(&server, &store, WHO, json!({}));
    let more = json!({ "previous_response_id": first["id"] });
    let next = ask(&server, &store, "When did she come?", more);
    assert_eq!(next["inglenook"]["search_query"], SCRIPT);
}

#[test]
fn chat_completions_quote_and_decline_and_refuse_the_rest_by_name() {
    let server = server();
    let store = server.collection();
    server.ingest(&store, "lighthouse.md", LIGHTHOUSE.as_bytes());
    let chat = |wishes: Value| {
        let messages = json!([{ "role": "user", "content": WHO }]);
        let body = json!({ "messages": messages, "inglenook": wishes });
        server.post("/v1/chat/completions", body)
    };
    let said = |wishes: Value| {
        let completion = chat(wishes).ok();
        completion["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(said(json!({ "mode": "quote" })).contains("“The keeper"));
    assert_eq!(
        said(json!({ "mode": "quote", "min_confidence": 1 })),
        NOT_FOUND
    );
    assert_eq!(said(json!(null)), SCRIPT);
    for (param, wishes) in [
        ("inglenook", json!({ "mood": 1 })),
        ("inglenook.mode", json!({ "mode": "summary" })),
        ("inglenook.reader", json!({ "reader": "A sailor" })),
        ("inglenook.min_confidence", json!({ "min_confidence": 0.5 })),
        (
            "inglenook.min_confidence",
            json!({ "mode": "quote", "min_confidence": 2 }),
        ),
    ] {
        assert_eq!(chat(wishes.clone()).error(400)["param"], param, "{wishes}");
    }
}
