//! The likelihood of a pixel while the CPU draws: plain arithmetic in single precision over many components
//! at once, without branches, so that it becomes vector code. It approximates [`mixture::log_likelihood`]
//! to well within 1e-4 bits per dimension.
//!
//! Probabilities are multiplied, and one logarithm is taken at the end. If their product underflows, the
//! other function takes the logarithms one by one. No fused multiply-add: every instruction set gives the
//! same bits.

use pulp::{Simd, WithSimd};

use super::ARCH;
use super::logistic_mixture::{self as mixture, MIN_LOG_SCALE, Mixture};

/// Components at once.
const LANES: usize = 16;

/// A number for each component.
type Lanes = [f32; LANES];

/// Sums below this may have lost their precision.
const SMALLEST: f32 = 1e-25;

/// Log-likelihood of a pixel in nats, as it is told while drawing.
pub fn log_likelihood(parameters: &[f32], levels: &[u16]) -> f64 {
    let mut x = [0.0; 3];
    x.iter_mut().zip(levels).for_each(|(x, level)| *x = mixture::value(*level));
    let mixture = Mixture::new(parameters, levels.len());
    let [joint, weights] = ARCH.dispatch(Sums { mixture, x: &x[..levels.len()] });
    if joint > SMALLEST {
        (f64::from(joint) / f64::from(weights)).ln()
    } else {
        mixture::log_likelihood(parameters, levels)
    }
}

impl Mixture<'_> {
    /// Some logits, or parameters of a channel and kind, from component `first` on; beyond the last component
    /// whatever comes next.
    #[inline(always)]
    fn lanes(self, of: Option<(usize, usize)>, first: usize) -> Lanes {
        let values = self.from(of, first);
        let mut padded = [0.0; LANES];
        *values.first_chunk().unwrap_or_else(|| {
            padded[..values.len()].copy_from_slice(values);
            &padded
        })
    }
}

/// [`sums`] in the best instructions. A closure would not be inlined into them, and so not be made of them.
struct Sums<'a> {
    mixture: Mixture<'a>,
    x: &'a [f32],
}

impl WithSimd for Sums<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [f32; 2] {
        sums(self.mixture, self.x)
    }
}

/// The sums over all components of their weights times their probabilities, and of their weights.
#[inline(always)]
fn sums(mixture: Mixture, x: &[f32]) -> [f32; 2] {
    let logits = mixture.logits();
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut joint = [0.0; LANES];
    let mut weights = [0.0; LANES];
    for first in (0..logits.len()).step_by(LANES) {
        let mut product = mixture.lanes(None, first);
        for i in 0..LANES {
            let weight = exp(product[i] - highest);
            // Beyond the last component lie other parameters.
            product[i] = if first + i < logits.len() { weight } else { 0.0 };
            weights[i] += product[i];
        }
        for (channel, &x_here) in x.iter().enumerate() {
            let mut means = mixture.lanes(Some((channel, 0)), first);
            let log_scales = mixture.lanes(Some((channel, 1)), first);
            for &(coefficient, before) in mixture::terms(channel) {
                let coefficients = mixture.lanes(Some((coefficient, 2)), first);
                for i in 0..LANES {
                    means[i] += tanh(coefficients[i]) * x[before];
                }
            }
            bins(x_here, &means, &log_scales, &mut product);
        }
        for i in 0..LANES {
            joint[i] += product[i];
        }
    }
    [sum(&joint), sum(&weights)]
}

