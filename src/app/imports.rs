//! How documents come in from elsewhere, as the settings say.

use std::time::Duration;

use anyhow::Context as _;

use crate::config::{Settings, WatchedFolder};
use crate::fetch::{FetchOptions, Fetcher, HostPattern, Url};
use crate::rag::import::ImportOptions;
use crate::rag::watch::{Folder, WatchOptions};
use crate::store::Chunking;

/// What imports are allowed, and how they ask.
pub fn import_options(settings: &Settings) -> anyhow::Result<ImportOptions> {
    let hosts = settings.web_import_hosts.iter().map(|host| host.parse());
    let allowed_hosts: Vec<HostPattern> = hosts
        .collect::<Result<_, _>>()
        .context("the setting web_import_hosts cannot be used")?;
    let arxiv_endpoint = Url::parse(&settings.arxiv_endpoint)
        .context("the setting arxiv_endpoint cannot be used")?;
    Ok(ImportOptions {
        fetcher: Fetcher::new(FetchOptions {
            allowed_hosts,
            timeout: Duration::from_secs(settings.web_import_timeout),
        }),
        delay: Duration::from_secs_f64(settings.web_import_delay),
        max_bytes: settings.max_upload_mb << 20,
        arxiv_endpoint,
        chunking: chunking(settings),
    })
}

/// Which folders are watched, and how.
pub fn watch_options(settings: &Settings) -> anyhow::Result<WatchOptions> {
    let folder = |it: &WatchedFolder| {
        // Documents are known by the path of their folder: it must not depend on where the program was started.
        let path = std::path::absolute(&it.path).context("the setting watch cannot be used")?;
        Ok(Folder {
            path,
            vector_store: it.vector_store.clone(),
        })
    };
    Ok(WatchOptions {
        folders: settings
            .watch
            .iter()
            .map(folder)
            .collect::<anyhow::Result<_>>()?,
        interval: Duration::from_secs(settings.watch_interval),
        max_file_bytes: settings.max_upload_mb << 20,
        chunking: chunking(settings),
        data_dir: settings.data_dir.clone(),
    })
}

/// How documents are cut where neither they nor their vector store say otherwise.
pub fn chunking(settings: &Settings) -> Chunking {
    Chunking {
        max_tokens: settings.chunk_tokens,
        overlap_tokens: settings.chunk_overlap,
    }
}
