//! A real trained model, stories260K, against an independent numpy implementation and llama2.c's own expectation.

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
fn generate(decoder: &mut Decoder, prompt: &[u32], num_ids: usize) -> (Vec<f32>, Vec<u32>) {
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
    for (file, kv_dtype, tolerance) in [
        ("stories260K.gguf", KvDtype::F32, 1e-3),
        ("stories260K.gguf", KvDtype::F16, 5e-2),
        ("stories260K-F16.gguf", KvDtype::F16, 5e-2),
    ] {
        let Some(mut decoder) = load_file(file, kv_dtype) else {
            return;
        };
        for case in &cases {
            let (logits, ids) = generate(&mut decoder, &case.prompt_ids, case.greedy_ids.len());
            let difference = max_difference(&logits, &case.logits_after_prompt);
            println!("{file}, cache {kv_dtype:?}: {difference:e}");
            assert!(difference < tolerance, "{file} {kv_dtype:?}: {difference}");
            assert_eq!(ids, case.greedy_ids, "{file} {kv_dtype:?}");
        }
    }
}

#[test]
fn quantized_files_stay_close_to_the_reference() {
    let Some(cases) = cases() else { return };
    for (file, tolerance) in [
        ("stories260K-Q8_0.gguf", 0.3),
        ("stories260K-Q5_1.gguf", 2.0),
        ("stories260K-Q4_0.gguf", 5.0),
    ] {
        let Some(mut decoder) = load_file(file, KvDtype::F16) else {
            return;
        };
        for case in &cases {
            let (logits, ids) = generate(&mut decoder, &case.prompt_ids, 1);
            let difference = max_difference(&logits, &case.logits_after_prompt);
            println!("{file}: {difference}");
            assert!(difference < tolerance, "{file}: {difference}");
            assert_eq!(ids[0], case.greedy_ids[0], "{file}");
        }
    }
}
