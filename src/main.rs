//! The program: parse the command line, run the command, report how it went.

use std::process::ExitCode;

/// For C code, too: SQLite, usearch. What one step gave back is kept for the next one, for a second.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads when the program starts: what is free for a second goes back to the system. Few arenas, since each keeps
/// pages that are in part free.
#[cfg(target_os = "linux")]
#[unsafe(export_name = "malloc_conf")]
pub static SETTINGS: &[u8; 47] = b"narenas:8,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

fn main() -> ExitCode {
    inglenook::cli::main()
}
