//! The gates of gated feed-forward layers (Shazeer 2020, arXiv:2002.05202) on the CPU.

use super::parallel;
use super::vector::exp;

/// `silu(gate) * up`, element by element.
pub fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    gated(gate, up, |x| x / (1.0 + exp::<false>(-x)))
}

/// `gelu(gate) * up`, element by element, with GELU's approximation by a hyperbolic tangent (Hendrycks and Gimpel 2016,
/// arXiv:1606.08415): `x / 2 * (1 + tanh(u))`, which is `x / (1 + exp(-2 u))`.
pub fn geglu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    gated(gate, up, |x| {
        let u = SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x);
        x / (1.0 + exp::<false>(-2.0 * u))
    })
}

#[inline(always)]
fn gated(gate: &[f32], up: &[f32], activation: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    let mut output = vec![0f32; gate.len()];
    let inputs = gate.chunks(CHUNK).zip(up.chunks(CHUNK));
    let chunks: Vec<_> = output.chunks_mut(CHUNK).zip(inputs).collect();
    parallel::for_each(chunks, |(output, (gate, up))| {
        for ((output, &gate), &up) in output.iter_mut().zip(gate).zip(up) {
            *output = activation(gate) * up;
        }
    });
    output
}

/// Large enough that handing it to a thread costs nothing beside it.
const CHUNK: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: fn(&[f32], &[f32]) -> Vec<f32>, activation: fn(f64) -> f64) {
        let gate: Vec<f32> = (0..40_000).map(|i| (i - 20_000) as f32 / 500.0).collect();
        let up: Vec<f32> = (0..40_000).map(|i| (i % 7) as f32 - 3.0).collect();
        for ((&y, &gate), &up) in found(&gate, &up).iter().zip(&gate).zip(&up) {
            let expected = activation(gate.into()) * f64::from(up);
            assert!((f64::from(y) - expected).abs() < 1e-6 * expected.abs().max(1.0));
        }
    }

    #[test]
    fn swiglu_agrees_with_its_definition() {
        check(swiglu, |x| x / (1.0 + (-x).exp()));
    }

    #[test]
    fn geglu_agrees_with_its_definition() {
        check(geglu, |x| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            x / 2.0 * (1.0 + u.tanh())
        });
    }
}
