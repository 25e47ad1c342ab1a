//! PDFs as people have them, read through the real child process and compared with what poppler reads.

use std::collections::HashMap;
use std::path::Path;

use futures_util::{StreamExt, stream};
use inglenook::rag::extract::{ExtractError, ExtractLimits, ExtractedText, Original, extract};
use inglenook::test_data;
use unicode_normalization::UnicodeNormalization;

fn limits() -> ExtractLimits {
    ExtractLimits::new(env!("CARGO_BIN_EXE_inglenook").into())
}

async fn read(path: &Path) -> Result<ExtractedText, ExtractError> {
    let bytes = std::fs::read(path).expect("test file is readable");
    let filename = path.file_name().expect("a file").to_string_lossy();
    extract(Original::new(bytes, &filename), &limits()).await
}

/// Lower-cased words of letters and digits, with how often each occurs.
fn words(text: &str) -> HashMap<String, usize> {
    let text: String = text
        .nfkc()
        .filter(|c| *c != '\u{ad}')
        .flat_map(char::to_lowercase)
        .collect();
    let mut words = HashMap::new();
    for word in text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        *words.entry(word.to_owned()).or_insert(0) += 1;
    }
    words
}

/// The share of the expected words that was found, and those that were not.
fn recall(expected: &str, found: &str) -> (f64, Vec<String>) {
    let (expected, found) = (words(expected), words(found));
    let mut missing = Vec::new();
    let mut num_found = 0;
    for (word, count) in &expected {
        let both = count.min(found.get(word).unwrap_or(&0));
        num_found += both;
        missing.extend(std::iter::repeat_n(word.clone(), count - both));
    }
    missing.sort();
    (
        num_found as f64 / expected.values().sum::<usize>() as f64,
        missing,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ninety_five_percent_of_the_words_that_poppler_finds_are_found() {
    let Some(docs) = test_data::require("docs") else {
        return;
    };
    let mut pairs = Vec::new();
    for entry in std::fs::read_dir(docs.join("pdf")).expect("folder") {
        let pdf = entry.expect("entry").path();
        if pdf.extension().is_none_or(|extension| extension != "pdf") {
            continue;
        }
        let name = pdf
            .file_stem()
            .expect("name")
            .to_string_lossy()
            .into_owned();
        let beside = pdf.with_extension("txt");
        let poppler = docs
            .join("pdf_expected")
            .join(format!("{name}.poppler.txt"));
        let expected = [poppler, beside]
            .into_iter()
            .filter_map(|path| std::fs::read_to_string(path).ok());
        match expected
            .max_by_key(|text| words(text).len())
            .filter(|text| !words(text).is_empty())
        {
            Some(expected) => pairs.push((name, pdf, expected)),
            None => println!("left out, no expected text: {name}"),
        }
    }
    let mut scores: Vec<(f64, String, Vec<String>)> = stream::iter(pairs)
        .map(|(name, pdf, expected)| async move {
            let doc = read(&pdf)
                .await
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let (recall, missing) = recall(&expected, &doc.text);
            (recall, name, missing)
        })
        .buffer_unordered(2)
        .collect()
        .await;
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (recall, name, missing) in scores.iter().take(5) {
        println!(
            "{recall:.3} {name}: missing {} words, such as {:?}",
            missing.len(),
            &missing[..missing.len().min(12)]
        );
    }
    let average = scores.iter().map(|(recall, ..)| recall).sum::<f64>() / scores.len() as f64;
    println!(
        "average word recall over {} files: {average:.4}",
        scores.len()
    );
    assert!(average >= 0.95, "average word recall {average:.4}");
}
