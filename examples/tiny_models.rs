//! Writes the tiny models that tests run on, for programs that are not written in Rust:
//! `cargo run --example tiny_models -- FOLDER`.

use std::path::PathBuf;

use inglenook::embedding::testing::write_tiny_bert;
use inglenook::llm::testing::{Script, write_scripted_gguf};

fn main() -> std::io::Result<()> {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: tiny_models FOLDER");
        std::process::exit(2);
    };
    let embedder = dir.join("tiny-bert");
    std::fs::create_dir_all(&embedder)?;
    write_tiny_bert(&embedder)?;
    let script = "The keeper of the lighthouse is Maren Holt [1]. An invented source [99] is not shown.";
    write_scripted_gguf(&dir.join("scripted.gguf"), &Script::once(script))
}
