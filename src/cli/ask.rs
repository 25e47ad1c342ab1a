//! `inglenook ask "..."`: a streamed answer with its sources.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::app::App;
use crate::config::Settings;
use crate::engine::SamplingParams;
use crate::rag::Answerer;
use crate::rag::answer::{Answer, AnswerEvent, Citation, Question};
use crate::rag::generate::{EndReason, GenerationOptions};
use crate::rag::reply::ReplyEvent;
use crate::rag::retrieve::{RetrieveOptions, retrieve};
use crate::rag::tools::ToolUse;
use crate::store::SearchScope;

#[derive(Debug, Args)]
pub struct AskArgs {
    /// The question
    question: String,
    /// Quote the sentence that answers, instead of having the chat model write
    #[arg(long)]
    quote: bool,
    /// Longest answer, in tokens
    #[arg(long, value_name = "TOKENS", conflicts_with = "quote")]
    max_tokens: Option<usize>,
}

pub async fn run(settings: Settings, args: AskArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(!args.question.trim().is_empty(), "the question is empty");
    let timeout = Duration::from_secs(settings.generation_timeout);
    let app = match args.quote {
        true => App::open_quoting(settings).await?,
        false => App::open_models(settings).await?,
    };
    let workspace = app.workspace();
    let collection = workspace.store.default_vector_store().await?.id;
    let scope = SearchScope {
        vector_store_ids: vec![collection],
        file_ids: None,
        filter: None,
    };
    let options = RetrieveOptions {
        top_k: workspace.top_k,
        ..RetrieveOptions::default()
    };
    let queries = std::slice::from_ref(&args.question);
    let retrieved = retrieve(workspace, queries, &scope, &options).await?;
    let options = GenerationOptions {
        max_tokens: args.max_tokens,
        // The same question gets the same answer.
        sampling: SamplingParams {
            temperature: 0.0,
            ..SamplingParams::default()
        },
        stops: Vec::new(),
        logprobs: None,
        constraint: None,
        shown: Vec::new(),
        user: None,
        num_public_tokens: 0,
        trims_start: true,
        timeout,
    };
    let question = Question {
        text: args.question,
        found: Some(retrieved.relevant().to_vec()),
        earlier: Vec::new(),
        following: Vec::new(),
        known: Vec::new(),
        instructions: None,
        tools: ToolUse::default(),
        shape: None,
        is_thinking: false,
        options,
    };
    let mut answer = match workspace.default_answerer().await? {
        Answerer::Quote => Answer::quote(workspace, &question.text, &retrieved).await?,
        Answerer::Chat(chat) => Answer::begin(workspace, &chat, question).await?,
    };
    let mut citations: Vec<Citation> = Vec::new();
    let mut out = std::io::stdout();
    while let Some(event) = answer.next().await {
        match event? {
            AnswerEvent::Reply(ReplyEvent::Text { text, .. }) => write!(out, "{text}")?,
            AnswerEvent::Citation(citation) => citations.push(citation),
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
        let quote = citation
            .quote
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        writeln!(
            out,
            "[{}] {}, page {}: \"{quote}\"",
            citation.number, citation.filename, citation.page_first
        )?;
    }
    if citations.is_empty() && answer.is_found {
        writeln!(
            out,
            "Nothing was cited. Passages that were given to the model:"
        )?;
        let num_given = retrieved.passages.len() - answer.left_out.num_passages;
        for passage in retrieved.passages.iter().take(num_given) {
            writeln!(
                out,
                "  {}, page {}",
                passage.chunk.filename, passage.chunk.page_first
            )?;
        }
    }
    if let Some(dropped) = answer.left_out.sentence() {
        eprintln!("note: {dropped}");
    }
    if let Some(notice) = app.demonstration_notice() {
        eprintln!("note: {notice}");
    }
    app.close().await;
    Ok(ExitCode::SUCCESS)
}
