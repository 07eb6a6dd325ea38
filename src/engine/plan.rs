//! What is computed when: the layers that a row begins with, and those that wait for pixels. Both engines take
//! these steps, and costs are their sum.

use std::ops::Range;

use crate::model::Network;
use crate::model::network::{Layer, Tap, depth};

/// Which terms of a layer's sum are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Those known when the row begins, into the row's context.
    Early,
    /// The others, added to the context (or to what the layer adds); then the epilogue.
    Late,
    /// All at once; then the epilogue.
    All,
}

impl Part {
    /// The terms.
    pub fn taps(self, layer: &Layer) -> &[Tap] {
        match self {
            Self::Early => &layer.taps[..layer.early],
            Self::Late => &layer.taps[layer.early..],
            Self::All => &layer.taps,
        }
    }

    /// Row of the layer's matrix that belongs to the first channel of the first term.
    pub fn first_input(self, layer: &Layer) -> usize {
        if self == Self::Late { depth(&layer.taps[..layer.early]) } else { 0 }
    }

    /// Multiplications with additions at a position.
    pub fn macs(self, layer: &Layer) -> usize {
        depth(self.taps(layer)) * layer.outputs()
    }

    /// Whether the sum is begun with the row's context.
    pub fn begins_with_context(self, layer: &Layer) -> bool {
        self == Self::Late && layer.has_context()
    }
}

/// A part of a layer for some columns of its grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Index of the layer.
    pub layer: usize,
    /// Which terms.
    pub part: Part,
    /// Columns of its grid.
    pub columns: Range<usize>,
}

/// What a layer makes when a row begins, if anything.
pub fn part_of_row(layer: &Layer) -> Option<Part> {
    match layer.is_row_work() {
        true => Some(Part::All),
        false => layer.has_context().then_some(Part::Early),
    }
}

/// What begins a row of the image: all that does not depend on its pixels.
pub fn of_row(network: &Network, row: usize) -> impl Iterator<Item = Work> {
    network.layers.iter().enumerate().filter(move |(_, layer)| layer.runs_on_row(row)).filter_map(
        |(index, layer)| {
            let columns = layer.columns(0..network.config.width);
            part_of_row(layer).map(|part| Work { layer: index, part, columns })
        },
    )
}

/// What some pixels of a row take to their mixture parameters, given all pixels before them.
pub fn of_pixels(network: &Network, row: usize, columns: Range<usize>) -> impl Iterator<Item = Work> {
    let layers = network.layers.iter().enumerate();
    layers.filter(move |(_, layer)| !layer.is_row_work() && layer.runs_on_row(row)).filter_map(
        move |(index, layer)| {
            let columns = layer.columns(columns.clone());
            (!columns.is_empty()).then_some(Work { layer: index, part: Part::Late, columns })
        },
    )
}

impl Work {
    /// Multiplications with additions for an image.
    pub fn macs(&self, network: &Network) -> u64 {
        (self.columns.len() * self.part.macs(&network.layers[self.layer])) as u64
    }
}
