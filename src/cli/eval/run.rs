//! Asks all questions with all variants, ingesting what has to be ingested.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::{EvalArgs, command};
use crate::app::App;
use crate::config::Settings;
use crate::eval::ask::{Asker, Observation};
use crate::eval::corpus::{Documents, GoldFinder, chunking, fingerprint, ingest, stored};
use crate::eval::question_set::Question;
use crate::eval::report::{About, Run, Searched};
use crate::eval::score::{Judged, piece};
use crate::eval::variants::{AnswerMode, Ingestion};
use crate::eval::{QuestionSet, Variant};
use crate::rag::Answerer;
use crate::rag::generate::ChatModel;
use crate::rag::ingest::reindex_scope;
use crate::store::{ListOptions, Store, unix_now};

/// How often the work of others is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Opened documents, with the folder that goes when this is dropped.
struct Opened {
    app: App,
    documents: Documents,
    ingestion_seconds: Option<f64>,
    _temporary: Option<tempfile::TempDir>,
}

/// One run for each variant, in their order.
pub async fn all(
    settings: &Settings,
    args: &EvalArgs,
    set: QuestionSet,
    variants: Vec<Variant>,
) -> anyhow::Result<(About, Vec<Run>)> {
    let mut about = About {
        version: env!("CARGO_PKG_VERSION").into(),
        set: set.name.clone(),
        num_questions: set.questions.len(),
        seed: args.seed,
        measured_at: unix_now(),
        machine: machine(),
        device: String::new(),
        num_threads: num_threads(settings),
        command: command(args),
        notes: set.notes.clone(),
    };
    let mut ingestions: Vec<Ingestion> = Vec::new();
    for variant in &variants {
        if !ingestions.contains(&variant.ingestion()) {
            ingestions.push(variant.ingestion());
        }
    }
    let mut runs: Vec<Option<Run>> = variants.iter().map(|_| None).collect();
    for ingestion in &ingestions {
        let writes = variants.iter().any(|it| it.answer == AnswerMode::Chat);
        let opened = open(settings, args, &set, ingestion, writes).await?;
        about.device = opened.app.device().to_owned();
        let judged = judged(&opened, &set, &mut about.notes).await?;
        for (at, variant) in variants.iter().enumerate() {
            if variant.ingestion() == *ingestion {
                let run = ask_all(&opened, settings, variant, judged.clone()).await?;
                let seen = run.observations.iter().flat_map(|it| &it.notes);
                for text in seen.collect::<BTreeSet<_>>() {
                    note(&mut about.notes, format!("{}: {text}", variant.name));
                }
                runs[at] = Some(run);
            }
        }
        opened.app.close().await;
    }
    Ok((about, runs.into_iter().flatten().collect()))
}

async fn open(
    settings: &Settings,
    args: &EvalArgs,
    set: &QuestionSet,
    ingestion: &Ingestion,
    writes: bool,
) -> anyhow::Result<Opened> {
    let mut settings = settings.clone();
    settings.embedding_model = ingestion.embedding_model.clone();
    let Some(corpus) = &set.corpus else {
        return open_own(settings, args, writes).await;
    };
    let chunking = chunking(ingestion.chunk_tokens, ingestion.overlap_tokens);
    let mut temporary = None;
    settings.data_dir = match &args.keep {
        Some(keep) => {
            let name = fingerprint(corpus, chunking, ingestion.embedding_model.as_deref())
                .context("the corpus cannot be read")?;
            kept(keep, &name)?
        }
        None => {
            let dir = tempfile::tempdir().context("no folder for the documents can be made")?;
            temporary.insert(dir).path().join("data")
        }
    };
    let app = match writes {
        true => App::open(settings).await?,
        false => App::open_documents(settings).await?,
    };
    let store = app.workspace().store.clone();
    let was_complete = store.num_unfinished_jobs().await? == 0;
    // The folder remembers documents by the model's name, but the model behind it may be another one now.
    let embedder = app.workspace().embedder.as_ref();
    let embedder = embedder.expect("documents were opened with one");
    let num_stale = store
        .queue_reindex(reindex_scope(None, None, embedder))
        .await?;
    let bar = bar("ingesting", "documents")?;
    let begun = Instant::now();
    let mut num_new = num_stale as usize;
    let mut is_first = true;
    let documents = ingest(&store, corpus, chunking, |progress| {
        if std::mem::take(&mut is_first) {
            num_new += progress.num_all.saturating_sub(progress.num_done);
        }
        bar.set_length(progress.num_all as u64);
        bar.set_position(progress.num_done as u64);
    })
    .await?;
    while !store.reindex_progress().await?.is_finished() {
        tokio::time::sleep(POLL).await;
    }
    bar.finish_and_clear();
    Ok(Opened {
        app,
        documents,
        ingestion_seconds: (num_new > 0 || !was_complete).then(|| begun.elapsed().as_secs_f64()),
        _temporary: temporary,
    })
}

