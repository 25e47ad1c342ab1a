//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864). Angles are always computed in f32, from the position
//! itself: no table bounds the context.

/// How the numbers of a head are paired for rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// Neighbours: `(0, 1), (2, 3), ..` (GGUF files of `llama` and its kin).
    Interleaved,
    /// The first half with the second half (everything else).
    Halves,
}

/// How positions beyond the original training length are brought back into it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    None,
    /// All positions are divided by the factor.
    Linear {
        factor: f32,
    },
    /// Llama 3.1: slow frequencies are divided by the factor, fast ones kept, those between blended.
    Llama3 {
        factor: f32,
        low_frequency_factor: f32,
        high_frequency_factor: f32,
        original_context_length: f32,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071): dimensions that turn fewer than `slow_turns` times over the original
    /// context are divided by the factor, those that turn more than `fast_turns` times kept, those between blended.
    Yarn {
        factor: f32,
        original_context_length: f32,
        fast_turns: f32,
        slow_turns: f32,
    },
    /// LongRoPE (Ding et al. 2024, arXiv:2402.13753): the file has two sets of divisors, one for contexts up to the
    /// original and one for longer ones.
    LongRope {
        original_context_length: usize,
    },
}

/// What the metadata says about rotation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RopeSettings {
    /// Leading numbers of a head that are rotated; even.
    pub dimensions: usize,
    pub base: f32,
    pub scaling: RopeScaling,
    pub pairing: Pairing,
    /// What rotated pairs are multiplied by; 1 unless a scaling asks for more.
    pub amplitude: f32,
}

/// Angles per position for every pair.
#[derive(Debug, Clone)]
pub(crate) struct Rope {
    frequencies: Vec<f32>,
    pairing: Pairing,
    amplitude: f32,
}

impl Rope {
    /// `divisors` are the file's own: one positive number per pair, which its frequency is divided by.
    pub fn new(settings: &RopeSettings, divisors: Option<&[f32]>) -> Self {
        let mut frequencies = frequencies(settings.base, settings.dimensions);
        match settings.scaling {
            RopeScaling::None | RopeScaling::LongRope { .. } => {}
            RopeScaling::Linear { factor } => frequencies.iter_mut().for_each(|f| *f /= factor),
            // A file that has the divisors has them for this very scaling; they must not be applied twice.
            RopeScaling::Llama3 { .. } if divisors.is_some() => {}
            RopeScaling::Llama3 { .. } => {
                let divisors = llama3_divisors(&frequencies, settings.scaling);
                frequencies
                    .iter_mut()
                    .zip(divisors)
                    .for_each(|(f, d)| *f /= d);
            }
            RopeScaling::Yarn { .. } => {
                let divisors = yarn_divisors(settings);
                frequencies
                    .iter_mut()
                    .zip(divisors)
                    .for_each(|(f, d)| *f /= d);
            }
        }
        if let Some(divisors) = divisors {
            frequencies
                .iter_mut()
                .zip(divisors)
                .for_each(|(f, d)| *f /= d);
        }
        Self {
            frequencies,
            pairing: settings.pairing,
            amplitude: settings.amplitude,
        }
    }

    pub fn angles(&self, positions: &[usize]) -> Angles {
        let angles = positions
            .iter()
            .flat_map(|&position| self.frequencies.iter().map(move |f| position as f32 * f));
        let (sin, cos) = angles
            .map(|angle| {
                let (sin, cos) = angle.sin_cos();
                (sin * self.amplitude, cos * self.amplitude)
            })
            .unzip();
        Angles {
            cos,
            sin,
            num_pairs: self.frequencies.len(),
            pairing: self.pairing,
        }
    }
}

/// Name of the tensor with the divisors.
pub(crate) const ROPE_FREQS: &str = "rope_freqs.weight";

/// Cosine and sine of a batch's positions, `[num_tokens, num_pairs]` each, times the amplitude.
#[derive(Debug, Clone)]
pub(crate) struct Angles {
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
    pub num_pairs: usize,
    pub pairing: Pairing,
}

