//! Answers from documents with all that a reply may have: calls of functions, formats, thoughts, log-probabilities. Which
//! words the model is given is seen through a chat template that refuses, and says them.

mod common;

use common::{SCRIPT, SHOWN, Setup, TestServer, models};
use inglenook::llm::testing::{FRAMING_TEMPLATE, Script, write_scripted_gguf};
use serde_json::{Value, json};

const LIGHTHOUSE: &str = "The keeper of the lighthouse is Maren Holt, who came in 1998.\n";
const QUESTION: &str = "Who is the keeper of the lighthouse?";

/// Says something of the document, cites it and a source that is not there, and calls a function.
const CALLING: &str = "The keeper of the lighthouse is Maren Holt [1] [99].\n\
     <tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>";

/// Renders, unless the last message asks for the prompt. Knows nothing of functions.
const TELLING: &str = "{% if 'TELL' in messages[-1].content %}{{ raise_exception(messages | tojson) }}{% endif %}\
     {% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:";

struct Asked {
    server: TestServer,
    collection: String,
    _dir: tempfile::TempDir,
}

/// A server whose model says this, with a document. `settings` are lines of its configuration.
fn asked(name: &str, script: Script, settings: &str) -> Asked {
    let path = models().scripted.with_file_name(format!("{name}.gguf"));
    write_scripted_gguf(&path, &script).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("settings.toml"), settings).unwrap();
    let setup = Setup {
        chat_model: Some(path),
        ..Setup::default()
    };
    let server = setup
        .in_dir(dir.path())
        .args(&["--config", "settings.toml"]);
    let server = server.start();
    let collection = server.collection();
    server.ingest(&collection, "lighthouse.md", LIGHTHOUSE.as_bytes());
    Asked {
        server,
        collection,
        _dir: dir,
    }
}

fn calling(name: &str) -> Asked {
    let script = Script::once(CALLING).with_template(FRAMING_TEMPLATE);
    asked(name, script.cut_every(3), "")
}

/// Nothing is close enough to any question.
const STRICT: &str = "min_similarity = 0.999\n";
const UNRELATED: &str = "What is the boiling point of tungsten?";

fn weather() -> Value {
    json!({
        "type": "function",
        "name": "weather",
        "description": "The weather of a place",
        "parameters": {
            "type": "object",
            "properties": { "city": { "type": "string" } },
            "required": ["city"],
        },
    })
}

fn json_object() -> Value {
    json!({ "format": { "type": "json_object" } })
}

impl Asked {
    fn search(&self) -> Value {
        json!({ "type": "file_search", "vector_store_ids": [self.collection] })
    }

    fn body(&self, more: Value) -> Value {
        let mut body = json!({
            "input": QUESTION,
            "tools": [self.search(), weather()],
            "temperature": 0,
        });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    }

    fn ask(&self, more: Value) -> Value {
        self.server.post("/v1/responses", self.body(more)).ok()
    }

    fn error(&self, more: Value) -> Value {
        self.server
            .post("/v1/responses", self.body(more))
            .error(400)
    }

    /// The messages that the model would have been given. As its template refuses, what the system says is tried as part
    /// of the first question.
    fn told(&self, more: Value) -> Vec<Value> {
        let error = self.error(more);
        let message = error["message"].as_str().unwrap();
        let start = message.find("[{").unwrap();
        let end = message.rfind("}]").unwrap() + 2;
        serde_json::from_str(&message[start..end]).unwrap()
    }
}

fn kinds(response: &Value) -> Vec<&str> {
    let output = response["output"].as_array().unwrap().iter();
    output.map(|item| item["type"].as_str().unwrap()).collect()
}

fn content(message: &Value) -> &str {
    message["content"].as_str().unwrap()
}

fn input_tokens(response: &Value) -> u64 {
    response["usage"]["input_tokens"].as_u64().unwrap()
}

/// What a call returned, as the next request brings it.
fn returned(response: &Value, output: &str) -> Value {
    let call = response["output"].as_array().unwrap().last().unwrap();
    assert_eq!(call["type"], "function_call");
    json!([{ "type": "function_call_output", "call_id": call["call_id"], "output": output }])
}

