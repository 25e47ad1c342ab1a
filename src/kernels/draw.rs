//! What a token is drawn by from a row of logits, wherever that is done. The order of the steps is written in the engine's
//! `sampler.rs`.

/// All that a token depends on besides its logits. Must be valid: see the fields.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// At least 0; 0 takes the largest logit.
    pub temperature: f32,
    /// At least 1; `None` keeps all.
    pub top_k: Option<usize>,
    /// Above 0, to 1; 1 keeps all.
    pub top_p: f32,
    /// 0 to 1; 0 keeps all.
    pub min_p: f32,
    /// How far through what is left the token is: 0 to below 1. It lies in the order of token ids, but with a `top_k` that is
    /// smaller than the vocabulary in that of the logits, the largest first.
    pub uniform: f64,
}

impl Draw {
    /// Takes the largest logit.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: None,
        top_p: 1.0,
        min_p: 0.0,
        uniform: 0.0,
    };
}

/// The logits hold a NaN or positive infinity, or no finite number, so they are no distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidLogits;

/// The token that was drawn.
pub type Drawn = Result<u32, InvalidLogits>;