/// In four sums, of which none waits for another.
#[inline(always)]
fn sum(lanes: &Lanes) -> f32 {
    let (fours, _) = lanes.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for four in fours {
        for i in 0..4 {
            sums[i] += four[i];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// Multiplies with the probabilities of the 8-bit bin around `x`.
#[inline(always)]
fn bins(x: f32, means: &Lanes, log_scales: &Lanes, product: &mut Lanes) {
    let mut steepness = [0.0; LANES];
    for i in 0..LANES {
        let log_scale = log_scales[i];
        steepness[i] = exp(if log_scale < MIN_LOG_SCALE { -MIN_LOG_SCALE } else { -log_scale });
    }
    if x.abs() > 0.999 {
        // All below, or all above.
        let side = if x < 0.0 { 1.0 } else { -1.0 };
        for i in 0..LANES {
            let edge = (side * (x - means[i]) + 1.0 / 255.0) * steepness[i];
            let e = exp(-edge.abs());
            product[i] *= if edge < 0.0 { e } else { 1.0 } / (1.0 + e);
        }
        return;
    }
    for i in 0..LANES {
        // Middle and half width of the bin in scales.
        let (middle, half) = ((x - means[i]) * steepness[i], steepness[i] * (1.0 / 255.0));
        let (u, q) = (exp(-middle.abs()), exp(-half));
        // 1 − q²; its Taylor series where the difference would lose precision.
        let h = half;
        let series = 2.0 * h * (1.0 - h * (1.0 - h * (2.0 / 3.0 - h * (1.0 / 3.0 - h * (2.0 / 15.0)))));
        let wide = if h < 0.1 { series } else { 1.0 - q * q };
        // σ(m + h) − σ(m − h) = sinh h / (cosh m + cosh h), in terms of e^−|m| and e^−h.
        let (mass, of) = (wide * u, q * (1.0 + u * u) + u * (1.0 + q * q));
        let is_large = mass > 1e-5 * of;
        // Else the density at the middle, times the width.
        let (density, of_density) = (steepness[i] * (1.0 / 127.5) * u, (1.0 + u) * (1.0 + u));
        let (mass, of) = if is_large { (mass, of) } else { (density, of_density) };
        product[i] *= mass / of;
    }
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    let size = (1.0 - e) / (1.0 + e);
    if x < 0.0 { -size } else { size }
}

/// For x from −87, below which it is the same, to 87; relative error 1e-6.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5·2²³: adding it rounds to a whole number, held in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    // Taylor's polynomial, in an order that leaves little to wait for.
    let r2 = r * r;
    let high = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0);
    let p = (1.0 + r) + r2 * ((0.5 + r * (1.0 / 6.0)) + r2 * high);
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    p * f32::from_bits(exponent << 23)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::random::Noise;

    #[test]
    fn exponentials_are_close() {
        for i in -8_700..=800 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x);
            assert!((f64::from(exp(x)) / exact.exp() - 1.0).abs() < 1e-6, "exp({x})");
            assert!((f64::from(tanh(x)) - exact.tanh()).abs() < 3e-7, "tanh({x})");
        }
        assert_eq!(exp(f32::NEG_INFINITY), exp(-87.0));
        assert!(exp(f32::NAN).is_nan());
    }

    /// Mixtures with scales down to the least, and pixels everywhere, the ends among them. Positions have relative
    /// errors of 2⁻²⁴, in units of scales down to e⁻⁷: 1e-4 nats, and a few times as much for a sum of three.
    #[test]
    fn it_is_close_to_the_likelihood() {
        let (mut by_logarithms, mut all) = (0, 0);
        for (case, (channels, mixtures)) in
            [(1, 1), (1, 10), (1, 5), (3, 3), (3, 10), (3, 17)].iter().enumerate()
        {
            let kinds = if *channels == 3 { 10 } else { 3 };
            let mut total = 0.0;
            for i in 0..20_000 {
                let mut draws = vec![0.0; kinds * mixtures + channels];
                Noise::new(case as u64, i).uniforms(0, &mut draws);
                let (draws, pixel) = draws.split_at(kinds * mixtures);
                let spread = [2.0, 5.0, 15.0][i as usize % 3];
                let parameters: Vec<_> = draws.iter().map(|u| spread * (u - 0.6)).collect();
                let levels: Vec<_> = pixel.iter().map(|u| mixture::level(3.0 * u - 1.5)).collect();
                let expected = mixture::log_likelihood(&parameters, &levels);
                let got = log_likelihood(&parameters, &levels);
                by_logarithms += usize::from(expected < f64::from(SMALLEST).ln());
                all += 1;
                assert!((got - expected).abs() < 1e-3, "{got}, expected {expected}");
                total += (got - expected) / (*channels as f64 * std::f64::consts::LN_2);
            }
            assert!((total / 20_000.0).abs() < 1e-6, "off by {} bits/dim", total / 20_000.0);
        }
        assert!(by_logarithms > 10 && by_logarithms < all / 2, "{by_logarithms}");
    }
}
