//! Serves until a signal, and ends in order.

use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::imports::{import_options, watch_options};
use super::{App, pull};
use crate::config::{Settings, Switch};
use crate::http::{self, Context, HttpOptions};
use crate::rag::attached::FileReader;
use crate::rag::expiry::Expiry;
use crate::rag::import::Importer;
use crate::rag::ingest::Ingestion;
use crate::rag::watch::Watcher;
use crate::store::unix_now;

/// Age at which uploads of another process are taken for abandoned.
const ABANDONED_AFTER: Duration = Duration::from_secs(2 * 24 * 3600);

impl App {
    pub fn http_options(settings: &Settings) -> HttpOptions {
        HttpOptions {
            host: settings.host,
            port: settings.port,
            api_key: settings.api_key.clone(),
            max_upload_bytes: settings.max_upload_mb << 20,
            upload_dir: settings
                .data_dir
                .join("uploads")
                .join(std::process::id().to_string()),
            generation_timeout: Duration::from_secs(settings.generation_timeout),
            sse_keep_alive: (settings.sse_keep_alive > 0)
                .then(|| Duration::from_secs(settings.sse_keep_alive)),
            shutdown_grace: Duration::from_secs(settings.shutdown_grace),
            cors_origins: settings.cors_origins.clone(),
            watch_interval: Duration::from_secs(settings.watch_interval),
        }
    }

    /// Serves until a signal; running answers have the grace time to finish. A second signal ends at once.
    pub async fn serve(
        self,
        options: HttpOptions,
        listener: TcpListener,
    ) -> anyhow::Result<ExitCode> {
        let grace = options.shutdown_grace;
        prepare_uploads(&options.upload_dir)?;
        let upload_dir = options.upload_dir.clone();
        let importer = match self.settings.web_import {
            Switch::On => Some(Importer::start(
                self.workspace.store.clone(),
                import_options(&self.settings)?,
            )),
            Switch::Off => None,
        };
        let watch_options = watch_options(&self.settings)?;
        let watcher = match watch_options.folders.is_empty() {
            true => None,
            false => Some(Watcher::start(self.workspace.store.clone(), watch_options)),
        };
        let tasks = [
            importer
                .as_ref()
                .map(|importer| ("imports", importer.watch())),
            watcher
                .as_ref()
                .map(|watcher| ("watched folders", watcher.watch())),
        ];
        let context = Context {
            workspace: self.workspace.clone(),
            options,
            started_at: unix_now(),
            device: self.device.name().to_string(),
            ingestion: self.ingestion.as_ref().map(Ingestion::watch),
            files: FileReader::new(std::env::current_exe()?, self.recognition.clone()),
            background: Default::default(),
            notices: self.notices.clone(),
            pull_model: self
                .settings
                .api_pull
                .then(|| pull::for_clients(&self.settings)),
            imports: importer.as_ref().map(Importer::imports),
            watched: watcher.as_ref().map(Watcher::status),
            tasks: tasks.into_iter().flatten().collect(),
        };
        let expiry = Expiry::start(self.workspace.store.clone());
        let server = http::serve(context, listener)?;
        let handle = server.handle();
        let mut running = std::pin::pin!(server);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = &mut running => {
                ended.context("the HTTP server ended")?;
                anyhow::bail!("the HTTP server ended unexpectedly");
            }
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!(
            grace_s = grace.as_secs(),
            "stopping; running answers may finish"
        );
        tokio::select! {
            _ = futures_util::future::join(handle.stop(true), &mut running) => {}
            _ = interrupt.recv() => return Ok(ExitCode::FAILURE),
            _ = terminate.recv() => return Ok(ExitCode::FAILURE),
        }
        drop(expiry);
        if let Some(watcher) = watcher {
            watcher.stop().await;
        }
        if let Some(importer) = importer {
            importer.stop().await;
        }
        // A model that is being loaded, say, may take minutes.
        tokio::select! {
            _ = self.close() => {}
            _ = interrupt.recv() => return Ok(ExitCode::FAILURE),
            _ = terminate.recv() => return Ok(ExitCode::FAILURE),
        }
        let _ = std::fs::remove_dir_all(upload_dir);
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }
}

/// A folder of this process for uploads. What servers left there that were killed days ago is of no use to anyone; a
/// younger one may be at work beside this one.
fn prepare_uploads(dir: &Path) -> anyhow::Result<()> {
    let what = || format!("cannot prepare {}", dir.display());
    let parent = dir.parent().expect("the folder is named inside another");
    std::fs::create_dir_all(dir).with_context(what)?;
    for entry in std::fs::read_dir(parent).with_context(what)?.flatten() {
        let age = entry
            .metadata()
            .and_then(|it| it.modified())
            .ok()
            .and_then(|it| it.elapsed().ok());
        if age.is_some_and(|age| age > ABANDONED_AFTER) {
            // Another server may have been quicker.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}