impl Angles {
    /// Rotates the heads of every token in place. `heads` is `[num_tokens, num_heads, head_dim]`.
    pub fn rotate(&self, heads: &mut [f32], head_dim: usize) {
        let num_pairs = self.num_pairs;
        let num_tokens = self.cos.len() / num_pairs;
        let tokens = heads.chunks_exact_mut(heads.len() / num_tokens);
        let angles = self
            .cos
            .chunks_exact(num_pairs)
            .zip(self.sin.chunks_exact(num_pairs));
        for (token, (cos, sin)) in tokens.zip(angles) {
            for head in token.chunks_exact_mut(head_dim) {
                match self.pairing {
                    Pairing::Interleaved => {
                        let (pairs, _) = head.as_chunks_mut::<2>();
                        for ([a, b], (cos, sin)) in pairs.iter_mut().zip(cos.iter().zip(sin)) {
                            (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                        }
                    }
                    Pairing::Halves => {
                        let (first, second) = head.split_at_mut(num_pairs);
                        let pairs = first.iter_mut().zip(second);
                        for ((a, b), (cos, sin)) in pairs.zip(cos.iter().zip(sin)) {
                            (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                        }
                    }
                }
            }
        }
    }
}

/// Radians per position of every pair.
pub(crate) fn frequencies(base: f32, dimensions: usize) -> Vec<f32> {
    (0..dimensions / 2)
        .map(|pair| (f64::from(base)).powf(-2.0 * pair as f64 / dimensions as f64) as f32)
        .collect()
}

/// What Llama 3.1's scaling divides each frequency by
/// (<https://github.com/meta-llama/llama-models>, `apply_scaling`). All 1 for other scalings.
pub(crate) fn llama3_divisors(frequencies: &[f32], scaling: RopeScaling) -> Vec<f32> {
    let RopeScaling::Llama3 {
        factor,
        low_frequency_factor: low,
        high_frequency_factor: high,
        original_context_length,
    } = scaling
    else {
        return vec![1.0; frequencies.len()];
    };
    let divisor = |frequency: &f32| {
        let wavelength = 2.0 * std::f32::consts::PI / frequency;
        let turns = original_context_length / wavelength;
        if turns > high {
            1.0
        } else if turns < low {
            factor
        } else {
            let blend = (turns - low) / (high - low);
            1.0 / ((1.0 - blend) / factor + blend)
        }
    };
    frequencies.iter().map(divisor).collect()
}

/// What YaRN divides each frequency by (the paper's section 3.2, with its ramp over whole pairs). All 1 for other
/// scalings.
fn yarn_divisors(settings: &RopeSettings) -> Vec<f32> {
    let num_pairs = settings.dimensions / 2;
    let RopeScaling::Yarn {
        factor,
        original_context_length,
        fast_turns,
        slow_turns,
    } = settings.scaling
    else {
        return vec![1.0; num_pairs];
    };
    // The pair, as a fraction, that turns so many times over the original context.
    let pair = |turns: f32| {
        let wavelength = original_context_length / turns;
        let radians = (wavelength / (2.0 * std::f32::consts::PI)).ln();
        num_pairs as f32 * radians / settings.base.ln()
    };
    let first = pair(fast_turns).floor().max(0.0);
    let last = pair(slow_turns)
        .ceil()
        .min(settings.dimensions as f32 - 1.0);
    (0..num_pairs)
        .map(|pair| {
            let blend = ((pair as f32 - first) / (last - first).max(0.001)).clamp(0.0, 1.0);
            1.0 / (1.0 - blend + blend / factor)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairing: Pairing) -> RopeSettings {
        RopeSettings {
            dimensions: 4,
            base: 10_000.0,
            scaling: RopeScaling::None,
            pairing,
            amplitude: 1.0,
        }
    }

    #[test]
    fn pairs_turn_by_the_position_times_their_frequency() {
        // Frequencies of 4 dimensions at base 10000: 1 and 0.01.
        let (a, b) = (3f64, 0.03f64);
        for (pairing, order) in [
            (Pairing::Interleaved, [0, 1, 2, 3]),
            (Pairing::Halves, [0, 2, 1, 3]),
        ] {
            let rope = Rope::new(&settings(pairing), None);
            let mut head = [0.0; 5];
            head[order[0]] = 1.0;
            head[order[2]] = 2.0;
            head[4] = 7.0;
            rope.angles(&[3]).rotate(&mut head, 5);
            let expected = [a.cos(), a.sin(), 2.0 * b.cos(), 2.0 * b.sin()];
            for (&at, expected) in order.iter().zip(expected) {
                assert!((f64::from(head[at]) - expected).abs() < 1e-6);
            }
            assert_eq!(head[4], 7.0, "dimensions beyond the rotated ones stay");
        }
    }

    #[test]
    fn a_divisor_slows_its_pair_down() {
        let rope = Rope::new(&settings(Pairing::Halves), Some(&[1.0, 8.0]));
        assert_eq!(rope.frequencies[0], 1.0);
        assert!((rope.frequencies[1] - 0.00125).abs() < 1e-9);
    }

    #[test]
    fn llama3_scaling_is_the_same_from_the_file_and_from_its_parameters() {
        let scaling = RopeScaling::Llama3 {
            factor: 32.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context_length: 8192.0,
        };
        let settings = RopeSettings {
            dimensions: 64,
            base: 500_000.0,
            scaling,
            pairing: Pairing::Interleaved,
            amplitude: 1.0,
        };
        let divisors = llama3_divisors(&frequencies(500_000.0, 64), scaling);
        // The ends of the range in Llama-3.2-1B's own rope_freqs.weight.
        assert_eq!((divisors[0], divisors[31]), (1.0, 32.0));
        let from_file = Rope::new(&settings, Some(&divisors));
        let computed = Rope::new(&settings, None);
        assert_eq!(from_file.frequencies, computed.frequencies);
    }
}
