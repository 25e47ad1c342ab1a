//! Answers that are given again, and those that cannot be read any more.

use serde_json::{Value, json};

use crate::{LIGHTHOUSE, NOT_FOUND, POLICY, WHO, ask, body, kinds, part, search, server, with};

#[test]
fn the_same_question_is_answered_from_the_cache_until_anything_changes() {
    let server = server();
    let store = server.collection();
    let (file_id, _) = server.ingest(&store, "lighthouse.md", LIGHTHOUSE.as_bytes());
    let other = server
        .post("/v1/vector_stores", json!({ "name": "other" }))
        .ok();
    let other = other["id"].as_str().unwrap().to_owned();
    server.ingest(&other, "travel.txt", POLICY.as_bytes());
    let is_cached = |more: Value| {
        let response = ask(&server, &store, WHO, more);
        response["inglenook"]["cached"].as_bool().unwrap()
    };
    let first = ask(&server, &store, WHO, json!({}));
    assert_eq!(first["inglenook"]["cached"], false);
    let again = ask(&server, &store, &format!(" {WHO}\n"), json!({}));
    assert_eq!(again["inglenook"]["cached"], true);
    assert_eq!(part(&again), part(&first));
    assert_eq!(kinds(&again), kinds(&first));
    assert_ne!(again["id"], first["id"]);

    // A hit streams like the original.
    let streamed = body(&store, WHO, json!({ "stream": true }));
    let events = server.post("/v1/responses", streamed).events();
    let types: Vec<&str> = events
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    for kind in [
        "response.file_search_call.completed",
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.completed",
    ] {
        assert!(types.contains(&kind), "{types:?}");
    }
    let last = &events.last().unwrap()["response"];
    assert_eq!(last["inglenook"]["cached"], true);
    assert_eq!(part(last), part(&first));

    let filter = json!({ "type": "ne", "key": "name", "value": "x" });
    let filtered =
        json!([{ "type": "file_search", "vector_store_ids": [store], "filters": filter }]);
    for more in [
        json!({ "user": "another" }),
        json!({ "tools": filtered }),
        json!({ "tools": search(&other) }),
        json!({ "tools": [{ "type": "file_search", "vector_store_ids": [store], "max_num_results": 3 }] }),
        json!({ "instructions": "Be brief." }),
        json!({ "max_output_tokens": 500 }),
        json!({ "seed": 7 }),
        json!({ "inglenook": { "reader": "A sailor" } }),
        json!({ "inglenook": { "mode": "quote" } }),
        json!({ "inglenook": { "min_confidence": 0.1 } }),
        json!({ "inglenook": { "cache": false } }),
        json!({ "temperature": 0.2 }),
    ] {
        assert!(!is_cached(more.clone()), "{more}");
    }
    assert!(is_cached(json!({})));
    // Words are drawn by chance, unless the caller says that it does not matter.
    let drawn = json!({ "temperature": 0.2, "inglenook": { "cache": true } });
    assert!(!is_cached(drawn.clone()) && is_cached(drawn));
    // What goes on with something is answered anew.
    assert!(!is_cached(json!({ "previous_response_id": first["id"] })));

    // An attribute decides what filters let through.
    let path = format!("/v1/vector_stores/{store}/files/{file_id}");
    server
        .post(&path, json!({ "attributes": { "name": "y" } }))
        .ok();
    assert!(!is_cached(json!({})) && is_cached(json!({})));
    let (second_id, _) = server.ingest(&store, "more.txt", b"The tower is white and red.");
    assert!(!is_cached(json!({})) && is_cached(json!({})));
    server.delete(&format!("/v1/files/{second_id}")).ok();
    assert!(!is_cached(json!({})) && is_cached(json!({})));
    server.delete(&format!("/v1/files/{file_id}")).ok();
    let gone = ask(&server, &store, WHO, json!({}));
    assert_eq!(part(&gone)["text"], NOT_FOUND);
    assert_eq!(gone["inglenook"]["cached"], false);
}

#[test]
fn a_cache_that_is_off_keeps_nothing() {
    let server = with(&[("INGLENOOK_ANSWER_CACHE", "0")]);
    let store = server.collection();
    server.ingest(&store, "lighthouse.md", LIGHTHOUSE.as_bytes());
    for _ in 0..2 {
        let response = ask(
            &server,
            &store,
            WHO,
            json!({ "inglenook": { "cache": true } }),
        );
        assert_eq!(response["inglenook"]["cached"], false);
    }
}

#[test]
fn what_a_deleted_file_said_cannot_be_read_any_more() {
    let server = server();
    let store = server.collection();
    let (file_id, _) = server.ingest(&store, "lighthouse.md", LIGHTHOUSE.as_bytes());
    let conversation = server.post("/v1/conversations", json!({})).ok()["id"].clone();
    let include = json!(["file_search_call.results"]);
    let written = ask(
        &server,
        &store,
        WHO,
        json!({ "include": include, "conversation": conversation }),
    );
    let quoted = ask(
        &server,
        &store,
        WHO,
        json!({ "include": include, "model": "inglenook-quote" }),
    );
    let background = json!({ "include": include, "background": true, "stream": true, "model": "inglenook-quote" });
    let events = server
        .post("/v1/responses", body(&store, WHO, background))
        .events();
    let streamed = events[0]["response"]["id"].as_str().unwrap();
    let question = json!([{ "role": "user", "content": WHO }]);
    let chat = json!({ "model": "inglenook-quote", "messages": question, "store": true });
    let chat = server.post("/v1/chat/completions", chat).ok();
    let [written, quoted, chat] = [&written, &quoted, &chat].map(|it| it["id"].as_str().unwrap());
    let conversation = conversation.as_str().unwrap();
    let paths = [
        format!("/v1/responses/{written}"),
        format!("/v1/responses/{quoted}"),
        format!("/v1/responses/{streamed}?stream=true"),
        format!("/v1/conversations/{conversation}/items?include[]=file_search_call.results"),
        format!("/v1/chat/completions/{chat}"),
    ];
    let read = |path: &String| String::from_utf8(server.get(path).body).unwrap();
    for path in &paths {
        assert!(read(path).contains("who came in 1998"), "{path}");
    }
    server.delete(&format!("/v1/files/{file_id}")).ok();
    for path in &paths {
        let text = read(path);
        // The year alone may be a part of an id.
        assert!(!text.contains("in 1998"), "{path}: {text}");
        // That it was cited can still be told.
        assert!(text.contains(&file_id), "{path}: {text}");
    }
    let response = server.get(&paths[1]).ok();
    let part = part(&response);
    let index = part["annotations"][0]["index"].as_u64().unwrap() as usize;
    let rest: String = part["text"].as_str().unwrap().chars().skip(index).collect();
    assert_eq!(rest, "[1]");
}
