//! The decoder that stays in a GPU's memory, on the emulator: against the one on the CPU, and against itself in other company,
//! launched and replayed.

use std::convert::Infallible;

use super::goldens::{check_prompt_within, goldens};
use super::models::models;
use super::*;
use crate::engine::sampler::drawn;
use crate::kernels::cuda::emulator::gpu::EmulatedGpu;
use crate::kernels::cuda::memory::Capture;
use crate::llm::device_model::{
    DeviceModel, Loaded, Part, fits, load_weights, part_bytes, workspace_num_bytes,
};
use crate::llm::split::split;
use crate::llm::{Draw, Row};

pub struct OnDevice<M: Capture> {
    /// Those of the GPUs that share it.
    memories: Vec<M>,
    spec: ModelSpec,
    ropes: Vec<Rope>,
    model: DeviceModel<M>,
}

pub type Emulated = OnDevice<EmulatedGpu>;

impl From<Infallible> for LlmError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Emulated {
    fn num_rooms(&self) -> usize {
        self.memories.iter().map(EmulatedGpu::num_rooms).sum()
    }

    fn num_replays(&self) -> usize {
        self.memories.iter().map(EmulatedGpu::num_replays).sum()
    }
}

impl<M: Capture + Send> LanguageModel for OnDevice<M>
where
    LlmError: From<M::Error>,
{
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn forward(&mut self, batch: &Batch) -> Result<Logits, LlmError> {
        let step = Step::new(batch, &self.spec, &self.ropes)?;
        Ok(self.model.forward(&step, &batch.copies)?)
    }
}

fn emulated(model: &TinyModel, kv_dtype: KvDtype) -> Emulated {
    on_emulator(&gguf(model), kv_dtype)
}

pub fn on_emulator(gguf: &GgufFile, kv_dtype: KvDtype) -> Emulated {
    let num_layers = num_layers(gguf);
    on_device(gguf, kv_dtype, &[num_layers], EmulatedGpu::default)
}

fn num_layers(gguf: &GgufFile) -> usize {
    let model = Hyperparameters::from_gguf(gguf.metadata()).unwrap();
    model.layers.len()
}

/// On a GPU for each count of layers.
fn on_device<M: Capture + Clone>(
    gguf: &GgufFile,
    kv_dtype: KvDtype,
    counts: &[usize],
    gpu: impl Fn() -> M,
) -> OnDevice<M>
where
    LlmError: From<M::Error>,
{
    let options = LoadOptions {
        kv_dtype,
        cache_size: CacheSize::Tokens(1024),
        max_context: Some(1024),
        ..LoadOptions::default()
    };
    let model = Hyperparameters::from_gguf(gguf.metadata()).unwrap();
    let layout = cache_layout(&model, &options).unwrap();
    assert!(fits(&model, &layout));
    let context_length = context_length(&model, &options);
    let part = |&num_layers| Part {
        memory: gpu(),
        num_layers,
    };
    let parts: Vec<Part<M>> = counts.iter().map(part).collect();
    let weights = load_weights(gguf, &model, context_length, &parts).unwrap();
    let facts = weights.facts.clone();
    let loaded = Loaded {
        model: &model,
        weights,
        layout: &layout,
        context_length,
    };
    let memories = parts.iter().map(|part| part.memory.clone()).collect();
    let model_on_device = DeviceModel::new(parts, loaded).map_err(LlmError::from);
    OnDevice {
        memories,
        spec: ModelSpec {
            architecture: model.architecture.name.to_owned(),
            vocab_size: facts.vocab_size,
            context_length,
            block_size: options.block_size,
            num_blocks: layout.num_blocks,
            weights_bytes: facts.num_bytes,
            cache_bytes: 0,
        },
        ropes: ropes(&model, &facts),
        model: model_on_device.unwrap(),
    }
}

fn prompt(len: u32, seed: u32) -> Vec<u32> {
    (0..len)
        .map(|i| (i * i * 7 + i * 13 + seed * 31) % 160)
        .collect()
}

