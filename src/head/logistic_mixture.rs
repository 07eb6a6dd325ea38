//! The discretized mixture of logistics (Salimans et al. 2017, section 2.1; `nn.py` of openai/pixel-cnn):
//! drawing a pixel from it, and the likelihood of an 8-bit pixel under it.
//!
//! Parameters of a pixel are `logits[M]`, then for each channel `means[M], log_scales[M]` and, for RGB,
//! `coeffs[M]`. `shaders/shared/mixture.wgsl` draws in the same way.

use super::Draw;

/// Levels of a channel.
pub const LEVELS: usize = 256;

/// Parameters of a pixel: `10·M` for 3 channels, `3·M` for 1.
pub fn parameters(channels: usize, mixtures: usize) -> usize {
    mixtures * if channels == 3 { 10 } else { 3 }
}

/// Scales are at least `exp(MIN_LOG_SCALE)`.
pub(super) const MIN_LOG_SCALE: f32 = -7.0;

/// The parameters of one pixel, by name.
#[derive(Clone, Copy)]
pub(super) struct Mixture<'a> {
    parameters: &'a [f32],
    mixtures: usize,
    channels: usize,
}

impl<'a> Mixture<'a> {
    pub(super) fn new(parameters: &'a [f32], channels: usize) -> Self {
        let kinds = if channels == 3 { 10 } else { 3 };
        let mixtures = parameters.len() / kinds;
        Self { parameters, mixtures, channels }
    }

    #[inline(always)]
    pub(super) fn logits(self) -> &'a [f32] {
        &self.parameters[..self.mixtures]
    }

    /// All parameters from a component on, of the logits or of a channel and kind; `kind` 0: means, 1:
    /// log-scales, 2: coefficients.
    #[inline(always)]
    pub(super) fn from(self, of: Option<(usize, usize)>, component: usize) -> &'a [f32] {
        let kinds = if self.channels == 3 { 3 } else { 2 };
        let block = of.map_or(0, |(channel, kind)| 1 + channel * kinds + kind);
        &self.parameters[self.mixtures * block + component..]
    }

    fn of(self, channel: usize, kind: usize, component: usize) -> f32 {
        self.from(Some((channel, kind)), component)[0]
    }

    fn mean(self, channel: usize, component: usize) -> f32 {
        self.of(channel, 0, component)
    }

    fn log_scale(self, channel: usize, component: usize) -> f32 {
        self.of(channel, 1, component).max(MIN_LOG_SCALE)
    }

    /// Terms that earlier channels add to a channel's mean: raw coefficients with their channels.
    fn terms(self, channel: usize, component: usize) -> impl Iterator<Item = (f32, usize)> + 'a {
        terms(channel).iter().map(move |&(coefficient, x)| (self.of(coefficient, 2, component), x))
    }
}

/// Terms that earlier channels add to a channel's mean: the channel that holds the coefficient, and the
/// channel that it multiplies.
pub(super) fn terms(channel: usize) -> &'static [(usize, usize)] {
    // c₀ is the first channel's, c₁ and c₂ are the second's and third's: μ₁ += c₀x₀, μ₂ += c₁x₀ + c₂x₁.
    match channel {
        1 => &[(0, 0)],
        2 => &[(1, 0), (2, 1)],
        _ => &[],
    }
}

/// The 8-bit level of a value in [−1, 1]: `⌊127.5x + 128⌋`.
pub fn level(x: f32) -> u16 {
    (127.5 * x + 128.0).floor().clamp(0.0, 255.0) as u16
}

/// The network's input for an 8-bit level: `(v − 127.5) / 127.5`.
pub fn value(level: u16) -> f32 {
    (f32::from(level) - 127.5) / 127.5
}

/// Largest difference of logits that Gumbel noise, −ln(−ln u), can make up for: uniform numbers are from
/// 1e-5 to 1 − 1e-5.
const GUMBEL_REACH: f32 = 14.0;

