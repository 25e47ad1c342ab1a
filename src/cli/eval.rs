//! `inglenook eval`: how well questions are answered from documents, with which settings, and whether that is enough; and a
//! question set made from the owner's own documents.

mod make_questions;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::config::Settings;
use crate::eval::QuestionSet;
use crate::eval::question_set::Unjudged;
use crate::eval::report::{self, Report, Threshold};
use crate::eval::variants::{AnswerMode, Comparison, FusionMode, Variant, grid, one_at_a_time};

/// The exit code when a threshold is missed; 1 is an error and 2 a mistyped command.
const MISSED: u8 = 3;

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Folder in BEIR's layout (corpus, queries, qrels), or questions about your own documents: a JSONL file or its folder
    #[arg(value_name = "FOLDER", required_unless_present = "make_questions")]
    path: Option<PathBuf>,
    /// Compare values of a setting, as alpha=0,0.5,1; may be given several times. Also: fusion, ranker, diversity,
    /// neighbors, top_k, min_similarity, min_quote_confidence, answer, chunk_tokens, overlap_tokens, embedding_model
    #[arg(long, value_name = "KEY=VALUE,...")]
    compare: Vec<Comparison>,
    /// Compare every combination of these values, instead of one change at a time
    #[arg(long, requires = "compare")]
    grid: bool,
    /// Who answers
    #[arg(long, value_enum, default_value = "quote")]
    answer: AnswerMode,
    /// Ask every Nth question again without its documents, so that it must be declined
    #[arg(long, value_name = "N")]
    without_documents: Option<usize>,
    /// Ask only so many questions, spread evenly
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// What to make of questions that nobody judged
    #[arg(long, value_enum, default_value = "skip")]
    unjudged: Unjudged,
    /// Which judgments of qrels/ to use [default: test]
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Keep ingested documents here, so that the next run with the same ones takes seconds
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Ask only this collection of your own documents, by name or id
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    /// Write a report with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail (exit code 3) when a metric is lower, as ndcg@10=0.70; may be given several times
    #[arg(long, value_name = "METRIC=VALUE")]
    min: Vec<Threshold>,
    /// What decides resampling and which questions are made
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Make a question set from your own documents, for you to read and mend
    #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "compare", "html", "json", "min", "keep"])]
    make_questions: Option<PathBuf>,
    /// How many questions to make
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        requires = "make_questions"
    )]
    num_questions: usize,
    /// Share of them that the documents do not answer
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.2,
        requires = "make_questions"
    )]
    unanswerable: f64,
    /// Make them by rules, even where there is a chat model
    #[arg(long, requires = "make_questions")]
    by_rules: bool,
}

pub async fn run(settings: Settings, args: EvalArgs) -> anyhow::Result<ExitCode> {
    let work = async {
        match &args.make_questions {
            Some(file) => make_questions::run(settings, &args, file).await,
            None => evaluate(settings, &args).await,
        }
    };
    // What is temporary is removed when the work is dropped.
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
    }
}

async fn evaluate(settings: Settings, args: &EvalArgs) -> anyhow::Result<ExitCode> {
    let path = args
        .path
        .as_deref()
        .context("name a folder or a file of questions")?;
    let mut set = QuestionSet::read(path, args.split.as_deref(), args.unjudged)?;
    if let Some(limit) = args.limit {
        anyhow::ensure!(limit > 0, "--limit must be at least 1");
        set.keep(limit);
    }
    if let Some(nth) = args.without_documents {
        anyhow::ensure!(nth > 0, "--without-documents must be at least 1");
        set.also_without_documents(nth);
    }
    let variants = variants(&settings, args)?;
    if set.corpus.is_none() {
        anyhow::ensure!(
            !args.compare.iter().any(Comparison::needs_ingestion),
            "your own documents are stored with one chunking and one embedding model, so these are not compared; \
             evaluate a folder with a corpus"
        );
        anyhow::ensure!(args.keep.is_none(), "--keep is for folders with a corpus");
    } else {
        anyhow::ensure!(
            args.collection.is_none(),
            "--collection is for questions about your own documents; this folder has a corpus"
        );
    }
    let (about, runs) = run::all(&settings, args, set, variants).await?;
    let report = Report::new(about, runs);
    show(&report);
    if let Some(file) = &args.html {
        write(file, report::page(&report).as_bytes())?;
    }
    if let Some(file) = &args.json {
        write(file, &serde_json::to_vec_pretty(&report)?)?;
    }
    let missed: Vec<String> = args
        .min
        .iter()
        .filter_map(|it| it.missed(&report))
        .collect();
    for why in &missed {
        eprintln!("missed: {why}");
    }
    Ok(match missed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(MISSED),
    })
}

fn variants(settings: &Settings, args: &EvalArgs) -> anyhow::Result<Vec<Variant>> {
    let base = Variant {
        name: "defaults".into(),
        alpha: 0.5,
        fusion: FusionMode::Weighted,
        ranker: "auto".into(),
        diversity: 0.0,
        neighbors: None,
        top_k: settings.top_k,
        min_similarity: settings.min_similarity,
        min_quote_confidence: settings.min_quote_confidence,
        answer: args.answer,
        chunk_tokens: settings.chunk_tokens,
        overlap_tokens: settings.chunk_overlap,
        embedding_model: settings.embedding_model.clone(),
    };
    let made = match args.grid {
        true => grid(base, &args.compare),
        false => one_at_a_time(base, &args.compare),
    };
    made.map_err(anyhow::Error::msg)
}

fn show(report: &Report) {
    let about = &report.about;
    println!("{}: {} questions", about.set, about.num_questions);
    for note in &about.notes {
        println!("note: {note}");
    }
    println!("\n{}", report::table(report).trim_end());
}

fn write(file: &std::path::Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote {}", file.display());
    Ok(())
}

/// The command without what is secret.
fn command(args: &EvalArgs) -> String {
    let mut words = vec!["inglenook eval".to_owned()];
    words.extend(args.path.as_ref().map(|it| it.display().to_string()));
    words.extend(args.compare.iter().map(|it| format!("--compare {it}")));
    words.extend(args.grid.then(|| "--grid".to_owned()));
    let answer = clap::ValueEnum::to_possible_value(&args.answer);
    words.extend(answer.map(|it| format!("--answer {}", it.get_name())));
    words.extend(
        args.without_documents
            .map(|it| format!("--without-documents {it}")),
    );
    words.extend(args.limit.map(|it| format!("--limit {it}")));
    words.extend(args.split.as_ref().map(|it| format!("--split {it}")));
    words.extend(
        args.collection
            .as_ref()
            .map(|it| format!("--collection {it}")),
    );
    words.push(format!("--seed {}", args.seed));
    words.join(" ")
}
