//! What becomes of a document when its reader hangs, crashes or lies, played by a script in the reader's place.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use inglenook::rag::extract::{ExtractError, ExtractLimits, Original, PageOutcome, extract};

/// A reader that opens a document of `num_pages` pages and does `pages` (branches of a shell `case`) with them.
fn reader(folder: &tempfile::TempDir, name: &str, num_pages: u32, pages: &str) -> PathBuf {
    let script = format!(
        r#"#!/bin/sh
read -r request
mark=${{request#*\"mark\":\"}}; mark=${{mark%%\"*}}
page=${{request#*\"first_page\":}}; page=${{page%%,*}}
say() {{ printf '\n%s%s\n' "$mark" "$1"; }}
read_page() {{ say "{{\"page\":{{\"number\":$page,\"content\":{{\"Ok\":{{\"text\":\"Page $page.\",\"has_images\":false}}}}}}}}"; }}
hang() {{ while :; do :; done; }}
say '{{"opened":{{"num_pages":{num_pages},"title":"Played"}}}}'
while [ "$page" -le {num_pages} ]; do
  case $page in
    {pages}
  esac
  page=$((page + 1))
done
say '"done"'
"#
    );
    let path = folder.path().join(name);
    std::fs::write(&path, script).expect("script is written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        .expect("script may run");
    path
}

fn limits(program: PathBuf) -> ExtractLimits {
    let mut limits = ExtractLimits::new(program);
    limits.page_time = Duration::from_millis(400);
    limits.wall_time = Duration::from_secs(20);
    limits
}

const PDF: &[u8] = b"%PDF-1.4\n";

fn failure(outcome: &PageOutcome) -> &str {
    match outcome {
        PageOutcome::Failed(reason) => reason,
        other => panic!("not failed: {other:?}"),
    }
}

// One test, because a script that is being written cannot be run while another test starts a process.
#[tokio::test]
async fn one_bad_page_does_not_lose_the_document() {
    let folder = tempfile::tempdir().expect("folder");
    let bad_pages = reader(
        &folder,
        "bad_pages",
        6,
        "2) hang ;;
         3) kill -SEGV $$ ;;
         4) echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$ ;;
         5) echo 'noise \"done\"'; read_page ;;
         *) read_page ;;",
    );
    let always_crashing = reader(
        &folder,
        "always_crashing",
        9,
        "1) read_page ;; *) kill -SEGV $$ ;;",
    );
    let never_read = reader(&folder, "never_read", 9, "*) kill -SEGV $$ ;;");
    let slow = reader(&folder, "slow", 3, "1) read_page ;; *) hang ;;");

    let doc = extract(Original::new(PDF.to_vec(), "a.pdf"), &limits(bad_pages))
        .await
        .expect("read");
    assert_eq!(doc.text, "Page 1.\n\nPage 5.\n\nPage 6.");
    assert_eq!(doc.title.as_deref(), Some("Played"));
    assert_eq!(
        doc.pages.iter().map(|page| page.number).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );
    assert_eq!(&doc.text[doc.pages[4].span.clone()], "Page 5.");
    assert!(failure(&doc.pages[1].outcome).contains("took longer"));
    assert!(failure(&doc.pages[2].outcome).contains("crashed"));
    assert!(failure(&doc.pages[3].outcome).contains("memory"));
    assert_eq!(doc.pages[5].outcome, PageOutcome::Read);

    let doc = extract(
        Original::new(PDF.to_vec(), "a.pdf"),
        &limits(always_crashing),
    )
    .await
    .expect("read in part");
    assert_eq!(doc.text, "Page 1.");
    assert_eq!(doc.pages.len(), 9);
    assert!(failure(&doc.pages[8].outcome).contains("too often"));

    let error = extract(Original::new(PDF.to_vec(), "a.pdf"), &limits(never_read))
        .await
        .expect_err("nothing was read");
    assert!(matches!(error, ExtractError::Crashed { .. }), "{error}");
    assert_eq!(error.code(), "invalid_file");

    let mut limits = limits(slow);
    limits.wall_time = Duration::from_millis(600);
    limits.page_time = Duration::from_secs(60);
    let doc = extract(Original::new(PDF.to_vec(), "a.pdf"), &limits)
        .await
        .expect("read in part");
    assert_eq!(doc.text, "Page 1.");
    assert!(failure(&doc.pages[2].outcome).contains("not reached"));
}
