//! The sizes and constants of a model, read from its metadata and checked. What sets one family of models apart from
//! another is data here, for one decoder. Whatever that cannot compute exactly is refused by name; nothing is guessed.

mod architecture;
mod keys;
mod read;
mod rope_keys;

use super::LlmError;
use super::gguf::Metadata;
use super::rope::{Pairing, RopeSettings};

use keys::Keys;

pub(crate) use architecture::{Activation, Architecture};

/// Checked sizes and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hyperparameters {
    pub architecture: &'static Architecture,
    pub hidden_size: usize,
    pub num_heads: usize,
    /// Divides `num_heads`.
    pub num_kv_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
    /// Of one expert, if the model has experts.
    pub feed_forward_size: usize,
    pub experts: Option<Experts>,
    /// The longest sequence that is computed as the model was trained.
    pub context_length: usize,
    pub norm_epsilon: f32,
    /// What all weights of norms lack in the file.
    pub norm_offset: f32,
    /// What tokens' vectors are multiplied by.
    pub embedding_scale: f32,
    /// What a layer's attention and feed-forward are multiplied by before they are added.
    pub residual_scale: f32,
    /// What products of queries and keys are multiplied by.
    pub score_scale: f32,
    /// What logits are divided by.
    pub logit_divisor: f32,
    /// The rotations that layers choose from. Divisors in the file are for the first.
    pub ropes: Vec<RopeSettings>,
    pub layers: Vec<LayerSettings>,
}

/// The experts of every layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Experts {
    pub count: usize,
    /// How many of them compute a row; at most `count`.
    pub num_used: usize,
}

/// Where layers of one model differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerSettings {
    /// How many positions a row attends to; `None` for all before it.
    pub window: Option<usize>,
    /// Which of the model's rotations, `None` for no rotation.
    pub rope: Option<usize>,
}

impl Hyperparameters {
    /// Reads the metadata of a GGUF file.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, LlmError> {
        let architecture = Architecture::of(metadata)?;
        let keys = Keys {
            metadata,
            architecture,
            pairing: architecture.gguf_pairing,
        };
        keys.read(0.0)
    }

    /// Reads what a `config.json` says, under GGUF's names. Its checkpoint pairs halves and may have norms less 1.
    pub fn from_config(metadata: &Metadata) -> Result<Self, LlmError> {
        let architecture = Architecture::of(metadata)?;
        let keys = Keys {
            metadata,
            architecture,
            pairing: Pairing::Halves,
        };
        keys.read(architecture.safetensors_norm_offset)
    }
}

#[cfg(test)]
mod tests;
