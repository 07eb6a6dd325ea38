//! The Bernoulli head: two levels per channel, independent of each other, with a logit each.
//!
//! Parameters of a pixel are `[C]`; a channel is 1 with probability `σ(z)`.

use super::{Draw, softmax};
use crate::sampling::random::PixelNoise;

/// Draws the level of channel `channel` from its logit.
pub fn draw(logit: f32, noise: PixelNoise, channel: usize, how: &Draw) -> u16 {
    let logit = f64::from(logit);
    let likeliest = u16::from(logit > 0.0);
    // The other level has exp(−|z| / T) of its probability.
    let is_alone = how.temperature == 0.0 || how.top_k == 1 || logit.abs() > f64::from(how.reach());
    if is_alone {
        return likeliest;
    }
    let of_one = 1.0 / (1.0 + (-logit / f64::from(how.temperature)).exp());
    u16::from(softmax::uniform(noise, channel, 2) < of_one)
}

/// Log-likelihood of the levels of a pixel in nats.
pub fn log_likelihood(logits: &[f32], levels: &[u16]) -> f64 {
    let of_channel = |(&logit, &level): (&f32, &u16)| {
        let against = if level == 1 { -f64::from(logit) } else { f64::from(logit) };
        // −ln(1 + exp(against))
        -(against.max(0.0) + (-against.abs()).exp().ln_1p())
    };
    logits.iter().zip(levels).map(of_channel).sum()
}
