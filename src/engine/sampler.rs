//! Logits in, one token out. Depends on nothing but the logits, the sequence's own tokens, its parameters and its
//! seed, so that the output never depends on what else was in the batch.
//!
//! The order, and what each step means:
//! 1. `logit_bias` is added; a token listed twice gets both.
//! 2. `repetition_penalty`, once for each distinct token of prompt and output: a positive logit is divided by it, a
//!    negative one multiplied (Keskar et al. 2019, CTRL; as transformers and llama.cpp do).
//! 3. `presence_penalty` and `frequency_penalty`, over the output only: `logit -= presence + frequency * count` for
//!    tokens with `count > 0` (the OpenAI API reference).
//! 4. `temperature`: 0 takes the largest logit (of equals, the lowest token id) and ends here; else logits are divided.
//! 5. `top_k`: the k largest logits stay; exactly k, of equals the lowest ids.
//! 6. `top_p`: of what is left, renormalised, the fewest most probable tokens that together reach `top_p` stay
//!    (Holtzman et al. 2020).
//! 7. `min_p`: tokens less than `min_p` times as probable as the most probable one go.
//! 8. One draw from what is left: one 64-bit number of the sequence's own ChaCha12 stream.
//!
//! Steps 4 to 8 are the model's own where nothing else is wanted of the logits (`draw_ahead`); the number is the same then.

use std::cmp::Ordering;
use std::collections::HashMap;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::request::SamplingParams;
use crate::llm::{Draw, Drawn, InvalidLogits};

/// Chooses the tokens of one sequence.
#[derive(Debug)]
pub struct Sampler {
    params: SamplingParams,
    rng: ChaCha12Rng,
    /// The number for the next token, from when it is first asked for until there is a token.
    uniform: Option<f64>,
    /// Distinct tokens of the sequence with the number of times each was generated; kept only for the penalties.
    num_generated: HashMap<u32, u32>,
}

/// Memory that samplers share, so that a step does not allocate a vocabulary's worth for each sequence.
#[derive(Debug, Default)]
pub struct Scratch {
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
}

/// A token that may be chosen. The weight is its logit at first, then proportional to its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub id: u32,
    pub weight: f32,
}

impl Sampler {
    /// `params` have been validated; without a seed, one is drawn.
    pub fn new(params: SamplingParams, prompt: &[u32]) -> Self {
        let seed = params.seed.unwrap_or_else(rand::random);
        let mut num_generated = HashMap::new();
        if params.repetition_penalty != 1.0 {
            num_generated.extend(prompt.iter().map(|token| (*token, 0)));
        }
        Self {
            params,
            rng: ChaCha12Rng::seed_from_u64(seed),
            uniform: None,
            num_generated,
        }
    }

    /// Chooses the token after the one that `logits` belong to, and takes note of it for the penalties.
    pub fn sample(&mut self, logits: &[f32], scratch: &mut Scratch) -> Result<u32, InvalidLogits> {
        check(logits)?;
        let has_penalties = self.has_penalties();
        let adjusted = &mut scratch.logits;
        let logits = if has_penalties || !self.params.logit_bias.is_empty() {
            adjusted.clear();
            adjusted.extend_from_slice(logits);
            self.adjust(adjusted);
            adjusted
        } else {
            logits
        };
        let token = drawn(logits, &self.draw(), &mut scratch.candidates);
        self.uniform = None;
        if has_penalties {
            *self.num_generated.entry(token).or_default() += 1;
        }
        Ok(token)
    }

    /// What the next token may be drawn by without this sampler, which then has to `accept` it. `None` where it depends on more
    /// than the logits.
    pub fn draw_ahead(&mut self) -> Option<Draw> {
        if self.has_penalties() || !self.params.logit_bias.is_empty() {
            return None;
        }
        Some(self.draw())
    }

    /// Takes note of what was drawn by `draw_ahead`.
    pub fn accept(&mut self, drawn: Drawn) -> Drawn {
        self.uniform = None;
        drawn
    }

    /// The same until there is a token.
    fn draw(&mut self) -> Draw {
        let params = &self.params;
        let rng = &mut self.rng;
        let next = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        Draw {
            temperature: params.temperature,
            top_k: params.top_k,
            top_p: params.top_p,
            min_p: params.min_p,
            uniform: match params.temperature {
                0.0 => 0.0,
                _ => *self.uniform.get_or_insert_with(next),
            },
        }
    }

    fn has_penalties(&self) -> bool {
        let params = &self.params;
        params.repetition_penalty != 1.0
            || params.presence_penalty != 0.0
            || params.frequency_penalty != 0.0
    }

    fn adjust(&self, logits: &mut [f32]) {
        let params = &self.params;
        for &(token, bias) in &params.logit_bias {
            logits[token as usize] += bias;
        }
        for (&token, &count) in &self.num_generated {
            let logit = &mut logits[token as usize];
            if !logit.is_finite() {
                continue;
            }
            if *logit > 0.0 {
                *logit /= params.repetition_penalty;
            } else {
                *logit *= params.repetition_penalty;
            }
            if count > 0 {
                *logit -= params.presence_penalty + params.frequency_penalty * count as f32;
            }
            // An infinity made here would turn the weights into NaN, or leave no token at all.
            *logit = logit.clamp(f32::MIN, f32::MAX);
        }
    }
}

