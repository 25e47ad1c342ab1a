//! The gate of a SwiGLU feed-forward layer (Shazeer 2020, arXiv:2002.05202) on the CPU.

use super::parallel;
use super::vector::exp;

/// `silu(gate) * up`, element by element.
pub fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut output = vec![0f32; gate.len()];
    let inputs = gate.chunks(CHUNK).zip(up.chunks(CHUNK));
    let chunks: Vec<_> = output.chunks_mut(CHUNK).zip(inputs).collect();
    parallel::for_each(chunks, |(output, (gate, up))| {
        for ((output, &gate), &up) in output.iter_mut().zip(gate).zip(up) {
            *output = gate / (1.0 + exp::<false>(-gate)) * up;
        }
    });
    output
}

/// Large enough that handing it to a thread costs nothing beside it.
const CHUNK: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swiglu_agrees_with_its_definition() {
        let gate: Vec<f32> = (0..40_000).map(|i| (i - 20_000) as f32 / 500.0).collect();
        let up: Vec<f32> = (0..40_000).map(|i| (i % 7) as f32 - 3.0).collect();
        for ((&y, &gate), &up) in swiglu(&gate, &up).iter().zip(&gate).zip(&up) {
            let (gate, up) = (f64::from(gate), f64::from(up));
            let expected = gate / (1.0 + (-gate).exp()) * up;
            assert!((f64::from(y) - expected).abs() < 1e-6 * expected.abs().max(1.0));
        }
    }
}
