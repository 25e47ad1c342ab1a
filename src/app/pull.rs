//! Pulling a model at a client's wish, which the owner allows by a setting. Only what the catalog has can be pulled.

use std::sync::Arc;

use crate::config::Settings;
use crate::http::ollama::{PullError, PullModel, PullStep};
use crate::hub::{self, HubOptions, Progress};

pub fn for_clients(settings: &Settings) -> PullModel {
    let options = HubOptions {
        endpoint: settings.hub_endpoint.clone(),
        token: settings.hub_token.clone(),
        cache_dir: settings.model_cache.clone(),
        ..HubOptions::default()
    };
    Arc::new(move |name, tell| {
        if hub::bundled().any(|model| model.name == name) {
            return Ok(());
        }
        let entry = hub::find(name).ok_or_else(|| PullError::Unknown {
            name: name.to_owned(),
            known: names(),
        })?;
        let pulled = hub::pull(entry, &options, &mut |progress| {
            if let Some(step) = step(progress) {
                tell(step);
            }
        });
        let failed = |error: hub::HubError| PullError::Failed(error.to_string());
        pulled.map(|_| ()).map_err(failed)
    })
}

fn names() -> String {
    let runs = hub::catalog().iter().filter(|it| it.unsupported.is_none());
    let names: Vec<&str> = runs.map(|entry| entry.name.as_str()).collect();
    names.join(", ")
}

fn step(progress: Progress<'_>) -> Option<PullStep<'_>> {
    match progress {
        Progress::Started {
            file,
            num_bytes,
            num_present,
        } => Some(PullStep::Began {
            file,
            num_bytes,
            num_present,
        }),
        Progress::Advanced { file, num_present } => Some(PullStep::Advanced { file, num_present }),
        Progress::Verifying { file } => Some(PullStep::Checking { file }),
        Progress::Retrying { file, reason } => Some(PullStep::Waiting { file, reason }),
        Progress::AlreadyHere { .. } | Progress::Finished { .. } => None,
    }
}
