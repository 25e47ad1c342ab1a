//! `inglenook ask "..."`: a streamed answer with its sources.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::app::App;
use crate::config::Settings;
use crate::rag::answer::{Answer, AnswerEvent, Citation, Question};
use crate::rag::generate::{EndReason, GenerationOptions};
use crate::rag::reply::ReplyEvent;
use crate::rag::retrieve::{Passage, RetrieveOptions, Retrieved, as_if_found, retrieve};
use crate::rag::selection::Selection;
use crate::rag::summary::{self, Wish};
use crate::rag::tools::ToolUse;
use crate::rag::{Answerer, Workspace, quote};
use crate::store::SearchScope;

#[derive(Debug, Args)]
pub struct AskArgs {
    /// The question, or what is wanted of a summary
    question: String,
    /// How it is answered: by default the chat model writes where one was pulled, and documents are quoted otherwise
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// The same as --mode quote
    #[arg(long, conflicts_with = "mode")]
    quote: bool,
    /// Answer from this text alone, without a search
    #[arg(long, value_name = "TEXT")]
    selected_text: Option<String>,
    /// The file that the text comes from, so that citations are spans of it
    #[arg(long, value_name = "FILE_ID", requires = "selected_text")]
    selected_file_id: Option<String>,
    /// Who asks, so that the words suit them
    #[arg(long, value_name = "TEXT")]
    reader: Option<String>,
    /// Confidence from 0 to 1 below which nothing is answered
    #[arg(long, value_name = "NUMBER", value_parser = share)]
    min_confidence: Option<f32>,
    /// Only these files
    #[arg(long = "file", value_name = "FILE_ID")]
    files: Vec<String>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "TOKENS", conflicts_with = "quote")]
    max_tokens: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The chat model writes
    Answer,
    /// The documents' own sentence or two
    Quote,
    /// A summary of all documents, or of those named by --file
    Summary,
}

fn share(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|it| (0.0..=1.0).contains(it));
    number.ok_or_else(|| "must be a number from 0 to 1".into())
}

pub async fn run(settings: Settings, args: AskArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(!args.question.trim().is_empty(), "the question is empty");
    let timeout = Duration::from_secs(settings.generation_timeout);
    let mode = match args.quote {
        true => Some(Mode::Quote),
        false => args.mode,
    };
    let app = match mode {
        Some(Mode::Quote) => App::open_quoting(settings).await?,
        _ => App::open_models(settings).await?,
    };
    let workspace = app.workspace();
    let answerer = answerer(workspace, mode).await?;
    let asking = Asking {
        workspace,
        answerer,
        mode,
        // The same question gets the same answer.
        options: GenerationOptions::greedy(args.max_tokens, timeout),
        args: &args,
    };
    let (answer, given) = asking.answer().await?;
    show(answer, &given).await?;
    if let Some(notice) = app.demonstration_notice() {
        eprintln!("note: {notice}");
    }
    app.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn answerer(workspace: &Workspace, mode: Option<Mode>) -> anyhow::Result<Answerer> {
    Ok(match (mode, workspace.models.default_chat()) {
        (Some(Mode::Quote), _) => Answerer::Quote,
        (Some(Mode::Answer), Some(chat)) => Answerer::Chat(workspace.models.chat(chat).await?),
        (Some(Mode::Answer), None) => anyhow::bail!(crate::http::NO_CHAT_MODEL),
        (Some(Mode::Summary) | None, _) => workspace.default_answerer().await?,
    })
}

struct Asking<'a> {
    workspace: &'a Workspace,
    answerer: Answerer,
    mode: Option<Mode>,
    options: GenerationOptions,
    args: &'a AskArgs,
}

