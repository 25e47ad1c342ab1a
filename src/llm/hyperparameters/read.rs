//! Metadata to checked sizes and constants: what must be there, what follows from what, and what is refused.

use super::keys::Keys;
use super::{Experts, Hyperparameters, LayerSettings};
use crate::llm::LlmError;
use crate::llm::gguf::{Array, Value};

impl Keys<'_> {
    pub fn read(&self, norm_offset: f32) -> Result<Hyperparameters, LlmError> {
        self.refuse_what_is_not_computed()?;
        let hidden_size = self.size("embedding_length")?;
        let num_layers = self.size("block_count")?;
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
        let norm_epsilon = self.positive("attention.layer_norm_rms_epsilon", None)?;
        if norm_epsilon >= 1.0 {
            return Err(self.invalid(
                "attention.layer_norm_rms_epsilon",
                norm_epsilon,
                "it must be below 1".to_owned(),
            ));
        }
        let experts = self.experts()?;
        let feed_forward_size = match experts {
            Some(_) => self.size("expert_feed_forward_length")?,
            None => self.size("feed_forward_length")?,
        };
        let windows = self.windows(num_layers)?;
        let embedding_scale = if self.architecture.scales_embedding {
            (hidden_size as f32).sqrt()
        } else {
            self.multiplier("embedding_scale")?
        };
        Ok(Hyperparameters {
            architecture: self.architecture,
            hidden_size,
            num_heads,
            num_kv_heads,
            key_dim,
            value_dim,
            feed_forward_size,
            experts,
            context_length: self.large_size("context_length")?,
            norm_epsilon,
            norm_offset,
            embedding_scale,
            residual_scale: self.multiplier("residual_scale")?,
            score_scale: self.score_scale(key_dim, hidden_size, num_heads, num_layers)?,
            logit_divisor: self.multiplier("logit_scale")?,
            ropes: self.ropes(key_dim)?,
            layers: self.layers(&windows),
        })
    }

    fn refuse_what_is_not_computed(&self) -> Result<(), LlmError> {
        if self.metadata.bool(&self.key("attention.causal")) == Some(false) {
            return Err(self.unsupported("attention.causal", "false (an encoder)"));
        }
        for suffix in [
            "attention.clamp_kqv",
            "attention.max_alibi_bias",
            "attention.temperature_scale",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "expert_shared_count",
            "expert_group_count",
            "leading_dense_block_count",
            "rope.scaling.yarn_log_multiplier",
        ] {
            match self.number(suffix) {
                Some(value) if value != 0.0 => return Err(self.unsupported(suffix, value)),
                _ => {}
            }
        }
        Ok(())
    }

    fn experts(&self) -> Result<Option<Experts>, LlmError> {
        if !self.architecture.has_experts {
            return match self.number("expert_count") {
                Some(count) if count > 0.0 => Err(self.unsupported("expert_count", count)),
                _ => Ok(None),
            };
        }
        let count = self.size("expert_count")?;
        let num_used = self.size("expert_used_count")?;
        if num_used > count {
            return Err(self.invalid(
                "expert_used_count",
                num_used,
                format!("there are only {count} experts"),
            ));
        }
        // What the router's numbers become: 1 is softmax.
        const GATING: &str = "expert_gating_func";
        match self.number(GATING) {
            Some(value) if value != 1.0 => return Err(self.unsupported(GATING, value)),
            _ => {}
        }
        if self.metadata.bool(&self.key("expert_weights_norm")) == Some(false) {
            return Err(self.unsupported("expert_weights_norm", false));
        }
        let scale = self.positive("expert_weights_scale", Some(1.0))?;
        if scale != 1.0 {
            return Err(self.unsupported("expert_weights_scale", scale));
        }
        Ok(Some(Experts { count, num_used }))
    }

    fn head_dim(
        &self,
        suffix: &str,
        hidden_size: usize,
        num_heads: usize,
    ) -> Result<usize, LlmError> {
        if self.get(suffix).is_some() {
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

    fn score_scale(
        &self,
        key_dim: usize,
        hidden_size: usize,
        num_heads: usize,
        num_layers: usize,
    ) -> Result<f32, LlmError> {
        // The largest Gemma 3 differs from its kin, and its files do not say so; it alone has 62 layers.
        let is_gemma3_27b = self.architecture.name == "gemma3" && num_layers == 62;
        let implied = if is_gemma3_27b {
            (num_heads as f32 / hidden_size as f32).sqrt()
        } else {
            1.0 / (key_dim as f32).sqrt()
        };
        // Files of some converters have a 0 where others have nothing.
        match self.number("attention.scale") {
            Some(0.0) => Ok(implied),
            _ => self.positive("attention.scale", Some(implied)),
        }
    }

    /// A factor that only some architectures have.
    fn multiplier(&self, suffix: &str) -> Result<f32, LlmError> {
        let value = self.positive(suffix, Some(1.0))?;
        if value != 1.0 && !self.architecture.has_multipliers {
            return Err(self.unsupported(suffix, value));
        }
        Ok(value)
    }

    /// Each layer's window.
    fn windows(&self, num_layers: usize) -> Result<Vec<Option<usize>>, LlmError> {
        const WINDOW: &str = "attention.sliding_window";
        const PATTERN: &str = "attention.sliding_window_pattern";
        let window = match (self.get(WINDOW), self.number(WINDOW)) {
            // 0 is how files say that there is none.
            (None, _) | (_, Some(0.0)) => None,
            _ => Some(self.large_size(WINDOW)?),
        };
        let is_windowed = match self.get(PATTERN) {
            Some(Value::Array(Array::Bool(layers))) if layers.len() == num_layers => layers.clone(),
            Some(Value::Array(_)) => {
                return Err(self.invalid(
                    PATTERN,
                    "an array",
                    format!("it must have one true or false for each of the {num_layers} layers"),
                ));
            }
            Some(_) => has_no_last_of(Some(self.size(PATTERN)?), num_layers),
            None => has_no_last_of(self.architecture.window_period, num_layers),
        };
        Ok(is_windowed
            .into_iter()
            .map(|is_windowed| window.filter(|_| is_windowed))
            .collect())
    }

    fn layers(&self, windows: &[Option<usize>]) -> Vec<LayerSettings> {
        let is_rotated = has_no_last_of(self.architecture.rope_period, windows.len());
        let has_window_rope = self.has_window_rope();
        windows
            .iter()
            .zip(is_rotated)
            .map(|(&window, is_rotated)| LayerSettings {
                window,
                rope: is_rotated.then_some((has_window_rope && window.is_some()).into()),
            })
            .collect()
    }
}

/// Whether each layer is none of those that end a run of so many; all are, without such runs.
fn has_no_last_of(period: Option<usize>, num_layers: usize) -> Vec<bool> {
    (1..=num_layers)
        .map(|number| period.is_none_or(|period| !number.is_multiple_of(period)))
        .collect()
}
