//! Whatever a model would say, what it does say has the asked-for shape.

use futures_util::StreamExt;
use serde_json::json;

use super::*;
use crate::engine::testing::{FakeModel, FakeModelOptions};
use crate::engine::{
    Engine, EngineConfig, EngineError, FinishReason, GenerationRequest, SamplingParams, TokenEvent,
};
use crate::llm::gguf::builder::GgufBuilder;
use crate::rag::output::{ThinkingStart, ToolFormat};
use crate::rag::tools::{Tool, ToolChoice, ToolUse};
use crate::tokenizer::StreamDecoder;

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// All bytes, an end token, and these.
fn tokenizer(more: &[(&str, i32)]) -> Tokenizer {
    let letters = (0..=255u32).map(|byte| match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from_u32(byte).unwrap(),
        // As GPT-2 orders those that do not print.
        0..=0x20 => char::from_u32(256 + byte).unwrap(),
        0x7f..=0xa0 => char::from_u32(256 + 33 + byte - 0x7f).unwrap(),
        _ => char::from_u32(256 + 67).unwrap(),
    });
    let mut tokens: Vec<String> = letters.map(String::from).collect();
    let mut kinds = vec![NORMAL; tokens.len()];
    for &(text, kind) in [("<|im_end|>", CONTROL)].iter().chain(more) {
        tokens.push(text.into());
        kinds.push(kind);
    }
    let gguf = GgufBuilder::new()
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "gpt-2")
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .strings("tokenizer.ggml.merges", &["h e"])
        .open();
    Tokenizer::from_gguf(&gguf).unwrap()
}

fn plain() -> Tokenizer {
    tokenizer(&[
        ("{\"", NORMAL),
        ("\":", NORMAL),
        ("<tool_call>", USER_DEFINED),
        ("<|im_start|>", CONTROL),
        ("<|unused|>", UNUSED),
    ])
}

fn shaped(shape: Shape) -> Wanted {
    Wanted {
        thinking: None,
        shape: Some(shape),
        tools: ToolUse::default(),
        format: ToolFormat::Hermes,
    }
}

fn strict(schema: Value) -> Wanted {
    let is_strict = true;
    shaped(Shape::Json { schema, is_strict })
}

fn weather() -> Tool {
    Tool {
        name: "weather".into(),
        description: None,
        parameters: Some(json!({
            "type": "object",
            "properties": { "city": { "type": "string", "maxLength": 8 }, "days": { "type": "integer" } },
            "required": ["city", "days"],
            "additionalProperties": false,
        })),
        is_strict: true,
    }
}

fn calling(format: ToolFormat, choice: ToolChoice) -> Wanted {
    Wanted {
        thinking: None,
        shape: None,
        tools: ToolUse {
            tools: vec![weather()],
            choice,
            allows_parallel: false,
        },
        format,
    }
}

struct Setup {
    tokenizer: Tokenizer,
    constrainer: Constrainer,
    engine: Engine,
}

impl Setup {
    /// A model that says anything.
    fn new(tokenizer: Tokenizer) -> Self {
        Self::with_model(tokenizer, |model| model)
    }

    fn with_model(tokenizer: Tokenizer, change: impl FnOnce(FakeModel) -> FakeModel) -> Self {
        let model = FakeModel::new(FakeModelOptions {
            vocab_size: tokenizer.vocab_size() + 10,
            num_blocks: 1024,
            ..FakeModelOptions::default()
        });
        Self {
            constrainer: Constrainer::new(tokenizer.clone()),
            engine: Engine::start(Box::new(change(model)), EngineConfig::default()),
            tokenizer,
        }
    }

    async fn say(&self, wanted: &Wanted, seed: u64) -> (String, FinishReason) {
        let constraint = self.constrainer.compile(wanted.clone()).await.unwrap();
        let (text, end) = self.run(constraint, 600, seed).await;
        (text, end.unwrap())
    }

