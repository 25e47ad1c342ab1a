//! The HTTP API through real sockets: the main job from upload to cited answer, and every kind of bad input.

mod common;

use common::{SCRIPT, SHOWN, Setup, models};
use inglenook::llm::testing::{Script, write_scripted_folder};
use serde_json::{Value, json};

const LIGHTHOUSE: &str = "# The lighthouse\n\nThe lighthouse stands on the northern cliff. The keeper of the \
     lighthouse is Maren Holt, who came in 1998.\n\n# The harbour\n\nThe harbour master sells smoked eel on Fridays. \
     Ferries leave at nine.\n";

fn question(collection: &str, text: &str) -> Value {
    json!({
        "input": text,
        "include": ["file_search_call.results"],
        "tools": [{ "type": "file_search", "vector_store_ids": [collection] }],
    })
}

#[test]
fn a_document_goes_in_and_a_cited_answer_comes_out() {
    let server = Setup::default().start();
    let collection = server.collection();
    let (file_id, document) = server.ingest(&collection, "lighthouse.md", LIGHTHOUSE.as_bytes());
    assert_eq!(document["status"], "completed", "{document}");

    let response = server
        .post(
            "/v1/responses",
            question(&collection, "Who is the keeper of the lighthouse?"),
        )
        .ok();
    assert_eq!(response["status"], "completed");
    let message = &response["output"][1]["content"][0];
    assert_eq!(message["text"], SHOWN);
    let annotations = message["annotations"].as_array().unwrap();
    assert_eq!(annotations.len(), 1, "{annotations:?}");
    let citation = &annotations[0];
    assert_eq!(citation["file_id"], file_id.as_str());
    let index = citation["index"].as_u64().unwrap() as usize;
    assert!(
        SHOWN
            .chars()
            .skip(index)
            .collect::<String>()
            .starts_with("[1]")
    );

    // The span is the document's own text, byte for byte.
    let (start, end) = (
        citation["start"].as_u64().unwrap() as usize,
        citation["end"].as_u64().unwrap() as usize,
    );
    assert_eq!(citation["quote"], &LIGHTHOUSE[start..end]);
    assert!(
        LIGHTHOUSE[start..end].contains("Maren Holt"),
        "{}",
        &LIGHTHOUSE[start..end]
    );
    let passage = server
        .get(&format!(
            "/api/files/{file_id}/passage?start={start}&end={end}"
        ))
        .ok();
    assert_eq!(passage["text"], citation["quote"]);
    assert_eq!(passage["page_first"], 1);
}

#[test]
fn a_streamed_answer_has_its_events_in_order() {
    let server = Setup::default().start();
    let collection = server.collection();
    server.ingest(&collection, "lighthouse.md", LIGHTHOUSE.as_bytes());
    let mut body = question(&collection, "Who is the keeper of the lighthouse?");
    body["stream"] = json!(true);
    let reply = server.post("/v1/responses", body);
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("text/event-stream")
    );
    let events = reply.events();
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    let mut order = kinds.clone();
    order.dedup();
    assert_eq!(
        order,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.file_search_call.in_progress",
            "response.file_search_call.searching",
            "response.file_search_call.completed",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.annotation.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let deltas = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta");
    let text: String = deltas
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(text, SHOWN);
    assert!(
        String::from_utf8(reply.body)
            .unwrap()
            .ends_with("data: [DONE]\n\n")
    );
}

#[test]
fn a_question_about_something_else_is_not_answered() {
    let server = Setup::default().args(&["--config", "strict.toml"]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("strict.toml"), "min_similarity = 0.999\n").unwrap();
    let server = server.in_dir(dir.path()).start();
    let collection = server.collection();
    server.ingest(&collection, "lighthouse.md", LIGHTHOUSE.as_bytes());
    let response = server
        .post(
            "/v1/responses",
            question(&collection, "What is the boiling point of tungsten?"),
        )
        .ok();
    let text = response["output"][1]["content"][0]["text"]
        .as_str()
        .unwrap();
    assert!(text.contains("could not find"), "{text}");
    assert_eq!(response["metadata"]["inglenook_outcome"], "not_found");
    assert_eq!(response["usage"]["output_tokens"], 0);
}

#[test]
fn chat_is_answered_whole_and_streamed_with_the_same_text() {
    let server = Setup::default().start();
    let body = json!({ "messages": [{ "role": "user", "content": "Hello" }] });
    let whole = server.post("/v1/chat/completions", body.clone()).ok();
    assert_eq!(whole["choices"][0]["message"]["content"], SCRIPT);
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    assert!(whole["usage"]["prompt_tokens"].as_u64().unwrap() > 0);

    let mut streamed = body;
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({ "include_usage": true });
    let chunks = server.post("/v1/chat/completions", streamed).events();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, SCRIPT);
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        last["usage"]["completion_tokens"],
        whole["usage"]["completion_tokens"]
    );
    assert_eq!(
        chunks[chunks.len() - 2]["choices"][0]["finish_reason"],
        "stop"
    );
}

