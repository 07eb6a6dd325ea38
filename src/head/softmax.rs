//! A softmax over the levels of each channel: exact draws by the inverse of the cumulative sum, and likelihoods, in 64
//! bits.
//!
//! Parameters of a pixel are logits `[C, L]`.

use pulp::{Simd, WithSimd};

use super::{ARCH, Draw};
use crate::sampling::random::PixelNoise;

/// Levels from which a draw takes 53 bits of noise instead of 32.
const MANY_LEVELS: usize = 4096;

/// Levels at once.
const LANES: usize = 16;

/// Draws the level of channel `channel` from its logits.
///
/// The sum is taken in the order of the levels, and the level is the first whose sum is beyond `u` of the whole; `u` has
/// the same chance for each of 2³² or 2⁵³ numbers, its ends included, so that rare levels come as often as they should.
pub fn draw(logits: &[f32], noise: PixelNoise, channel: usize, how: &Draw) -> u16 {
    let (likeliest, largest) = largest(logits);
    if how.temperature == 0.0 {
        return likeliest as u16;
    }
    let u = uniform(noise, channel, logits.len());
    let weights = Weights {
        logits,
        largest: f64::from(largest),
        reach: f64::from(how.reach()),
        cut: cut(logits, how.top_k),
        temperature: f64::from(how.temperature),
    };
    ARCH.dispatch(Chosen { weights, u, likeliest }) as u16
}

/// The weights of levels: the probability of each, as a share of the likeliest.
struct Weights<'a> {
    logits: &'a [f32],
    largest: f64,
    /// Largest distance of a logit below the largest one at which its level is kept.
    reach: f64,
    /// Smallest logit that is kept.
    cut: f64,
    temperature: f64,
}

impl Weights<'_> {
    /// Logits of the levels from `first` on; 0 beyond the last.
    #[inline(always)]
    fn lanes(&self, first: usize) -> [f64; LANES] {
        let mut logits = [f32::NEG_INFINITY; LANES];
        let count = LANES.min(self.logits.len() - first);
        logits[..count].copy_from_slice(&self.logits[first..first + count]);
        let mut weights = [0.0; LANES];
        // Not `map`, which would not become vector code.
        for (weight, logit) in weights.iter_mut().zip(&logits) {
            let logit = f64::from(*logit);
            let below = self.largest - logit;
            let of_level = exp(-below / self.temperature);
            *weight = if below > self.reach || logit < self.cut { 0.0 } else { of_level };
        }
        weights
    }
}

/// `exp(x)` for x ≤ 0, within two units in the last place; 0 below −708. Arithmetic without branches, so that it becomes
/// vector code; no fused multiply-add: every instruction set gives the same bits.
#[inline(always)]
fn exp(x: f64) -> f64 {
    /// 1.5·2⁵²: adding it rounds to a whole number, held in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    /// ln 2, in a part whose products with whole numbers are exact, and the rest.
    const LN_2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2[0] - n * LN_2[1];
    // 1/k! from 13 down to 2; |r| is at most ln 2 / 2.
    let p = 1.0 / 6_227_020_800.0;
    let p = p * r + 1.0 / 479_001_600.0;
    let p = p * r + 1.0 / 39_916_800.0;
    let p = p * r + 1.0 / 3_628_800.0;
    let p = p * r + 1.0 / 362_880.0;
    let p = p * r + 1.0 / 40_320.0;
    let p = p * r + 1.0 / 5_040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(1023);
    let scale = f64::from_bits(exponent << 52);
    let value = scale * (1.0 + (r + p * r * r));
    if x < -708.0 { 0.0 } else { value }
}

/// The level that `u` chooses, in the best instructions. A closure would not be inlined into them, and so not be made of
/// them.
struct Chosen<'a> {
    weights: Weights<'a>,
    u: f64,
    likeliest: usize,
}

impl WithSimd for Chosen<'_> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        let Self { weights, u, likeliest } = self;
        let levels = weights.logits.len();
        let mut total = 0.0;
        for first in (0..levels).step_by(LANES) {
            weights.lanes(first).iter().for_each(|weight| total += weight);
        }
        let mut rest = u * total;
        let mut last = likeliest;
        for first in (0..levels).step_by(LANES) {
            for (level, weight) in (first..).zip(weights.lanes(first)) {
                if weight > 0.0 {
                    rest -= weight;
                    last = level;
                    if rest < 0.0 {
                        return last;
                    }
                }
            }
        }
        // Past the end by rounding only.
        last
    }
}

/// A number in (0, 1) for a channel: of one word, or of two where there are many levels.
pub(super) fn uniform(noise: PixelNoise, channel: usize, levels: usize) -> f64 {
    if levels <= MANY_LEVELS {
        return (f64::from(noise.word(channel)) + 0.5) / (1_u64 << 32) as f64;
    }
    let [high, low] = [noise.word(2 * channel), noise.word(2 * channel + 1)];
    let bits = u64::from(high) << 21 | u64::from(low) >> 11;
    (bits as f64 + 0.5) / (1_u64 << 53) as f64
}

/// The first of the largest logits, and its value.
fn largest(logits: &[f32]) -> (usize, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (level, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (level, logit);
        }
    }
    best
}

/// Smallest logit among the `k` largest; 0 takes all.
fn cut(logits: &[f32], k: usize) -> f64 {
    if k == 0 || k >= logits.len() {
        return f64::NEG_INFINITY;
    }
    let mut sorted = logits.to_vec();
    let (_, least, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    f64::from(*least)
}

/// Log-likelihood of the levels of a pixel in nats.
pub fn log_likelihood(parameters: &[f32], levels: &[u16]) -> f64 {
    let of_channel = parameters.len() / levels.len();
    let channels = parameters.chunks(of_channel).zip(levels);
    channels.map(|(logits, level)| log_probability(logits, usize::from(*level))).sum()
}

fn log_probability(logits: &[f32], level: usize) -> f64 {
    let (_, largest) = largest(logits);
    let below = |logit: f32| f64::from(logit) - f64::from(largest);
    below(logits[level]) - logits.iter().map(|&logit| below(logit).exp()).sum::<f64>().ln()
}

/// Probabilities of all levels, as they are drawn.
pub fn probabilities(logits: &[f32], probabilities: &mut Vec<f64>) {
    let (_, largest) = largest(logits);
    probabilities.clear();
    probabilities.extend(logits.iter().map(|&logit| (f64::from(logit) - f64::from(largest)).exp()));
    let total: f64 = probabilities.iter().sum();
    probabilities.iter_mut().for_each(|p| *p /= total);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_the_library() {
        for i in 0..1_000_000 {
            let x = f64::from(i) * -7.08e-4 * 0.999_7;
            let (got, expected) = (exp(x), x.exp());
            assert!((got - expected).abs() <= 4.5e-16 * expected, "exp({x}) = {got}, expected {expected}");
        }
        assert_eq!([0.0, -0.0, -708.1, -1e300, f64::NEG_INFINITY].map(exp), [1.0, 1.0, 0.0, 0.0, 0.0]);
    }
}
