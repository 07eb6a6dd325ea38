//! Heads: the distributions of a pixel, given its parameters.
//!
//! A head states its number of parameters, draws levels from them, and gives the likelihood of levels. Each
//! kind of head has its own file, and its WGSL fragment in `shaders/shared`.

mod bernoulli;
pub mod fast_likelihood;
pub mod logistic_mixture;
mod softmax;

use std::ops::Range;
use std::sync::LazyLock;

use pulp::Arch;
use serde::{Deserialize, Serialize};

use crate::sampling::random::PixelNoise;

/// The machine's instructions; to ask for them takes as long as a pixel.
static ARCH: LazyLock<Arch> = LazyLock::new(Arch::new);

/// Channels of a pixel, at most.
pub const MOST_CHANNELS: usize = 4;

/// The distribution of a pixel, given its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    kind: HeadKind,
    channels: usize,
    levels: usize,
    /// True if a channel's parameters depend on the channels before it.
    in_steps: bool,
}

/// The kinds of heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// A mixture of logistics over 256 levels, its channels one after another.
    LogisticMixture {
        /// Components.
        mixtures: usize,
    },
    /// A softmax over the levels of each channel.
    Softmax,
    /// Two levels a channel, by a logit.
    Bernoulli,
}

/// The settings of a draw. The default is the model itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draw {
    /// `T`: logits are divided by T, and the noise of a logistic is multiplied by T. At 0 the likeliest is drawn.
    pub temperature: f32,
    /// Draw from the `top_k` likeliest levels of a softmax only; from all, if 0. Levels tied with the last
    /// of them count too.
    pub top_k: usize,
    /// Drop components or levels less than `min_p` times as likely as the likeliest, at this temperature.
    pub min_p: f32,
    /// `P`: the uniform number `u` of a logistic draw becomes `P/2 + (1 − P)·u`, which cuts its tails.
    pub truncation: f32,
    /// The network sees the unrounded values of a mixture of logistics, as with the published samplers.
    pub continuous: bool,
}

impl Default for Draw {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, min_p: 0.0, truncation: 0.0, continuous: false }
    }
}

impl Draw {
    /// Largest distance of a logit below the largest one at which it is kept.
    pub fn reach(&self) -> f32 {
        if self.min_p > 0.0 { -self.temperature * self.min_p.ln() } else { f32::MAX }
    }
}

/// The reason why a head cannot do a [`Draw`].
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum DrawError {
    /// A number is out of its range.
    #[error("{setting}: expected {expected}, found {found}")]
    Range {
        /// The setting.
        setting: &'static str,
        /// The range.
        expected: &'static str,
        /// The number.
        found: f32,
    },
    /// The head has no such setting.
    #[error("{setting}: this model draws from {head}, which has no such thing")]
    Other {
        /// The setting.
        setting: &'static str,
        /// The kind of head.
        head: &'static str,
    },
}

impl Head {
    /// A mixture of logistics for images of 1 or 3 channels.
    pub fn logistic_mixture(channels: usize, mixtures: usize) -> Self {
        Self {
            kind: HeadKind::LogisticMixture { mixtures },
            channels,
            levels: logistic_mixture::LEVELS,
            in_steps: false,
        }
    }

    /// A softmax over the levels of each channel; `in_steps` if a channel's parameters depend on those before it.
    pub fn softmax(channels: usize, levels: usize, in_steps: bool) -> Self {
        Self { kind: HeadKind::Softmax, channels, levels, in_steps: in_steps && channels > 1 }
    }

    /// Two levels a channel, by a logit; `in_steps` as with [`Self::softmax`].
    pub fn bernoulli(channels: usize, in_steps: bool) -> Self {
        Self { kind: HeadKind::Bernoulli, channels, levels: 2, in_steps: in_steps && channels > 1 }
    }

    /// Its kind.
    pub fn kind(&self) -> HeadKind {
        self.kind
    }

