//! The program: parse the command line, run the command, report how it went.

use std::process::ExitCode;

fn main() -> ExitCode {
    inglenook::cli::main()
}