impl Asking<'_> {
    /// The answer, and the passages that it is given from.
    async fn answer(&self) -> anyhow::Result<(Answer, Vec<Passage>)> {
        let (workspace, args) = (self.workspace, self.args);
        let selection = self.selection().await?;
        if self.mode == Some(Mode::Summary) {
            let passages = match &selection {
                Some(selection) => selection.passages(),
                None => summary::passages(workspace, &self.scope().await?).await?,
            };
            return Ok((self.summary(passages).await?, Vec::new()));
        }
        let question = &args.question;
        let found = match &selection {
            Some(selection) => as_if_found(workspace, question, selection.passages()).await?,
            None => self.found().await?,
        };
        let default = match &self.answerer {
            Answerer::Quote => workspace.min_quote_confidence,
            Answerer::Chat(_) => workspace.min_confidence,
        };
        let min_confidence = args.min_confidence.unwrap_or(default);
        let answer = match &self.answerer {
            Answerer::Quote => Answer::quote(workspace, question, &found, min_confidence).await?,
            Answerer::Chat(chat) => {
                let best = quote::choose(workspace, question, &found).await?;
                let confidence = best.map_or(0.0, |best| best.confidence);
                let mut asked = self.question(found.relevant().to_vec());
                let is_sure = selection.is_some() || confidence >= min_confidence;
                if !is_sure {
                    asked.decline();
                }
                let mut answer = Answer::begin(workspace, chat, asked).await?;
                answer.about.confidence = selection.is_none().then_some(confidence);
                answer.about.is_declined = !is_sure;
                answer
            }
        };
        Ok((answer, found.passages))
    }

    async fn selection(&self) -> anyhow::Result<Option<Selection>> {
        let args = self.args;
        Ok(match (&args.selected_text, &args.selected_file_id) {
            (Some(text), Some(id)) => {
                Some(Selection::of_document(&self.workspace.store, id, text).await?)
            }
            (Some(text), None) => Some(Selection::alone(text.clone())),
            (None, _) => None,
        })
    }

    async fn scope(&self) -> anyhow::Result<SearchScope> {
        let collection = self.workspace.store.default_vector_store().await?.id;
        let files = &self.args.files;
        let live = self.workspace.store.live_files(files.clone()).await?;
        if let Some(unknown) = files.iter().find(|id| !live.contains(*id)) {
            anyhow::bail!(
                "there is no file with the id {unknown:?}; --file takes an id, which GET /v1/files and the page of a document \
                 show"
            );
        }
        Ok(SearchScope {
            vector_store_ids: vec![collection],
            file_ids: (!files.is_empty()).then(|| files.clone()),
            filter: None,
        })
    }

    async fn found(&self) -> anyhow::Result<Retrieved> {
        let question = std::slice::from_ref(&self.args.question);
        let scope = self.scope().await?;
        let options = RetrieveOptions {
            top_k: self.workspace.top_k,
            ..RetrieveOptions::default()
        };
        Ok(retrieve(self.workspace, question, &scope, &options).await?)
    }

    fn question(&self, found: Vec<Passage>) -> Question {
        Question {
            text: self.args.question.clone(),
            found: Some(found),
            earlier: Vec::new(),
            following: Vec::new(),
            known: Vec::new(),
            instructions: None,
            reader: self.args.reader.clone(),
            tools: ToolUse::default(),
            shape: None,
            is_thinking: false,
            options: self.options.clone(),
        }
    }

    async fn summary(&self, passages: Vec<Passage>) -> anyhow::Result<Answer> {
        let workspace = self.workspace;
        if passages.is_empty() {
            return Ok(Answer::not_found(workspace));
        }
        Ok(match &self.answerer {
            Answerer::Quote => {
                let extract = summary::extract(workspace, &passages).await?;
                Answer::extracted(workspace, extract, summary::EXTRACTIVE).await?
            }
            Answerer::Chat(chat) => {
                let wish = Wish {
                    request: self.args.question.clone(),
                    instructions: None,
                    reader: self.args.reader.clone(),
                    options: self.options.clone(),
                };
                let preparing = summary::begin(workspace, chat, passages, wish).await?;
                Answer::prepared(workspace, preparing)
            }
        })
    }
}

async fn show(mut answer: Answer, given: &[Passage]) -> anyhow::Result<()> {
    let mut citations: Vec<Citation> = Vec::new();
    let mut out = std::io::stdout();
    let bar = ProgressBar::hidden();
    while let Some(event) = answer.next().await {
        match event? {
            AnswerEvent::Reply(ReplyEvent::Text { text, .. }) => {
                bar.finish_and_clear();
                write!(out, "{text}")?;
            }
            AnswerEvent::Citation(citation) => citations.push(citation),
            AnswerEvent::Progress(progress) => {
                if bar.is_hidden() {
                    bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
                    bar.set_style(ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}")?);
                }
                bar.set_message(match progress.stage {
                    summary::Stage::Passages => "passages",
                    summary::Stage::Groups => "groups",
                });
                bar.set_length(progress.num_total as u64);
                bar.set_position(progress.num_done as u64);
            }
            AnswerEvent::Reply(ReplyEvent::Finished {
                reason: EndReason::Length,
                ..
            }) => write!(out, " ...")?,
            // Nobody asked for thoughts or calls.
            AnswerEvent::Reply(_) => {}
        }
        out.flush()?;
    }
    writeln!(out)?;
    for citation in &citations {
        let words: Vec<&str> = citation.quote.split_whitespace().collect();
        let page = match citation.page_first {
            0 => String::new(),
            page => format!(", page {page}"),
        };
        let (number, name, quote) = (citation.number, &citation.filename, words.join(" "));
        writeln!(out, "[{number}] {name}{page}: \"{quote}\"")?;
    }
    let about = &answer.about;
    if citations.is_empty() && about.is_found && !given.is_empty() {
        writeln!(
            out,
            "Nothing was cited. Passages that were given to the model:"
        )?;
        for passage in &given[..given.len() - about.left_out.num_passages] {
            let chunk = &passage.chunk;
            writeln!(out, "  {}, page {}", chunk.filename, chunk.page_first)?;
        }
    }
    if let Some(confidence) = about.confidence {
        eprintln!("confidence: {confidence:.2}");
    }
    if about.is_declined {
        eprintln!("note: something was found, but with less confidence than asked for");
    }
    if let Some(dropped) = about.left_out.sentence() {
        eprintln!("note: {dropped}");
    }
    Ok(())
}
