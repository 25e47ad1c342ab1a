//! Embedding models for tests: one without files, in which texts with common words are similar, and a tiny real BERT
//! folder made from a seed. Nothing in the product uses them.

mod cross_encoder;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

use super::{Embedder, EmbedderSpec, EmbeddingError, EmbeddingModel, EmbeddingTokenizer, Pooling};

pub use cross_encoder::write_tiny_cross_encoder;

/// Length of the fake's vectors.
pub const FAKE_DIMENSIONS: usize = 64;
/// The fake's longest input in tokens, two special tokens included.
pub const FAKE_MAX_TOKENS: usize = 512;

impl Embedder {
    /// An embedder without files: each word has a fixed pseudo-random vector, a text is the sum of its words' vectors.
    pub fn start_fake() -> Embedder {
        Embedder::start(Box::new(FakeModel), Arc::new(WordTokenizer), fake_spec())
            .expect("a thread can be started")
    }
}

pub fn fake_spec() -> EmbedderSpec {
    EmbedderSpec {
        name: "fake".into(),
        dimensions: FAKE_DIMENSIONS,
        matryoshka_dimensions: Vec::new(),
        max_tokens: FAKE_MAX_TOKENS,
        pooling: Pooling::Mean,
        normalize: true,
        query_instruction: None,
        passage_instruction: None,
        model_hash: "fa4e".repeat(16),
        num_parameters: 0,
        memory_bytes: 0,
    }
}

/// Sums the words' vectors.
pub struct FakeModel;

impl EmbeddingModel for FakeModel {
    fn embed(&mut self, token_ids: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        Ok(token_ids.iter().map(|ids| bag_of_words(ids)).collect())
    }
}

fn bag_of_words(ids: &[u32]) -> Vec<f32> {
    let mut sum = vec![0.0f32; FAKE_DIMENSIONS];
    // The special tokens count a little, so that a text without words has a direction too.
    for id in ids {
        let weight = if *id < NUM_SPECIAL_IDS { 0.01 } else { 1.0 };
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(*id));
        for x in &mut sum {
            *x += weight * random.random_range(-1.0..1.0f32);
        }
    }
    let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
    sum.iter().map(|x| x / norm).collect()
}

/// Ids below this are the special tokens of [`WordTokenizer`].
const NUM_SPECIAL_IDS: u32 = 2;

/// Each run of letters or digits is a token, in lower case; its id is a hash of it.
pub struct WordTokenizer;

impl EmbeddingTokenizer for WordTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, EmbeddingError> {
        let words = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(|word| fnv1a(&word.to_lowercase()).max(NUM_SPECIAL_IDS));
        Ok(std::iter::once(0).chain(words).chain([1]).collect())
    }

    fn num_special_tokens(&self) -> usize {
        2
    }
}

/// The FNV-1a hash, which is the same on every machine.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The shape of the model that [`write_tiny_bert`] writes.
const HIDDEN: usize = 32;
const NUM_LAYERS: usize = 2;
const NUM_HEADS: usize = 4;
const INTERMEDIATE: usize = 64;
const NUM_POSITIONS: usize = 512;

/// Writes a complete BERT folder into `dir`, which must exist: a WordPiece vocabulary of common words, all ASCII characters
/// and their continuations, and seeded weights. The token embeddings dominate, so texts with common words are similar.
pub fn write_tiny_bert(dir: &Path) -> std::io::Result<()> {
    let vocabulary = vocabulary();
    write_json(
        &dir.join("config.json"),
        &json!({
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": vocabulary.len(),
            "hidden_size": HIDDEN,
            "num_hidden_layers": NUM_LAYERS,
            "num_attention_heads": NUM_HEADS,
            "intermediate_size": INTERMEDIATE,
            "max_position_embeddings": NUM_POSITIONS,
            "type_vocab_size": 2,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "pad_token_id": 0,
        }),
    )?;
    write_json(&dir.join("tokenizer.json"), &tokenizer_json(&vocabulary))?;
    write_json(
        &dir.join("modules.json"),
        &json!([
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]),
    )?;
    std::fs::create_dir_all(dir.join("1_Pooling"))?;
    write_json(
        &dir.join("1_Pooling/config.json"),
        &json!({
            "word_embedding_dimension": HIDDEN,
            "pooling_mode_cls_token": false,
            "pooling_mode_mean_tokens": true,
        }),
    )?;
    let tensors = tensors(vocabulary.len());
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
            .expect("the bytes were made for the shape");
        (name.as_str(), view)
    });
    let bytes = safetensors::serialize(views, None).map_err(std::io::Error::other)?;
    std::fs::write(dir.join("model.safetensors"), bytes)
}

