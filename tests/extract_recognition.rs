//! What becomes of a scanned page when the program that recognises it hangs, fails or finds nothing, played by scripts.
//! One test, because a script that is being written cannot be run while another test starts a process.

#![cfg(unix)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::scans::{SCAN, TEXT, scanned_pdf};
use inglenook::rag::extract::{
    ExtractLimits, Original, PageOutcome, Recognition, Recognizer, extract,
};

#[tokio::test]
async fn recognition_that_hangs_or_fails_costs_its_page_only() {
    let folder = tempfile::tempdir().expect("folder");
    let recognizer = |name: &str, body: &str| {
        let path = folder.path().join(name);
        let script =
            format!("#!/bin/sh\nif [ \"$1\" = --list-langs ]; then echo eng; exit; fi\n{body}\n");
        std::fs::write(&path, script).expect("script is written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("may run");
        let mut recognizer = Recognizer::new(path, None, "eng").expect("has English");
        recognizer.page_time = Duration::from_secs(1);
        Recognition::With(recognizer)
    };
    let image = [&b"P5 2 2 255\n"[..], &[0, 9, 99, 255]].concat();
    let file = scanned_pdf(&image, &[TEXT, SCAN, TEXT]);
    for (name, body, expected) in [
        ("hangs", "while :; do :; done", "took longer than 1 s"),
        (
            "fails",
            "echo 'cannot open image' >&2; exit 1",
            "cannot open image",
        ),
        ("nothing", "cat >/dev/null", "no words were recognised"),
    ] {
        let mut limits = ExtractLimits::new(env!("CARGO_BIN_EXE_inglenook").into());
        limits.recognition = recognizer(name, body);
        let document = extract(Original::new(file.clone(), "a.pdf"), &limits)
            .await
            .expect("read in part");
        assert_eq!(document.pages.len(), 3);
        assert_eq!(document.pages[2].outcome, PageOutcome::Read);
        assert!(
            matches!(&document.pages[1].outcome, PageOutcome::Scanned(reason) if reason.contains(expected)),
            "{name}: {:?}",
            document.pages[1].outcome
        );
    }
    let missing = Recognizer::new(folder.path().join("hangs"), None, "eng+xyz");
    assert!(missing.is_err_and(|reason| reason.contains("tesseract-ocr-xyz")));
}
