//! An upper bound on the loop turns of an invocation of a chain, for drivers that cut loops short. It counts the loops
//! of `shaders/chain.wgsl` and of the files around it, as if a compiler unrolled none of them.

use super::dispatch::{Dispatch, Operation};
use super::shaders::{BLOCKS_OF_CHAIN, Team, parts_of_draw};
use super::support::output;
use super::units::{depth, half_width, outputs, quads};
use crate::graph::network::{CHANNEL_ALIGN, Layer};
use crate::graph::{IMAGE, Network};
use crate::head::HeadKind;

/// Turns of the loops of a block of noise: four numbers, and the rounds of the generator.
const OF_NOISE: u64 = 4 + 5 * 3;

/// The work of an invocation for a pixel.
pub struct Turns {
    /// Of a layer, and every how many columns it runs.
    of_layers: Vec<(u64, usize)>,
    /// Of the end of a pixel, and of walking through all layers.
    of_pixel: u64,
}

impl Turns {
    /// Of a chain of the layers in `pixel`, by a team; a pixel of a PixelCNN++ has `drawn` quads of parameters, quads of
    /// logits, and draws.
    pub fn new(network: &Network, pixel: &[&Dispatch], team: Team, drawn: [u32; 3]) -> Self {
        let of_layers = of_layers(network, pixel, team, |layer| layer.halves as u64);
        let [threads, images] = [team.threads, team.images].map(u64::from);
        let [parameters, logits, draws] = drawn.map(u64::from);
        let passes = |count: u64| (images * count).div_ceil(threads);
        let parts = u64::from(parts_of_draw(team));
        let splits = (threads / (images * parameters)).max(1);
        let width = u64::from(quads(output(network).taps[0].depth));
        let end = images
            + passes(parameters) * (1 + width.div_ceil(splits) + splits)
            + passes(draws.div_ceil(4)) * (1 + OF_NOISE)
            // The largest logit and the best score of a part of the components, then of the parts.
            + 2 * (4 * logits).div_ceil(parts) + 2 * parts
            + passes(width);
        Self { of_pixel: 1 + of_layers.len() as u64 + end, of_layers }
    }

    /// Of a chain of any other graph.
    pub fn of_graph(network: &Network, pixel: &[&Dispatch], team: Team) -> Self {
        // Tables, selections and forms of a quad of outputs.
        let of_quad = |layer: &Layer| {
            let sums = layer.tables().max(1) + layer.selections.len();
            (layer.halves * (1 + sums + network.nodes[layer.target].forms.len())) as u64
        };
        let of_layers = of_layers(network, pixel, team, of_quad);
        let head = network.head;
        let [threads, images] = [team.threads, team.images].map(u64::from);
        let (steps, channels) = (head.steps() as u64, head.channels_of(0).len() as u64);
        let blocks = u64::from(BLOCKS_OF_CHAIN);
        let passes = |count: u64| (images * count).div_ceil(threads);
        let of_step = match head.kind() {
            HeadKind::LogisticMixture { mixtures } => {
                let parts = u64::from(parts_of_draw(team));
                let of_part = (mixtures as u64).div_ceil(parts);
                2 * (of_part + parts) + (of_part + 4) * OF_NOISE
            }
            HeadKind::Softmax => {
                let levels = head.levels() as u64;
                // Those that are likelier are counted for each level where only some are drawn.
                let of_block = levels.div_ceil(blocks) * (1 + levels);
                2 * passes(channels * blocks) * (1 + of_block + blocks)
                    + passes(channels) * (3 * blocks + of_block + OF_NOISE)
            }
            HeadKind::Bernoulli => passes(channels) * (1 + OF_NOISE),
        };
        let record = (network.nodes[IMAGE].record / CHANNEL_ALIGN) as u64;
        let shown = network.encodings.len() as u64 + record.div_ceil(threads / images);
        let of_pixel = 1 + of_layers.len() as u64 + steps * (1 + of_step + shown);
        Self { of_layers, of_pixel }
    }

    /// The turns for `span` pixels of a row in one dispatch.
    fn of_span(&self, span: usize) -> u64 {
        let of_layer = |&(turns, run_every): &(u64, usize)| turns * span.div_ceil(run_every) as u64;
        span as u64 * self.of_pixel + self.of_layers.iter().map(of_layer).sum::<u64>()
    }

    /// The most pixels of a row, up to `most`, that take no more than `limit` turns; nothing if one takes more.
    pub fn span(&self, most: usize, limit: u64) -> Option<usize> {
        (1..=most).rev().find(|&span| self.of_span(span) <= limit)
    }
}

/// The turns of each layer, of which a quad of outputs takes some when its sums are there, and every how many columns it runs.
fn of_layers(
    network: &Network,
    pixel: &[&Dispatch],
    team: Team,
    of_quad: impl Fn(&Layer) -> u64,
) -> Vec<(u64, usize)> {
    let [threads, images, at_once] = [team.threads, team.images, team.quads].map(u64::from);
    let of_layer = |dispatch: &&Dispatch| {
        let Operation::Conv { layer, terms, .. } = dispatch.operation else { return None };
        let layer = &network.layers[layer];
        let taps = terms.taps(layer);
        let [columns, splits] = team.shares(outputs(layer)).map(u64::from);
        let of_input = 1 + images + at_once * (1 + images);
        let inputs = u64::from(depth(taps)).div_ceil(splits);
        let sums = at_once + taps.len() as u64 * (1 + images) + inputs * of_input + images * (1 + at_once);
        // Parts are first reduced to `adders`.
        let adders = splits.min(u64::from(team.adders));
        let added = (adders * images * at_once * columns).div_ceil(threads) * splits.div_ceil(adders);
        let results = (images * u64::from(half_width(layer))).div_ceil(threads);
        Some((sums + added + results * (1 + adders + of_quad(layer)), dispatch.when.run_every))
    };
    pixel.iter().filter_map(of_layer).collect()
}
