//! The families of models that the decoder computes, and what their files take for granted.

use crate::llm::LlmError;
use crate::llm::gguf::Metadata;
use crate::llm::rope::Pairing;

/// A family of models: what its files imply without saying it.
#[derive(Debug, PartialEq)]
pub(crate) struct Architecture {
    /// As GGUF spells it.
    pub name: &'static str,
    /// How GGUF files order the rows of queries and keys.
    pub gguf_pairing: Pairing,
    /// Whether queries, keys and values always have a bias.
    pub has_attention_bias: bool,
    /// Whether each head of queries and keys is normalised before it is rotated.
    pub has_head_norm: bool,
    /// What the weights of norms lack in safetensors files.
    pub safetensors_norm_offset: f32,
    /// Whether what attention and feed-forward give is normalised before it is added.
    pub has_post_norm: bool,
    /// Whether queries, keys and values are one matrix, and so are gate and up.
    pub has_fused_matrices: bool,
    /// Whether a context above the original one means LongRoPE.
    pub has_long_rope: bool,
    pub has_experts: bool,
    pub activation: Activation,
    /// Whether files may scale embeddings, residuals and logits.
    pub has_multipliers: bool,
    /// Whether tokens' vectors are multiplied by the root of their width.
    pub scales_embedding: bool,
    /// Of how many layers the last one attends to everything, where a file has a window and does not say.
    pub window_period: Option<usize>,
    /// The rotation's base in layers with a window, where a file does not say; `None` for that of other layers.
    pub window_rope_base: Option<f32>,
    /// Of how many layers the last one is not rotated.
    pub rope_period: Option<usize>,
}

/// The function that gates a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Silu,
    /// GELU in its approximation by a hyperbolic tangent.
    GeluTanh,
}

const LLAMA: Architecture = Architecture {
    name: "llama",
    gguf_pairing: Pairing::Interleaved,
    has_attention_bias: false,
    has_head_norm: false,
    safetensors_norm_offset: 0.0,
    has_post_norm: false,
    has_fused_matrices: false,
    has_long_rope: false,
    has_experts: false,
    activation: Activation::Silu,
    has_multipliers: false,
    scales_embedding: false,
    window_period: None,
    window_rope_base: None,
    rope_period: None,
};

/// Mistral and SmolLM2 models are of the `llama` architecture.
static ALL: [Architecture; 8] = [
    LLAMA,
    Architecture {
        name: "qwen2",
        gguf_pairing: Pairing::Halves,
        has_attention_bias: true,
        ..LLAMA
    },
    QWEN_3,
    Architecture {
        name: "qwen3moe",
        has_experts: true,
        ..QWEN_3
    },
    Architecture {
        name: "gemma3",
        gguf_pairing: Pairing::Halves,
        has_head_norm: true,
        safetensors_norm_offset: 1.0,
        has_post_norm: true,
        activation: Activation::GeluTanh,
        scales_embedding: true,
        window_period: Some(6),
        window_rope_base: Some(10_000.0),
        ..LLAMA
    },
    Architecture {
        name: "phi3",
        gguf_pairing: Pairing::Halves,
        has_fused_matrices: true,
        has_long_rope: true,
        ..LLAMA
    },
    Architecture {
        name: "smollm3",
        rope_period: Some(4),
        ..LLAMA
    },
    Architecture {
        name: "granite",
        has_multipliers: true,
        ..LLAMA
    },
];

const QWEN_3: Architecture = Architecture {
    name: "qwen3",
    gguf_pairing: Pairing::Halves,
    has_head_norm: true,
    ..LLAMA
};

impl Architecture {
    /// The one that the metadata names.
    pub fn of(metadata: &Metadata) -> Result<&'static Self, LlmError> {
        const KEY: &str = "general.architecture";
        let name = metadata
            .string(KEY)
            .ok_or_else(|| LlmError::MissingMetadata { key: KEY.into() })?;
        Self::named(name)
    }

    pub fn named(name: &str) -> Result<&'static Self, LlmError> {
        ALL.iter()
            .find(|architecture| architecture.name == name)
            .ok_or_else(|| LlmError::UnsupportedArchitecture {
                name: name.to_owned(),
                supported: ALL
                    .iter()
                    .map(|architecture| architecture.name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }
}
