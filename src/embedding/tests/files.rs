//! Damaged, foreign and hostile model folders: each is a named error, and none a panic.

use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use super::super::load::load;
use super::super::{EmbedderOptions, EmbedderSpec, EmbeddingError, Pooling};
use super::tiny_bert;

fn load_spec(dir: &Path) -> Result<EmbedderSpec, EmbeddingError> {
    load(dir, EmbedderOptions::default()).map(|loaded| loaded.spec)
}

fn error_of(dir: &Path) -> String {
    load_spec(dir)
        .expect_err("the folder is refused")
        .to_string()
}

fn edit_json(dir: &Path, name: &str, edit: impl FnOnce(&mut Value)) {
    let path = dir.join(name);
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Rewrites the weights with `change` applied to each tensor; `None` leaves one out.
fn edit_weights(
    dir: &Path,
    change: impl Fn(&str, Dtype, Vec<usize>, Vec<u8>) -> Option<(Dtype, Vec<usize>, Vec<u8>)>,
) {
    let path = dir.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let tensors: Vec<_> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .filter_map(|(name, tensor)| {
            let changed = change(
                &name,
                tensor.dtype(),
                tensor.shape().to_vec(),
                tensor.data().to_vec(),
            );
            changed.map(|changed| (name, changed))
        })
        .collect();
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn a_missing_file_is_named() {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let dir = tiny_bert();
        std::fs::remove_file(dir.path().join(name)).unwrap();
        assert!(
            matches!(load_spec(dir.path()), Err(EmbeddingError::Read { path, .. }) if path.ends_with(name))
        );
    }
}

#[test]
fn a_missing_tensor_is_named() {
    let dir = tiny_bert();
    let missing = "encoder.layer.1.attention.self.key.bias";
    edit_weights(dir.path(), |name, dtype, shape, bytes| {
        (name != missing).then_some((dtype, shape, bytes))
    });
    assert!(error_of(dir.path()).contains(missing));
}

#[test]
fn a_tensor_of_another_shape_or_type_is_named() {
    let target = "encoder.layer.0.output.dense.weight";
    let dir = tiny_bert();
    edit_weights(dir.path(), |name, dtype, mut shape, bytes| {
        if name == target {
            shape.reverse();
        }
        Some((dtype, shape, bytes))
    });
    let error = error_of(dir.path());
    assert!(
        error.contains(target) && error.contains("[64, 32]"),
        "{error}"
    );

    let dir = tiny_bert();
    edit_weights(dir.path(), |name, dtype, shape, bytes| {
        let dtype = if name == target { Dtype::U32 } else { dtype };
        Some((dtype, shape, bytes))
    });
    let error = error_of(dir.path());
    assert!(error.contains(target) && error.contains("U32"), "{error}");
}

#[test]
fn impossible_dimensions_are_refused() {
    for (field, value) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(33)),
        ("hidden_size", json!(u64::MAX)),
        ("hidden_size", json!(-1)),
        ("num_attention_heads", json!(0)),
        ("num_hidden_layers", json!(0)),
        ("num_hidden_layers", json!(1 << 24)),
        ("vocab_size", json!(3)),
        ("max_position_embeddings", json!(u64::MAX)),
        ("layer_norm_eps", json!(-1.0)),
        ("hidden_act", json!("swish")),
        ("model_type", json!("qwen3")),
        ("position_embedding_type", json!("relative_key")),
    ] {
        let dir = tiny_bert();
        edit_json(dir.path(), "config.json", |config| {
            config[field] = value.clone()
        });
        assert!(load_spec(dir.path()).is_err(), "{field} = {value}");
    }
}

