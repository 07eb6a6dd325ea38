//! How many turns of loops an invocation of a chain takes, for drivers that cut loops short. What `shaders/chain.wgsl`
//! and `shaders/shared/pixel.wgsl` do, loop by loop, as if a compiler unrolled none of them: an upper bound.

use super::dispatch::{Dispatch, Operation};
use super::shaders::Team;
use super::support::output;
use super::units::quads;
use crate::graph::Network;
use crate::graph::network::{depth, padded};

/// Turns of the loops of a block of noise: four numbers, and the rounds of the generator.
const OF_NOISE: u64 = 4 + 5 * 3;

/// What an invocation does for a pixel.
pub struct Turns {
    /// Of a layer, and every how many columns it runs.
    of_layers: Vec<(u64, usize)>,
    /// Of the end of a pixel, and of walking through all layers.
    of_pixel: u64,
}

impl Turns {
    /// Of a chain of the layers in `pixel`, by a team; a pixel has `drawn` quads of parameters, quads of logits, and draws.
    pub fn new(network: &Network, pixel: &[Dispatch], team: Team, drawn: [u32; 3]) -> Self {
        let [threads, images, at_once] = [team.threads, team.images, team.quads].map(u64::from);
        let of_layers = pixel.iter().filter_map(|dispatch| {
            let Operation::Conv { layer, terms, .. } = dispatch.operation else { return None };
            let (layer, taps) = (&network.layers[layer], terms.taps(&network.layers[layer]));
            let columns = u64::from(quads(layer.outputs())).div_ceil(at_once);
            let splits = (threads / columns).max(1);
            let of_input = 1 + images + at_once * (1 + images);
            let inputs = u64::from(quads(depth(taps))).div_ceil(splits);
            let sums =
                at_once + taps.len() as u64 * (1 + images) + inputs * of_input + images * (1 + at_once);
            let results = (images * u64::from(quads(padded(layer.channels)))).div_ceil(threads);
            Some((sums + results * (1 + splits + layer.halves as u64), dispatch.run_every))
        });
        let of_layers: Vec<_> = of_layers.collect();
        let [parameters, logits, draws] = drawn.map(u64::from);
        let passes = |count: u64| (images * count).div_ceil(threads);
        let width = u64::from(quads(output(network).taps[0].depth));
        let end = images
            + passes(parameters) * (1 + width)
            + passes(draws.div_ceil(4)) * (1 + OF_NOISE)
            // Scores; the best of them, and the largest logit.
            + passes(4 * logits) + 2 * 4 * logits
            + passes(width);
        Self { of_pixel: 1 + of_layers.len() as u64 + end, of_layers }
    }

    /// Of so many pixels of a row in one dispatch.
    fn of_span(&self, span: usize) -> u64 {
        let of_layer = |&(turns, run_every): &(u64, usize)| turns * span.div_ceil(run_every) as u64;
        span as u64 * self.of_pixel + self.of_layers.iter().map(of_layer).sum::<u64>()
    }

    /// The most pixels of a row, up to `most`, that take no more than `limit` turns; nothing if one takes more.
    pub fn span(&self, most: usize, limit: u64) -> Option<usize> {
        (1..=most).rev().find(|&span| self.of_span(span) <= limit)
    }
}
