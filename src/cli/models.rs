//! `inglenook models`: what is here, what can be pulled and what is loaded, and pulling and unloading.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::loaded_models::{self, ServerArgs};
use crate::config::Settings;
use crate::hub::{self, ChosenModel, HubOptions, ModelCache, ModelKind, Progress};

#[derive(Debug, Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: Option<ModelsCommand>,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// List the catalog, and where each model is that was pulled (what happens without a command)
    List,
    /// Download a model of the catalog
    Pull {
        /// Name from the list
        name: String,
    },
    /// List the models that the running server has loaded
    Ps(ServerArgs),
    /// Unload a model of the running server that answers nothing now; it is loaded again when asked for
    Unload {
        /// Name from `models ps`
        name: String,
        #[command(flatten)]
        server: ServerArgs,
    },
}

pub fn run(settings: &Settings, args: &ModelsArgs) -> anyhow::Result<ExitCode> {
    let cache = ModelCache::new(settings.model_cache.clone());
    match &args.command {
        None | Some(ModelsCommand::List) => list(settings, &cache),
        Some(ModelsCommand::Pull { name }) => pull(settings, &cache, name),
        Some(ModelsCommand::Ps(server)) => loaded_models::list(settings, server),
        Some(ModelsCommand::Unload { name, server }) => {
            loaded_models::unload(settings, server, name)
        }
    }
}

fn list(settings: &Settings, cache: &ModelCache) -> anyhow::Result<ExitCode> {
    let pulled = cache.list();
    for (kind, heading) in [
        (ModelKind::Embedding, "Embedding models"),
        (ModelKind::Chat, "Chat models"),
        (ModelKind::Rerank, "Rerank models"),
    ] {
        println!("{heading}");
        for model in hub::bundled().filter(|model| model.kind == kind) {
            let size = format!("{} MB", model.num_bytes().div_ceil(1_000_000));
            println!(
                "  {:<24} {size:>8}  {:<14} comes with the program, for demonstration",
                model.name, "Apache-2.0"
            );
        }
        for entry in hub::catalog().iter().filter(|entry| entry.kind == kind) {
            let size = entry
                .approximate_size_mb
                .map_or(String::new(), |size| format!("{size} MB"));
            let state = match (
                pulled.iter().find(|model| model.name == entry.name),
                &entry.unsupported,
            ) {
                (Some(model), _) => format!("here: {}", model.path.display()),
                (None, Some(reason)) => format!("not supported: {reason}"),
                (None, None) => entry.note.clone(),
            };
            println!(
                "  {:<24} {size:>8}  {:<14} {state}",
                entry.name, entry.license
            );
        }
    }
    for (kind, named) in [
        (ModelKind::Embedding, &settings.embedding_model),
        (ModelKind::Chat, &settings.chat_model),
    ] {
        let served = cache.choose(named.as_deref(), kind)?;
        match served {
            Some(ChosenModel::Found(model)) => println!(
                "Loaded as {kind} model: {} from {}",
                model.name,
                model.path.display()
            ),
            Some(ChosenModel::Bundled(model)) => println!(
                "Loaded as {kind} model: {}, which comes with the program",
                model.name
            ),
            None => println!("Loaded as {kind} model: none"),
        }
    }
    println!("Pull one with: inglenook models pull NAME");
    Ok(ExitCode::SUCCESS)
}

fn pull(settings: &Settings, cache: &ModelCache, name: &str) -> anyhow::Result<ExitCode> {
    if hub::bundled().any(|model| model.name == name) {
        println!("{name} comes with the program and needs no download");
        return Ok(ExitCode::SUCCESS);
    }
    let Some(entry) = hub::find(name) else {
        let names: Vec<&str> = hub::catalog()
            .iter()
            .map(|entry| entry.name.as_str())
            .collect();
        anyhow::bail!(
            "{name:?} is not in the catalog; it has: {}",
            names.join(", ")
        );
    };
    let options = HubOptions {
        endpoint: settings.hub_endpoint.clone(),
        token: settings.hub_token.clone(),
        cache_dir: Some(cache.dir().to_path_buf()),
        ..HubOptions::default()
    };
    println!("{} from {} ({})", entry.name, entry.repo, entry.license);
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template(
        "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    )?);
    let model = hub::pull(entry, &options, &mut |progress| show(&bar, progress))?;
    bar.finish_and_clear();
    println!("{}: {}", model.name, model.path.display());
    Ok(ExitCode::SUCCESS)
}

fn show(bar: &ProgressBar, progress: Progress<'_>) {
    match progress {
        Progress::AlreadyHere { file } => bar.println(format!("{file}: already here")),
        Progress::Started {
            file,
            num_bytes,
            num_present,
        } => {
            bar.set_message(file.to_string());
            bar.set_length(num_bytes.unwrap_or(0));
            bar.set_position(num_present);
            bar.reset_eta();
        }
        Progress::Advanced { num_present, .. } => bar.set_position(num_present),
        Progress::Retrying { file, reason } => {
            bar.println(format!("{file}: {reason}; trying again"))
        }
        Progress::Verifying { file } => bar.set_message(format!("{file}: checking")),
        Progress::Finished { file } => bar.println(format!("{file}: done")),
    }
}