fn write_json(path: &Path, value: &serde_json::Value) -> std::io::Result<()> {
    std::fs::write(path, value.to_string())
}

const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

const WORDS: &str = "the of and to in a is that for it as was with be by on not he his but at are this have from or had an \
    they which one you were all her she there would their we him been has when who will no more if out so up said what its \
    about than into them can only other time new some could these two may first then do any like my now over such our man \
    me even most made after also did many off before must well back through years much where your way down should because \
    long each just state those people too mr how little good world make very year still see work life here get both between \
    being under three never know same last another while us might great go come since against right came take used himself \
    few house use place during without high again home around small however found part school thought went say general once \
    upon war every does got left number course until always away something fact water less public put think almost hand \
    enough far took head yet better set told nothing night end why called find going look asked later knew point next city \
    business give group toward young days let room word document page question answer source file index search model team \
    report price cost contract customer invoice policy order date name table section chapter figure data system machine \
    memory server error test code engine vector token text language user key access power heat pump boiler oil gas pressure \
    temperature valve filter motor cable safety manual service repair install warranty garden flower tree river mountain sea \
    cat dog bird fish horse bread milk apple coffee tea wine red green blue black white yellow";

const SUFFIXES: &str =
    "s ed ing er est ly ion tion ation ment ness able ful less ist ity al ic ive ous es en";

fn vocabulary() -> Vec<String> {
    let characters = (b'!'..=b'~')
        .map(char::from)
        .filter(|c| !c.is_ascii_uppercase());
    let characters: Vec<String> = characters.map(String::from).collect();
    let mut vocabulary: Vec<String> = SPECIAL_TOKENS.map(String::from).to_vec();
    vocabulary.extend(characters.iter().cloned());
    vocabulary.extend(characters.iter().map(|c| format!("##{c}")));
    vocabulary.extend(WORDS.split_whitespace().map(String::from));
    vocabulary.extend(
        SUFFIXES
            .split_whitespace()
            .map(|suffix| format!("##{suffix}")),
    );
    let mut seen = HashSet::new();
    vocabulary.retain(|piece| seen.insert(piece.clone()));
    vocabulary
}

fn tokenizer_json(vocabulary: &[String]) -> serde_json::Value {
    let ids: serde_json::Map<String, serde_json::Value> = vocabulary
        .iter()
        .enumerate()
        .map(|(id, piece)| (piece.clone(), id.into()))
        .collect();
    let added: Vec<_> = SPECIAL_TOKENS
        .iter()
        .map(|token| {
            json!({
                "id": ids[*token], "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let special = |token: &str| json!({"id": token, "ids": [ids[token]], "tokens": [token]});
    json!({
        "version": "1.0",
        // Deliberately set, as in published files: a loader must not obey them.
        "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
            ],
            "special_tokens": {"[CLS]": special("[CLS]"), "[SEP]": special("[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids,
        },
    })
}

/// Name, shape and little-endian bytes of each tensor.
fn tensors(vocab_size: usize) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let mut random = ChaCha8Rng::seed_from_u64(20_260_101);
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize], values: &mut dyn FnMut() -> f32| {
        let num_values = shape.iter().product();
        let bytes = (0..num_values)
            .flat_map(|_| values().to_le_bytes())
            .collect();
        tensors.push((name, shape.to_vec(), bytes));
    };
    let word_size = [vocab_size, HIDDEN];
    add(
        "embeddings.word_embeddings.weight".into(),
        &word_size,
        &mut || uniform(&mut random, 1.0),
    );
    add(
        "embeddings.position_embeddings.weight".into(),
        &[NUM_POSITIONS, HIDDEN],
        &mut || uniform(&mut random, 0.05),
    );
    add(
        "embeddings.token_type_embeddings.weight".into(),
        &[2, HIDDEN],
        &mut || uniform(&mut random, 0.05),
    );
    let mut norms = vec!["embeddings".to_string()];
    for layer in 0..NUM_LAYERS {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for (part, rows, columns) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", INTERMEDIATE, HIDDEN),
            ("output.dense", HIDDEN, INTERMEDIATE),
        ] {
            add(
                name(&format!("{part}.weight")),
                &[rows, columns],
                &mut || uniform(&mut random, 0.08),
            );
            add(name(&format!("{part}.bias")), &[rows], &mut || {
                uniform(&mut random, 0.02)
            });
        }
        norms.push(name("attention.output"));
        norms.push(name("output"));
    }
    for norm in norms {
        add(format!("{norm}.LayerNorm.weight"), &[HIDDEN], &mut || 1.0);
        add(format!("{norm}.LayerNorm.bias"), &[HIDDEN], &mut || 0.0);
    }
    tensors
}

fn uniform(random: &mut impl Rng, width: f32) -> f32 {
    random.random_range(-width..width)
}