    /// What the model says, and how that ends.
    async fn run(
        &self,
        constraint: Constraint,
        max_tokens: usize,
        seed: u64,
    ) -> (String, Result<FinishReason, EngineError>) {
        let request = GenerationRequest {
            prompt: vec![1, 2, seed as u32 % 200],
            max_tokens,
            end_tokens: self.tokenizer.end_tokens().to_vec(),
            sampling: SamplingParams {
                seed: Some(seed),
                ..SamplingParams::default()
            },
            logprobs: None,
            constraint: Some(constraint),
            user: None,
            num_public_tokens: 0,
        };
        let mut stream = self.engine.submit(request).unwrap();
        let marks = ["<tool_call>", "</think>", "[TOOL_CALLS]", "[ARGS]"];
        let shown = marks
            .iter()
            .filter_map(|mark| Some((self.tokenizer.control_token(mark)?, *mark)));
        let mut decoder = StreamDecoder::new(&self.tokenizer, Vec::new()).showing(shown.collect());
        let mut text = String::new();
        loop {
            match stream.next().await.unwrap() {
                Ok(TokenEvent::Token(token)) => text.push_str(&decoder.push(token.id).text),
                Ok(TokenEvent::Finished { reason, .. }) => {
                    return (text + &decoder.finish(), Ok(reason));
                }
                Err(error) => return (text, Err(error)),
            }
        }
    }

    async fn refusal(&self, wanted: Wanted) -> String {
        let refused = self.constrainer.compile(wanted).await;
        refused.expect_err("it should be refused").to_string()
    }
}

#[tokio::test]
async fn json_always_fits_its_schema() {
    let setup = Setup::new(plain());
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 6 },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "kind": { "enum": ["cat", "dog", null] },
            "tags": { "type": "array", "items": { "type": "boolean" }, "maxItems": 3 },
            "place": { "$ref": "#/$defs/place" },
        },
        "required": ["name", "age", "kind", "tags", "place"],
        "additionalProperties": false,
        "$defs": { "place": { "anyOf": [{ "type": "null" }, { "type": "number", "minimum": -9, "maximum": 9 }] } },
    });
    for seed in 0..60 {
        let (text, reason) = setup.say(&strict(schema.clone()), seed).await;
        assert_eq!(reason, FinishReason::EndToken, "{text}");
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["name", "age", "kind", "tags", "place"], "{text}");
        assert!(
            (1..=6).contains(&value["name"].as_str().unwrap().chars().count()),
            "{text}"
        );
        assert!(value["age"].as_u64().unwrap() <= 150, "{text}");
        assert!(
            [json!("cat"), json!("dog"), Value::Null].contains(&value["kind"]),
            "{text}"
        );
        let tags = value["tags"].as_array().unwrap();
        assert!(
            tags.len() <= 3 && tags.iter().all(Value::is_boolean),
            "{text}"
        );
        assert!(
            value["place"].is_null() || value["place"].is_number(),
            "{text}"
        );
        let blanks = |text: &str| text.split(|c: char| !c.is_whitespace()).map(str::len).max();
        assert!(blanks(&text) <= Some(33), "{text:?}");
    }
}

#[tokio::test]
async fn regexes_choices_and_grammars_are_held() {
    let setup = Setup::new(plain());
    for seed in 0..20 {
        let (text, _) = setup
            .say(&shaped(Shape::Regex("(ab|c){2}[0-9]{4}".into())), seed)
            .await;
        let letters = text[..text.len() - 4].replace("ab", "c");
        assert_eq!(letters, "cc", "{text}");
        assert!(
            text[text.len() - 4..].bytes().all(|b| b.is_ascii_digit()),
            "{text}"
        );
        let choices = vec![
            "yes, \"quoted\"".to_owned(),
            "no\n".into(),
            "perhaps".into(),
        ];
        let (text, _) = setup
            .say(&shaped(Shape::Choice(choices.clone())), seed)
            .await;
        assert!(choices.contains(&text), "{text}");
        let grammar = "start: \"SELECT \" NAME (\", \" NAME)* \";\"\nNAME: /[a-z]{1,3}/";
        let (text, _) = setup.say(&shaped(Shape::Lark(grammar.into())), seed).await;
        let names = text
            .strip_prefix("SELECT ")
            .unwrap()
            .strip_suffix(';')
            .unwrap();
        assert!(
            names.split(", ").all(|name| (1..=3).contains(&name.len())),
            "{text}"
        );
    }
}

fn arguments_of(object: &str, key: &str) {
    let call: Value =
        serde_json::from_str(object).unwrap_or_else(|error| panic!("{error}: {object}"));
    assert_eq!(call["name"], "weather");
    fits(&call[key]);
}