/// Draws a pixel: the component by Gumbel-max from the uniform numbers 0 to M − 1, then each channel from
/// the next; `noise(b)` gives numbers 4b to 4b + 3. Noise of components that cannot win is not requested.
///
/// Unless `continuous`, each sub-pixel is rounded to its 8-bit level before it conditions the next. At
/// temperature 1, truncation 0 and min-p 0 no operation on them changes a bit.
pub fn draw(parameters: &[f32], noise: impl Fn(u32) -> [f32; 4], how: Draw, pixel: &mut [f32]) {
    let Draw { continuous, temperature, truncation, .. } = how;
    let mixture = Mixture::new(parameters, pixel.len());
    let logits = mixture.logits();
    let (largest, reach) = (largest(logits), how.reach().min(GUMBEL_REACH * temperature));
    let mut component = 0;
    let mut best = f32::NEG_INFINITY;
    for (block, logits) in logits.chunks(4).enumerate() {
        if logits.iter().all(|logit| largest - logit > reach) {
            continue;
        }
        for (i, (logit, u)) in logits.iter().zip(noise(block as u32)).enumerate() {
            // argmax(logits / T + gumbel), in a form that T = 0 does not break.
            let score = logit - temperature * (-u.ln()).ln();
            if score > best && largest - logit <= reach {
                (component, best) = (4 * block + i, score);
            }
        }
    }
    for channel in 0..pixel.len() {
        let number = mixture.mixtures + channel;
        let u = noise((number / 4) as u32)[number % 4];
        let u = 0.5 * truncation + (1.0 - truncation) * u;
        let scale = temperature * mixture.log_scale(channel, component).exp();
        let mut y = mixture.mean(channel, component) + scale * (u.ln() - (1.0 - u).ln());
        for (coefficient, x) in mixture.terms(channel, component) {
            y += coefficient.tanh() * pixel[x];
        }
        let x = y.clamp(-1.0, 1.0);
        pixel[channel] = if continuous { x } else { value(level(x)) };
    }
}