fn kept(keep: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let dir = keep.join(name);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// The owner's own documents, which are only read.
pub async fn open_own_documents(
    settings: Settings,
    collection: Option<&str>,
    writes: bool,
) -> anyhow::Result<(App, Documents)> {
    let dir = settings.data_dir.display().to_string();
    anyhow::ensure!(
        settings.data_dir.is_dir(),
        "there are no documents in {dir}; add some with: inglenook ingest FILE"
    );
    let app = match writes {
        true => App::open_models(settings).await?,
        false => App::open_quoting(settings).await?,
    };
    let store = &app.workspace().store;
    let collections = collections(store, collection).await?;
    let documents = stored(store, collections).await?;
    anyhow::ensure!(
        !documents.names.is_empty(),
        "no document in {dir} can be searched; add some with: inglenook ingest FILE"
    );
    Ok((app, documents))
}

async fn open_own(settings: Settings, args: &EvalArgs, writes: bool) -> anyhow::Result<Opened> {
    let collection = args.collection.as_deref();
    let (app, documents) = open_own_documents(settings, collection, writes).await?;
    Ok(Opened {
        app,
        documents,
        ingestion_seconds: None,
        _temporary: None,
    })
}

async fn collections(store: &Store, wanted: Option<&str>) -> anyhow::Result<Vec<String>> {
    let Some(wanted) = wanted else {
        return Ok(store.vector_store_ids().await?);
    };
    let list = ListOptions {
        limit: 10_000,
        ..ListOptions::default()
    };
    let all = store.list_vector_stores(list).await?.items;
    let found: Vec<String> = all
        .iter()
        .filter(|it| it.id == wanted || it.name == wanted)
        .map(|it| it.id.clone())
        .collect();
    if found.is_empty() {
        let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
        bail!(
            "there is no collection {wanted:?}; there are: {}",
            names.join(", ")
        );
    }
    Ok(found)
}

/// The questions with their gold texts placed, and notes on what could not be.
async fn judged(
    opened: &Opened,
    set: &QuestionSet,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Judged>> {
    let store = &opened.app.workspace().store;
    let mut finder = GoldFinder::new(store, &opened.documents);
    let mut judged = Vec::new();
    let (mut num_gold, mut num_lost) = (0, 0);
    for question in &set.questions {
        let mut pieces = Vec::new();
        for gold in &question.gold {
            num_gold += 1;
            match finder.find(gold).await? {
                Some(span) => pieces.push(piece(&gold.document, &span)),
                None => num_lost += 1,
            }
        }
        judged.push(Judged {
            question: question.clone(),
            pieces,
        });
    }
    if num_lost > 0 {
        note(
            notes,
            format!(
                "{num_lost} of {num_gold} gold texts do not stand in the documents as they were read"
            ),
        );
    }
    let named = |question: &Question| question.relevant.keys().cloned().collect::<Vec<_>>();
    let named: Vec<String> = set.questions.iter().flat_map(named).collect();
    let num_unknown = named.iter().filter(|name| !finder.knows(name)).count();
    if set.corpus.is_none() && num_unknown > 0 {
        anyhow::ensure!(
            num_unknown < named.len(),
            "none of the documents that the questions name is stored (the first one is {:?}); were they made from another \
             data folder?",
            named[0]
        );
        note(
            notes,
            format!("{num_unknown} documents that questions name are not stored"),
        );
    }
    if let Some((name, why)) = opened.documents.failed.first() {
        let num = opened.documents.failed.len();
        note(
            notes,
            format!("{num} documents could not be ingested, the first is {name}: {why}"),
        );
    }
    Ok(judged)
}

fn note(notes: &mut Vec<String>, note: String) {
    if !notes.contains(&note) {
        notes.push(note);
    }
}

async fn ask_all(
    opened: &Opened,
    settings: &Settings,
    variant: &Variant,
    judged: Vec<Judged>,
) -> anyhow::Result<Run> {
    let workspace = opened.app.workspace();
    let chat = match variant.answer {
        AnswerMode::Chat => Some(own_chat_model(&opened.app).await?),
        _ => None,
    };
    let embedder = workspace
        .embedder
        .as_ref()
        .context(crate::http::NO_EMBEDDING_MODEL)?;
    let answered_by = match (variant.answer, &chat) {
        (AnswerMode::None, _) => None,
        (_, Some(chat)) => Some(chat.id().to_owned()),
        (_, None) => Some(Answerer::Quote.id().to_owned()),
    };
    let searched = Searched {
        embedding_model: embedder.spec().name.clone(),
        embedding_model_hash: embedder.spec().model_hash.clone(),
        answered_by,
        num_documents: opened.documents.names.len(),
        num_passages: opened.documents.num_passages,
        ingestion_seconds: opened.ingestion_seconds,
        num_failed: opened.documents.failed.len(),
    };
    let timeout = Duration::from_secs(settings.generation_timeout);
    let asker = Asker::new(workspace, variant, &opened.documents, chat, timeout);
    // The first search loads what the others find loaded.
    if let Some(first) = judged.first() {
        asker.ask(&first.question).await?;
    }
    let bar = bar(&variant.name, "questions")?;
    bar.set_length(judged.len() as u64);
    let mut observations: Vec<Observation> = Vec::new();
    for judged in &judged {
        let question = &judged.question;
        let asked = asker.ask(question).await;
        observations.push(asked.with_context(|| format!("question {}", question.id))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Run {
        settings: variant.clone(),
        searched,
        judged,
        observations,
    })
}

/// The chat model that the owner chose.
pub async fn own_chat_model(app: &App) -> anyhow::Result<ChatModel> {
    match app.workspace().default_answerer().await? {
        Answerer::Chat(chat) => Ok(chat),
        Answerer::Quote => bail!(
            "there is no chat model that answers from documents (the bundled one is for demonstration); pull one with: \
             inglenook models pull qwen3-1.7b"
        ),
    }
}

pub fn bar(name: &str, what: &str) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(0);
    let style = format!("{{msg}} [{{bar:30}}] {{pos}}/{{len}} {what}, {{eta}} left");
    bar.set_style(ProgressStyle::with_template(&style)?);
    bar.set_message(name.to_owned());
    Ok(bar)
}

fn num_threads(settings: &Settings) -> usize {
    match settings.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        num => num,
    }
}

/// The processor and the system, as they name themselves.
fn machine() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = told.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    format!("{processor}, {}", std::env::consts::OS)
}
