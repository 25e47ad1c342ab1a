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
            count(&chunk.embedded_text(doc)) <= options.max_tokens || text.chars().count() == 1,
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
        words in proptest::collection::vec("[a-zA-Zäß你。.!?:]{1,9}|\n|\n\n|[a-z]{40,90}|- |\n- | \\| |\n\\||```|\n```\n|;\n|\n    |\u{a0}|😀", 0..200),
        separator in prop_oneof![Just(" "), Just("")],
        cuts in proptest::collection::vec((1u8..4, any::<prop::sample::Index>()), 0..6),
        max_tokens in 1usize..40,
        overlap_tokens in 0usize..12,
        title in proptest::option::of("[a-z ]{0,30}"),
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
        let doc = ExtractedText { title, ..document(&text, &headings, &pages) };
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

/// Chunks of a text without headings, of at most so many words.
fn cut(text: &str, max_tokens: usize) -> Vec<(String, String)> {
    let doc = document(text, &[], &[]);
    let options = ChunkOptions {
        max_tokens,
        overlap_tokens: 0,
    };
    let pairs = chunk(&doc, &options, &count_words)
        .into_iter()
        .map(|it| (it.context, doc.text[it.span].to_owned()));
    pairs.collect()
}

#[test]
fn title_and_headings_are_embedded_before_the_text_and_are_no_part_of_it() {
    let text = "# Pumps\n\nWater moves here all day long.\n\n## Care\n\nOil it each month of the year. Then \
                close the valve and wait for it.";
    let doc = ExtractedText {
        title: Some("Manual".to_owned()),
        ..document(text, &[(1, 0), (2, text.find("## Care").unwrap())], &[])
    };
    let options = ChunkOptions {
        max_tokens: 16,
        overlap_tokens: 0,
    };
    let chunks = chunk(&doc, &options, &count_words);
    let found: Vec<(String, &str)> = chunks
        .iter()
        .map(|it| {
            (
                it.context.clone(),
                doc.text[it.span.clone()].split(' ').next_back().unwrap(),
            )
        })
        .collect();
    // A heading that stands in the chunk is not said twice. The helper names headings by their whole line.
    assert_eq!(
        found,
        [
            ("Manual\n".to_owned(), "long."),
            ("Manual\n# Pumps\n".to_owned(), "year."),
            // Of what takes too much, the outermost headings are left out.
            ("## Care\n".to_owned(), "it."),
        ]
    );
    for chunk in &chunks {
        let embedded = chunk.embedded_text(&doc);
        assert!(embedded.ends_with(&doc.text[chunk.span.clone()]));
        assert!(count_words(&embedded) <= options.max_tokens);
    }
}

#[test]
fn a_context_that_takes_too_much_loses_its_outermost_headings() {
    let text = "A very long heading of many words stands here\n\nShort\n\nBody text of the section here. \
                More of it stands here. And even more of it is here.";
    let doc = document(text, &[(1, 0), (2, text.find("Short").unwrap())], &[]);
    let options = ChunkOptions {
        max_tokens: 12,
        overlap_tokens: 0,
    };
    let contexts: Vec<String> = chunk(&doc, &options, &count_words)
        .into_iter()
        .map(|it| it.context)
        .collect();
    assert_eq!(contexts, ["", "", "Short\n", "Short\n"]);
}

#[test]
fn a_list_stays_with_the_line_before_it() {
    let text = "Some words before the list stand here now.\n\nBring these things:\n- a lamp\n- two ropes\n- bread\n";
    let found = cut(text, 18);
    let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "Some words before the list stand here now.",
            "Bring these things:\n- a lamp\n- two ropes\n- bread"
        ]
    );
}

#[test]
fn what_goes_on_with_a_list_knows_the_line_before_it() {
    let text = "Bring these:\n- a small lamp with oil\n- two long ropes, dry\n- bread for three days\n\nThen go on.";
    let found = cut(text, 12);
    assert_eq!(found[0].1, "Bring these:\n- a small lamp with oil");
    let contexts: Vec<&str> = found.iter().map(|(context, _)| context.as_str()).collect();
    assert_eq!(contexts, ["", "Bring these:\n", "Bring these:\n"]);
}

#[test]
fn rows_stay_whole_and_know_the_head_of_their_table() {
    let text = "Sales of the year.\n\n| Town | Sum |\n| --- | --- |\n| Rome. It is big | 12 |\n| Oslo | 7 |\n| Bern | 5 |";
    let found = cut(text, 26);
    assert_eq!(
        found,
        [
            (String::new(), "Sales of the year.".to_owned()),
            (
                String::new(),
                "| Town | Sum |\n| --- | --- |\n| Rome. It is big | 12 |".to_owned()
            ),
            // The head takes more than its share here.
            (String::new(), "| Oslo | 7 |\n| Bern | 5 |".to_owned()),
        ]
    );
    let found = cut(&text.replace("| --- | --- |\n", ""), 22);
    let head = "| Town | Sum |\n";
    assert_eq!(found[1].0, head);
    assert!(
        found[2..]
            .iter()
            .all(|(context, text)| context == head && text.starts_with('|'))
    );
}

#[test]
fn a_program_is_cut_between_functions() {
    let body = |name: &str| {
        format!("def {name}(x):\n    y = x + 1\n\n    if y > 2:\n        return y\n    return x\n")
    };
    let text = [body("first"), body("second"), body("third")].join("\n");
    let found = cut(&text, 30);
    let begins: Vec<&str> = found
        .iter()
        .map(|(_, text)| text.lines().next().unwrap())
        .collect();
    assert_eq!(begins, ["def first(x):", "def second(x):", "def third(x):"]);
}

#[test]
fn fenced_code_is_not_cut_at_full_stops() {
    let text =
        "Words first.\n\n```\nprint(\"a. B\")\nlet x = 1. Then\n\nlast()\n```\n\nWords. After.";
    let doc = document(text, &[], &[]);
    let options = ChunkOptions {
        max_tokens: 9,
        overlap_tokens: 0,
    };
    let found = chunk(&doc, &options, &count_words);
    let ends: Vec<&str> = texts(&doc, &found)
        .iter()
        .map(|it| it.lines().next_back().unwrap())
        .collect();
    assert!(ends.contains(&"print(\"a. B\")"), "{ends:?}");
    assert!(ends.contains(&"let x = 1. Then"), "{ends:?}");
}
