//! `inglenook search "..."`: the passages that a question finds, with their scores, and on request how they came to them.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::app::App;
use crate::config::Settings;
use crate::http::openai::found::SearchResults;
use crate::rag::retrieve::{
    Explanation, Fusion, Passage, Ranker, RetrieveOptions, Retrieved, Timings, Weights, retrieve,
};
use crate::store::SearchScope;

#[derive(Debug, Args)]
pub struct SearchArgs {
    /// What to look for
    query: String,
    /// Passages to show, up to 50
    #[arg(long, value_name = "N", default_value_t = 10)]
    top_k: usize,
    /// From 0, only words, to 1, only meaning
    #[arg(long, default_value_t = 0.5)]
    alpha: f32,
    /// How both searches become one score
    #[arg(long, value_enum, default_value_t = FusionName::Weighted)]
    fusion: FusionName,
    /// Rerank model that reads the first passages again, auto for the server's own, or none
    #[arg(long, value_name = "MODEL", default_value = "auto")]
    ranker: String,
    /// From 0, only scores count, to 1, only that a passage says something else than those before it
    #[arg(long, default_value_t = 0.0)]
    diversity: f32,
    /// Join chunks found side by side, each with so many before and behind it
    #[arg(long, value_name = "N")]
    neighbors: Option<usize>,
    /// Say what each stage of the search said of a passage
    #[arg(long)]
    explain: bool,
    /// Print what the API answers
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FusionName {
    Weighted,
    ReciprocalRank,
}

impl SearchArgs {
    fn options(&self) -> anyhow::Result<RetrieveOptions> {
        anyhow::ensure!(
            !self.query.trim().is_empty(),
            "there is nothing to look for"
        );
        anyhow::ensure!(
            (1..=50).contains(&self.top_k),
            "--top-k is {}, but must be between 1 and 50",
            self.top_k
        );
        for (name, value) in [("alpha", self.alpha), ("diversity", self.diversity)] {
            anyhow::ensure!(
                (0.0..=1.0).contains(&value),
                "--{name} is {value}, but must be between 0 and 1"
            );
        }
        if let Some(neighbors) = self.neighbors {
            anyhow::ensure!(
                neighbors <= 4,
                "--neighbors is {neighbors}, but must be between 0 and 4"
            );
        }
        Ok(RetrieveOptions {
            top_k: self.top_k,
            weights: Weights::from_alpha(self.alpha),
            fusion: match self.fusion {
                FusionName::Weighted => Fusion::Weighted,
                FusionName::ReciprocalRank => Fusion::ReciprocalRank,
            },
            ranker: match self.ranker.as_str() {
                "auto" => Ranker::Auto,
                "none" => Ranker::None,
                name => Ranker::Named(name.to_owned()),
            },
            diversity: self.diversity,
            neighbors: self.neighbors,
            explains: self.explain,
        })
    }
}

pub async fn run(settings: Settings, args: SearchArgs) -> anyhow::Result<ExitCode> {
    let options = args.options()?;
    // No chat model is needed to find passages.
    let app = App::open_quoting(settings).await?;
    let workspace = app.workspace();
    let scope = SearchScope {
        vector_store_ids: workspace.store.vector_store_ids().await?,
        file_ids: None,
        filter: None,
    };
    let queries = std::slice::from_ref(&args.query);
    let retrieved = retrieve(workspace, queries, &scope, &options).await?;
    let mut out = std::io::stdout().lock();
    match args.json {
        true => {
            let results = SearchResults::new(&retrieved, 0.0, &options);
            writeln!(out, "{}", serde_json::to_string_pretty(&results)?)?;
        }
        false => print(&mut out, &retrieved, &options)?,
    }
    drop(out);
    app.close().await;
    Ok(ExitCode::SUCCESS)
}

fn print(
    out: &mut impl Write,
    retrieved: &Retrieved,
    options: &RetrieveOptions,
) -> std::io::Result<()> {
    if retrieved.passages.is_empty() {
        writeln!(out, "Nothing was found.")?;
    }
    for passage in &retrieved.passages {
        let chunk = &passage.chunk;
        let Passage { number, score, .. } = passage;
        let headings = chunk
            .heading_path
            .iter()
            .map(|heading| format!(", {heading}"));
        writeln!(
            out,
            "[{number}] {score:.3}  {}, page {}{}",
            chunk.filename,
            chunk.page_first,
            headings.collect::<String>()
        )?;
        if let Some(explanation) = &passage.explanation {
            print_explanation(out, passage, explanation)?;
        }
        let words: Vec<&str> = chunk.text.split_whitespace().collect();
        writeln!(out, "    {}\n", words.join(" "))?;
    }
    if options.explains {
        print_timings(out, &retrieved.timings)?;
    }
    for note in &retrieved.notes {
        eprintln!("note: {note}");
    }
    Ok(())
}

fn print_explanation(
    out: &mut impl Write,
    passage: &Passage,
    explanation: &Explanation,
) -> std::io::Result<()> {
    let rank =
        |rank: Option<usize>| rank.map_or("not found so".to_owned(), |at| format!("rank {at}"));
    let similarity = passage
        .similarity
        .map_or("none".to_owned(), |it| format!("{it:.3}"));
    writeln!(
        out,
        "    meaning {similarity} ({})",
        rank(explanation.similarity_rank)
    )?;
    writeln!(
        out,
        "    words   {:.3} ({}): {}",
        passage.words,
        rank(explanation.words_rank),
        explanation.matched_words.join(" ")
    )?;
    let (score, at) = (explanation.fused_score, explanation.fused_rank);
    writeln!(out, "    fused   {score:.3} (rank {at})")?;
    if let Some(score) = explanation.rerank_score {
        writeln!(out, "    rerank  {score:.3}")?;
    }
    if let Some(worth) = explanation.diversity_score {
        writeln!(out, "    beside those before it {worth:.3}")?;
    }
    for place in &explanation.duplicates {
        let (name, span) = (&place.filename, &place.span);
        writeln!(
            out,
            "    the same stands in {name}, bytes {}-{}",
            span.start, span.end
        )?;
    }
    for joined in &explanation.joined {
        let span = &joined.span;
        let why = joined
            .fused_rank
            .map_or("stands beside it".to_owned(), |at| format!("rank {at}"));
        writeln!(out, "    joined: bytes {}-{} ({why})", span.start, span.end)?;
    }
    Ok(())
}

fn print_timings(out: &mut impl Write, timings: &Timings) -> std::io::Result<()> {
    writeln!(
        out,
        "embedding {:.1} ms, words {:.1} ms, meaning {:.1} ms, reading {:.1} ms, reranking {:.1} ms, diversity {:.1} ms, joining \
         {:.1} ms, all {:.1} ms",
        timings.embedding_ms,
        timings.words_ms,
        timings.meaning_ms,
        timings.reading_ms,
        timings.reranking_ms,
        timings.diversity_ms,
        timings.joining_ms,
        timings.total_ms
    )
}