/// The token that a draw from valid logits gives: steps 4 to 8.
pub fn drawn(logits: &[f32], draw: &Draw, candidates: &mut Vec<Candidate>) -> u32 {
    if draw.temperature == 0.0 {
        return argmax(logits);
    }
    match draw.top_k {
        Some(k) if k < logits.len() => largest(logits, k, candidates),
        _ => all(logits, candidates),
    }
    let max = candidates.iter().fold(f32::NEG_INFINITY, |max, candidate| {
        max.max(candidate.weight)
    });
    for candidate in candidates.iter_mut() {
        candidate.weight = ((candidate.weight - max) / draw.temperature).exp();
    }
    if draw.top_p < 1.0 {
        keep_nucleus(candidates, draw.top_p);
    }
    if draw.min_p > 0.0 {
        // The most probable token has weight 1.
        candidates.retain(|candidate| candidate.weight >= draw.min_p);
    }
    pick(candidates, draw.uniform)
}

/// Natural logarithm of the softmax of `logits`, at `ids`.
pub fn log_probabilities(logits: &[f32], ids: impl Iterator<Item = u32>) -> Vec<f32> {
    let max = maximum(logits);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from((logit - max).exp()))
        .sum();
    let log_sum = f64::from(max) + sum.ln();
    let log_probability = |id: u32| (f64::from(logits[id as usize]) - log_sum) as f32;
    ids.map(log_probability).collect()
}

/// Fills `candidates` with the `k` largest logits, the largest first, of equals the lowest id first. Those at negative
/// infinity are left out.
pub fn largest(logits: &[f32], k: usize, candidates: &mut Vec<Candidate>) {
    candidates.clear();
    if k == 0 {
        return;
    }
    // Gathers what beats the k-th largest seen so far and cuts back to k whenever that has doubled: linear in the
    // vocabulary, whatever k is.
    let limit = k.saturating_mul(2).max(128);
    let mut threshold = f32::NEG_INFINITY;
    for (id, &weight) in logits.iter().enumerate() {
        if weight > threshold {
            candidates.push(Candidate {
                id: id as u32,
                weight,
            });
            if candidates.len() == limit {
                candidates.select_nth_unstable_by(k - 1, by_weight);
                candidates.truncate(k);
                threshold = candidates[k - 1].weight;
            }
        }
    }
    if candidates.len() > k {
        candidates.select_nth_unstable_by(k - 1, by_weight);
        candidates.truncate(k);
    }
    candidates.sort_unstable_by(by_weight);
}

/// Refuses what is no distribution.
pub fn check(logits: &[f32]) -> Result<(), InvalidLogits> {
    let is_number = logits.iter().all(|logit| *logit < f32::INFINITY);
    let has_finite = logits.iter().any(|logit| logit.is_finite());
    (is_number && has_finite).then_some(()).ok_or(InvalidLogits)
}

fn argmax(logits: &[f32]) -> u32 {
    let max = maximum(logits);
    let position = logits.iter().position(|logit| *logit == max);
    position.unwrap_or(0) as u32
}

fn maximum(logits: &[f32]) -> f32 {
    // Independent lanes, which the compiler turns into vector instructions.
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = logits.as_chunks::<16>();
    for chunk in chunks {
        for (lane, logit) in lanes.iter_mut().zip(chunk) {
            *lane = lane.max(*logit);
        }
    }
    let all = lanes.iter().chain(rest);
    all.copied().fold(f32::NEG_INFINITY, f32::max)
}

fn all(logits: &[f32], candidates: &mut Vec<Candidate>) {
    candidates.clear();
    let ids = 0..logits.len() as u32;
    candidates.extend(
        ids.zip(logits)
            .map(|(id, &weight)| Candidate { id, weight }),
    );
}

/// The larger weight first; of equals, the lower id.
fn by_weight(a: &Candidate, b: &Candidate) -> Ordering {
    b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
}

/// Keeps the fewest, largest candidates whose weights together reach `top_p` of the sum. Linear but for a sort of those
/// near the last one kept: the others are told apart by the leading bits of their weights.
fn keep_nucleus(candidates: &mut Vec<Candidate>, top_p: f32) {
    // Bits of a non-negative float are ordered like its value: an eighth of an octave each.
    let bucket_of = |candidate: &Candidate| (candidate.weight.to_bits() >> 20) as usize;
    let mut bucket_sums = [0.0; 1 << 11];
    for candidate in candidates.iter() {
        bucket_sums[bucket_of(candidate)] += f64::from(candidate.weight);
    }
    let target = f64::from(top_p) * bucket_sums.iter().sum::<f64>();
    let mut reached = 0.0;
    for (bucket, bucket_sum) in bucket_sums.iter().enumerate().rev() {
        if reached + bucket_sum < target {
            reached += bucket_sum;
            continue;
        }
        let in_bucket = candidates
            .iter()
            .filter(|candidate| bucket_of(candidate) == bucket);
        let mut in_bucket: Vec<Candidate> = in_bucket.copied().collect();
        in_bucket.sort_unstable_by(by_weight);
        let last = in_bucket.iter().find(|candidate| {
            reached += f64::from(candidate.weight);
            reached >= target
        });
        if let Some(last) = last.or(in_bucket.last()) {
            candidates.retain(|candidate| by_weight(candidate, last) != Ordering::Greater);
            return;
        }
    }
}

fn sum(candidates: &[Candidate]) -> f64 {
    candidates
        .iter()
        .map(|candidate| f64::from(candidate.weight))
        .sum()
}

/// The candidate at `uniform` (from 0 to below 1) of the way through the weights.
fn pick(candidates: &[Candidate], uniform: f64) -> u32 {
    let mut left = uniform * sum(candidates);
    for candidate in candidates {
        left -= f64::from(candidate.weight);
        if left < 0.0 {
            return candidate.id;
        }
    }
    // Only rounding comes here; the most probable is always a valid choice.
    candidates
        .iter()
        .min_by(|a, b| by_weight(a, b))
        .map_or(0, |candidate| candidate.id)
}

#[cfg(test)]
mod tests;
