//! `inglenook serve`: the browser app and the API, until Ctrl-C or SIGTERM.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::app::App;
use crate::config::Settings;
use crate::http;

pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    settings.check_exposure()?;
    let options = App::http_options(&settings);
    // Before the models are loaded: a port in use should be known at once.
    let (listener, address) = http::bind(&options).with_context(|| {
        format!("cannot listen on {}:{}; choose another with --port", options.host, options.port)
    })?;
    let app = App::open(settings).await?;
    app.print_banner(&mut std::io::stdout().lock(), address)?;
    std::io::stdout().flush()?;
    app.serve(options, listener).await
}
