//! Scanned pages and images, recognised by the real tesseract. Where it or pdftoppm is missing, these tests say that they
//! are skipped.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use inglenook::config::program_on_path;
use inglenook::rag::extract::{
    ExtractError, ExtractLimits, ExtractedText, Format, Original, PageOutcome, Recognition,
    Recognizer, extract,
};
use inglenook::test_data;

/// What the first column of the page says; a fold in a line is nothing that recognition could mend.
const WORDS: [&str; 6] = [
    "dynamically",
    "languages",
    "compiled",
    "programs",
    "specialized",
    "JavaScript",
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

/// Width, height and samples of a binary graymap.
fn graymap(bytes: &[u8]) -> (usize, usize, &[u8]) {
    let mut fields = bytes.splitn(4, u8::is_ascii_whitespace);
    assert_eq!(fields.next(), Some(&b"P5"[..]));
    let mut number = || {
        let field = String::from_utf8_lossy(fields.next().expect("a field")).into_owned();
        field.parse::<usize>().expect("a number")
    };
    let (width, height) = (number(), number());
    let samples = fields.next().expect("samples");
    let samples = samples.strip_prefix(b"255\n").expect("8 bits");
    assert_eq!(samples.len(), width * height);
    (width, height, samples)
}

/// A PDF with a page of text and pages that show parts of the image, each with more keys of its own.
fn scanned_pdf(image: &[u8], pages: &[(&str, &str)]) -> Vec<u8> {
    let (width, height, samples) = graymap(image);
    let mut objects: Vec<Vec<u8>> = Vec::new();
    let stream = |dictionary: &str, data: &[u8]| {
        let head = format!("<< {dictionary} /Length {} >>\nstream\n", data.len());
        [head.as_bytes(), data, b"\nendstream"].concat()
    };
    let num_pages = pages.len();
    let kids: Vec<String> = (0..num_pages)
        .map(|it| format!("{} 0 R", 5 + it * 2))
        .collect();
    objects.push(b"<< /Type /Catalog /Pages 2 0 R >>".to_vec());
    objects.push(
        format!(
            "<< /Type /Pages /Kids [{}] /Count {num_pages} >>",
            kids.join(" ")
        )
        .into_bytes(),
    );
    objects.push(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_vec());
    objects.push(stream(
        &format!(
            "/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceGray /BitsPerComponent 8"
        ),
        samples,
    ));
    for (keys, content) in pages {
        let number = objects.len() + 1;
        objects.push(
            format!(
                "<< /Type /Page /Parent 2 0 R /Contents {} 0 R {keys} /Resources << /Font << /F 3 0 R >> /XObject \
                 << /I 4 0 R >> >> >>",
                number + 1
            )
            .into_bytes(),
        );
        objects.push(stream("", content.as_bytes()));
    }
    let mut out = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(out.len());
        out.extend(format!("{} 0 obj\n", index + 1).into_bytes());
        out.extend(object);
        out.extend(b"\nendobj\n");
    }
    let xref = out.len();
    out.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).into_bytes());
    for offset in offsets {
        out.extend(format!("{offset:010} 00000 n \n").into_bytes());
    }
    let size = objects.len() + 1;
    out.extend(
        format!("trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{xref}\n%%EOF\n").into_bytes(),
    );
    out
}

const TEXT: (&str, &str) = (
    "/MediaBox [0 0 612 396]",
    "BT /F 12 Tf 72 300 Td (The cover of the report.) Tj ET",
);
const SCAN: (&str, &str) = ("/MediaBox [0 0 612 396]", "q 612 0 0 396 0 0 cm /I Do Q");

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

#[tokio::test]
async fn image_files_are_recognised_or_refused_by_name() {
    let Some((pdf, recognition)) = prepared() else {
        return;
    };
    let image = rendered(&pdf, &["-png"]);
    let read = extract(
        Original::new(image.clone(), "fax.png"),
        &limits(recognition),
    );
    let document = read.await.expect("read");
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
        let limits = limits(recognizer(name, body));
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
