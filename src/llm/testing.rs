//! Tiny models with seeded weights, written as GGUF files on the fly, for tests here and elsewhere. The weights follow
//! from their names by integer arithmetic alone, so that another program can make the same model.

mod scripted;

use std::f32::consts::SQRT_2;
use std::fs;
use std::io;
use std::path::Path;

use super::RopeScaling;
use super::gguf::{Array, Value};
use super::rope::{frequencies, llama3_divisors};

pub use scripted::{Script, write_scripted_gguf};

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
    pub context_length: usize,
    pub rope_base: f32,
    /// `Llama3` is written as `rope_freqs.weight`, `Linear` as metadata.
    pub rope_scaling: RopeScaling,
    /// Whether the output matrix is the token embedding.
    pub is_tied: bool,
    pub seed: u64,
    /// Further metadata; replaces what the sizes give.
    pub metadata: Vec<(String, Value)>,
}

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
            context_length: 4096,
            rope_base: 10_000.0,
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
        add("attention.head_count", size(self.num_heads));
        add("attention.head_count_kv", size(self.num_kv_heads));
        add("attention.key_length", size(self.head_dim));
        add("attention.value_length", size(self.head_dim));
        add("attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        add("rope.freq_base", Value::F32(self.rope_base));
        if let RopeScaling::Linear { factor } = self.rope_scaling {
            add("rope.scaling.type", Value::String("linear".to_owned()));
            add("rope.scaling.factor", Value::F32(factor));
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
            add(
                name("attn_q.weight"),
                &[queries, hidden],
                sharper(matrix(hidden)),
            );
            add(
                name("attn_k.weight"),
                &[keys, hidden],
                sharper(matrix(hidden)),
            );
            add(name("attn_v.weight"), &[keys, hidden], matrix(hidden));
            add(
                name("attn_output.weight"),
                &[hidden, queries],
                matrix(queries),
            );
            add(name("ffn_norm.weight"), &[hidden], norm);
            add(
                name("ffn_gate.weight"),
                &[self.feed_forward_size, hidden],
                matrix(hidden),
            );
            add(
                name("ffn_up.weight"),
                &[self.feed_forward_size, hidden],
                matrix(hidden),
            );
            add(
                name("ffn_down.weight"),
                &[hidden, self.feed_forward_size],
                matrix(self.feed_forward_size),
            );
            if self.architecture == "qwen2" {
                add(name("attn_q.bias"), &[queries], bias);
                add(name("attn_k.bias"), &[keys], bias);
                add(name("attn_v.bias"), &[keys], bias);
            }
            if self.architecture == "qwen3" {
                add(name("attn_q_norm.weight"), &[self.head_dim], norm);
                add(name("attn_k_norm.weight"), &[self.head_dim], norm);
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
        if let scaling @ RopeScaling::Llama3 { .. } = self.rope_scaling {
            let divisors = llama3_divisors(&frequencies(self.rope_base, self.head_dim), scaling);
            tensors.push(("rope_freqs.weight".into(), vec![divisors.len()], divisors));
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

/// A name, a shape (outermost first) and numbers.
type Tensor = (String, Vec<usize>, Vec<f32>);

fn write_gguf(path: &Path, pairs: &[(String, Value)], tensors: &[Tensor]) -> io::Result<()> {
    const ALIGNMENT: usize = 32;
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        put_text(&mut file, key);
        file.extend(type_number(value).to_le_bytes());
        put_value(&mut file, value);
    }
    let mut data: Vec<u8> = Vec::new();
    for (name, shape, numbers) in tensors {
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
        put_text(&mut file, name);
        file.extend((shape.len() as u32).to_le_bytes());
        for &size in shape.iter().rev() {
            file.extend((size as u64).to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    }
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    file.extend(data);
    fs::write(path, file)
}

fn put_text(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}

fn put_value(file: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(n) => file.push(*n),
        Value::I8(n) => file.extend(n.to_le_bytes()),
        Value::U16(n) => file.extend(n.to_le_bytes()),
        Value::I16(n) => file.extend(n.to_le_bytes()),
        Value::U32(n) => file.extend(n.to_le_bytes()),
        Value::I32(n) => file.extend(n.to_le_bytes()),
        Value::U64(n) => file.extend(n.to_le_bytes()),
        Value::I64(n) => file.extend(n.to_le_bytes()),
        Value::F32(x) => file.extend(x.to_le_bytes()),
        Value::F64(x) => file.extend(x.to_le_bytes()),
        Value::Bool(b) => file.push((*b).into()),
        Value::String(text) => put_text(file, text),
        Value::Array(array) => put_array(file, array),
    }
}

fn put_array(file: &mut Vec<u8>, array: &Array) {
    // The elements as values of their own: slow, and short.
    let elements: Vec<Value> = match array.clone() {
        Array::U8(all) => all.into_iter().map(Value::U8).collect(),
        Array::I8(all) => all.into_iter().map(Value::I8).collect(),
        Array::U16(all) => all.into_iter().map(Value::U16).collect(),
        Array::I16(all) => all.into_iter().map(Value::I16).collect(),
        Array::U32(all) => all.into_iter().map(Value::U32).collect(),
        Array::I32(all) => all.into_iter().map(Value::I32).collect(),
        Array::U64(all) => all.into_iter().map(Value::U64).collect(),
        Array::I64(all) => all.into_iter().map(Value::I64).collect(),
        Array::F32(all) => all.into_iter().map(Value::F32).collect(),
        Array::F64(all) => all.into_iter().map(Value::F64).collect(),
        Array::Bool(all) => all.into_iter().map(Value::Bool).collect(),
        Array::String(all) => all.into_iter().map(Value::String).collect(),
        Array::Array(all) => all.into_iter().map(Value::Array).collect(),
    };
    // The type of an empty array says nothing.
    let element_type = elements.first().map_or(0, type_number);
    file.extend(element_type.to_le_bytes());
    file.extend((elements.len() as u64).to_le_bytes());
    for element in &elements {
        put_value(file, element);
    }
}

fn type_number(value: &Value) -> u32 {
    match value {
        Value::U8(_) => 0,
        Value::I8(_) => 1,
        Value::U16(_) => 2,
        Value::I16(_) => 3,
        Value::U32(_) => 4,
        Value::I32(_) => 5,
        Value::F32(_) => 6,
        Value::Bool(_) => 7,
        Value::String(_) => 8,
        Value::Array(_) => 9,
        Value::U64(_) => 10,
        Value::I64(_) => 11,
        Value::F64(_) => 12,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::gguf::GgufFile;

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
