//! Starts the program.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == "extract-worker")
    {
        return inglenook::rag::extract::worker::run(std::io::stdin(), std::io::stdout());
    }
    ExitCode::SUCCESS
}
