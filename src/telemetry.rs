//! Sets up logging, once, for the whole process. Never logs prompts or documents above debug.

use tracing_subscriber::EnvFilter;

/// Libraries whose news interest nobody, unless directives ask for them.
const QUIET: &str = "actix_server=warn,rusqlite_migration=warn";

/// Logs to standard error; `filter` is a level or filter directives.
pub fn start(filter: &str) -> anyhow::Result<()> {
    let is_level = !filter.contains(['=', ',']);
    let directives = if is_level {
        format!("{filter},{QUIET}")
    } else {
        filter.to_string()
    };
    let filter = EnvFilter::try_new(directives)
        .map_err(|error| anyhow::anyhow!("log filter {filter:?} cannot be read: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    Ok(())
}