/// Tokens of a sequence at `start`, whose blocks are those from an even number on, two by two the other way round.
fn tokens_at(tokens: &[u32], start: usize, first_block: u32, logits: LogitsFor) -> SequenceInput {
    let num_blocks = (start + tokens.len()).div_ceil(16) as u32;
    SequenceInput {
        block_table: (0..num_blocks).map(|it| first_block + (it ^ 1)).collect(),
        ..slice_of(tokens, start, logits)
    }
}

/// Rows of the logits of one step.
fn rows(
    model: &mut impl LanguageModel,
    sequences: impl IntoIterator<Item = SequenceInput>,
) -> Vec<Vec<f32>> {
    let logits = model.forward(&batch(sequences)).unwrap();
    (0..logits.num_rows())
        .map(|row| logits.row(row).to_vec())
        .collect()
}

/// Small models of all kinds that are computed there.
const KINDS: [&str; 8] = [
    "llama-tied-llama3-rope",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma3",
    "phi3-longrope",
    "smollm3",
    "granite",
];
/// Of those the ones that launch what others do not.
const FEW_KINDS: [&str; 3] = ["qwen2", "gemma3", "granite"];

fn of_kinds(names: &[&str]) -> impl Iterator<Item = (&'static str, TinyModel)> {
    models()
        .into_iter()
        .filter(|(name, _)| names.contains(name))
}

#[test]
fn every_architecture_agrees_with_transformers() {
    let goldens = goldens();
    for (name, model) in of_kinds(&KINDS) {
        let mut model = emulated(&model, KvDtype::F32);
        let prompt = match name {
            "phi3-longrope" => "medium",
            _ => "short",
        };
        assert!(check_prompt_within(
            2e-2, &mut model, name, prompt, &goldens
        ));
    }
}

#[test]
fn prompts_and_decodes_with_drafts_agree_with_the_cpu() {
    for (name, model) in of_kinds(&KINDS) {
        let mut found = emulated(&model, KvDtype::F32);
        let mut expected = load(&model);
        let steps = [
            vec![
                tokens_at(&prompt(20, 1), 0, 0, LogitsFor::Last),
                tokens_at(&prompt(5, 2), 0, 8, LogitsFor::All),
                tokens_at(&prompt(3, 3), 0, 16, LogitsFor::None),
            ],
            vec![
                tokens_at(&[7, 8, 9], 20, 0, LogitsFor::All),
                tokens_at(&[3], 5, 8, LogitsFor::Last),
            ],
            vec![
                tokens_at(&[11], 6, 8, LogitsFor::Last),
                tokens_at(&[80], 3, 16, LogitsFor::Last),
                // The drafts before were wrong.
                tokens_at(&[13, 14], 21, 0, LogitsFor::All),
            ],
            vec![tokens_at(&[12], 7, 8, LogitsFor::Last)],
        ];
        for (index, step) in steps.into_iter().enumerate() {
            let expected = rows(&mut expected, step.clone());
            let found = rows(&mut found, step);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let difference = max_difference(found, expected);
                assert!(difference < 2e-2, "{name}, step {index}: {difference}");
            }
        }
        // The third step is of the second one's size.
        assert_eq!(found.num_replays(), 1, "{name}");
    }
}

#[test]
fn replayed_steps_give_the_bits_of_one_that_is_launched() {
    for (name, model) in of_kinds(&FEW_KINDS) {
        let tokens = prompt(12, 4);
        let mut replayed = emulated(&model, KvDtype::F16);
        let mut last = Vec::new();
        for (position, &token) in tokens.iter().enumerate() {
            let step = tokens_at(&[token], position, 4, LogitsFor::Last);
            last = rows(&mut replayed, [step]);
        }
        assert_eq!(replayed.num_replays(), tokens.len() - 1);
        let mut launched = emulated(&model, KvDtype::F16);
        let step = tokens_at(&tokens, 0, 10, LogitsFor::Last);
        assert_eq!(rows(&mut launched, [step]), last, "{name}");
        assert_eq!(launched.num_replays(), 0);
    }
}

