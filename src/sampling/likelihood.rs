//! The likelihood of a pixel as [`mixture::log_likelihood`] has it, in the time that drawing has to spare: plain
//! arithmetic over a few components at once, without branches, so that it becomes vector code.
//!
//! Probabilities are multiplied, and one logarithm is taken at the end. Where their product is too small for a
//! number, the other function takes the logarithms one by one. No fused multiply-add: every instruction set gives the
//! same bits.

use pulp::Arch;

use super::mixture::{self, MIN_LOG_SCALE, Mixture};

/// Components at once.
const LANES: usize = 8;

/// A number for each component.
type Lanes = [f64; LANES];

/// Sums of weights and probabilities below this have lost their precision.
const SMALLEST: f64 = 1e-250;

/// Log-likelihood, in nats, of the 8-bit levels that a pixel in [−1, 1] falls into.
pub fn log_likelihood(parameters: &[f32], pixel: &[f32]) -> f64 {
    let mut levels = [0; 3];
    let levels = &mut levels[..pixel.len()];
    levels.iter_mut().zip(pixel).for_each(|(to, x)| *to = mixture::level(*x));
    let mut x = [0.0; 3];
    x.iter_mut().zip(&*levels).for_each(|(to, &level)| *to = (f64::from(level) - 127.5) / 127.5);
    let mixture = Mixture::new(parameters, levels.len());
    let [joint, weights] = Arch::new().dispatch(|| sums(mixture, &x[..levels.len()]));
    if joint > SMALLEST { (joint / weights).ln() } else { mixture::log_likelihood(parameters, levels) }
}

/// The sums over all components of their weights times their probabilities, and of their weights.
#[inline(always)]
fn sums(mixture: Mixture, x: &[f64]) -> [f64; 2] {
    let logits = mixture.logits();
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut joint = [0.0; LANES];
    let mut weights = [0.0; LANES];
    for first in (0..logits.len()).step_by(LANES) {
        let last = logits.len().min(first + LANES);
        let lanes = |values: &[f32], fill: f32| {
            let mut lanes = [fill; LANES];
            lanes[..last - first].copy_from_slice(&values[first..last]);
            lanes.map(f64::from)
        };
        let of = |channel, kind| lanes(mixture.components(channel, kind), 0.0);
        let mut product = lanes(logits, f32::NEG_INFINITY);
        for i in 0..LANES {
            product[i] = exp(product[i] - f64::from(highest));
            weights[i] += product[i];
        }
        for (channel, &x_here) in x.iter().enumerate() {
            let (mut means, log_scales) = (of(channel, 0), of(channel, 1));
            for &(coefficient, before) in mixture::terms(channel) {
                let coefficients = of(coefficient, 2);
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
    [joint.iter().sum(), weights.iter().sum()]
}

/// Multiplies with the probabilities of the 8-bit bin around `x`.
#[inline(always)]
fn bins(x: f64, means: &Lanes, log_scales: &Lanes, product: &mut Lanes) {
    let parts = |i: usize| {
        let log_scale = log_scales[i].max(f64::from(MIN_LOG_SCALE));
        let steepness = exp(-log_scale);
        // Middle and half width of the bin in scales.
        ((x - means[i]) * steepness, steepness / 255.0, steepness)
    };
    if x.abs() > 0.999 {
        // All below, or all above.
        let side = if x < 0.0 { 1.0 } else { -1.0 };
        for i in 0..LANES {
            let (middle, half, _) = parts(i);
            let edge = side * middle + half;
            let e = exp(-edge.abs());
            product[i] *= if edge < 0.0 { e } else { 1.0 } / (1.0 + e);
        }
        return;
    }
    for i in 0..LANES {
        let (middle, half, steepness) = parts(i);
        let (u, q) = (exp(-middle.abs()), exp(-half));
        // σ(m + h) − σ(m − h) = sinh h / (cosh m + cosh h), in terms of e^−|m| and e^−h.
        let (mass, of) = ((1.0 - q * q) * u, q * (1.0 + u * u) + u * (1.0 + q * q));
        let is_large = mass > 1e-5 * of;
        // Else the density at the middle, times the width.
        let (density, of_density) = (steepness / 127.5 * u, (1.0 + u) * (1.0 + u));
        let (mass, of) = if is_large { (mass, of) } else { (density, of_density) };
        product[i] *= mass / of;
    }
}

#[inline(always)]
fn tanh(x: f64) -> f64 {
    let e = exp(-2.0 * x.abs());
    let size = (1.0 - e) / (1.0 + e);
    if x < 0.0 { -size } else { size }
}

/// For x from −700, below which it is the same, to 700; relative error 1e-14.
#[inline(always)]
fn exp(x: f64) -> f64 {
    /// 1.5·2⁵²: adding it rounds to a whole number, held in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    /// 1/k!, from the highest.
    const TAYLOR: [f64; 12] = [
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
        1.0,
        1.0,
    ];
    let x = if x < -700.0 { -700.0 } else { x };
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_147_180_369_123_8 - n * 1.908_214_929_270_587_7e-10;
    let mut p = 0.0;
    for c in TAYLOR {
        p = p * r + c;
    }
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(1023);
    p * f64::from_bits(exponent << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::random::Noise;

    #[test]
    fn exponentials_are_exact_enough() {
        for i in -70_000..=2_000 {
            let x = f64::from(i) * 0.01;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-14, "exp({x})");
            assert!((tanh(x) - x.tanh()).abs() < 1e-14, "tanh({x})");
        }
        assert_eq!(exp(f64::NEG_INFINITY), exp(-700.0));
        assert!(exp(f64::NAN).is_nan());
    }

    /// Parameters of all sizes that networks give, and larger; pixels everywhere, the ends among them.
    #[test]
    fn it_is_the_likelihood() {
        let mut by_logarithms = 0;
        for (case, (channels, mixtures)) in
            [(1, 1), (1, 10), (1, 5), (3, 3), (3, 10), (3, 17)].iter().enumerate()
        {
            let kinds = if *channels == 3 { 10 } else { 3 };
            for i in 0..20_000 {
                let mut draws = vec![0.0; kinds * mixtures + channels];
                Noise::new(case as u64, i).uniforms(0, &mut draws);
                let (draws, pixel) = draws.split_at(kinds * mixtures);
                let spread = [2.0, 8.0, 30.0][i as usize % 3];
                let parameters: Vec<_> = draws.iter().map(|u| spread * (u - 0.6)).collect();
                let pixel: Vec<_> = pixel.iter().map(|u| (3.0 * u - 1.5).clamp(-1.0, 1.0)).collect();
                let levels: Vec<_> = pixel.iter().map(|&x| mixture::level(x)).collect();
                let expected = mixture::log_likelihood(&parameters, &levels);
                let got = log_likelihood(&parameters, &pixel);
                by_logarithms += usize::from(expected < SMALLEST.ln());
                assert!(
                    (got - expected).abs() < 1e-9 * (1.0 + expected.abs()),
                    "{got}, expected {expected}"
                );
            }
        }
        assert!(by_logarithms > 10, "{by_logarithms}");
    }
}
