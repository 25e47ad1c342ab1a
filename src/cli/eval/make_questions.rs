//! Writes a question set from the owner's own documents.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use super::EvalArgs;
use super::run::{bar, open_own_documents, own_chat_model};
use crate::config::Settings;
use crate::eval::questions::{MakeOptions, make};

pub async fn run(settings: Settings, args: &EvalArgs, file: &Path) -> anyhow::Result<ExitCode> {
    // It may have been mended by hand.
    anyhow::ensure!(
        !file.exists(),
        "{} is there already; delete it or choose another name",
        file.display()
    );
    anyhow::ensure!(args.num_questions > 0, "--num-questions must be at least 1");
    anyhow::ensure!(
        (0.0..=1.0).contains(&args.unanswerable),
        "--unanswerable must be between 0 and 1"
    );
    let timeout = Duration::from_secs(settings.generation_timeout);
    let collection = args.collection.as_deref();
    let (app, documents) = open_own_documents(settings, collection, !args.by_rules).await?;
    let workspace = app.workspace();
    // The bundled model is for demonstration and writes no questions.
    let chat = match workspace.writes_answers && !args.by_rules {
        true => Some(own_chat_model(&app).await?),
        false => None,
    };
    let num_unanswerable = (args.num_questions as f64 * args.unanswerable).round() as usize;
    let options = MakeOptions {
        num_answerable: args.num_questions - num_unanswerable,
        num_unanswerable,
        seed: args.seed,
        timeout,
    };
    let bar = bar("making", "questions")?;
    bar.set_length(options.num_answerable as u64);
    let made = make(workspace, &documents, chat.as_ref(), options, |num| {
        bar.set_position(num as u64);
    })
    .await?;
    bar.finish_and_clear();
    let mut lines = Vec::new();
    for question in &made {
        serde_json::to_writer(&mut lines, question)?;
        writeln!(lines)?;
    }
    std::fs::write(file, lines).with_context(|| format!("cannot write {}", file.display()))?;
    let num_answerable = made.iter().filter(|it| it.is_answerable).count();
    let by = chat.as_ref().map_or("rules", |chat| chat.id());
    println!(
        "{}: {num_answerable} questions with an answer and {} without, made by {by}; read and mend them, then: inglenook eval {}",
        file.display(),
        made.len() - num_answerable,
        file.display()
    );
    let wanted = options.num_answerable;
    if num_answerable < wanted {
        eprintln!("note: these documents gave only {num_answerable} of {wanted} questions");
    }
    app.close().await;
    Ok(ExitCode::SUCCESS)
}