#[test]
fn logits_do_not_depend_on_company() {
    for (name, model) in of_kinds(&FEW_KINDS) {
        let prompts = [prompt(40, 1), prompt(5, 2), prompt(17, 3)];
        let mut together = emulated(&model, KvDtype::F16);
        let prefill = (prompts.iter().zip(0..))
            .map(|(tokens, index)| tokens_at(tokens, 0, 4 * index, LogitsFor::Last));
        let first = rows(&mut together, prefill);
        let decode = (prompts.iter().zip(0..))
            .map(|(tokens, index)| tokens_at(&[9], tokens.len(), 4 * index, LogitsFor::Last));
        let second = rows(&mut together, decode);
        for (index, tokens) in prompts.iter().enumerate() {
            let mut alone = emulated(&model, KvDtype::F16);
            let prefill = tokens_at(tokens, 0, 20, LogitsFor::Last);
            assert_eq!(rows(&mut alone, [prefill])[0], first[index], "{name}");
            let decode = tokens_at(&[9], tokens.len(), 20, LogitsFor::Last);
            assert_eq!(rows(&mut alone, [decode])[0], second[index], "{name}");
        }
    }
}

#[test]
fn a_decode_takes_no_memory_and_is_replayed() {
    let mut model = emulated(&TinyModel::llama(), KvDtype::F16);
    let tokens = prompt(250, 5);
    rows(&mut model, [tokens_at(&tokens, 0, 0, LogitsFor::None)]);
    rows(&mut model, [tokens_at(&[1], 250, 0, LogitsFor::Last)]);
    let num_rooms = model.num_rooms();
    // The sixth has a second span, and is launched before it is recorded.
    for position in 251..260 {
        let mut step = tokens_at(&[position as u32 % 160], position, 0, LogitsFor::Last);
        step.draw = (position % 2 == 0).then_some(Draw::GREEDY);
        let logits = model.forward(&batch([step])).unwrap();
        match logits.given(0) {
            Row::Logits(row) => assert!(row.iter().all(|it| it.is_finite())),
            Row::Drawn(token) => assert!(token.is_ok()),
        }
    }
    assert_eq!(model.num_rooms(), num_rooms);
    assert_eq!(model.num_replays(), 8);
}

#[test]
fn a_larger_step_drops_what_was_recorded_before_it() {
    let model = TinyModel::qwen3();
    let mut grown = emulated(&model, KvDtype::F16);
    let decode = |position| tokens_at(&[5], position, 0, LogitsFor::Last);
    let mut small = emulated(&model, KvDtype::F16);
    for position in 0..2 {
        let found = rows(&mut grown, [decode(position)]);
        assert_eq!(found, rows(&mut small, [decode(position)]));
    }
    assert_eq!(grown.num_replays(), 1);
    let large = tokens_at(&prompt(100, 6), 0, 20, LogitsFor::None);
    rows(&mut grown, [large]);
    assert_eq!(rows(&mut grown, [decode(2)]), rows(&mut small, [decode(2)]));
    assert_eq!(grown.num_replays(), 1);
    assert_eq!(rows(&mut grown, [decode(3)]), rows(&mut small, [decode(3)]));
    assert_eq!(grown.num_replays(), 2);
}

#[test]
fn what_cannot_be_recorded_is_launched_and_tried_again_a_few_times() {
    let model = TinyModel::llama();
    // After three it is not tried again, though it would go well.
    for (num_failures, num_replays) in [(1, 8), (2, 7), (5, 0), (10, 0)] {
        let mut failing = emulated(&model, KvDtype::F16);
        let mut replayed = emulated(&model, KvDtype::F16);
        for position in 0..10 {
            failing.memories[0].record_nothing(position < num_failures);
            let step = || [tokens_at(&[7], position, 0, LogitsFor::Last)];
            assert_eq!(rows(&mut failing, step()), rows(&mut replayed, step()));
        }
        assert_eq!(failing.num_replays(), num_replays);
        assert_eq!(replayed.num_replays(), 9);
    }
}

