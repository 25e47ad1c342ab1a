//! Writes the tiny models that tests run on, for programs that are not written in Rust:
//! `cargo run --example tiny_models -- FOLDER`.

use std::path::PathBuf;

use inglenook::embedding::testing::write_tiny_bert;
use inglenook::llm::testing::{FRAMING_TEMPLATE, Script, write_babbling_gguf, write_scripted_gguf};

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
    let calling = "I will look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": 2}}\n\
         </tool_call>";
    let calling = Script::once(calling)
        .with_template(FRAMING_TEMPLATE)
        .cut_every(3);
    write_scripted_gguf(&dir.join("calling.gguf"), &calling)?;
    // What the standard tests of LangChain ask for.
    let magic =
        "<tool_call>\n{\"name\": \"magic_function\", \"arguments\": {\"input\": 3}}\n</tool_call>";
    let magic = Script::once(magic)
        .with_template(FRAMING_TEMPLATE)
        .cut_every(3);
    write_scripted_gguf(&dir.join("magic.gguf"), &magic)?;
    let thinking = Script::once("<think>\nIt is so.\n</think>\n\nYes, indeed.");
    let thinking = thinking.with_template(FRAMING_TEMPLATE).cut_every(4);
    write_scripted_gguf(&dir.join("thinking.gguf"), &thinking)?;
    write_babbling_gguf(&dir.join("babbling.gguf"), FRAMING_TEMPLATE)
}