fn fits(arguments: &Value) {
    assert!(
        arguments["city"].as_str().unwrap().chars().count() <= 8,
        "{arguments}"
    );
    assert!(arguments["days"].is_number(), "{arguments}");
    assert_eq!(arguments.as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn required_calls_are_framed_as_the_family_does_it() {
    let marks = [
        ("[TOOL_CALLS]", CONTROL),
        ("[ARGS]", CONTROL),
        ("<tool_call>", CONTROL),
    ];
    for setup in [Setup::new(plain()), Setup::new(tokenizer(&marks))] {
        for seed in 0..10 {
            for choice in [ToolChoice::Required, ToolChoice::Named("weather".into())] {
                let say = async |format| {
                    let (text, reason) = setup.say(&calling(format, choice.clone()), seed).await;
                    assert_eq!(reason, FinishReason::EndToken);
                    text.trim_start().to_owned()
                };
                let text = say(ToolFormat::Hermes).await;
                let object = text.strip_prefix("<tool_call>\n").unwrap();
                arguments_of(object.strip_suffix("\n</tool_call>").unwrap(), "arguments");
                arguments_of(&say(ToolFormat::Llama).await, "parameters");
                let text = say(ToolFormat::MistralArray).await;
                let array = text.strip_prefix("[TOOL_CALLS][").unwrap();
                arguments_of(array.strip_suffix(']').unwrap(), "arguments");
                let text = say(ToolFormat::MistralArgs).await;
                let arguments = text.strip_prefix("[TOOL_CALLS]weather[ARGS]").unwrap();
                fits(&serde_json::from_str(arguments).unwrap());
            }
        }
    }
}

/// A model that says `script` and then wants to end, whatever is asked of it.
fn scripted(tokenizer: Tokenizer, script: Vec<u32>) -> Setup {
    let end = tokenizer.end_tokens()[0];
    Setup::with_model(tokenizer, |model| {
        model.with_next_token(move |context| script.get(context.len() - 3).copied().unwrap_or(end))
    })
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

#[tokio::test]
async fn thoughts_are_free_and_what_follows_is_held() {
    let choice = || shaped(Shape::Choice(vec!["yes".into(), "no".into()]));
    let thinking = |thinking| Wanted {
        thinking: Some(thinking),
        ..choice()
    };
    let said = "{so} it is\n</think>\n\nno";
    let setup = scripted(plain(), bytes(said));
    assert_eq!(
        setup.say(&thinking(ThinkingStart::InPrompt), 1).await.0,
        said
    );
    let said = "<think>hm</think>no";
    let setup = scripted(plain(), bytes(said));
    assert_eq!(
        setup.say(&thinking(ThinkingStart::InAnswer), 1).await.0,
        said
    );
    let setup = scripted(plain(), bytes("no"));
    assert_eq!(
        setup.say(&thinking(ThinkingStart::InAnswer), 1).await.0,
        "no"
    );

    let tokenizer = tokenizer(&[("</think>", CONTROL)]);
    let end = tokenizer.control_token("</think>").unwrap();
    let script: Vec<u32> = bytes("hm")
        .into_iter()
        .chain([end])
        .chain(bytes("no"))
        .collect();
    let setup = scripted(tokenizer, script);
    assert_eq!(
        setup.say(&thinking(ThinkingStart::InPrompt), 1).await.0,
        "hm</think>no"
    );
}

#[tokio::test]
async fn a_strict_function_is_held_from_the_opening_of_its_frame_on() {
    let auto = |format| calling(format, ToolChoice::Auto);
    let text = "There are <b>no</b> calls here.";
    let setup = scripted(plain(), bytes(text));
    for format in [
        ToolFormat::Hermes,
        ToolFormat::Llama,
        ToolFormat::MistralArgs,
    ] {
        assert_eq!(setup.say(&auto(format), 1).await.0, text);
    }
    let open = "Well. <tool_call>nonsense";
    let (text, _) = scripted(plain(), bytes(open))
        .say(&auto(ToolFormat::Hermes), 1)
        .await;
    let object = text.strip_prefix("Well. <tool_call>\n").unwrap();
    arguments_of(object.split("\n</tool_call>").next().unwrap(), "arguments");
}

#[tokio::test]
async fn text_never_contains_control_or_unused_tokens() {
    let tokenizer = plain();
    let start = tokenizer.control_token("<|im_start|>").unwrap();
    let unused = tokenizer.id_of("<|unused|>").unwrap();
    for wanted in [start, unused] {
        let setup = scripted(tokenizer.clone(), vec![u32::from(b'"'), wanted]);
        let (text, _) = setup
            .say(&strict(json!({ "type": "string", "maxLength": 5 })), 1)
            .await;
        assert!(
            text.starts_with('"') && text.ends_with('"') && !text.contains('|'),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_held_is_refused_by_name() {
    let setup = Setup::new(plain());
    for (schema, name) in [
        (
            json!({ "type": "array", "uniqueItems": true }),
            "'uniqueItems'",
        ),
        (json!({ "properties": { "a": { "not": {} } } }), "'not'"),
        (json!({ "if": {}, "then": {} }), "'if'"),
        (
            json!({ "type": "object", "propertyNames": {} }),
            "'propertyNames'",
        ),
        (
            json!({ "type": "string", "format": "postcode" }),
            "postcode",
        ),
        (
            json!({ "$ref": "https://example.org/schema" }),
            "https://example.org/schema",
        ),
        (json!({ "x-guidance": {} }), "'x-guidance'"),
        (json!({ "type": "circle" }), "circle"),
        (json!({ "type": "string", "pattern": "(" }), "("),
        (
            json!({ "properties": {}, "required": ["a"], "additionalProperties": false }),
            "\"a\"",
        ),
        (
            json!({ "oneOf": [{ "type": "number" }, { "type": "integer" }] }),
            "'oneOf'",
        ),
        (json!(true), "object"),
    ] {
        let message = setup.refusal(strict(schema.clone())).await;
        assert!(message.contains(name), "{schema}: {message}");
        assert!(
            !message.contains('\n') && !message.contains("non-verbose"),
            "{message}"
        );
    }
    let regex = setup.refusal(shaped(Shape::Regex("(a".into()))).await;
    assert!(regex.contains("cannot be used"), "{regex}");
    let grammar = setup
        .refusal(shaped(Shape::Lark("start: nothing".into())))
        .await;
    assert!(grammar.contains("nothing"), "{grammar}");
    // Leniently the same are passed over.
    let schema =
        json!({ "type": "array", "items": { "type": "null" }, "uniqueItems": true, "maxItems": 1 });
    let is_strict = false;
    let (text, _) = setup
        .say(&shaped(Shape::Json { schema, is_strict }), 1)
        .await;
    assert!(serde_json::from_str::<Value>(&text).unwrap().is_array());
}

#[tokio::test]
async fn a_hostile_schema_or_grammar_is_refused_soon() {
    let setup = Setup::new(plain());
    let nested = (0..200).fold(json!({}), |inner, _| json!({ "items": inner }));
    let wide: Value = (0..100_000)
        .map(|at| (format!("property{at}"), json!({})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let strings: Vec<String> = (0..6_000).map(|at| format!("value {at}")).collect();
    let doubling = (0..40).fold(json!({ "type": "string" }), |_, at| {
        json!({ "anyOf": [{ "$ref": format!("#/$defs/d{at}") }, { "$ref": format!("#/$defs/d{at}") }] })
    });
    let pattern = "(a{1,1000}){1,1000}".to_owned();
    let intersections: Vec<Value> = (0..60)
        .map(|at| json!({ "pattern": format!("^(a|b)*a(a|b){{{at}}}$") }))
        .collect();
    let cases = [
        strict(nested),
        strict(json!({ "properties": wide })),
        strict(json!({ "enum": strings })),
        strict(json!({ "type": "string", "maxLength": 1_000_000_000 })),
        strict(json!({ "type": "array", "minItems": 4_000_000_000u64 })),
        strict(doubling),
        strict(json!({ "type": "string", "pattern": pattern })),
        strict(json!({ "type": "string", "allOf": intersections })),
        strict(json!({ "type": "string", "allOf": intersections[38..40] })),
        strict(json!({ "type": "string", "pattern": "^(a|b)*a(a|b){30}$", "maxLength": 30 })),
        shaped(Shape::Regex("((a{1,500}){1,500}){1,500}".into())),
        shaped(Shape::Regex("x".repeat(100_000))),
        shaped(Shape::Lark(format!("start: {}", "(".repeat(30_000)))),
        shaped(Shape::Lark("start: start start | ".into())),
    ];
    for (at, wanted) in cases.into_iter().enumerate() {
        let begun = std::time::Instant::now();
        let outcome = match setup.constrainer.compile(wanted).await {
            Ok(constraint) => Ok(setup.run(constraint, 40, 1).await.1),
            Err(error) => Err(error),
        };
        let seconds = begun.elapsed().as_secs_f32();
        println!("case {at}: {seconds:.2} s, {outcome:?}");
        assert!(seconds < 10.0, "case {at}");
    }
}