#[test]
fn gpus_that_share_a_model_give_the_bits_of_one() {
    for (_, model) in of_kinds(&FEW_KINDS) {
        for shared in check_sharing(&model, EmulatedGpu::default) {
            assert!(shared.memories.iter().all(|gpu| gpu.num_replays() == 1));
        }
    }
}

/// Computes the same with all layers together and apart, and gives the models that were apart.
pub fn check_sharing<M: Capture + Clone + Send>(
    model: &TinyModel,
    gpu: impl Fn() -> M,
) -> Vec<OnDevice<M>>
where
    LlmError: From<M::Error>,
{
    let gguf = gguf(model);
    let steps = [
        vec![
            tokens_at(&prompt(40, 1), 0, 0, LogitsFor::Last),
            tokens_at(&prompt(5, 2), 0, 8, LogitsFor::All),
            tokens_at(&prompt(3, 3), 0, 16, LogitsFor::None),
        ],
        // Their last layers write into the cache what the next step attends to.
        vec![tokens_at(&prompt(20, 4), 3, 16, LogitsFor::None)],
        vec![
            tokens_at(&[7, 8, 9], 40, 0, LogitsFor::All),
            tokens_at(&[3], 23, 16, LogitsFor::Last),
        ],
        vec![
            tokens_at(&[11, 12, 13], 43, 0, LogitsFor::All),
            tokens_at(&[4], 24, 16, LogitsFor::Last),
        ],
    ];
    // The third sequence goes on in copies of its blocks.
    let batches = steps.map(|step| Batch {
        copies: match step[0].start {
            43 => vec![(16, 24), (17, 25)],
            _ => Vec::new(),
        },
        sequences: step,
    });
    let mut batches = batches;
    batches[3].sequences[1].block_table = vec![25, 24];
    batches[3].sequences[1].draw = Some(Draw::GREEDY);
    let all = num_layers(&gguf);
    let mut whole = on_device(&gguf, KvDtype::F16, &[all], &gpu);
    let expected = batches.each_ref().map(|it| whole.forward(it).unwrap());
    let splits = [vec![1, all - 1], vec![all - 1, 1], vec![1; all]];
    let compare = |counts: Vec<usize>| {
        let mut apart = on_device(&gguf, KvDtype::F16, &counts, &gpu);
        for (batch, expected) in batches.iter().zip(&expected) {
            let found = apart.forward(batch).unwrap();
            assert_eq!(found.num_rows(), expected.num_rows());
            for row in 0..found.num_rows() {
                let name = &model.architecture;
                assert_eq!(found.given(row), expected.given(row), "{name}, {counts:?}");
            }
        }
        apart
    };
    splits.into_iter().map(compare).collect()
}

#[test]
fn the_parts_of_a_model_are_planned_with_what_they_take() {
    for (name, model) in of_kinds(&FEW_KINDS) {
        let gguf = gguf(&model);
        let model = Hyperparameters::from_gguf(gguf.metadata()).unwrap();
        // Little, so that the weights count.
        let options = LoadOptions {
            cache_size: CacheSize::Tokens(16),
            ..LoadOptions::default()
        };
        let layout = cache_layout(&model, &options).unwrap();
        let step = StepSize::default();
        let vocab_size = 160;
        let beside = Beside::default();
        let planned = part_bytes(&gguf, &model, &layout, vocab_size, beside);
        let of_logits = workspace_num_bytes(&model, &layout, vocab_size, step) - planned.each;
        let cache_bytes = planned.cache / planned.layers.len() as u64;
        let (last, first) = planned.layers.split_last().unwrap();
        let first_bytes = first.iter().sum::<u64>() + first.len() as u64 * cache_bytes;
        let last_bytes = last + cache_bytes + planned.head;
        let counts = [first.len(), 1];
        let free_bytes = [first_bytes, last_bytes].map(|bytes| bytes + planned.each);
        assert_eq!(split(&planned, &free_bytes), Some(counts.to_vec()));

        let parts = counts.map(|num_layers| Part {
            memory: EmulatedGpu::default(),
            num_layers,
        });
        load_weights(&gguf, &model, 1024, &parts).unwrap();
        for (part, planned) in parts.iter().zip([first_bytes, last_bytes - of_logits]) {
            let taken = part.memory.num_room_bytes() as u64 + part.num_layers as u64 * cache_bytes;
            let difference = taken.abs_diff(planned) as f64 / planned as f64;
            assert!(difference < 0.05, "{name}: {taken} of {planned}");
        }
    }
}

