//! The sizes and constants of a model, read from GGUF metadata and checked. Whatever the decoder cannot compute exactly
//! is refused here by name; nothing is guessed.

use super::LlmError;
use super::gguf::Metadata;
use super::rope::{Pairing, RopeScaling, RopeSettings};

/// The model families that the decoder computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
}

impl Architecture {
    const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen3];

    /// As GGUF spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// Whether queries, keys and values always have a bias.
    pub fn has_attention_bias(self) -> bool {
        self == Self::Qwen2
    }

    /// Whether each head of queries and keys is normalised before it is rotated.
    pub fn has_head_norm(self) -> bool {
        self == Self::Qwen3
    }

    fn pairing(self) -> Pairing {
        match self {
            Self::Llama => Pairing::Interleaved,
            Self::Qwen2 | Self::Qwen3 => Pairing::Halves,
        }
    }
}

/// Checked sizes and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hyperparameters {
    pub architecture: Architecture,
    pub hidden_size: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    /// Divides `num_heads`.
    pub num_kv_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
    pub feed_forward_size: usize,
    /// The longest sequence that is computed as the model was trained.
    pub context_length: usize,
    pub norm_epsilon: f32,
    pub rope: RopeSettings,
}

/// Beyond any real model, and small enough that products of three such sizes fit in 64 bits.
const MAX_SIZE: u64 = 1 << 20;

impl Hyperparameters {
    pub fn read(metadata: &Metadata) -> Result<Self, LlmError> {
        let name = metadata
            .string("general.architecture")
            .ok_or_else(|| missing("general.architecture"))?;
        let architecture = Architecture::ALL
            .into_iter()
            .find(|architecture| architecture.name() == name)
            .ok_or_else(|| LlmError::UnsupportedArchitecture {
                name: name.to_owned(),
                supported: Architecture::ALL.map(Architecture::name).join(", "),
            })?;
        Keys {
            metadata,
            architecture,
        }
        .read()
    }
}

/// Metadata under an architecture's prefix.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: Architecture,
}

