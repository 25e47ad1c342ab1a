//! The decoder on an NVIDIA GPU. Skipped where there is none, unless `INGLENOOK_REQUIRE_GPU=1` says that there must be one.

use super::device::{check_drawing, check_sharing};
use super::goldens::{check_prompt_within, goldens};
use super::models::models;
use super::*;
use crate::test_data::require_gpu;

fn load_on(device: &ComputeDevice, model: &TinyModel, kv_dtype: KvDtype) -> Decoder {
    let options = LoadOptions {
        kv_dtype,
        ..exact()
    };
    Decoder::load(&gguf(model), device, &options).unwrap()
}

#[test]
fn every_architecture_agrees_with_transformers() {
    let Some(device) = require_gpu() else { return };
    let goldens = goldens();
    // What is multiplied with weights is rounded to half precision; in sixteen bits the cache is rounded, too, and prompts are
    // attended to in f16.
    for (kv_dtype, tolerance) in [(KvDtype::F32, 2e-2), (KvDtype::F16, 5e-2)] {
        for (name, model) in models() {
            let mut decoder = load_on(&device, &model, kv_dtype);
            let prompts = ["short", "medium", "long"].into_iter();
            let read = prompts.filter(|prompt| name != "phi3-longrope" || *prompt != "short");
            let checked = read.filter(|prompt| {
                check_prompt_within(tolerance, &mut decoder, name, prompt, &goldens)
            });
            assert!(checked.count() > 0, "{name}");
        }
    }
}

#[test]
fn logits_do_not_depend_on_company() {
    let Some(device) = require_gpu() else { return };
    for (_, model) in models() {
        let prompt = |len: u32, seed: u32| (0..len).map(|i| (i * 13 + seed * 31) % 160).collect();
        let prompts: [Vec<u32>; 3] = [prompt(40, 1), prompt(5, 2), prompt(17, 3)];
        let mut next_block = 0;
        let sequences: Vec<SequenceInput> = prompts
            .into_iter()
            .map(|tokens| {
                let first = next_block;
                next_block += tokens.len().div_ceil(16) as u32;
                SequenceInput {
                    tokens,
                    start: 0,
                    block_table: (first..next_block).collect(),
                    logits: LogitsFor::Last,
                    draw: None,
                }
            })
            .collect();
        let together = load_on(&device, &model, KvDtype::F16)
            .forward(&batch(sequences.clone()))
            .unwrap();
        for (row, sequence) in sequences.into_iter().enumerate() {
            let alone = load_on(&device, &model, KvDtype::F16)
                .forward(&batch([sequence]))
                .unwrap();
            assert_eq!(together.row(row), alone.row(0), "{}", model.architecture);
        }
    }
}

#[test]
fn tokens_are_drawn_from_the_logits_that_would_be_read() {
    let Some(device) = require_gpu() else { return };
    check_drawing(&mut load_on(&device, &TinyModel::llama(), KvDtype::F16));
}

/// Parts of a model on one GPU, each with a stream of its own, as they would be on several.
#[test]
fn parts_of_a_model_give_the_bits_of_the_whole() {
    let Some(device) = require_gpu() else { return };
    let gpu = || Gpu::with_own_stream(device.candle().as_cuda_device().unwrap()).unwrap();
    for model in [TinyModel::llama(), TinyModel::qwen3(), TinyModel::gemma3()] {
        check_sharing(&model, gpu);
    }
}

/// 10,000 steps of one sequence after another in the same blocks: what a step takes is given back.
#[test]
fn memory_does_not_grow_over_many_steps() {
    let Some(device) = require_gpu() else { return };
    let mut decoder = load_on(&device, &TinyModel::llama(), KvDtype::F16);
    let free = || device.memory().unwrap().available_bytes;
    let mut after_warming = 0;
    for step in 0..10_000usize {
        let start = step % 100;
        let next = slice_of(&[step as u32 % 160], start, LogitsFor::Last);
        let logits = decoder.forward(&batch([next])).unwrap();
        assert!(logits.row(0).iter().all(|logit| logit.is_finite()));
        if step == 500 {
            after_warming = free();
        }
    }
    assert!(free() + (16 << 20) >= after_warming);
}
