//! Scanned pages and images, recognised by the real tesseract. Where it or pdftoppm is missing, these tests say that they
//! are skipped.

#![cfg(unix)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::scans::{SCAN, TEXT, scanned_pdf};
use inglenook::config::program_on_path;
use inglenook::rag::extract::{
    ExtractError, ExtractLimits, ExtractedText, Format, Original, PageOutcome, Recognition,
    Recognizer, extract,
};
use inglenook::test_data;

/// Words of its upper part that stand on a line each.
const WORDS: [&str; 6] = [
    "JavaScript",
    "difficult",
    "statically",
    "traditional",
    "combinations",
    "performance",
];

/// A page of a real paper as an image, and who recognises it; `None`, said loudly, where something is missing.
fn prepared() -> Option<(PathBuf, Recognition)> {
    let (Some(tesseract), Some(pdftoppm)) =
        (program_on_path("tesseract"), program_on_path("pdftoppm"))
    else {
        println!("SKIPPED: scans are not tested, because tesseract or pdftoppm is not installed");
        return None;
    };
    let pdf = test_data::require("docs/pdf/tracemonkey.pdf")?;
    let recognizer = Recognizer::new(tesseract, Some(pdftoppm), "eng").expect("has English");
    Some((pdf, Recognition::With(recognizer)))
}

fn limits(recognition: Recognition) -> ExtractLimits {
    let mut limits = ExtractLimits::new(env!("CARGO_BIN_EXE_inglenook").into());
    limits.recognition = recognition;
    limits
}

/// The upper part of the first page.
fn rendered(pdf: &Path, kind: &[&str]) -> Vec<u8> {
    let output = Command::new("pdftoppm")
        .args([
            "-f",
            "1",
            "-l",
            "1",
            "-r",
            "200",
            "-H",
            "1100",
            "-singlefile",
        ])
        .args(kind)
        .arg(pdf)
        .output()
        .expect("pdftoppm runs");
    assert!(output.status.success());
    output.stdout
}

fn assert_has_words(document: &ExtractedText, page: usize) {
    let page = &document.pages[page];
    match page.outcome {
        PageOutcome::Recognised { confidence } => assert!(confidence >= 70, "{confidence}"),
        ref other => panic!("not recognised: {other:?}"),
    }
    let text = &document.text[page.span.clone()];
    let found = WORDS.iter().filter(|word| text.contains(**word)).count();
    assert!(found + 1 >= WORDS.len(), "{text}");
}

#[tokio::test]
async fn scanned_pages_are_recognised_between_pages_of_text() {
    let Some((pdf, recognition)) = prepared() else {
        return;
    };
    let image = rendered(&pdf, &["-gray"]);
    // Turned by the page, and in two strips: those must be drawn.
    let turned = (
        "/MediaBox [0 0 396 612] /Rotate 90",
        "q 0 612 -396 0 396 0 cm /I Do Q",
    );
    let strips = (
        SCAN.0,
        "q 0 198 612 198 re W n 612 0 0 396 0 0 cm /I Do Q q 0 0 612 198 re W n 612 0 0 396 0 0 cm /I Do Q",
    );
    let blank = ("/MediaBox [0 0 612 396]", " ");
    let file = scanned_pdf(&image, &[TEXT, SCAN, blank, turned, strips]);
    let document = extract(Original::new(file.clone(), "a.pdf"), &limits(recognition))
        .await
        .expect("read");
    assert_eq!(document.pages[0].outcome, PageOutcome::Read);
    assert_eq!(document.pages[2].outcome, PageOutcome::Empty);
    for page in [1, 3, 4] {
        assert_has_words(&document, page);
    }

    let without = limits(Recognition::not_installed());
    let document = extract(Original::new(file, "a.pdf"), &without)
        .await
        .expect("read in part");
    assert_eq!(document.text, "The cover of the report.");
    assert!(
        matches!(&document.pages[1].outcome, PageOutcome::Scanned(reason) if reason.contains("install")),
        "{:?}",
        document.pages[1].outcome
    );
    let only_scans = scanned_pdf(&image, &[SCAN]);
    let error = extract(Original::new(only_scans, "a.pdf"), &without)
        .await
        .expect_err("has no text");
    assert!(error.to_string().contains("its pages are scans"), "{error}");
}

/// A binary graymap the other way up.
fn upside_down(image: &[u8]) -> Vec<u8> {
    let head = image
        .windows(4)
        .position(|it| it == b"255\n")
        .expect("8 bits")
        + 4;
    let samples = image[head..].iter().rev().copied();
    image[..head].iter().copied().chain(samples).collect()
}

#[tokio::test]
async fn a_page_that_was_scanned_the_wrong_way_up_is_turned() {
    let Some((pdf, recognition)) = prepared() else {
        return;
    };
    let listed = Command::new("tesseract").arg("--list-langs").output();
    let listed = listed.expect("tesseract runs").stdout;
    if !String::from_utf8_lossy(&listed).contains("osd") {
        println!("SKIPPED: turned scans are not tested, because tesseract has no osd data");
        return;
    }
    let image = upside_down(&rendered(&pdf, &["-gray"]));
    let file = scanned_pdf(&image, &[SCAN]);
    let limits = limits(recognition);
    let document = extract(Original::new(file, "a.pdf"), &limits)
        .await
        .expect("read");
    assert_has_words(&document, 0);
}

#[tokio::test]
async fn image_files_are_recognised_or_refused_by_name() {
    let Some((pdf, recognition)) = prepared() else {
        return;
    };
    let image = rendered(&pdf, &["-png"]);
    let document = extract(
        Original::new(image.clone(), "fax.png"),
        &limits(recognition),
    )
    .await
    .expect("read");
    assert_eq!(document.format, Format::Image);
    assert_has_words(&document, 0);
    let without = limits(Recognition::not_installed());
    let error = extract(Original::new(image, "fax.png"), &without)
        .await
        .expect_err("is not read");
    assert!(
        matches!(error, ExtractError::NeedsRecognition { .. }),
        "{error:?}"
    );
    let message = error.to_string();
    assert!(
        message.contains("\"fax.png\" is a PNG image") && message.contains("apt install"),
        "{message}"
    );
}
