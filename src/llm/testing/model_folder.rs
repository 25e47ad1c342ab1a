//! Writes a tiny model as transformers saves it: names, order of rows and what its weights of norms lack.

use std::fs;
use std::io;
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::TinyModel;
use super::gguf_file::Tensor;

/// How the weights are written.
#[derive(Debug, Clone, Copy)]
pub struct FolderLayout {
    /// F32, F16 or BF16.
    pub dtype: Dtype,
    /// In how many files; several get an index.
    pub num_files: usize,
}

impl Default for FolderLayout {
    fn default() -> Self {
        Self {
            dtype: Dtype::F32,
            num_files: 1,
        }
    }
}

/// Writes the weights and the given `config.json`, which must be of the same model.
pub fn write_tiny_folder(
    dir: &Path,
    model: &TinyModel,
    config: &str,
    layout: FolderLayout,
) -> io::Result<()> {
    fs::write(dir.join("config.json"), config)?;
    let tensors = renamed(model);
    if layout.num_files == 1 {
        return write_file(&dir.join("model.safetensors"), &tensors, layout.dtype);
    }
    let mut weight_map = serde_json::Map::new();
    let per_file = tensors.len().div_ceil(layout.num_files);
    for (tensors, number) in tensors.chunks(per_file).zip(1..) {
        let file = format!("model-{number:05}-of-{:05}.safetensors", layout.num_files);
        write_file(&dir.join(&file), tensors, layout.dtype)?;
        for (name, ..) in tensors {
            weight_map.insert(name.clone(), file.clone().into());
        }
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": weight_map });
    fs::write(dir.join("model.safetensors.index.json"), index.to_string())
}

fn write_file(path: &Path, tensors: &[Tensor], dtype: Dtype) -> io::Result<()> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, numbers)| match dtype {
            Dtype::F16 => (numbers.iter())
                .flat_map(|&x| f16::from_f32(x).to_le_bytes())
                .collect(),
            Dtype::BF16 => (numbers.iter())
                .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
                .collect(),
            _ => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        })
        .collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| {
            let view = TensorView::new(dtype, shape.clone(), bytes).map_err(io::Error::other)?;
            Ok((name.as_str(), view))
        })
        .collect::<io::Result<Vec<_>>>()?;
    let file = safetensors::serialize(views, None).map_err(io::Error::other)?;
    fs::write(path, file)
}

/// Writes the weights of a llama whose queries and keys are all alike, so that their order says nothing.
pub(super) fn write_weights(dir: &Path, tensors: Vec<Tensor>) -> io::Result<()> {
    let tensors: Vec<Tensor> = tensors
        .into_iter()
        .filter_map(|(name, shape, numbers)| {
            let (layer, part, kind) = parts(&name);
            let own = own_name(part, "llama")?;
            Some((format!("{layer}{own}.{kind}"), shape, numbers))
        })
        .collect();
    write_file(&dir.join("model.safetensors"), &tensors, Dtype::F32)
}

/// The model's tensors as a folder has them.
fn renamed(model: &TinyModel) -> Vec<Tensor> {
    let pairs_neighbours = matches!(model.architecture, "llama" | "smollm3" | "granite");
    let mut renamed = Vec::new();
    for (name, shape, mut numbers) in model.tensors() {
        let (layer, part, kind) = parts(&name);
        if model.architecture == "gemma3" && part.contains("norm") {
            numbers.iter_mut().for_each(|x| *x -= 1.0);
        }
        if pairs_neighbours && matches!(part, "attn_q" | "attn_k") {
            numbers = neighbours_to_halves(&numbers, model.head_dim, model.hidden_size);
        }
        // The configuration has the divisors of rotation.
        let Some(own) = own_name(part, model.architecture) else {
            continue;
        };
        if let [_, outputs, inputs] = shape[..] {
            for (expert, numbers) in numbers.chunks(outputs * inputs).enumerate() {
                let name = format!("{layer}mlp.experts.{expert}.{own}.{kind}");
                renamed.push((name, vec![outputs, inputs], numbers.to_vec()));
            }
        } else {
            renamed.push((format!("{layer}{own}.{kind}"), shape, numbers));
        }
    }
    renamed
}

/// A name in a GGUF file as what a folder's name starts with, the part in between, and its kind.
fn parts(name: &str) -> (String, &str, &str) {
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    match stem.strip_prefix("blk.").and_then(|it| it.split_once('.')) {
        Some((layer, part)) => (format!("model.layers.{layer}."), part, kind),
        None => (String::new(), stem, kind),
    }
}

fn own_name(part: &str, architecture: &str) -> Option<&'static str> {
    Some(match part {
        "token_embd" => "model.embed_tokens",
        "output_norm" => "model.norm",
        "output" => "lm_head",
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_qkv" => "self_attn.qkv_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_norm" if architecture == "gemma3" => "pre_feedforward_layernorm",
        "ffn_norm" | "post_attention_norm" => "post_attention_layernorm",
        "post_ffw_norm" => "post_feedforward_layernorm",
        "ffn_gate_inp" => "mlp.gate",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" if architecture == "phi3" => "mlp.gate_up_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        "ffn_gate_exps" => "gate_proj",
        "ffn_up_exps" => "up_proj",
        "ffn_down_exps" => "down_proj",
        _ => return None,
    })
}

/// GGUF's order of a head's rows, neighbours side by side, to that of transformers: the first of all pairs, then the
/// second.
fn neighbours_to_halves(numbers: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    let mut halves = Vec::with_capacity(numbers.len());
    for head in numbers.chunks(head_dim * width) {
        for half in 0..2 {
            for pair in head.chunks(2 * width) {
                halves.extend_from_slice(&pair[half * width..][..width]);
            }
        }
    }
    halves
}
