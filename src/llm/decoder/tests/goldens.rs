//! Tiny seeded models against transformers (tests/goldens/make_llm_goldens.py).

use std::collections::HashMap;

use serde::Deserialize;

use super::*;
use crate::llm::RopeScaling;
use crate::llm::testing::seeded_number;

#[derive(Deserialize)]
struct Goldens {
    seeded_numbers: Vec<f32>,
    prompts: HashMap<String, Vec<u32>>,
    models: HashMap<String, Vec<Golden>>,
}

#[derive(Deserialize)]
struct Golden {
    prompt: String,
    position: usize,
    /// The first of the position's logits.
    logits: Vec<f32>,
}

fn goldens() -> Goldens {
    serde_json::from_str(include_str!("../../../../tests/goldens/llm_goldens.json")).unwrap()
}

/// The models of the script, by its names.
fn models() -> [(&'static str, TinyModel); 7] {
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_context_length: 256.0,
    };
    [
        (
            "llama",
            TinyModel {
                num_kv_heads: 4,
                ..TinyModel::llama()
            },
        ),
        (
            "llama-tied-llama3-rope",
            TinyModel {
                is_tied: true,
                rope_base: 500_000.0,
                rope_scaling: llama3,
                ..TinyModel::llama()
            },
        ),
        (
            "llama-linear-rope",
            TinyModel {
                rope_scaling: RopeScaling::Linear { factor: 4.0 },
                ..TinyModel::llama()
            },
        ),
        ("qwen2", TinyModel::qwen2()),
        (
            "qwen2-tied",
            TinyModel {
                is_tied: true,
                rope_base: 1_000_000.0,
                seed: 2,
                ..TinyModel::qwen2()
            },
        ),
        ("qwen3", TinyModel::qwen3()),
        (
            "qwen3-tied",
            TinyModel {
                is_tied: true,
                rope_base: 1_000_000.0,
                seed: 3,
                ..TinyModel::qwen3()
            },
        ),
    ]
}

fn check(mut decoder: Decoder, name: &str, goldens: &Goldens) {
    let mut worst = 0f32;
    for (prompt, tokens) in &goldens.prompts {
        let logits = all_logits(&mut decoder, tokens);
        for golden in &goldens.models[name] {
            if golden.prompt == *prompt {
                let position = golden.position;
                let difference = max_difference(&logits[position], &golden.logits);
                assert!(
                    difference < 1e-3,
                    "{name}, {prompt} prompt, position {position}: off by {difference}"
                );
                worst = worst.max(difference);
            }
        }
    }
    println!("{name}: max abs difference {worst:e}");
}

#[test]
fn every_architecture_agrees_with_transformers() {
    let goldens = goldens();
    assert_eq!(goldens.models.len(), models().len());
    for (name, model) in models() {
        check(load(&model), name, &goldens);
    }
}

#[test]
fn attention_in_candle_operations_agrees_with_transformers() {
    let goldens = goldens();
    for (name, model) in models() {
        check(load_with_tensor_attention(&model, &exact()), name, &goldens);
    }
}

#[test]
fn the_script_makes_the_same_weights() {
    for (index, number) in goldens().seeded_numbers.into_iter().enumerate() {
        assert_eq!(number, seeded_number(1, "token_embd.weight", index));
    }
}
