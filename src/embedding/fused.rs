//! The element-wise steps of an encoder layer, each one pass over memory, in place and on all cores. candle's own take
//! several single-threaded passes with a fresh allocation each. Every step has a twin made of candle's operations, which
//! other devices run and which the tests compare with.

use candle_core::{CpuStorage, D, DType, InplaceOp2, InplaceOp3, Layout, Result, Tensor};

use crate::kernels::parallel;
use crate::kernels::vector::{Work, widest};

/// Elements one thread takes at a time: enough to outweigh handing them over.
const CHUNK: usize = 16 * 1024;

/// The function between the two linear maps of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    /// x * Phi(x), with the exact error function.
    Gelu,
    /// GELU's approximation by tanh.
    GeluTanh,
    Relu,
}

/// activation(x + bias), in place of x. `x` [rows, n] must be the only owner of its memory; `bias` [n].
pub(super) fn add_bias_activate(
    x: Tensor,
    bias: &Tensor,
    activation: Activation,
) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return twin::add_bias_activate(&x, bias, activation);
    }
    x.inplace_op2(bias, &AddBiasActivate { activation })?;
    Ok(x)
}

/// LayerNorm(x + bias + residual) * scale + shift, in place of x. `x` [rows, n] must be the only owner of its memory;
/// `residual` [rows, n]; `params` [3, n] holds bias, scale and shift.
pub(super) fn add_and_norm(
    x: Tensor,
    residual: &Tensor,
    params: &Tensor,
    epsilon: f32,
) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return twin::add_and_norm(&x, residual, params, epsilon);
    }
    x.inplace_op3(residual, params, &AddAndNorm { epsilon })?;
    Ok(x)
}

/// The same steps in candle's operations.
mod twin {
    use super::*;

    pub(super) fn add_bias_activate(
        x: &Tensor,
        bias: &Tensor,
        activation: Activation,
    ) -> Result<Tensor> {
        let x = x.broadcast_add(bias)?;
        match activation {
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
            Activation::Relu => x.relu(),
        }
    }

    pub(super) fn add_and_norm(
        x: &Tensor,
        residual: &Tensor,
        params: &Tensor,
        epsilon: f32,
    ) -> Result<Tensor> {
        let (bias, scale, shift) = (params.get(0)?, params.get(1)?, params.get(2)?);
        let x = (x.broadcast_add(&bias)? + residual)?;
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
        let x = x.broadcast_div(&(variance + f64::from(epsilon))?.sqrt()?)?;
        x.broadcast_mul(&scale)?.broadcast_add(&shift)
    }
}

struct AddBiasActivate {
    activation: Activation,
}

impl InplaceOp2 for AddBiasActivate {
    fn name(&self) -> &'static str {
        "add-bias-activate"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_l: &Layout,
        bias: &CpuStorage,
        bias_l: &Layout,
    ) -> Result<()> {
        let bias = values(bias, bias_l)?;
        let x = values_mut(x, x_l)?;
        if bias.is_empty() || !x.len().is_multiple_of(bias.len()) {
            candle_core::bail!("bias of length {} for {} values", bias.len(), x.len());
        }
        let rows = (CHUNK / bias.len()).max(1);
        let items = x.chunks_mut(rows * bias.len()).collect();
        parallel::for_each(items, |rows| {
            add_bias_activate_rows(rows, bias, self.activation)
        });
        Ok(())
    }
}

struct AddAndNorm {
    epsilon: f32,
}

impl InplaceOp3 for AddAndNorm {
    fn name(&self) -> &'static str {
        "add-and-norm"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_l: &Layout,
        residual: &CpuStorage,
        residual_l: &Layout,
        params: &CpuStorage,
        params_l: &Layout,
    ) -> Result<()> {
        let residual = values(residual, residual_l)?;
        let params = values(params, params_l)?;
        let x = values_mut(x, x_l)?;
        let n = params.len() / 3;
        if n == 0 || !x.len().is_multiple_of(n) || residual.len() != x.len() {
            candle_core::bail!("rows of {n} for {} and {} values", x.len(), residual.len());
        }
        let rows = (CHUNK / n).max(1);
        let items = x
            .chunks_mut(rows * n)
            .zip(residual.chunks(rows * n))
            .collect();
        parallel::for_each(items, |(x, residual)| {
            add_and_norm_rows(x, residual, params, self.epsilon);
        });
        Ok(())
    }
}

/// As [`add_bias_activate`], on this thread.
pub(super) fn add_bias_activate_rows(x: &mut [f32], bias: &[f32], activation: Activation) {
    struct Rows<'a>(&'a mut [f32], &'a [f32], Activation);

    impl Work for Rows<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            let Self(x, bias, activation) = self;
            for row in x.chunks_exact_mut(bias.len()) {
                let pairs = row.iter_mut().zip(bias);
                match activation {
                    Activation::Gelu => pairs.for_each(|(x, b)| *x = gelu(*x + b)),
                    Activation::GeluTanh => pairs.for_each(|(x, b)| *x = gelu_tanh(*x + b)),
                    Activation::Relu => pairs.for_each(|(x, b)| *x = (*x + b).max(0.0)),
                }
            }
        }
    }

    widest(Rows(x, bias, activation));
}