#[test]
fn damaged_weights_are_refused_when_their_numbers_show() {
    use super::super::EmbeddingModel;
    let dir = tiny_bert();
    edit_weights(dir.path(), |name, dtype, shape, mut bytes| {
        if name == "encoder.layer.1.output.dense.weight" {
            bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        Some((dtype, shape, bytes))
    });
    let mut loaded = load(dir.path(), EmbedderOptions::default()).unwrap();
    let answer = loaded.model.embed(&[vec![2, 50, 3]]);
    assert!(matches!(answer, Err(EmbeddingError::NotFinite)));
}

#[test]
fn the_models_own_files_go_before_the_options() {
    let options = EmbedderOptions {
        name: Some("given".into()),
        pooling: Some(Pooling::Cls),
        query_instruction: Some("option: ".into()),
        ..EmbedderOptions::default()
    };
    let dir = tiny_bert();
    let spec = load(dir.path(), options.clone()).unwrap().spec;
    assert_eq!(spec.name, "given");
    assert_eq!(spec.pooling, Pooling::Mean);
    assert_eq!(spec.query_instruction.as_deref(), Some("option: "));

    std::fs::remove_dir_all(dir.path().join("1_Pooling")).unwrap();
    let prompts = json!({"prompts": {"query": "file: ", "document": ""}});
    std::fs::write(
        dir.path().join("config_sentence_transformers.json"),
        prompts.to_string(),
    )
    .unwrap();
    let spec = load(dir.path(), options).unwrap().spec;
    assert_eq!(spec.pooling, Pooling::Cls);
    assert_eq!(spec.query_instruction.as_deref(), Some("file: "));
    assert_eq!(spec.passage_instruction, None);
}

#[test]
fn the_smallest_limit_counts() {
    let dir = tiny_bert();
    assert_eq!(load_spec(dir.path()).unwrap().max_tokens, 512);
    let write = |name: &str, value: Value| {
        std::fs::write(dir.path().join(name), value.to_string()).unwrap()
    };
    write("tokenizer_config.json", json!({"model_max_length": 1e30}));
    assert_eq!(load_spec(dir.path()).unwrap().max_tokens, 512);
    write("tokenizer_config.json", json!({"model_max_length": 300}));
    assert_eq!(load_spec(dir.path()).unwrap().max_tokens, 300);
    write("sentence_bert_config.json", json!({"max_seq_length": 256}));
    assert_eq!(load_spec(dir.path()).unwrap().max_tokens, 256);
    write("sentence_bert_config.json", json!({"max_seq_length": 2}));
    assert!(load_spec(dir.path()).is_err());
}

#[test]
fn a_step_that_we_cannot_do_is_refused_by_name() {
    let dir = tiny_bert();
    edit_json(dir.path(), "modules.json", |modules| {
        modules[2] = json!({"path": "2_Dense", "type": "sentence_transformers.models.Dense"});
    });
    assert!(error_of(dir.path()).contains("Dense"));

    let dir = tiny_bert();
    edit_json(dir.path(), "1_Pooling/config.json", |pooling| {
        pooling["pooling_mode_lasttoken"] = json!(true)
    });
    assert!(error_of(dir.path()).contains("lasttoken"));

    let dir = tiny_bert();
    edit_json(dir.path(), "modules.json", |modules| {
        modules[1]["path"] = json!("../elsewhere")
    });
    assert!(error_of(dir.path()).contains("outside"));
}

#[test]
fn the_hash_follows_everything_that_moves_a_passages_vector() {
    let plain = load_spec(tiny_bert().path()).unwrap().model_hash;
    assert_eq!(plain.len(), 64);
    assert_eq!(load_spec(tiny_bert().path()).unwrap().model_hash, plain);

    let query_only = EmbedderOptions {
        query_instruction: Some("find: ".into()),
        ..EmbedderOptions::default()
    };
    assert_eq!(
        load(tiny_bert().path(), query_only)
            .unwrap()
            .spec
            .model_hash,
        plain
    );

    let mut hashes = vec![plain];
    let weights = tiny_bert();
    edit_weights(weights.path(), |_, dtype, shape, mut bytes| {
        bytes[0] ^= 1;
        Some((dtype, shape, bytes))
    });
    hashes.push(load_spec(weights.path()).unwrap().model_hash);
    let tokenizer = tiny_bert();
    edit_json(tokenizer.path(), "tokenizer.json", |file| {
        file["normalizer"]["lowercase"] = json!(false)
    });
    hashes.push(load_spec(tokenizer.path()).unwrap().model_hash);
    let pooling = tiny_bert();
    std::fs::write(
        pooling.path().join("1_Pooling/config.json"),
        json!({"pooling_mode_cls_token": true}).to_string(),
    )
    .unwrap();
    hashes.push(load_spec(pooling.path()).unwrap().model_hash);
    let passage = EmbedderOptions {
        passage_instruction: Some("passage: ".into()),
        ..EmbedderOptions::default()
    };
    hashes.push(load(tiny_bert().path(), passage).unwrap().spec.model_hash);
    let num_hashes = hashes.len();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), num_hashes);
}

#[test]
fn no_malformed_file_panics() {
    for (folder, names) in [
        ("fuzz/safetensors", &["model.safetensors"][..]),
        (
            "fuzz/json",
            &[
                "config.json",
                "tokenizer.json",
                "modules.json",
                "1_Pooling/config.json",
                "sentence_bert_config.json",
                "tokenizer_config.json",
                "config_sentence_transformers.json",
            ][..],
        ),
    ] {
        let Some(folder) = crate::test_data::require(folder) else {
            continue;
        };
        let dir = tiny_bert();
        for name in names {
            let good = std::fs::read(dir.path().join(name)).ok();
            for file in std::fs::read_dir(&folder).unwrap() {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                std::fs::write(dir.path().join(name), bytes).unwrap();
                // Refused or, where the file is valid JSON that says nothing, loaded; either is fine.
                let _ = load_spec(dir.path());
            }
            match good {
                Some(bytes) => std::fs::write(dir.path().join(name), bytes).unwrap(),
                None => std::fs::remove_file(dir.path().join(name)).unwrap(),
            }
        }
        load_spec(dir.path()).expect("every file was put back");
    }
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let dir = tiny_bert();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let path = dir.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        for cut in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(load_spec(dir.path()).is_err(), "{name} cut to {cut} bytes");
        }
        std::fs::write(&path, bytes).unwrap();
    }
}
