//! Activations as plain arithmetic without branches, so that loops over them become vector code.
//!
//! No fused multiply-add: every instruction set gives the same bits. NaN stays NaN.

use pulp::{Arch, Simd, WithSimd};

use crate::graph::Activation;

/// `2^n` and `q` with `exp(x) = 2^n·q + 2^n`, for x ≤ 0 (after Cephes `expf`; relative error 2e-7).
#[inline(always)]
fn exp_parts(x: f32) -> (f32, f32) {
    /// 1.5·2²³: adding it rounds to a whole number, held in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = ((((1.987_569_1e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r
        + 1.666_666_5e-1)
        * r
        + 0.5;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    (f32::from_bits(exponent << 23), p * r * r + r)
}

/// `(elu(x), elu(−x))`, with one exponential for both.
#[inline(always)]
pub fn elu_both(x: f32) -> (f32, f32) {
    let (scale, q) = exp_parts(-x.abs());
    let negative = scale * q + (scale - 1.0);
    if x > 0.0 { (x, negative) } else { (negative, -x) }
}

/// `1 / (1 + exp(−x))`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let (scale, q) = exp_parts(-x.abs());
    let e = scale * q + scale;
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let (scale, q) = exp_parts(-2.0 * x.abs());
    // exp(−2|x|) − 1, which keeps its precision near 0.
    let less = scale * q + (scale - 1.0);
    let size = -less / (2.0 + less);
    if x < 0.0 { -size } else { size }
}

/// `exp(x)` from −87 to 87; below, exp(−87); above, infinity.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let (scale, q) = exp_parts(-x.abs());
    let e = scale * q + scale;
    let large = if x > 87.0 { f32::INFINITY } else { 1.0 / e };
    if x > 0.0 { large } else { e }
}

/// `ln(1 + exp(x))`.
#[inline(always)]
fn softplus(x: f32) -> f32 {
    let e = exp(-x.abs());
    // ln(1 + e) = 2 artanh(e / (2 + e)), whose argument is at most 1/3.
    let z = e / (2.0 + e);
    let s = z * z;
    let p = (((((1.0 / 13.0) * s + 1.0 / 11.0) * s + 1.0 / 9.0) * s + 1.0 / 7.0) * s + 1.0 / 5.0) * s
        + 1.0 / 3.0;
    (if x < 0.0 { 0.0 } else { x }) + 2.0 * z * (1.0 + s * p)
}

/// The error function (a rational approximation on [−4, 4], where it has reached ±1 in single precision).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let p = -2.726_142_3e-10;
    let p = p * s + 2.770_681_4e-8;
    let p = p * s - 2.101_024_1e-6;
    let p = p * s - 5.692_506_3e-5;
    let p = p * s - 7.349_906_3e-4;
    let p = p * s - 2.954_6e-3;
    let p = p * s - 1.609_603_3e-2;
    let q = -1.456_607_2e-5;
    let q = q * s - 2.133_740_5e-4;
    let q = q * s - 1.682_827e-3;
    let q = q * s - 7.373_329e-3;
    let q = q * s - 1.426_473_9e-2;
    x * p / q
}

/// `x · Φ(x)`.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let value = 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
    // There the sum above is rounding error only.
    if x < -5.6 { -0.0 } else { value }
}

/// Its approximation by a hyperbolic tangent.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)))
}

/// `f` of each number.
#[inline(always)]
fn each(from: &[f32], to: &mut [f32], f: impl Fn(f32) -> f32) {
    for (to, x) in to.iter_mut().zip(from) {
        *to = f(*x);
    }
}

/// An activation of one group, value by value. In a context of wide vectors, the frequent ones are compiled
/// here; the others in a function of their own, because their code would slow those down.
#[inline(always)]
pub fn apply(arch: Arch, activation: Activation, from: &[f32], to: &mut [f32]) {
    match activation {
        Activation::Raw => to.copy_from_slice(from),
        // Not `max`, which would swallow a NaN.
        Activation::Relu => each(from, to, |x| if x < 0.0 { 0.0 } else { x }),
        Activation::Elu | Activation::ConcatElu => each(from, to, |x| elu_both(x).0),
        _ => apart(arch, activation, from, to),
    }
}

#[inline(never)]
fn apart(arch: Arch, activation: Activation, from: &[f32], to: &mut [f32]) {
    arch.dispatch(Apart { activation, from, to });
}

struct Apart<'a> {
    activation: Activation,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Apart<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { activation, from, to } = self;
        match activation {
            Activation::Raw | Activation::Relu | Activation::Elu | Activation::ConcatElu => {
                unreachable!("these are frequent")
            }
            Activation::LeakyRelu(slope) => each(from, to, |x| if x < 0.0 { slope * x } else { x }),
            Activation::Tanh => each(from, to, tanh),
            Activation::Sigmoid => each(from, to, sigmoid),
            Activation::Silu => each(from, to, |x| x * sigmoid(x)),
            Activation::Gelu => each(from, to, gelu),
            Activation::GeluTanh => each(from, to, gelu_tanh),
            Activation::Softplus => each(from, to, softplus),
            Activation::Exp => each(from, to, exp),
        }
    }
}

