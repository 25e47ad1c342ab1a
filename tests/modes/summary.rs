//! Summaries, by a chat model and without one.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use crate::common::{SHOWN, Setup, TestServer};
use crate::{NOT_FOUND, POLICY, ask, body, part, quoting, search, with};

/// Several documents with passages that each say something else.
fn fill(server: &TestServer, store: &str, num: usize) -> Vec<String> {
    let log = |number: usize| {
        let line = |day: usize| {
            format!(
                "On day {number}{day} the keeper of lighthouse {number} wrote that the wind blew with force {day}. "
            )
        };
        format!(
            "Log {number}.\n\n{}",
            (10..40).map(line).collect::<String>()
        )
    };
    let ingested = (0..num).map(|number| {
        let name = format!("log{number}.txt");
        server.ingest(store, &name, log(number).as_bytes()).0
    });
    ingested.collect()
}

#[test]
fn documents_are_summarised_passage_by_passage_and_what_was_written_is_kept() {
    let server = with(&[("INGLENOOK_MAX_SUMMARY_PASSAGES", "12")]);
    let store = server.collection();
    let files = fill(&server, &store, 2);
    let summary = json!({ "inglenook": { "mode": "summary" } });
    let mut streamed = summary.clone();
    streamed["stream"] = json!(true);
    let events = server
        .post(
            "/v1/responses",
            body(&store, "Summarise the logs", streamed),
        )
        .events();
    let begun = &events[0]["response"]["inglenook"]["summary"];
    let num_passages = begun["passages"].as_u64().unwrap();
    assert!(num_passages >= 4, "{begun}");
    assert_eq!(
        (&begun["method"], &begun["documents"]),
        (&json!("written"), &json!(2))
    );
    assert_eq!(begun["cached_passages"], 0);
    let progress: Vec<&Value> = events
        .iter()
        .filter(|it| it["type"] == "response.inglenook.progress")
        .collect();
    assert_eq!(progress[0]["done"], 0);
    let last_passage = progress
        .iter()
        .rfind(|it| it["stage"] == "passages")
        .unwrap();
    assert_eq!(
        (&last_passage["done"], &last_passage["total"]),
        (&json!(num_passages), &json!(num_passages))
    );
    let response = &events.last().unwrap()["response"];
    assert_eq!(part(response)["text"], SHOWN);
    let citation = &part(response)["annotations"][0];
    assert_eq!(
        (&citation["number"], &citation["file_id"]),
        (&json!(1), &json!(files[0]))
    );
    let spent = response["usage"]["output_tokens"].as_u64().unwrap();

    let again = ask(&server, &store, "Summarise the logs again", summary.clone());
    assert_eq!(
        again["inglenook"]["summary"]["cached_passages"],
        num_passages
    );
    assert!(
        again["usage"]["output_tokens"].as_u64().unwrap() < spent,
        "{again}"
    );
    // One of them, by its id.
    let tools =
        json!([{ "type": "file_search", "vector_store_ids": [store], "file_ids": [files[1]] }]);
    let mut one = summary.clone();
    one["tools"] = tools;
    let one = ask(&server, &store, "Summarise it", one);
    assert_eq!(one["inglenook"]["summary"]["documents"], 1);
    assert_eq!(part(&one)["annotations"][0]["file_id"], files[1]);

    // With a document go the summaries of its passages.
    for file in &files {
        server.delete(&format!("/v1/files/{file}")).ok();
    }
    let nothing = ask(&server, &store, "Summarise", summary.clone());
    assert_eq!(part(&nothing)["text"], NOT_FOUND);
    fill(&server, &store, 2);
    let anew = ask(&server, &store, "Summarise", summary.clone());
    assert_eq!(anew["inglenook"]["summary"]["cached_passages"], 0);

    fill(&server, &store, 8);
    let error = server
        .post("/v1/responses", body(&store, "Summarise", summary))
        .error(400);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("max_summary_passages allows 12"),
        "{message}"
    );
    assert_eq!(error["param"], "tools");
    let functions = json!([search(&store)[0], { "type": "function", "name": "f" }]);
    let refused = json!({ "inglenook": { "mode": "summary" }, "tools": functions });
    let error = server
        .post("/v1/responses", body(&store, "Summarise", refused))
        .error(400);
    assert_eq!(error["param"], "tools");
}

