//! What holds for every document, and what readers of chunks expect.

use proptest::prelude::*;

use super::*;
use crate::rag::extract::{Format, Heading, PageOutcome, PageSpan};

/// Words and punctuation marks, each a token: a tokenizer like BERT's without subwords.
fn count_words(text: &str) -> usize {
    let mut num_tokens = 0;
    let mut in_word = false;
    for c in text.chars() {
        let is_word = c.is_alphanumeric();
        num_tokens += usize::from((is_word && !in_word) || (!is_word && !c.is_whitespace()));
        in_word = is_word;
    }
    num_tokens
}

/// Every three bytes are a token, white space included: counts do not add up over parts.
fn count_bytes(text: &str) -> usize {
    text.len().div_ceil(3)
}

fn document(text: &str, headings: &[(u8, usize)], page_ends: &[usize]) -> ExtractedText {
    let mut start = 0;
    let mut pages = Vec::new();
    for (number, end) in (1..).zip(page_ends.iter().copied().chain([text.len()])) {
        let outcome = if start == end {
            PageOutcome::Empty
        } else {
            PageOutcome::Read
        };
        pages.push(PageSpan {
            number,
            span: start..end,
            outcome,
        });
        start = end;
    }
    let line = |offset: usize| text[offset..].lines().next().unwrap_or_default().to_owned();
    let headings = headings.iter().map(|(level, offset)| Heading {
        level: *level,
        title: line(*offset),
        offset: *offset,
    });
    ExtractedText {
        format: Format::Text,
        title: None,
        text: text.to_owned(),
        pages,
        headings: headings.collect(),
    }
}

fn texts<'a>(doc: &'a ExtractedText, chunks: &[Chunk]) -> Vec<&'a str> {
    chunks
        .iter()
        .map(|chunk| &doc.text[chunk.span.clone()])
        .collect()
}

fn check_invariants(doc: &ExtractedText, options: &ChunkOptions, count: fn(&str) -> usize) {
    let chunks = chunk(doc, options, &count);
    let mut covered = vec![false; doc.text.len()];
    for chunk in &chunks {
        let text = &doc.text[chunk.span.clone()];
        assert_eq!(text, text.trim(), "trimmed");
        assert_eq!(chunk.num_tokens, count(text));
        assert!(
            chunk.num_tokens <= options.max_tokens || text.chars().count() == 1,
            "{chunk:?} {text:?}"
        );
        assert!(chunk.page_first <= chunk.page_last);
        covered[chunk.span.clone()].fill(true);
    }
    for pair in chunks.windows(2) {
        assert!(
            pair[0].span.start < pair[1].span.start && pair[0].span.end < pair[1].span.end,
            "{pair:?}"
        );
        let overlap = pair[1].span.start..pair[0].span.end.max(pair[1].span.start);
        assert!(
            count(&doc.text[overlap]) <= options.overlap_tokens,
            "{pair:?}"
        );
    }
    for (at, c) in doc.text.char_indices() {
        assert!(
            c.is_whitespace() || covered[at..at + c.len_utf8()].iter().all(|byte| *byte),
            "{c:?} at {at}"
        );
    }
}

proptest! {
    #[test]
    fn every_letter_is_in_a_chunk_that_fits(
        words in proptest::collection::vec("[a-zA-Zäß你。.!?]{1,9}|\n|\n\n|[a-z]{40,90}|- |\u{a0}|😀", 0..200),
        separator in prop_oneof![Just(" "), Just("")],
        cuts in proptest::collection::vec((1u8..4, any::<prop::sample::Index>()), 0..6),
        max_tokens in 1usize..40,
        overlap_tokens in 0usize..12,
    ) {
        let text = words.join(separator);
        let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let mut headings: Vec<(u8, usize)> = Vec::new();
        let mut pages = Vec::new();
        if !boundaries.is_empty() {
            headings = cuts.iter().map(|(level, at)| (*level, *at.get(&boundaries))).collect();
            headings.sort_by_key(|(_, offset)| *offset);
            headings.dedup_by_key(|(_, offset)| *offset);
            pages = cuts.iter().map(|(_, at)| *at.get(&boundaries)).collect();
            pages.sort_unstable();
        }
        let doc = document(&text, &headings, &pages);
        let options = ChunkOptions { max_tokens, overlap_tokens };
        check_invariants(&doc, &options, count_words);
        check_invariants(&doc, &options, count_bytes);
    }
}

#[test]
fn a_text_that_fits_is_one_chunk() {
    let doc = document("  One sentence. And two.\n", &[], &[]);
    let chunks = chunk(&doc, &ChunkOptions::default(), &count_words);
    assert_eq!(texts(&doc, &chunks), ["One sentence. And two."]);
    assert_eq!(
        (
            chunks[0].page_first,
            chunks[0].page_last,
            chunks[0].num_tokens
        ),
        (1, 1, 6)
    );
}