impl Keys<'_> {
    fn read(&self) -> Result<Hyperparameters, LlmError> {
        self.refuse_what_is_not_computed()?;
        let hidden_size = self.size("embedding_length")?;
        let num_heads = self.size("attention.head_count")?;
        let num_kv_heads = self.size_or("attention.head_count_kv", num_heads)?;
        if !num_heads.is_multiple_of(num_kv_heads) {
            return Err(self.invalid(
                "attention.head_count_kv",
                num_kv_heads,
                format!("it must divide the {num_heads} heads of attention.head_count"),
            ));
        }
        let key_dim = self.head_dim("attention.key_length", hidden_size, num_heads)?;
        let value_dim = self.head_dim("attention.value_length", hidden_size, num_heads)?;
        let context_length = self.large_size("context_length")?;
        // Inside its window, sliding-window attention is full attention.
        let window = self.large_size_or("attention.sliding_window", context_length)?;
        let norm_epsilon = self.positive("attention.layer_norm_rms_epsilon", None)?;
        if norm_epsilon >= 1.0 {
            return Err(self.invalid(
                "attention.layer_norm_rms_epsilon",
                norm_epsilon,
                "it must be below 1".to_owned(),
            ));
        }
        Ok(Hyperparameters {
            architecture: self.architecture,
            hidden_size,
            num_layers: self.size("block_count")?,
            num_heads,
            num_kv_heads,
            key_dim,
            value_dim,
            feed_forward_size: self.size("feed_forward_length")?,
            context_length: context_length.min(window),
            norm_epsilon,
            rope: self.rope(key_dim)?,
        })
    }

    fn refuse_what_is_not_computed(&self) -> Result<(), LlmError> {
        let experts = self.key("expert_count");
        if self.metadata.u64(&experts).is_some_and(|count| count > 0) {
            return Err(LlmError::UnsupportedFeature {
                feature: format!("{experts} (a mixture of experts)"),
            });
        }
        let causal = self.key("attention.causal");
        if self.metadata.bool(&causal) == Some(false) {
            return Err(LlmError::UnsupportedFeature {
                feature: format!("{causal} = false (an encoder)"),
            });
        }
        Ok(())
    }

    fn head_dim(
        &self,
        suffix: &str,
        hidden_size: usize,
        num_heads: usize,
    ) -> Result<usize, LlmError> {
        if self.metadata.get(&self.key(suffix)).is_some() {
            return self.size(suffix);
        }
        if !hidden_size.is_multiple_of(num_heads) {
            return Err(self.invalid(
                "embedding_length",
                hidden_size,
                format!("without {suffix} it must be a multiple of the {num_heads} heads"),
            ));
        }
        Ok(hidden_size / num_heads)
    }

    fn rope(&self, key_dim: usize) -> Result<RopeSettings, LlmError> {
        let dimensions = self.size_or("rope.dimension_count", key_dim)?;
        if dimensions > key_dim || !dimensions.is_multiple_of(2) {
            return Err(self.invalid(
                "rope.dimension_count",
                dimensions,
                format!("it must be even and at most the head's {key_dim}"),
            ));
        }
        Ok(RopeSettings {
            dimensions,
            base: self.positive("rope.freq_base", Some(10_000.0))?,
            scaling: self.rope_scaling()?,
            pairing: self.architecture.pairing(),
        })
    }

    fn rope_scaling(&self) -> Result<RopeScaling, LlmError> {
        let amplitude = self.positive("rope.scaling.attn_factor", Some(1.0))?;
        if amplitude != 1.0 {
            return Err(LlmError::UnsupportedFeature {
                feature: format!("{} = {amplitude}", self.key("rope.scaling.attn_factor")),
            });
        }
        // `rope.scale_linear` is what files had before there were types of scaling.
        let old_factor = self.positive("rope.scale_linear", Some(1.0))?;
        let type_key = self.key("rope.scaling.type");
        let kind = match self.metadata.get(&type_key) {
            None if old_factor != 1.0 => return Ok(RopeScaling::Linear { factor: old_factor }),
            None => "none",
            Some(_) => self
                .metadata
                .string(&type_key)
                .ok_or_else(|| missing(&type_key))?,
        };
        match kind {
            "none" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear {
                factor: self.positive("rope.scaling.factor", Some(old_factor))?,
            }),
            "llama3" => {
                let low_frequency_factor = self.positive("rope.scaling.low_freq_factor", None)?;
                let high_frequency_factor = self.positive("rope.scaling.high_freq_factor", None)?;
                if high_frequency_factor <= low_frequency_factor {
                    return Err(self.invalid(
                        "rope.scaling.high_freq_factor",
                        high_frequency_factor,
                        format!("it must be above low_freq_factor, {low_frequency_factor}"),
                    ));
                }
                let original = self.large_size("rope.scaling.original_context_length")?;
                Ok(RopeScaling::Llama3 {
                    factor: self.positive("rope.scaling.factor", None)?,
                    low_frequency_factor,
                    high_frequency_factor,
                    original_context_length: original as f32,
                })
            }
            other => Err(LlmError::UnsupportedFeature {
                feature: format!("{type_key} = {other:?}"),
            }),
        }
    }

    fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.architecture.name())
    }

    fn invalid(&self, suffix: &str, value: impl ToString, problem: String) -> LlmError {
        LlmError::InvalidMetadata {
            key: self.key(suffix),
            value: value.to_string(),
            problem,
        }
    }

    /// A size that has one value for all layers and is needed.
    fn size(&self, suffix: &str) -> Result<usize, LlmError> {
        self.integer(suffix, MAX_SIZE)
    }

    fn size_or(&self, suffix: &str, default: usize) -> Result<usize, LlmError> {
        match self.metadata.get(&self.key(suffix)) {
            Some(_) => self.size(suffix),
            None => Ok(default),
        }
    }

    /// A size that nothing is allocated by.
    fn large_size(&self, suffix: &str) -> Result<usize, LlmError> {
        self.integer(suffix, u64::from(u32::MAX))
    }

    fn large_size_or(&self, suffix: &str, default: usize) -> Result<usize, LlmError> {
        match self.metadata.get(&self.key(suffix)) {
            Some(_) => self.large_size(suffix),
            None => Ok(default),
        }
    }

    fn integer(&self, suffix: &str, max: u64) -> Result<usize, LlmError> {
        let key = self.key(suffix);
        let value = self.metadata.u64(&key).ok_or_else(|| missing(&key))?;
        if value == 0 || value > max {
            return Err(self.invalid(suffix, value, format!("it must be from 1 to {max}")));
        }
        usize::try_from(value)
            .map_err(|_| self.invalid(suffix, value, "it is too large".to_owned()))
    }

    fn positive(&self, suffix: &str, default: Option<f32>) -> Result<f32, LlmError> {
        let key = self.key(suffix);
        let value = match (self.metadata.get(&key), default) {
            (None, Some(default)) => default,
            _ => self.metadata.f32(&key).ok_or_else(|| missing(&key))?,
        };
        if !value.is_finite() || value <= 0.0 {
            return Err(self.invalid(suffix, value, "it must be a positive number".to_owned()));
        }
        Ok(value)
    }
}

fn missing(key: &str) -> LlmError {
    LlmError::MissingMetadata {
        key: key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::gguf::Value;
    use crate::llm::testing::TinyModel;

    fn read_with(changes: &[(&str, Value)]) -> Result<Hyperparameters, LlmError> {
        let mut model = TinyModel::llama();
        for (key, value) in changes {
            model = model.with_metadata(key, value.clone());
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        crate::llm::testing::write_tiny_gguf(&path, &model).unwrap();
        Hyperparameters::read(crate::llm::gguf::GgufFile::open(&path).unwrap().metadata())
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
        let scaling = ("llama.rope.scaling.type", Value::String("yarn".into()));
        let error = read_with(&[scaling]).unwrap_err();
        assert!(error.to_string().contains("yarn"), "{error}");
        let error = read_with(&[("llama.expert_count", Value::U32(8))]).unwrap_err();
        assert!(error.to_string().contains("expert_count"), "{error}");
        let architecture = ("general.architecture", Value::String("gemma3".into()));
        let error = read_with(&[architecture]).unwrap_err();
        assert!(error.to_string().contains("gemma3"), "{error}");
    }

    #[test]
    fn a_sliding_window_bounds_the_context() {
        let window = ("llama.attention.sliding_window", Value::U32(100));
        assert_eq!(read_with(&[window]).unwrap().context_length, 100);
    }
}
