//! Reads files as ingestion does and writes what it found as a line of JSON for each, for comparisons with other
//! readers (`tests/fidelity/compare.py`). With `--ocr` scans are recognised, with `--password` encrypted PDFs are opened.
//!
//!     cargo run --release --example extract_text -- [--ocr] [--password WORD] report.docx table.xlsx

use std::process::ExitCode;
use std::time::Instant;

use inglenook::config::program_on_path;
use inglenook::rag::extract::{
    ExtractLimits, Original, Recognition, Recognizer, extract, ocr, worker,
};
use serde_json::json;

fn main() -> ExitCode {
    let mut files: Vec<String> = std::env::args().skip(1).collect();
    // The child processes are this program too.
    if files.first().is_some_and(|first| first == "extract-worker") {
        return worker::run(std::io::stdin(), std::io::stdout());
    }
    if let [first, memory, seconds, command @ ..] = &files[..]
        && first == "run-limited"
        && let (Ok(memory), Ok(seconds)) = (memory.parse(), seconds.parse())
    {
        let command: Vec<_> = command.iter().map(Into::into).collect();
        return ocr::run_limited(memory, seconds, &command);
    }
    let program = std::env::current_exe().expect("a program has a path");
    let mut limits = ExtractLimits::new(program);
    if files.first().is_some_and(|first| first == "--ocr") {
        files.remove(0);
        let tesseract = program_on_path("tesseract").expect("tesseract is installed");
        let recognizer = Recognizer::new(tesseract, program_on_path("pdftoppm"), "eng");
        limits.recognition = Recognition::With(recognizer.expect("it has English"));
    }
    let mut password = None;
    if files.len() > 1 && files[0] == "--password" {
        password = files.drain(..2).next_back();
    }
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
        let original = Original {
            password: password.as_deref(),
            ..Original::new(bytes, &file)
        };
        let result = runtime.block_on(extract(original, &limits));
        let seconds = started.elapsed().as_secs_f64();
        let line = match result {
            Ok(document) => json!({"file": file, "seconds": seconds, "document": document}),
            Err(error) => json!({"file": file, "seconds": seconds, "error": error.to_string()}),
        };
        println!("{line}");
    }
    ExitCode::SUCCESS
}
