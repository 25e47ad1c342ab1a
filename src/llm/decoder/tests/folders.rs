//! Folders with safetensors: the models of the goldens as transformers saves them, and broken or hostile files.

use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::goldens::{check_prompt, goldens};
use super::models::models;
use super::*;
use crate::llm::testing::{FolderLayout, seeded_number, write_tiny_folder};
use crate::test_data;

/// What transformers saves beside the weights of a model: `config`, and the names and shapes of `tensors`.
fn saved(name: &str) -> Json {
    let text = include_str!("../../../../tests/goldens/llm_checkpoints.json");
    let all: Json = serde_json::from_str(text).unwrap();
    all[name].clone()
}

fn folder_with(name: &str, layout: FolderLayout, change: impl FnOnce(&mut Json)) -> TempDir {
    let (_, model) = models().into_iter().find(|it| it.0 == name).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = saved(name)["config"].take();
    change(&mut config);
    write_tiny_folder(dir.path(), &model, &config.to_string(), layout).unwrap();
    dir
}

fn folder(name: &str, layout: FolderLayout) -> TempDir {
    folder_with(name, layout, |_| {})
}

fn open(dir: &Path) -> Result<Decoder, LlmError> {
    Decoder::open(dir, &cpu(), &exact())
}

#[test]
fn every_model_agrees_with_transformers_from_the_files_that_it_saves() {
    let goldens = goldens();
    for (name, _) in models() {
        let dir = folder(name, FolderLayout::default());
        let bytes = fs::read(dir.path().join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = saved(name)["tensors"].take();
        assert_eq!(file.len(), tensors.as_object().unwrap().len(), "{name}");
        for (tensor, view) in file.iter() {
            assert_eq!(tensors[tensor], json!(view.shape()), "{name}: {tensor}");
        }
        let mut decoder = open(dir.path()).unwrap();
        assert!(check_prompt(&mut decoder, name, "medium", &goldens));
    }
}

#[test]
fn a_missing_tensor_is_named_as_the_folder_calls_it() {
    for (name, _) in models() {
        for tensor in saved(name)["tensors"].as_object().unwrap().keys() {
            // Without it, the tokens' vectors give the logits.
            if tensor == "lm_head.weight" || tensor.contains(".1.") {
                continue;
            }
            let dir = folder(name, FolderLayout::default());
            rewrite_header(dir.path(), |header| {
                let (quoted, other) = (format!("{tensor:?}"), format!("\"{tensor}s\""));
                header.replacen(&quoted, &other, 1)
            });
            let error = open(dir.path()).unwrap_err();
            let is_named = matches!(&error, LlmError::MissingTensor { name } if name == tensor);
            assert!(is_named, "{name}, {tensor}: {error}");
        }
    }
}

#[test]
fn older_spellings_of_the_configuration_mean_the_same() {
    let goldens = goldens();
    let rename = |config: &mut Json, old: &str, new: &str| {
        let value = config.as_object_mut().unwrap().remove(old).unwrap();
        config[new] = value;
    };
    let gemma = folder_with("gemma3", FolderLayout::default(), |config| {
        for key in ["rope_parameters", "layer_types"] {
            config.as_object_mut().unwrap().remove(key);
        }
        config["rope_theta"] = json!(1_000_000.0);
        config["rope_local_base_freq"] = json!(10_000.0);
        config["rope_scaling"] = json!({ "rope_type": "linear", "factor": 8.0 });
        config["sliding_window_pattern"] = json!(6);
    });
    let mut decoder = open(gemma.path()).unwrap();
    assert!(check_prompt(&mut decoder, "gemma3", "medium", &goldens));
    let phi = folder_with("phi3-longrope", FolderLayout::default(), |config| {
        rename(config, "rope_parameters", "rope_scaling");
        config["rope_scaling"]["type"] = json!("su");
        for key in ["rope_type", "partial_rotary_factor", "rope_theta"] {
            config["rope_scaling"].as_object_mut().unwrap().remove(key);
        }
        config["partial_rotary_factor"] = json!(0.75);
        config["rope_theta"] = json!(10_000.0);
    });
    let mut decoder = open(phi.path()).unwrap();
    assert!(check_prompt(
        &mut decoder,
        "phi3-longrope",
        "medium",
        &goldens
    ));
    let moe = folder_with("qwen3moe", FolderLayout::default(), |config| {
        rename(config, "num_local_experts", "num_experts");
    });
    let mut decoder = open(moe.path()).unwrap();
    assert!(check_prompt(&mut decoder, "qwen3moe", "medium", &goldens));
}

#[test]
fn weights_in_several_files_are_those_of_one() {
    let tokens: Vec<u32> = (0..30).map(|i| i * 5 % 160).collect();
    for name in ["llama", "qwen3moe"] {
        let logits = |num_files| {
            let layout = FolderLayout {
                num_files,
                ..FolderLayout::default()
            };
            all_logits(&mut open(folder(name, layout).path()).unwrap(), &tokens)
        };
        assert_eq!(logits(1), logits(3), "{name}");
    }
}

#[test]
fn weights_of_half_precision_are_near() {
    let tokens: Vec<u32> = (0..30).map(|i| i * 5 % 160).collect();
    for name in ["llama", "gemma3", "qwen3moe"] {
        let logits = |dtype| {
            let layout = FolderLayout {
                dtype,
                ..FolderLayout::default()
            };
            all_logits(&mut open(folder(name, layout).path()).unwrap(), &tokens)
        };
        let exact = logits(Dtype::F32);
        for (dtype, tolerance) in [(Dtype::F16, 0.05), (Dtype::BF16, 0.4)] {
            for (row, exact) in logits(dtype).iter().zip(&exact) {
                let difference = max_difference(row, exact);
                assert!(difference < tolerance, "{name} {dtype:?}: {difference}");
            }
        }
    }
}

/// Two bytes more in the header, and no number lies where its type asks for.
#[test]
fn weights_at_odd_addresses_are_read() {
    let tokens: Vec<u32> = (0..10).collect();
    for dtype in [Dtype::F32, Dtype::BF16] {
        let layout = FolderLayout {
            dtype,
            ..FolderLayout::default()
        };
        let dir = folder("llama", layout);
        let expected = all_logits(&mut open(dir.path()).unwrap(), &tokens);
        let path = dir.path().join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let mut shifted = (header_len + 1).to_le_bytes().to_vec();
        shifted.extend(&bytes[8..8 + header_len as usize]);
        shifted.push(b' ');
        shifted.extend(&bytes[8 + header_len as usize..]);
        fs::write(&path, shifted).unwrap();
        assert_eq!(
            all_logits(&mut open(dir.path()).unwrap(), &tokens),
            expected
        );
    }
}

fn error_of(name: &str, change: impl FnOnce(&mut Json)) -> String {
    let dir = folder_with(name, FolderLayout::default(), change);
    open(dir.path()).unwrap_err().to_string()
}

#[test]
fn what_a_configuration_asks_for_beyond_is_refused_by_name() {
    type Change = fn(&mut Json);
    let changes: [(&str, &str, Change); 18] = [
        ("llama", "mixtral", |c| c["model_type"] = json!("mixtral")),
        ("llama", "model_type", |c| c["model_type"] = json!(null)),
        ("llama", "gelu", |c| c["hidden_act"] = json!("gelu")),
        ("llama", "partial_rotary_factor", |c| {
            c["partial_rotary_factor"] = json!(0.5);
        }),
        ("llama", "quantization_config", |c| {
            c["quantization_config"] = json!({ "bits": 4 });
        }),
        ("llama", "dynamic", |c| {
            c["rope_parameters"]["rope_type"] = json!("dynamic");
        }),
        ("mistral", "sliding_window", |c| {
            c.as_object_mut().unwrap().remove("sliding_window");
        }),
        ("gemma3", "chunked_attention", |c| {
            c["layer_types"][2] = json!("chunked_attention");
        }),
        ("gemma3", "final_logit_softcapping", |c| {
            c["final_logit_softcapping"] = json!(30.0);
        }),
        ("gemma3", "rope_theta", |c| {
            c["rope_parameters"] = json!(null)
        }),
        ("qwen3moe", "norm_topk_prob", |c| {
            c["norm_topk_prob"] = json!(false);
        }),
        ("qwen3moe", "mlp_only_layers", |c| {
            c["mlp_only_layers"] = json!([1]);
        }),
        ("smollm3", "no_rope_layers", |c| {
            c["no_rope_layers"] = json!([1, 0, 1, 1, 1]);
        }),
        ("smollm3", "no_rope_layers", |c| {
            c["no_rope_layers"] = json!(null);
            c["no_rope_layer_interval"] = json!(3);
        }),
        ("granite", "attention_multiplier", |c| {
            c["attention_multiplier"] = json!(null);
        }),
        ("gemma3", "query_pre_attn_scalar", |c| {
            c["query_pre_attn_scalar"] = json!(null);
        }),
        ("mistral-yarn", "truncate", |c| {
            c["rope_parameters"]["truncate"] = json!(false);
        }),
        ("phi3-longrope", "short_factor", |c| {
            c["rope_parameters"]["short_factor"] = json!(["1", 2]);
        }),
    ];
    for (name, named, change) in changes {
        let error = error_of(name, change);
        assert!(error.contains(named), "{name}, {named}: {error}");
    }
}

#[test]
fn lying_configurations_end_in_an_error() {
    type Change = fn(&mut Json);
    let changes: [(&str, &str, Change); 12] = [
        ("llama", "hidden_size", |c| c["hidden_size"] = json!(1e30)),
        ("llama", "hidden_size", |c| c["hidden_size"] = json!(-64)),
        ("llama", "hidden_size", |c| c["hidden_size"] = json!("64")),
        ("llama", "num_attention_heads", |c| {
            c["num_attention_heads"] = json!(0);
        }),
        ("llama", "embed_tokens", |c| c["hidden_size"] = json!(128)),
        ("llama", "model.layers.3.", |c| {
            c["num_hidden_layers"] = json!(4)
        }),
        ("llama", "model.layers.2.", |c| {
            c["num_hidden_layers"] = json!(2)
        }),
        ("gemma3", "sliding_window_pattern", |c| {
            c["layer_types"].as_array_mut().unwrap().pop();
        }),
        ("gemma3", "query_pre_attn_scalar", |c| {
            c["query_pre_attn_scalar"] = json!(-1);
        }),
        ("qwen3moe", "num_experts_per_tok", |c| {
            c["num_experts_per_tok"] = json!(9);
        }),
        ("phi3-longrope", "rope_factors_long", |c| {
            c["rope_parameters"]["long_factor"] = json!([1.0, 2.0]);
        }),
        ("phi3-longrope", "rope_factors_short", |c| {
            c["rope_parameters"]["short_factor"] = json!([1.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        }),
    ];
    for (name, named, change) in changes {
        let error = error_of(name, change);
        assert!(error.contains(named), "{name}, {named}: {error}");
    }
}

fn rewrite_header(dir: &Path, change: impl FnOnce(&str) -> String) {
    let path = dir.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = change(std::str::from_utf8(&bytes[8..8 + header_len]).unwrap());
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(&bytes[8 + header_len..]);
    fs::write(&path, file).unwrap();
}

#[test]
fn tensors_that_are_missing_unknown_or_of_another_type_are_named() {
    let rewrite = |change: fn(&str) -> String| {
        let dir = folder("llama", FolderLayout::default());
        rewrite_header(dir.path(), change);
        open(dir.path()).unwrap_err().to_string()
    };
    let error = rewrite(|header| header.replacen("model.norm.weight", "model.nerm.weight", 1));
    assert!(error.contains("model.norm.weight"), "{error}");
    let error = rewrite(|header| {
        header.replacen(
            "layers.0.self_attn.q_proj.weight",
            "layers.7.self_attn.q_proj.weight",
            1,
        )
    });
    assert!(
        error.contains("layers.0.self_attn.q_proj.weight"),
        "{error}"
    );
    let error = rewrite(|header| header.replacen("\"F32\"", "\"I32\"", 1));
    assert!(error.contains("I32"), "{error}");
}

#[test]
fn hostile_files_end_in_an_error() {
    let Some(fuzz) = test_data::require("fuzz/safetensors") else {
        return;
    };
    for entry in fs::read_dir(fuzz).unwrap() {
        let path = entry.unwrap().path();
        let dir = folder("llama", FolderLayout::default());
        fs::copy(&path, dir.path().join("model.safetensors")).unwrap();
        let error = open(dir.path()).unwrap_err();
        let is_refused = matches!(error, LlmError::InvalidFile { .. });
        assert!(is_refused, "{}: {error}", path.display());
    }
}

#[test]
fn a_file_cut_off_anywhere_ends_in_an_error() {
    let dir = folder("llama", FolderLayout::default());
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for len in [0, 7, 8, 100, 5000, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(
            matches!(error, LlmError::InvalidFile { .. }),
            "{len}: {error}"
        );
    }
}

#[test]
fn an_index_that_leaves_the_folder_or_lies_ends_in_an_error() {
    let layout = FolderLayout {
        num_files: 2,
        ..FolderLayout::default()
    };
    for (index, expected) in [
        (
            r#"{"weight_map":{"a":"../model.safetensors"}}"#,
            "leaves the folder",
        ),
        (r#"{"weight_map":{"a":"/etc/passwd"}}"#, "leaves the folder"),
        (r#"{"weight_map":{"a":".."}}"#, "leaves the folder"),
        (r#"{"weight_map":{"a":7}}"#, "no file name"),
        (r#"{"weight_map":{}}"#, "empty"),
        (r#"{"weight_map":[]}"#, "no weight_map"),
        (
            r#"{"weight_map":{"a":"gone.safetensors"}}"#,
            "gone.safetensors",
        ),
        ("{", "EOF"),
    ] {
        let dir = folder("llama", layout);
        fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{index}: {error}");
    }
    let dir = folder("llama", layout);
    let one = "model-00001-of-00002.safetensors";
    let index = format!(r#"{{"weight_map":{{"a":"{one}"}}}}"#);
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, LlmError::MissingTensor { .. }), "{error}");
}

/// Bytes of the header and the configuration, changed at random: the model is refused or loaded, nothing else happens.
#[test]
fn mutated_folders_never_panic() {
    let dir = folder("phi3-longrope", FolderLayout::default());
    let random = |round: usize, index| {
        let number = seeded_number(round as u64, "mutation", index);
        ((number + 1.0) / 2.0).clamp(0.0, 0.999_999)
    };
    let options = LoadOptions {
        cache_size: CacheSize::Tokens(64),
        ..exact()
    };
    let mut num_refused = 0;
    for (file, len) in [("config.json", usize::MAX), ("model.safetensors", 2000)] {
        let path = dir.path().join(file);
        let whole = fs::read(&path).unwrap();
        for round in 0..300 {
            let mut bytes = whole.clone();
            for change in 0..1 + round % 3 {
                let at = random(round, 2 * change) * bytes.len().min(len) as f32;
                bytes[at as usize] = (random(round, 2 * change + 1) * 256.0) as u8;
            }
            fs::write(&path, bytes).unwrap();
            num_refused += usize::from(Decoder::open(dir.path(), &cpu(), &options).is_err());
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(num_refused > 200, "{num_refused}");
    assert!(open(dir.path()).is_ok());
}