#[test]
fn white_space_has_no_chunks() {
    assert_eq!(
        chunk(
            &document(" \n\n\t ", &[], &[]),
            &ChunkOptions::default(),
            &count_words
        ),
        []
    );
    assert_eq!(
        chunk(
            &document("", &[], &[]),
            &ChunkOptions::default(),
            &count_words
        ),
        []
    );
}

#[test]
fn chunks_end_with_sentences_and_repeat_whole_ones() {
    let doc = document(
        "One two three four. Five six seven eight. Nine ten. Eleven twelve thirteen.",
        &[],
        &[],
    );
    let chunks = chunk(
        &doc,
        &ChunkOptions {
            max_tokens: 13,
            overlap_tokens: 4,
        },
        &count_words,
    );
    let expected = [
        "One two three four. Five six seven eight. Nine ten.",
        "Nine ten. Eleven twelve thirteen.",
    ];
    assert_eq!(texts(&doc, &chunks), expected);
}

#[test]
fn a_paragraph_is_kept_together_when_the_chunk_before_is_half_full() {
    let doc = document("A b c d e f.\n\nG h i. J k l. M n o.", &[], &[]);
    let chunks = chunk(
        &doc,
        &ChunkOptions {
            max_tokens: 13,
            overlap_tokens: 0,
        },
        &count_words,
    );
    assert_eq!(
        texts(&doc, &chunks),
        ["A b c d e f.", "G h i. J k l. M n o."]
    );
}

#[test]
fn headings_begin_chunks_and_name_them() {
    let text = "Intro words stand here.\n\nPart\n\nBody of the part is here.\n\nSub\n\nBody of the sub is here.\n\nNext\n\n\
                Body of next is here.";
    let at = |heading: &str| text.find(&format!("\n{heading}\n")).expect("there") + 1;
    let doc = document(
        text,
        &[(1, at("Part")), (2, at("Sub")), (1, at("Next"))],
        &[],
    );
    let chunks = chunk(
        &doc,
        &ChunkOptions {
            max_tokens: 14,
            overlap_tokens: 4,
        },
        &count_words,
    );
    let found: Vec<_> = chunks
        .iter()
        .map(|it| {
            (
                doc.text[it.span.clone()].lines().next(),
                it.heading_path.join("/"),
            )
        })
        .collect();
    let expected = [
        ("Intro words stand here.", ""),
        ("Part", "Part"),
        ("Sub", "Part/Sub"),
        ("Next", "Next"),
    ];
    assert_eq!(
        found,
        expected.map(|(line, path)| (Some(line), path.to_owned()))
    );
}

#[test]
fn small_sections_share_a_chunk_under_their_common_heading() {
    let text = "Top\n\nA\n\nx.\n\nB\n\ny.";
    let doc = document(text, &[(1, 0), (2, 5), (2, 12)], &[]);
    let chunks = chunk(&doc, &ChunkOptions::default(), &count_words);
    assert_eq!(texts(&doc, &chunks), [text]);
    assert_eq!(chunks[0].heading_path, ["Top"]);
}

#[test]
fn chunks_know_their_pages() {
    let text = "First page ends here\nand goes on. Third page is this.";
    let doc = document(text, &[], &[20, 20]);
    let chunks = chunk(
        &doc,
        &ChunkOptions {
            max_tokens: 8,
            overlap_tokens: 0,
        },
        &count_words,
    );
    let found: Vec<_> = chunks
        .iter()
        .map(|chunk| (chunk.page_first, chunk.page_last))
        .collect();
    assert_eq!(
        texts(&doc, &chunks),
        ["First page ends here\nand goes on.", "Third page is this."]
    );
    assert_eq!(found, [(1, 3), (3, 3)]);
}

#[test]
fn counting_stays_linear_in_the_text() {
    use std::cell::Cell;
    let sentence = "A sentence of some words, which is neither long nor short. ";
    for text in [
        sentence.repeat(2_000),
        "word ".repeat(30_000),
        "x".repeat(200_000),
    ] {
        let counted = Cell::new(0);
        let count = |text: &str| {
            counted.set(counted.get() + text.len());
            count_bytes(text)
        };
        let doc = document(&text, &[], &[]);
        assert!(!chunk(&doc, &ChunkOptions::default(), &count).is_empty());
        assert!(
            counted.get() < text.len() * 6,
            "{} bytes counted of {}",
            counted.get(),
            text.len()
        );
    }
}
