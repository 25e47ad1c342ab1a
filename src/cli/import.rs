//! `inglenook import`: brings documents in from the web, and waits until they can be searched. Typing it is the owner's
//! leave to use the network, as `models pull` is.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressStyle};

use crate::app::{self, App};
use crate::config::Settings;
use crate::rag::import::{ImportRequest, Target, reason_in_words, run_here};
use crate::store::{
    Attributes, DocumentStatus, Import, ImportPage, ImportStatus, PageOutcome, Store,
};

/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").required(true).args(["url", "site", "arxiv"])))]
pub struct ImportArgs {
    /// One document
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// The first page of a site, whose links are followed
    #[arg(long, value_name = "URL")]
    site: Option<String>,
    /// A paper of arXiv, such as 1706.03762 or hep-th/9901001
    #[arg(long, value_name = "ID")]
    arxiv: Option<String>,
    /// Only pages of the site below this address [default: the folder of its first page]
    #[arg(long, value_name = "URL", requires = "site", conflicts_with_all = ["url", "arxiv"])]
    prefix: Option<String>,
    /// A sitemap of the site [default: those that robots.txt names]
    #[arg(long, value_name = "URL", requires = "site", conflicts_with_all = ["url", "arxiv"])]
    sitemap: Option<String>,
    /// Pages of the site that are read at most [default: 500]
    #[arg(long, value_name = "N", requires = "site", conflicts_with_all = ["url", "arxiv"])]
    max_pages: Option<u32>,
    /// Links between the first page of the site and the last [default: 16]
    #[arg(long, value_name = "N", requires = "site", conflicts_with_all = ["url", "arxiv"])]
    max_depth: Option<u32>,
    /// Remove documents whose pages are gone
    #[arg(long)]
    remove_missing: bool,
    /// The vector store's id [default: the one that the browser app uses]
    #[arg(long, value_name = "ID")]
    vector_store: Option<String>,
}

