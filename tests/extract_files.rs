//! Every file of the test material, through the real program: read or refused with a reason, in bounded time.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use inglenook::rag::extract::{
    ExtractError, ExtractLimits, ExtractedText, Original, PageOutcome, extract,
};
use inglenook::test_data;

const WALL_TIME: Duration = Duration::from_secs(20);

fn limits() -> ExtractLimits {
    let mut limits = ExtractLimits::new(env!("CARGO_BIN_EXE_inglenook").into());
    limits.wall_time = WALL_TIME;
    limits.page_time = Duration::from_secs(5);
    limits
}

async fn read(path: &Path) -> Result<ExtractedText, ExtractError> {
    let bytes = std::fs::read(path).expect("test file is readable");
    let filename = path.file_name().expect("a file").to_string_lossy();
    extract(Original::new(bytes, &filename), &limits()).await
}

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            files_under(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn check(doc: &ExtractedText) {
    assert!(!doc.text.trim().is_empty());
    let mut end = 0;
    for page in &doc.pages {
        assert!(
            page.span.start >= end && page.span.end <= doc.text.len(),
            "{page:?}"
        );
        assert!(
            doc.text.is_char_boundary(page.span.start) && doc.text.is_char_boundary(page.span.end)
        );
        assert_eq!(
            page.outcome == PageOutcome::Read,
            !page.span.is_empty(),
            "{page:?}"
        );
        end = page.span.end;
    }
    assert!(doc.headings.is_sorted_by_key(|heading| heading.offset));
    for heading in &doc.headings {
        let words = heading
            .title
            .split_whitespace()
            .next()
            .expect("a heading has words");
        assert!(
            doc.text[heading.offset..]
                .lines()
                .next()
                .is_some_and(|line| line.contains(words)),
            "{heading:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_is_read_or_refused_with_a_reason() {
    let mut files = Vec::new();
    for folder in ["docs", "hostile", "fuzz/pdf_qpdf"] {
        let Some(folder) = test_data::require(folder) else {
            return;
        };
        files_under(&folder, &mut files);
    }
    let num_files = files.len();
    let num_read = stream::iter(files)
        .map(|path| async move {
            let start = Instant::now();
            let result = read(&path).await;
            assert!(
                start.elapsed() < WALL_TIME + Duration::from_secs(5),
                "{path:?} took {:?}",
                start.elapsed()
            );
            match result {
                Ok(doc) => {
                    check(&doc);
                    1
                }
                Err(error) => {
                    // Nothing in a file may look like a fault of the server.
                    assert!(
                        matches!(error.code(), "unsupported_file" | "invalid_file"),
                        "{path:?}: {error}"
                    );
                    0
                }
            }
        })
        .buffer_unordered(2)
        .fold(0, async |sum, read| sum + read)
        .await;
    println!("{num_read} of {num_files} files read, the others refused with a reason");
}

#[tokio::test]
async fn damaged_files_are_read_as_far_as_they_go() {
    let Some(hostile) = test_data::require("hostile/pdf") else {
        return;
    };
    for (file, expected) in [
        ("gen_xref_offset_wrong.pdf", "broken xref still readable"),
        ("gen_flate_bomb_64MB.pdf", "hello"),
        ("pdfjs_helloworld-bad.pdf", "Hello, world!"),
        ("pdfjs_Pages-tree-refs.pdf", "Testcase: ’Pages loop’"),
        ("pdfminer_evil-xobjects.pdf", "Hello world"),
        ("qpdf_pages-loop.pdf", "Potato"),
        ("qpdf_bad-xref-entry.pdf", "Potato"),
        ("qpdf_issue-202.pdf", "Grudziński"),
    ] {
        let doc = read(&hostile.join(file))
            .await
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(doc.text.contains(expected), "{file}: {:?}", doc.text);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_inflates_beyond_the_memory_limit_is_refused() {
    let Some(bomb) = test_data::require("hostile/pdf/gen_flate_bomb_64MB.pdf") else {
        return;
    };
    let mut limits = limits();
    limits.memory_bytes = 64 << 20;
    let bytes = std::fs::read(bomb).expect("test file is readable");
    let error = extract(Original::new(bytes, "bomb.pdf"), &limits)
        .await
        .expect_err("does not fit");
    assert!(
        error.to_string().contains("67108864 bytes of memory"),
        "{error}"
    );
    assert_eq!(error.code(), "invalid_file");
}

#[tokio::test]
async fn encrypted_files_open_with_the_empty_password_or_ask_for_theirs() {
    let Some(encrypted) = test_data::require("docs/pdf_encrypted") else {
        return;
    };
    assert!(read(&encrypted.join("r6-empty-password.pdf")).await.is_ok());
    for file in [
        "password-example.pdf",
        "r3-user-password.pdf",
        "libreoffice-writer-password.pdf",
    ] {
        assert_eq!(
            read(&encrypted.join(file)).await,
            Err(ExtractError::NeedsPassword),
            "{file}"
        );
    }
}

#[tokio::test]
async fn a_scanned_document_is_refused_as_such() {
    let Some(path) = test_data::require("docs/pdf/git.pdf") else {
        return;
    };
    let error = read(&path).await.expect_err("no text");
    assert!(error.to_string().contains("pages are scans"), "{error}");
}

fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Recall and precision of words.
fn compare(expected: &str, found: &str) -> (f64, f64) {
    let (expected, mut found) = (words(expected), words(found));
    let num_found = found.len();
    found.sort_unstable();
    let mut both = 0;
    for word in &expected {
        if let Ok(at) = found.binary_search(word) {
            found.remove(at);
            both += 1;
        }
    }
    (
        f64::from(both) / expected.len() as f64,
        f64::from(both) / num_found as f64,
    )
}

#[tokio::test]
async fn articles_are_found_in_their_pages() {
    let Some(folder) = test_data::require("docs/html_article") else {
        return;
    };
    let truth = std::fs::read(folder.join("ground-truth.json")).expect("truth");
    let truth: serde_json::Value = serde_json::from_slice(&truth).expect("JSON");
    let (mut recalls, mut scores) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(&folder).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path
            .file_name()
            .expect("name")
            .to_string_lossy()
            .into_owned();
        let Some(stem) = name.strip_suffix(".html.gz") else {
            continue;
        };
        let mut html = Vec::new();
        let packed = std::fs::File::open(&path).expect("file");
        flate2::read::GzDecoder::new(packed)
            .read_to_end(&mut html)
            .expect("gzip");
        let truth = truth
            .as_object()
            .expect("object")
            .iter()
            .find(|(key, _)| key.starts_with(stem))
            .expect("truth")
            .1;
        let doc = extract(Original::new(html.clone(), "page.html"), &limits())
            .await
            .expect("readable");
        check(&doc);
        let (recall, precision) = compare(truth["articleBody"].as_str().expect("text"), &doc.text);
        println!("{stem}: recall {recall:.3} precision {precision:.3}");
        recalls.push(recall);
        scores.push(2.0 * recall * precision / (recall + precision));
    }
    let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    println!(
        "average recall {:.3}, F1 {:.3}",
        average(&recalls),
        average(&scores)
    );
    assert!(
        average(&recalls) > 0.97 && average(&scores) > 0.85,
        "articles are lost or drowned"
    );
}

#[tokio::test]
async fn pages_keep_what_readability_keeps() {
    let Some(folder) = test_data::require("docs/html_readability") else {
        return;
    };
    for entry in std::fs::read_dir(&folder).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path
            .file_name()
            .expect("name")
            .to_string_lossy()
            .into_owned();
        let Some(stem) = name.strip_suffix(".source.html") else {
            continue;
        };
        let found = read(&path).await.expect("readable");
        let expected = read(&folder.join(format!("{stem}.expected.html")))
            .await
            .expect("readable");
        let (recall, precision) = compare(&expected.text, &found.text);
        println!("{stem}: recall {recall:.3} precision {precision:.3}");
        assert!(recall > 0.95, "{stem}");
    }
}

#[tokio::test]
async fn hidden_parts_of_a_page_stay_hidden() {
    let Some(path) = test_data::require("hostile/html/gen_script_style.html") else {
        return;
    };
    let text = read(&path).await.expect("readable").text;
    assert!(text.contains("Visible text."), "{text}");
    assert!(
        !text.contains("secretScript") && !text.contains(".secret") && !text.contains("comment"),
        "{text}"
    );
}

#[tokio::test]
async fn a_reader_that_does_not_start_is_no_fault_of_the_file() {
    let missing = ExtractLimits::new("/no/such/program".into());
    let error = extract(Original::new(b"%PDF-1.4".to_vec(), "a.pdf"), &missing)
        .await
        .expect_err("not started");
    assert_eq!(error.code(), "server_error");
}
