//! What a search can be asked to do, over HTTP and on the command line: fusion, diversity, neighbours, explanations.

mod common;

use common::{Setup, TestServer, models, program};
use serde_json::{Value, json};

/// A store with a text of many passages, and one with a passage of its own.
fn with_documents(server: &TestServer) -> (String, String) {
    let store = server
        .post("/v1/vector_stores", json!({ "name": "a" }))
        .ok();
    let store = store["id"].as_str().unwrap().to_owned();
    let chunking = json!({ "type": "static", "static": { "max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20 } });
    let file = server.upload("book.txt", book().as_bytes()).ok()["id"].clone();
    let file = file.as_str().unwrap().to_owned();
    let body = json!({ "file_id": file, "chunking_strategy": chunking });
    server
        .post(&format!("/v1/vector_stores/{store}/files"), body)
        .ok();
    assert_eq!(server.wait_for(&store, &file)["status"], "completed");
    server.ingest(
        &store,
        "other.txt",
        b"The zeppelin lands on the roof of the library.",
    );
    (store, file)
}

/// Sentences that are all different, with a rare word in one of them.
fn book() -> String {
    let sentence = |at: usize| match at {
        60 => "The zeppelin lands beside the lighthouse at noon. ".to_owned(),
        _ => format!(
            "On day {at} the keeper writes {} lines about the weather. ",
            at * 7
        ),
    };
    (0..120).map(sentence).collect()
}

fn search(server: &TestServer, store: &str, ranking: Value, explain: bool) -> Value {
    let body = json!({
        "query": "zeppelin lighthouse", "max_num_results": 3, "explain": explain, "ranking_options": ranking,
    });
    server
        .post(&format!("/v1/vector_stores/{store}/search"), body)
        .ok()
}

#[test]
fn a_search_is_weighed_fused_and_explained_as_it_is_asked() {
    let server = Setup::default().start();
    let (store, _) = with_documents(&server);
    let plain = search(&server, &store, json!({}), false);
    assert!(plain.get("timings").is_none() && plain.get("notes").is_none());
    assert!(plain["data"][0].get("explanation").is_none());

    let words = search(&server, &store, json!({ "alpha": 0.0 }), true);
    let first = &words["data"][0];
    let explained = &first["explanation"];
    assert_eq!(
        explained["matched_words"],
        json!(["zeppelin", "lighthouse"])
    );
    assert_eq!(
        (&explained["words_rank"], &explained["fused_rank"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(explained["similarity"], Value::Null);
    assert_eq!(first["score"], explained["words_score"]);
    assert!(words["timings"]["total_ms"].as_f64().unwrap() > 0.0);

    let meaning = search(&server, &store, json!({ "alpha": 1.0 }), true);
    let explained = &meaning["data"][0]["explanation"];
    assert_eq!(
        (&explained["words_rank"], &explained["words_score"]),
        (&Value::Null, &json!(0.0))
    );
    assert_eq!(meaning["data"][0]["score"], explained["similarity"]);

    let both = search(&server, &store, json!({ "alpha": 0.25 }), true);
    for hit in both["data"].as_array().unwrap() {
        let explained = &hit["explanation"];
        let number = |name: &str| explained[name].as_f64().unwrap();
        let expected = 0.25 * number("similarity").max(0.0) + 0.75 * number("words_score");
        assert!(
            (hit["score"].as_f64().unwrap() - expected).abs() < 1e-4,
            "{hit}"
        );
    }

    let fused = search(
        &server,
        &store,
        json!({ "fusion": "reciprocal_rank" }),
        true,
    );
    for hit in fused["data"].as_array().unwrap() {
        let share = |name: &str| {
            hit["explanation"][name]
                .as_f64()
                .map_or(0.0, |rank| 61.0 / (60.0 + rank))
        };
        let expected = (share("similarity_rank") + share("words_rank")) / 2.0;
        assert!(
            (hit["score"].as_f64().unwrap() - expected).abs() < 1e-4,
            "{hit}"
        );
    }
}

#[test]
fn chunks_side_by_side_become_one_exact_span() {
    let server = Setup::default().start();
    let (store, file) = with_documents(&server);
    let alone = search(&server, &store, json!({ "alpha": 0.0 }), false);
    let joined = search(
        &server,
        &store,
        json!({ "alpha": 0.0, "neighbors": 1 }),
        true,
    );
    let of_book = |found: &Value| -> Value {
        let hits = found["data"].as_array().unwrap().iter();
        hits.clone()
            .find(|hit| hit["file_id"] == file.as_str())
            .unwrap()
            .clone()
    };
    let (alone, joined) = (of_book(&alone), of_book(&joined));
    let at = |hit: &Value, name: &str| hit[name].as_u64().unwrap() as usize;
    assert!(at(&joined, "start") < at(&alone, "start") && at(&alone, "end") < at(&joined, "end"));
    let text = book();
    let shown = joined["content"][0]["text"].as_str().unwrap();
    assert_eq!(shown, &text[at(&joined, "start")..at(&joined, "end")]);
    assert!(
        !joined["explanation"]["joined"]
            .as_array()
            .unwrap()
            .is_empty()
    );

    // No part of the text is in two passages.
    let body = json!({
        "query": "keeper writes lines about the weather", "max_num_results": 5,
        "ranking_options": { "neighbors": 1 },
    });
    let found = server
        .post(&format!("/v1/vector_stores/{store}/search"), body)
        .ok();
    let hits = found["data"].as_array().unwrap().iter();
    let mut spans: Vec<_> = hits
        .filter(|hit| hit["file_id"] == file.as_str())
        .map(|hit| (at(hit, "start"), at(hit, "end")))
        .collect();
    spans.sort();
    // But for the overlap of chunks at the edges of passages that would be too long as one.
    assert!(
        spans
            .windows(2)
            .all(|two| two[0].1 < two[1].1 && two[0].0 < two[1].0),
        "{spans:?}"
    );
}

#[test]
fn a_question_goes_on_with_the_joined_sources_that_it_was_shown() {
    let server = Setup::default().start();
    let (store, _) = with_documents(&server);
    let tool = |neighbors: Value| {
        json!([{ "type": "file_search", "vector_store_ids": [store], "max_num_results": 1,
                 "ranking_options": { "neighbors": neighbors } }])
    };
    let tokens = |neighbors: Value, previous: &Value| {
        let body = json!({
            "model": "scripted", "input": "And the roof?", "tools": tool(neighbors), "tool_choice": "none",
            "previous_response_id": previous,
        });
        let counted = server.post("/v1/responses/input_tokens", body).ok();
        counted["input_tokens"].as_u64().unwrap()
    };
    let ask = |neighbors: Value| {
        let body = json!({
            "model": "scripted", "input": "zeppelin lighthouse", "tools": tool(neighbors), "max_output_tokens": 40,
        });
        server.post("/v1/responses", body).ok()["id"].clone()
    };
    let (alone, joined) = (ask(Value::Null), ask(json!(1)));
    // What is continued still has the neighbours in its prompt.
    let (alone, joined) = (tokens(Value::Null, &alone), tokens(Value::Null, &joined));
    assert!(joined > alone + 50, "{joined} {alone}");
}

#[test]
fn what_is_asked_of_a_ranking_is_checked() {
    let server = Setup::default().start();
    let (store, _) = with_documents(&server);
    for (field, ranking) in [
        ("alpha", json!({ "alpha": 1.5 })),
        (
            "alpha",
            json!({ "alpha": 0.5, "hybrid_search": { "embedding_weight": 1, "text_weight": 1 } }),
        ),
        ("diversity", json!({ "diversity": -0.1 })),
        ("neighbors", json!({ "neighbors": 5 })),
        ("ranker", json!({ "ranker": "nobody" })),
    ] {
        let body = json!({ "query": "mill", "ranking_options": ranking });
        let error = server
            .post(&format!("/v1/vector_stores/{store}/search"), body)
            .error(400);
        assert_eq!(
            error["param"],
            format!("ranking_options.{field}"),
            "{error}"
        );
        let tool = json!({ "type": "file_search", "vector_store_ids": [store], "ranking_options": ranking });
        let body = json!({ "model": "inglenook-quote", "input": "mill", "tools": [tool] });
        let error = server.post("/v1/responses", body).error(400);
        assert_eq!(
            error["param"],
            format!("tools[0].ranking_options.{field}"),
            "{error}"
        );
    }
}

#[test]
fn an_answer_from_documents_tells_how_its_passages_were_found() {
    let server = Setup::default().start();
    let (store, _) = with_documents(&server);
    let tool = json!({
        "type": "file_search", "vector_store_ids": [store], "explain": true, "ranking_options": { "diversity": 0.3 },
    });
    let body = json!({
        "model": "inglenook-quote", "input": "Where does the zeppelin land?", "tools": [tool],
        "include": ["file_search_call.results"],
    });
    let response = server.post("/v1/responses", body).ok();
    let call = &response["output"][0];
    assert!(
        call["timings"]["total_ms"].as_f64().unwrap() > 0.0,
        "{call}"
    );
    let results = call["results"].as_array().unwrap();
    assert!(
        results
            .iter()
            .all(|it| it["explanation"]["diversity_score"].is_number())
    );
}

#[test]
fn the_command_line_shows_passages_with_their_scores() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = program(dir.path())
            .arg("--embedding-model")
            .arg(&models().embedder)
            .args(["--chat-model", "none"])
            .args(args)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
            error,
        )
    };
    let file = dir.path().join("roof.txt");
    std::fs::write(&file, "The zeppelin lands on the roof.").unwrap();
    let (is_success, _, error) = run(&["ingest", file.to_str().unwrap()]);
    assert!(is_success, "{error}");
    let (is_success, shown, error) = run(&["search", "zeppelin", "--explain", "--alpha", "0.3"]);
    assert!(is_success, "{error}");
    for part in [
        "[1] ",
        "roof.txt",
        "The zeppelin lands on the roof.",
        "fused",
        ": zeppelin",
        " ms",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let (_, shown, _) = run(&["search", "zeppelin", "--json", "--top-k", "1"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["data"][0]["filename"], "roof.txt");
    let (is_success, _, error) = run(&["search", "zeppelin", "--alpha", "7"]);
    assert!(!is_success && error.contains("--alpha is 7"), "{error}");
}