#[test]
fn copied_blocks_are_attended_to_as_those_that_they_were_copied_from() {
    for kv_dtype in [KvDtype::F32, KvDtype::F16, KvDtype::Bf16] {
        let mut model = emulated(&TinyModel::gemma3(), kv_dtype);
        let prefill = slice_of(&prompt(20, 7), 0, LogitsFor::None);
        rows(&mut model, [prefill]);
        let next = |block_table: Vec<u32>| SequenceInput {
            block_table,
            ..slice_of(&[42], 20, LogitsFor::Last)
        };
        let expected = rows(&mut model, [next(vec![0, 1])]);
        let copied = Batch {
            copies: vec![(1, 6), (0, 9), (6, 3)],
            sequences: vec![next(vec![9, 3])],
        };
        let found = model.forward(&copied).unwrap();
        assert_eq!(found.row(0), expected[0]);
    }
}

#[test]
fn nothing_to_compute_gives_no_logits() {
    let mut model = emulated(&TinyModel::llama(), KvDtype::F16);
    assert!(rows(&mut model, []).is_empty());
}

#[test]
fn models_that_the_kernels_do_not_compute_do_not_fit() {
    let fits = |model: &TinyModel, kv_dtype| {
        let model = Hyperparameters::from_gguf(gguf(model).metadata()).unwrap();
        let options = LoadOptions {
            kv_dtype,
            ..LoadOptions::default()
        };
        fits(&model, &cache_layout(&model, &options).unwrap())
    };
    let with_heads_of = |head_dim| TinyModel {
        head_dim,
        ..TinyModel::llama()
    };
    assert!(fits(&TinyModel::llama(), KvDtype::Bf16));
    assert!(!fits(&TinyModel::qwen3moe(), KvDtype::F16));
    assert!(!fits(&with_heads_of(12), KvDtype::F16));
    assert!(!fits(&with_heads_of(32), KvDtype::Q8));
}

#[test]
fn tokens_are_drawn_from_the_logits_that_would_be_read() {
    check_drawing(&mut emulated(&TinyModel::llama(), KvDtype::F16));
}

/// Draws from the first and the last of four rows.
pub fn check_drawing(model: &mut impl LanguageModel) {
    let input = |sequence: u32, temperature: Option<f32>| SequenceInput {
        block_table: vec![sequence],
        draw: temperature.map(|temperature| Draw {
            temperature,
            top_k: None,
            top_p: 0.9,
            min_p: 0.0,
            uniform: 0.4,
        }),
        ..slice_of(&[5 + sequence, 7, 9], 0, LogitsFor::Last)
    };
    let wished = [Some(0.0), None, None, Some(1.0)];
    let step = |wished: [Option<f32>; 4]| batch((0..).zip(wished).map(|(i, it)| input(i, it)));
    let read = model.forward(&step([None; 4])).unwrap();
    let drawing = step(wished);
    let given = model.forward(&drawing).unwrap();
    for (row, input) in drawing.sequences.iter().enumerate() {
        let expected = match &input.draw {
            Some(draw) => Row::Drawn(Ok(drawn(read.row(row), draw, &mut Vec::new()))),
            None => Row::Logits(read.row(row)),
        };
        assert_eq!(given.given(row), expected, "row {row}");
    }
}
