//! Writes the tiny models that tests run on, for programs that are not written in Rust:
//! `cargo run --example tiny_models -- FOLDER`.

use std::path::PathBuf;

use inglenook::embedding::testing::write_tiny_bert;
use inglenook::llm::testing::{FRAMING_TEMPLATE, Script, write_babbling_gguf, write_scripted_gguf};

/// Models that call: their names, what they say before, the function and its arguments. Those behind the first are for the
/// standard tests of LangChain, each of which asks for a call of its own.
const CALLS: [(&str, &str, &str, &str); 6] = [
    (
        "calling",
        "I will look.\n",
        "weather",
        r#"{"city": "Oslo", "days": 2}"#,
    ),
    ("magic", "", "magic_function", r#"{"input": 3}"#),
    ("magic-alone", "", "magic_function_no_args", "{}"),
    (
        "greeting",
        "",
        "greeting_generator",
        r#"{"answer_style": "pirate"}"#,
    ),
    (
        "customer",
        "",
        "unicode_customer",
        r#"{"customer_name": "你好啊集团 こんにちは株式会社", "description": "a company"}"#,
    ),
    (
        "forecast",
        "",
        "get_weather",
        r#"{"location": "San Francisco"}"#,
    ),
];

fn main() -> std::io::Result<()> {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: tiny_models FOLDER");
        std::process::exit(2);
    };
    let embedder = dir.join("tiny-bert");
    std::fs::create_dir_all(&embedder)?;
    write_tiny_bert(&embedder)?;
    let script =
        "The keeper of the lighthouse is Maren Holt [1]. An invented source [99] is not shown.";
    write_scripted_gguf(&dir.join("scripted.gguf"), &Script::once(script))?;
    for (model, before, name, arguments) in CALLS {
        let call = format!(
            "{before}<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>"
        );
        let script = Script::once(&call)
            .with_template(FRAMING_TEMPLATE)
            .cut_every(3);
        write_scripted_gguf(&dir.join(format!("{model}.gguf")), &script)?;
    }
    let thinking = Script::once("<think>\nIt is so.\n</think>\n\nYes, indeed.");
    let thinking = thinking.with_template(FRAMING_TEMPLATE).cut_every(4);
    write_scripted_gguf(&dir.join("thinking.gguf"), &thinking)?;
    write_babbling_gguf(&dir.join("babbling.gguf"), FRAMING_TEMPLATE)
}