/// `to = f(a) · g(b)`, plus the residual if there is one.
#[inline(always)]
pub fn gate(
    arch: Arch,
    [f, g]: [Activation; 2],
    [a, b]: [&[f32]; 2],
    residual: Option<&[f32]>,
    to: &mut [f32],
    scratch: &mut [f32],
) {
    if let ([Activation::Raw, Activation::Sigmoid], Some(x)) = ([f, g], residual) {
        for (to, (x, (a, b))) in to.iter_mut().zip(x.iter().zip(a.iter().zip(b))) {
            *to = x + a * sigmoid(*b);
        }
        return;
    }
    match [f, g] {
        [Activation::Tanh, Activation::Sigmoid] => {
            for (to, (a, b)) in to.iter_mut().zip(a.iter().zip(b)) {
                *to = tanh(*a) * sigmoid(*b);
            }
        }
        _ => {
            apply(arch, f, a, to);
            apply(arch, g, b, scratch);
            to.iter_mut().zip(scratch).for_each(|(to, g)| *to *= *g);
        }
    }
    if let Some(x) = residual {
        to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
    }
}

/// True if all values are finite, by their bits, without a branch.
#[inline(always)]
pub fn all_finite(values: &[f32]) -> bool {
    let largest = values.iter().fold(0, |largest: u32, x| largest.max(x.to_bits() & 0x7fff_ffff));
    largest < f32::INFINITY.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::reference;

    /// Tolerance: a few units in the last place of numbers around 1.
    #[test]
    fn activations_match_double_precision() {
        for i in -200_000..=200_000 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x);
            let elu = |x: f64| if x > 0.0 { x } else { x.exp_m1() };
            let (plus, minus) = elu_both(x);
            assert!((f64::from(plus) - elu(exact)).abs() < 3e-7, "elu({x}) = {plus}");
            assert!((f64::from(minus) - elu(-exact)).abs() < 3e-7, "elu(-{x}) = {minus}");
            let expected = 1.0 / (1.0 + (-exact).exp());
            assert!((f64::from(sigmoid(x)) - expected).abs() < 3e-7, "sigmoid({x})");
        }
        for x in [f32::MAX, f32::INFINITY, 1e30] {
            assert_eq!((elu_both(x).1, elu_both(-x).0), (-1.0, -1.0));
            assert_eq!((sigmoid(x), elu_both(x).0), (1.0, x));
            assert!(sigmoid(-x) < 1e-37);
        }
    }

    /// Tolerance: a few units in the last place of numbers around 1, or of the number where that is larger.
    #[test]
    fn every_activation_matches_its_definition() {
        let inputs: Vec<_> = (-20_000..=20_000).map(|i| i as f32 * 1e-3).collect();
        for activation in Activation::ALL {
            let (mut got, mut gated, mut scratch) = (inputs.clone(), inputs.clone(), inputs.clone());
            // Rounding leaves this error of a sum near 0, times |x| / 2.
            let tolerance = if activation == Activation::Gelu { 1e-6 } else { 4e-7 };
            let arch = Arch::new();
            apply(arch, activation, &inputs, &mut got);
            let gates = [activation, Activation::Sigmoid];
            gate(arch, gates, [&inputs, &inputs], None, &mut gated, &mut scratch);
            for (x, (got, gated)) in inputs.iter().map(|x| f64::from(*x)).zip(got.iter().zip(&gated)) {
                let value = reference::apply(activation, x);
                for (got, expected) in
                    [(got, value), (gated, value * reference::apply(Activation::Sigmoid, x))]
                {
                    let error = (f64::from(*got) - expected).abs() / expected.abs().max(1.0);
                    assert!(error < tolerance, "{activation:?} of {x}: {got}, expected {expected}");
                }
            }
        }
        for activation in Activation::ALL {
            let mut got = [0.0];
            apply(Arch::new(), activation, &[f32::NAN], &mut got);
            assert!(got[0].is_nan(), "{activation:?}");
        }
    }

    #[test]
    fn values_that_are_not_finite_are_seen() {
        let good = [0.0, -0.0, f32::MAX, f32::MIN, 1e-45, -1.0];
        assert!(all_finite(&good) && all_finite(&[]));
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..good.len() {
                let mut values = good;
                values[at] = bad;
                assert!(!all_finite(&values), "{bad} at {at}");
            }
        }
    }

    #[test]
    fn nan_stays_nan() {
        assert!(sigmoid(f32::NAN).is_nan() && elu_both(f32::NAN).0.is_nan());
        assert!(elu_both(f32::NAN).1.is_nan());
    }
}
