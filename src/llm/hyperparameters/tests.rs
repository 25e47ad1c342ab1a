use super::*;
use crate::llm::RopeScaling;
use crate::llm::gguf::{Array, GgufFile, Value};
use crate::llm::testing::TinyModel;

fn read_with(changes: &[(&str, Value)]) -> Result<Hyperparameters, LlmError> {
    read(TinyModel::llama(), changes)
}

fn read(mut model: TinyModel, changes: &[(&str, Value)]) -> Result<Hyperparameters, LlmError> {
    for (key, value) in changes {
        model = model.with_metadata(key, value.clone());
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    crate::llm::testing::write_tiny_gguf(&path, &model).unwrap();
    Hyperparameters::from_gguf(GgufFile::open(&path).unwrap().metadata())
}

#[test]
fn impossible_sizes_are_refused_with_their_key() {
    for (key, value) in [
        ("llama.attention.head_count", Value::U32(0)),
        ("llama.attention.head_count_kv", Value::U32(3)),
        ("llama.attention.head_count_kv", Value::U64(u64::MAX)),
        ("llama.embedding_length", Value::U32(1 << 30)),
        ("llama.block_count", Value::U32(0)),
        ("llama.context_length", Value::U32(0)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Value::F32(f32::NAN),
        ),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(0.0)),
        ("llama.rope.freq_base", Value::F32(-1.0)),
        ("llama.rope.dimension_count", Value::U32(15)),
        ("llama.rope.dimension_count", Value::U32(1024)),
    ] {
        let error = read_with(&[(key, value.clone())]).unwrap_err();
        assert!(
            matches!(&error, LlmError::InvalidMetadata { key: named, .. } if named == key),
            "{key} = {value:?}: {error}"
        );
    }
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    for (key, value) in [
        (
            "general.architecture",
            Value::String("no-such-family".into()),
        ),
        ("llama.rope.scaling.type", Value::String("dynamic".into())),
        ("llama.expert_count", Value::U32(8)),
        ("llama.attention.causal", Value::Bool(false)),
        ("llama.final_logit_softcapping", Value::F32(30.0)),
        ("llama.attn_logit_softcapping", Value::F32(50.0)),
        ("llama.attention.temperature_scale", Value::F32(0.1)),
        ("llama.embedding_scale", Value::F32(12.0)),
        ("llama.logit_scale", Value::F32(8.0)),
    ] {
        let error = read_with(&[(key, value.clone())]).unwrap_err();
        let named = match &value {
            Value::String(name) => name,
            _ => key,
        };
        assert!(error.to_string().contains(named), "{key}: {error}");
    }
}

fn windows(model: TinyModel, changes: &[(&str, Value)]) -> Vec<Option<usize>> {
    let model = read(model, changes).unwrap();
    model.layers.iter().map(|layer| layer.window).collect()
}

#[test]
fn a_window_is_that_of_all_layers_but_where_the_pattern_says_otherwise() {
    let window = |size| ("llama.attention.sliding_window", Value::U32(size));
    let pattern = |value| ("llama.attention.sliding_window_pattern", value);
    let llama = TinyModel::llama;
    assert_eq!(windows(llama(), &[window(100)]), [Some(100); 3]);
    assert_eq!(windows(llama(), &[window(0)]), [None; 3]);
    let alternating = pattern(Value::U32(2));
    assert_eq!(
        windows(llama(), &[window(7), alternating]),
        [Some(7), None, Some(7)]
    );
    let listed = pattern(Value::Array(Array::Bool(vec![false, false, true])));
    assert_eq!(
        windows(llama(), &[window(7), listed]),
        [None, None, Some(7)]
    );
    let context = read(llama(), &[window(100)]).unwrap().context_length;
    assert_eq!(context, 4096, "the window does not end the context");
}

#[test]
fn a_gemma_rotates_layers_with_a_window_by_a_base_of_their_own() {
    let model = read(TinyModel::gemma3(), &[]).unwrap();
    let ropes: Vec<_> = model
        .layers
        .iter()
        .map(|layer| layer.rope.unwrap())
        .collect();
    assert_eq!(ropes, [1, 1, 1, 1, 1, 0, 1]);
    let bases: Vec<_> = model.ropes.iter().map(|rope| rope.base).collect();
    assert_eq!(bases, [1_000_000.0, 10_000.0]);
    let base = ("gemma3.rope.freq_base_swa", Value::F32(20_000.0));
    assert_eq!(
        read(TinyModel::gemma3(), &[base]).unwrap().ropes[1].base,
        20_000.0
    );
}

/// Sizes of Gemma 3 27B; its `query_pre_attn_scalar` is 168.
#[test]
fn the_largest_gemma_scales_its_queries_by_other_than_the_head() {
    let sizes = [
        ("gemma3.block_count", Value::U32(62)),
        ("gemma3.embedding_length", Value::U32(5376)),
        ("gemma3.attention.head_count", Value::U32(32)),
        ("gemma3.attention.head_count_kv", Value::U32(16)),
        ("gemma3.attention.key_length", Value::U32(128)),
    ];
    let scale = read(TinyModel::gemma3(), &sizes).unwrap().score_scale;
    assert!((scale - 1.0 / 168f32.sqrt()).abs() < 1e-7);
}

#[test]
fn a_scaling_without_a_type_is_linear() {
    for key in ["llama.rope.scaling.factor", "llama.rope.scale_linear"] {
        let model = read_with(&[(key, Value::F32(4.0))]).unwrap();
        assert_eq!(model.ropes[0].scaling, RopeScaling::Linear { factor: 4.0 });
    }
}

#[test]
fn every_fourth_layer_of_smollm3_is_not_rotated() {
    let model = read(TinyModel::smollm3(), &[]).unwrap();
    let ropes: Vec<_> = model.layers.iter().map(|layer| layer.rope).collect();
    assert_eq!(ropes, [Some(0), Some(0), Some(0), None, Some(0)]);
}

#[test]
fn lists_and_counts_that_do_not_fit_are_refused() {
    let too_short = Value::Array(Array::Bool(vec![true; 2]));
    let of_numbers = Value::Array(Array::U32(vec![1; 3]));
    for (model, key, value) in [
        (
            TinyModel::mistral(),
            "llama.attention.sliding_window_pattern",
            too_short,
        ),
        (
            TinyModel::mistral(),
            "llama.attention.sliding_window_pattern",
            of_numbers,
        ),
        (
            TinyModel::mistral(),
            "llama.attention.sliding_window",
            Value::U64(u64::MAX),
        ),
        (
            TinyModel::qwen3moe(),
            "qwen3moe.expert_used_count",
            Value::U32(6),
        ),
        (
            TinyModel::qwen3moe(),
            "qwen3moe.expert_count",
            Value::U32(0),
        ),
        (
            TinyModel::phi3_long_rope(),
            "phi3.rope.scaling.original_context_length",
            Value::U32(0),
        ),
        (
            TinyModel::granite(),
            "granite.attention.scale",
            Value::F32(f32::INFINITY),
        ),
        (
            TinyModel::gemma3(),
            "gemma3.rope.freq_base_swa",
            Value::F32(0.5),
        ),
    ] {
        let error = read(model, &[(key, value)]).unwrap_err();
        assert!(
            matches!(&error, LlmError::InvalidMetadata { key: named, .. } if named == key),
            "{key}: {error}"
        );
    }
}
