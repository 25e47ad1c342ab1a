//! Tiny models with seeded weights, written as GGUF files on the fly, for tests here and elsewhere. The weights follow
//! from their names by integer arithmetic alone, so that another program can make the same model.

mod gguf_file;
mod model_folder;
mod scripted;

use std::f32::consts::SQRT_2;
use std::io;
use std::path::Path;

use super::RopeScaling;
use super::gguf::Value;
use super::rope::{frequencies, llama3_divisors};

use gguf_file::{Tensor, write_gguf};

pub use model_folder::{FolderLayout, write_tiny_folder};
pub use scripted::{
    FRAMING_TEMPLATE, Script, write_babbling_gguf, write_scripted_folder, write_scripted_gguf,
};

/// A small model to be written. Sizes are its own; weights are F32.
#[derive(Debug, Clone)]
pub struct TinyModel {
    pub architecture: &'static str,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
    pub feed_forward_size: usize,
    /// In every layer; 0 for one feed-forward network.
    pub num_experts: usize,
    pub context_length: usize,
    pub rope_base: f32,
    /// Leading numbers of a head that are rotated; all of them, where it is not said.
    pub rotated_dim: Option<usize>,
    /// `Llama3` is written as `rope_freqs.weight`, `LongRope` as its divisors, others as metadata.
    pub rope_scaling: RopeScaling,
    /// Whether the output matrix is the token embedding.
    pub is_tied: bool,
    pub seed: u64,
    /// Further metadata; replaces what the sizes give.
    pub metadata: Vec<(String, Value)>,
}

const ORIGINAL_CONTEXT: &str = "rope.scaling.original_context_length";

impl TinyModel {
    pub fn llama() -> Self {
        Self {
            architecture: "llama",
            vocab_size: 160,
            hidden_size: 64,
            num_layers: 3,
            num_heads: 4,
            num_kv_heads: 2,
            head_dim: 16,
            feed_forward_size: 96,
            num_experts: 0,
            context_length: 4096,
            rope_base: 10_000.0,
            rotated_dim: None,
            rope_scaling: RopeScaling::None,
            is_tied: false,
            seed: 1,
            metadata: Vec::new(),
        }
    }

    pub fn qwen2() -> Self {
        Self {
            architecture: "qwen2",
            ..Self::llama()
        }
    }

    /// Its heads together are wider than its hidden states.
    pub fn qwen3() -> Self {
        Self {
            architecture: "qwen3",
            head_dim: 24,
            ..Self::llama()
        }
    }

    /// A llama with a window.
    pub fn mistral() -> Self {
        Self::llama().with_metadata("llama.attention.sliding_window", Value::U32(24))
    }

    /// Its sixth layer attends to everything, the others do not.
    pub fn gemma3() -> Self {
        let model = Self {
            architecture: "gemma3",
            num_layers: 7,
            head_dim: 24,
            rope_base: 1_000_000.0,
            rope_scaling: RopeScaling::Linear { factor: 8.0 },
            ..Self::llama()
        };
        model.with_metadata("gemma3.attention.sliding_window", Value::U32(16))
    }

    pub fn phi3() -> Self {
        let model = Self {
            architecture: "phi3",
            ..Self::llama()
        };
        model.with_metadata("phi3.attention.sliding_window", Value::U32(20))
    }

    /// Made for 32 tokens and stretched to more, with three quarters of its heads rotated.
    pub fn phi3_long_rope() -> Self {
        let model = Self {
            architecture: "phi3",
            rotated_dim: Some(12),
            rope_scaling: RopeScaling::LongRope {
                original_context_length: 32,
            },
            ..Self::llama()
        };
        let stretch = (4096f64 / 32.0).ln() / 32f64.ln();
        model.with_metadata(
            "phi3.rope.scaling.attn_factor",
            Value::F32((1.0 + stretch).sqrt() as f32),
        )
    }

    /// Its fourth layer is not rotated.
    pub fn smollm3() -> Self {
        Self {
            architecture: "smollm3",
            num_layers: 5,
            rope_base: 2_000_000.0,
            ..Self::llama()
        }
    }

    pub fn granite() -> Self {
        let model = Self {
            architecture: "granite",
            ..Self::llama()
        };
        [
            ("granite.embedding_scale", 1.5),
            ("granite.residual_scale", 0.6),
            ("granite.attention.scale", 0.125),
            ("granite.logit_scale", 3.0),
        ]
        .into_iter()
        .fold(model, |model, (key, value)| {
            model.with_metadata(key, Value::F32(value))
        })
    }

