//! Real vocabularies cut text as their makers' tokenizers do; decoding gives back what was encoded.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::llm::gguf::builder::GgufBuilder;
use crate::test_data;

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

fn open(path: &Path) -> Tokenizer {
    Tokenizer::from_gguf(&GgufFile::open(path).unwrap())
        .unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// The vocabulary that belongs to a set of cases. That of deepseek-r1-qwen is qwen2's for ordinary text.
fn vocabulary_of(folder: &Path, name: &str) -> Option<PathBuf> {
    let stem = if name == "deepseek-r1-qwen" {
        "qwen2"
    } else {
        name
    };
    let candidates = [
        format!("ggml-vocab-{stem}.gguf"),
        format!("ggml-vocab-{stem}.rebuilt.gguf"),
    ];
    candidates
        .iter()
        .map(|file| folder.join(file))
        .find(|path| path.exists())
}

#[test]
fn real_vocabularies_cut_text_as_their_makers_do() {
    let Some(folder) = test_data::require("tokenizers") else {
        return;
    };
    let mut wrong = Vec::new();
    let mut num_vocabularies = 0;
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for cases in files
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "inp"))
    {
        let file = cases.file_name().unwrap().to_str().unwrap();
        let name = file
            .strip_prefix("ggml-vocab-")
            .unwrap()
            .strip_suffix(".gguf.inp")
            .unwrap();
        let Some(vocabulary) = vocabulary_of(&folder, name) else {
            println!("{name}: its vocabulary is not in the test material");
            continue;
        };
        let tokenizer = open(&vocabulary);
        let texts = std::fs::read_to_string(cases).unwrap();
        let expected = std::fs::read_to_string(cases.with_extension("out")).unwrap();
        let texts: Vec<_> = texts
            .strip_suffix(SEPARATOR)
            .unwrap()
            .split(SEPARATOR)
            .collect();
        let expected: Vec<Vec<u32>> = expected
            .lines()
            .map(|line| {
                line.split_whitespace()
                    .map(|id| id.parse().unwrap())
                    .collect()
            })
            .collect();
        assert_eq!(texts.len(), expected.len(), "{name}");
        let mut num_right = 0;
        for (text, expected) in texts.iter().zip(&expected) {
            let found = tokenizer.encode(text, SpecialTokens::AsText);
            if found == *expected {
                num_right += 1;
            } else {
                wrong.push(format!(
                    "{name}: {text:?}\n  expected {expected:?}\n  found    {found:?}"
                ));
            }
        }
        num_vocabularies += 1;
        println!("{name}: {num_right} of {} right", texts.len());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(num_vocabularies >= 9);
}

fn byte_level() -> Option<Tokenizer> {
    Some(open(&test_data::require(
        "tokenizers/ggml-vocab-gpt-2.gguf",
    )?))
}

/// A byte-level tokenizer whose token `b` is byte `b`, with more tokens after them.
fn made(more: &[(&str, i32)]) -> Tokenizer {
    let mut tokens: Vec<String> = (0..=255)
        .map(|byte| byte_alphabet::char_of(byte).to_string())
        .collect();
    let mut kinds = vec![1; 256];
    for &(text, kind) in more {
        tokens.push(text.into());
        kinds.push(kind);
    }
    let gguf = GgufBuilder::new()
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "gpt-2")
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .strings("tokenizer.ggml.merges", &["h e", "l l", "he ll"])
        .open();
    Tokenizer::from_gguf(&gguf).unwrap()
}

#[test]
fn control_tokens_are_found_only_where_they_are_asked_for() {
    let tokenizer = made(&[("<|im_end|>", 3), ("<think>", 4)]);
    let text = "a<|im_end|><think>";
    assert_eq!(tokenizer.encode(text, SpecialTokens::Parse), [97, 256, 257]);
    let as_text = tokenizer.encode(text, SpecialTokens::AsText);
    assert!(!as_text.contains(&256) && as_text.contains(&257));
    assert_eq!(tokenizer.decode(&as_text), text);
    assert_eq!(tokenizer.decode(&[97, 256, 257]), "a<think>");
    assert_eq!(tokenizer.token_bytes(256), Some(&b""[..]));
    assert_eq!(tokenizer.token_bytes(258), None);
    assert_eq!(
        (tokenizer.id_of("<|im_end|>"), tokenizer.end_tokens()),
        (Some(256), &[256][..])
    );
}

#[test]
fn a_merge_that_is_no_token_is_cut_into_bytes_again() {
    let tokenizer = made(&[("he", 1)]);
    assert_eq!(
        tokenizer.encode("hell", SpecialTokens::AsText),
        [104, 101, 108, 108]
    );
    assert_eq!(tokenizer.encode("hel", SpecialTokens::AsText), [256, 108]);
}

