//! Rotation in `config.json`: `rope_parameters`, or `rope_theta` and `rope_scaling` as older versions wrote them.

use serde_json::Value as Json;

use super::{Translation, integer, invalid, missing, number};
use crate::llm::LlmError;
use crate::llm::gguf::Value;
use crate::llm::weights::ROPE_FACTORS;

impl Translation<'_> {
    pub(super) fn ropes(&mut self) -> Result<(), LlmError> {
        let json = self.json;
        let parameters = &json["rope_parameters"];
        let by_layer_type = parameters["full_attention"].is_object();
        let scaling = match (by_layer_type, parameters, &json["rope_scaling"]) {
            (true, ..) => &parameters["full_attention"],
            (false, Json::Null, scaling) => scaling,
            (false, parameters, _) => parameters,
        };
        let base = match number(scaling, "rope_theta")? {
            Some(base) => Some(base),
            None => number(json, "rope_theta")?,
        };
        match (base, self.model_type) {
            (Some(base), _) => self.add("rope.freq_base", Value::F64(base)),
            // These have a default that their files need not say, and GGUF files do.
            (None, "gemma3_text" | "smollm3") => return Err(missing("rope_theta")),
            (None, _) => {}
        }
        let of_windows = &parameters["sliding_attention"];
        if by_layer_type && !of_windows.is_null() {
            let kind = kind(of_windows);
            if kind != "default" {
                return Err(LlmError::UnsupportedFeature {
                    feature: format!("rope_type = {kind:?} for layers with a window"),
                });
            }
        }
        let window_base = match number(of_windows, "rope_theta")? {
            Some(base) => Some(base),
            None => number(json, "rope_local_base_freq")?,
        };
        if let Some(base) = window_base {
            self.add("rope.freq_base_swa", Value::F64(base));
        }
        self.partial_rotation(scaling)?;
        self.scaling(scaling)
    }

    fn partial_rotation(&mut self, scaling: &Json) -> Result<(), LlmError> {
        const KEY: &str = "partial_rotary_factor";
        let json = self.json;
        let factor = match number(scaling, KEY)? {
            Some(factor) => factor,
            None => number(json, KEY)?.unwrap_or(1.0),
        };
        if factor == 1.0 {
            return Ok(());
        }
        // transformers leaves it out of account for most of the others.
        if self.model_type != "phi3" {
            return Err(LlmError::UnsupportedFeature {
                feature: format!("{KEY} = {factor}"),
            });
        }
        if !(0.0..1.0).contains(&factor) {
            return Err(invalid(KEY, &factor.into(), "it must be from 0 to 1"));
        }
        let head_dim = match integer(json, "head_dim")? {
            Some(head_dim) => head_dim,
            None => {
                let hidden = integer(json, "hidden_size")?;
                let heads = integer(json, "num_attention_heads")?;
                hidden.zip(heads).map_or(0, |(hidden, heads)| {
                    hidden.checked_div(heads).unwrap_or_default()
                })
            }
        };
        let rotated = (head_dim as f64 * factor) as u64;
        self.add("rope.dimension_count", Value::U64(rotated));
        Ok(())
    }

    fn scaling(&mut self, scaling: &Json) -> Result<(), LlmError> {
        let kind = kind(scaling);
        let kind = match kind {
            "default" => return Ok(()),
            "su" => "longrope",
            kind => kind,
        };
        self.add("rope.scaling.type", Value::String(kind.to_owned()));
        for (key, suffix) in [
            ("factor", "factor"),
            ("low_freq_factor", "low_freq_factor"),
            ("high_freq_factor", "high_freq_factor"),
            ("beta_fast", "yarn_beta_fast"),
            ("beta_slow", "yarn_beta_slow"),
        ] {
            if let Some(number) = number(scaling, key)? {
                self.add(&format!("rope.scaling.{suffix}"), Value::F64(number));
            }
        }
        const ORIGINAL: &str = "original_max_position_embeddings";
        let original = match integer(scaling, ORIGINAL)? {
            Some(original) => Some(original),
            None => integer(self.json, ORIGINAL)?,
        };
        if let Some(original) = original {
            self.add("rope.scaling.original_context_length", Value::U64(original));
        }
        match kind {
            "yarn" => self.yarn_amplitude(scaling),
            "longrope" => self.long_rope(scaling, original.ok_or_else(|| missing(ORIGINAL))?),
            _ => Ok(()),
        }
    }

    fn yarn_amplitude(&mut self, scaling: &Json) -> Result<(), LlmError> {
        if scaling["truncate"] == false {
            return Err(LlmError::UnsupportedFeature {
                feature: "truncate = false of YaRN".to_owned(),
            });
        }
        let stated = match number(scaling, "attention_factor")? {
            Some(factor) => Some(factor),
            None => {
                let factor = number(scaling, "factor")?.unwrap_or(1.0);
                let scale = |multiplier: f64| 1.0 + 0.1 * multiplier * factor.max(1.0).ln();
                let multipliers =
                    number(scaling, "mscale")?.zip(number(scaling, "mscale_all_dim")?);
                multipliers
                    .filter(|&(a, b)| a != 0.0 && b != 0.0)
                    .map(|(a, b)| scale(a) / scale(b))
            }
        };
        if let Some(amplitude) = stated {
            self.add("rope.scaling.yarn_attn_factor", Value::F64(amplitude));
        }
        Ok(())
    }

    fn long_rope(&mut self, scaling: &Json, original: u64) -> Result<(), LlmError> {
        let amplitude = match number(scaling, "attention_factor")? {
            Some(factor) => factor,
            None => {
                let factor = match number(scaling, "factor")? {
                    Some(factor) => factor,
                    None => {
                        let context = integer(self.json, "max_position_embeddings")?;
                        context.unwrap_or(original) as f64 / original as f64
                    }
                };
                match factor > 1.0 {
                    true => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
                    false => 1.0,
                }
            }
        };
        self.add("rope.scaling.attn_factor", Value::F64(amplitude));
        for (key, tensor) in ["short_factor", "long_factor"]
            .into_iter()
            .zip(ROPE_FACTORS)
        {
            let numbers = scaling[key].as_array().ok_or_else(|| missing(key))?;
            let numbers = numbers
                .iter()
                .map(|number| number.as_f64().map(|x| x as f32))
                .collect::<Option<Vec<_>>>()
                .filter(|numbers| !numbers.is_empty())
                .ok_or_else(|| invalid(key, &scaling[key], "it must be a list of numbers"))?;
            self.vectors.push((tensor, numbers));
        }
        Ok(())
    }
}

fn kind(scaling: &Json) -> &str {
    let named = scaling["rope_type"].as_str().or(scaling["type"].as_str());
    named.unwrap_or("default")
}
