//! The program: parse the command line, run the command, report how it went.

use std::process::ExitCode;

/// Keeps the memory that one step gave back for the next one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    inglenook::cli::main()
}
