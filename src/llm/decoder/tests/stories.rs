//! A real trained model, stories260K, against an independent numpy implementation and llama2.c's own expectation.

use std::collections::HashMap;

use serde::Deserialize;

use super::*;
use crate::test_data;

#[derive(Deserialize)]
struct Goldens {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    logits_after_prompt: Vec<f32>,
}

fn cases() -> Option<Vec<Case>> {
    let path = test_data::require("lm/stories260K_golden.json")?;
    let text = std::fs::read_to_string(path).unwrap();
    Some(serde_json::from_str::<Goldens>(&text).unwrap().cases)
}

fn load_file(name: &str, kv_dtype: KvDtype) -> Option<Decoder> {
    let path = test_data::require(&format!("lm/{name}"))?;
    let options = LoadOptions {
        cache_size: CacheSize::Tokens(1024),
        kv_dtype,
        ..LoadOptions::default()
    };
    Some(Decoder::open(&path, &cpu(), &options).unwrap())
}

fn argmax(row: &[f32]) -> u32 {
    (0..row.len() as u32)
        .max_by(|&a, &b| row[a as usize].total_cmp(&row[b as usize]))
        .unwrap()
}

/// Logits after the prompt, and the ids that follow it greedily.
fn generate(
    decoder: &mut impl LanguageModel,
    prompt: &[u32],
    num_ids: usize,
) -> (Vec<f32>, Vec<u32>) {
    let mut step = |tokens: &[u32], start| {
        let input = slice_of(tokens, start, LogitsFor::Last);
        decoder.forward(&batch([input])).unwrap().row(0).to_vec()
    };
    let first = step(prompt, 0);
    let mut ids = vec![argmax(&first)];
    while ids.len() < num_ids {
        let last = ids[ids.len() - 1];
        ids.push(argmax(&step(&[last], prompt.len() + ids.len() - 1)));
    }
    (first, ids)
}

#[test]
fn a_trained_model_continues_as_the_reference_does() {
    let Some(cases) = cases() else { return };
    for (file, kv_dtype, tolerance, max_ids) in [
        ("stories260K.gguf", KvDtype::F32, 1e-3, 200),
        ("stories260K.gguf", KvDtype::F16, 5e-2, 20),
        ("stories260K-F16.gguf", KvDtype::F16, 5e-2, 20),
    ] {
        let Some(mut decoder) = load_file(file, kv_dtype) else {
            return;
        };
        for case in &cases {
            let greedy_ids = &case.greedy_ids[..case.greedy_ids.len().min(max_ids)];
            let (logits, ids) = generate(&mut decoder, &case.prompt_ids, greedy_ids.len());
            let difference = max_difference(&logits, &case.logits_after_prompt);
            println!("{file}, cache {kv_dtype:?}: {difference:e}");
            assert!(difference < tolerance, "{file} {kv_dtype:?}: {difference}");
            assert_eq!(ids, greedy_ids, "{file} {kv_dtype:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_gpu_continues_as_the_reference_does() {
    const NUM_IDS: usize = 8;
    let Some(cases) = cases() else { return };
    let Some(path) = test_data::require("lm/stories260K.gguf") else {
        return;
    };
    let gguf = GgufFile::open(&path).unwrap();
    let mut model = super::device::on_emulator(&gguf, KvDtype::F16);
    let case = &cases[0];
    let (logits, ids) = generate(&mut model, &case.prompt_ids, NUM_IDS);
    assert!(max_difference(&logits, &case.logits_after_prompt) < 5e-2);
    assert_eq!(ids, case.greedy_ids[..NUM_IDS]);
}

/// Activations are rounded to half precision there.
#[cfg(unix)]
#[test]
fn quantized_files_on_a_gpu_agree_with_transformers_on_their_expanded_weights() {
    for (dtype, expected) in quantized_goldens() {
        let Some(path) = test_data::require(&format!("lm/stories260K-{dtype}.gguf")) else {
            return;
        };
        let gguf = GgufFile::open(&path).unwrap();
        let mut model = super::device::on_emulator(&gguf, KvDtype::F32);
        let (logits, _) = generate(&mut model, &QUANTIZED_PROMPT, 1);
        let difference = max_difference(&logits, &expected);
        assert!(difference < 5e-2, "{dtype}: {difference}");
    }
}

const QUANTIZED_PROMPT: [u32; 5] = [1, 403, 407, 261, 378];

/// Logits after the prompt, by type of weights.
fn quantized_goldens() -> HashMap<String, Vec<f32>> {
    let text = include_str!("../../../../tests/goldens/stories_goldens.json");
    let goldens: HashMap<String, Vec<f32>> = serde_json::from_str(text).unwrap();
    assert_eq!(goldens.len(), 3);
    goldens
}

/// The reference expands the same quantized weights to f32; what remains is the rounding of activations to 8 bits.
#[test]
fn quantized_files_agree_with_transformers_on_their_expanded_weights() {
    for (dtype, expected) in quantized_goldens() {
        let file = format!("stories260K-{dtype}.gguf");
        let Some(mut decoder) = load_file(&file, KvDtype::F32) else {
            return;
        };
        let (logits, _) = generate(&mut decoder, &QUANTIZED_PROMPT, 1);
        let difference = max_difference(&logits, &expected);
        println!("{file}: {difference}");
        assert!(difference < 0.3, "{file}: {difference}");
        assert_eq!(argmax(&logits), argmax(&expected), "{file}");
    }
}