#[test]
fn a_function_is_called_beside_the_search_and_its_result_goes_on_with_the_sources() {
    let asked = calling("answers-call");
    let first = asked.ask(json!({}));
    assert_eq!(
        kinds(&first),
        ["file_search_call", "message", "function_call"]
    );
    let message = &first["output"][1]["content"][0];
    assert_eq!(
        message["text"],
        "The keeper of the lighthouse is Maren Holt [1]."
    );
    let [citation] = message["annotations"].as_array().unwrap().as_slice() else {
        panic!("{message}");
    };
    assert_eq!(
        (&citation["number"], &citation["index"]),
        (&json!(1), &json!(43))
    );
    assert!(citation["quote"].as_str().unwrap().contains("Maren Holt"));
    assert_eq!(first["output"][2]["arguments"], "{\"city\": \"Oslo\"}");
    let counted = asked
        .server
        .post("/v1/responses/input_tokens", asked.body(json!({})));
    assert_eq!(counted.ok()["input_tokens"], first["usage"]["input_tokens"]);

    let events = asked
        .server
        .post("/v1/responses", asked.body(json!({ "stream": true })))
        .events();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let last = &events.last().unwrap()["response"];
    assert_eq!(kinds(last), kinds(&first));
    assert_eq!(last["output"][1]["content"], first["output"][1]["content"]);

    // No search is made for what a function returned; the sources keep their numbers.
    let next = asked.ask(json!({
        "input": returned(&first, "sunny"), "previous_response_id": first["id"],
    }));
    assert_eq!(kinds(&next), ["message", "function_call"]);
    assert_eq!(
        next["output"][0]["content"][0]["annotations"][0]["number"],
        1
    );
    let grown = input_tokens(&next) - input_tokens(&first);
    assert!((20..250).contains(&grown), "{grown}");
    // All of the first prompt was known, but what closes thoughts at its end and the part of a block before that.
    let cached = next["usage"]["input_tokens_details"]["cached_tokens"].as_u64();
    assert!(cached.unwrap() + 64 > input_tokens(&first), "{next}");
    // And again, as an agent does, and then a question of its own.
    let third = asked.ask(json!({
        "input": returned(&next, "still sunny"), "previous_response_id": next["id"],
    }));
    assert_eq!(kinds(&third), ["message", "function_call"]);
    let question = asked.ask(json!({ "previous_response_id": first["id"] }));
    assert_eq!(kinds(&question), kinds(&first));
}

#[test]
fn a_conversation_keeps_calls_and_sources() {
    let asked = calling("answers-conversation");
    let conversation = asked.server.post("/v1/conversations", json!({})).ok()["id"].clone();
    let first = asked.ask(json!({ "conversation": conversation }));
    let next = asked.ask(json!({
        "input": returned(&first, "sunny"), "conversation": conversation,
    }));
    assert_eq!(kinds(&next), ["message", "function_call"]);
    assert!(input_tokens(&next) > input_tokens(&first));
    assert_eq!(
        next["output"][0]["content"][0]["annotations"][0]["number"],
        1
    );
}

#[test]
fn a_question_that_a_conversation_has_had_before_keeps_its_sources() {
    let script = Script::once(SCRIPT).with_template(TELLING);
    let asked = asked("answers-kept-question", script, "");
    let question = json!({ "type": "message", "role": "user", "content": QUESTION });
    let conversation = json!({ "items": [question] });
    let conversation = asked.server.post("/v1/conversations", conversation).ok()["id"].clone();
    let answered = asked.ask(json!({ "conversation": conversation, "input": null }));
    assert_eq!(answered["metadata"]["inglenook_outcome"], "answered");
    let told = asked.told(json!({
        "conversation": conversation, "input": "TELL me of the keeper of the lighthouse",
    }));
    let is_shown = |message: &Value| content(message).contains("<source number=\"1\"");
    assert!(is_shown(&told[0]), "{told:?}");
    assert!(!is_shown(told.last().unwrap()), "{told:?}");
    assert!(
        content(told.last().unwrap()).contains("[1] above"),
        "{told:?}"
    );
}