#[test]
fn a_folder_with_safetensors_answers_as_a_chat_model() {
    let dir = tempfile::tempdir().unwrap();
    write_scripted_folder(dir.path(), &Script::once("A folder can speak too.")).unwrap();
    let server = Setup {
        chat_model: Some(dir.path().to_path_buf()),
        ..Setup::default()
    }
    .start();
    let body = json!({ "messages": [{ "role": "user", "content": "Hello" }] });
    let answer = server.post("/v1/chat/completions", body).ok();
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["content"], "A folder can speak too.");
    assert_eq!(choice["finish_reason"], "stop");
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let server = Setup::default().start();
    let body = json!({ "messages": [{ "role": "user", "content": "Hello" }], "stop": ["Maren Ho"], "logprobs": true });
    let whole = server.post("/v1/chat/completions", body).ok();
    assert_eq!(
        whole["choices"][0]["message"]["content"],
        "The keeper of the lighthouse is "
    );
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let short = json!({ "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 2 });
    assert_eq!(
        server.post("/v1/chat/completions", short).ok()["choices"][0]["finish_reason"],
        "length"
    );
}

#[test]
fn embeddings_come_as_numbers_and_as_base64() {
    let server = Setup::default().start();
    let as_float = server
        .post(
            "/v1/embeddings",
            json!({ "input": ["a lighthouse", "an eel"] }),
        )
        .ok();
    let vector: Vec<f32> =
        serde_json::from_value(as_float["data"][1]["embedding"].clone()).unwrap();
    let length: f32 = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!((length - 1.0).abs() < 1e-4, "{length}");
    let body = json!({ "input": "an eel", "encoding_format": "base64" });
    let as_base64 = server.post("/v1/embeddings", body).ok();
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(as_base64["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    assert_eq!(bytes.len(), vector.len() * 4);
    for (bytes, value) in bytes.chunks_exact(4).zip(&vector) {
        assert!((f32::from_le_bytes(bytes.try_into().unwrap()) - value).abs() < 1e-4);
    }
}

#[test]
fn documents_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::default().in_dir(dir.path()).start();
    let collection = server.collection();
    let (file_id, _) = server.ingest(&collection, "lighthouse.md", LIGHTHOUSE.as_bytes());
    server.signal("TERM");
    assert!(server.wait().success());

    let server = Setup::default().in_dir(dir.path()).start();
    assert_eq!(server.collection(), collection);
    let search = json!({ "query": "keeper of the lighthouse" });
    let found = server
        .post(&format!("/v1/vector_stores/{collection}/search"), search)
        .ok();
    assert_eq!(found["data"][0]["file_id"], file_id.as_str());
    let content = server.get(&format!("/v1/files/{file_id}/content"));
    assert_eq!(content.body, LIGHTHOUSE.as_bytes());
}

#[test]
fn a_deleted_document_answers_no_more() {
    let server = Setup::default().start();
    let collection = server.collection();
    let (file_id, _) = server.ingest(&collection, "lighthouse.md", LIGHTHOUSE.as_bytes());
    let search = format!("/v1/vector_stores/{collection}/search");
    let query = json!({ "query": "keeper of the lighthouse" });
    assert_ne!(server.post(&search, query.clone()).ok()["data"], json!([]));
    assert_eq!(
        server.delete(&format!("/v1/files/{file_id}")).ok()["deleted"],
        true
    );
    assert_eq!(server.post(&search, query).ok()["data"], json!([]));
    server.get(&format!("/v1/files/{file_id}")).error(404);
    server
        .get(&format!("/v1/vector_stores/{collection}/files/{file_id}"))
        .error(404);
}

#[test]
fn a_conversation_goes_on_from_a_stored_response() {
    let server = Setup::default().start();
    let first = server
        .post("/v1/responses", json!({ "input": "Hello" }))
        .ok();
    let id = first["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/v1/responses/{id}")).ok(), first);
    let body = json!({ "input": "And then?", "previous_response_id": id });
    let second = server.post("/v1/responses", body).ok();
    assert!(second["usage"]["input_tokens"].as_u64() > first["usage"]["input_tokens"].as_u64());
    let body = json!({ "input": "x", "previous_response_id": "resp_none" });
    assert_eq!(
        server.post("/v1/responses", body).error(400)["code"],
        "previous_response_not_found"
    );
    server.delete(&format!("/v1/responses/{id}")).ok();
    server.get(&format!("/v1/responses/{id}")).error(404);
}