#[test]
fn a_document_that_is_deleted_is_not_summarised_any_further() {
    let server = Setup {
        embedding_model: None,
        ..Setup::endless()
    }
    .start();
    let store = server.collection();
    let files = fill(&server, &store, 10);
    let more = json!({ "inglenook": { "mode": "summary" }, "stream": true });
    let request = body(&store, "Summarise the logs", more).to_string();
    let lines = BufReader::new(server.open("POST", "/v1/responses", &request)).lines();
    let mut last = Value::Null;
    let mut progress = Vec::new();
    for line in lines {
        let line = line.unwrap();
        let Some(event) = line.strip_prefix("data: ").filter(|it| *it != "[DONE]") else {
            continue;
        };
        let event: Value = serde_json::from_str(event).unwrap();
        if event["type"] == "response.inglenook.progress" {
            progress.push(event["done"].as_u64().unwrap());
            if progress.len() == 2 {
                for file in &files {
                    server.delete(&format!("/v1/files/{file}")).ok();
                }
            }
        }
        last = event;
    }
    assert_eq!(last["type"], "response.completed", "{last}");
    let response = &last["response"];
    assert_eq!(part(response)["text"], NOT_FOUND, "{progress:?}");
    assert_eq!(response["inglenook"]["outcome"], "not_found");
    assert_eq!(response["metadata"]["inglenook_outcome"], "not_found");
    // Only those that were being written were still written.
    let num_passages = response["inglenook"]["summary"]["passages"].as_u64();
    assert!(
        progress.len() as u64 * 2 < num_passages.unwrap(),
        "{progress:?}"
    );
}

#[test]
fn notes_that_do_not_fit_are_merged_in_groups_until_they_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("settings.toml"), "max_context = 2048\n").unwrap();
    let server = Setup {
        embedding_model: None,
        ..Setup::default()
    };
    let server = server
        .in_dir(dir.path())
        .args(&["--config", "settings.toml"])
        .start();
    let store = server.collection();
    fill(&server, &store, 4);
    let more = json!({ "inglenook": { "mode": "summary" }, "stream": true });
    let events = server
        .post("/v1/responses", body(&store, "Summarise the logs", more))
        .events();
    assert!(
        events
            .iter()
            .any(|it| it["stage"] == "groups" && it["done"] == it["total"]),
        "{:?}",
        events.iter().map(|it| &it["type"]).collect::<Vec<_>>()
    );
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed", "{last}");
    assert_eq!(part(&last["response"])["text"], SHOWN);
    let input = last["response"]["usage"]["input_tokens"].as_u64().unwrap();
    assert!(input > 2048, "all prompts are counted: {input}");
}

#[test]
fn without_a_chat_model_a_summary_is_made_of_sentences_and_says_so() {
    let server = quoting();
    let store = server.collection();
    let (file_id, _) = server.ingest(&store, "travel.txt", POLICY.as_bytes());
    let response = ask(
        &server,
        &store,
        "Summarise",
        json!({ "inglenook": { "mode": "summary" } }),
    );
    let about = &response["inglenook"];
    assert_eq!(
        (&about["mode"], &about["summary"]["method"]),
        (&json!("summary"), &json!("extractive"))
    );
    let text = part(&response)["text"].as_str().unwrap();
    assert!(
        text.starts_with("Sentences of the documents, in their order:\n\n“"),
        "{text}"
    );
    let citations = part(&response)["annotations"].as_array().unwrap();
    assert!(citations.len() >= 2, "{response}");
    let mut last = 0;
    for citation in citations {
        let place = |key: &str| citation[key].as_u64().unwrap() as usize;
        assert_eq!(
            &POLICY[place("start")..place("end")],
            citation["quote"].as_str().unwrap()
        );
        assert_eq!(citation["file_id"], file_id);
        assert!(place("start") >= last);
        last = place("end");
        let rest: String = text.chars().skip(place("index")).collect();
        assert!(
            rest.starts_with(&format!("[{}]", citation["number"])),
            "{rest}"
        );
    }
}
