//! Broken and hostile files end in an error, never in a panic or in a wrong model.

use super::*;
use crate::llm::gguf::Value;
use crate::test_data;

#[test]
fn every_malformed_file_is_refused_or_loaded() {
    let Some(dir) = test_data::require("fuzz/gguf") else {
        return;
    };
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let result = Decoder::open(&path, &cpu(), &LoadOptions::default());
        match &result {
            Ok(decoder) => println!("{name}: loaded, {:?}", decoder.spec()),
            Err(error) => println!("{name}: {error}"),
        }
        if name.starts_with("sem_llama") {
            assert!(
                matches!(result, Err(LlmError::InvalidMetadata { .. })),
                "{name}"
            );
        }
    }
}

fn error_of(model: &TinyModel) -> String {
    let error = Decoder::load(&gguf(model), &cpu(), &exact()).unwrap_err();
    error.to_string()
}

#[test]
fn a_missing_tensor_is_named() {
    let model = TinyModel::llama().with_metadata("llama.block_count", Value::U32(4));
    let error = error_of(&model);
    assert!(error.contains("no tensor \"blk.3."), "{error}");
}

#[test]
fn a_tensor_that_would_be_ignored_is_named() {
    let model = TinyModel::llama().with_metadata("llama.block_count", Value::U32(2));
    let error = error_of(&model);
    assert!(error.contains("tensor \"blk.2."), "{error}");
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let model = TinyModel::llama().with_metadata("llama.attention.head_count_kv", Value::U32(4));
    let error = error_of(&model);
    assert!(error.contains("attn_k.weight"), "{error}");
    assert!(
        error.contains("[32, 64]") && error.contains("[64, 64]"),
        "{error}"
    );
}

#[test]
fn a_cache_larger_than_the_machine_is_refused() {
    let gguf = gguf(&TinyModel::llama());
    let error_with = |cache_size| {
        let options = LoadOptions {
            cache_size,
            ..LoadOptions::default()
        };
        Decoder::load(&gguf, &cpu(), &options).unwrap_err()
    };
    for size in [
        CacheSize::Tokens(usize::MAX),
        CacheSize::Bytes(u64::MAX),
        CacheSize::Bytes(5),
    ] {
        let error = error_with(size);
        assert!(matches!(error, LlmError::InvalidOptions { .. }), "{error}");
    }
    let error = error_with(CacheSize::Tokens(1 << 31));
    assert!(matches!(error, LlmError::CacheTooLarge { .. }), "{error}");
}

#[test]
fn a_cache_in_bytes_holds_as_many_whole_blocks_as_fit() {
    // 3 layers, 2 heads, 16 + 16 numbers of 2 bytes, 16 positions.
    let block_bytes = 3 * 2 * 32 * 2 * 16;
    let options = LoadOptions {
        cache_size: CacheSize::Bytes(10 * block_bytes + 1),
        ..LoadOptions::default()
    };
    let decoder = Decoder::load(&gguf(&TinyModel::llama()), &cpu(), &options).unwrap();
    assert_eq!(decoder.spec().num_blocks, 10);
    assert_eq!(decoder.spec().cache_bytes, 10 * block_bytes);
}