fn largest(logits: &[f32]) -> f32 {
    // Eight at a time, as a vector.
    let mut lanes = [f32::NEG_INFINITY; 8];
    for logits in logits.chunks(8) {
        for (lane, &logit) in lanes.iter_mut().zip(logits) {
            *lane = lane.max(logit);
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Log-likelihood of an 8-bit pixel in nats, in double precision, as the definition has it;
/// [`super::fast_likelihood`] is faster, and `shaders/shared/likelihood.wgsl` follows it on a GPU.
pub fn log_likelihood(parameters: &[f32], pixel: &[u16]) -> f64 {
    let mixture = Mixture::new(parameters, pixel.len());
    let x: Vec<f64> = pixel.iter().map(|&v| (f64::from(v) - 127.5) / 127.5).collect();
    let joint = (0..mixture.mixtures).map(|i| {
        let mut sum = f64::from(mixture.logits()[i]);
        for (channel, &v) in x.iter().enumerate() {
            let mut mean = f64::from(mixture.mean(channel, i));
            for (coefficient, before) in mixture.terms(channel, i) {
                mean += f64::from(coefficient).tanh() * x[before];
            }
            sum += log_bin(v, mean, f64::from(mixture.log_scale(channel, i)));
        }
        sum
    });
    let logits = mixture.logits().iter().map(|&l| f64::from(l));
    log_sum_exp(joint.collect()) - log_sum_exp(logits.collect())
}

/// Log-probability of the 8-bit bin around `x` under one logistic.
fn log_bin(x: f64, mean: f64, log_scale: f64) -> f64 {
    let scale = log_scale.exp();
    let above = (x - mean + 1.0 / 255.0) / scale;
    let below = (x - mean - 1.0 / 255.0) / scale;
    if x < -0.999 {
        -softplus(-above)
    } else if x > 0.999 {
        -softplus(below)
    } else {
        let mass = sigmoid(above) - sigmoid(below);
        if mass > 1e-5 {
            mass.ln()
        } else {
            let middle = (x - mean) / scale;
            middle - log_scale - 2.0 * softplus(middle) - 127.5_f64.ln()
        }
    }
}

/// Probabilities of the levels of the channel after `before`, given those, `[256]`: the likelihood of each.
pub fn probabilities(parameters: &[f32], channels: usize, before: &[u16], probabilities: &mut Vec<f64>) {
    let mixture = Mixture::new(parameters, channels);
    let channel = before.len();
    let seen: Vec<f64> = before.iter().map(|&v| (f64::from(v) - 127.5) / 127.5).collect();
    let mean = |c: usize, i: usize| {
        let shift = mixture.terms(c, i).map(|(coefficient, x)| f64::from(coefficient).tanh() * seen[x]);
        f64::from(mixture.mean(c, i)) + shift.sum::<f64>()
    };
    let scale = |c: usize, i: usize| f64::from(mixture.log_scale(c, i));
    let weights: Vec<_> = (0..mixture.mixtures)
        .map(|i| {
            let of_seen = seen.iter().enumerate().map(|(c, &x)| log_bin(x, mean(c, i), scale(c, i)));
            f64::from(mixture.logits()[i]) + of_seen.sum::<f64>()
        })
        .collect();
    let all = log_sum_exp(weights.clone());
    probabilities.clear();
    probabilities.resize(LEVELS, 0.0);
    for (i, weight) in weights.iter().enumerate() {
        let share = (weight - all).exp();
        if share > NOTHING {
            add_bins(share, mean(channel, i), scale(channel, i), probabilities);
        }
    }
    // Bins computed from the density at their middle do not add up to 1 exactly.
    let total: f64 = probabilities.iter().sum();
    probabilities.iter_mut().for_each(|p| *p /= total);
}

/// Smaller probabilities are left out.
const NOTHING: f64 = 1e-40;

/// Adds a share of the mass of the bins of one logistic: the exponential of [`log_bin`]. Bins below
/// [`NOTHING`] are left out.
fn add_bins(share: f64, mean: f64, log_scale: f64, bins: &mut [f64]) {
    let scale = log_scale.exp();
    let (half, density) = (1.0 / 255.0 / scale, 1.0 / (127.5 * scale));
    let last = bins.len() - 1;
    // The outermost bins extend to infinity.
    let (middle, reach) = (mean.clamp(-1.0, 1.0), -NOTHING.ln() * scale);
    let level = |x: f64| (127.5 * x + 127.5).clamp(0.0, last as f64);
    let (begin, end) = (level(middle - reach).floor() as usize, level(middle + reach).ceil() as usize);
    // The level below, and the logistic between the two.
    let mut edge = (usize::MAX, 0.0);
    for (level, bin) in bins.iter_mut().enumerate().take(end + 1).skip(begin) {
        let z = ((level as f64 - 127.5) / 127.5 - mean) / scale;
        if level == 0 || level == last {
            *bin += share * sigmoid(if level == 0 { z + half } else { half - z });
            continue;
        }
        // Further out, it is less than 1e-5.
        if z.abs() < half + 12.0 {
            let below = if edge.0 == level - 1 { edge.1 } else { sigmoid(z - half) };
            edge = (level, sigmoid(z + half));
            let mass = edge.1 - below;
            if mass > 1e-5 {
                *bin += share * mass;
                continue;
            }
        }
        let e = (-z.abs()).exp();
        *bin += share * density * e / ((1.0 + e) * (1.0 + e));
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn log_sum_exp(values: Vec<f64>) -> f64 {
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + values.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masses_of_all_bins_are_those_of_each() {
        for (mean, log_scale) in [
            (0.0, -1.0),
            (-0.4, -3.0),
            (0.73, -7.0),
            (1.5, -2.0),
            (-30.0, 0.5),
            (1.5, -7.0),
            (-30.0, -4.0),
            (0.1, 5.0),
        ] {
            let mut bins = [0.0; LEVELS];
            add_bins(0.25, mean, log_scale, &mut bins);
            for (level, got) in bins.into_iter().enumerate() {
                let expected = 0.25 * log_bin((level as f64 - 127.5) / 127.5, mean, log_scale).exp();
                assert!(
                    (got - expected).abs() <= 1e-9 * expected + 1e-37,
                    "{mean} {log_scale} {level}: {got} {expected}"
                );
            }
        }
    }
}
