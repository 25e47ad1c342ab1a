//! Sets up logging, once, for the whole process. Never logs prompts or documents above debug.

use tracing_subscriber::EnvFilter;

/// Logs to standard error; `filter` is a level or filter directives.
pub fn start(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| anyhow::anyhow!("log filter {filter:?} cannot be read: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    Ok(())
}
