//! What the engine can be asked for, and the checks that make a request safe to run. Never alters a request silently,
//! except that `max_tokens` is cut to what fits.

use super::{Constraint, SubmitError};
use crate::llm::ModelSpec;

/// Most alternatives that `GenerationRequest::logprobs` may ask for.
pub const MAX_ALTERNATIVES: usize = 20;

/// A prompt and how to continue it.
#[derive(Debug, Clone)]
pub struct GenerationRequest {
    pub prompt: Vec<u32>,
    /// Most tokens to generate, at least 1. Prompt and output never exceed the context length: when this asks for more,
    /// generation ends there, with `FinishReason::MaxTokens`.
    pub max_tokens: usize,
    /// Tokens that end the generation; they are not part of the output.
    pub end_tokens: Vec<u32>,
    pub sampling: SamplingParams,
    /// With each token, send its log-probability and those of this many most probable tokens (0 to
    /// [`MAX_ALTERNATIVES`]). They are the model's own: before bias, penalties and temperature.
    pub logprobs: Option<usize>,
    /// What the output must look like. Generation ends, with `FinishReason::EndToken`, when nothing more may come.
    pub constraint: Option<Constraint>,
    /// Whose request this is: users are served in turn, and what is cached of one's prompts is not used for another's.
    /// Requests that name nobody count as one user's.
    pub user: Option<String>,
    /// Leading tokens of the prompt that hold nothing private, such as the product's own instructions: users share
    /// what is cached of them.
    pub num_public_tokens: usize,
}

impl GenerationRequest {
    /// The likeliest tokens, as many as are allowed, and nothing else.
    pub fn greedy(prompt: Vec<u32>, max_tokens: usize) -> Self {
        Self {
            prompt,
            max_tokens,
            end_tokens: Vec::new(),
            sampling: SamplingParams::greedy(),
            logprobs: None,
            constraint: None,
            user: None,
            num_public_tokens: 0,
        }
    }
}

/// How the next token is chosen. What the parameters do, and in which order, is written in `sampler.rs`.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 to 2; 0 is greedy.
    pub temperature: f32,
    /// At least 1; `None` keeps all.
    pub top_k: Option<usize>,
    /// Above 0, to 1; 1 keeps all.
    pub top_p: f32,
    /// 0 to 1; 0 keeps all.
    pub min_p: f32,
    /// Above 0; 1 does nothing.
    pub repetition_penalty: f32,
    /// -2 to 2; 0 does nothing.
    pub presence_penalty: f32,
    /// -2 to 2; 0 does nothing.
    pub frequency_penalty: f32,
    /// Token ids with what is added to their logits, -100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same output; `None` draws one.
    pub seed: Option<u64>,
}

impl Default for SamplingParams {
    /// Samples from the model's own distribution, as the OpenAI API does by default.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

impl SamplingParams {
    /// Always takes the most probable token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }
}

/// Longest prompt and output together: what the model was made for and what the whole cache holds.
pub fn context_length(spec: &ModelSpec) -> usize {
    spec.context_length.min(spec.num_blocks * spec.block_size)
}

/// Checks everything that does not depend on the engine's state.
pub fn validate(request: &GenerationRequest, spec: &ModelSpec) -> Result<(), SubmitError> {
    let context_length = context_length(spec);
    if request.prompt.is_empty() {
        return Err(SubmitError::EmptyPrompt);
    }
    if request.max_tokens == 0 {
        return Err(invalid(
            "max_tokens",
            "0 is too small, ask for at least 1".into(),
        ));
    }
    if request.prompt.len() >= context_length {
        return Err(SubmitError::PromptTooLong {
            num_prompt_tokens: request.prompt.len(),
            num_max_tokens: request.max_tokens,
            context_length,
        });
    }
    let unknown = |token: &u32| *token as usize >= spec.vocab_size;
    if let Some(token) = request.prompt.iter().copied().find(unknown) {
        return Err(invalid("prompt", unknown_token(token, spec)));
    }
    if let Some(num) = request.logprobs.filter(|num| *num > MAX_ALTERNATIVES) {
        let message =
            format!("{num} alternatives are too many, ask for at most {MAX_ALTERNATIVES}");
        return Err(invalid("logprobs", message));
    }
    request.sampling.validate()?;
    let mut biased = request.sampling.logit_bias.iter().map(|(token, _)| token);
    match biased.find(|token| unknown(token)) {
        Some(&token) => Err(invalid("logit_bias", unknown_token(token, spec))),
        None => Ok(()),
    }
}

impl SamplingParams {
    /// Checks everything that does not depend on the model.
    pub fn validate(&self) -> Result<(), SubmitError> {
        let within = |name, value: f32, min: f32, max: f32| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            let message = format!("{value} is out of range, use a number from {min} to {max}");
            Err(invalid(name, message))
        };
        within("temperature", self.temperature, 0.0, 2.0)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        let must_be_positive = [
            ("top_p", self.top_p),
            ("repetition_penalty", self.repetition_penalty),
        ];
        for (name, value) in must_be_positive {
            if !value.is_finite() || value <= 0.0 {
                let message = format!("{value} is out of range, use a number above 0");
                return Err(invalid(name, message));
            }
        }
        if self.top_k == Some(0) {
            let message = "0 would leave no token, use at least 1 or leave it out";
            return Err(invalid("top_k", message.into()));
        }
        for &(_, bias) in &self.logit_bias {
            within("logit_bias", bias, -100.0, 100.0)?;
        }
        Ok(())
    }
}