#[test]
fn a_follow_up_reads_only_what_is_new() {
    let server = Setup::default().start();
    let collection = server.collection();
    let (file_id, _) = server.ingest(&collection, "lighthouse.md", LIGHTHOUSE.as_bytes());
    let ask_in = |collection: &str, question: &str, previous: Option<&Value>| {
        let tool = json!({ "type": "file_search", "vector_store_ids": [collection] });
        let mut body = json!({ "input": question, "tools": [tool], "model": "scripted" });
        body["include"] = json!(["file_search_call.results"]);
        body["previous_response_id"] = previous.map_or(Value::Null, |it| it["id"].clone());
        server.post("/v1/responses", body).ok()
    };
    let ask = |question: &str, previous: Option<&Value>| ask_in(&collection, question, previous);
    let tokens = |response: &Value| {
        let usage = &response["usage"];
        let cached = usage["input_tokens_details"]["cached_tokens"].as_u64();
        (usage["input_tokens"].as_u64().unwrap(), cached.unwrap())
    };
    let question = "Who is the keeper of the lighthouse?";
    let first = ask(question, None);
    let (num_first, cached) = tokens(&first);
    assert_eq!(cached, 0);
    let second = ask("Who is the keeper of the lighthouse today?", Some(&first));
    let (num_second, cached) = tokens(&second);
    // All but what comes after the first question, and the part of a block before it.
    assert!(num_first - cached < 32, "{cached} of {num_first}");
    // The answer and the question, but not the sources again.
    let num_new = num_second - num_first;
    assert!(num_new < num_first / 2, "{num_new} beside {num_first}");
    let third = ask("And who was it before, at the lighthouse?", Some(&second));
    let (_, cached) = tokens(&third);
    assert!(num_second - cached < 32, "{cached} of {num_second}");
    for response in [&first, &second, &third] {
        let content = &response["output"][1]["content"][0];
        assert_eq!(content["text"], SHOWN);
        let cited = &content["annotations"][0];
        assert_eq!(cited["file_id"], file_id.as_str());
        // What was found has the numbers that the answer cites it by.
        let mut results = response["output"][0]["results"].as_array().unwrap().iter();
        let found = results.find(|it| {
            it["start"].as_u64() <= cited["start"].as_u64()
                && cited["end"].as_u64() <= it["end"].as_u64()
        });
        assert_eq!(found.unwrap()["number"], cited["number"]);
    }

    // What this question may not see is not cited, though the one before it could.
    let other = server
        .post("/v1/vector_stores", json!({ "name": "other" }))
        .ok();
    let other = other["id"].as_str().unwrap();
    server.ingest(
        other,
        "keepers.md",
        b"# Keepers\n\nThe keeper of the lighthouse is paid well.",
    );
    let elsewhere = ask_in(other, question, Some(&third));
    assert_eq!(
        elsewhere["output"][1]["content"][0]["annotations"],
        json!([])
    );
    assert_eq!(elsewhere["output"][0]["results"][0]["number"], 3);

    // A deleted document is in no prompt any more, and is not cited.
    server.delete(&format!("/v1/files/{file_id}")).ok();
    server.ingest(
        &collection,
        "other.md",
        b"# Keepers\n\nA keeper of bees is a beekeeper.",
    );
    let fourth = ask("Who is the keeper of the lighthouse?", Some(&third));
    assert!(tokens(&fourth).0 < tokens(&third).0);
    let content = &fourth["output"][1]["content"][0];
    assert!(
        !content["text"].as_str().unwrap().contains("[1]"),
        "{content}"
    );
    assert_eq!(content["annotations"], json!([]));
}

