//! The metadata under an architecture's prefix, each value within the bounds that make it safe to compute with.

use super::architecture::Architecture;
use crate::llm::LlmError;
use crate::llm::gguf::{Metadata, Value};
use crate::llm::rope::Pairing;

/// Beyond any real model, and small enough that products of three such sizes fit in 64 bits.
const MAX_SIZE: u64 = 1 << 20;

pub(super) struct Keys<'a> {
    pub metadata: &'a Metadata,
    pub architecture: &'static Architecture,
    /// How the file orders the rows of queries and keys.
    pub pairing: Pairing,
}

impl<'a> Keys<'a> {
    pub fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.architecture.name)
    }

    pub fn get(&self, suffix: &str) -> Option<&'a Value> {
        self.metadata.get(&self.key(suffix))
    }

    /// A number of any type, to be compared or shown.
    pub fn number(&self, suffix: &str) -> Option<f64> {
        let key = self.key(suffix);
        let integer = self.metadata.u64(&key).map(|n| n as f64);
        integer.or_else(|| self.metadata.f32(&key).map(f64::from))
    }

    /// A size that has one value for all layers and is needed.
    pub fn size(&self, suffix: &str) -> Result<usize, LlmError> {
        self.integer(suffix, MAX_SIZE)
    }

    pub fn size_or(&self, suffix: &str, default: usize) -> Result<usize, LlmError> {
        match self.get(suffix) {
            Some(_) => self.size(suffix),
            None => Ok(default),
        }
    }

    /// A size that nothing is allocated by.
    pub fn large_size(&self, suffix: &str) -> Result<usize, LlmError> {
        self.integer(suffix, u64::from(u32::MAX))
    }

    fn integer(&self, suffix: &str, max: u64) -> Result<usize, LlmError> {
        let key = self.key(suffix);
        let value = self
            .metadata
            .u64(&key)
            .ok_or(LlmError::MissingMetadata { key })?;
        if value == 0 || value > max {
            return Err(self.invalid(suffix, value, format!("it must be from 1 to {max}")));
        }
        usize::try_from(value)
            .map_err(|_| self.invalid(suffix, value, "it is too large".to_owned()))
    }

    pub fn positive(&self, suffix: &str, default: Option<f32>) -> Result<f32, LlmError> {
        let key = self.key(suffix);
        let value = match (self.metadata.get(&key), default) {
            (None, Some(default)) => default,
            _ => self
                .metadata
                .f32(&key)
                .ok_or(LlmError::MissingMetadata { key })?,
        };
        if !value.is_finite() || value <= 0.0 {
            return Err(self.invalid(suffix, value, "it must be a positive number".to_owned()));
        }
        Ok(value)
    }

    pub fn invalid(&self, suffix: &str, value: impl ToString, problem: String) -> LlmError {
        LlmError::InvalidMetadata {
            key: self.key(suffix),
            value: value.to_string(),
            problem,
        }
    }

    pub fn unsupported(&self, suffix: &str, value: impl std::fmt::Display) -> LlmError {
        LlmError::UnsupportedFeature {
            feature: format!("{} = {value}", self.key(suffix)),
        }
    }
}