/// As [`add_and_norm`], on this thread.
pub(super) fn add_and_norm_rows(x: &mut [f32], residual: &[f32], params: &[f32], epsilon: f32) {
    struct Rows<'a> {
        x: &'a mut [f32],
        residual: &'a [f32],
        params: &'a [f32],
        epsilon: f32,
    }

    impl Work for Rows<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            let n = self.params.len() / 3;
            let (bias, rest) = self.params.split_at(n);
            let (scale, shift) = rest.split_at(n);
            let rows = self.x.chunks_exact_mut(n);
            for (x, residual) in rows.zip(self.residual.chunks_exact(n)) {
                for ((x, r), b) in x.iter_mut().zip(residual).zip(bias) {
                    *x += r + b;
                }
                let mean = sum(x, |x| x) / n as f32;
                let variance = sum(x, |x| (x - mean) * (x - mean)) / n as f32;
                let inverse = 1.0 / (variance + self.epsilon).sqrt();
                for ((x, scale), shift) in x.iter_mut().zip(scale).zip(shift) {
                    *x = (*x - mean) * inverse * scale + shift;
                }
            }
        }
    }

    widest(Rows {
        x,
        residual,
        params,
        epsilon,
    });
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("expected contiguous {:?} values", DType::F32),
    }
}

fn values_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => candle_core::bail!("expected contiguous {:?} values", DType::F32),
    }
}

/// Independent partial sums, which the compiler may keep in vector registers.
const LANES: usize = 16;

#[inline(always)]
fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|x| f(*x)).sum();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += f(*x);
        }
    }
    rest + sums.iter().sum::<f32>()
}

/// x * Phi(x). The error function is x * P(x^2) / Q(x^2), fitted (minimax on [0, 3.92], at most 4.3e-8 off) so that it
/// needs no exponential and vectorises.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let t = (x * std::f32::consts::FRAC_1_SQRT_2).clamp(-3.92, 3.92);
    let z = t * t;
    let p = 1.992_115_6e-8;
    let p = p * z - 1.994_205_7e-6;
    let p = p * z + 1.489_714_2e-4;
    let p = p * z + 3.972_342e-3;
    let p = p * z + 5.139_565_4e-2;
    let p = p * z + 2.061_018_6e-1;
    let p = p * z + 1.128_378_8;
    let q = 1.023_982_5e-3;
    let q = q * z + 1.488_815e-2;
    let q = q * z + 1.175_594_5e-1;
    let q = q * z + 5.159_818e-1;
    let q = q * z + 1.0;
    let erf = t * p / q;
    0.5 * x * (1.0 + erf)
}

/// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), written as a logistic function.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    let inner = 1.595_769 * (x + 0.044_715 * x * x * x);
    x / (1.0 + exp(-inner))
}

/// e^x for x in [-87, 87], the ends beyond; its relative error is at most 2e-7 + 1e-7 |x|. 2^n by the exponent's bits,
/// 2^f for f in [-0.5, 0.5] by a polynomial (minimax fit of degree 5).
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let t = (x * std::f32::consts::LOG2_E).clamp(-126.0, 126.0);
    let rounded = t + ROUND;
    let f = t - (rounded - ROUND);
    let p = 1.339_086_3e-3;
    let p = p * f + 9.676_032e-3;
    let p = p * f + 5.550_357e-2;
    let p = p * f + 2.402_210_7e-1;
    let p = p * f + 6.931_472e-1;
    let p = p * f + 1.000_000_1;
    f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Values between -width and width that no rounding treats alike.
    fn tensor(shape: &[usize], width: f32) -> Tensor {
        let num_values: usize = shape.iter().product();
        let values = (0..num_values)
            .map(|i| width * (i as f32 * 0.7391).sin())
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        let difference = (a - b).unwrap().abs().unwrap();
        difference
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar()
            .unwrap()
    }

    #[test]
    fn fused_steps_agree_with_candles_operations() {
        for (rows, n) in [(1, 1), (3, 7), (129, 384)] {
            let (bias, residual, params) = (
                tensor(&[n], 2.0),
                tensor(&[rows, n], 3.0),
                tensor(&[3, n], 1.5),
            );
            let x = || tensor(&[rows, n], 6.0).affine(1.0, 0.1).unwrap();
            for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
                let ours = add_bias_activate(x(), &bias, activation).unwrap();
                let candles = twin::add_bias_activate(&x(), &bias, activation).unwrap();
                let difference = largest_difference(&ours, &candles);
                assert!(
                    difference < 2e-6,
                    "{activation:?}, {rows} x {n}: {difference}"
                );
            }
            let ours = add_and_norm(x(), &residual, &params, 1e-12).unwrap();
            let candles = twin::add_and_norm(&x(), &residual, &params, 1e-12).unwrap();
            if n > 1 {
                let difference = largest_difference(&ours, &candles);
                assert!(difference < 2e-5, "norm, {rows} x {n}: {difference}");
            }
        }
    }

    #[test]
    fn the_exponential_and_gelu_hold_their_stated_errors() {
        for i in -8700..=8700 {
            let x = i as f32 * 0.01;
            let error = (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs();
            assert!(error < 2e-7 + 1e-7 * f64::from(x.abs()), "e^{x}: {error}");
        }
        for far in [-1e30, -500.0, 500.0, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(exp(far).is_finite());
        }
        assert!(gelu(f32::NAN).is_nan());
        assert!((gelu(30.0) / 30.0 - 1.0).abs() < 1e-6);
        assert!(gelu(-30.0).abs() < 1e-5);
    }

    #[test]
    fn operands_that_do_not_match_are_errors() {
        let x = || tensor(&[4, 6], 1.0);
        assert!(add_bias_activate(x(), &tensor(&[5], 1.0), Activation::Relu).is_err());
        assert!(add_and_norm(x(), &tensor(&[3, 6], 1.0), &tensor(&[3, 6], 1.0), 0.0).is_err());
        let transposed = x().t().unwrap();
        assert!(add_bias_activate(transposed, &tensor(&[4], 1.0), Activation::Relu).is_err());
    }
}
