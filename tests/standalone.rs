//! Questions of a conversation are found better when they are made to stand alone: measured with the embedder that comes with
//! the program, on conversations made of public questions.

mod common;

use std::collections::HashMap;

use common::collection::{Loaded, id, judgments, lines, load};
use common::{Setup, TestServer};
use inglenook::test_data;
use serde_json::{Value, json};

/// Conversations that are held, unless INGLENOOK_TEST_THOROUGH asks for all.
const MAX_CONVERSATIONS: usize = 60;

/// Two questions about one passage: the first names what the second only refers to.
struct Conversation {
    passage: String,
    first: String,
    second: String,
    /// As it was before its names were taken out.
    whole: String,
}

#[test]
fn a_question_that_only_refers_is_found_better_when_it_stands_alone() {
    let Some(dir) = test_data::require("retrieval/xquad_en") else {
        return;
    };
    let setup = Setup {
        chat_model: None,
        embedding_model: None,
        ..Setup::default()
    };
    let server = setup.start();
    let mut held = conversations(&dir);
    if std::env::var_os("INGLENOOK_TEST_THOROUGH").is_none() {
        held.truncate(MAX_CONVERSATIONS);
    }
    assert!(held.len() >= 20, "{}", held.len());
    let loaded = load(&server, &dir);
    let mut sums = [0.0; 3];
    for conversation in &held {
        let first = ask(&server, &loaded, &conversation.first, Value::Null);
        let [alone, continued, whole] = [
            (&conversation.second, Value::Null),
            (&conversation.second, first["id"].clone()),
            (&conversation.whole, Value::Null),
        ]
        .map(|(question, previous)| {
            let response = ask(&server, &loaded, question, previous);
            gain(&response, &loaded, &conversation.passage)
        });
        for (sum, gain) in sums.iter_mut().zip([alone, continued, whole]) {
            *sum += gain;
        }
    }
    let [alone, continued, whole] = sums.map(|sum| sum / held.len() as f64);
    println!(
        "nDCG@10 of {} questions that refer to the one before: {alone:.3} as they are, {continued:.3} made to stand alone, \
         {whole:.3} with their own names",
        held.len()
    );
    assert!(continued >= alone + 0.05, "{continued} {alone}");
}

fn ask(server: &TestServer, loaded: &Loaded, question: &str, previous: Value) -> Value {
    let search = json!({
        "type": "file_search",
        "vector_store_ids": [loaded.vector_store],
        "max_num_results": 10,
    });
    let body = json!({
        "input": question,
        "tools": [search],
        "previous_response_id": previous,
        "include": ["file_search_call.results"],
    });
    server.post("/v1/responses", body).ok()
}

/// What the place of the only relevant document is worth, as nDCG@10 has it.
fn gain(response: &Value, loaded: &Loaded, passage: &str) -> f64 {
    let results = response["output"][0]["results"].as_array().unwrap();
    let mut names: Vec<&String> = Vec::new();
    for result in results {
        let name = &loaded.names[result["file_id"].as_str().unwrap()];
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let place = names.iter().position(|name| *name == passage);
    place.map_or(0.0, |place| 1.0 / ((place + 2) as f64).log2())
}

/// For each passage at most one.
fn conversations(dir: &std::path::Path) -> Vec<Conversation> {
    let relevant = judgments(&dir.join("qrels.tsv"));
    let mut questions: HashMap<String, Vec<String>> = HashMap::new();
    for query in lines(&dir.join("queries.jsonl.gz")) {
        let Some(passage) = relevant.get(&id(&query)).and_then(|it| it.iter().next()) else {
            continue;
        };
        let text = query["text"].as_str().unwrap().to_owned();
        questions.entry(passage.clone()).or_default().push(text);
    }
    let mut found = Vec::new();
    for (passage, questions) in questions {
        let pairs = questions
            .iter()
            .flat_map(|first| questions.iter().map(move |second| (first, second)));
        let conversation =
            pairs
                .filter(|(first, second)| first != second)
                .find_map(|(first, second)| {
                    let (referring, names) = without_names(second);
                    let is_named =
                        !names.is_empty() && names.iter().all(|name| first.contains(name));
                    is_named.then(|| Conversation {
                        passage: passage.clone(),
                        first: first.clone(),
                        second: referring,
                        whole: second.clone(),
                    })
                });
        found.extend(conversation);
    }
    found.sort_by(|a, b| a.passage.cmp(&b.passage));
    found
}

/// The question with "it" in place of every name, and the names: runs of words with a capital, but for the first word.
fn without_names(question: &str) -> (String, Vec<String>) {
    let (mut kept, mut names): (Vec<&str>, Vec<String>) = (Vec::new(), Vec::new());
    let mut is_in_name = false;
    for (at, word) in question.split(' ').enumerate() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        if at == 0 || !bare.starts_with(char::is_uppercase) {
            is_in_name = false;
            kept.push(word);
            continue;
        }
        match names.last_mut().filter(|_| is_in_name) {
            Some(name) => *name = format!("{name} {bare}"),
            None => {
                names.push(bare.to_owned());
                kept.push("it");
            }
        }
        is_in_name = true;
    }
    (kept.join(" "), names)
}