    /// Two of five experts compute a row.
    pub fn qwen3moe() -> Self {
        let model = Self {
            architecture: "qwen3moe",
            head_dim: 24,
            feed_forward_size: 48,
            num_experts: 5,
            ..Self::llama()
        };
        model.with_metadata("qwen3moe.expert_used_count", Value::U32(2))
    }

    pub fn with_metadata(mut self, key: &str, value: Value) -> Self {
        self.metadata.retain(|(present, _)| present != key);
        self.metadata.push((key.to_owned(), value));
        self
    }

    fn pairs(&self) -> Vec<(String, Value)> {
        let size = |n: usize| Value::U32(n as u32);
        let mut pairs = vec![(
            "general.architecture".to_owned(),
            Value::String(self.architecture.to_owned()),
        )];
        let mut add = |suffix: &str, value| {
            pairs.push((format!("{}.{suffix}", self.architecture), value));
        };
        add("context_length", size(self.context_length));
        add("embedding_length", size(self.hidden_size));
        add("block_count", size(self.num_layers));
        add("feed_forward_length", size(self.feed_forward_size));
        if self.num_experts > 0 {
            add("expert_feed_forward_length", size(self.feed_forward_size));
            add("expert_count", size(self.num_experts));
        }
        add("attention.head_count", size(self.num_heads));
        add("attention.head_count_kv", size(self.num_kv_heads));
        add("attention.key_length", size(self.head_dim));
        add("attention.value_length", size(self.head_dim));
        add("attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        add("rope.freq_base", Value::F32(self.rope_base));
        if let Some(dimensions) = self.rotated_dim {
            add("rope.dimension_count", size(dimensions));
        }
        let kind = |kind: &str| Value::String(kind.to_owned());
        match self.rope_scaling {
            RopeScaling::None | RopeScaling::Llama3 { .. } => {}
            RopeScaling::Linear { factor } => {
                add("rope.scaling.type", kind("linear"));
                add("rope.scaling.factor", Value::F32(factor));
            }
            RopeScaling::Yarn {
                factor,
                original_context_length: original,
                fast_turns,
                slow_turns,
            } => {
                add("rope.scaling.type", kind("yarn"));
                add("rope.scaling.factor", Value::F32(factor));
                add(ORIGINAL_CONTEXT, size(original as usize));
                add("rope.scaling.yarn_beta_fast", Value::F32(fast_turns));
                add("rope.scaling.yarn_beta_slow", Value::F32(slow_turns));
            }
            RopeScaling::LongRope {
                original_context_length,
            } => add(ORIGINAL_CONTEXT, size(original_context_length)),
        }
        pairs.retain(|(key, _)| self.metadata.iter().all(|(other, _)| other != key));
        pairs.extend(self.metadata.iter().cloned());
        pairs
    }

    /// Names, shapes (outermost first) and numbers.
    fn tensors(&self) -> Vec<Tensor> {
        let hidden = self.hidden_size;
        let queries = self.num_heads * self.head_dim;
        let keys = self.num_kv_heads * self.head_dim;
        let mut tensors = Vec::new();
        let mut add = |name: String, shape: &[usize], (center, spread): (f32, f32)| {
            let len = shape.iter().product();
            let numbers = (0..len)
                .map(|i| center + spread * seeded_number(self.seed, &name, i))
                .collect();
            tensors.push((name, shape.to_vec(), numbers));
        };
        // Numbers spread evenly over -s..s vary by s / sqrt(3): this keeps a product's variance at that of its input.
        let matrix = |inputs: usize| (0.0, (3.0 / inputs as f64).sqrt() as f32);
        let sharper = |(center, spread): (f32, f32)| (center, SQRT_2 * spread);
        let norm = (1.0, 0.25);
        let bias = (0.0, 0.5);
        add(
            "token_embd.weight".into(),
            &[self.vocab_size, hidden],
            (0.0, 1.0),
        );
        for layer in 0..self.num_layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            add(name("attn_norm.weight"), &[hidden], norm);
            if self.architecture == "phi3" {
                let all = queries + 2 * keys;
                add(name("attn_qkv.weight"), &[all, hidden], matrix(hidden));
            } else {
                let sharp = sharper(matrix(hidden));
                add(name("attn_q.weight"), &[queries, hidden], sharp);
                add(name("attn_k.weight"), &[keys, hidden], sharp);
                add(name("attn_v.weight"), &[keys, hidden], matrix(hidden));
            }
            let output = name("attn_output.weight");
            add(output, &[hidden, queries], matrix(queries));
            add(name("ffn_norm.weight"), &[hidden], norm);
            let inner = self.feed_forward_size;
            match (self.architecture, self.num_experts) {
                ("phi3", _) => add(name("ffn_up.weight"), &[2 * inner, hidden], matrix(hidden)),
                (_, 0) => {
                    add(name("ffn_gate.weight"), &[inner, hidden], matrix(hidden));
                    add(name("ffn_up.weight"), &[inner, hidden], matrix(hidden));
                }
                (_, count) => {
                    let router = name("ffn_gate_inp.weight");
                    add(router, &[count, hidden], matrix(hidden));
                    let (into, out) = ([count, inner, hidden], [count, hidden, inner]);
                    add(name("ffn_gate_exps.weight"), &into, matrix(hidden));
                    add(name("ffn_up_exps.weight"), &into, matrix(hidden));
                    add(name("ffn_down_exps.weight"), &out, matrix(inner));
                }
            }
            if self.num_experts == 0 {
                add(name("ffn_down.weight"), &[hidden, inner], matrix(inner));
            }
            if self.architecture == "qwen2" {
                add(name("attn_q.bias"), &[queries], bias);
                add(name("attn_k.bias"), &[keys], bias);
                add(name("attn_v.bias"), &[keys], bias);
            }
            if matches!(self.architecture, "qwen3" | "qwen3moe" | "gemma3") {
                add(name("attn_q_norm.weight"), &[self.head_dim], norm);
                add(name("attn_k_norm.weight"), &[self.head_dim], norm);
            }
            if self.architecture == "gemma3" {
                add(name("post_attention_norm.weight"), &[hidden], norm);
                add(name("post_ffw_norm.weight"), &[hidden], norm);
            }
        }
        add("output_norm.weight".into(), &[hidden], norm);
        if !self.is_tied {
            add(
                "output.weight".into(),
                &[self.vocab_size, hidden],
                matrix(hidden),
            );
        }
        let mut add_divisors = |name: &str, divisors: Vec<f32>| {
            tensors.push((format!("{name}.weight"), vec![divisors.len()], divisors));
        };
        let rotated_dim = self.rotated_dim.unwrap_or(self.head_dim);
        match self.rope_scaling {
            scaling @ RopeScaling::Llama3 { .. } => {
                let frequencies = frequencies(self.rope_base, rotated_dim);
                add_divisors("rope_freqs", llama3_divisors(&frequencies, scaling));
            }
            RopeScaling::LongRope { .. } => {
                let pairs = 0..rotated_dim / 2;
                let short = pairs.clone().map(|pair| 1.0 + pair as f32 / 16.0);
                let long = pairs.map(|pair| 1.5 + pair as f32 * 1.25);
                add_divisors("rope_factors_short", short.collect());
                add_divisors("rope_factors_long", long.collect());
            }
            _ => {}
        }
        tensors
    }
}

