//! A sequence's logits do not depend on its company, its cut into chunks, or what its blocks held before.

use super::*;

fn prompt(len: usize, seed: u32) -> Vec<u32> {
    (0..len as u32)
        .map(|i| (i * i * 7 + i * 13 + seed * 31) % 160)
        .collect()
}

fn models() -> [TinyModel; 9] {
    [
        TinyModel::llama(),
        TinyModel::qwen2(),
        TinyModel::qwen3(),
        TinyModel::mistral(),
        TinyModel::gemma3(),
        TinyModel::phi3_long_rope(),
        TinyModel::smollm3(),
        TinyModel::granite(),
        TinyModel::qwen3moe(),
    ]
}

#[test]
fn logits_are_the_same_alone_and_among_seven_others() {
    for model in models() {
        let prompts: Vec<Vec<u32>> = [40, 1, 17, 16, 33, 5, 64, 2]
            .iter()
            .zip(0..)
            .map(|(&len, seed)| prompt(len, seed))
            .collect();
        let mut alone = Vec::new();
        for tokens in &prompts {
            alone.extend(all_logits(&mut load(&model), tokens));
        }
        let mut next_block = 0;
        let together = prompts.iter().map(|tokens| {
            let first = next_block;
            next_block += tokens.len().div_ceil(16) as u32;
            SequenceInput {
                tokens: tokens.clone(),
                start: 0,
                block_table: (first..next_block).rev().collect(),
                logits: LogitsFor::All,
                draw: None,
            }
        });
        let logits = load(&model).forward(&batch(together)).unwrap();
        assert_eq!(logits.num_rows(), alone.len());
        for (row, alone) in alone.iter().enumerate() {
            assert_eq!(logits.row(row), alone, "{} row {row}", model.architecture);
        }
    }
}

#[test]
fn prefill_in_chunks_of_seven_gives_the_logits_of_prefill_in_one() {
    for model in models() {
        let tokens = prompt(100, 3);
        let whole = all_logits(&mut load(&model), &tokens);
        let mut decoder = load(&model);
        let mut chunked = Vec::new();
        for (index, chunk) in tokens.chunks(7).enumerate() {
            let input = slice_of(chunk, index * 7, LogitsFor::All);
            let logits = decoder.forward(&batch([input])).unwrap();
            chunked.extend((0..logits.num_rows()).map(|row| logits.row(row).to_vec()));
        }
        assert_eq!(whole, chunked, "{}", model.architecture);
    }
}

#[test]
fn blocks_that_another_sequence_used_give_the_logits_of_fresh_ones() {
    for model in models() {
        let tokens = prompt(37, 4);
        let fresh = all_logits(&mut load(&model), &tokens);
        let mut decoder = load(&model);
        all_logits(&mut decoder, &prompt(90, 5));
        assert_eq!(fresh, all_logits(&mut decoder, &tokens));
    }
}

#[test]
fn decoding_goes_on_where_a_prefill_ended() {
    for model in models() {
        let tokens = prompt(50, 6);
        let whole = all_logits(&mut load(&model), &tokens);
        let mut decoder = load(&model);
        let prefill = slice_of(&tokens[..30], 0, LogitsFor::None);
        assert_eq!(decoder.forward(&batch([prefill])).unwrap().num_rows(), 0);
        for position in 30..50 {
            let input = slice_of(&tokens[position..=position], position, LogitsFor::Last);
            let logits = decoder.forward(&batch([input])).unwrap();
            assert_eq!(logits.row(0), whole[position], "position {position}");
        }
    }
}

#[test]
fn only_the_rows_asked_for_are_returned() {
    let mut decoder = load(&TinyModel::llama());
    let tokens = prompt(20, 7);
    let all = all_logits(&mut decoder, &tokens);
    let mut inputs = [
        slice_of(&tokens, 0, LogitsFor::None),
        slice_of(&tokens, 0, LogitsFor::Last),
        slice_of(&tokens[..2], 0, LogitsFor::All),
    ];
    for (input, first_block) in inputs.iter_mut().zip([0, 2, 4]) {
        input.block_table = vec![first_block, first_block + 1];
    }
    let logits = decoder.forward(&batch(inputs)).unwrap();
    assert_eq!(logits.num_rows(), 3);
    assert_eq!(logits.row(0), all[19]);
    assert_eq!(logits.row(1), all[0]);
    assert_eq!(logits.row(2), all[1]);
}

#[test]
fn candle_operations_give_the_attention_of_the_kernel() {
    // Sums in another order may round a key to the neighbouring half-precision number.
    for (kv_dtype, tolerance) in [
        (KvDtype::F32, 1e-4),
        (KvDtype::F16, 1e-2),
        (KvDtype::Bf16, 1e-1),
    ] {
        for model in models() {
            let options = LoadOptions {
                kv_dtype,
                ..exact()
            };
            let mut kernel = Decoder::load(&gguf(&model), &cpu(), &options).unwrap();
            let mut operations = load_with_tensor_attention(&model, &options);
            let prompts = [prompt(45, 8), prompt(3, 9)];
            for chunk in [0..3, 3..45] {
                let first = slice_of(&prompts[0][chunk.clone()], chunk.start, LogitsFor::All);
                let mut second = slice_of(&prompts[1], 0, LogitsFor::All);
                second.block_table = vec![9];
                let batch = batch([first, second]);
                let expected = kernel.forward(&batch).unwrap();
                let logits = operations.forward(&batch).unwrap();
                assert_eq!(logits.num_rows(), expected.num_rows());
                for row in 0..logits.num_rows() {
                    let difference = max_difference(logits.row(row), expected.row(row));
                    assert!(
                        difference < tolerance,
                        "{} {kv_dtype:?} row {row}: {difference}",
                        model.architecture
                    );
                }
            }
        }
    }
}

#[test]
fn a_batch_that_would_leave_the_cache_or_the_vocabulary_is_refused() {
    let mut decoder = load(&TinyModel::llama());
    let good = slice_of(&prompt(20, 1), 0, LogitsFor::Last);
    let with = |change: fn(&mut SequenceInput)| {
        let mut input = good.clone();
        change(&mut input);
        input
    };
    for refused in [
        with(|input| input.tokens.clear()),
        with(|input| input.tokens[3] = 160),
        with(|input| input.block_table.truncate(1)),
        with(|input| input.block_table[1] = 160),
        with(|input| input.start = 4090),
        with(|input| input.start = usize::MAX),
    ] {
        let error = decoder
            .forward(&batch([good.clone(), refused]))
            .unwrap_err();
        assert!(
            matches!(error, LlmError::InvalidBatch { sequence: 1, .. }),
            "{error}"
        );
    }
    assert_eq!(decoder.forward(&batch([])).unwrap().num_rows(), 0);
    assert!(decoder.forward(&batch([good])).is_ok());
}
