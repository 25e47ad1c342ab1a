//! `inglenook ingest PATH...`: adds documents and waits until they can be searched. A server that is running on the
//! same data folder does the work; otherwise this process does. A file that was
//! ingested before and has changed takes its own place, and nobody else's.

mod add;
mod bars;
mod find;

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::sync::mpsc;

use crate::app::App;
use crate::config::Settings;
use crate::rag::ingest::allowed_chunking;
use crate::store::{Document, DocumentStatus, LastLook, Password, Stage, Store, try_worker_lock};
use add::{Added, Adding};
use bars::Bars;

/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Files of folders that are no documents; of more only the number is told.
const MAX_LEFT_OUT_SHOWN: usize = 20;
/// Files that were added and are not followed yet.
const MAX_ADDED: usize = 64;

#[derive(Debug, Args)]
pub struct IngestArgs {
    /// Documents (PDF, Office, OpenDocument, EPUB, e-mail, HTML, Markdown, CSV, JSON, any text, or ZIP files of them),
    /// folders of them, or patterns such as 'reports/**/*.pdf'
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Opens PDFs that are encrypted, those in archives and e-mails too; kept until they are read
    #[arg(long, value_name = "PASSWORD", value_parser = parsed_password)]
    password: Option<Password>,
}

/// Kept in a type that shows it nowhere.
pub fn parsed_password(typed: &str) -> Result<Password, std::convert::Infallible> {
    Ok(Password::new(typed.to_owned()))
}

pub async fn run(settings: Settings, args: IngestArgs) -> anyhow::Result<ExitCode> {
    let data_dir = settings.data_dir.clone();
    let app = App::open_documents(settings).await?;
    let workspace = app.workspace();
    let store = workspace.store.clone();
    let default = store.default_vector_store().await?;
    let chunking = default.chunking.unwrap_or(workspace.chunking);
    let collection = default.id;
    let embedder = workspace.embedder.as_ref().expect("it was asked for");
    let (sender, added) = mpsc::channel(MAX_ADDED);
    let adding = Adding {
        store: store.clone(),
        collection: collection.clone(),
        chunking: allowed_chunking(chunking, embedder),
        password: args.password,
        recognises: app.recognises(),
    };
    let adding = tokio::spawn(adding.run(args.paths, sender));
    let mut session = Session {
        store: store.clone(),
        collection,
        waiting: HashMap::new(),
        queued: HashSet::new(),
        bars: Bars::new()?,
        summary: Summary::default(),
    };
    let is_complete = session.run(added).await;
    adding.abort();
    session.bars.clear();
    let (summary, num_waiting) = (session.summary, session.waiting.len());
    // What was replaced has left bytes behind.
    store.delete_expired().await?;
    app.close().await;
    if !is_complete? {
        let who = match try_worker_lock(&data_dir)? {
            Some(_) => "the next inglenook ingest or serve goes on with them where they are",
            None => "the inglenook that is running goes on with them",
        };
        println!("stopped; {num_waiting} documents are not finished: {who}");
        return Ok(ExitCode::from(130));
    }
    summary.print();
    Ok(match summary.num_failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// What has become of all files.
#[derive(Debug, Default)]
struct Summary {
    num_added: usize,
    num_passages: u64,
    num_unchanged: usize,
    num_failed: usize,
    num_left_out: usize,
}

impl Summary {
    fn print(&self) {
        let Self {
            num_added,
            num_passages,
            num_unchanged,
            num_failed,
            num_left_out,
        } = self;
        if let Some(num_more) = num_left_out.checked_sub(MAX_LEFT_OUT_SHOWN)
            && num_more > 0
        {
            eprintln!("and {num_more} more were left out");
        }
        if num_added + num_unchanged + num_failed + num_left_out < 2 {
            return;
        }
        println!(
            "{num_added} documents added with {num_passages} passages, {num_unchanged} unchanged, {num_failed} failed, \
             {num_left_out} left out as no documents"
        );
    }
}

/// Follows what was added.
struct Session {
    store: Store,
    collection: String,
    /// Names of the files that are not finished, by their documents.
    waiting: HashMap<i64, String>,
    /// Documents that waited for their turn at the last look, also those of others.
    queued: HashSet<i64>,
    bars: Bars,
    summary: Summary,
}

impl Session {
    /// Tells of each file until all are finished; false when the user has had enough before.
    async fn run(&mut self, mut added: mpsc::Receiver<Added>) -> anyhow::Result<bool> {
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_all_added = false;
        while !is_all_added || !self.waiting.is_empty() {
            tokio::select! {
                interrupt = &mut interrupted => {
                    interrupt?;
                    return Ok(false);
                }
                next = added.recv(), if !is_all_added => match next {
                    Some(added) => self.take(added),
                    None => is_all_added = true,
                },
                _ = tick.tick() => self.look().await?,
            }
        }
        Ok(true)
    }

    fn take(&mut self, added: Added) {
        match added {
            Added::Queued { name, document } => {
                self.waiting.insert(document.id, name);
                self.bars
                    .set_total(self.summary.num_added + self.waiting.len());
            }
            Added::Unchanged { name } => {
                self.summary.num_unchanged += 1;
                self.bars
                    .say(|| println!("{name}: unchanged, nothing to do"));
            }
            Added::LeftOut { name, reason } => {
                self.summary.num_left_out += 1;
                if self.summary.num_left_out <= MAX_LEFT_OUT_SHOWN {
                    self.bars.say(|| eprintln!("{name}: left out: {reason}"));
                }
            }
            Added::Failed { name, error } => {
                self.summary.num_failed += 1;
                self.bars.say(|| eprintln!("{name}: {error:#}"));
            }
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let last = LastLook {
            unfinished: self.waiting.keys().copied().collect(),
            queued: self.queued.clone(),
        };
        let look = self
            .store
            .look_at_unfinished(&self.collection, last)
            .await?;
        for document in look.documents {
            match document.stage {
                Some(Stage::Queued) => self.queued.insert(document.id),
                _ => self.queued.remove(&document.id),
            };
            let Some(name) = self.waiting.get(&document.id).cloned() else {
                continue;
            };
            match document.status {
                DocumentStatus::InProgress => self.bars.show(&name, &document),
                _ => self.end(&name, &document),
            }
        }
        for id in look.deleted {
            if let Some(name) = self.waiting.remove(&id) {
                self.summary.num_failed += 1;
                self.bars.end(id);
                self.bars
                    .say(|| eprintln!("{name}: was taken out by somebody else"));
            }
        }
        Ok(())
    }

    fn end(&mut self, name: &str, document: &Document) {
        self.waiting.remove(&document.id);
        self.bars.end(document.id);
        if document.status != DocumentStatus::Completed {
            self.summary.num_failed += 1;
            let error = document.last_error.as_ref();
            let why = error.map_or("was cancelled", |error| &error.message);
            self.bars.say(|| eprintln!("{name}: {why}"));
            return;
        }
        self.summary.num_added += 1;
        self.summary.num_passages += u64::from(document.num_chunks);
        let (num_passages, file_id) = (document.num_chunks, &document.file_id);
        self.bars
            .say(|| println!("{name}: {num_passages} passages ({file_id})"));
        for warning in &document.page_warnings {
            let (page, error) = (warning.page, &warning.error);
            self.bars.say(|| eprintln!("{name}: page {page}: {error}"));
        }
    }
}