#[test]
fn unreadable_requests_are_refused_by_name() {
    let server = Setup::default().start();
    let chat = "/v1/chat/completions";
    let message = json!([{ "role": "user", "content": "Hello" }]);
    let wrong_json = server
        .post_bytes(chat, b"{\"messages\": [", "application/json")
        .error(400);
    assert!(
        wrong_json["message"]
            .as_str()
            .unwrap()
            .contains("not valid JSON"),
        "{wrong_json}"
    );
    server.post_bytes(chat, b"", "application/json").error(400);
    server
        .post_bytes(chat, b"{\"messages\":\"\xff\xfe\"}", "application/json")
        .error(400);
    let cases = [
        (json!({}), "messages"),
        (json!({ "messages": "hi" }), "messages"),
        (json!({ "messages": [] }), "messages"),
        (
            json!({ "messages": [{ "role": "king", "content": "x" }] }),
            "messages[0].role",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": 5 }] }),
            "messages[0].content",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }),
            "messages[0].content[0]",
        ),
        (
            json!({ "messages": message, "temperature": "hot" }),
            "temperature",
        ),
        (
            json!({ "messages": message, "temperature": 3 }),
            "temperature",
        ),
        (json!({ "messages": message, "top_p": -1 }), "top_p"),
        (json!({ "messages": message, "n": 0 }), "n"),
        (
            json!({ "messages": message, "logit_bias": { "x": 1 } }),
            "logit_bias",
        ),
        (
            json!({ "messages": message, "top_logprobs": 2 }),
            "top_logprobs",
        ),
        (
            json!({ "messages": message, "response_format": { "type": "xml" } }),
            "response_format",
        ),
        (
            json!({ "messages": message, "tools": [{ "type": "function" }] }),
            "tools[0].function",
        ),
    ];
    for (body, param) in cases {
        let error = server.post(chat, body.clone()).error(400);
        assert_eq!(error["param"], param, "{body} -> {error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let body = json!({ "messages": message, "model": "gpt-unknown" });
    assert_eq!(
        server.post(chat, body).error(404)["code"],
        "model_not_found"
    );
    server.get("/v1/models/gpt-unknown").error(404);
    server.get("/v1/nothing/here").error(404);
    server.get("/v1/files/file-none").error(404);
    server
        .post("/v1/vector_stores/vs_none/search", json!({ "query": "x" }))
        .error(404);
    server
        .post("/v1/embeddings", json!({ "input": [] }))
        .error(400);
    server
        .post("/v1/embeddings", json!({ "input": [1, 2, 3] }))
        .error(400);
    server
        .post("/v1/embeddings", json!({ "input": "x", "model": "other" }))
        .error(404);
}

#[test]
fn fields_that_clients_add_are_ignored_and_null_is_absent() {
    let server = Setup::default().start();
    let body = json!({
        "model": null, "temperature": null, "stop": null, "tools": null, "stream": null, "unknown_new_field": {"a": 1},
        "messages": [{ "role": "user", "content": "Hello", "name": "ann" }],
    });
    server.post("/v1/chat/completions", body).ok();
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_counts() {
    let server = Setup::default().args(&["--config", "short.toml"]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("short.toml"), "max_context = 256\n").unwrap();
    let server = server.in_dir(dir.path()).start();
    let long = "word ".repeat(2000);
    let body = json!({ "messages": [{ "role": "user", "content": long }] });
    let error = server.post("/v1/chat/completions", body).error(400);
    assert_eq!(error["code"], "context_length_exceeded");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("256"), "{message}");
    let numbers = message
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|text| text.parse::<usize>().ok());
    assert!(
        numbers.max().unwrap() > 2000,
        "the prompt's own count is named: {message}"
    );

    let error = server
        .post("/v1/embeddings", json!({ "input": long }))
        .error(400);
    assert_eq!(error["code"], "context_length_exceeded");
}

#[test]
fn bad_files_are_refused_with_a_reason_and_the_server_goes_on() {
    let server = Setup::default().start();
    let collection = server.collection();
    assert!(
        server.upload("empty.txt", b"").error(400)["message"]
            .as_str()
            .unwrap()
            .contains("empty")
    );
    server
        .post_bytes("/v1/files", b"nonsense", "multipart/form-data; boundary=x")
        .error(400);
    let latin_1 = b"--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"caf\xe9.txt\"\r\n\r\nWords.\r\n--x--\r\n";
    let error = server
        .post_bytes("/v1/files", latin_1, "multipart/form-data; boundary=x")
        .error(400);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("name of a file in UTF-8"), "{message}");
    let no_pages = pdf_without_pages();
    let cases: [(&str, &[u8], &str); 4] = [
        ("picture.pdf", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG"),
        ("broken.pdf", b"%PDF-1.7\nnothing follows", "cannot be read"),
        ("no-pages.pdf", &no_pages, "page"),
        ("data.bin", &[0, 1, 2, 3, 0, 0, 255, 254], "binary"),
    ];
    for (name, content, reason) in cases {
        let (_, document) = server.ingest(&collection, name, content);
        assert_eq!(document["status"], "failed", "{name}: {document}");
        let message = document["last_error"]["message"].as_str().unwrap();
        assert!(message.contains(reason), "{name}: {message}");
    }
    let (_, document) = server.ingest(
        &collection,
        "latin.txt",
        b"caf\xe9 cr\xe8me br\xfbl\xe9e is served here daily",
    );
    assert_eq!(document["status"], "completed", "{document}");
    assert_eq!(server.get("/health").ok()["status"], "ok");
}

