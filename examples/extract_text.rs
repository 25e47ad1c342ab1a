//! Reads files as ingestion does and writes what it found as a line of JSON for each, for comparisons with other
//! readers (`tests/fidelity/compare.py`).
//!
//!     cargo run --release --example extract_text -- report.docx table.xlsx

use std::process::ExitCode;
use std::time::Instant;

use inglenook::rag::extract::{ExtractLimits, extract, worker};
use serde_json::json;

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    // The child process is this program too.
    if files.first().is_some_and(|first| first == "extract-worker") {
        return worker::run(std::io::stdin(), std::io::stdout());
    }
    let program = std::env::current_exe().expect("a program has a path");
    let limits = ExtractLimits::new(program);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for file in files {
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::FAILURE;
            }
        };
        let started = Instant::now();
        let result = runtime.block_on(extract(&bytes, &file, &limits));
        let seconds = started.elapsed().as_secs_f64();
        let line = match result {
            Ok(document) => json!({"file": file, "seconds": seconds, "document": document}),
            Err(error) => json!({"file": file, "seconds": seconds, "error": error.to_string()}),
        };
        println!("{line}");
    }
    ExitCode::SUCCESS
}
