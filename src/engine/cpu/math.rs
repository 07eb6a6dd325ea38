//! Activations as plain arithmetic without branches, so that loops over them become vector code.
//!
//! No fused multiply-add: every instruction set gives the same bits. NaN stays NaN.

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

/// Whether all values are finite, by their bits: without a branch.
#[inline(always)]
pub fn all_finite(values: &[f32]) -> bool {
    let largest = values.iter().fold(0, |largest: u32, x| largest.max(x.to_bits() & 0x7fff_ffff));
    largest < f32::INFINITY.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

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
