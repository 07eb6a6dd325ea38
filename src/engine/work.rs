//! The steps of the work in order: layers that begin a row, layers that wait for pixels, layers that lag
//! behind them. Both engines execute these steps, and costs are their sum.

use std::ops::Range;

use crate::graph::Network;
use crate::graph::network::{Layer, Tap, depth};

/// The terms of a layer's sum that a step computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// Terms known when the row begins, into the row context.
    Early,
    /// The others, added to the context (or to the layer's tables); then the epilogue.
    Late,
    /// All at once; then the epilogue.
    All,
}

impl Terms {
    /// The terms.
    pub fn taps(self, layer: &Layer) -> &[Tap] {
        match self {
            Self::Early => &layer.taps[..layer.early],
            Self::Late => &layer.taps[layer.early..],
            Self::All => &layer.taps,
        }
    }

    /// True if it computes terms that are known when the row begins, or else the others.
    pub fn takes(self, is_early: bool) -> bool {
        self == Self::All || (self == Self::Early) == is_early
    }

    /// Row of the layer's matrix that belongs to the first channel of the first term.
    pub fn first_input(self, layer: &Layer) -> usize {
        if self == Self::Late { depth(&layer.taps[..layer.early]) } else { 0 }
    }

    /// Multiplications with additions at a position.
    pub fn macs(self, layer: &Layer) -> usize {
        depth(self.taps(layer)) * layer.outputs()
    }

    /// True if the sum begins with the row context.
    pub fn begins_with_context(self, layer: &Layer) -> bool {
        self == Self::Late && layer.has_context()
    }
}

/// Terms of a layer for some columns of its grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerWork {
    /// Index of the layer.
    pub layer: usize,
    /// Its terms.
    pub terms: Terms,
    /// Columns of its grid.
    pub columns: Range<usize>,
}

/// Terms that a layer computes when a row begins, if any.
pub fn terms_of_row(layer: &Layer) -> Option<Terms> {
    match layer.is_row_work() {
        true => Some(Terms::All),
        false => layer.has_context().then_some(Terms::Early),
    }
}

/// Layers that run on a row and fit, with their indices.
fn layers(
    network: &Network,
    row: isize,
    fits: impl Fn(&Layer) -> bool,
) -> impl Iterator<Item = (usize, &Layer)> {
    let runs = move |layer: &Layer| layer.runs_on_row(row) && row - layer.lag < network.height as isize;
    network.layers.iter().enumerate().filter(move |(_, layer)| fits(layer) && runs(layer))
}

/// The pixels of a layer in some columns of the image, which may lie outside.
fn late(network: &Network, layer: usize, columns: Range<isize>) -> Option<LayerWork> {
    let within = |column: isize| column.clamp(0, network.width as isize) as usize;
    let columns = network.layers[layer].columns(within(columns.start)..within(columns.end));
    (!columns.is_empty()).then_some(LayerWork { layer, terms: Terms::Late, columns })
}

/// Steps that begin a row of the image: all work that does not depend on its pixels. See
/// [`Network::rows_begun_with`] for rows outside.
pub fn of_row(network: &Network, row: isize) -> impl Iterator<Item = LayerWork> {
    layers(network, row, |_| true).flat_map(move |(layer, spec)| {
        let columns = spec.columns(0..network.width);
        let whole = terms_of_row(spec).map(|terms| LayerWork { layer, terms, columns });
        // Pixels that are computed ahead of their own.
        let is_ahead = !spec.is_row_work() && spec.late < 0;
        let ahead = is_ahead.then(|| late(network, layer, 0..-spec.late)).flatten();
        [whole, ahead].into_iter().flatten()
    })
}

/// Steps from a pixel's inputs to its parameters, given all pixels before it.
pub fn of_pixel(
    network: &Network,
    row: isize,
    column: usize,
    step: usize,
) -> impl Iterator<Item = LayerWork> {
    let is_in_step = move |layer: &Layer| layer.step == step && !layer.is_row_work();
    layers(network, row, is_in_step).filter_map(move |(index, layer)| {
        let column = column as isize - layer.late;
        late(network, index, column..column + 1)
    })
}

/// Steps that end a row once its pixels are known: nodes that lag behind their pixels.
pub fn of_end(network: &Network, row: isize) -> impl Iterator<Item = LayerWork> {
    let width = network.width as isize;
    layers(network, row, move |layer| !layer.is_row_work() && layer.late > 0)
        .filter_map(move |(index, layer)| late(network, index, width - layer.late..width))
}

/// Remaining steps of a row that has begun and whose pixels are known.
pub fn of_known_row(network: &Network, row: isize) -> impl Iterator<Item = LayerWork> {
    layers(network, row, |layer| !layer.is_row_work()).filter_map(move |(index, layer)| {
        let made = (-layer.late).max(0);
        late(network, index, made..network.width as isize)
    })
}

impl LayerWork {
    /// Multiplications with additions for an image.
    pub fn macs(&self, network: &Network) -> u64 {
        (self.columns.len() * self.terms.macs(&network.layers[self.layer])) as u64
    }
}