    /// Its kind, for people.
    pub fn name(&self) -> &'static str {
        match self.kind {
            HeadKind::LogisticMixture { .. } => "a mixture of logistics",
            HeadKind::Softmax => "a softmax over levels",
            HeadKind::Bernoulli => "a Bernoulli distribution",
        }
    }

    /// Channels of a pixel.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Levels of a channel.
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// Parameters of a pixel.
    pub fn parameters(&self) -> usize {
        match self.kind {
            HeadKind::LogisticMixture { mixtures } => logistic_mixture::parameters(self.channels, mixtures),
            HeadKind::Softmax => self.channels * self.levels,
            HeadKind::Bernoulli => self.channels,
        }
    }

    /// Length of a run of parameters of the same meaning, and so of similar size.
    pub fn group(&self) -> usize {
        match self.kind {
            HeadKind::LogisticMixture { mixtures } => mixtures,
            HeadKind::Softmax => self.levels,
            HeadKind::Bernoulli => 1,
        }
    }

    /// Steps of a pixel: in each, the network computes new parameters.
    pub fn steps(&self) -> usize {
        if self.in_steps { self.channels } else { 1 }
    }

    /// Refuses a draw that this head cannot do.
    ///
    /// # Errors
    /// [`DrawError`]
    pub fn check(&self, draw: &Draw) -> Result<(), DrawError> {
        let range = |setting, expected, found, is_good| match is_good {
            true => Ok(()),
            false => Err(DrawError::Range { setting, expected, found }),
        };
        let Draw { temperature, min_p, truncation, .. } = *draw;
        range(
            "temperature",
            "a finite number from 0",
            temperature,
            temperature >= 0.0 && temperature.is_finite(),
        )?;
        range("min-p", "a number from 0 to 1", min_p, (0.0..=1.0).contains(&min_p))?;
        range("truncation", "a number from 0, less than 1", truncation, (0.0..1.0).contains(&truncation))?;
        let other = |setting| Err(DrawError::Other { setting, head: self.name() });
        match self.kind {
            HeadKind::LogisticMixture { .. } if draw.top_k > 0 => other("top-k"),
            HeadKind::Softmax | HeadKind::Bernoulli if truncation > 0.0 => other("truncation"),
            HeadKind::Softmax | HeadKind::Bernoulli if draw.continuous => other("unrounded values"),
            _ => Ok(()),
        }
    }

    /// The step that draws a channel.
    pub fn step_of(&self, channel: usize) -> usize {
        if self.in_steps { channel } else { 0 }
    }

    /// The channels that a step draws.
    pub fn channels_of(&self, step: usize) -> Range<usize> {
        if self.in_steps { step..step + 1 } else { 0..self.channels }
    }

    /// The parameters that a step's channels are drawn from.
    pub fn parameters_of(&self, step: usize) -> Range<usize> {
        let of_channel = self.parameters() / self.channels;
        match self.in_steps {
            true => step * of_channel..(step + 1) * of_channel,
            false => 0..self.parameters(),
        }
    }

    /// Draws the channels of a step from a pixel's parameters and the noise of its place. `values` receives
    /// the values of an unrounded draw, for heads that have one.
    pub fn draw(
        &self,
        step: usize,
        parameters: &[f32],
        noise: PixelNoise,
        how: &Draw,
        levels: &mut [u16],
        values: &mut [f32],
    ) {
        match self.kind {
            HeadKind::LogisticMixture { .. } => {
                logistic_mixture::draw(parameters, |block| noise.block(block), *how, values);
                levels.iter_mut().zip(values).for_each(|(level, x)| *level = logistic_mixture::level(*x));
            }
            HeadKind::Softmax => {
                for channel in self.channels_of(step) {
                    let logits = &parameters[channel * self.levels..][..self.levels];
                    levels[channel] = softmax::draw(logits, noise, channel, how);
                }
            }
            HeadKind::Bernoulli => {
                for channel in self.channels_of(step) {
                    levels[channel] = bernoulli::draw(parameters[channel], noise, channel, how);
                }
            }
        }
    }

    /// The probability of every level of a channel, `[L]`, given the levels of the channels before it.
    /// Components of a mixture are weighted by the likelihood of those levels. Probabilities below 1e-37
    /// may be 0.
    pub fn probabilities(
        &self,
        parameters: &[f32],
        channel: usize,
        before: &[u16],
        probabilities: &mut Vec<f64>,
    ) {
        match self.kind {
            HeadKind::LogisticMixture { .. } => {
                logistic_mixture::probabilities(
                    parameters,
                    self.channels,
                    &before[..channel],
                    probabilities,
                );
            }
            HeadKind::Softmax => {
                softmax::probabilities(&parameters[channel * self.levels..][..self.levels], probabilities);
            }
            HeadKind::Bernoulli => {
                let of_one = 1.0 / (1.0 + (-f64::from(parameters[channel])).exp());
                probabilities.clear();
                probabilities.extend([1.0 - of_one, of_one]);
            }
        }
    }

    /// Log-likelihood of a pixel in nats, in double precision, as the definition has it.
    pub fn log_likelihood(&self, parameters: &[f32], levels: &[u16]) -> f64 {
        match self.kind {
            HeadKind::LogisticMixture { .. } => logistic_mixture::log_likelihood(parameters, levels),
            HeadKind::Softmax => softmax::log_likelihood(parameters, levels),
            HeadKind::Bernoulli => bernoulli::log_likelihood(parameters, levels),
        }
    }

    /// The same, faster, while drawing: within 1e-4 bits per dimension.
    pub fn fast_log_likelihood(&self, parameters: &[f32], levels: &[u16]) -> f64 {
        match self.kind {
            HeadKind::LogisticMixture { .. } => fast_likelihood::log_likelihood(parameters, levels),
            HeadKind::Softmax | HeadKind::Bernoulli => self.log_likelihood(parameters, levels),
        }
    }
}

/// Bits per dimension of one image from the log-likelihoods of its pixels, `[H·W]` in nats.
pub fn bits_per_dim(log_likelihood: &[f64], channels: usize) -> f64 {
    -log_likelihood.iter().sum::<f64>()
        / ((log_likelihood.len() * channels) as f64 * std::f64::consts::LN_2)
}