#[test]
fn the_model_reads_sources_functions_calls_and_results_in_their_order() {
    let script = Script::once(SCRIPT).with_template(TELLING);
    let asked = asked("answers-telling", script, "");
    let told = asked.told(json!({ "input": "TELL me of the keeper", "instructions": "Be brief." }));
    let [question] = told.as_slice() else {
        panic!("{told:?}");
    };
    let parts = [
        "numbered sources",
        "Be brief.",
        "The weather of a place",
        "<source number=\"1\"",
        "Question: TELL me of the keeper",
    ];
    let places = parts.map(|part| content(question).find(part).expect(part));
    assert!(places.is_sorted(), "{question}");

    // A caller's own items: the question is searched for again, and shown before the call.
    let input = json!([
        { "role": "user", "content": QUESTION },
        { "type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{\"city\": \"Oslo\"}" },
        { "type": "function_call_output", "call_id": "c1", "output": "TELL" },
    ]);
    let told = asked.told(json!({ "input": input }));
    let roles: Vec<&str> = told.iter().map(|it| it["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    assert!(content(&told[0]).contains("<source number=\"1\""));
    assert!(content(&told[1]).contains("Oslo"));
    assert_eq!(content(&told[2]), "<tool_response>\nTELL\n</tool_response>");

    // A stored question goes on with what it was shown, also where no tool may be used any more.
    let stored = asked.ask(json!({}));
    for choice in [json!("auto"), json!("none")] {
        let input = json!([
            { "type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "c1", "output": "TELL" },
        ]);
        let told = asked.told(json!({
            "input": input, "previous_response_id": stored["id"], "tool_choice": choice,
        }));
        assert!(
            content(&told[0]).contains("<source number=\"1\""),
            "{told:?}"
        );
        let is_offered = content(&told[0]).contains("The weather of a place");
        assert_eq!(is_offered, choice == "auto");
    }
    // Without a search there is a plain conversation, where nothing was shown.
    let told = asked.told(json!({ "input": "TELL", "tool_choice": "none" }));
    assert_eq!(told, [json!({ "role": "user", "content": "TELL" })]);
    let error = asked.error(json!({
        "input": [{ "type": "function_call_output", "call_id": "c1", "output": "x" }],
    }));
    assert_eq!(error["param"], "input");
}

#[test]
fn a_format_is_kept_byte_for_byte_and_cited_in_its_strings() {
    let said =
        "{\"answer\": \"Maren Holt is the keeper [1]\", \"other\": \"[99] [2]\", \"list\": [1]}";
    let script = Script::once(said).with_template(FRAMING_TEMPLATE);
    let asked = asked("answers-format", script, "");
    let response = asked.ask(json!({ "text": json_object(), "tools": [asked.search()] }));
    let message = &response["output"][1]["content"][0];
    assert_eq!(message["text"], said);
    let [citation] = message["annotations"].as_array().unwrap().as_slice() else {
        panic!("{message}");
    };
    assert_eq!(citation["number"], 1);
    let index = citation["index"].as_u64().unwrap() as usize;
    assert!(said[index..].starts_with("[1]\""));
    let both = asked.ask(json!({ "text": json_object() }));
    assert_eq!(both["output"][1]["content"][0]["text"], said);
    let strict = json!({ "format": {
        "type": "json_schema", "name": "x", "strict": true, "schema": { "not": {} },
    } });
    assert_eq!(
        asked.error(json!({ "text": strict }))["param"],
        "text.format"
    );
}

#[test]
fn where_nothing_is_found_the_model_runs_if_it_can_do_more_than_say_so() {
    let script = Script::once("{\"answer\": null}").with_template(TELLING);
    let asked = asked("answers-nothing", script, STRICT);
    let search = asked.search();
    let not_found = asked.ask(json!({ "input": UNRELATED, "tools": [search] }));
    let text = not_found["output"][1]["content"][0]["text"].as_str();
    assert!(text.unwrap().contains("could not find"), "{not_found}");
    assert_eq!(not_found["usage"]["output_tokens"], 0);

    let shaped = asked.ask(json!({
        "input": UNRELATED, "tools": [search], "text": json_object(),
    }));
    assert_eq!(
        shaped["output"][1]["content"][0]["text"],
        "{\"answer\": null}"
    );
    assert_eq!(shaped["metadata"]["inglenook_outcome"], "not_found");
    let offered = asked.ask(json!({ "input": UNRELATED }));
    assert!(offered["usage"]["output_tokens"].as_u64() > Some(0));
    let told = asked.told(json!({ "input": "TELL me the boiling point of tungsten" }));
    assert!(
        content(&told[0])
            .contains("No source in the documents bears on this question.\n\nQuestion: "),
        "{told:?}"
    );
    // The next question reads it as it was, so that the prompt only grows.
    let told = asked.told(json!({ "input": "TELL", "previous_response_id": offered["id"] }));
    assert!(
        content(&told[0])
            .contains("No source in the documents bears on this question.\n\nQuestion: "),
        "{told:?}"
    );
}

#[test]
fn a_choice_among_the_search_and_functions_is_held_to() {
    let said =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>";
    let script = Script::once(said).with_template(FRAMING_TEMPLATE);
    let asked = asked("answers-choice", script.cut_every(3), "");
    let named = json!({ "type": "function", "name": "weather" });
    let search = json!({ "type": "file_search" });
    let allowed = |mode: &str, tools: &[&Value]| json!({ "type": "allowed_tools", "mode": mode, "tools": tools });
    for (choice, expected) in [
        (json!(null), vec!["file_search_call", "function_call"]),
        (json!("auto"), vec!["file_search_call", "function_call"]),
        (json!("required"), vec!["file_search_call", "function_call"]),
        (json!("none"), vec!["message"]),
        (search.clone(), vec!["file_search_call", "message"]),
        (named.clone(), vec!["function_call"]),
        (
            allowed("auto", &[&search]),
            vec!["file_search_call", "message"],
        ),
        (
            allowed("required", &[&search, &named]),
            vec!["file_search_call", "function_call"],
        ),
        (allowed("required", &[&named]), vec!["function_call"]),
    ] {
        let response = asked.ask(json!({ "tool_choice": choice }));
        assert_eq!(kinds(&response), expected, "{choice}");
    }
    for choice in [
        json!("garbage"),
        json!({ "type": "function", "name": "dance" }),
        json!({ "type": "web_search" }),
        json!(7),
        allowed("sometimes", &[&search]),
    ] {
        let error = asked.error(json!({ "tool_choice": choice }));
        assert_eq!(error["param"], "tool_choice", "{choice}");
        // Also where there is nothing but the search.
        let error = asked.error(json!({ "tool_choice": choice, "tools": [asked.search()] }));
        assert_eq!(error["param"], "tool_choice", "{choice}");
    }
    for choice in [search.clone(), allowed("auto", &[&search])] {
        let error = asked.error(json!({ "tool_choice": choice, "tools": [weather()] }));
        assert_eq!(error["param"], "tool_choice", "{choice}");
    }
}

#[test]
fn log_probabilities_are_those_of_the_tokens_as_they_were_chosen() {
    let asked = asked("answers-logprobs", Script::once(SCRIPT), "");
    let more = json!({
        "tools": [asked.search()], "include": ["message.output_text.logprobs"], "top_logprobs": 1,
    });
    let response = asked.ask(more.clone());
    let message = &response["output"][1]["content"][0];
    assert_eq!(message["text"], SHOWN);
    let joined = |logprobs: &Value| -> String {
        let tokens = logprobs.as_array().unwrap().iter();
        tokens.map(|it| it["token"].as_str().unwrap()).collect()
    };
    assert_eq!(joined(&message["logprobs"]), SCRIPT);
    let mut streamed = asked.body(more);
    streamed["stream"] = json!(true);
    let events = asked.server.post("/v1/responses", streamed).events();
    let deltas = events
        .iter()
        .filter(|it| it["type"] == "response.output_text.delta");
    assert_eq!(
        deltas.map(|it| joined(&it["logprobs"])).collect::<String>(),
        SCRIPT
    );
}

#[test]
fn thoughts_about_documents_are_told_where_they_are_asked_for() {
    let said = "<think>\nIt is in [1].\n</think>\n\nMaren Holt is the keeper [1].";
    let script = Script::once(said).with_template(FRAMING_TEMPLATE);
    let asked = asked("answers-thinking", script, "");
    let more = json!({ "tools": [asked.search()], "reasoning": { "effort": "low" } });
    let response = asked.ask(more);
    assert_eq!(
        kinds(&response),
        ["file_search_call", "reasoning", "message"]
    );
    assert_eq!(response["output"][1]["content"][0]["text"], "It is in [1].");
    let message = &response["output"][2]["content"][0];
    assert_eq!(message["text"], "Maren Holt is the keeper [1].");
    assert_eq!(message["annotations"][0]["index"], 25);
    let details = &response["usage"]["output_tokens_details"];
    assert!(details["reasoning_tokens"].as_u64() > Some(3), "{details}");
    let stopped = asked.ask(json!({ "tools": [asked.search()], "stop": [" keeper"] }));
    let text = stopped["output"].as_array().unwrap().last().unwrap();
    assert_eq!(text["content"][0]["text"], "Maren Holt is the");
}

#[test]
fn what_functions_add_to_the_prompt_is_part_of_its_budget() {
    let asked = asked(
        "answers-budget",
        Script::once("Yes [1]."),
        "max_context = 4096\n",
    );
    for number in 0..4 {
        // Passages that say the same would be shown once.
        let line = |day: u32| {
            format!(
                "The keeper of lighthouse {number} writes on day {number}{day} how wind {day} blew. "
            )
        };
        let text = format!("Log {number}. {}", (10..19).map(line).collect::<String>());
        asked
            .server
            .ingest(&asked.collection, &format!("{number}.txt"), text.as_bytes());
    }
    let described = |length: usize| {
        let mut tool = weather();
        tool["description"] = json!("w".repeat(length));
        asked.ask(json!({ "tools": [asked.search(), tool], "max_output_tokens": 64 }))
    };
    let short = described(10);
    assert_eq!(short["metadata"].get("inglenook_dropped"), None, "{short}");
    let long = described(1200);
    let dropped = long["metadata"]["inglenook_dropped"].as_str().unwrap();
    assert!(dropped.contains("passages"), "{dropped}");
    assert!(input_tokens(&long) <= 4096 - 64, "{long}");
    let error = asked.error(json!({
        "tools": [asked.search(), { "type": "function", "name": "f", "description": "w".repeat(5000) }],
    }));
    assert_eq!(error["code"], "context_length_exceeded");
}

#[test]
fn the_model_that_quotes_refuses_what_only_a_writer_can_do() {
    let asked = asked("answers-quote", Script::once(SCRIPT), "");
    let quote = "inglenook-quote";
    for (param, more) in [
        ("tools", json!({ "model": quote })),
        (
            "text.format",
            json!({ "model": quote, "tools": null, "text": json_object() }),
        ),
        (
            "include",
            json!({ "model": quote, "tools": [asked.search()], "top_logprobs": 1 }),
        ),
        (
            "input",
            json!({
                "model": quote,
                "tools": [asked.search()],
                "input": [
                    { "role": "user", "content": QUESTION },
                    { "type": "function_call_output", "call_id": "c", "output": "x" },
                ],
            }),
        ),
    ] {
        let error = asked.error(more);
        assert_eq!(error["param"], param, "{error}");
    }
    let quoted = asked.ask(json!({ "model": quote, "tool_choice": "none" }));
    assert_eq!(kinds(&quoted), ["file_search_call", "message"]);
}