#[test]
fn sentencepiece_text_never_becomes_a_control_token() {
    let Some(path) = test_data::require("tokenizers/ggml-vocab-llama-spm.gguf") else {
        return;
    };
    let tokenizer = open(&path);
    for text in ["<s>", "</s>", "<unk>", "x</s>y", "<0x0A>"] {
        let ids = tokenizer.encode(text, SpecialTokens::AsText);
        assert!(ids.iter().all(|&id| id > 258), "{text}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids), format!(" {text}"));
    }
    assert_eq!(
        tokenizer.encode("<s>Hi</s>", SpecialTokens::Parse),
        [1, 6324, 2]
    );
    assert_eq!(
        (
            tokenizer.bos(),
            tokenizer.adds_bos(),
            tokenizer.end_tokens()
        ),
        (Some(1), true, &[2][..])
    );
}

#[test]
fn roles_of_tokens_come_from_the_metadata() {
    let Some(folder) = test_data::require("tokenizers") else {
        return;
    };
    let phi = open(&folder.join("ggml-vocab-phi-3.gguf"));
    assert_eq!(phi.end_tokens(), [32000, 32007], "<|endoftext|>, <|end|>");
    assert_eq!(phi.vocab_size(), 32064);
    let messages = [serde_json::json!({ "role": "user", "content": "Hi" })];
    let template = phi.chat_template().unwrap();
    let prompt = template
        .render(&messages, None, true, &serde_json::Map::new())
        .unwrap();
    assert_eq!(prompt, "<s><|user|>\nHi<|end|>\n<|assistant|>\n");
    assert_eq!(
        phi.encode(&prompt, SpecialTokens::Parse),
        [1, 32010, 6324, 32007, 32001]
    );
    let llama = open(&folder.join("ggml-vocab-llama-bpe.rebuilt.gguf"));
    assert_eq!((llama.bos(), llama.adds_bos()), (Some(128_000), true));
    assert_eq!(llama.end_tokens(), [128_001, 128_009]);
    assert!(llama.chat_template().is_none());
    let baichuan = open(&folder.join("ggml-vocab-baichuan.gguf"));
    assert_eq!(
        baichuan.decode(&baichuan.encode("你好 world", SpecialTokens::AsText)),
        " 你好 world"
    );
    open(&folder.join("ggml-vocab-gpt-neox.gguf"));
}

#[test]
fn metadata_that_makes_no_tokenizer_is_refused_by_name() {
    let base = || GgufBuilder::new().strings("tokenizer.ggml.tokens", &["a", "b"]);
    let model = |name| base().string("tokenizer.ggml.model", name);
    let cases = [
        (base(), "tokenizer.ggml.model"),
        (model("t5"), "\"t5\""),
        (model("gpt2"), "tokenizer.ggml.pre"),
        (
            model("gpt2").string("tokenizer.ggml.pre", "novel-bpe"),
            "novel-bpe",
        ),
        (model("llama"), "tokenizer.ggml.scores"),
        (
            model("llama").f32s("tokenizer.ggml.scores", &[0.0]),
            "1 entries",
        ),
        (
            model("llama").i32s("tokenizer.ggml.token_type", &[1]),
            "1 entries",
        ),
        (
            model("llama").f32s("tokenizer.ggml.scores", &[0.0, 0.0]),
            "no token for byte 0x00",
        ),
        (
            model("llama").u32("tokenizer.ggml.bos_token_id", 2),
            "only 2 tokens",
        ),
        (model("bert"), "unknown_token_id"),
        (
            GgufBuilder::new().string("tokenizer.ggml.model", "gpt2"),
            "tokenizer.ggml.tokens",
        ),
    ];
    for (gguf, expected) in cases {
        let message = Tokenizer::from_gguf(&gguf.open()).unwrap_err().to_string();
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

/// The GGUF vocabulary is held against golden ids; MiniLM has the same one.
#[test]
fn a_folder_and_a_gguf_file_of_one_vocabulary_agree() {
    let (Some(dir), Some(gguf)) = (
        test_data::require("embed/all-MiniLM-L6-v2"),
        test_data::require("tokenizers/ggml-vocab-bert-bge.gguf"),
    ) else {
        return;
    };
    let (dir, gguf) = (Tokenizer::from_dir(&dir).unwrap(), open(&gguf));
    let long = "Une longue phrase, très longue: naïve café 北京 <html> [SEP] ".repeat(100);
    for text in [
        "Hello, World!",
        "[CLS] x [SEP]",
        "",
        " \u{1}\u{10FFFD}",
        long.as_str(),
    ] {
        for special in [SpecialTokens::Parse, SpecialTokens::AsText] {
            assert_eq!(
                dir.encode(text, special),
                gguf.encode(text, special),
                "{text}"
            );
        }
    }
    assert!(
        dir.encode(&long, SpecialTokens::AsText).len() > 1000,
        "it was cut"
    );
    assert_eq!(dir.encode("[SEP]", SpecialTokens::Parse), [102]);
    assert_eq!(dir.encode("[SEP]", SpecialTokens::AsText).len(), 3);
    assert_eq!(
        (dir.bos(), gguf.bos(), dir.vocab_size()),
        (Some(101), Some(101), 30522)
    );
    assert_eq!(
        dir.decode(&dir.encode("hello world", SpecialTokens::AsText)),
        " hello world"
    );
}

#[test]
fn long_texts_are_encoded_at_once() {
    let Some(folder) = test_data::require("tokenizers") else {
        return;
    };
    let Some(book) = test_data::require("docs/text/war-and-peace.txt") else {
        return;
    };
    let book = std::fs::read(book).unwrap();
    let book = String::from_utf8_lossy(&book[..100_000]).into_owned();
    let spaces = " ".repeat(100_000);
    let word = "a".repeat(100_000);
    for name in [
        "gpt-2",
        "llama-bpe.rebuilt",
        "qwen2.rebuilt",
        "deepseek-llm",
        "llama-spm",
        "phi-3",
        "bert-bge",
    ] {
        let tokenizer = open(&folder.join(format!("ggml-vocab-{name}.gguf")));
        for (what, text) in [("book", &book), ("spaces", &spaces), ("one word", &word)] {
            let start = std::time::Instant::now();
            let ids = tokenizer.encode(text, SpecialTokens::Parse);
            let elapsed = start.elapsed();
            println!(
                "{name}: {what}: 100 kB, {} tokens, {} ms",
                ids.len(),
                elapsed.as_millis()
            );
            // Far above what it takes, far below what it would take if it were quadratic.
            assert!(elapsed.as_secs() < 5, "{name}: {what}: {elapsed:?}");
        }
    }
}

#[test]
fn byte_level_text_comes_back_from_its_tokens() {
    let Some(tokenizer) = byte_level() else {
        return;
    };
    proptest!(ProptestConfig::with_cases(300), |(text in any::<String>(), spaces in "[ \t\r\n a-z0-9]{0,40}")| {
        for text in [text, spaces] {
            let ids = tokenizer.encode(&text, SpecialTokens::AsText);
            prop_assert_eq!(tokenizer.decode(&ids), text);
        }
    });
}

/// The pieces of a stream, and the stop string that ended it.
fn stream(tokenizer: &Tokenizer, ids: &[u32], stops: &[String]) -> (Vec<String>, Option<usize>) {
    let mut decoder = StreamDecoder::new(tokenizer, stops.to_vec());
    let mut pieces = Vec::new();
    for &id in ids {
        let piece = decoder.push(id);
        pieces.push(piece.text);
        if piece.stopped.is_some() {
            assert_eq!(
                (decoder.push(97), decoder.finish()),
                (Piece::default(), String::new())
            );
            return (pieces, piece.stopped);
        }
    }
    pieces.push(decoder.finish());
    (pieces, None)
}

/// What is left of a text before the first stop string to be complete, found character by character.
fn cut_at_first_stop(text: &str, stops: &[String]) -> (String, Option<usize>) {
    for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
        let met = stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| !stop.is_empty() && text[..end].ends_with(*stop));
        if let Some((index, stop)) =
            met.max_by_key(|(index, stop)| (stop.len(), usize::MAX - index))
        {
            return (text[..end - stop.len()].into(), Some(index));
        }
    }
    (text.into(), None)
}

proptest! {
    #[test]
    fn a_stream_says_what_whole_decoding_says(ids in prop::collection::vec(0u32..256, 0..30)) {
        let tokenizer = made(&[]);
        let (pieces, _) = stream(&tokenizer, &ids, &[]);
        prop_assert_eq!(pieces.concat(), tokenizer.decode(&ids));
    }

    #[test]
    fn a_stream_never_splits_a_character(text in any::<String>()) {
        let tokenizer = made(&[]);
        let ids: Vec<u32> = text.bytes().map(u32::from).collect();
        let (pieces, _) = stream(&tokenizer, &ids, &[]);
        prop_assert_eq!(pieces.concat(), text.as_str());
        let num_replaced: usize = pieces.iter().map(|piece| piece.matches('\u{FFFD}').count()).sum();
        prop_assert_eq!(num_replaced, text.matches('\u{FFFD}').count());
    }

    #[test]
    fn stop_strings_never_leak(
        parts in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "aba", "é"]), 0..12),
        stops in prop::collection::vec("[abé]{0,4}", 0..4),
    ) {
        let tokenizer = made(&[("ab", 1), ("aba", 1)]);
        let ids: Vec<u32> = parts.iter().flat_map(|part| match tokenizer.id_of(part) {
            Some(id) if part.is_ascii() => vec![id],
            _ => part.bytes().map(u32::from).collect(),
        }).collect();
        let (pieces, stopped) = stream(&tokenizer, &ids, &stops);
        prop_assert_eq!((pieces.concat(), stopped), cut_at_first_stop(&parts.concat(), &stops));
    }
}

#[test]
fn text_is_shown_as_soon_as_it_cannot_be_a_stop_string() {
    let tokenizer = made(&[]);
    let mut decoder = StreamDecoder::new(&tokenizer, vec!["###".into()]);
    let shown: Vec<_> = "a#b##c##"
        .bytes()
        .map(|byte| decoder.push(byte.into()).text)
        .collect();
    assert_eq!(shown, ["a", "", "#b", "", "", "##c", "", ""]);
    assert_eq!(decoder.finish(), "##");
}
