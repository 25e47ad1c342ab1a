//! `config.json` as transformers writes it, in its old and new spellings, to the metadata that a GGUF file of the same
//! model has, so that both are checked by the same rules.

mod rope;

use serde_json::Value as Json;

use crate::llm::LlmError;
use crate::llm::gguf::{Array, Metadata, Value};
use crate::llm::hyperparameters::{Activation, Architecture, Hyperparameters};

/// What the configuration says.
pub(super) struct Config {
    metadata: Metadata,
    /// Whether logits come from the tokens' vectors, whatever tensors there are.
    pub is_tied: bool,
    /// What GGUF files have as tensors, by name.
    pub vectors: Vec<(&'static str, Vec<f32>)>,
}

/// Model types and the architectures that compute them.
const MODEL_TYPES: [(&str, &str); 9] = [
    ("llama", "llama"),
    ("mistral", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("qwen3_moe", "qwen3moe"),
    ("gemma3_text", "gemma3"),
    ("phi3", "phi3"),
    ("smollm3", "smollm3"),
    ("granite", "granite"),
];

/// Counts and sizes that mean the same under both names.
const INTEGERS: [(&str, &str); 13] = [
    ("hidden_size", "embedding_length"),
    ("num_hidden_layers", "block_count"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("head_dim", "attention.value_length"),
    ("intermediate_size", "feed_forward_length"),
    ("max_position_embeddings", "context_length"),
    ("num_experts", "expert_count"),
    ("num_local_experts", "expert_count"),
    ("num_experts_per_tok", "expert_used_count"),
    ("moe_intermediate_size", "expert_feed_forward_length"),
    ("sliding_window_pattern", "attention.sliding_window_pattern"),
];

/// Numbers that mean the same under both names.
const NUMBERS: [(&str, &str); 7] = [
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("embedding_multiplier", "embedding_scale"),
    ("residual_multiplier", "residual_scale"),
    ("attention_multiplier", "attention.scale"),
    ("logits_scaling", "logit_scale"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
];

pub(super) fn translate(json: &Json) -> Result<Config, LlmError> {
    let model_type = json["model_type"]
        .as_str()
        .ok_or_else(|| missing("model_type"))?;
    let (_, architecture) = MODEL_TYPES
        .into_iter()
        .find(|(name, _)| *name == model_type)
        .ok_or_else(|| LlmError::UnsupportedArchitecture {
            name: model_type.to_owned(),
            supported: MODEL_TYPES.map(|(name, _)| name).join(", "),
        })?;
    let translation = Translation {
        json,
        model_type,
        architecture,
        pairs: vec![(
            "general.architecture".to_owned(),
            Value::String(architecture.to_owned()),
        )],
        vectors: Vec::new(),
    };
    translation.run()
}

impl Config {
    pub fn hyperparameters(&self) -> Result<Hyperparameters, LlmError> {
        Hyperparameters::from_config(&self.metadata).map_err(in_its_words)
    }
}

struct Translation<'a> {
    json: &'a Json,
    model_type: &'a str,
    architecture: &'static str,
    pairs: Vec<(String, Value)>,
    vectors: Vec<(&'static str, Vec<f32>)>,
}

impl Translation<'_> {
    fn run(mut self) -> Result<Config, LlmError> {
        self.refuse_what_is_not_computed()?;
        for (key, suffix) in INTEGERS {
            if let Some(integer) = integer(self.json, key)? {
                self.add(suffix, Value::U64(integer));
            }
        }
        for (key, suffix) in NUMBERS {
            if let Some(number) = number(self.json, key)? {
                self.add(suffix, Value::F64(number));
            }
        }
        const QUERY_SCALAR: &str = "query_pre_attn_scalar";
        if let Some(scalar) = number(self.json, QUERY_SCALAR)? {
            if scalar <= 0.0 {
                let value = &self.json[QUERY_SCALAR];
                return Err(invalid(QUERY_SCALAR, value, "it must be positive"));
            }
            self.add("attention.scale", Value::F64(1.0 / scalar.sqrt()));
        }
        self.windows()?;
        self.ropes()?;
        Ok(Config {
            metadata: Metadata::from_pairs(self.pairs),
            is_tied: self.json["tie_word_embeddings"] == true,
            vectors: self.vectors,
        })
    }

    fn add(&mut self, suffix: &str, value: Value) {
        self.pairs
            .push((format!("{}.{suffix}", self.architecture), value));
    }

    fn refuse_what_is_not_computed(&self) -> Result<(), LlmError> {
        let json = self.json;
        if !json["quantization_config"].is_null() {
            return Err(self.unsupported("quantization_config"));
        }
        let activation = Architecture::named(self.architecture)?.activation;
        for key in ["hidden_act", "hidden_activation"] {
            let is_computed = match json[key].as_str() {
                None => json[key].is_null(),
                Some("silu") => activation == Activation::Silu,
                Some("gelu_pytorch_tanh") => activation == Activation::GeluTanh,
                Some(_) => false,
            };
            if !is_computed {
                return Err(self.unsupported(key));
            }
        }
        if json["use_bidirectional_attention"] == true {
            return Err(self.unsupported("use_bidirectional_attention"));
        }
        match self.model_type {
            "qwen3_moe" => self.check_experts(),
            "smollm3" => self.check_rotated_layers(),
            // Their defaults are not what GGUF files without these numbers mean.
            "granite" if json["attention_multiplier"].is_null() => {
                Err(missing("attention_multiplier"))
            }
            "gemma3_text" if json["query_pre_attn_scalar"].is_null() => {
                Err(missing("query_pre_attn_scalar"))
            }
            _ => Ok(()),
        }
    }

    /// Experts are computed in every layer, with weights that sum up to 1.
    fn check_experts(&self) -> Result<(), LlmError> {
        let json = self.json;
        if json["norm_topk_prob"] != true {
            return Err(self.unsupported("norm_topk_prob"));
        }
        if integer(json, "decoder_sparse_step")?.is_some_and(|step| step != 1) {
            return Err(self.unsupported("decoder_sparse_step"));
        }
        let dense = json["mlp_only_layers"].as_array();
        if dense.is_some_and(|layers| !layers.is_empty()) {
            return Err(self.unsupported("mlp_only_layers"));
        }
        Ok(())
    }

    /// The layers without rotation are those of the family's GGUF files, which do not say.
    fn check_rotated_layers(&self) -> Result<(), LlmError> {
        let json = self.json;
        let Some(period) = Architecture::named(self.architecture)?.rope_period else {
            return Ok(());
        };
        let Some(layers) = json["no_rope_layers"].as_array() else {
            let interval = integer(json, "no_rope_layer_interval")?;
            return match json["no_rope_layers"].is_null() && interval == Some(period as u64) {
                true => Ok(()),
                false => Err(self.unsupported("no_rope_layers")),
            };
        };
        let is_known = layers
            .iter()
            .zip(1..)
            .all(|(is_rotated, number): (_, usize)| {
                *is_rotated == u64::from(!number.is_multiple_of(period))
            });
        match is_known {
            true => Ok(()),
            false => Err(self.unsupported("no_rope_layers")),
        }
    }

    fn unsupported(&self, key: &str) -> LlmError {
        LlmError::UnsupportedFeature {
            feature: format!("{key} = {}", self.json[key]),
        }
    }

    /// Which layers have a window, and how long it is.
    fn windows(&mut self) -> Result<(), LlmError> {
        const PATTERN: &str = "attention.sliding_window_pattern";
        let json = self.json;
        let has_window = match self.model_type {
            "mistral" | "gemma3_text" | "phi3" => true,
            "qwen2" | "qwen3" | "qwen3_moe" | "smollm3" => json["use_sliding_window"] == true,
            // The others know no windows, whatever their files say.
            _ => false,
        };
        let Some(window) = integer(json, "sliding_window")?.filter(|_| has_window) else {
            let is_said = json.get("sliding_window").is_some();
            return match has_window && !is_said && self.model_type != "phi3" {
                true => Err(missing("sliding_window")),
                false => Ok(()),
            };
        };
        self.add("attention.sliding_window", Value::U64(window));
        if matches!(self.model_type, "mistral" | "phi3") {
            return Ok(());
        }
        let listed = match &json["layer_types"] {
            Json::Null => None,
            Json::Array(types) => Some(types.iter().map(is_windowed).collect::<Result<_, _>>()?),
            other => return Err(invalid("layer_types", other, "it must be a list")),
        };
        let listed: Option<Vec<bool>> = match (listed, self.model_type) {
            (None, "qwen2" | "qwen3" | "qwen3_moe") => {
                let first = integer(json, "max_window_layers")?
                    .ok_or_else(|| missing("max_window_layers"))?;
                let num_layers = integer(json, "num_hidden_layers")?
                    .unwrap_or(0)
                    .min(1 << 20);
                Some((0..num_layers).map(|index| index >= first).collect())
            }
            (None, "smollm3") => return Err(missing("layer_types")),
            (listed, _) => listed,
        };
        if let Some(listed) = listed {
            self.add(PATTERN, Value::Array(Array::Bool(listed)));
        }
        Ok(())
    }
}

fn is_windowed(layer_type: &Json) -> Result<bool, LlmError> {
    match layer_type.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(LlmError::UnsupportedFeature {
            feature: format!("layer_types with {layer_type}"),
        }),
    }
}

fn integer(json: &Json, key: &str) -> Result<Option<u64>, LlmError> {
    match &json[key] {
        Json::Null => Ok(None),
        value => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| invalid(key, value, "it must be a whole number")),
    }
}

fn number(json: &Json, key: &str) -> Result<Option<f64>, LlmError> {
    match &json[key] {
        Json::Null => Ok(None),
        value => value
            .as_f64()
            .map(Some)
            .ok_or_else(|| invalid(key, value, "it must be a number")),
    }
}

fn missing(key: &str) -> LlmError {
    LlmError::MissingMetadata {
        key: key.to_owned(),
    }
}

fn invalid(key: &str, value: &Json, problem: &str) -> LlmError {
    LlmError::InvalidMetadata {
        key: key.to_owned(),
        value: value.to_string(),
        problem: problem.to_owned(),
    }
}

/// The error with the key as `config.json` spells it.
fn in_its_words(mut error: LlmError) -> LlmError {
    if let LlmError::MissingMetadata { key } | LlmError::InvalidMetadata { key, .. } = &mut error {
        let known = INTEGERS.iter().chain(&NUMBERS);
        let suffix = key.split_once('.').map(|(_, suffix)| suffix.to_owned());
        if let Some((own, _)) = known
            .filter(|_| suffix.is_some())
            .find(|(_, known)| Some(*known) == suffix.as_deref())
        {
            *key = (*own).to_owned();
        }
    }
    error
}