/// A PDF that is whole but for its pages.
fn pdf_without_pages() -> Vec<u8> {
    let mut pdf = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    for object in [
        "1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n",
        "2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\nendobj\n",
    ] {
        offsets.push(pdf.len());
        pdf.extend_from_slice(object.as_bytes());
    }
    let start = pdf.len();
    pdf.extend_from_slice(b"xref\n0 3\n0000000000 65535 f \n");
    for offset in offsets {
        pdf.extend_from_slice(format!("{offset:010} 00000 n \n").as_bytes());
    }
    pdf.extend_from_slice(
        format!("trailer\n<</Size 3/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n").as_bytes(),
    );
    pdf
}

#[test]
fn an_encrypted_pdf_is_refused_by_name() {
    let Some(path) = inglenook::test_data::require("docs/pdf_encrypted/r3-user-password.pdf")
    else {
        return;
    };
    let server = Setup::default().start();
    let content = std::fs::read(path).unwrap();
    let (_, document) = server.ingest(&server.collection(), "secret.pdf", &content);
    assert_eq!(document["status"], "failed");
    let message = document["last_error"]["message"].as_str().unwrap();
    assert!(
        message.contains("password") || message.contains("encrypted"),
        "{message}"
    );
}

#[test]
fn variants_of_the_base_url_lead_to_the_same_place() {
    let server = Setup::default().start();
    for path in ["/v1/models", "/models", "//v1//models", "/v1/models/"] {
        assert_eq!(server.get(path).ok()["object"], "list", "{path}");
    }
    let id = models()
        .scripted
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    assert_eq!(
        server.get(&format!("/v1/models/{id}")).ok()["id"],
        id.as_str()
    );
}

#[test]
fn every_answer_has_a_request_id() {
    let server = Setup::default().start();
    assert!(
        server
            .get("/v1/models")
            .header("x-request-id")
            .unwrap()
            .starts_with("req_")
    );
    assert!(
        server
            .get("/v1/none")
            .header("x-request-id")
            .unwrap()
            .starts_with("req_")
    );
}

#[test]
fn attribute_filters_limit_the_search() {
    let server = Setup::default().start();
    let collection = server.collection();
    let mut ids = Vec::new();
    for year in [2019, 2024] {
        let content = format!("The keeper of the lighthouse wrote report {year}.");
        let id = server.upload("report.txt", content.as_bytes()).ok()["id"]
            .as_str()
            .unwrap()
            .to_string();
        let body = json!({ "file_id": id, "attributes": { "year": year } });
        server
            .post(&format!("/v1/vector_stores/{collection}/files"), body)
            .ok();
        server.wait_for(&collection, &id);
        ids.push(id);
    }
    let body = json!({ "query": "lighthouse report", "filters": { "type": "gt", "key": "year", "value": 2020 } });
    let found = server
        .post(&format!("/v1/vector_stores/{collection}/search"), body)
        .ok();
    let found: Vec<&str> = found["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| hit["file_id"].as_str().unwrap())
        .collect();
    assert_eq!(found, [ids[1].as_str()]);
    let body = json!({ "query": "x", "filters": { "type": "like", "key": "year", "value": 1 } });
    server
        .post(&format!("/v1/vector_stores/{collection}/search"), body)
        .error(400);
}

#[test]
fn the_weights_of_a_search_decide_what_it_finds() {
    let server = Setup::default().start();
    let collection = server.collection();
    server.ingest(&collection, "a.txt", b"The keeper winds the clockwork.");
    server.ingest(&collection, "b.txt", b"Bees swarm in June.");
    let search = |meaning: f64, words: f64| {
        let weights = json!({ "embedding_weight": meaning, "text_weight": words });
        let body = json!({ "query": "clockwork", "ranking_options": { "hybrid_search": weights } });
        server.post(&format!("/v1/vector_stores/{collection}/search"), body)
    };
    let names = |reply: Value| -> Vec<String> {
        let hits = reply["data"].as_array().unwrap().iter();
        hits.map(|hit| hit["filename"].as_str().unwrap().to_string())
            .collect()
    };
    assert_eq!(names(search(0.0, 1.0).ok()), ["a.txt"]);
    assert_eq!(names(search(1.0, 0.0).ok()).len(), 2);
    for (meaning, words) in [(0.0, 0.0), (-1.0, 1.0)] {
        let error = search(meaning, words).error(400);
        assert_eq!(error["param"], "ranking_options.hybrid_search");
    }
}
