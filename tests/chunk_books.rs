//! Whole books in chunks, measured with a real tokenizer.

use std::time::Instant;

use inglenook::rag::chunk::{ChunkOptions, chunk};
use inglenook::rag::extract::{ExtractLimits, Original, extract};
use inglenook::test_data;
use tokenizers::Tokenizer;

#[tokio::test]
async fn a_book_is_cut_into_chunks_that_fit_and_cover_it() {
    let Some(book) = test_data::require("docs/text/war-and-peace.txt") else {
        return;
    };
    let Some(vocabulary) = test_data::require("embed/all-MiniLM-L6-v2/tokenizer.json") else {
        return;
    };
    let mut tokenizer = Tokenizer::from_file(vocabulary).expect("tokenizer");
    tokenizer
        .with_truncation(None)
        .expect("no truncation")
        .with_padding(None);
    let count = |text: &str| tokenizer.encode_fast(text, false).expect("encodes").len();

    let bytes = std::fs::read(book).expect("book");
    let limits = ExtractLimits::new("not needed for text".into());
    let doc = extract(Original::new(bytes, "war-and-peace.txt"), &limits)
        .await
        .expect("text");
    let options = ChunkOptions::default();

    let start = Instant::now();
    let num_tokens = doc.text.split("\n\n").map(count).sum::<usize>();
    let once = start.elapsed();
    let start = Instant::now();
    let chunks = chunk(&doc, &options, &count);
    let elapsed = start.elapsed();
    let average = chunks.iter().map(|chunk| chunk.num_tokens).sum::<usize>() / chunks.len();
    println!(
        "{} chunks of {average} tokens on average from {num_tokens} tokens in {elapsed:.2?}; counting once takes {once:.2?}",
        chunks.len()
    );

    assert!(
        elapsed < once * 8,
        "counting again and again: {elapsed:?} against {once:?}"
    );
    assert!(average > options.max_tokens / 2);
    let mut end = 0;
    for chunk in &chunks {
        assert!(chunk.num_tokens <= options.max_tokens);
        assert!(chunk.span.start <= end || doc.text[end..chunk.span.start].trim().is_empty());
        end = chunk.span.end;
    }
    assert!(doc.text[end..].trim().is_empty());
}