/// Number `index` of the tensor `name`, in `-1.0..1.0`: FNV-1a of the name and a SplitMix64 step, cut to 24 bits.
pub fn seeded_number(seed: u64, name: &str, index: usize) -> f32 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let steps = seed.wrapping_mul(0xd134_2543_de82_ef95) ^ hash;
    let mut z = steps.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Writes the model as a GGUF file.
pub fn write_tiny_gguf(path: &Path, model: &TinyModel) -> io::Result<()> {
    write_gguf(path, &model.pairs(), &model.tensors())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::gguf::{Array, GgufFile};

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        let tokens = Value::Array(Array::String(vec!["a".into(), "bc".into()]));
        let model = TinyModel::qwen3()
            .with_metadata("tokenizer.ggml.tokens", tokens.clone())
            .with_metadata("qwen3.context_length", Value::U64(77));
        write_tiny_gguf(&path, &model).unwrap();
        let gguf = GgufFile::open(&path).unwrap();
        assert_eq!(gguf.metadata().get("tokenizer.ggml.tokens"), Some(&tokens));
        assert_eq!(gguf.metadata().u64("qwen3.context_length"), Some(77));
        let entry = gguf.tensor("blk.2.attn_k.weight").unwrap();
        assert_eq!(entry.shape, [2 * 24, 64]);
        let spread = SQRT_2 * (3.0f64 / 64.0).sqrt() as f32;
        let expected = spread * seeded_number(1, &entry.name, 5);
        let bytes = &gguf.tensor_bytes(entry)[20..24];
        assert_eq!(bytes, expected.to_le_bytes());
    }
}