fn unknown_token(token: u32, spec: &ModelSpec) -> String {
    let num_tokens = spec.vocab_size;
    format!("token {token} is unknown, this model's vocabulary has {num_tokens} tokens")
}

fn invalid(name: &'static str, message: String) -> SubmitError {
    SubmitError::InvalidParameter { name, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ModelSpec {
        ModelSpec {
            architecture: "test".into(),
            vocab_size: 10,
            context_length: 100,
            block_size: 4,
            num_blocks: 8,
            weights_bytes: 0,
            cache_bytes: 0,
        }
    }

    fn request(num_prompt_tokens: usize) -> GenerationRequest {
        GenerationRequest {
            prompt: vec![1; num_prompt_tokens],
            max_tokens: 5,
            end_tokens: vec![],
            sampling: SamplingParams::default(),
            logprobs: None,
            constraint: None,
            user: None,
            num_public_tokens: 0,
        }
    }

    /// The name of the parameter that is refused after `change`.
    fn refused(change: impl FnOnce(&mut GenerationRequest)) -> Option<&'static str> {
        let mut request = request(3);
        change(&mut request);
        match validate(&request, &spec()) {
            Ok(()) => None,
            Err(SubmitError::InvalidParameter { name, message }) => {
                assert!(!message.is_empty() && !message.ends_with('.'));
                Some(name)
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_context_is_what_both_the_model_and_the_cache_can_hold() {
        assert_eq!(context_length(&spec()), 32);
        let larger_cache = ModelSpec {
            num_blocks: 1000,
            ..spec()
        };
        assert_eq!(context_length(&larger_cache), 100);
    }

    #[test]
    fn a_prompt_must_leave_room_for_one_token() {
        assert_eq!(validate(&request(31), &spec()), Ok(()));
        let refusal = SubmitError::PromptTooLong {
            num_prompt_tokens: 32,
            num_max_tokens: 5,
            context_length: 32,
        };
        assert_eq!(validate(&request(32), &spec()), Err(refusal));
        assert_eq!(
            validate(&request(0), &spec()),
            Err(SubmitError::EmptyPrompt)
        );
    }

    #[test]
    fn the_ends_of_every_range_are_accepted() {
        let low = |request: &mut GenerationRequest| {
            request.max_tokens = 1;
            request.logprobs = Some(0);
            request.sampling = SamplingParams {
                temperature: 0.0,
                top_k: Some(1),
                top_p: f32::MIN_POSITIVE,
                min_p: 0.0,
                repetition_penalty: f32::MIN_POSITIVE,
                presence_penalty: -2.0,
                frequency_penalty: -2.0,
                logit_bias: vec![(0, -100.0)],
                seed: Some(0),
            };
        };
        let high = |request: &mut GenerationRequest| {
            request.max_tokens = usize::MAX;
            request.logprobs = Some(MAX_ALTERNATIVES);
            request.sampling = SamplingParams {
                temperature: 2.0,
                top_k: Some(usize::MAX),
                top_p: 1.0,
                min_p: 1.0,
                repetition_penalty: f32::MAX,
                presence_penalty: 2.0,
                frequency_penalty: 2.0,
                logit_bias: vec![(9, 100.0)],
                seed: Some(u64::MAX),
            };
        };
        assert_eq!(refused(low), None);
        assert_eq!(refused(high), None);
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        assert_eq!(
            refused(|request| request.max_tokens = 0),
            Some("max_tokens")
        );
        assert_eq!(refused(|request| request.prompt[1] = 10), Some("prompt"));
        assert_eq!(
            refused(|request| request.logprobs = Some(21)),
            Some("logprobs")
        );
        assert_eq!(
            refused(|request| request.sampling.top_k = Some(0)),
            Some("top_k")
        );
        let bias = |entry| refused(|request| request.sampling.logit_bias = vec![entry]);
        assert_eq!(bias((10, 0.0)), Some("logit_bias"));
        assert_eq!(bias((9, 100.5)), Some("logit_bias"));
        assert_eq!(bias((9, f32::NAN)), Some("logit_bias"));
    }

    #[test]
    fn numbers_out_of_range_or_not_finite_are_refused_by_name() {
        type Field = fn(&mut SamplingParams) -> &mut f32;
        let fields: [(&str, Field, &[f32]); 6] = [
            (
                "temperature",
                |params| &mut params.temperature,
                &[-0.1, 2.1],
            ),
            ("top_p", |params| &mut params.top_p, &[-0.1, 0.0, 1.1]),
            ("min_p", |params| &mut params.min_p, &[-0.1, 1.1]),
            (
                "repetition_penalty",
                |params| &mut params.repetition_penalty,
                &[-1.0, 0.0],
            ),
            (
                "presence_penalty",
                |params| &mut params.presence_penalty,
                &[-2.1, 2.1],
            ),
            (
                "frequency_penalty",
                |params| &mut params.frequency_penalty,
                &[-2.1, 2.1],
            ),
        ];
        for (name, field, values) in fields {
            for value in values
                .iter()
                .chain(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY])
            {
                let refused = refused(|request| *field(&mut request.sampling) = *value);
                assert_eq!(refused, Some(name), "{value}");
            }
        }
    }
}