pub async fn run(settings: Settings, args: ImportArgs) -> anyhow::Result<ExitCode> {
    let target = match (&args.url, &args.site, &args.arxiv) {
        (Some(url), _, _) => Target::url(url)?,
        (_, _, Some(id)) => Target::arxiv(id)?,
        (_, site, _) => Target::site(
            site.as_deref().unwrap_or_default(),
            args.prefix.as_deref(),
            args.sitemap.as_deref(),
            args.max_pages,
            args.max_depth,
        )?,
    };
    let request = ImportRequest {
        target,
        attributes: Attributes::new(),
        remove_missing: args.remove_missing,
    };
    let options = app::import_options(&settings)?;
    let app = App::open_documents(settings).await?;
    let store = app.workspace().store.clone();
    let vector_store_id = match args.vector_store {
        Some(id) => id,
        None => store.default_vector_store().await?.id,
    };
    let (import, work) = run_here(&store, options, &vector_store_id, request).await?;
    tokio::select! {
        ended = work => ended?,
        ended = show_fetching(&store, &import.id) => ended?,
    }
    let pages = all_pages(&store, &import.id).await?;
    let is_complete = show_reading(&store, &import, &pages).await?;
    app.close().await;
    Ok(match is_complete {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// A bar that follows the import; it ends only with an error.
async fn show_fetching(store: &Store, id: &str) -> anyhow::Result<()> {
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template(
        "fetching [{bar:30}] {pos}/{len} pages {msg}",
    )?);
    loop {
        let import = store.import(id).await?;
        let counts = import.counts;
        let num_done = counts.imported
            + counts.unchanged
            + counts.skipped
            + counts.failed
            + counts.gone
            + counts.removed;
        bar.set_length(num_done + counts.queued);
        bar.set_position(num_done);
        bar.set_message(format!(
            "({} new, {} unchanged, {} skipped, {} failed)",
            counts.imported, counts.unchanged, counts.skipped, counts.failed
        ));
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until what was imported has been read, and says what came of every page.
async fn show_reading(
    store: &Store,
    import: &Import,
    pages: &[ImportPage],
) -> anyhow::Result<bool> {
    let mut is_complete = true;
    let imported = |page: &&ImportPage| page.outcome == Some(PageOutcome::Imported);
    let bar = ProgressBar::new(pages.iter().filter(imported).count() as u64);
    bar.set_style(ProgressStyle::with_template(
        "reading [{bar:30}] {pos}/{len} documents {msg}",
    )?);
    for page in pages {
        let words = page.reason.as_deref().and_then(reason_in_words);
        let reason = page
            .message
            .clone()
            .or(words.map(str::to_owned))
            .or(page.reason.clone())
            .unwrap_or_default();
        match (page.outcome, &page.file_id) {
            (Some(PageOutcome::Imported), Some(file_id)) => {
                bar.set_message(page.url.clone());
                let document = loop {
                    let document = store.document(&import.vector_store_id, file_id).await?;
                    if document.status != DocumentStatus::InProgress {
                        break document;
                    }
                    tokio::time::sleep(POLL).await;
                };
                bar.inc(1);
                let line = match &document.last_error {
                    Some(error) => {
                        is_complete = false;
                        format!("{}: {}", page.url, error.message)
                    }
                    None => format!("{}: {} passages ({file_id})", page.url, document.num_chunks),
                };
                bar.suspend(|| println!("{line}"));
            }
            (Some(PageOutcome::Unchanged), _) => println!("{}: unchanged", page.url),
            (Some(PageOutcome::Removed), _) => println!("{}: removed, as it is gone", page.url),
            (Some(PageOutcome::Gone), _) => {
                eprintln!(
                    "{}: gone, but still searched; --remove-missing removes it",
                    page.url
                )
            }
            (Some(PageOutcome::Skipped), _) => eprintln!("{}: skipped: {reason}", page.url),
            (Some(PageOutcome::Failed), _) => {
                is_complete = false;
                eprintln!("{}: {reason}", page.url);
            }
            (Some(PageOutcome::Imported), None) | (None, _) => {}
        }
    }
    bar.finish_and_clear();
    let import = store.import(&import.id).await?;
    if let Some(error) = &import.error {
        eprintln!("error: {error}");
    }
    Ok(is_complete && import.status == ImportStatus::Completed)
}

async fn all_pages(store: &Store, id: &str) -> anyhow::Result<Vec<ImportPage>> {
    let mut all = Vec::new();
    let mut after = Some(0);
    while let Some(from) = after {
        let (pages, next) = store.import_pages(id, from, 1000).await?;
        all.extend(pages);
        after = next;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        import: ImportArgs,
    }

    fn parsed(words: &str) -> Result<ImportArgs, clap::error::ErrorKind> {
        let words = std::iter::once("import").chain(words.split_whitespace());
        let typed = Typed::try_parse_from(words).map_err(|error| error.kind())?;
        Ok(typed.import)
    }

    #[test]
    fn every_option_goes_with_the_sources_that_it_is_of() {
        let of_all = ["", "--vector-store vs_1", "--remove-missing"];
        let of_sites = [
            "--prefix https://x.example/a/",
            "--sitemap https://x.example/sitemap.xml",
            "--max-pages 200",
            "--max-depth 3",
        ];
        let site = "--site https://x.example/a/";
        for source in ["https://x.example/a", site, "--arxiv 1706.03762"] {
            for option in of_all {
                let import = parsed(&format!("{source} {option}")).expect("it is documented");
                assert_eq!(import.remove_missing, option == "--remove-missing");
                assert_eq!(import.vector_store.is_some(), option.contains("vs_1"));
            }
        }
        for option in of_sites {
            let import = parsed(&format!("{site} {option}"));
            assert_eq!(
                import.expect("it is documented").site.as_deref(),
                Some("https://x.example/a/")
            );
            for source in ["https://x.example/a", "--arxiv 1706.03762"] {
                assert!(
                    parsed(&format!("{source} {option}")).is_err(),
                    "{source} {option}"
                );
            }
        }
        let all = [&of_all[..], &of_sites[..]].concat().join(" ");
        let import = parsed(&format!("{site} {all}")).expect("all together");
        assert_eq!((import.max_pages, import.max_depth), (Some(200), Some(3)));
        assert_eq!(import.prefix.as_deref(), Some("https://x.example/a/"));
        assert!(import.sitemap.is_some() && import.vector_store.is_some());
    }

    #[test]
    fn there_is_one_source() {
        use clap::error::ErrorKind::{ArgumentConflict, MissingRequiredArgument};
        let kind = |words| parsed(words).expect_err("refused");
        assert_eq!(kind("--vector-store vs_1"), MissingRequiredArgument);
        for two in [
            "https://x.example/a --site https://x.example/",
            "https://x.example/a --arxiv 1706.03762",
            "--site https://x.example/ --arxiv 1706.03762",
        ] {
            assert_eq!(kind(two), ArgumentConflict, "{two}");
        }
    }
}
