//! Tiny seeded models against transformers (tests/goldens/make_llm_goldens.py).

use std::collections::HashMap;

use serde::Deserialize;

use super::models::models;
use super::*;
use crate::llm::testing::seeded_number;

#[derive(Deserialize)]
pub struct Goldens {
    seeded_numbers: Vec<f32>,
    prompts: HashMap<String, Vec<u32>>,
    pub models: HashMap<String, Vec<Golden>>,
    /// What follows the first [`GREEDY_PROMPT`] tokens of the medium prompt.
    greedy: HashMap<String, Vec<u32>>,
}

/// Longer than any window of the models.
const GREEDY_PROMPT: usize = 40;

#[derive(Deserialize)]
pub struct Golden {
    prompt: String,
    position: usize,
    /// The first of the position's logits.
    logits: Vec<f32>,
}

pub fn goldens() -> Goldens {
    serde_json::from_str(include_str!("../../../../tests/goldens/llm_goldens.json")).unwrap()
}

/// Whether there are goldens for the model and this prompt, and the logits agree with them.
pub fn check_prompt(decoder: &mut Decoder, name: &str, prompt: &str, goldens: &Goldens) -> bool {
    check_prompt_within(1e-3, decoder, name, prompt, goldens)
}

pub fn check_prompt_within(
    tolerance: f32,
    decoder: &mut impl LanguageModel,
    name: &str,
    prompt: &str,
    goldens: &Goldens,
) -> bool {
    let mut of_prompt = (goldens.models[name].iter())
        .filter(|golden| golden.prompt == prompt)
        .peekable();
    if of_prompt.peek().is_none() {
        return false;
    }
    let logits = all_logits(decoder, &goldens.prompts[prompt]);
    for golden in of_prompt {
        let position = golden.position;
        let difference = max_difference(&logits[position], &golden.logits);
        assert!(
            difference < tolerance,
            "{name}, {prompt} prompt, position {position}: off by {difference}"
        );
    }
    true
}

fn check(mut decoder: Decoder, name: &str, prompts: &[&str], goldens: &Goldens) {
    let mut num_checked = 0;
    for prompt in prompts {
        // What was made for long contexts reads short ones otherwise.
        if name != "phi3-longrope" || *prompt != "short" {
            num_checked += usize::from(check_prompt(&mut decoder, name, prompt, goldens));
        }
    }
    assert!(num_checked > 0, "{name}");
    let mut tokens = goldens.prompts["medium"][..GREEDY_PROMPT].to_vec();
    let mut next = slice_of(&tokens, 0, LogitsFor::Last);
    for &expected in &goldens.greedy[name] {
        let logits = decoder.forward(&batch([next])).unwrap();
        let row = logits.row(0).iter().zip(0u32..);
        let (_, chosen) = row.max_by(|a, b| a.0.total_cmp(b.0)).unwrap();
        assert_eq!(chosen, expected, "{name}, token {}", tokens.len());
        next = slice_of(&[chosen], tokens.len(), LogitsFor::Last);
        tokens.push(chosen);
    }
    assert!(goldens.greedy[name].len() > 16, "{name}");
}

#[test]
fn every_architecture_agrees_with_transformers() {
    let goldens = goldens();
    assert_eq!(goldens.models.len(), models().len());
    for (name, model) in models() {
        check(load(&model), name, &["short", "medium", "long"], &goldens);
    }
}

#[test]
fn attention_in_candle_operations_agrees_with_transformers() {
    let goldens = goldens();
    for (name, model) in models() {
        // Whole prompts are slow this way.
        let prompts: &[&str] = match name {
            "gemma3" => &["short", "medium", "long"],
            _ => &["short", "medium"],
        };
        let decoder = load_with_tensor_attention(&model, &exact());
        check(decoder, name, prompts, &goldens);
    }
}

#[test]
fn a_context_within_the_original_one_is_rotated_as_that_was() {
    let options = LoadOptions {
        max_context: Some(32),
        ..exact()
    };
    let gguf = gguf(&TinyModel::phi3_long_rope());
    let mut decoder = Decoder::load(&gguf, &cpu(), &options).unwrap();
    assert!(check_prompt(
        &mut decoder,
        "phi3-longrope",
        "short",
        &goldens()
    ));
}

#[test]
fn the_script_makes_the_same_weights() {
    for (index, number) in goldens().seeded_numbers.into_iter().enumerate() {
        assert_eq!(number, seeded_number(1, "token_embd.weight", index));
    }
}
