//! What the metadata says about rotation.

use super::keys::Keys;
use crate::llm::LlmError;
use crate::llm::rope::{RopeScaling, RopeSettings};

const ORIGINAL_CONTEXT: &str = "rope.scaling.original_context_length";

impl Keys<'_> {
    /// The rotation of all layers, and that of layers with a window if it is another.
    pub fn ropes(&self, key_dim: usize) -> Result<Vec<RopeSettings>, LlmError> {
        let dimensions = self.size_or("rope.dimension_count", key_dim)?;
        if dimensions > key_dim || !dimensions.is_multiple_of(2) {
            return Err(self.invalid(
                "rope.dimension_count",
                dimensions,
                format!("it must be even and at most the head's {key_dim}"),
            ));
        }
        let of_windows = self.size_or("rope.dimension_count_swa", dimensions)?;
        if of_windows != dimensions {
            return Err(self.unsupported("rope.dimension_count_swa", of_windows));
        }
        let scaling = self.rope_scaling()?;
        let rope = RopeSettings {
            dimensions,
            base: self.rope_base("rope.freq_base", Some(10_000.0))?,
            scaling,
            pairing: self.pairing,
            amplitude: self.amplitude(scaling)?,
        };
        let mut ropes = vec![rope];
        if self.has_window_rope() {
            ropes.push(RopeSettings {
                base: self.rope_base("rope.freq_base_swa", self.architecture.window_rope_base)?,
                scaling: RopeScaling::None,
                amplitude: 1.0,
                ..ropes[0].clone()
            });
        }
        Ok(ropes)
    }

    pub fn has_window_rope(&self) -> bool {
        self.architecture.window_rope_base.is_some() || self.get("rope.freq_base_swa").is_some()
    }

    fn rope_base(&self, suffix: &str, default: Option<f32>) -> Result<f32, LlmError> {
        let base = self.positive(suffix, default)?;
        if base <= 1.0 {
            return Err(self.invalid(suffix, base, "it must be above 1".to_owned()));
        }
        Ok(base)
    }

    fn rope_scaling(&self) -> Result<RopeScaling, LlmError> {
        // A factor without a type is linear; older files have it under another name.
        let old_factor = self.positive("rope.scale_linear", Some(1.0))?;
        let linear_factor = self.positive("rope.scaling.factor", Some(old_factor))?;
        const TYPE: &str = "rope.scaling.type";
        let stated = || {
            let key = self.key(TYPE);
            let kind = self.metadata.string(&key);
            kind.ok_or(LlmError::MissingMetadata { key })
        };
        let kind = match self.get(TYPE) {
            None if self.implies_long_rope()? => "longrope",
            None if linear_factor != 1.0 => "linear",
            None => "none",
            Some(_) => stated()?,
        };
        match kind {
            "none" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear {
                factor: linear_factor,
            }),
            "llama3" => self.llama3(),
            "yarn" => self.yarn(),
            "longrope" => Ok(RopeScaling::LongRope {
                original_context_length: self.large_size(ORIGINAL_CONTEXT)?,
            }),
            other => Err(self.unsupported(TYPE, format!("{other:?}"))),
        }
    }

    /// Phi-3 files from before the type was written have only the lengths.
    fn implies_long_rope(&self) -> Result<bool, LlmError> {
        if !self.architecture.has_long_rope || self.get(ORIGINAL_CONTEXT).is_none() {
            return Ok(false);
        }
        Ok(self.large_size(ORIGINAL_CONTEXT)? < self.large_size("context_length")?)
    }

    fn llama3(&self) -> Result<RopeScaling, LlmError> {
        let low_frequency_factor = self.positive("rope.scaling.low_freq_factor", None)?;
        let high_frequency_factor = self.positive("rope.scaling.high_freq_factor", None)?;
        if high_frequency_factor <= low_frequency_factor {
            return Err(self.invalid(
                "rope.scaling.high_freq_factor",
                high_frequency_factor,
                format!("it must be above low_freq_factor, {low_frequency_factor}"),
            ));
        }
        Ok(RopeScaling::Llama3 {
            factor: self.positive("rope.scaling.factor", None)?,
            low_frequency_factor,
            high_frequency_factor,
            original_context_length: self.large_size(ORIGINAL_CONTEXT)? as f32,
        })
    }

    fn yarn(&self) -> Result<RopeScaling, LlmError> {
        let extrapolation = self.positive("rope.scaling.yarn_ext_factor", Some(1.0))?;
        if extrapolation != 1.0 {
            return Err(self.unsupported("rope.scaling.yarn_ext_factor", extrapolation));
        }
        let fast_turns = self.positive("rope.scaling.yarn_beta_fast", Some(32.0))?;
        let slow_turns = self.positive("rope.scaling.yarn_beta_slow", Some(1.0))?;
        if fast_turns <= slow_turns {
            return Err(self.invalid(
                "rope.scaling.yarn_beta_fast",
                fast_turns,
                format!("it must be above yarn_beta_slow, {slow_turns}"),
            ));
        }
        Ok(RopeScaling::Yarn {
            factor: self.positive("rope.scaling.factor", None)?,
            original_context_length: self.large_size(ORIGINAL_CONTEXT)? as f32,
            fast_turns,
            slow_turns,
        })
    }

    /// What rotated pairs are multiplied by.
    fn amplitude(&self, scaling: RopeScaling) -> Result<f32, LlmError> {
        let amplitude = self.positive("rope.scaling.attn_factor", Some(1.0))?;
        let RopeScaling::Yarn { factor, .. } = scaling else {
            return Ok(amplitude);
        };
        let implied = 1.0 + 0.1 * factor.max(1.0).ln();
        let stated = self.positive("rope.scaling.yarn_attn_factor", Some(implied))?;
        Ok(amplitude * stated)
    }
}
