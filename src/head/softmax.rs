//! A softmax over the levels of each channel: exact draws by the inverse of the cumulative sum, and likelihoods, in 64
//! bits.
//!
//! Parameters of a pixel are logits `[C, L]`.

use super::Draw;
use crate::sampling::random::PixelNoise;

/// Levels from which a draw takes 53 bits of noise instead of 32.
const MANY_LEVELS: usize = 4096;

/// Draws the level of channel `channel` from its logits.
///
/// The sum is taken in the order of the levels, and the level is the first whose sum is beyond `u` of the whole; `u` has
/// the same chance for each of 2³² or 2⁵³ numbers, its ends included, so that rare levels come as often as they should.
pub fn draw(logits: &[f32], noise: PixelNoise, channel: usize, how: &Draw) -> u16 {
    let (likeliest, largest) = largest(logits);
    if how.temperature == 0.0 {
        return likeliest as u16;
    }
    let reach = f64::from(how.reach());
    let cut = cut(logits, how.top_k);
    let temperature = f64::from(how.temperature);
    let weight = |logit: f32| {
        let below = f64::from(largest) - f64::from(logit);
        if below > reach || f64::from(logit) < cut { 0.0 } else { (-below / temperature).exp() }
    };
    let total: f64 = logits.iter().map(|&logit| weight(logit)).sum();
    let mut rest = uniform(noise, channel, logits.len()) * total;
    let mut last = likeliest;
    for (level, &logit) in logits.iter().enumerate() {
        let weight = weight(logit);
        if weight > 0.0 {
            rest -= weight;
            last = level;
            if rest < 0.0 {
                break;
            }
        }
    }
    // Past the end by rounding alone.
    last as u16
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

/// What a logit must be at least to be among the `k` largest; 0 takes all.
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
