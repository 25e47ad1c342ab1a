//! A model that says what it is told to, whatever it is asked: a real GGUF file with a real tokenizer and chat template,
//! for tests of everything above the model. Each token leads to the next, so its weights are one permutation.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::gguf_file::{Tensor, write_gguf};
use super::model_folder::write_weights;
use super::{TinyModel, write_tiny_gguf};
use crate::llm::gguf::{Array, Value};

/// A chat template of a family that frames calls and thoughts.
pub const FRAMING_TEMPLATE: &str = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}{# arguments #}\
     {% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}{% for call in message.tool_calls %}\
     <tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n\
     {% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}";

/// What the model says after the last token of a prompt.
#[derive(Debug, Clone)]
pub struct Script {
    words: Vec<String>,
    is_endless: bool,
    template: String,
    controls: Vec<String>,
}

impl Script {
    /// Says `text` and ends.
    pub fn once(text: &str) -> Self {
        Self {
            words: words(text),
            is_endless: false,
            template: TEMPLATE.to_owned(),
            controls: Vec::new(),
        }
    }

    /// Says `text` again and again.
    pub fn endless(text: &str) -> Self {
        Self {
            is_endless: true,
            ..Self::once(&format!("{text} "))
        }
    }

    /// With a chat template of its own.
    pub fn with_template(mut self, template: &str) -> Self {
        self.template = template.to_owned();
        self
    }

    /// Says these parts of its text by control tokens, in a GGUF file. Each may stand in the text once.
    pub fn with_controls(mut self, controls: &[&str]) -> Self {
        for control in controls {
            let split = |word: String| {
                let Some((before, after)) = word.split_once(control) else {
                    return vec![word];
                };
                let parts = [before, control, after].map(str::to_owned);
                parts.into_iter().filter(|part| !part.is_empty()).collect()
            };
            self.words = self.words.into_iter().flat_map(split).collect();
        }
        self.controls = controls.iter().map(|it| it.to_string()).collect();
        self
    }

    /// In tokens of this many letters instead of words.
    pub fn cut_every(mut self, num_letters: usize) -> Self {
        let letters: Vec<char> = self.words.concat().chars().collect();
        let parts = letters.chunks(num_letters);
        self.words = parts.map(|part| part.iter().collect()).collect();
        self
    }
}

/// Text cut after every blank.
fn words(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
     {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
const CONTEXT_LENGTH: u32 = 65_536;
const START: &str = "<|im_start|>";
const END: &str = "<|im_end|>";

/// Kinds of tokens as GGUF numbers them.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

/// The 256 bytes, two control tokens, one merge, and a token for every word of the script, so that a word may stand in
/// the script twice.
struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<i32>,
    end: usize,
    first_word: usize,
    last_word: usize,
    is_endless: bool,
    template: String,
}

/// Writes the model as a GGUF file.
pub fn write_scripted_gguf(path: &Path, script: &Script) -> io::Result<()> {
    let vocabulary = Vocabulary::new(script);
    write_gguf(path, &metadata(&vocabulary), &tensors(&vocabulary))
}

/// Writes the model as a folder with safetensors. No word may be twice in its script.
pub fn write_scripted_folder(dir: &Path, script: &Script) -> io::Result<()> {
    let vocabulary = Vocabulary::new(script);
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": vocabulary.tokens.len(),
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": CONTEXT_LENGTH,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
    });
    let special = [START, END].map(|token| {
        json!({
            "id": vocabulary.id_of(token), "content": token, "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    });
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    let ids: serde_json::Map<String, Json> = (vocabulary.tokens.iter().zip(0..))
        .map(|(token, id)| (token.clone(), id.into()))
        .collect();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": special,
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": ids, "merges": ["q z"] },
    });
    let tokenizer_config = json!({ "eos_token": END, "chat_template": TEMPLATE });
    for (file, json) in [
        ("config.json", config),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", tokenizer_config),
    ] {
        fs::write(dir.join(file), json.to_string())?;
    }
    write_weights(dir, tensors(&vocabulary))
}

impl Vocabulary {
    fn new(script: &Script) -> Self {
        let alphabet = byte_alphabet();
        let mut tokens: Vec<String> = alphabet.iter().map(|letter| letter.to_string()).collect();
        let mut kinds = vec![NORMAL; tokens.len()];
        let start = tokens.len();
        tokens.extend([START.to_owned(), END.to_owned()]);
        kinds.extend([CONTROL, CONTROL]);
        let end = start + 1;
        // A vocabulary of this kind has merges; this one joins two letters that no English word has side by side.
        tokens.push("qz".to_owned());
        kinds.push(NORMAL);
        let first_word = tokens.len();
        for word in &script.words {
            if script.controls.contains(word) {
                tokens.push(word.clone());
                kinds.push(CONTROL);
                continue;
            }
            tokens.push(
                word.bytes()
                    .map(|byte| alphabet[usize::from(byte)])
                    .collect(),
            );
            kinds.push(NORMAL);
        }
        let last_word = tokens.len() - 1;
        // One number a token: the width must suit the heads.
        let width = tokens.len().next_multiple_of(64);
        for number in tokens.len()..width {
            tokens.push(format!("<|unused{number}|>"));
            kinds.push(UNUSED);
        }
        Self {
            tokens,
            kinds,
            end,
            first_word,
            last_word,
            is_endless: script.is_endless,
            template: script.template.clone(),
        }
    }

    /// The pairs that describe it in a GGUF file.
    fn metadata(&self) -> Vec<(String, Value)> {
        let text = |text: &str| Value::String(text.to_owned());
        let pairs = [
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.pre", text("qwen2")),
            (
                "tokenizer.ggml.tokens",
                Value::Array(Array::String(self.tokens.clone())),
            ),
            (
                "tokenizer.ggml.token_type",
                Value::Array(Array::I32(self.kinds.clone())),
            ),
            (
                "tokenizer.ggml.merges",
                Value::Array(Array::String(vec!["q z".to_owned()])),
            ),
            ("tokenizer.ggml.eos_token_id", Value::U32(self.end as u32)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
            ("tokenizer.chat_template", text(&self.template)),
        ];
        pairs.map(|(key, value)| (key.to_owned(), value)).to_vec()
    }

    fn id_of(&self, token: &str) -> usize {
        let found = self.tokens.iter().position(|it| it == token);
        found.expect("every vocabulary has the control tokens")
    }

    /// What the model says after this token.
    fn next(&self, token: usize) -> usize {
        match token {
            _ if token == self.last_word && self.is_endless => self.first_word,
            _ if token == self.last_word => self.end,
            _ if token >= self.first_word && token < self.last_word => token + 1,
            // Whatever a prompt ends with.
            _ => self.first_word,
        }
    }
}

fn metadata(vocabulary: &Vocabulary) -> Vec<(String, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    let size = |size: usize| Value::U32(size as u32);
    let pairs = [
        ("general.architecture", text("llama")),
        ("general.name", text("Scripted test model")),
        ("llama.context_length", Value::U32(CONTEXT_LENGTH)),
        ("llama.embedding_length", size(vocabulary.tokens.len())),
        ("llama.block_count", size(1)),
        ("llama.feed_forward_length", size(32)),
        ("llama.attention.head_count", size(1)),
        ("llama.attention.head_count_kv", size(1)),
        ("llama.attention.key_length", size(16)),
        ("llama.attention.value_length", size(16)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
    ];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), value));
    pairs.into_iter().chain(vocabulary.metadata()).collect()
}

/// Writes a model of random weights that talks nonsense, mostly letter by letter, with this chat template.
pub fn write_babbling_gguf(path: &Path, template: &str) -> io::Result<()> {
    let words = ["{\"", "\":", "},"].map(str::to_owned).to_vec();
    let script = Script {
        words,
        ..Script::once("").with_template(template)
    };
    let vocabulary = Vocabulary::new(&script);
    let model = TinyModel {
        vocab_size: vocabulary.tokens.len(),
        metadata: vocabulary.metadata(),
        ..TinyModel::llama()
    };
    write_tiny_gguf(path, &model)
}

/// The layer adds nothing; the output matrix sends each token to the one after it.
fn tensors(vocabulary: &Vocabulary) -> Vec<Tensor> {
    let width = vocabulary.tokens.len();
    let zeros = |name: &str, shape: &[usize]| {
        (
            format!("blk.0.{name}.weight"),
            shape.to_vec(),
            vec![0.0; shape.iter().product()],
        )
    };
    let mut identity = vec![0.0; width * width];
    let mut output = vec![0.0; width * width];
    for token in 0..width {
        identity[token * width + token] = 1.0;
        output[vocabulary.next(token) * width + token] = 1.0;
    }
    vec![
        ("token_embd.weight".to_owned(), vec![width, width], identity),
        (
            "blk.0.attn_norm.weight".to_owned(),
            vec![width],
            vec![1.0; width],
        ),
        zeros("attn_q", &[16, width]),
        zeros("attn_k", &[16, width]),
        zeros("attn_v", &[16, width]),
        zeros("attn_output", &[width, 16]),
        (
            "blk.0.ffn_norm.weight".to_owned(),
            vec![width],
            vec![1.0; width],
        ),
        zeros("ffn_gate", &[32, width]),
        zeros("ffn_up", &[32, width]),
        zeros("ffn_down", &[width, 32]),
        (
            "output_norm.weight".to_owned(),
            vec![width],
            vec![1.0; width],
        ),
        ("output.weight".to_owned(), vec![width, width], output),
    ]
}

/// The letter that stands for each byte in a byte-level vocabulary, as GPT-2 has it: printable ones for themselves, the
/// others from 256 on.
fn byte_alphabet() -> Vec<char> {
    let is_printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next_free = 256;
    let letter = |byte: u32| {
        if is_printable(byte) {
            return char::from_u32(byte).expect("a byte is a character");
        }
        next_free += 1;
        char::from_u32(next_free - 1).expect("a small number is a character")
    };
    (0..256).map(letter).collect()
}
